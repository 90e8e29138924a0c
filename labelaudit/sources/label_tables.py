"""Tables of labels: a CSV, TSV, JSONL or parquet file's cells as text, and which column is which.

A table says what its images are called; whether they are there is for `labelaudit.sources.folders`
to find out. Every cell is text, exactly as written, "" where it is empty.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelaudit.errors import SourceError
from labelaudit.images.containers import Indices
from labelaudit.sources.manifest import EXCLUDED, UNLABELED, VERIFIED, as_text

# Tried in this order, whatever their case.
IMAGE_COLUMNS = ("path", "file_name", "filename", "image", "file", "id")
ID_COLUMNS = ("sample_id", *IMAGE_COLUMNS)  # of rows without images
LABEL_COLUMNS = ("label", "class", "target", "category")
SPLIT_COLUMN = "split"
# Beside a column of verified labels: what these were at first. `labelaudit apply` writes it.
FIRST_LABEL_COLUMN = "first_label"
VERIFIED_COLUMN = "verified"  # as `labelaudit apply` writes it
# What the cells of a column of verified labels mean, whatever their case.
MARKS = {
    **dict.fromkeys(("yes", "true", "1", "y", "verified"), VERIFIED),
    **dict.fromkeys(("", "no", "false", "0", "n"), ""),
    **dict.fromkeys(("excluded", "exclude"), EXCLUDED),
}

TABLE_SUFFIXES = ("csv", "tsv", "jsonl", "ndjson", "parquet")


@dataclass(frozen=True)
class Columns:
    """The columns asked for by name; None where they are to be recognized.

    `others` is how many more columns are read, for a person to see or to take features from: those
    that could be ids, then the first ones.
    """

    image: str | None
    label: str | None
    clean: str | None
    others: int = 0
    verified: str | None = None

    def may_be_needed(self, name: str) -> bool:
        """Say whether a column of that name is read whatever else there is."""
        first = () if self.verified is None else (FIRST_LABEL_COLUMN,)
        known = (*IMAGE_COLUMNS, *LABEL_COLUMNS, SPLIT_COLUMN, *first)
        asked = (self.image, self.label, self.clean, self.verified)
        return name in asked or name.strip().lower() in known

    def of_interest(self, names: Sequence[str]) -> frozenset[str]:
        """Return which of a table's columns are read."""
        needed = {name for name in names if self.may_be_needed(name)}
        more = [name for name, times in Counter(names).items() if times == 1 and name not in needed]
        more.sort(key=lambda name: name.strip().lower() not in ID_COLUMNS)
        return frozenset(needed.union(more[: self.others]))

    def refuse(self, why: str) -> None:
        """Raise where a column was asked for and there is no table."""
        asked = {
            "image_column": self.image,
            "label_column": self.label,
            "clean_label_column": self.clean,
            "verified_column": self.verified,
        }
        for option, value in asked.items():
            if value is not None:
                raise SourceError(
                    f'{option} is "{value}", but {why}, without a table; give the table too'
                )


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Rows of labels, as text, from one file or several.

    `images` are paths as written; where the images lie in the table itself, `embedded` is their
    column and `images` what the table calls them, or "". `declared` are class names that the
    schema lists, in its order. `others` are the columns read besides. `marks` say of each label whether
    it is `VERIFIED`, or the row `EXCLUDED`, where a column of that was asked for. `first` are then the
    verified labels as they were given at first, "" where that is not known, and for the others.
    `marks_passed_over` says that `labelaudit apply` wrote the table, and nobody asked for its marks.
    """

    files: tuple[Path, ...]
    file_of: Indices  # (R,) index into files
    rows: Indices  # (R,) as a person counts them
    row_word: str
    images: list[str]
    labels: list[str]
    clean: list[str] | None
    splits: list[str] | None
    declared: tuple[str, ...]
    others: Mapping[str, list[str]]
    embedded: str | None = None
    marks: list[str] | None = None
    first: list[str] | None = None
    marks_passed_over: bool = False

    @property
    def where(self) -> str:
        """The file, or the folder of the first of several, for messages."""
        return str(self.files[0]) if len(self.files) == 1 else str(self.files[0].parent)

    def place(self, row: int) -> str:
        """Return where a person finds a row: "labels.csv line 3"."""
        return f"{self.files[self.file_of[row]].name} {self.row_word} {self.rows[row]}"

    def moved_into(self, base: str) -> "LabelTable":
        """Return the table with relative paths below `base`, "" or a folder with its slash."""
        if not base:
            return self
        moved = [
            text if not text or re.match(r"[\\/]|[A-Za-z]:[\\/]", text) else base + text
            for text in self.images
        ]
        return replace(self, images=moved)


def read_table(
    file: Path,
    columns: Columns,
    image_names: Sequence[str] = IMAGE_COLUMNS,
    *,
    images_needed: bool = True,
) -> LabelTable:
    """Read a file; unless its column is asked for, images are named by the first of `image_names`.

    Where none of these is there, the file is refused, or unless `images_needed`, all `images` are
    "". Then a column that holds the images themselves is as good as none.

    Raises
    ------
    SourceError
        The file is not a table, lacks a column, contradicts its own schema, or has no rows.
    """
    cells = _read_cells(file, columns)
    label = _find_column(cells, columns.label, LABEL_COLUMNS, "the labels", "label_column")
    assert label is not None
    clean = None
    if columns.clean is not None:
        clean = _find_column(cells, columns.clean, (), "true labels", "clean_label_column")
    verified = None
    if columns.verified is not None:
        verified = _find_column(cells, columns.verified, (), "verified labels", "verified_column")
    split = _find_column(cells, None, (SPLIT_COLUMN,), "", None)
    first = None if verified is None else column_called(FIRST_LABEL_COLUMN, cells.texts)
    if first in (label, clean, verified, columns.image):
        first = None
    image = cells.image if images_needed else None
    if image is None and images_needed:
        image = _find_column(cells, columns.image, image_names, "the images", "image_column")
    elif image is None:
        image = _find_column(cells, columns.image, image_names, "the ids", None)
    if not len(cells.rows):
        raise SourceError(f"{cells.file} is empty: it has no rows below its header")
    table = LabelTable(
        files=(cells.file,),
        file_of=np.zeros(len(cells.rows), np.int64),
        rows=cells.rows,
        row_word=cells.row_word,
        images=[""] * len(cells.rows) if image is None else cells.texts[image],
        labels=cells.texts[label],
        clean=None if clean is None else cells.texts[clean],
        splits=None if split is None else cells.texts[split],
        declared=tuple(
            dict.fromkeys((*cells.declared.get(label, ()), *cells.declared.get(clean or "", ())))
        ),
        others={
            name: texts
            for name, texts in cells.texts.items()
            if name not in (image, label, clean, verified, first, split, cells.image)
        },
        embedded=image if cells.embedded and images_needed else None,
    )
    if verified is None:
        applied = (
            column_called(VERIFIED_COLUMN, cells.names),
            column_called(FIRST_LABEL_COLUMN, cells.names),
        )
        return replace(table, marks_passed_over=None not in applied)
    marks = _read_marks(table, verified, cells.texts[verified])
    if first is None:
        return replace(table, marks=marks)
    known = [
        text if mark == VERIFIED else ""
        for text, mark in zip(cells.texts[first], marks, strict=True)
    ]
    return replace(table, marks=marks, first=known)


def _read_marks(table: LabelTable, column: str, texts: Sequence[str]) -> list[str]:
    """Return what the cells of a column of verified labels mean, see `MARKS`."""
    marks = []
    for row, text in enumerate(texts):
        mark = MARKS.get(text.strip().lower())
        if mark is None:
            raise SourceError(
                f'{table.place(row)}: "{column}" is "{text}"; write yes for a label that is verified,'
                " excluded for a sample to leave out, and no or nothing for the others"
            )
        marks.append(mark)
    return marks


def concatenate(tables: Sequence[LabelTable]) -> LabelTable:
    """Return the tables of single files as one table of several files."""
    first = tables[0]
    files = tuple(table.files[0] for table in tables)
    for table in tables:
        if table.embedded != first.embedded or (table.splits is None) != (first.splits is None):
            raise SourceError(
                f"{table.files[0]} and {files[0]} differ in their columns of images or splits; "
                "read them one by one"
            )
    sizes = [len(table.labels) for table in tables]
    return replace(
        first,
        files=files,
        file_of=np.repeat(np.arange(len(tables)), sizes),
        rows=np.concatenate([table.rows for table in tables]),
        images=[text for table in tables for text in table.images],
        labels=[text for table in tables for text in table.labels],
        clean=None if first.clean is None else [c for table in tables for c in table.clean or ()],
        marks=None if first.marks is None else [m for table in tables for m in table.marks or ()],
        first=None
        if all(table.first is None for table in tables)
        else [f for table in tables for f in table.first or [""] * len(table.labels)],
        splits=None
        if first.splits is None
        else [s for table in tables for s in table.splits or ()],
        declared=tuple(dict.fromkeys(name for table in tables for name in table.declared)),
        others={
            column: [text for table in tables for text in table.others[column]]
            for column in first.others
            if all(column in table.others for table in tables)
        },
    )


# --- a file's cells as text --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Cells:
    """The columns of one file that may be needed, as text, "" where empty."""

    file: Path
    names: tuple[str, ...]  # of all columns, for messages
    texts: dict[str, list[str]]
    rows: Indices  # (R,) as a person counts them: lines from 1, a parquet file's rows from 0
    row_word: str
    declared: dict[str, tuple[str, ...]]  # class names by column
    image: str | None = None  # column recognized by its type
    embedded: bool = False  # whether it holds the images themselves


def _read_cells(file: Path, columns: Columns) -> _Cells:
    suffix = suffix_of(file.name)
    if not file.exists():
        raise SourceError(f"{file} does not exist; check the path of the table")
    if file.is_dir() or suffix not in TABLE_SUFFIXES:
        raise SourceError(
            f"{file} is not a table that can be read; give one of {', '.join(TABLE_SUFFIXES)}"
        )
    read = {"csv": _read_csv, "tsv": _read_csv, "parquet": _read_parquet}.get(suffix, _read_jsonl)
    try:
        return read(file, columns)
    except UnicodeDecodeError as error:
        raise SourceError(f"{file} is not a text table in UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror or error}") from error


def suffix_of(name: str) -> str:
    """Return a file name's suffix in lower case and without its dot."""
    return name.rpartition(".")[2].lower() if "." in name else ""


def _read_csv(file: Path, columns: Columns) -> _Cells:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        start = stream.readline()
        if "\0" in start:
            raise SourceError(f"{file} is not a text table; save it as CSV in UTF-8")
        stream.seek(0)
        lines = csv.reader(stream, delimiter=_delimiter(file, start), strict=True)
        names, rows, texts = [], list[int](), dict[str, list[str]]()
        try:
            names = [name.strip() for name in next(lines, [])]
            width = len(names)
            wanted = columns.of_interest(names)
            needed = [(i, name) for i, name in enumerate(names) if name in wanted]
            for _, name in needed:
                if names.count(name) > 1:
                    raise SourceError(f'{file} has two columns "{name}"; rename one')
                texts[name] = []
            for cells in lines:
                if not cells:
                    continue
                if any(cells[width:]):
                    raise SourceError(
                        f"{file} line {lines.line_num} has {len(cells)} cells and the header has "
                        f"{width}; quote cells that hold a {lines.dialect.delimiter!r}"
                    )
                rows.append(lines.line_num)
                for i, name in needed:
                    texts[name].append(cells[i] if i < len(cells) else "")
        except csv.Error as error:
            raise SourceError(f"{file} line {lines.line_num} is not CSV: {error}") from error
    return _Cells(file, tuple(names), texts, np.array(rows, np.int64), "line", {})


def _delimiter(file: Path, header: str) -> str:
    if suffix_of(file.name) == "tsv":
        return "\t"
    # Where the comma is the decimal sign, spreadsheets save "CSV" with semicolons.
    return next((sign for sign in ",;\t" if sign in header), ",")


def _read_jsonl(file: Path, columns: Columns) -> _Cells:
    names: dict[str, None] = {}
    texts: dict[str, list[str]] = {}
    rows: list[int] = []
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise SourceError(f"{file} line {number} is not JSON: {error}") from error
            if not isinstance(record, dict):
                raise SourceError(
                    f"{file} line {number} is not a JSON object; write one "
                    '{"file_name": ..., "label": ...} a line'
                )
            for name in record:
                if name not in names:
                    names[name] = None
                    if name in columns.of_interest(list(names)):
                        texts[name] = [""] * len(rows)
            for name, cells in list(texts.items()):
                try:
                    cells.append(as_text(record.get(name)))
                except TypeError as error:
                    if not columns.may_be_needed(name):
                        del texts[name]  # lists and objects are nothing to show
                        continue
                    raise SourceError(f'{file} line {number}: "{name}" is {error}') from error
            rows.append(number)
    return _Cells(file, tuple(names), texts, np.array(rows, np.int64), "line", {})


def _read_parquet(file: Path, columns: Columns) -> _Cells:
    try:
        with pq.ParquetFile(file) as opened:
            schema, footer = opened.schema_arrow, opened.metadata
            image = _typed_image_column(file, schema, columns)
            class_names = _declared_names(schema)
            wanted = columns.of_interest(schema.names)
            texts: dict[str, list[str]] = {}
            for column in schema:
                if column.name in wanted or column.name == image:
                    cells = _parquet_texts(file, opened, column, class_names.get(column.name))
                    if cells is not None:
                        texts[column.name] = cells
    except pa.ArrowInvalid as error:
        raise SourceError(f"{file} is not a parquet file, or a damaged one: {error}") from error
    rows = np.arange(footer.num_rows, dtype=np.int64)
    # Where all bytes are null the column only names files, and is as good as a column of paths.
    embedded = image is not None and not _all_null(footer, f"{image}.bytes")
    return _Cells(file, tuple(schema.names), texts, rows, "row", class_names, image, embedded)


def _parquet_texts(
    file: Path, opened: pq.ParquetFile, field: pa.Field, class_names: tuple[str, ...] | None
) -> list[str] | None:
    """Read a column as text; None where it has none. Of images only their paths are read."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_struct(kind):
        if kind.get_field_index("path") < 0:
            return [""] * opened.metadata.num_rows
        cells = opened.read(columns=[f"{field.name}.path"]).column(0).to_pylist()
        return [as_text(cell and cell["path"]) for cell in cells]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [""] * opened.metadata.num_rows
    if pa.types.is_nested(kind):
        return None
    cells = opened.read(columns=[field.name]).column(0).to_pylist()
    if class_names is None or not pa.types.is_integer(kind):
        try:
            return [as_text(cell) for cell in cells]
        except TypeError:
            return None
    for row, cell in enumerate(cells):
        if cell is not None and not UNLABELED <= cell < len(class_names):
            raise SourceError(
                f'{file.name} row {row}: "{field.name}" is {cell}, and the schema has '
                f"{len(class_names)} class names; correct the row or the schema"
            )
    return ["" if cell is None or cell == UNLABELED else class_names[cell] for cell in cells]


def _typed_image_column(file: Path, schema: pa.Schema, columns: Columns) -> str | None:
    """Return the column whose type is made for encoded images; None where there is none."""
    names: list[str] = []
    for field in schema:
        binary = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        named = field.name == columns.image or field.name.strip().lower() in IMAGE_COLUMNS
        struct = pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
        if (struct or (binary and named)) and columns.image in (None, field.name):
            names.append(field.name)
    if len(names) > 1:
        names = [name for name in names if name.strip().lower() == "image"] or names
    if len(names) > 1:
        raise SourceError(
            f"{file} has several columns of images: {', '.join(names)}; "
            "choose one with image_column (--image-column)"
        )
    return names[0] if names else None


def _all_null(footer: pq.FileMetaData, leaf: str) -> bool:
    """Say from a file's statistics whether a column is null throughout; False if they lack."""
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    columns = [g.column(j) for g in groups for j in range(g.num_columns)]
    nulls = [
        column.num_values > 0
        and column.statistics is not None
        and column.statistics.has_null_count
        and column.statistics.null_count == column.num_values
        for column in columns
        if column.path_in_schema == leaf
    ]
    return len(nulls) > 0 and all(nulls)


def _declared_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the class names of the columns that Hugging Face's metadata calls ClassLabel."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {
            column: tuple(str(name) for name in feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}  # no metadata, or of a form unknown here: then labels are their own names


# --- columns by name ---------------------------------------------------------------------------


def column_called(name: str, names: Iterable[str]) -> str | None:
    """Return the column of that name, or else the first that differs from it in case alone."""
    alike = [one for one in names if one.strip().lower() == name]
    return name if name in alike else next(iter(alike), None)


def _find_column(
    cells: _Cells, asked: str | None, known: Sequence[str], what: str, option: str | None
) -> str | None:
    """Return the column asked for, or the first that is known; without `option` it may lack."""
    there = f"columns there: {', '.join(cells.names) or 'none'}"
    mend = f"name it with {option} (--{(option or '').replace('_', '-')})"
    if asked is not None:
        column = asked if asked in cells.names else None
        if column is None:
            raise SourceError(f'{cells.file} has no column "{asked}" for {what}; {there}')
    else:
        lowered = {name.strip().lower(): name for name in reversed(cells.names)}
        column = next((lowered[name] for name in known if name in lowered), None)
        if column is None and option is None:
            return None
        if column is None:
            raise SourceError(
                f"{cells.file} has no column for {what} ({', '.join(known)}); {there}; {mend}"
            )
    if column not in cells.texts:
        if asked is None and option is None:
            return None
        raise SourceError(
            f'the column "{column}" of {cells.file} holds neither text nor numbers; {there}; {mend}'
        )
    return column

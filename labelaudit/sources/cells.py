"""The cells of a table in a CSV, TSV, JSONL or parquet file as text, and its columns by name.

Every cell is text, exactly as written, "" where it is empty.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.images.containers import Indices
from labelaudit.sources.classes import as_text
from labelaudit.sources.manifest import UNLABELED

# Names of columns that are recognized, in this order and in any case.
IMAGE_COLUMNS = ("path", "file_name", "filename", "image", "file", "id")
ID_COLUMNS = ("sample_id", *IMAGE_COLUMNS)  # for rows without images
LABEL_COLUMNS = ("label", "class", "target", "category")
SPLIT_COLUMN = "split"
# The labels that were given at first. `labelaudit apply` writes this column beside the verified marks.
FIRST_LABEL_COLUMN = "first_label"
VERIFIED_COLUMN = "verified"  # as `labelaudit apply` writes it
TABLE_SUFFIXES = ("csv", "tsv", "jsonl", "ndjson", "parquet")


@dataclass(frozen=True)
class Columns:
    """The columns that were requested by name; None for a column that is recognized by its name.

    `others` is the number of further columns to read, for the report or as features. Columns that
    could be ids come first, then the others in their order.
    """

    image: str | None
    label: str | None
    clean: str | None
    others: int = 0
    verified: str | None = None

    def may_be_needed(self, name: str) -> bool:
        """Return whether a column of that name is always read."""
        first = () if self.verified is None else (FIRST_LABEL_COLUMN,)
        known = (*IMAGE_COLUMNS, *LABEL_COLUMNS, SPLIT_COLUMN, *first)
        asked = (self.image, self.label, self.clean, self.verified)
        return name in asked or name.strip().lower() in known

    def of_interest(self, names: Sequence[str]) -> frozenset[str]:
        """Return the columns of a table that are read."""
        needed = {name for name in names if self.may_be_needed(name)}
        more = [name for name, times in Counter(names).items() if times == 1 and name not in needed]
        more.sort(key=lambda name: name.strip().lower() not in ID_COLUMNS)
        return frozenset(needed.union(more[: self.others]))

    def refuse(self, why: str) -> None:
        """Raise SourceError if a column was requested and there is no table."""
        asked = {
            "image_column": self.image,
            "label_column": self.label,
            "clean_label_column": self.clean,
            "verified_column": self.verified,
        }
        for option, value in asked.items():
            if value is not None:
                raise SourceError(
                    f'{option} is "{value}", but {why}, without a table; give the table as well'
                )


@dataclass(frozen=True, eq=False)
class Cells:
    """The columns of one file that may be needed, as text, "" where empty."""

    file: Path
    names: tuple[str, ...]  # of all columns, for messages
    texts: dict[str, list[str]]
    rows: Indices  # (R,) as a person counts them: lines from 1, a parquet file's rows from 0
    row_word: str
    declared: dict[str, tuple[str, ...]]  # class names by column
    image: str | None = None  # column recognized by its type
    embedded: bool = False  # whether it holds the images themselves


def read_cells(file: Path, columns: Columns) -> Cells:
    """Read the columns of a CSV, TSV, JSONL or parquet file that may be needed.

    Raises SourceError if the file does not exist, cannot be read, or is not such a table.
    """
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


def cells_of_frame(frame: pd.DataFrame, columns: Columns) -> Cells:
    """Return the columns of a DataFrame that may be needed; see `read_cells`."""
    file = Path("DataFrame")
    names = [str(name) for name in frame.columns]
    wanted = columns.of_interest(names)
    texts: dict[str, list[str]] = {}
    for position, name in enumerate(names):
        if name not in wanted:
            continue
        if names.count(name) > 1:
            raise SourceError(f'the DataFrame has two columns "{name}"; rename one')
        # Columns of lists, objects or dates are left out, as in a parquet file.
        with suppress(TypeError):
            texts[name] = [as_text(cell) for cell in frame.iloc[:, position].tolist()]
    return Cells(file, tuple(names), texts, np.arange(len(frame), dtype=np.int64), "row", {})


def _read_csv(file: Path, columns: Columns) -> Cells:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        start = stream.readline()
        if "\0" in start:
            raise SourceError(f"{file} is not a text table; save it as CSV in UTF-8")
        stream.seek(0)
        lines = csv.reader(stream, delimiter=delimiter_of(file, start), strict=True)
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
    return Cells(file, tuple(names), texts, np.array(rows, np.int64), "line", {})


def delimiter_of(file: Path, header: str) -> str:
    """Return the delimiter of a CSV or TSV file, given its first line."""
    if suffix_of(file.name) == "tsv":
        return "\t"
    # Where the comma is the decimal sign, spreadsheets save "CSV" with semicolons.
    return next((sign for sign in ",;\t" if sign in header), ",")


def _read_jsonl(file: Path, columns: Columns) -> Cells:
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
                    '{"file_name": ..., "label": ...} per line'
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
                        del texts[name]  # a column with lists or objects is not read
                        continue
                    raise SourceError(f'{file} line {number}: "{name}" is {error}') from error
            rows.append(number)
    return Cells(file, tuple(names), texts, np.array(rows, np.int64), "line", {})


def _read_parquet(file: Path, columns: Columns) -> Cells:
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
    # If all bytes are null, the column only names files, like a column of paths.
    embedded = image is not None and not _all_null(footer, f"{image}.bytes")
    return Cells(file, tuple(schema.names), texts, rows, "row", class_names, image, embedded)


def _parquet_texts(
    file: Path, opened: pq.ParquetFile, field: pa.Field, class_names: tuple[str, ...] | None
) -> list[str] | None:
    """Read a column as text; None if it holds no text. Of images only the paths are read."""
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
    """Return the column whose type is that of encoded images; None if there is none."""
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
            "choose one with `image_column`"
        )
    return names[0] if names else None


def _all_null(footer: pq.FileMetaData, leaf: str) -> bool:
    """Return whether a column is null throughout by the file's statistics; False without them."""
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
        return {}  # no metadata, or in another form: labels are their own names


def column_called(name: str, names: Iterable[str]) -> str | None:
    """Return the column with this name, or else the first that differs from it only in case."""
    alike = [one for one in names if one.strip().lower() == name]
    return name if name in alike else next(iter(alike), None)


def find_column(
    cells: Cells, asked: str | None, known: Sequence[str], what: str, option: str | None
) -> str | None:
    """Return the requested column, or else the first of the known names that the table has.

    Parameters
    ----------
    cells : Cells
        The table.
    asked : str, or None
        The requested column.
    known : sequence of str
        Names that are recognized, in any case.
    what : str
        What the column holds, for messages.
    option : str, or None
        The option that names the column. None if the column is optional: then the result is None if
        there is no such column.

    Raises
    ------
    SourceError
        There is no such column, or it holds neither text nor numbers.
    """
    there = f"its columns: {', '.join(cells.names) or 'none'}"
    advice = f"name it with `{option}`"
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
                f"{cells.file} has no column for {what} ({', '.join(known)}); {there}; {advice}"
            )
    if column not in cells.texts:
        if asked is None and option is None:
            return None
        raise SourceError(
            f'the column "{column}" of {cells.file} holds neither text nor numbers; {there}; {advice}'
        )
    return column

"""Label files, written anew in their own format with some labels changed.

Of a text table only the cells of changed labels and of the columns ``verified`` and ``first_label``
differ; every other byte stays. A parquet file keeps its schema, types, row groups and compression.
"""

from __future__ import annotations

import codecs
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.sources.cells import (
    FIRST_LABEL_COLUMN,
    ID_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMN,
    VERIFIED_COLUMN,
    Columns,
    column_called,
    delimiter_of,
    find_column,
    read_cells,
)
from labelaudit.sources.classes import as_text

YES = "yes"
"""What the column `VERIFIED_COLUMN` says of a verified label.

A column that holds truth values or numbers keeps its type.
"""

Write = Callable[[Path], None]
# A row's cells as spans of the text, and where the next row starts.
Row = tuple[list[tuple[int, int]], int]

_LINE_END = re.compile(r"\r\n|\n|\r")
_JSON_SPACE = re.compile(r"[ \t\n\r]*")
_JSON_ESCAPE = re.compile(r"\\u(?!00[0-7])[0-9a-fA-F]{4}")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Edit:
    """What becomes of a row; None where something stays as it is.

    Attributes
    ----------
    label : str or None
        The new label.
    verified : str or None
        What the column ``verified`` says from now on.
    first : str or None
        What the column ``first_label`` says from now on.
    drop : bool
        Whether the row is left out.
    """

    label: str | None = None
    verified: str | None = None
    first: str | None = None
    drop: bool = False


@dataclass(frozen=True, eq=False)
class LabelFile:
    """The R rows of one label file as text, "" where a cell is empty.

    Attributes
    ----------
    path : Path
        The file, or a folder with one subfolder per class.
    format : str
        "csv" (also of a folder), "tsv", "jsonl" or "parquet".
    label_column : str
        Name of the column of labels.
    labels : list of str
        The labels (R,), class names where the schema declares them.
    ids : dict of str to list of str
        The columns (R,) that may name rows, most likely first.
    splits : list of str, or None
        The column of splits (R,), where there is one.
    declared : tuple of str
        Class names that the schema declares, in its order.
    verified_column : str or None
        Name of the column ``verified``, where there is one.
    verified : list of str
        Its cells (R,); "" where there is none.
    yes : str
        How it says that a row is verified.
    typed : bool
        Whether it holds truth values or numbers, so that other words do not fit in.
    first_column : str or None
        Name of the column ``first_label``, where there is one.
    first : list of str
        Its cells (R,); "" where there is none.
    embedded : bool
        Whether the first of `ids` are the names of images that lie in the file itself.
    """

    path: Path
    format: str
    label_column: str
    labels: list[str]
    ids: dict[str, list[str]]
    splits: list[str] | None
    declared: tuple[str, ...]
    verified_column: str | None
    verified: list[str]
    yes: str
    first_column: str | None
    first: list[str]
    typed: bool = False
    embedded: bool = False

    @property
    def verified_name(self) -> str:
        """Name of the column ``verified`` from now on."""
        return self.verified_column or VERIFIED_COLUMN

    @property
    def first_name(self) -> str:
        """Name of the column ``first_label`` from now on."""
        return self.first_column or FIRST_LABEL_COLUMN

    @property
    def added(self) -> list[str]:
        """The columns that the file lacks, and gets in any case."""
        return [
            name
            for name, there in (
                (VERIFIED_COLUMN, self.verified_column),
                (FIRST_LABEL_COLUMN, self.first_column),
            )
            if there is None
        ]


@dataclass(frozen=True)
class _Wanted(Columns):
    """Of a table only this is read: labels, splits, ids, ``verified`` and ``first_label``."""

    ids: str | None = None

    def may_be_needed(self, name: str) -> bool:
        """Say whether a column of that name is read."""
        known = name.strip().lower() in ("sample_id", VERIFIED_COLUMN, FIRST_LABEL_COLUMN)
        return known or name == self.ids or super().may_be_needed(name)


def read_label_file(
    path: Path,
    *,
    label_column: str | None = None,
    image_column: str | None = None,
    id_column: str | None = None,
) -> LabelFile:
    """Read the rows of a table of labels.

    Parameters
    ----------
    path : Path
        CSV, TSV, JSONL or parquet.
    label_column, image_column, id_column : str, optional
        Columns of the table. By default labels are in the first of `LABEL_COLUMNS`, and all
        `ID_COLUMNS` may name rows.

    Raises
    ------
    SourceError
        The file is not such a table, lacks a column, or its column ``verified`` or ``first_label``
        cannot be written.
    """
    # `read_cells` and `find_column` are how a scan reads the same table.
    cells = read_cells(path, _Wanted(image_column, label_column, None, ids=id_column))
    label = find_column(cells, label_column, LABEL_COLUMNS, "the labels", "label_column")
    assert label is not None
    split = find_column(cells, None, (SPLIT_COLUMN,), "", None)
    if not len(cells.rows):
        raise SourceError(f"{path} is empty: it has no rows below its header")
    ids: dict[str, list[str]] = {}
    if cells.image is not None and id_column is None:
        ids[cells.image] = cells.texts[cells.image]
    for asked, option in ((id_column, "id_column"), (image_column, "image_column")):
        if asked is not None:
            name = find_column(cells, asked, (), "the ids", option)
            assert name is not None
            ids.setdefault(name, cells.texts[name])
    if id_column is None and image_column is None:
        lowered = {name.strip().lower(): name for name in reversed(cells.texts)}
        for known in ID_COLUMNS:
            if known in lowered and lowered[known] != label:
                ids.setdefault(lowered[known], cells.texts[lowered[known]])
    verified = column_called(VERIFIED_COLUMN, cells.names)
    if verified is not None and (
        verified == label or verified not in cells.texts or verified in cells.declared
    ):
        raise SourceError(
            f'the column "{verified}" of {path} is needed to mark the labels that a person has'
            " verified, and holds something else; rename it"
        )
    texts = [""] * len(cells.rows) if verified is None else cells.texts[verified]
    suffix = suffix_of(path.name)
    format = "jsonl" if suffix == "ndjson" else suffix
    yes, typed = _words(path, format, verified, texts)
    first = column_called(FIRST_LABEL_COLUMN, cells.names)
    if first is not None and (
        first in (label, *ids) or (format == "parquet" and not _holds_text(path, first))
    ):
        raise SourceError(
            f'the column "{first}" of {path} is needed for the labels that verified ones were at first,'
            " and holds something else; rename it"
        )
    return LabelFile(
        path=path,
        format=format,
        label_column=label,
        labels=cells.texts[label],
        ids=ids,
        splits=None if split is None else cells.texts[split],
        declared=cells.declared.get(label, ()),
        verified_column=verified,
        verified=texts,
        yes=yes,
        first_column=first,
        first=[""] * len(cells.rows) if first is None else cells.texts[first],
        typed=typed,
        embedded=cells.embedded and id_column is None,
    )


def plan_edits(
    file: LabelFile, edits: Mapping[int, Edit], new_classes: Sequence[str] = ()
) -> Write:
    """Check that edits can be made, and return what writes the file with them to a path.

    Parameters
    ----------
    file : LabelFile
        What to write anew; the file itself is only read.
    edits : mapping of int to Edit
        By row. The others stay, and get an empty cell where the column ``verified`` or ``first_label``
        is new.
    new_classes : sequence of str
        Classes to declare beside those that the schema declares, if it declares any.

    Raises
    ------
    SourceError
        A label does not fit the type of its column, or the file has changed or is damaged. Also from
        what is returned, where a parquet file is damaged in the middle.
    """
    if file.path.is_dir():
        return _plan_list(file, edits)
    if file.format == "parquet":
        return _plan_parquet(file, edits, new_classes)
    edited = _edit_jsonl if file.format == "jsonl" else _edit_csv
    try:
        data = file.path.read_bytes()
        mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        written = mark + edited(file, data[len(mark) :].decode(), edits).encode()
    except SourceError:
        raise
    except (OSError, ValueError, LookupError) as error:
        raise _changed(file) from error  # it could be read and parsed before
    return lambda path: _write_bytes(path, written)


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _words(path: Path, format: str, column: str | None, texts: list[str]) -> tuple[str, bool]:
    """Return how a column says yes, and whether its type allows nothing but truth or numbers."""
    if column is None:
        return YES, False
    if format == "parquet":
        kind = _plain(pq.read_schema(path).field(column).type)
        if pa.types.is_boolean(kind):
            return "true", True
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return "1", True
        if not (_is_text(kind) or pa.types.is_null(kind)):
            raise SourceError(
                f'the column "{column}" of {path} is needed to mark the labels that a person has'
                f" verified, and holds {kind}; rename it"
            )
    if format == "jsonl":
        with path.open(encoding="utf-8-sig") as stream:
            values = [json.loads(line).get(column) for line in stream if line.strip()]
        kinds = {type(value) for value in values if value is not None}
        if kinds and str not in kinds:
            return ("true" if bool in kinds else "1"), True
    # Text that spells truth values, as pandas does: a yes in its own spelling can be read again.
    spelled = {text for text in texts if text}
    lowered = {text.lower() for text in spelled}
    if lowered and lowered <= {"true", "false"}:
        if all(text.isupper() for text in spelled):
            return "TRUE", False
        return ("true" if all(text.islower() for text in spelled) else "True"), False
    if lowered and lowered <= {"0", "1"}:
        return "1", False
    return YES, False


def _holds_text(path: Path, column: str) -> bool:
    """Say whether text can be written into a column of a parquet file."""
    kind = _plain(pq.read_schema(path).field(column).type)
    return _is_text(kind) or bool(pa.types.is_null(kind))


def _changed(file: LabelFile) -> SourceError:
    return SourceError(f"{file.path} changed while it was read; run this again")


# --- a folder with one subfolder per class -----------------------------------------------------


def _plan_list(file: LabelFile, edits: Mapping[int, Edit]) -> Write:
    """Write the folder's images as a table of labels; its images stay where they are."""
    special = _special(",")
    rows = [["path", "label", VERIFIED_COLUMN, FIRST_LABEL_COLUMN]]
    (names,) = file.ids.values()
    for row, (name, label) in enumerate(zip(names, file.labels, strict=True)):
        edit = edits.get(row, Edit())
        if not edit.drop:
            now = label if edit.label is None else edit.label
            rows.append([name, now, edit.verified or "", edit.first or ""])
    lines = [",".join(_quoted(c) if special.search(c) else c for c in row) + "\n" for row in rows]
    written = "".join(lines).encode()
    return lambda path: _write_bytes(path, written)


# --- CSV ---------------------------------------------------------------------------------------


def csv_rows(text: str, delimiter: str) -> Iterator[Row]:
    """Split the text of a table into cells as ``csv.reader(strict=True)`` does, and tell where.

    Parameters
    ----------
    text : str
        The table, line ends as in the file.
    delimiter : str
        The character between cells.

    Yields
    ------
    spans : list of (int, int)
        Where each cell starts and ends, quotes included. Empty for a blank line.
    end : int
        Where the row's line end ends.

    Raises
    ------
    ValueError
        A quote is not closed, or something follows a closing one.
    """
    sign = re.escape(delimiter)
    # One cell, quoted or bare, and what ends it.
    cell = re.compile(rf'("[^"]*(?:""[^"]*)*"|(?!")[^{sign}\r\n]*)({sign}|\r\n|\n|\r|\Z)')
    spans: list[tuple[int, int]] = []
    position = 0
    while position < len(text) or spans:
        match = cell.match(text, position)
        if match is None:
            raise ValueError(f"broken quotes at character {position}")
        spans.append(match.span(1))
        position = match.end()
        if match[2] == delimiter:
            continue
        blank = len(spans) == 1 and spans[0][0] == spans[0][1]
        yield ([] if blank else spans), position
        spans = []


def _csv_text(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _special(delimiter: str) -> re.Pattern[str]:
    """Match what makes quotes necessary."""
    return re.compile(rf'[{re.escape(delimiter)}"\r\n]')


def _edit_csv(file: LabelFile, text: str, edits: Mapping[int, Edit]) -> str:
    first = _LINE_END.split(text, maxsplit=1)[0]
    delimiter = delimiter_of(file.path, first)
    special = _special(delimiter)
    spans, _ = next(csv_rows(text, delimiter), ([], 0))
    names = [_csv_text(text[slice(*span)]).strip() for span in spans]
    label = names.index(file.label_column)
    quoted = _column_is_quoted(file, text, delimiter, label, special)
    in_quotes = text[spans[label][0]] == '"'
    width = len(names)
    place = width if file.verified_column is None else names.index(file.verified_column) + 1
    names[place:place] = file.added
    label, verified, first = (
        names.index(name) for name in (file.label_column, file.verified_name, file.first_name)
    )

    def write(value: str, old: str) -> str:
        """Quote a cell where it must be, or where its column or the one before it is."""
        needless = old.startswith('"') and not special.search(_csv_text(old))
        if special.search(value) or (value and (quoted or needless)):
            return _quoted(value)
        return value

    def with_new(cells: list[str], new: list[str]) -> list[str]:
        # A row may have fewer cells than the header, or more: these are empty.
        if place < width:
            return [*cells[:place], *(new if len(cells) >= place else []), *cells[place:]]
        missing = [""] * (width - len(cells)) if new else []
        return [*cells, *missing, *new[max(0, len(cells) - width) :]]

    header = [_quoted(name) if in_quotes else name for name in file.added]
    pieces: list[str] = []
    done = 0
    if header:
        done = spans[-1][1]
        pieces.append(delimiter.join(with_new([text[slice(*span)] for span in spans], header)))
    for row, (start, spans, end) in enumerate(_csv_records(text, delimiter)):
        edit = edits.get(row, Edit())
        if edit.drop:
            pieces.append(text[done:start])
            done = end
            continue
        there = [text[slice(*span)] for span in spans]
        cells = with_new(there, [""] * len(header))
        for at, value in ((label, edit.label), (verified, edit.verified), (first, edit.first)):
            if value is not None:
                cells += [""] * (at + 1 - len(cells))
                cells[at] = write(value, cells[at])
        if cells != there:
            pieces += [text[done:start], delimiter.join(cells)]
            done = spans[-1][1]
    return "".join([*pieces, text[done:]])


def _csv_records(text: str, delimiter: str) -> Iterator[tuple[int, list[tuple[int, int]], int]]:
    """Give the rows below the header without blank lines: start, spans of cells, and end."""
    rows = csv_rows(text, delimiter)
    _, start = next(rows)
    for spans, end in rows:
        if spans:
            yield start, spans, end
        start = end


def _column_is_quoted(
    file: LabelFile, text: str, delimiter: str, label: int, special: re.Pattern[str]
) -> bool:
    """Say whether labels are quoted without need; and check that they are those that were read."""
    needless = bare = False
    count = 0
    for _, spans, _ in _csv_records(text, delimiter):
        cell = text[slice(*spans[label])] if label < len(spans) else ""
        value = _csv_text(cell)
        if count >= len(file.labels) or file.labels[count] != value:
            raise _changed(file)
        count += 1
        if cell.startswith('"'):
            needless = needless or not special.search(value)
        elif cell:
            bare = True
    if count != len(file.labels):
        raise _changed(file)
    return needless and not bare


# --- JSONL -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Record:
    """Where things stand in a line that holds one JSON object.

    `values` are the spans of its values by key; after `end` another key can be written, with
    `comma` before it and `colon` behind it.
    """

    values: dict[str, tuple[int, int]]
    end: int
    comma: str
    colon: str


def _edit_jsonl(file: LabelFile, text: str, edits: Mapping[int, Edit]) -> str:
    literals = _json_literals(file, text)
    ascii_file = text.isascii()
    pieces: list[str] = []
    done = 0
    for row, (start, line, end) in enumerate(_json_lines(text)):
        edit = edits.get(row, Edit())
        if edit.drop:
            pieces.append(text[done:start])
            done = end
            continue
        if not file.added and edit == Edit():
            continue
        # A line says by its own characters whether others than ASCII are escaped in it.
        as_ascii = line.isascii() and (ascii_file or _JSON_ESCAPE.search(line) is not None)
        record = _json_record(line)
        changes: dict[str, str] = {}
        if edit.label is not None:
            old = line[slice(*record.values.get(file.label_column, (0, 0)))]
            changes[file.label_column] = _json_label(file, edit.label, old, literals, as_ascii)
        for name, cell, typed in (
            (file.verified_name, edit.verified, file.typed),
            (file.first_name, edit.first, False),
        ):
            if cell is not None:
                changes[name] = cell if typed else json.dumps(cell, ensure_ascii=as_ascii)
            elif name in file.added:
                changes[name] = "null"
        _, after = record.values.get(file.verified_name, (0, record.end))
        pieces += [text[done:start], _json_changed(line, record, changes, after, as_ascii)]
        done = start + len(line)
    return "".join([*pieces, text[done:]])


def _json_lines(text: str) -> Iterator[tuple[int, str, int]]:
    """Give the lines that are not blank: start, text without the line end, and where it ends."""
    start = 0
    while start < len(text):
        match = _LINE_END.search(text, start)
        stop, end = (len(text), len(text)) if match is None else match.span()
        line = text[start:stop]
        if line.strip():
            yield start, line, end
        start = end


def _json_record(line: str) -> _Record:
    """Find the values of the object in a line that is known to hold one."""

    def skip(position: int) -> int:
        match = _JSON_SPACE.match(line, position)
        assert match is not None
        return match.end()

    values: dict[str, tuple[int, int]] = {}
    position = end = skip(0) + 1  # behind the brace
    comma, colon = "", ": "
    position = skip(position)
    while line[position] != "}":
        key, position = _DECODER.raw_decode(line, position)
        start = skip(skip(position) + 1)
        colon = line[position:start]
        _, end = _DECODER.raw_decode(line, start)
        values[key] = (start, end)
        position = skip(end)
        if line[position] == ",":
            position = skip(position + 1)
            comma = line[end:position]
    if values and not comma:
        comma = ", " if colon.endswith(" ") else ","
    return _Record(values, end, comma, colon)


def _json_changed(
    line: str, record: _Record, changes: Mapping[str, str], after: int, as_ascii: bool
) -> str:
    """Write values in place of others, and those of new keys after the value that ends there."""
    edits = [(*record.values[key], word) for key, word in changes.items() if key in record.values]
    added = [
        f"{json.dumps(key, ensure_ascii=as_ascii)}{record.colon}{word}"
        for key, word in changes.items()
        if key not in record.values
    ]
    if added:
        before = record.comma if record.values else ""
        edits.append((after, after, before + (record.comma or ", ").join(added)))
    for start, end, word in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        line = line[:start] + word + line[end:]
    return line


def _json_literals(file: LabelFile, text: str) -> dict[str, dict[type, str]]:
    """Return how each label is written, by its type; check that labels are those that were read."""
    literals: dict[str, dict[type, str]] = {}
    count = 0
    for _, line, _ in _json_lines(text):
        span = _json_record(line).values.get(file.label_column)
        value = None if span is None else json.loads(line[slice(*span)])
        label = as_text(value)
        if count >= len(file.labels) or file.labels[count] != label:
            raise _changed(file)
        count += 1
        if label and span is not None:
            literals.setdefault(label, {}).setdefault(type(value), line[slice(*span)])
    if count != len(file.labels):
        raise _changed(file)
    return literals


def _json_label(
    file: LabelFile, label: str, old: str, literals: Mapping[str, dict[type, str]], as_ascii: bool
) -> str:
    """Write a label in the type that it has elsewhere, or else in that of all labels."""
    written = literals.get(label, {})
    kinds = {kind for known in literals.values() for kind in known}
    kind = type(json.loads(old)) if old else str
    if written and kind not in written:
        kind = next(iter(written))
    elif not written:
        kind = kinds.pop() if len(kinds) == 1 else str
    if kind is str:
        return json.dumps(label, ensure_ascii=as_ascii)
    if written:
        return written[kind]
    try:
        value = json.loads(label)
        if type(value) is kind and as_text(value) == label:
            return label
    except (ValueError, TypeError):
        pass
    raise _does_not_fit(file, label, f"values of type {kind.__name__}")


def _does_not_fit(file: LabelFile, label: str, kind: str) -> SourceError:
    return SourceError(
        f'"{label}" cannot be written into the column "{file.label_column}" of {file.path}: it'
        f" holds {kind}"
    )


# --- parquet -----------------------------------------------------------------------------------


def _plan_parquet(file: LabelFile, edits: Mapping[int, Edit], new_classes: Sequence[str]) -> Write:
    schema: pa.Schema = pq.read_schema(file.path)
    new_classes = [name for name in new_classes if name not in file.declared]
    names = (*file.declared, *new_classes) if file.declared else ()
    labels = {row: edit.label for row, edit in edits.items() if edit.label is not None}
    marks = {row: edit.verified for row, edit in edits.items() if edit.verified is not None}
    firsts = {row: edit.first for row, edit in edits.items() if edit.first is not None}
    # New columns come after `verified`, or where that is new too, at the end.
    place = len(schema)
    if file.verified_column is not None:
        place = schema.get_field_index(file.verified_column) + 1
    written = schema
    for name in reversed(file.added):
        written = written.insert(place, pa.field(name, pa.string()))
    values: dict[int, dict[int, object]] = {}
    for name, texts in (
        (file.label_column, labels),
        (file.verified_name, marks),
        (file.first_name, firsts),
    ):
        at = written.get_field_index(name)
        if texts and pa.types.is_null(written.field(at).type):  # no word fits into nulls
            written = written.set(at, written.field(at).with_type(pa.string()))
        kind = written.field(at).type
        known = names if name == file.label_column else ()
        values[at] = {row: _parquet_value(file, t, kind, known) for row, t in texts.items()}
    dropped = {row for row, edit in edits.items() if edit.drop}
    metadata = _with_features(schema.metadata, file, names if new_classes else ())
    written = written.with_metadata(metadata)
    if written.equals(schema, check_metadata=True) and not edits:
        return lambda path: _copy(file.path, path)

    def write(path: Path) -> None:
        try:
            with pq.ParquetFile(file.path) as opened:
                options = _writer_options(opened.metadata, file)
                with pq.ParquetWriter(path, written, **options) as writer:
                    first = 0
                    for number in range(opened.num_row_groups):
                        group = opened.read_row_group(number)
                        rows = range(first, first + len(group))
                        first += len(group)
                        columns = list(group.columns)
                        empty = pa.chunked_array([pa.nulls(len(group), pa.string())])
                        columns[place:place] = [empty] * len(file.added)
                        for at, new in values.items():
                            columns[at] = _with_values(columns[at], written.types[at], new, rows)
                        table = pa.Table.from_arrays(columns, schema=written)
                        if dropped.intersection(rows):
                            table = table.filter(pa.array([row not in dropped for row in rows]))
                        if len(table):
                            writer.write_table(table, row_group_size=len(table))
        except pa.ArrowInvalid as error:
            raise SourceError(f"{file.path} cannot be written anew: {error}") from error

    return write


def _copy(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    # Views of strings are newer than the oldest pyarrow that is supported.
    return (
        bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
        or str(kind) == "string_view"
    )


def _parquet_value(
    file: LabelFile, text: str, kind: pa.DataType, class_names: Sequence[str]
) -> object:
    """Return the value of a type that a scan reads as that text."""
    plain = _plain(kind)
    if _is_text(plain):
        return text
    if pa.types.is_integer(plain) and class_names:
        if text in class_names:
            return class_names.index(text)
        raise _does_not_fit(file, text, f"{plain}, and its class names do not have it")
    try:
        value: Any
        if pa.types.is_boolean(plain):
            value = {"true": True, "false": False}.get(text)
        elif pa.types.is_integer(plain):
            value = int(text)
        elif pa.types.is_floating(plain):
            value = float(text)
        else:
            value = Decimal(text)
        value = pa.scalar(value, plain).as_py()
        if as_text(value) == text:
            return value
    except (ValueError, TypeError, ArithmeticError):
        pass
    raise _does_not_fit(file, text, str(plain))


def _with_values(
    column: pa.ChunkedArray, kind: pa.DataType, values: Mapping[int, object], rows: range
) -> pa.ChunkedArray:
    """Return a column with other values in some of the rows, which it holds."""
    here = {row - rows.start: value for row, value in values.items() if row in rows}
    if not here:
        return column if column.type == kind else column.cast(kind)
    if not pa.types.is_dictionary(kind):
        cells = column.to_pylist()
        for place, value in here.items():
            cells[place] = value
        return pa.chunked_array([pa.array(cells, kind)])
    # The order of a dictionary may mean something, so that new words come last.
    array = column.unify_dictionaries().combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    words = array.dictionary.to_pylist()
    indices = array.indices.to_pylist()
    index = {word: number for number, word in enumerate(words)}
    for place, value in here.items():
        indices[place] = index.setdefault(value, len(index))
    dictionary = pa.array(index, kind.value_type)
    changed = pa.DictionaryArray.from_arrays(
        pa.array(indices, kind.index_type), dictionary, ordered=kind.ordered
    )
    return pa.chunked_array([changed])


def _with_features(
    metadata: Mapping[bytes, bytes] | None,
    file: LabelFile,
    class_names: Sequence[str],
) -> dict[bytes, bytes] | None:
    """Return a schema's metadata with what Hugging Face's reader must know of changed columns."""
    if metadata is None or b"huggingface" not in metadata:
        return None if metadata is None else dict(metadata)
    try:
        told = json.loads(metadata[b"huggingface"])
        features = told["info"]["features"]
        if class_names:
            label = features[file.label_column]
            label["names"] = list(class_names)
            if "num_classes" in label:
                label["num_classes"] = len(class_names)
        if features:
            features |= {name: {"dtype": "string", "_type": "Value"} for name in file.added}
    except (KeyError, TypeError, ValueError):
        return dict(metadata)  # of a form unknown here, as when it was read
    if not class_names and not file.added:
        return dict(metadata)
    return {**metadata, b"huggingface": json.dumps(told).encode()}


def _writer_options(footer: pq.FileMetaData, file: LabelFile) -> dict[str, Any]:
    """Return what writes columns as they were: compressed, encoded and with statistics or not."""
    if not footer.num_row_groups:
        return {}
    group = footer.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    codecs_of = {column.path_in_schema: column.compression for column in columns}
    for name in file.added:
        codecs_of[name] = codecs_of.get(file.label_column, "SNAPPY")
    return {
        "compression": {
            path: "NONE" if codec == "UNCOMPRESSED" else codec for path, codec in codecs_of.items()
        },
        "use_dictionary": [c.path_in_schema for c in columns if c.has_dictionary_page] + file.added,
        "write_statistics": [c.path_in_schema for c in columns if c.is_stats_set] + file.added,
        "store_schema": b"ARROW:schema" in (footer.metadata or {}),
        # With it, lists whose items have another name than "element" would be renamed.
        "use_compliant_nested_type": False,
        "use_deprecated_int96_timestamps": any(c.physical_type == "INT96" for c in columns),
    }

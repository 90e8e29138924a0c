"""Tables in text files: CSV, TSV and JSONL, also packed with gzip."""

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np
import pyarrow as pa

from labelaudit.errors import SourceError
from labelaudit.files import suffix_of, well_formed
from labelaudit.memory import check_memory
from labelaudit.sources.cells import ID_COLUMNS, Cells, Columns
from labelaudit.sources.classes import as_text

# A table needs at least this many times the bytes of its file while it is read.
MEMORY_PER_BYTE = 1
# A packed file that unpacks to more bytes than the first number, and to more than the second number
# times its size, is no table. Tables shrink to a tenth, and very repetitive ones to a fiftieth.
UNPACKED_BYTES = 1 << 26
LARGEST_RATIO = 200
# The part of a file in which its delimiter is looked for.
START = 1 << 20
# Python's limit of the characters in a cell of a CSV file is 131,072. This is the largest possible one.
LONGEST_CELL = (1 << 31) - 1


@contextmanager
def open_binary(file: Path) -> Iterator[IO[bytes]]:
    """Open a table to read its bytes, unpacked if its suffix ends in .gz.

    Raises SourceError if it needs more memory than there is, or unpacks to a multiple of its size that
    no table has. Packed files raise OSError, EOFError and `zlib.error` if they are damaged.
    """
    size = file.stat().st_size
    advice = "check that it is a table, or split it into several files"
    check_memory(MEMORY_PER_BYTE * size, str(file), advice)
    if not file.name.lower().endswith(".gz"):
        with file.open("rb") as stream:
            yield stream
        return
    _refuse_bomb(file, size)
    with gzip.open(file, "rb") as packed:
        yield io.BufferedReader(_Unpacked(packed, file, size), 1 << 16)


def _refuse_bomb(file: Path, size: int) -> None:
    """Raise SourceError if the start of a packed file unpacks to more than any table does."""
    if size * LARGEST_RATIO * 5 < UNPACKED_BYTES:
        return  # gzip never reaches five times this ratio
    total = 0
    with file.open("rb") as stream, gzip.GzipFile(fileobj=stream) as packed:
        while total < UNPACKED_BYTES and (data := packed.read(1 << 20)):
            total += len(data)
        if total > LARGEST_RATIO * stream.tell():
            raise _too_large(file)


def _too_large(file: Path) -> SourceError:
    return SourceError(
        f"{file} unpacks to more than {LARGEST_RATIO} times its size; check that it is a table, or"
        " unpack it yourself and give the unpacked file"
    )


class _Unpacked(io.RawIOBase):
    """The bytes of a packed file, until there are too many of them."""

    def __init__(self, packed: gzip.GzipFile, file: Path, size: int) -> None:
        self._packed, self._file, self._size = packed, file, size
        self._total = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._total = self._packed.seek(offset, whence)
        return self._total

    def tell(self) -> int:
        return self._total

    def readinto(self, buffer: Any) -> int:
        data = self._packed.read1(len(buffer))
        buffer[: len(data)] = data
        self._total += len(data)
        if self._total > UNPACKED_BYTES and self._total > LARGEST_RATIO * self._size:
            raise _too_large(self._file)
        return len(data)


@contextmanager
def open_text(file: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a table to read its text; see `open_binary`. Text that is not UTF-8 raises UnicodeError."""
    with (
        open_binary(file) as stream,
        io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline) as text,
    ):
        yield text


@contextmanager
def long_cells() -> Iterator[None]:
    """Let `csv` read cells of any length. Its limit belongs to the process, and is set back."""
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_csv(file: Path, columns: Columns) -> Cells:
    """Read the cells of a CSV or TSV file; see `labelaudit.sources.table_formats`."""
    with open_text(file, newline="") as stream, long_cells():
        start = stream.readline(START)
        if "\0" in start:
            raise SourceError(f"{file} is not a text table; save it as CSV in UTF-8")
        stream.seek(0)
        lines = csv.reader(stream, delimiter=delimiter_of(file, start), strict=True)
        names, rows, texts = [], list[int](), dict[str, list[str]]()
        try:
            names = [name.strip() for name in next(lines, [])]
            width = len(names)
            times = Counter(names)
            wanted = columns.of_interest(names)
            needed = [
                (i, name) for i, name in enumerate(names) if name in wanted and times[name] == 1
            ]
            texts = {name: [] for _, name in needed}
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
    if suffix_of(file.name) in ("tsv", "tsv.gz"):
        return "\t"
    # Where the comma is the decimal sign, spreadsheets save "CSV" with semicolons.
    return next((sign for sign in ",;\t" if sign in header), ",")


def read_jsonl(file: Path, columns: Columns) -> Cells:
    """Read the cells of a JSONL file; see `labelaudit.sources.table_formats`."""
    wanted = _Wanted(columns)
    texts: dict[str, list[str]] = {}
    rows: list[int] = []
    for number, record in _records(file):
        for name in record:
            if wanted.is_new(name):
                texts[name] = [""] * len(rows)
        for name, cells in list(texts.items()):
            try:
                cells.append(as_text(record.get(name)))
            except TypeError as error:
                if not columns.may_be_needed(name):
                    del texts[name]  # lists and objects are not shown
                    continue
                raise SourceError(f'{file} line {number}: "{name}" is {error}') from error
        rows.append(number)
    return Cells(file, tuple(wanted.names), texts, np.array(rows, np.int64), "line", {})


class _Wanted:
    """Which columns of a JSONL file are read, decided when each name occurs for the first time.

    The columns are those of `Columns.of_interest`.
    """

    def __init__(self, columns: Columns) -> None:
        self.names: dict[str, None] = {}
        self._columns = columns
        self._ids = self._others = 0

    def is_new(self, name: str) -> bool:
        """Return whether a name occurs for the first time and its column is read."""
        if name in self.names:
            return False
        self.names[name] = None
        if self._columns.may_be_needed(name):
            return True
        self._others += 1
        is_id = name.strip().lower() in ID_COLUMNS
        self._ids += is_id
        return (self._ids if is_id else self._others) <= self._columns.others


def lists_of_jsonl(file: Path, column: str) -> tuple[list[str], pa.ChunkedArray | None]:
    """Read a column of lists of a JSONL file; see `labelaudit.sources.table_formats`."""
    lists, names = list[Any](), dict[str, None]()
    for _, record in _records(file):
        names.update(dict.fromkeys(record))
        lists.append(record.get(column))
    if column not in names:
        return list(names), None
    try:
        return list(names), pa.chunked_array([pa.array(lists, pa.list_(pa.float64()))])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SourceError(f'"{column}" in {file} is not a list of numbers: {error}') from error


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSONL file, and the numbers of their lines."""
    with open_text(file) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise SourceError(f"{file} line {number} is not JSON: {error}") from error
            except RecursionError as error:
                raise SourceError(
                    f"{file} line {number} is nested too deeply; write one flat object per line"
                ) from error
            if not isinstance(record, dict):
                raise SourceError(
                    f"{file} line {number} is not a JSON object; write one "
                    '{"file_name": ..., "label": ...} per line'
                )
            if "\\ud" in line.lower():  # an escaped surrogate
                record = {well_formed(name): value for name, value in record.items()}
            yield number, record

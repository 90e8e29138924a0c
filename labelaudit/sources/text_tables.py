"""Tables in text files: CSV, TSV and JSONL."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.sources.cells import Cells, Columns
from labelaudit.sources.classes import as_text


def read_csv(file: Path, columns: Columns) -> Cells:
    """Read the cells of a CSV or TSV file; see `labelaudit.sources.table_formats`."""
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


def read_jsonl(file: Path, columns: Columns) -> Cells:
    """Read the cells of a JSONL file; see `labelaudit.sources.table_formats`."""
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
                        del texts[name]  # lists and objects are not shown
                        continue
                    raise SourceError(f'{file} line {number}: "{name}" is {error}') from error
            rows.append(number)
    return Cells(file, tuple(names), texts, np.array(rows, np.int64), "line", {})


def lists_of_jsonl(file: Path, column: str) -> tuple[list[str], pa.ChunkedArray | None]:
    """Read a column of lists of a JSONL file; see `labelaudit.sources.table_formats`."""
    lists, names = list[Any](), dict[str, None]()
    with file.open(encoding="utf-8-sig") as stream:
        for line in stream:
            if line.strip():
                record = json.loads(line)
                names.update(dict.fromkeys(record))
                lists.append(record.get(column))
    if column not in names:
        return list(names), None
    try:
        return list(names), pa.chunked_array([pa.array(lists, pa.list_(pa.float64()))])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SourceError(f'"{column}" in {file} is not a list of numbers: {error}') from error

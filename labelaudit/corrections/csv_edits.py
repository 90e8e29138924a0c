"""Edits of single cells of a CSV or TSV table. All other characters stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from labelaudit.corrections.label_files import Edit, LabelFile, changed_error
from labelaudit.sources.cells import FIRST_LABEL_COLUMN, VERIFIED_COLUMN
from labelaudit.sources.text_tables import delimiter_of

# The cells of a row as spans of the text, and the position at which the next row starts.
Row = tuple[list[tuple[int, int]], int]

_LINE_END = re.compile(r"\r\n|\n|\r")


def list_as_csv(file: LabelFile, edits: Mapping[int, Edit]) -> str:
    """Return a CSV table of the labels of a folder with one subfolder per class."""
    special = _special(",")
    rows = [["path", "label", VERIFIED_COLUMN, FIRST_LABEL_COLUMN]]
    (names,) = file.ids.values()
    for row, (name, label) in enumerate(zip(names, file.labels, strict=True)):
        edit = edits.get(row, Edit())
        if not edit.drop:
            now = label if edit.label is None else edit.label
            rows.append([name, now, edit.verified or "", edit.first or ""])
    return "".join(
        ",".join(_quoted(c) if special.search(c) else c for c in row) + "\n" for row in rows
    )


# `csv` and `pyarrow.csv` return the values of cells but not their positions. The positions are needed
# to keep all other bytes of a table, including quotes and line ends.
def csv_rows(text: str, delimiter: str) -> Iterator[Row]:
    """Split the text of a table into cells as ``csv.reader(strict=True)`` does, with positions.

    Parameters
    ----------
    text : str
        The table, with line ends as in the file.
    delimiter : str
        The character between cells.

    Yields
    ------
    spans : list of (int, int)
        Start and end of each cell, including its quotes. Empty for a blank line.
    end : int
        End of the row, including its line end.

    Raises
    ------
    ValueError
        A quote is not closed, or something follows a closing quote.
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
    """Return a pattern for the characters that make quotes necessary."""
    return re.compile(rf'[{re.escape(delimiter)}"\r\n]')


def edit_csv(file: LabelFile, text: str, edits: Mapping[int, Edit]) -> str:
    """Return the text of a table with edited rows.

    Raises SourceError if the table has changed since it was read.
    """
    first = _LINE_END.split(text, maxsplit=1)[0]
    delimiter = delimiter_of(file.path, first)
    special = _special(delimiter)
    spans, _ = next(csv_rows(text, delimiter), ([], 0))
    names = [_csv_text(text[slice(*span)]).strip() for span in spans]
    label, quoted = 0, False
    if file.votes is None:
        label = names.index(file.label_column)
        quoted = _column_is_quoted(file, text, delimiter, label, special)
    elif sum(1 for _ in _csv_records(text, delimiter)) != len(file.labels):
        raise changed_error(file)
    in_quotes = text[spans[label][0]] == '"'
    width = len(names)
    place = width if file.verified_column is None else names.index(file.verified_column) + 1
    names[place:place] = file.added
    label, verified, first = (
        names.index(name) for name in (file.label_column, file.verified_name, file.first_name)
    )

    def write(value: str, old: str) -> str:
        """Quote a cell if that is necessary, or if the old cell or its column was quoted."""
        needless = old.startswith('"') and not special.search(_csv_text(old))
        if special.search(value) or (value and (quoted or needless)):
            return _quoted(value)
        return value

    def with_new(cells: list[str], new: list[str]) -> list[str]:
        # A row may have fewer cells than the header, or more cells, which are empty.
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
    """Yield the rows below the header, without blank lines: start, spans of cells, and end."""
    rows = csv_rows(text, delimiter)
    _, start = next(rows)
    for spans, end in rows:
        if spans:
            yield start, spans, end
        start = end


def _column_is_quoted(
    file: LabelFile, text: str, delimiter: str, label: int, special: re.Pattern[str]
) -> bool:
    """Return whether labels are quoted without need; raise if they are not those that were read."""
    needless = bare = False
    count = 0
    for _, spans, _ in _csv_records(text, delimiter):
        cell = text[slice(*spans[label])] if label < len(spans) else ""
        value = _csv_text(cell)
        if count >= len(file.labels) or file.labels[count] != value:
            raise changed_error(file)
        count += 1
        if cell.startswith('"'):
            needless = needless or not special.search(value)
        elif cell:
            bare = True
    if count != len(file.labels):
        raise changed_error(file)
    return needless and not bare

"""The tables of a run: suspects.csv and samples.parquet.

A CSV file has no types, and class names such as "NA", "001" and "" are common. The files that are
written here follow one rule, so that every value can be read back exactly: **text is quoted, and
nothing else is**. A missing value is an empty cell without quotes. :func:`read_csv` relies on this
rule. If a spreadsheet program has saved the file again without quotes, it relies on the names of the
columns that this package writes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labelaudit.errors import SourceError
from labelaudit.files import atomic_write, check_regular

REVIEW_COLUMNS = ("decision", "corrected_label")
"""Empty columns of suspects.csv that a person can fill in; see docs/reference/corrections.md."""

SUSPECT_COLUMNS = (
    "rank",
    "sample_id",
    "path",
    "given_label",
    "suggested_label",
    *REVIEW_COLUMNS,
    "suspect_score",
    "label_score",
    "is_label_issue",
    "ambiguity",
    "suggested_prob",
    "predicted_label",
    "epsilon",
    "epsilon_mean",
    "guider_prob",
    "learner_prob",
    "trusted",
)
"""Columns of suspects.csv, in order. ``clean_label`` follows if the truth is known.

The columns of ε, learner and guider exist only if a network was trained.
"""

SAMPLE_TEXT = "text"
"""The column that follows these if the samples are texts."""

VOTE_COLUMNS = ("votes", "agreement")
"""Columns that follow if several annotators labeled the samples."""

TEXT_COLUMNS = frozenset(
    {
        "sample_id",
        "path",
        "given_label",
        "suggested_label",
        "predicted_label",
        "clean_label",
        "first_label",
        "votes",
        SAMPLE_TEXT,
        *REVIEW_COLUMNS,
        "note",
        "reviewer",
        "reviewed_at",
    }
)
FLOAT_COLUMNS = frozenset(
    {
        "suspect_score",
        "label_score",
        "ambiguity",
        "agreement",
        "epsilon",
        "epsilon_mean",
        "suggested_prob",
        "predicted_prob",
        "guider_prob",
        "learner_prob",
    }
)
# These are never missing. An empty cell is the empty text, even if a spreadsheet program has dropped
# the quotes that distinguish the two.
NEVER_MISSING = frozenset({"sample_id", "path"})

# Spreadsheet programs treat a cell that begins with one of these as a formula, or strip the character
# and look at the next one. Some programs convert the full-width forms to ASCII.
FORMULA_STARTS = "=+-@\t\r\n＝＋－＠"
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
FLOAT = re.compile(NUMBER.pattern + r"|-?inf", re.ASCII)
# "007" is a name and not a number. 18 digits always fit into 64 bits.
LEADING_ZERO = re.compile(r"[+-]?0\d", re.ASCII)
INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
TRUTH = {"True": True, "False": False, "TRUE": True, "FALSE": False, "true": True, "false": False}

# Why cells are written and split here, and not by `pyarrow.csv`: it writes 1.0 as "1", 1e-05 as
# "0.00001" and True as "true", and it quotes every text column, so that numbers cannot be formatted
# before. When it reads, it distinguishes a quoted empty cell from a missing one, but not a quoted "007"
# from a bare 007, and it accepts `"x"y` as xy. A test checks that it reads the cells written here.

# One cell and what ends it: quoted text in group 1, or bare text in group 2.
CSV_CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r\n|\n|\r|\Z)')


def suspects_table(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the flagged samples, the most suspect first.

    Parameters
    ----------
    samples : DataFrame
        One row per sample, as in samples.parquet; see docs/reference/run-folder.md.

    Returns
    -------
    DataFrame
        The rows with ``is_label_issue``, ordered by ``rank``, with a new index. The columns are those
        of `SUSPECT_COLUMNS` that `samples` has, the empty `REVIEW_COLUMNS`, `VOTE_COLUMNS` and
        ``clean_label`` if `samples` has them. If
        nothing is flagged, the table has the same columns and no rows.
    """
    known = (*SUSPECT_COLUMNS, SAMPLE_TEXT, *VOTE_COLUMNS, "clean_label")
    columns = [name for name in known if name in samples]
    flagged = samples.loc[samples["is_label_issue"], columns]
    place = columns.index("suggested_label") + 1
    for number, name in enumerate(REVIEW_COLUMNS):
        flagged.insert(place + number, name, pd.Series(pd.NA, flagged.index, dtype="str"))
    return flagged.sort_values("rank", kind="stable").reset_index(drop=True)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table that a spreadsheet program opens safely and `read_csv` reads back exactly.

    The file is UTF-8 with one line feed after each row. Text is quoted and numbers are not. Floats have
    the digits that give the same 64-bit float again. Text that a spreadsheet program would run as a
    formula gets a leading apostrophe. Text that begins with an apostrophe gets one too, so that the
    mark can be removed again without guessing. Text that is a plain number ("-1") is no formula and
    is not marked.

    Parameters
    ----------
    frame : DataFrame
        Columns of text, numbers and booleans. Values of other types are written as their text. The
        index is not written.
    path : Path
        The file, which is written atomically.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    header = ",".join(_quote(str(name)) for name in frame.columns)
    columns = [_format_column(frame.iloc[:, position]) for position in range(frame.shape[1])]
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        file.write(header + "\n")
        file.writelines(",".join(cells) + "\n" for cells in zip(*columns, strict=True))


def read_csv(path: Path, *, as_text: bool = False) -> pd.DataFrame:
    """Read a table that `write_csv` wrote, even if a spreadsheet program has saved it again.

    Parameters
    ----------
    path : Path
        A UTF-8 file with a header row, with or without a byte order mark, and with any line ends.
    as_text : bool
        Return every cell as the text that the file holds, "" where it is empty.

    Returns
    -------
    DataFrame
        Text columns hold exactly the text that was written, including "NA", "null", "001" and "", and
        NA where it was missing. The columns that this package writes have fixed types (``rank`` Int64,
        ``is_label_issue`` bool, scores float64). Any other column is text if one of its cells is
        quoted, or is neither a number nor a truth value. Otherwise it is bool, int64 or float64, and
        boolean or Int64 if values are missing.

    Raises
    ------
    SourceError
        The file cannot be read, is not UTF-8, has broken quotes or rows of different lengths, or a
        column of numbers holds something else.
    """
    path = Path(path)
    return parse_csv(read_text(path), path, as_text=as_text)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises SourceError if the file is no regular file, cannot be read or is not UTF-8.
    """
    check_regular(path)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8, for example 'CSV UTF-8'"
        ) from error


def separator_of(text: str) -> str:
    """Return the character that separates the cells of a table, given its header.

    In languages with a decimal comma, spreadsheet programs write "CSV" files with semicolons. Names in
    quotes may hold any of these characters.
    """
    header = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
    return next((sign for sign in "\t;," if sign in header), ",")


def parse_csv(text: str, path: Path, *, as_text: bool = False) -> pd.DataFrame:
    """Parse the text of a table, separated by commas, as `read_csv` does; `path` is for messages.

    Raises SourceError as `read_csv`.
    """
    rows = _parse_rows(text, path)
    if not rows:
        raise SourceError(f"{path} is empty; it needs a header row")
    names = [unescape(cell or "") for cell, _ in rows[0]]
    columns = {}
    for position, name in enumerate(names):
        cells = [row[position] for row in rows[1:]]
        if as_text:
            columns[position] = _text_column([cell for cell, _ in cells], missing="")
        else:
            columns[position] = _convert_column(name, cells, path)
    frame = pd.DataFrame(columns)
    frame.columns = pd.Index(names)
    return frame


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table without its index as Parquet, atomically. Missing labels are null.

    Raises OutputError if the file cannot be written.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for position, field in enumerate(table.schema):
        # A text column without values (no sample has a label) would get Arrow's type "null". Files of
        # different runs could then not be read as one data set.
        if pa.types.is_null(field.type) and field.name in TEXT_COLUMNS:
            column = table.column(position).cast(pa.string())
            table = table.set_column(position, pa.field(field.name, pa.string()), column)
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary)


def escape(text: str) -> str:
    """Mark text that a spreadsheet program could run, and text that looks as if it were marked."""
    formula = text.startswith(tuple(FORMULA_STARTS)) and not NUMBER.fullmatch(text)
    return "'" + text if formula or text.startswith("'") else text


def unescape(text: str) -> str:
    """Undo `escape`. An apostrophe that `escape` does not write was typed by a person and stays."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(("'", *FORMULA_STARTS)) else text


def _quote(text: str) -> str:
    return '"' + escape(text).replace('"', '""') + '"'


def _format_column(column: pd.Series) -> list[str]:
    """Format the cells of one column for `write_csv`."""
    missing = column.isna().tolist()
    return [
        "" if absent else _format_cell(value)
        for value, absent in zip(column.tolist(), missing, strict=True)
    ]


def _format_cell(value: object) -> str:
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return str(value)
    if isinstance(value, float | np.floating):
        return repr(float(value))
    return _quote(str(value))


def _parse_rows(text: str, path: Path) -> list[list[tuple[str | None, bool]]]:
    """Split CSV text into rows of pairs: a cell, None if missing, and whether it was quoted."""
    rows: list[list[tuple[str | None, bool]]] = []
    row: list[tuple[str | None, bool]] = []
    position = 0
    while position < len(text) or row:
        match = CSV_CELL.match(text, position)
        if match is None:
            raise SourceError(f"row {len(rows) + 1} of {path} has broken quotes")
        quoted, bare, end = match.groups()
        row.append((bare or None, False) if quoted is None else (quoted.replace('""', '"'), True))
        position = match.end()
        if end == ",":
            continue
        # In a table of one column an empty line is a missing value. In any other it is not a row.
        blank = row == [(None, False)] and bool(rows) and len(rows[0]) > 1
        if not blank:
            if rows and len(row) != len(rows[0]):
                raise SourceError(
                    f"row {len(rows) + 1} of {path} has {len(row)} cells, "
                    f"the header has {len(rows[0])}"
                )
            rows.append(row)
        row = []
    return rows


def _convert_column(name: str, cells: Sequence[tuple[str | None, bool]], path: Path) -> pd.Series:
    """Return a column in its type, which follows from its name, or from quotes and content."""
    values = [value for value, _ in cells]
    present = [value for value in values if value is not None]
    if name in TEXT_COLUMNS:
        return _text_column(values, missing="" if name in NEVER_MISSING else None)
    if name in FLOAT_COLUMNS:
        _check_cells(name, values, FLOAT, "a number", path)
        return pd.Series([np.nan if v is None else float(v) for v in values], dtype="float64")
    if name == "rank":
        _check_cells(name, values, INTEGER, "a whole number", path)
        return pd.Series([pd.NA if v is None else int(v) for v in values], dtype="Int64")
    if name in ("is_label_issue", "trusted"):
        _check_cells(name, values, re.compile("|".join(TRUTH)), "True or False", path)
        return pd.Series([v is not None and TRUTH[v] for v in values], dtype="bool")

    complete = len(present) == len(values)
    if any(quoted for _, quoted in cells):
        return _text_column(values, missing=None)
    if present and all(value in TRUTH for value in present):
        truths = [pd.NA if v is None else TRUTH[v] for v in values]
        return pd.Series(truths, dtype="bool" if complete else "boolean")
    if present and all(INTEGER.fullmatch(value) for value in present):
        integers = [pd.NA if v is None else int(v) for v in values]
        return pd.Series(integers, dtype="int64" if complete else "Int64")
    if all(FLOAT.fullmatch(value) and not LEADING_ZERO.match(value) for value in present):
        return pd.Series([np.nan if v is None else float(v) for v in values], dtype="float64")
    return _text_column(values, missing=None)


def _text_column(values: Sequence[str | None], missing: str | None) -> pd.Series:
    texts = [missing if value is None else unescape(value) for value in values]
    return pd.Series(texts, dtype="str")


def _check_cells(
    name: str, values: Sequence[str | None], pattern: re.Pattern[str], expected: str, path: Path
) -> None:
    """Raise `SourceError` for the first cell that does not match."""
    for row, value in enumerate(values, start=2):
        if value is not None and not pattern.fullmatch(value):
            raise SourceError(
                f"row {row} of {path}: column {name!r} holds {value!r}, expected {expected}"
            )

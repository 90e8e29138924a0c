"""Read corrections from the files of any tool."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from labelaudit.corrections.label_studio_answers import read_json, read_table
from labelaudit.corrections.table import (
    CORRECTION_COLUMNS,
    GIVEN_LABEL,
    check_corrections,
)
from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.reporting.run_folder import CORRECTIONS_FILE
from labelaudit.reporting.tables import (
    REVIEW_COLUMNS,
    parse_csv,
    read_text,
    separator_of,
    unescape,
)
from labelaudit.sources.text_tables import long_cells

SUSPECTS_FILE = "suspects.csv"


def read_corrections(
    path: str | Path, suggestions: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read corrections from the file of any tool.

    Parameters
    ----------
    path : str or Path
        One of these: corrections.csv; a suspects.csv whose column ``decision`` was filled in, even if a
        spreadsheet program has saved it; or an export of Label Studio (JSON, JSON-MIN or CSV) of tasks
        that `labelaudit export` wrote. A run folder stands for its corrections.csv, or for its
        suspects.csv if that holds the decisions.
    suggestions : mapping of str to str, optional
        Suggested labels by sample id, for rows that accept a suggestion without naming it.

    Returns
    -------
    DataFrame
        One row per sample that was decided about, in the order of the file, with the columns
        `CORRECTION_COLUMNS`, and ``given_label`` if the file has it. All values are text, "" if empty.
        ``corrected_label`` is filled in for `accept` and `relabel`, and "" for other decisions.

    Raises
    ------
    SourceError
        The file does not exist or is not one of these, a decision is not known, a label is missing, or
        two rows have different decisions about a sample.
    """
    path = corrections_path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist; check the path of the corrections")
    suffix = suffix_of(path.name)
    if suffix not in ("csv", "tsv", "json"):
        raise SourceError(
            f"{path} is not a table of corrections; give corrections.csv, an edited suspects.csv, or an"
            " export of Label Studio (.json or .csv)"
        )
    frame = read_json(path) if suffix == "json" else _read_table(path)
    return check_corrections(frame, str(path), suggestions)


def corrections_path(path: str | Path) -> Path:
    """Return the file that a path refers to: itself, or the file of decisions in a run folder.

    Raises SourceError if the folder has no decisions yet, or has them in two files.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    found = file_of_decisions(path)
    if found is None:
        raise SourceError(f"{path} has no decisions yet; make some with: labelaudit review {path}")
    return found


def file_of_decisions(folder: Path) -> Path | None:
    """Return the file of a run folder that holds decisions; None if there are none yet.

    Raises SourceError if two files hold decisions, or one of them cannot be read.
    """
    corrections, suspects = folder / CORRECTIONS_FILE, folder / SUSPECTS_FILE
    edited = False
    if suspects.exists():
        frame = _read_table(suspects)
        edited = any(
            (frame[name].fillna("") != "").any() for name in REVIEW_COLUMNS if name in frame
        )
    if corrections.exists() and edited:
        raise SourceError(
            f"both {corrections} and {suspects} hold decisions; move one of the two files away"
        )
    if edited:
        return suspects
    return corrections if corrections.exists() else None


def _read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV file with any separator: a labelaudit table or a Label Studio export."""
    text = read_text(path)
    sign = separator_of(text)
    header = text.partition("\n")[0]
    if "annotation_id" in [name.strip(' "\r') for name in header.split(sign)]:
        return read_table(text, path)
    return parse_csv(text, path) if sign == "," else _parse_texts(text, sign, path)


def read_texts(path: Path) -> pd.DataFrame:
    """Read all columns of a corrections.csv as text, "" where a cell is empty.

    Raises SourceError if the file cannot be read, or is not CSV.
    """
    text = read_text(path)
    sign = separator_of(text)
    if sign == ",":
        return parse_csv(text, path, as_text=True)
    return _parse_texts(text, sign, path, every=True)


def _parse_texts(text: str, sign: str, path: Path, *, every: bool = False) -> pd.DataFrame:
    """Read every column as text, or those of decisions; numbers may have decimal commas."""
    try:
        with long_cells():
            header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True)
    except csv.Error as error:
        raise SourceError(f"{path} is not CSV: {error}") from error
    wanted = {
        place: name.strip()
        for place, name in enumerate(header)
        if every or name.strip() in (*CORRECTION_COLUMNS, GIVEN_LABEL, "suggested_label")
    }
    # Some programs leave out the empty cells at the end of a row.
    cells = [
        [unescape(row[place]) if place < len(row) else "" for place in wanted]
        for row in rows
        if any(row)
    ]
    return pd.DataFrame(cells, columns=list(wanted.values()), dtype="str")

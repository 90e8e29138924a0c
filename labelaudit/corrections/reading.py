"""Corrections from files, whichever tool they were made with."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from labelaudit.corrections.label_studio_answers import read_json, read_table
from labelaudit.corrections.table import (
    CORRECTION_COLUMNS,
    CORRECTIONS_FILE,
    GIVEN_LABEL,
    check_corrections,
)
from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.reporting.tables import REVIEW_COLUMNS, parse_csv, read_text, separator_of

SUSPECTS_FILE = "suspects.csv"


def read_corrections(
    path: str | Path, suggestions: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read corrections, whichever tool they were made with.

    Parameters
    ----------
    path : str or Path
        corrections.csv; a suspects.csv whose column ``decision`` was filled in, also after a
        spreadsheet program saved it; or an export of Label Studio (JSON, JSON-MIN or CSV) of tasks
        that `labelaudit export` wrote. A run folder stands for its corrections.csv, or its
        suspects.csv where that holds the decisions.
    suggestions : mapping of str to str, optional
        Suggested labels by sample id, for rows that accept a suggestion and do not hold it.

    Returns
    -------
    DataFrame
        One row for each sample that was decided about, in the order of the file, with the columns
        `CORRECTION_COLUMNS`; and ``given_label`` where the file has it. All text, "" where there is
        nothing. ``corrected_label`` is filled in for `accept` and `relabel`, and "" for the others.

    Raises
    ------
    SourceError
        The file is not there or not one of these, a decision is not known, a label is missing, or two
        rows decide differently about a sample.
    """
    path = corrections_path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist; check the path of the corrections")
    suffix = suffix_of(path.name)
    if suffix not in ("csv", "tsv", "json"):
        raise SourceError(
            f"{path} is no table of corrections; give corrections.csv, an edited suspects.csv, or an"
            " export of Label Studio (.json or .csv)"
        )
    frame = read_json(path) if suffix == "json" else _read_table(path)
    return check_corrections(frame, str(path), suggestions)


def corrections_path(path: str | Path) -> Path:
    """Give the file that a path means: itself, or that of a run folder which holds decisions.

    Raises
    ------
    SourceError
        If nothing was decided in the folder yet, or two files hold decisions.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    found = file_of_decisions(path)
    if found is None:
        raise SourceError(f"nothing was decided in {path} yet; run: labelaudit review {path}")
    return found


def file_of_decisions(folder: Path) -> Path | None:
    """Give the file of a run folder that holds decisions; None where nothing was decided yet.

    Parameters
    ----------
    folder : Path
        A run folder.

    Raises
    ------
    SourceError
        If two files hold decisions, or one of them cannot be read.
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
            f"both {corrections} and {suspects} hold decisions; move one of the two files elsewhere"
        )
    if edited:
        return suspects
    return corrections if corrections.exists() else None


def _read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV file, with the comma or another separator, as ours or as Label Studio's."""
    text = read_text(path)
    sign = separator_of(text)
    header = text.partition("\n")[0]
    if "annotation_id" in [name.strip(' "\r') for name in header.split(sign)]:
        return read_table(text, path)
    frame: pd.DataFrame = parse_csv(_with_commas(text, sign, path) if sign != "," else text, path)
    return frame


def _with_commas(text: str, sign: str, path: Path) -> str:
    """Write the columns of text of a table with another separator anew, cells quoted."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=sign, strict=True))
    except csv.Error as error:
        raise SourceError(f"{path} is not CSV: {error}") from error
    # Only columns of text matter here; the others need not be read as numbers.
    names = [name.strip() for name in rows[0]]
    wanted = [
        place
        for place, name in enumerate(names)
        if name in (*CORRECTION_COLUMNS, GIVEN_LABEL, "suggested_label")
    ]
    for row in rows:
        if any(row):
            writer.writerow([row[place] if place < len(row) else "" for place in wanted])
    return out.getvalue()

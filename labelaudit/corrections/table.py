"""The table of corrections: the decision of a person about each suspect label.

The review page, `labelaudit review`, an edited suspects.csv and the exports of Label Studio are all
turned into this table. docs/reference/corrections.md describes it for users.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from labelaudit.errors import SourceError
from labelaudit.reporting.tables import write_csv

ACCEPT, KEEP, RELABEL, EXCLUDE, UNSURE = "accept", "keep", "relabel", "exclude", "unsure"
DECISIONS = (ACCEPT, KEEP, RELABEL, EXCLUDE, UNSURE)
"""`accept` the suggested label, `keep` the given one, `relabel` with another one, `exclude` the sample,
or leave it open (`unsure`)."""

CORRECTION_COLUMNS = (
    "sample_id",
    "decision",
    "corrected_label",
    "note",
    "reviewer",
    "reviewed_at",
)
"""Columns of corrections.csv, in order."""

GIVEN_LABEL = "given_label"
"""An additional column of tables that labelaudit writes: the label that was decided about. If the table
has it, a decision is not applied to a sample whose label has changed since."""


def write_corrections(corrections: pd.DataFrame, path: Path) -> None:
    """Write corrections.csv, atomically, with text quoted as in suspects.csv.

    Columns that people have added come last. Raises OutputError if the file cannot be written.
    """
    more = sorted(
        (name for name in corrections if name not in CORRECTION_COLUMNS),
        key=lambda name: name != GIVEN_LABEL,
    )
    write_csv(corrections.loc[:, [*CORRECTION_COLUMNS, *more]], path)


def check_corrections(
    frame: pd.DataFrame, where: str, suggestions: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Check decisions and fill in the labels that they mean, as `read_corrections` does.

    Parameters
    ----------
    frame : DataFrame
        A table with ``sample_id`` and ``decision``. It may have the other `CORRECTION_COLUMNS`,
        ``given_label`` and ``suggested_label``.
    where : str
        Name of the table in messages.
    suggestions : mapping of str to str, optional
        See `labelaudit.corrections.reading.read_corrections`.

    Returns
    -------
    DataFrame
        As from `read_corrections`.

    Raises
    ------
    SourceError
        A column is missing, a decision is not known, a label is missing, or two rows have different
        decisions about a sample.
    """
    for name in ("sample_id", "decision"):
        if list(frame.columns).count(name) > 1:
            raise SourceError(f'{where} has two columns "{name}"; rename one of them')
        if name not in frame:
            raise SourceError(
                f'{where} has no column "{name}"; its columns are {", ".join(map(str, frame))}'
            )
    texts = pd.DataFrame(
        {
            name: frame[name].astype(object).where(frame[name].notna(), "").astype(str)
            for name in (*CORRECTION_COLUMNS, GIVEN_LABEL, "suggested_label")
            if name in frame
        }
    )
    for name in CORRECTION_COLUMNS:
        if name not in texts:
            texts[name] = ""
    texts["decision"] = texts["decision"].str.strip().str.lower()
    # A new label without a decision means to relabel.
    typed = (texts["decision"] == "") & (texts["corrected_label"] != "")
    texts.loc[typed, "decision"] = RELABEL
    texts = texts[texts["decision"] != ""]
    rows = []
    seen: dict[str, tuple[str, str]] = {}
    for cells in texts.to_dict("records"):
        row = {str(name): str(value) for name, value in cells.items()}
        decision, sample = row["decision"], row["sample_id"]
        if decision not in DECISIONS:
            raise SourceError(
                f'{where}: the decision about "{sample}" is "{decision}"; write one of'
                f" {', '.join(DECISIONS)}, or leave it empty"
            )
        row["corrected_label"] = _meant(row, where, suggestions or {})
        meant = decision_meant(row)
        if sample in seen:
            if seen[sample] != meant:
                raise SourceError(
                    f'{where} has two decisions about "{sample}": {described(seen[sample])} and'
                    f" {described(meant)}; keep one of the rows"
                )
            continue
        seen[sample] = meant
        rows.append(row)
    columns = [*CORRECTION_COLUMNS, *([GIVEN_LABEL] if GIVEN_LABEL in texts else [])]
    return pd.DataFrame(rows, columns=columns, dtype="str")


def decision_meant(row: Mapping[str, str]) -> tuple[str, str]:
    """Return the effect of a row: "label" and the label, or the decision and ""."""
    if row["decision"] in (ACCEPT, RELABEL):
        return "label", row["corrected_label"]
    return row["decision"], ""


def label_before(corrected: str, *labels: str) -> str:
    """Return the label that a decision was about.

    Parameters
    ----------
    corrected : str
        The label that the decision sets, "" if it keeps the given one.
    *labels : str
        The label now, and the label at the time of the decision; "" if there is none. A label that
        equals the corrected one is skipped, because the correction may have been written already.

    Returns
    -------
    str
        "" if the label is not known, or if there was none.
    """
    return next((label for label in labels if label and label != corrected), "")


def _meant(row: Mapping[str, str], where: str, suggestions: Mapping[str, str]) -> str:
    """Return the label that a decision sets, "" if it sets none."""
    decision, sample, label = row["decision"], row["sample_id"], row["corrected_label"]
    if decision not in (ACCEPT, RELABEL):
        if label and not (decision == KEEP and label == row.get(GIVEN_LABEL, "")):
            raise SourceError(
                f'{where}: the decision about "{sample}" is {decision}, but corrected_label is'
                f' "{label}"; write {RELABEL}, or clear corrected_label'
            )
        return ""
    if label:
        return label
    if decision == RELABEL:
        raise SourceError(
            f'{where}: "{sample}" is to be relabeled, but corrected_label is empty; write the right'
            " label into it"
        )
    label = row.get("suggested_label", "") or suggestions.get(sample, "")
    if not label:
        raise SourceError(
            f'{where}: the suggestion for "{sample}" is accepted, but the table does not contain it;'
            " write it into corrected_label"
        )
    return label


def described(meant: tuple[str, str]) -> str:
    """Return the result of `decision_meant` in words."""
    return f'label "{meant[1]}"' if meant[0] == "label" else meant[0]

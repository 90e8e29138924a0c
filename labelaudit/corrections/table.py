"""The table of corrections: what a person decided about each suspect label.

The review page, `labelaudit review`, an edited suspects.csv and the exports of Label Studio all come
down to this one table. docs/corrections.md describes it for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from labelaudit.errors import SourceError
from labelaudit.reporting.tables import write_csv

ACCEPT, KEEP, RELABEL, EXCLUDE, UNSURE = "accept", "keep", "relabel", "exclude", "unsure"
DECISIONS = (ACCEPT, KEEP, RELABEL, EXCLUDE, UNSURE)
"""`accept` the suggested label, `keep` the given one, `relabel` with another, `exclude` the sample,
or `unsure`."""

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
"""One more column, of tables that labelaudit writes: the label that was decided about. Where it is
there, no decision is taken over to a sample that has another label by now."""


def write_corrections(corrections: pd.DataFrame, path: Path) -> None:
    """Write corrections.csv, whole or not at all; text is quoted as in suspects.csv.

    Parameters
    ----------
    corrections : DataFrame
        With the columns `CORRECTION_COLUMNS`, and maybe `GIVEN_LABEL`, all text.
    path : Path
        The file to write.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    more = [GIVEN_LABEL] if GIVEN_LABEL in corrections else []
    write_csv(corrections.loc[:, [*CORRECTION_COLUMNS, *more]], path)


def check_corrections(
    frame: pd.DataFrame, where: str, suggestions: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Check decisions and fill in the labels that they mean, as `read_corrections` does.

    Parameters
    ----------
    frame : DataFrame
        With ``sample_id`` and ``decision``; maybe the other `CORRECTION_COLUMNS`, ``given_label`` and
        ``suggested_label``.
    where : str
        What to call the table in messages.
    suggestions : mapping of str to str, optional
        See `labelaudit.corrections.reading.read_corrections`.
    """
    for name in ("sample_id", "decision"):
        if list(frame.columns).count(name) > 1:
            raise SourceError(f'{where} has two columns "{name}"; rename one')
        if name not in frame:
            raise SourceError(
                f'{where} has no column "{name}"; columns there: {", ".join(map(str, frame))}'
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
    # Who has typed a new label, and nothing else, has decided.
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
                    f'{where} decides twice about "{sample}": {told_meant(seen[sample])} and'
                    f" {told_meant(meant)}; keep one of the rows"
                )
            continue
        seen[sample] = meant
        rows.append(row)
    columns = [*CORRECTION_COLUMNS, *([GIVEN_LABEL] if GIVEN_LABEL in texts else [])]
    return pd.DataFrame(rows, columns=columns, dtype="str")


def decision_meant(row: Mapping[str, str]) -> tuple[str, str]:
    """Give what a row comes down to: "label" and which, or its decision; the rest may differ."""
    if row["decision"] in (ACCEPT, RELABEL):
        return "label", row["corrected_label"]
    return row["decision"], ""


def label_before(corrected: str, *labels: str) -> str:
    """Give the label that a decision was about.

    Parameters
    ----------
    corrected : str
        The label that the decision sets, "" if it keeps what is there.
    *labels : str
        The label as it is now, and as it was when it was decided about; "" where there is none. The
        corrected label may have been written already, so that it tells nothing.

    Returns
    -------
    str
        "" where that is not known, or there was no label.
    """
    return next((label for label in labels if label and label != corrected), "")


def _meant(row: Mapping[str, str], where: str, suggestions: Mapping[str, str]) -> str:
    """Give the label that a decision sets, "" if it sets none."""
    decision, sample, label = row["decision"], row["sample_id"], row["corrected_label"]
    if decision not in (ACCEPT, RELABEL):
        if label and not (decision == KEEP and label == row.get(GIVEN_LABEL, "")):
            raise SourceError(
                f'{where}: the decision about "{sample}" is {decision}, and corrected_label is'
                f' "{label}"; write {RELABEL}, or empty corrected_label'
            )
        return ""
    if label:
        return label
    if decision == RELABEL:
        raise SourceError(
            f'{where}: "{sample}" is to be relabeled, and corrected_label is empty; write the right'
            " label there"
        )
    label = row.get("suggested_label", "") or suggestions.get(sample, "")
    if not label:
        raise SourceError(
            f'{where}: the suggestion for "{sample}" is accepted, and the table does not hold it; write'
            " it into corrected_label"
        )
    return label


def told_meant(meant: tuple[str, str]) -> str:
    """Put in words what `decision_meant` gives."""
    return f'label "{meant[1]}"' if meant[0] == "label" else meant[0]

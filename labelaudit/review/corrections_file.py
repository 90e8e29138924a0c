"""corrections.csv as `labelaudit review` keeps it: read and rewritten with every decision."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from labelaudit.corrections.table import (
    ACCEPT,
    CORRECTION_COLUMNS,
    DECISIONS,
    GIVEN_LABEL,
    RELABEL,
    write_corrections,
)
from labelaudit.errors import SourceError
from labelaudit.files import locked
from labelaudit.reporting.tables import read_csv

MOST_LETTERS = 10_000  # of a label or note
Stamp = tuple[int, int, int]


class CorrectionsFile:
    """The corrections.csv of a run folder, rewritten whole with every change.

    Parameters
    ----------
    path
        The file; it need not be there yet.
    given_labels
        Of the samples that may be decided about, by sample id.

    Raises
    ------
    SourceError
        If there is such a file and it cannot be read.
    """

    def __init__(self, path: Path, given_labels: Mapping[str, str]) -> None:
        self.path = path
        self._given = dict(given_labels)
        self._lock = threading.Lock()
        self._seen: Stamp | None = None
        self._rows: dict[str, dict[str, str]] = {}
        self._read()

    def rows(self) -> list[dict[str, str]]:
        """Give all rows, with the columns `CORRECTION_COLUMNS` and `GIVEN_LABEL`."""
        with self._lock:
            self._read()
            return list(self._rows.values())

    def update(
        self, changes: Sequence[Mapping[str, Any]], reviewer: str
    ) -> tuple[int, list[tuple[str, str]]]:
        """Write changed decisions; one without decision and note takes the row away.

        Parameters
        ----------
        changes
            With ``sample_id``, ``decision``, ``corrected_label`` and ``note``.
        reviewer
            Who decided.

        Returns
        -------
        tuple
            How many samples are decided about now; and the changes that make no sense, which are not
            written: the sample and why.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        refused = []
        with self._lock, locked(self.path):
            self._read()
            rows = dict(self._rows)
            for change in changes:
                told = {name: change.get(name, "") for name in CORRECTION_COLUMNS[:4]}
                trouble = self._trouble(told)
                if trouble:
                    refused.append((str(told["sample_id"]), trouble))
                    continue
                sample = told["sample_id"]
                if told["decision"] not in (ACCEPT, RELABEL):
                    told["corrected_label"] = ""
                if told["decision"] or told["note"]:
                    who = {"reviewer": reviewer, "reviewed_at": now}
                    rows[sample] = {**told, **who, GIVEN_LABEL: self._given[sample]}
                else:
                    rows.pop(sample, None)
            columns = [*CORRECTION_COLUMNS, GIVEN_LABEL]
            frame = pd.DataFrame(list(rows.values()), columns=columns, dtype="str").fillna("")
            write_corrections(frame, self.path)
            self._rows = rows
            self._seen = stamp(self.path)
        return sum(row["decision"] != "" for row in rows.values()), refused

    def _trouble(self, told: Mapping[str, Any]) -> str:
        """Say why a change makes no sense, "" if it does."""
        if not all(isinstance(text, str) and len(text) <= MOST_LETTERS for text in told.values()):
            return "a decision is made of short texts"
        if told["sample_id"] not in self._given:
            return "this run does not list the sample"
        if told["decision"] not in ("", *DECISIONS):
            return f"a decision is one of {', '.join(DECISIONS)}"
        if told["decision"] in (ACCEPT, RELABEL) and not told["corrected_label"]:
            return "a label without a name cannot be set"
        return ""

    def _read(self) -> None:
        """Read the file again if something else has written it, so that nobody's decisions are lost."""
        state = stamp(self.path)
        if state == self._seen:
            return
        self._rows = {}
        if state is not None:
            frame = read_csv(self.path)
            missing = [name for name in CORRECTION_COLUMNS if name not in frame]
            if missing:
                raise SourceError(
                    f"{self.path} has no column {missing[0]!r}; move it away, or mend its header"
                )
            frame[GIVEN_LABEL] = frame.get(GIVEN_LABEL, pd.Series("", index=frame.index))
            columns = [*CORRECTION_COLUMNS, GIVEN_LABEL]
            for row in frame[columns].fillna("").astype(str).to_dict("records"):
                told = {str(name): text for name, text in row.items()}
                told["decision"] = told["decision"].strip().lower()  # as a person may write it
                self._rows[told["sample_id"]] = told
        self._seen = state


def stamp(path: Path) -> Stamp | None:
    """Give what changes where a file is written anew, None where there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size

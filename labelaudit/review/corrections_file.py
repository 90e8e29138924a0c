"""corrections.csv during a review: it is read and rewritten with every decision."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from labelaudit.corrections.reading import read_texts
from labelaudit.corrections.table import (
    ACCEPT,
    CORRECTION_COLUMNS,
    DECISIONS,
    GIVEN_LABEL,
    RELABEL,
)
from labelaudit.errors import SourceError
from labelaudit.files import locked
from labelaudit.reporting.tables import write_csv

MOST_LETTERS = 10_000  # length of a label or a note
COLUMNS = (*CORRECTION_COLUMNS, GIVEN_LABEL)
Stamp = tuple[int, int, int]


class CorrectionsFile:
    """The corrections.csv of a run folder. Every change rewrites the whole file.

    Columns that people have added are kept.

    Parameters
    ----------
    path
        The file; it need not exist yet.
    given_labels
        The given label, by sample id, of each sample that may be decided about.
    suggestions
        The suggested label by sample id, for rows of the file that accept it without naming it.

    Raises
    ------
    SourceError
        The file exists and cannot be read.
    """

    def __init__(
        self,
        path: Path,
        given_labels: Mapping[str, str],
        suggestions: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self._given = dict(given_labels)
        self._suggestions = dict(suggestions or {})
        self._lock = threading.Lock()
        self._seen: Stamp | None = None
        self._rows: dict[str, dict[str, str]] = {}
        self._others: list[str] = []  # columns that people have added
        self._read()

    def rows(self) -> list[dict[str, str]]:
        """Return all rows, with the columns `CORRECTION_COLUMNS` and `GIVEN_LABEL`."""
        with self._lock:
            self._read()
            return [{name: row[name] for name in COLUMNS} for row in self._rows.values()]

    def update(
        self,
        changes: Sequence[Mapping[str, Any]],
        reviewer: str,
        check: Callable[[], object] = lambda: None,
    ) -> tuple[int, list[tuple[str, str]]]:
        """Write changed decisions. A change without decision and note removes the row.

        Parameters
        ----------
        changes
            Each with ``sample_id``, ``decision``, ``corrected_label`` and ``note``.
        reviewer
            Name of the person who decided.
        check
            Called while no other process writes the file. It may raise, and then nothing is written.

        Returns
        -------
        tuple
            The number of samples that now have a decision. And the changes that were not written
            because they are not valid, as pairs of the sample and the reason.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        refused = []
        with self._lock, locked(self.path):
            check()
            self._read()
            rows = dict(self._rows)
            for change in changes:
                entry = {name: change.get(name, "") for name in CORRECTION_COLUMNS[:4]}
                trouble = self._trouble(entry)
                if trouble:
                    refused.append((str(entry["sample_id"]), trouble))
                    continue
                sample = entry["sample_id"]
                if entry["decision"] not in (ACCEPT, RELABEL):
                    entry["corrected_label"] = ""
                others = {name: rows.get(sample, {}).get(name, "") for name in self._others}
                if entry["decision"] or entry["note"] or any(others.values()):
                    signature = {"reviewer": reviewer, "reviewed_at": now}
                    rows[sample] = {
                        **entry,
                        **signature,
                        GIVEN_LABEL: self._given[sample],
                        **others,
                    }
                else:
                    rows.pop(sample, None)
            columns = [*COLUMNS, *self._others]
            frame = pd.DataFrame(list(rows.values()), columns=columns, dtype="str").fillna("")
            write_csv(frame, self.path)
            self._rows = rows
            self._seen = stamp(self.path)
        return sum(row["decision"] != "" for row in rows.values()), refused

    def _trouble(self, entry: Mapping[str, Any]) -> str:
        """Return the reason why a change is not valid, "" if it is valid."""
        if not all(isinstance(text, str) and len(text) <= MOST_LETTERS for text in entry.values()):
            return f"a decision consists of texts of at most {MOST_LETTERS:,} characters"
        if entry["sample_id"] not in self._given:
            return "the sample is not in the list of suspects"
        if entry["decision"] not in ("", *DECISIONS):
            return f"the decision must be one of {', '.join(DECISIONS)}"
        if entry["decision"] in (ACCEPT, RELABEL) and not entry["corrected_label"]:
            return "the corrected label has no name"
        return ""

    def _read(self) -> None:
        """Read the file again if another program has written it, so that no decision is lost."""
        state = stamp(self.path)
        if state == self._seen:
            return
        self._rows, self._others = {}, []
        if state is not None:
            frame = read_texts(self.path)
            if not frame.columns.is_unique:
                twice = frame.columns[frame.columns.duplicated()][0]
                raise SourceError(f"{self.path} has two columns {twice!r}; rename one of them")
            missing = [name for name in CORRECTION_COLUMNS if name not in frame]
            if missing:
                raise SourceError(
                    f"{self.path} has no column {missing[0]!r}; correct its header, or move the file"
                    " away"
                )
            frame[GIVEN_LABEL] = frame.get(GIVEN_LABEL, pd.Series("", index=frame.index))
            self._others = [str(name) for name in frame.columns if name not in COLUMNS]
            for row in frame.to_dict("records"):
                entry = {str(name): text for name, text in row.items()}
                entry["decision"] = entry["decision"].strip().lower()  # a person may have typed it
                if not entry["decision"] and entry["corrected_label"]:
                    entry["decision"] = RELABEL
                if entry["decision"] == ACCEPT and not entry["corrected_label"]:
                    entry["corrected_label"] = self._suggestions.get(entry["sample_id"], "")
                self._rows[entry["sample_id"]] = entry
        self._seen = state


def stamp(path: Path) -> Stamp | None:
    """Return values that change when a file is rewritten; None if there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size

"""The labels of all samples at the time of an audit. They show which rows of a label file are meant.

Decisions name few samples, and several rows could be theirs: row 3 or the row with the id 3, of the
training data or of the test data. The labels of all audited samples tell these apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from labelaudit.corrections.table import GIVEN_LABEL, decision_meant
from labelaudit.sources.name_matching import match_names

# Share of the labels that may have been changed in a file since its audit.
MOST_CHANGED = 0.1

Found = Mapping[str, Sequence[int]]
"""The rows of samples, by sample id."""


@dataclass(frozen=True, eq=False)
class AuditedLabels:
    """The labels that samples had in an audit, or may have had.

    Attributes
    ----------
    labels : mapping of str to collection of str
        By sample id, the labels that the row of the sample may have now. Samples of which nothing is
        known are missing.
    are_complete : bool
        Whether all samples of the audit are there, and not only those that were decided about.
    """

    labels: Mapping[str, Collection[str]]
    are_complete: bool

    @classmethod
    def of(
        cls, samples: pd.DataFrame | None, decided: Sequence[Mapping[str, str]]
    ) -> AuditedLabels:
        """Return those of a run's samples, if there are any, and of decisions."""
        labels: dict[str, set[str]] = {}
        if samples is not None:
            there = samples[samples["given_label"].notna()]
            labels = {
                name: {label}
                for name, label in zip(there["sample_id"], there["given_label"], strict=True)
            }
            if "first_label" in samples:  # what the file may still have
                for name, first in zip(there["sample_id"], there["first_label"], strict=True):
                    labels[name].add(first)
        for row in decided:
            given = row.get(GIVEN_LABEL, "")
            if given or row["sample_id"] in labels:
                known = labels.setdefault(row["sample_id"], set())
                known |= {given, decision_meant(row)[1]}
        return cls(
            {name: known - {"", None} for name, known in labels.items()}, samples is not None
        )

    def changes(
        self, found: Found, current: Sequence[str], ids: Collection[str] | None = None
    ) -> int | None:
        """Return how many samples have another label in these rows than in the audit.

        Parameters
        ----------
        found
            The rows of each sample.
        current
            The label of each row of the file.
        ids
            The samples to look at, by default all whose labels are known.

        Returns
        -------
        int or None
            None if one of them has no row.
        """
        classes = set().union(*self.labels.values())
        same = match_names(set(current), classes)
        changed = 0
        for name in self.labels if ids is None else ids:
            rows, known = found.get(name), self.labels.get(name, ())
            if not rows:
                return None
            changed += len(known) > 0 and not any(
                current[row] in known or same.get(current[row]) in known for row in rows
            )
        return changed

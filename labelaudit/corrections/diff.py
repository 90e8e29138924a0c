"""Compare two runs on the same data set: what relabeling changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from labelaudit.corrections.run import Run, read_run
from labelaudit.errors import OutputError, SourceError
from labelaudit.reporting.tables import write_csv

CORRECTED = "corrected"
NEWLY_SUSPECT = "newly suspect"
NO_LONGER_SUSPECT = "no longer suspect"
LEFT_OUT = "left out"
ADDED = "added"
CHANGES = (CORRECTED, NEWLY_SUSPECT, NO_LONGER_SUSPECT, LEFT_OUT, ADDED)
"""The possible changes of a labeled sample between two runs."""

DIFF_COLUMNS = (
    "sample_id",
    "change",
    "given_label_a",
    "given_label_b",
    "suspect_score_a",
    "suspect_score_b",
    "suggested_label_b",
    "trusted_a",
    "trusted_b",
)


@dataclass(frozen=True, eq=False)
class RunDiff:
    """The differences between run A and the later run B.

    Attributes
    ----------
    table : DataFrame
        One row per sample that differs, with the columns `DIFF_COLUMNS`. The rows are in the order of
        `CHANGES`. Within a change, the most suspect sample comes first (by the score of B, or of A if
        B does not have the sample).
    counts : dict
        Number of samples by change, with a key for each of `CHANGES`.
    still_suspect : int
        Number of samples that are flagged in both runs and have the same given label.
    num_labeled_a, num_labeled_b : int
        Number of labeled samples.
    num_suspects_a, num_suspects_b : int
        Number of flagged samples.
    expected_wrong_a, expected_wrong_b : float or None
        Expected number of wrong labels.
    expected_wrong_interval_a, expected_wrong_interval_b : tuple of float, or None
        90% interval of that number; None if it is not known.
    trusted_a, trusted_b : bool
        Whether the results can be trusted.
    """

    table: pd.DataFrame
    counts: dict[str, int]
    still_suspect: int
    num_labeled_a: int
    num_labeled_b: int
    num_suspects_a: int
    num_suspects_b: int
    expected_wrong_a: float | None
    expected_wrong_b: float | None
    expected_wrong_interval_a: tuple[float, float] | None
    expected_wrong_interval_b: tuple[float, float] | None
    trusted_a: bool
    trusted_b: bool


def diff_runs(a: Run | str | Path, b: Run | str | Path) -> RunDiff:
    """Compare two runs on the same data set, sample by sample.

    Parameters
    ----------
    a, b : Run, str or Path
        The earlier and the later run, or their folders.

    Returns
    -------
    RunDiff
        Samples are matched by their id. "corrected" means that the given label differs, whatever else
        changed. "left out" means that only A has a label for the sample, and "added" that only B has
        one. Samples that have no label in both runs are not compared.

    Raises
    ------
    SourceError
        A folder is not a finished run, or the runs have no sample in common.
    """
    a = a if isinstance(a, Run) else read_run(a)
    b = b if isinstance(b, Run) else read_run(b)
    _check_common(a, b)
    columns = ["sample_id", "given_label", "suspect_score", "suggested_label", "is_label_issue"]
    both = a.labeled[columns].merge(
        b.labeled[columns],
        on="sample_id",
        how="outer",
        suffixes=("_a", "_b"),
        indicator=True,
        validate="one_to_one",
    )
    only_a, only_b = (both["_merge"] == "left_only", both["_merge"] == "right_only")
    common = ~only_a & ~only_b
    # Outside `common` one of the two values is missing and is not used below.
    flagged_a = both["is_label_issue_a"].eq(True).to_numpy(bool)
    flagged_b = both["is_label_issue_b"].eq(True).to_numpy(bool)
    corrected = common & both["given_label_a"].ne(both["given_label_b"])
    same = common & ~corrected
    conditions = [corrected, same & ~flagged_a & flagged_b, same & flagged_a & ~flagged_b]
    conditions += [only_a, only_b]
    # Index into `CHANGES`; -1 if nothing changed.
    change = np.select(
        [condition.to_numpy(bool) for condition in conditions], range(len(CHANGES)), default=-1
    )
    table = both[change >= 0].assign(order=change[change >= 0])
    table["change"] = pd.Series(
        [CHANGES[number] for number in table["order"]], table.index, dtype="str"
    )
    table = table.assign(trusted_a=a.trusted, trusted_b=b.trusted)
    table["score"] = table["suspect_score_b"].fillna(table["suspect_score_a"])
    table = table.sort_values(
        ["order", "score", "sample_id"], ascending=[True, False, True], kind="stable"
    )
    return RunDiff(
        table=table[list(DIFF_COLUMNS)].reset_index(drop=True),
        counts={name: int((change == number).sum()) for number, name in enumerate(CHANGES)},
        still_suspect=int((same & flagged_a & flagged_b).sum()),
        num_labeled_a=len(a.labeled),
        num_labeled_b=len(b.labeled),
        num_suspects_a=len(a.suspects),
        num_suspects_b=len(b.suspects),
        expected_wrong_a=a.summary.expected_wrong,
        expected_wrong_b=b.summary.expected_wrong,
        expected_wrong_interval_a=a.summary.expected_wrong_interval,
        expected_wrong_interval_b=b.summary.expected_wrong_interval,
        trusted_a=a.trusted,
        trusted_b=b.trusted,
    )


def _check_common(a: Run, b: Run) -> None:
    """Raise if the runs have no sample in common."""
    for run in (a, b):
        if not len(run.samples):
            raise SourceError(f"the run in {run.path} has no samples; choose another run")
    if not a.samples["sample_id"].isin(b.samples["sample_id"]).any():
        raise SourceError(
            f"{a.path} and {b.path} have no sample in common: their first samples are"
            f' "{a.samples["sample_id"].iloc[0]}" and "{b.samples["sample_id"].iloc[0]}"; compare runs'
            " on the same data set"
        )


def write_diff(found: RunDiff, path: str | Path, *, force: bool = False) -> None:
    """Write the table of a comparison as CSV, atomically.

    Raises OutputError if the file exists already, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not force:
        raise OutputError(
            f"{path} already exists; replace it with `force=True`, or choose another `out`"
        )
    write_csv(found.table, path)

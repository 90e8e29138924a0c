"""What a scan found, as data frames and plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelaudit.training.recorder import EpsilonHistory


@dataclass(frozen=True)
class ScanResult:
    """What a scan found.

    Attributes
    ----------
    samples
        Every sample, in the data set's order; columns as in
        `labelaudit.suspects.table.samples_table`.
    suspects
        Flagged samples, worst first; what suspects.csv holds.
    duplicates
        Pairs of samples that are the same, or nearly, and have different labels; what duplicates.csv
        holds. Columns as in `labelaudit.suspects.duplicates.conflicting_duplicates`.
    summary
        What summary.json holds (docs/run-folder.md lists its keys).
    pred_probs
        ``(N, C)`` floats, the guider's class probabilities, rows in the order of `samples`; or those
        that were brought along.
    embeddings
        ``(N, d)`` float32, the guider's mean z_a; None where nothing was trained.
    history
        ε and both probabilities of every labeled sample after every epoch; None where nothing was
        trained.
    run_dir
        Where the files are; None if none were asked for.
    """

    samples: pd.DataFrame
    suspects: pd.DataFrame
    duplicates: pd.DataFrame
    summary: dict[str, Any]
    pred_probs: np.ndarray
    embeddings: np.ndarray | None
    history: EpsilonHistory | None
    run_dir: Path | None = None

    def __repr__(self) -> str:
        summary = self.summary
        where = f", files in {self.run_dir}" if self.run_dir else ""
        trust = summary["trust"]
        distrust = "" if trust["trustworthy"] else f". DO NOT TRUST THIS: {trust['reasons'][0]}"
        return (
            f"<ScanResult of {summary['name']}: {summary['num_suspects']:,} of"
            f" {summary['num_labeled']:,} labels flagged{where}{distrust}>"
        )

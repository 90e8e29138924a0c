"""What an audit found: tables, arrays, the summary, and the further contents of a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from labelaudit.reporting.evidence import Evidence
from labelaudit.suspects.summary import Summary
from labelaudit.training.recorder import EpsilonHistory


@dataclass(frozen=True, eq=False)
class RunContents:
    """Further contents of a run folder, besides the tables and the summary.

    Attributes
    ----------
    fingerprint
        Hash of samples and labels.
    settings
        Settings that must be the same for a run to be resumed.
    skipped
        Samples that could not be read: columns sample_id, path, reason.
    evidence
        Pictures and neighbors that the report shows beside a suspect.
    model
        Weights and settings as plain types, see `labelaudit.methods.umn.UMN.portable`; None if nothing
        was trained.
    """

    fingerprint: str
    settings: Mapping[str, Any]
    skipped: pd.DataFrame
    evidence: Evidence
    model: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Findings:
    """What an audit found; see `ScanResult` for the attributes."""

    samples: pd.DataFrame
    suspects: pd.DataFrame
    duplicates: pd.DataFrame
    summary: Summary
    pred_probs: np.ndarray
    embeddings: np.ndarray | None
    history: EpsilonHistory | None
    contents: RunContents = field(repr=False)

"""Tables of a scan without a scan, for the tests of what is written about them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labelaudit.reporting.tables import suspects_table
from labelaudit.suspects.summary import Summary

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "--></title><iframe src=https://evil.example>",
    "<!--<script>",
    "javascript:alert(1)",
    'one\u2028two\u2029three\\"</SCRIPT',
    "\u202egnp.exe שלום",
    "W" * 400,
    "",
)


class FakeHistory:
    """Labeled sample number i has ε = i / L in the last epoch."""

    def __init__(self, num_labeled: int, num_epochs: int) -> None:
        self.epochs = list(range(1, num_epochs + 1))
        self.num_labeled = num_labeled
        self.reads: list[int] = []

    def read(self, epoch: int) -> dict[str, np.ndarray]:
        self.reads.append(epoch)
        epsilon = np.arange(self.num_labeled) / self.num_labeled * epoch / len(self.epochs)
        return dict.fromkeys(("epsilon", "learner_prob", "guider_prob"), epsilon.astype("f4"))


@dataclass
class Case:
    """What a scan found, in the terms of `write_review_data` and `write_report`."""

    samples: pd.DataFrame
    suspects: pd.DataFrame
    summary: Summary
    history: FakeHistory


def make_samples(
    count: int, flagged: int, names: list[str], unlabeled_every: int, truth: bool
) -> pd.DataFrame:
    rows = np.arange(count)
    array = np.array(names, dtype=object)
    labeled = rows % unlabeled_every != 0 if unlabeled_every else np.ones(count, bool)
    score = np.where(labeled, (rows + 1) / count, np.nan)
    rank = pd.Series(score).rank(ascending=False).astype("Int64")
    given = np.where(labeled, array[rows % len(names)], None)
    suggested = np.where(labeled, array[(rows + 1 + rows // 7) % len(names)], None)
    samples = pd.DataFrame(
        {
            "sample_id": [f"row {row}" for row in rows],
            "path": "",
            "given_label": pd.Series(given, dtype="str"),
            "predicted_label": array[(rows + 1) % len(names)],
            "predicted_prob": 0.9,
            "suggested_label": pd.Series(suggested, dtype="str"),
            "suggested_prob": 0.8,
            "suspect_score": score,
            "label_score": 1 - score,
            "is_label_issue": (rank <= flagged).fillna(False).astype(bool),
            "rank": rank,
            "ambiguity": np.where(labeled, 0.2, np.nan),
            "trusted": True,
            "epsilon": np.where(labeled, rows / count, np.nan),
            "epsilon_mean": np.where(labeled, 0.2, np.nan),
            "guider_prob": np.where(labeled, 0.1, np.nan),
            "learner_prob": np.where(labeled, 0.3, np.nan),
        }
    )
    if truth:
        samples["clean_label"] = pd.Series(array[(rows + 1) % len(names)], dtype="str")
    return samples


def make_summary(samples: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    labeled = int(samples["given_label"].notna().sum())
    issue = samples["is_label_issue"]
    return {
        "name": "digits",
        "num_samples": len(samples),
        "num_labeled": labeled,
        "num_unlabeled": len(samples) - labeled,
        "num_classes": len(names),
        "class_names": names,
        "num_suspects": int(issue.sum()),
        "num_conflicting_duplicates": 0,
        "estimated_noise_rate": 0.12,
        "expected_wrong": 0.12 * labeled,
        "expected_wrong_interval": [0.1 * labeled, 0.14 * labeled],
        "review": {"explanation": "Expect half among the first 3.", "to_find": None, "curve": []},
        "threshold": {"value": 0.5, "rule": "auto", "explanation": "Above 0.5 are flagged."},
        "score": {
            "name": "posterior",
            "explanation": "The probability of a wrong label.",
            "assumption": "",
        },
        "mistakes": None,
        "trust": {"trustworthy": True, "reasons": []},
        "metrics": {},
        "per_class": [
            {
                "class_name": name,
                "num_labeled": int((samples["given_label"] == name).sum()),
                "num_suspects": int((issue & (samples["given_label"] == name)).sum()),
                "estimated_noise_rate": None,
            }
            for name in names
        ],
        "encoder": {"name": "mlp", "reason": "they are small and gray", "image_shape": [1, 8, 8]},
        "columns": {},
        "device": "cpu",
        "seed": 7,
        "epochs": 12,
        "seconds": 75.0,
        "status": "complete",
        "versions": {"labelaudit": "0.1.0", "torch": "2.15.0"},
        "warnings": [],
        "config": {"umn": {"ema_decay": 0.99}},
    }


@pytest.fixture
def hostile() -> tuple[str, ...]:
    """Texts that would do harm if a page did not treat them as text."""
    return HOSTILE


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """Make a case: samples whose ids are their rows, of which the last labeled ones are the worst.

    `edit` changes the samples before suspects and summary are made; other arguments change the
    summary.
    """

    def make(
        count: int = 60,
        flagged: int = 10,
        names: list[str] | None = None,
        epochs: int = 12,
        unlabeled_every: int = 0,
        truth: bool = False,
        edit: Callable[[pd.DataFrame], None] | None = None,
        **changes: Any,
    ) -> Case:
        names = names or [f"class {number}" for number in range(5)]
        samples = make_samples(count, flagged, names, unlabeled_every, truth)
        if edit:
            edit(samples)
        history = FakeHistory(int(samples["given_label"].notna().sum()), epochs)
        contents = make_summary(samples, names) | {"epochs": epochs} | changes
        summary = Summary.from_json(contents, "a summary")
        return Case(samples, suspects_table(samples), summary, history)

    return make

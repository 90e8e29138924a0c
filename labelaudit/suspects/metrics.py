"""Metrics: how well scores and flags match labels that are known to be wrong."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

CALIBRATION_BINS = 15
METRIC_NAMES = ("precision", "recall", "f1", "auroc", "average_precision")


def detection_metrics(
    suspect_score: np.ndarray, flagged: np.ndarray, wrong: np.ndarray
) -> dict[str, float | None]:
    """Compare scores and flags with the truth, by scikit-learn.

    Parameters
    ----------
    suspect_score
        ``(L,)`` floats, high = suspect.
    flagged, wrong
        ``(L,)`` bool, which labels are flagged, and which are really wrong.

    Returns
    -------
    dict
        `METRIC_NAMES`, each in [0, 1]. Precision is 0 where nothing is flagged. Recall, F1, AUROC and
        average precision are None where no label is wrong; AUROC also where all are.
    """
    precision, recall, f1, _ = precision_recall_fscore_support(
        wrong, flagged, average="binary", zero_division=0
    )
    some, mixed = bool(wrong.any()), bool(wrong.any() and not wrong.all())
    return {
        "precision": float(precision),
        "recall": float(recall) if some else None,
        "f1": float(f1) if some else None,
        "auroc": float(roc_auc_score(wrong, suspect_score)) if mixed else None,
        "average_precision": (
            float(average_precision_score(wrong, suspect_score)) if some else None
        ),
    }


def f1_at_true_count(suspect_score: np.ndarray, wrong: np.ndarray) -> float | None:
    """Compute F1 if as many labels are flagged as are wrong.

    Parameters
    ----------
    suspect_score
        ``(L,)`` floats, high = suspect.
    wrong
        ``(L,)`` bool, which labels are really wrong.

    Returns
    -------
    float or None
        In [0, 1]; it equals precision and recall. None where no label is wrong.
    """
    count = int(wrong.sum())
    if count == 0:
        return None
    worst = np.argsort(-np.asarray(suspect_score), kind="stable")[:count]
    return float(wrong[worst].mean())


def expected_calibration_error(
    prob: np.ndarray, outcome: np.ndarray, *, between: tuple[float, float] = (0.0, 1.0)
) -> float | None:
    """Compute the expected calibration error of Guo et al. 2017 (https://arxiv.org/abs/1706.04599).

    It is the mean distance between predicted probability and observed share in 15 bins of equal width.
    Bins are weighted by their number of samples.

    Parameters
    ----------
    prob
        ``(L,)`` in [0, 1], predicted probabilities.
    outcome
        ``(L,)`` bool, what happened.
    between
        Only probabilities in this range are used, ends included.

    Returns
    -------
    float or None
        In [0, 1]; None where no probability lies in the range.
    """
    low, high = between
    inside = (prob >= low) & (prob <= high)
    prob, outcome = np.asarray(prob)[inside], np.asarray(outcome)[inside]
    if not len(prob):
        return None
    bins = np.minimum((prob * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    surplus = np.bincount(bins, weights=prob - outcome, minlength=CALIBRATION_BINS)
    return float(np.abs(surplus).sum() / len(prob))

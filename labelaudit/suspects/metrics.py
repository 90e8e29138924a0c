"""How well suspects match known errors."""

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
    """Score a ranking and its cut against the truth, by scikit-learn.

    Parameters
    ----------
    suspect_score
        ``(L,)``, high = suspect.
    flagged, wrong
        ``(L,)`` bool: what was flagged, and what is truly wrong.

    Returns
    -------
    dict
        `METRIC_NAMES`, each in [0, 1]. Nothing flagged has precision 0. `recall`, `f1`, `auroc`
        and `average_precision` are None where no label is wrong (auroc also where all are).
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
    """F1 when as many labels are flagged as are wrong: what a perfect threshold would give.

    Parameters
    ----------
    suspect_score
        ``(L,)``, high = suspect.
    wrong
        ``(L,)`` bool.

    Returns
    -------
    float or None
        In [0, 1]; precision and recall are the same there. None where no label is wrong.
    """
    count = int(wrong.sum())
    if count == 0:
        return None
    worst = np.argsort(-np.asarray(suspect_score), kind="stable")[:count]
    return float(wrong[worst].mean())


def expected_calibration_error(
    prob: np.ndarray, outcome: np.ndarray, *, between: tuple[float, float] = (0.0, 1.0)
) -> float | None:
    """Mean distance between what was predicted and what happened, over 15 bins of equal width.

    The expected calibration error of Guo et al. 2017 (https://arxiv.org/abs/1706.04599): bins weigh by
    their samples.

    Parameters
    ----------
    prob
        ``(L,)`` in [0, 1].
    outcome
        ``(L,)`` bool.
    between
        Look at probabilities in this range alone, ends included.

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

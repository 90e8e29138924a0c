"""One explanation of the given labels of very many classes, fitted to condensed probabilities.

This is `labelaudit.suspects.expectation_maximization` with a sparse W: most of its cells hold no label,
and have the same value in a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from labelaudit.sources.manifest import Verified
from labelaudit.suspects.condensed import KEPT_CLASSES, Condensed, Pairs
from labelaudit.suspects.expectation_maximization import (
    BIAS_PSEUDO_COUNT,
    CELL_PSEUDO_COUNT,
    DIAGONAL_PSEUDO_COUNT,
    FEWEST_ROUNDS,
    MIN_JOINT,
    ROUNDS,
    TOLERANCE,
)
from labelaudit.suspects.explanations import Explanation, SparseConfusion

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class CondensedSample:
    """The samples that explanations are fitted to.

    Attributes
    ----------
    probs
        Condensed probabilities. Their given labels are those that were given at first, if known.
    pairs
        The pairs of classes among them.
    verified
        ``(n,)`` bool, whether a person has verified the label.
    known
        ``(k,)`` int64, rows whose right class and first given label are both known.
    right
        ``(k,)`` int64, the columns of their right classes.
    """

    probs: Condensed
    pairs: Pairs
    verified: npt.NDArray[np.bool_]
    known: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        probs: Condensed,
        labels: npt.NDArray[np.int64],
        verified: Verified | None = None,
    ) -> CondensedSample:
        """Make the sample from probabilities that keep the current and the first labels ``(n,)``."""
        mask, known = np.zeros(len(probs), dtype=bool), np.empty(0, dtype=np.int64)
        if verified is not None:
            mask = verified.labels
            known = np.flatnonzero(mask & (verified.first_given >= 0))
        right = (probs.classes[known] == labels[known, None]).argmax(axis=1)
        return cls(probs, probs.pairs(), mask, known, right)

    def first_confusion(self) -> SparseConfusion:
        """Return a W with a large diagonal, from which fits start."""
        classes, pairs = self.probs.num_classes, self.pairs
        diagonal = np.full(classes, 4.0 * (classes - 1))
        cells = np.ones(len(pairs.right))
        return SparseConfusion(diagonal, np.ones(classes), pairs.right, pairs.given, cells)


def fit_sparse_explanation(
    sample: CondensedSample,
    sharpness: float,
    follow: float,
    confusion: SparseConfusion,
    class_bias: Floats,
    *,
    fit_bias: bool,
) -> Explanation:
    """Fit W, and b if `fit_bias` is set, with s and t fixed.

    Parameters
    ----------
    sample
        The samples and their labels.
    sharpness, follow
        s and t.
    confusion, class_bias
        Where W and b ``(C,)`` start.
    fit_bias
        Whether b is fitted too.

    Returns
    -------
    Explanation
        Without a weight (NaN) and without a transition matrix.
    """
    probs = sample.probs
    classes = probs.num_classes
    soft = np.exp(follow * probs.log_probs)  # (n, K), of one class of a column
    base = soft @ np.exp(probs.log_sizes)  # (n,), Σ_j P_j^t
    mean_log_soft = follow * float(probs.log_probs[:, 0].mean())
    sharp = sharpness * probs.log_probs + probs.log_sizes
    truth = softmax(sharp + np.append(class_bias, 0.0)[probs.classes], axis=1)
    average = float(confusion.diagonal.mean())  # of the classes of a band
    likelihood = -math.inf
    for done in range(ROUNDS):
        if follow:
            diagonal = np.append(confusion.diagonal, average)
            total = base[:, None] + soft * (diagonal[probs.classes] - 1.0)  # (n, K)
        else:
            total = np.append(confusion.total(), average + classes - 1.0)[probs.classes]
        joint, log_evidence = _posterior(sample, truth, confusion, total)
        before, likelihood = likelihood, log_evidence + mean_log_soft
        if done > FEWEST_ROUNDS and abs(likelihood - before) < TOLERANCE:
            break
        confusion, average = _confusion(sample, joint, joint / total, soft, base, pairs=not follow)
        if fit_bias:
            shift = probs.total(joint)[:-1] + BIAS_PSEUDO_COUNT
            class_bias = class_bias + np.log(shift / (probs.total(truth)[:-1] + BIAS_PSEUDO_COUNT))
            class_bias = class_bias - class_bias.mean()
            truth = softmax(sharp + np.append(class_bias, 0.0)[probs.classes], axis=1)
    wrong = (1.0 - joint[:, 0])[~sample.verified]
    # A single class of a band is never the likeliest one.
    likeliest = np.where(probs.log_sizes > 0.0, 0.0, truth).max(axis=1)
    return Explanation(
        weight=math.nan,
        sharpness=sharpness,
        follow=follow,
        class_bias=class_bias,
        confusion=confusion,
        log_likelihood=likelihood,
        wrong_share=_mean(wrong),
        variance_share=_mean(wrong * (1.0 - wrong)),
        uncertainty_share=_mean((1.0 - likeliest)[~sample.verified]),
    )


def _posterior(
    sample: CondensedSample, truth: Floats, confusion: SparseConfusion, total: Floats
) -> tuple[Floats, float]:
    """Return P(y = k | x, ỹ), ``(n, K)``, and the mean log-likelihood of the labels without P_ỹ^t."""
    joint = truth / total
    joint[:, 0] *= confusion.diagonal[sample.probs.given]
    joint[:, 1 : 1 + KEPT_CLASSES] *= confusion.cells[sample.pairs.index]
    if len(sample.known):
        certain = np.maximum(joint[sample.known, sample.right], MIN_JOINT)
        joint[sample.known] = 0.0
        joint[sample.known, sample.right] = certain
    evidence = joint.sum(axis=1, keepdims=True)
    joint /= evidence
    return joint, float(np.log(evidence).mean())


def _confusion(
    sample: CondensedSample,
    joint: Floats,
    ratio: Floats,
    soft: Floats,
    base: Floats,
    *,
    pairs: bool,
) -> tuple[SparseConfusion, float]:
    """Estimate W and the average of its diagonal.

    Parameters
    ----------
    sample
        The samples.
    joint, ratio
        P(y = k | x, ỹ), and the same divided by the sum of the channel, ``(n, K)``.
    soft, base
        P^t of one class of each column, ``(n, K)``, and its sum over all classes, ``(n,)``.
    pairs
        Whether cells beside the diagonal are fitted; otherwise they are 1.
    """
    probs, found, classes = sample.probs, sample.pairs, sample.probs.num_classes
    right = np.bincount(probs.given, weights=joint[:, 0], minlength=classes)
    # Expected counts if all cells of W were 1: on the diagonal, and beside it in all.
    expected = probs.total(ratio * soft)
    beside = float((ratio.sum(axis=1) * base).sum() - expected.sum())
    expected *= (len(probs) - right.sum() + 1.0) / (beside + 1.0)
    average = float(right.sum() / expected.sum())
    pseudo_count = DIAGONAL_PSEUDO_COUNT * right.sum() / len(probs)
    diagonal = (right + pseudo_count) / (expected[:-1] + pseudo_count / average)
    usual: Floats = np.ones(classes)
    cells: Floats = np.ones(len(found.right))
    if pairs:
        usual = CELL_PSEUDO_COUNT / (expected[:-1] + CELL_PSEUDO_COUNT)
        cells = usual[found.right] * (found.total(joint) / CELL_PSEUDO_COUNT + 1.0)
    return SparseConfusion(diagonal, usual, found.right, found.given, cells), average


def _mean(values: Floats) -> float:
    """Return the mean; 0 if there are no values, because all labels are verified."""
    return float(values.mean()) if len(values) else 0.0

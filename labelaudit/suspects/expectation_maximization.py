"""One explanation of the given labels, fitted by expectation maximization.

The maximization step is exact for t = 0 (Dawid and Skene 1979, https://doi.org/10.2307/2346806). For
t > 0 it is one step of iterative scaling (Hunter 2004, https://doi.org/10.1214/aos/1079120141, for the
Plackett-Luce family, of which the channel is a member).

A verified label has a known right class. If the label that was given at first is known too, the
expectation for this sample is certain. A corrected label alone says nothing about how mistakes arise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import softmax

from labelaudit.sources.manifest import Verified
from labelaudit.suspects import explanations
from labelaudit.suspects.explanations import Explanation, channel_total

Floats = npt.NDArray[np.floating]

MIN_JOINT = 1e-300  # keeps a known right class possible where the model finds it impossible
# Pseudo-counts, in labels: each cell of W beside the diagonal is drawn towards the average of these
# cells, each diagonal cell towards the average diagonal, each class's share towards an even share.
CELL_PSEUDO_COUNT = 2.0
DIAGONAL_PSEUDO_COUNT = 20.0
BIAS_PSEUDO_COUNT = 50.0
ROUNDS, FEWEST_ROUNDS = 60, 2
TOLERANCE = 1e-5  # of the mean log-likelihood between rounds


@dataclass(frozen=True)
class FitSample:
    """The samples that explanations are fitted to.

    Attributes
    ----------
    log_probs
        ``(n, C)`` float64, log P.
    given
        ``(n,)`` int64 in 0..C-1, the labels that were given at first, as far as they are known.
    by_given
        ``(C, n)`` sparse, 1 where sample n was given class c.
    verified
        ``(n,)`` bool, whether a person has verified the label.
    known
        ``(k,)`` int64, rows whose right class and first given label are both known.
    right
        ``(k,)`` int64, their right classes.
    """

    log_probs: Floats
    given: npt.NDArray[np.int64]
    by_given: csr_array
    verified: npt.NDArray[np.bool_]
    known: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls, log_probs: Floats, labels: npt.NDArray[np.int64], verified: Verified | None = None
    ) -> FitSample:
        """Make the sample from log P ``(n, C)``, the current labels ``(n,)``, and the verified ones."""
        size, classes = log_probs.shape
        given, mask = labels, np.zeros(size, dtype=bool)
        known = np.empty(0, dtype=np.int64)
        if verified is not None:
            given, mask = verified.as_given(labels), verified.labels
            known = np.flatnonzero(mask & (verified.first_given >= 0))
        by_given = csr_array((np.ones(size), (given, np.arange(size))), shape=(classes, size))
        return cls(log_probs, given, by_given, mask, known, labels[known])

    def unverified(self) -> FitSample:
        """Return the samples whose labels are not verified."""
        if not self.verified.any():
            return self
        return FitSample.of(self.log_probs[~self.verified], self.given[~self.verified])


def fit_explanation(
    sample: FitSample,
    sharpness: float,
    follow: float,
    confusion: Floats,
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
        ``(C, C)`` and ``(C,)``, where W and b start.
    fit_bias
        Whether b is fitted too.

    Returns
    -------
    Explanation
        Without a weight (NaN).
    """
    log_probs, given = sample.log_probs, sample.given
    size, classes = log_probs.shape
    rows = np.arange(size)
    soft = np.exp(follow * log_probs)  # (n, C), ones where t = 0
    mean_log_soft = follow * float(log_probs[rows, given].mean())
    sharp = sharpness * log_probs
    truth = softmax(sharp + class_bias, axis=1)
    likelihood = -math.inf
    has_pairs = not follow or classes <= explanations.MANY_CLASSES
    for done in range(ROUNDS):
        total = confusion.sum(axis=1)  # (C,), or (n, C) below
        if follow:
            total = channel_total(soft, confusion, has_pairs)
        joint, log_evidence = _posterior(sample, truth, confusion, total)
        before, likelihood = likelihood, log_evidence + mean_log_soft
        if done > FEWEST_ROUNDS and abs(likelihood - before) < TOLERANCE:
            break
        counts = np.asarray((sample.by_given @ joint).T)  # (C, C)
        exposure = _exposure(joint, total, soft, follows=bool(follow), has_pairs=has_pairs)
        confusion = _confusion(counts, exposure, has_pairs=has_pairs)
        if fit_bias:
            shift = joint.sum(axis=0) + BIAS_PSEUDO_COUNT
            class_bias = class_bias + np.log(shift / (truth.sum(axis=0) + BIAS_PSEUDO_COUNT))
            class_bias = class_bias - class_bias.mean()
            truth = softmax(sharp + class_bias, axis=1)
    wrong = (1.0 - joint[rows, given])[~sample.verified]
    uncertain = (1.0 - truth.max(axis=1))[~sample.verified]
    # Σ_n P(y = k | x, ỹ) P(j | y = k, x), the labels expected of each right class.
    transitions = confusion * np.maximum(exposure, MIN_JOINT)
    transitions /= transitions.sum(axis=1, keepdims=True)
    return Explanation(
        weight=math.nan,
        sharpness=sharpness,
        follow=follow,
        class_bias=class_bias,
        confusion=confusion,
        log_likelihood=likelihood,
        wrong_share=_mean(wrong),
        variance_share=_mean(wrong * (1.0 - wrong)),
        uncertainty_share=_mean(uncertain),
        transition_matrix=transitions.astype(np.float32),
    )


def _posterior(
    sample: FitSample, truth: Floats, confusion: Floats, total: Floats
) -> tuple[Floats, float]:
    """Return P(y = k | x, ỹ), ``(n, C)``, and the mean log-likelihood of the labels without P_ỹ^t."""
    joint = confusion.T[sample.given]
    joint /= total
    joint *= truth
    if len(sample.known):
        certain = np.maximum(joint[sample.known, sample.right], MIN_JOINT)
        joint[sample.known] = 0.0
        joint[sample.known, sample.right] = certain
    evidence = joint.sum(axis=1, keepdims=True)
    joint /= evidence
    return joint, float(np.log(evidence).mean())


def _exposure(
    joint: Floats, total: Floats, soft: Floats, *, follows: bool, has_pairs: bool
) -> Floats:
    """Return the expected counts of right and given classes, ``(C, C)``, if all cells of W were 1."""
    classes = joint.shape[1]
    if not follows:
        return np.repeat((joint.sum(axis=0) / total)[:, None], classes, axis=1)
    ratio = joint / total
    if has_pairs:
        return np.asarray(ratio.T @ soft)
    # The sum of the cells beside the diagonal is enough; it is spread evenly.
    own = (ratio * soft).sum(axis=0)
    rest = float((ratio.sum(axis=1) * soft.sum(axis=1)).sum() - own.sum())
    exposure = np.full((classes, classes), rest / (classes * (classes - 1)))
    np.fill_diagonal(exposure, own)
    return exposure


def _confusion(counts: Floats, exposure: Floats, *, has_pairs: bool) -> Floats:
    """Estimate W, ``(C, C)``, from expected counts and from those for W of ones.

    The average cell beside the diagonal is 1.
    """
    diagonal = np.eye(len(counts), dtype=bool)
    beside = ~diagonal
    exposure = exposure * ((counts[beside].sum() + 1.0) / (exposure[beside].sum() + 1.0))
    cells = np.ones_like(counts)
    if has_pairs:
        cells = (counts + CELL_PSEUDO_COUNT) / (exposure + CELL_PSEUDO_COUNT)
    right, expected = np.diag(counts), np.diag(exposure)
    # Pseudo-counts of right and expected labels are in the ratio of their sums, of which one may be 0.
    share = DIAGONAL_PSEUDO_COUNT / counts.sum()
    own = (right + share * right.sum()) / (expected + share * expected.sum())
    return np.where(diagonal, own[:, None], cells)


def _mean(values: Floats) -> float:
    """Return the mean; 0 if there are no values, because all labels are verified."""
    return float(values.mean()) if len(values) else 0.0

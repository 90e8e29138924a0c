"""The probability that each given label is wrong, from out-of-sample class probabilities.

The labels alone cannot tell a sample between two classes from a sample that people often label
wrongly. This model therefore separates two questions, and states what it assumes about each:

    the class of the sample:   P(y = k | x)         ∝  P_k(x)^s exp(b_k)
    the label it is given:     P(ỹ = j | y = k, x)  ∝  P_j(x)^t W_kj

P are the class probabilities of a model that has not seen the label. The *sharpness* s says how
certain P is about the right class. With t > 0 the channel *follows the image*: people confuse what
looks alike. With t = 0 it is the usual noise transition matrix T = W with normalized rows.

Labels cannot determine s and t together: "every label is right" and "every label is a draw from P"
explain the same labels equally well. So s has a prior (`SharpnessPrior`) that depends on the source of
P. The model is an average over *explanations*, which are pairs of s and t. Each has its own W
and b, fitted to the given labels (`labelaudit.suspects.expectation_maximization`). Explanations are
weighted by the prior and by the likelihood of the labels. The likelihood counts as that of only
`SharpnessPrior.evidence` samples: every model is wrong in its details, and with many samples these
details would decide. Each explanation expects its own number of wrong labels. Their weighted
distribution gives an interval that includes the uncertainty of s and t.

Given s, t, W and b, Bayes' rule gives

    P(y = k | x, ỹ)  ∝  P(y = k | x) P(ỹ | y = k, x).

docs/explanation/assumptions.md says what is assumed, and what follows where the assumptions are wrong.
The data that the constants were chosen on are in docs/explanation/research-log.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from labelaudit.memory import row_blocks
from labelaudit.sources.manifest import Verified
from labelaudit.suspects.annotators import VoteEvidence
from labelaudit.suspects.calibration import calibrating_exponent, softening_exponent
from labelaudit.suspects.condensed import Condensed, condense
from labelaudit.suspects.condensed_fitting import CondensedSample, fit_sparse_explanation
from labelaudit.suspects.expectation_maximization import FitSample, fit_explanation
from labelaudit.suspects.explanations import (
    Explanation,
    SparseConfusion,
    average_explanations,
)
from labelaudit.suspects.intervals import count_interval
from labelaudit.suspects.mistake_kinds import MistakeKinds, estimate_kinds
from labelaudit.suspects.nearest import draw
from labelaudit.suspects.sharpness_prior import SharpnessPrior

Floats = npt.NDArray[np.floating]
Confusion = Floats | SparseConfusion

# Number of samples in a fit: where an audit should take seconds, and where training took minutes.
FIT_SAMPLES, THOROUGH_SAMPLES = 8_000, 40_000
# With more classes than the first number there are fewer samples, but at least the second per class.
VALUES_PER_SAMPLE, FIT_SAMPLES_PER_CLASS = 50, 5
# With more classes than the first number, W is sparse and fitted to condensed probabilities of the
# second number of samples. Whatever needs all classes of its samples gets the third number of samples.
MOST_PAIRED_CLASSES, CONDENSED_SAMPLES, WIDE_SAMPLES = 1000, 4000, 2000
# Number of probabilities in memory at a time while labels are scored.
BLOCK_VALUES = 1 << 21

# log s is tried at these multiples of the prior's spread from its center.
STEPS = np.array([-4.0, -2.75, -1.7, -0.85, 0.0, 0.85, 1.7, 2.75, 4.0])
# t is tried at these shares of the exponent that calibrates P to the given labels. At a share of 1 the
# channel alone explains the labels as well as anything does, whatever the truth is.
FOLLOW_SHARES = np.array([0.0, 0.25, 0.5, 0.75])
# The least likely explanations are skipped when labels are scored; together they weigh less than this.
LEFT_OUT = 0.05


class Fit(Protocol):
    """Fits an explanation with given s and t, from a first W and b; see `fit_explanation`."""

    def __call__(
        self, sharpness: float, follow: float, confusion: Any, bias: Floats, /, *, fit_bias: bool
    ) -> Explanation:
        """Return the explanation, without a weight."""


@dataclass(frozen=True)
class LabelQuality:
    """The model's posterior of L labels.

    Attributes
    ----------
    wrong_prob
        ``(L,)`` float64 in [0, 1], P(y ≠ ỹ | x, ỹ).
    log_odds
        ``(L,)`` float64, log-odds of `wrong_prob`; they differ where that rounds to 1.
    suggested
        ``(L,)`` int64, the likeliest class other than the given one.
    suggested_prob
        ``(L,)`` float64 in [0, 1], the probability of `suggested`, given the label.
    ambiguity
        ``(L,)`` float64 in [0, 1], probability that two people would label the sample differently.
    class_uncertainty
        ``(L,)`` float64 in [0, 1], probability that the likeliest class without the label is not the
        right one.
    interval
        Range of the number of wrong labels in nine of ten cases.
    """

    wrong_prob: Floats
    log_odds: Floats
    suggested: npt.NDArray[np.int64]
    suggested_prob: Floats
    ambiguity: Floats
    class_uncertainty: Floats
    interval: tuple[float, float]


@dataclass(frozen=True)
class LabelModel:
    """Fitted explanations of the given labels; see the module.

    Attributes
    ----------
    explanations
        All fitted explanations, in no particular order.
    prior
        The prior that was used.
    calibration
        The exponent that calibrates P to the given labels.
    softness
        The exponent that calibrates P to the labels that people give, without the random ones.
    kinds
        Kinds of mistakes; None if hardly any label is expected to be wrong.
    """

    explanations: tuple[Explanation, ...]
    prior: SharpnessPrior
    calibration: float
    softness: float
    kinds: MistakeKinds | None = None

    def likely_explanations(self) -> tuple[Explanation, ...]:
        """Return the explanations that matter, with weights that sum to 1."""
        ordered = sorted(self.explanations, key=lambda one: -one.weight)
        total = np.cumsum([one.weight for one in ordered])
        count = min(len(ordered), int(np.searchsorted(total, 1.0 - LEFT_OUT)) + 1)
        share = float(total[count - 1])
        return tuple(replace(one, weight=one.weight / share) for one in ordered[:count])

    @property
    def transition_matrix(self) -> Floats | None:
        """T, ``(C, C)`` float64: T[i, j] = P(given j | right i), averaged over explanations.

        Rows sum to 1. Where a channel follows the image, it is the average channel over the samples.
        None with more than `MOST_PAIRED_CLASSES` classes.
        """
        if isinstance(self.explanations[0].confusion, SparseConfusion):
            return None
        classes = len(self.explanations[0].class_bias)
        average = np.zeros((classes, classes))
        for one in self.likely_explanations():
            assert one.transition_matrix is not None
            average += one.weight * one.transition_matrix
        return np.asarray(average / average.sum(axis=1, keepdims=True))

    def infer(
        self,
        read: Callable[[slice], Floats],
        given_labels: npt.NDArray[np.int64],
        verified: Verified | None = None,
        votes: VoteEvidence | None = None,
        advance: Callable[[int], object] = lambda labels: None,
    ) -> LabelQuality:
        """Apply Bayes' rule to labels, averaged over explanations.

        Parameters
        ----------
        read
            Returns log P of a slice of the samples, ``(B, C)`` floats.
        given_labels
            ``(L,)`` int64 in 0..C-1.
        verified
            Which of the L labels are verified; the interval leaves these out.
        votes
            Votes of several annotators for the L samples, as further evidence.
        advance
            Called after each block with its number of labels.
        """
        size = len(given_labels)
        explanations = self.likely_explanations()
        num_classes = len(explanations[0].class_bias)
        wrong_prob, log_odds = np.empty(size), np.empty(size)
        suggested = np.empty(size, dtype=np.int64)
        suggested_prob, ambiguity = np.empty(size), np.empty(size)
        class_uncertainty = np.empty(size)
        for part in blocks(size, num_classes):
            # float32 is precise enough here, and twice as fast as the float64 of the fit.
            log_probs = np.asarray(read(part), dtype=np.float32)
            found = average_explanations(explanations, log_probs, given_labels[part])
            if votes is not None:
                found = votes.weigh(found, part, given_labels[part])
            log_odds[part] = found.log_wrong - found.log_right
            wrong_prob[part] = np.exp(
                found.log_wrong - np.logaddexp(found.log_wrong, found.log_right)
            )
            others = found.clean_probs
            others[np.arange(len(others)), given_labels[part]] = -1.0
            suggested[part] = others.argmax(axis=1)
            suggested_prob[part] = others.max(axis=1)
            class_uncertainty[part] = found.class_uncertainty
            label_probs = softmax(self.softness * log_probs, axis=1)
            ambiguity[part] = 1.0 - np.square(label_probs).sum(axis=1)
            advance(len(log_probs))
        unverified = wrong_prob if verified is None else wrong_prob[~verified.labels]
        return LabelQuality(
            wrong_prob=wrong_prob,
            log_odds=log_odds,
            suggested=suggested,
            suggested_prob=np.clip(suggested_prob, 0.0, 1.0),
            ambiguity=np.clip(ambiguity, 0.0, 1.0),
            class_uncertainty=np.clip(class_uncertainty, 0.0, 1.0),
            interval=self.interval(len(unverified), float(unverified.sum())),
        )

    def interval(self, size: int, expected: float) -> tuple[float, float]:
        """Return the range of the number of wrong labels among `size` labels; see `count_interval`."""
        mean = sum(one.weight * one.wrong_share for one in self.explanations) * size
        # The samples of the fit may have a few more wrong labels than all samples, or fewer.
        scale = expected / mean if mean > 0 else 1.0
        return count_interval(
            np.array([one.weight for one in self.explanations]),
            np.array([one.wrong_share * size * scale for one in self.explanations]),
            np.array([math.sqrt(one.variance_share * size) for one in self.explanations]),
            np.array([one.uncertainty_share * size for one in self.explanations]),
            size,
        )


def fit_label_model(
    log_probs: Floats | Condensed,
    given_labels: npt.NDArray[np.int64],
    prior: SharpnessPrior | None = None,
    verified: Verified | None = None,
) -> LabelModel:
    """Fit the explanations and their weights.

    Parameters
    ----------
    log_probs
        ``(n, C)`` floats, log P: natural logarithms of out-of-sample class probabilities. The samples
        of `fit_rows` are enough. With more than `MOST_PAIRED_CLASSES` classes, from `condense_labels`.
    given_labels
        ``(n,)`` int64 in 0..C-1.
    prior
        Prior of the sharpness; by default `SharpnessPrior.of_predictions`.
    verified
        Which of the n labels are verified.
    """
    fit: Fit
    seen: tuple[Floats, npt.NDArray[np.int64], Floats | None]
    if isinstance(log_probs, Condensed):
        classes = log_probs.num_classes
        condensed = CondensedSample.of(log_probs, given_labels, verified)
        seen = (log_probs.log_probs, np.zeros(len(log_probs), np.int64), log_probs.log_sizes)
        fit = partial(fit_sparse_explanation, condensed)
        confusion: Confusion = condensed.first_confusion()
    else:
        log_probs = np.asarray(log_probs, dtype=np.float64)
        classes = log_probs.shape[1]
        sample = FitSample.of(log_probs, given_labels, verified)
        seen = (log_probs, sample.given, None)
        fit = partial(fit_explanation, sample)
        confusion = np.where(np.eye(classes, dtype=bool), 4.0 * (classes - 1), 1.0)
    calibration = calibrating_exponent(*seen)
    prior = prior or SharpnessPrior.of_predictions(calibration)
    explanations = _explain(fit, prior, calibration, confusion, classes)
    model = LabelModel(explanations, prior, calibration, softening_exponent(*seen))
    if isinstance(log_probs, Condensed):
        return model
    return replace(model, kinds=_kinds(model, sample.unverified()))


def _explain(
    fit: Fit,
    prior: SharpnessPrior,
    calibration: float,
    confusion: Confusion,
    classes: int,
) -> tuple[Explanation, ...]:
    """Fit an explanation for each s and t, and weigh them; W starts as `confusion`."""
    found: list[Explanation] = []
    log_weights: list[float] = []
    # Each fit starts from the one before it.
    bias: Floats = np.zeros(classes)
    widths = np.log(np.gradient(STEPS))
    for step, width in zip(STEPS, widths, strict=True):
        sharpness = prior.center * math.exp(prior.spread * step)
        one = fit(sharpness, 0.0, confusion, bias, fit_bias=True)
        confusion, bias = one.confusion, one.class_bias
        for share, weight in zip(FOLLOW_SHARES, prior.follow, strict=True):
            if weight == 0.0:
                continue
            if share > 0.0:
                follow = share * calibration
                one = fit(sharpness, follow, one.confusion, bias, fit_bias=False)
            found.append(one)
            log_weights.append(
                prior.evidence * one.log_likelihood - abs(step) + width + math.log(weight)
            )
    weights = softmax(np.array(log_weights))
    return tuple(
        replace(one, weight=float(weight)) for one, weight in zip(found, weights, strict=True)
    )


def _kinds(model: LabelModel, sample: FitSample) -> MistakeKinds | None:
    posterior = average_explanations(model.likely_explanations(), sample.log_probs, sample.given)
    label_probs = softmax(model.softness * sample.log_probs, axis=1)
    return estimate_kinds(posterior.clean_probs, label_probs, sample.given, sample.by_given)


def fit_rows(
    total: int, num_classes: int, seed: int, samples: int = FIT_SAMPLES
) -> npt.NDArray[np.int64]:
    """Draw the samples that a model of many labels is fitted to.

    Parameters
    ----------
    total
        Number of labels.
    num_classes
        C.
    seed
        Seed of the draw.
    samples
        Largest number of samples to draw, where there are few classes.

    Returns
    -------
    np.ndarray
        ``(n,)`` int64, sorted.
    """
    values = samples * VALUES_PER_SAMPLE
    most = max(min(samples, values // num_classes), FIT_SAMPLES_PER_CLASS * num_classes)
    if num_classes > MOST_PAIRED_CLASSES:
        most = WIDE_SAMPLES
    return draw(np.arange(total), most, seed)


def condense_labels(
    read: Callable[[npt.NDArray[np.int64]], Floats],
    given_labels: npt.NDArray[np.int64],
    num_classes: int,
    seed: int,
    verified: Verified | None = None,
) -> tuple[Condensed, npt.NDArray[np.int64]]:
    """Draw the samples that a model of labels of very many classes is fitted to, and condense them.

    Parameters
    ----------
    read
        Returns log P of samples by their rows, ``(B, C)`` floats.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    num_classes
        C, more than `MOST_PAIRED_CLASSES`.
    seed
        Seed of the draw.
    verified
        Which of the L labels are verified.

    Returns
    -------
    tuple
        The condensed probabilities, and the rows ``(n,)`` of their samples, sorted.
    """
    rows = draw(np.arange(len(given_labels)), CONDENSED_SAMPLES, seed)
    labels = given_labels[rows]
    if verified is None:
        return condense(read, rows, labels, num_classes), rows
    known = verified.subset(rows)
    return condense(read, rows, known.as_given(labels), num_classes, kept=labels), rows


def blocks(size: int, num_classes: int) -> Iterator[slice]:
    """Cut rows into slices, each with about `BLOCK_VALUES` probabilities ``(B, C)``."""
    return row_blocks(size, num_classes, BLOCK_VALUES)

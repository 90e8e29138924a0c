"""How probable it is that each given label is wrong, from out-of-sample class probabilities.

Nothing in the labels tells an image that lies between two classes from one that people often label
wrongly. This model therefore keeps two questions apart, and says what it assumes about each:

    what the image is:       P(y = k | x)         ∝  P_k(x)^s exp(b_k)
    what is said of it:      P(ỹ = j | y = k, x)  ∝  P_j(x)^t W_kj

P are class probabilities of a model that has not seen the label. The *sharpness* s says how far they
can be trusted about the right class. The channel *follows the image* with exponent t: people confuse
what looks alike. With t = 0 it is the usual noise transition matrix T = W, rows normalized.

Labels cannot determine s and t together, for "every label is right" and "every label is a draw from P"
explain the same labels equally well. So s has a prior (`SharpnessPrior`) that depends on where P comes
from, and the model is an average over *explanations*, pairs of s and t. Each has a W and b of its own,
fitted to the given labels. Explanations are weighted by the prior and by the labels' likelihood. The
likelihood counts as that of only `SharpnessPrior.evidence` samples: all models are wrong in their
details, and with many samples details would decide. The number of wrong labels under each explanation,
so weighted, gives an interval that carries the doubt about s and t.

Given s, t, W and b, Bayes' rule gives

    P(y = k | x, ỹ)  ∝  P(y = k | x) P(ỹ | y = k, x).

W and b are found by expectation maximization. For t > 0 its maximization step is an iterative scaling
(Hunter 2004, https://doi.org/10.1214/aos/1079120141, for the Plackett-Luce family, of which the channel
is a member); for t = 0 it is exact (Dawid and Skene 1979, https://doi.org/10.2307/2346806).

Where a person has verified a label, its right class is known. Where it is also known what was given at
first, this sample's part of the expectation is certain. A corrected label alone says nothing of how
labels come about.

docs/method.md says what was assumed, what it was chosen on, and what follows where it is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.sparse import csr_array
from scipy.special import logsumexp, ndtr, softmax

from labelaudit.sources.manifest import Verified

Floats = npt.NDArray[np.floating]

MIN_JOINT = 1e-300  # of a right class that is known: what is found impossible must stay a number
MIN_PROB = 1e-9  # finer than any model is right, so that the first ranks are told apart
# Number of samples that are fitted to: the first where an audit should take seconds, the second where
# minutes were spent on training.
FIT_SAMPLES, THOROUGH_SAMPLES = 8_000, 40_000
# With more classes than the first there are fewer samples, but at least the second per class.
VALUES_PER_SAMPLE, FIT_SAMPLES_PER_CLASS = 50, 5
# Values worked on at a time while judging.
BLOCK_VALUES = 1 << 21

# Sharpness is tried at these multiples of the prior's spread, as logarithms from its center.
STEPS = np.array([-4.0, -2.75, -1.7, -0.85, 0.0, 0.85, 1.7, 2.75, 4.0])
# t is tried at these shares of the exponent that calibrates P to the given labels. At a share of 1 the
# channel alone explains the labels as well as anything does, whatever the truth is.
FOLLOW_SHARES = np.array([0.0, 0.25, 0.5])
# Of cross-fitted classifiers that are taught labels as far as these are trusted.
CROSS_FIT_SHARPNESS = 1.15
# Explanations that are left out when labels are judged have less weight than this together.
LEFT_OUT = 0.05

# Pseudo-counts: each cell of W leans on the average of all cells beside the diagonal as if by so many
# labels, each diagonal cell on the average diagonal, each class's share on the even one.
CELL_PSEUDO_COUNT = 2.0
DIAGONAL_PSEUDO_COUNT = 20.0
BIAS_PSEUDO_COUNT = 50.0
# Of more classes than this, cells beside the diagonal are not told apart where t > 0.
MANY_CLASSES = 200
ROUNDS, FEWEST_ROUNDS = 60, 2
TOLERANCE = 1e-5  # of the mean log-likelihood between rounds

NORMAL_90 = 1.645  # nine tenths of a normal lie within so many standard deviations
# Chosen on digits and MNIST, seeds 0-4: see docs/method.md.
UNCERTAINTY_FACTOR = 0.3
KIND_ROUNDS, KIND_START = 30, 0.1
LEAST_FOR_KINDS = 20.0  # with fewer wrong labels nothing is said of their kind


@dataclass(frozen=True)
class SharpnessPrior:
    """What is assumed of the sharpness s before the labels are looked at.

    Attributes
    ----------
    center
        Median of s.
    spread
        Scale of a Laplace distribution of log s around log `center`.
    follow
        Prior weights of `FOLLOW_SHARES`, in order.
    evidence
        As how many samples the labels count against the prior.
    basis
        In words what the center rests on, for people.
    """

    center: float
    spread: float
    follow: tuple[float, float, float]
    evidence: float
    basis: str

    @classmethod
    def of_predictions(cls, calibration: float) -> SharpnessPrior:
        """For probabilities of a classifier that was trained on labels like the given ones.

        Such a classifier predicts what is said of an image, which is softer than what the image is. On
        predictions of strong networks, for labels of people and for planted mistakes, the exponent that
        makes them likeliest for the truth is 1.6 to 2.9 times the one for the given labels.

        Parameters
        ----------
        calibration
            The exponent that calibrates the probabilities to the given labels.
        """
        return cls(
            2.25 * calibration,
            0.2,
            (1.0, 1.0, 6.0),
            50.0,
            "The predictions are assumed to be about 2.25 times as sure of what a sample is as of its"
            " label. Nothing in the labels can check that.",
        )

    @classmethod
    def of_cross_fitting(cls, sharpness: float | None) -> SharpnessPrior:
        """For classifiers of features, cross-fitted and taught each label as far as it is trusted.

        Parameters
        ----------
        sharpness
            The exponent that two of them have shown on each other; see
            `labelaudit.suspects.cross_fitting.estimate_sharpness`. None where they cannot.
        """
        return cls(
            CROSS_FIT_SHARPNESS if sharpness is None else sharpness,
            0.2,
            (2.0, 1.0, 1.0) if sharpness is None else (1.0, 1.0, 6.0),
            500.0,
            "The classifiers of the features are assumed to be about as sure as they are right."
            if sharpness is None
            else "How far the classifiers of the features can be trusted was measured on two of them."
            " They may make the same mistakes.",
        )

    @classmethod
    def of_neighbors(cls, likeliest: float) -> SharpnessPrior:
        """For the guider's opinion of a sample's neighbors.

        The guider is trained by a loss that does not follow wrong labels, so that its probabilities are
        of the right class already, and averages over neighbors are milder, not surer, than they are
        right: s is at least 1. Where training was short they are much too mild, which labels do tell.
        They are wrong where the embedding is: confusions that follow them are not those of people, so
        t = 0.

        Parameters
        ----------
        likeliest
            The sharpness under which the given labels are likeliest with t = 0; see
            `labelaudit.suspects.noise_model`.
        """
        return cls(
            max(1.0, likeliest),
            0.2,
            (1.0, 0.0, 0.0),
            200.0,
            "What the model believes of the samples most alike is assumed to be at least as sure as it"
            " is right.",
        )


@dataclass(frozen=True)
class Explanation:
    """One way in which the given labels may have come about.

    Attributes
    ----------
    weight
        In [0, 1]; those of all explanations sum to 1.
    sharpness, follow
        s and t, both exponents of P.
    class_bias
        b, ``(C,)``.
    confusion
        W, ``(C, C)``, positive; only ratios within a row matter.
    log_likelihood
        Mean of log P(ỹ | x) over the samples fitted to, in nats.
    wrong_share, deviation_share, uncertainty_share
        Of the samples fitted to whose labels are not verified: the expected share of wrong labels; the
        variance of their number per sample; the expected share that P^s takes for another class than
        they are.
    """

    weight: float
    sharpness: float
    follow: float
    class_bias: Floats
    confusion: Floats
    log_likelihood: float
    wrong_share: float = math.nan
    deviation_share: float = math.nan
    uncertainty_share: float = math.nan

    @property
    def transition_matrix(self) -> Floats:
        """W with rows that sum to 1, ``(C, C)``: the noise transition matrix where t = 0."""
        return np.asarray(self.confusion / self.confusion.sum(axis=1, keepdims=True))

    @property
    def tells_pairs_apart(self) -> bool:
        """Whether W has cells of their own beside the diagonal; else these are 1."""
        return self.follow == 0.0 or len(self.class_bias) <= MANY_CLASSES


@dataclass(frozen=True)
class MistakeKinds:
    """What wrong labels are like, as shares of their expected number that sum to 1.

    Attributes
    ----------
    follow_images
        Labels that resemble the image: people confuse what looks alike.
    between_classes
        Certain pairs of classes, whatever the image: a habit, a rule, a wrong mapping.
    follow_nothing
        Any class as often as another: shuffled rows, a broken join, slips.
    """

    follow_images: float
    between_classes: float
    follow_nothing: float


@dataclass(frozen=True)
class LabelQuality:
    """What the model says of each label.

    Attributes
    ----------
    wrong_prob
        ``(L,)`` float64 in [0, 1], P(y ≠ ỹ | x, ỹ).
    log_odds
        ``(L,)`` float64, log of its odds; tells apart what rounds to 1.
    suggested
        ``(L,)`` int64, the likeliest class other than the given one.
    suggested_prob
        ``(L,)`` float64 in [0, 1], its probability given the label.
    ambiguity
        ``(L,)`` float64 in [0, 1]: how probably two people would label the sample differently.
    class_uncertainty
        ``(L,)`` float64 in [0, 1]: how probably P alone is mistaken about the right class.
    interval
        Where the number of wrong labels lies in nine of ten cases.
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
        All that were fitted, in no order.
    prior
        What was assumed.
    calibration
        The exponent that calibrates P to the given labels.
    softness
        The exponent that calibrates P to what people say, labels that follow nothing aside.
    kinds
        None where hardly any label is expected to be wrong.
    """

    explanations: tuple[Explanation, ...]
    prior: SharpnessPrior
    calibration: float
    softness: float
    kinds: MistakeKinds | None = None

    def likely_explanations(self) -> tuple[Explanation, ...]:
        """Give the explanations that matter, their weights summing to 1."""
        ordered = sorted(self.explanations, key=lambda one: -one.weight)
        total = np.cumsum([one.weight for one in ordered])
        count = min(len(ordered), int(np.searchsorted(total, 1.0 - LEFT_OUT)) + 1)
        share = float(total[count - 1])
        return tuple(replace(one, weight=one.weight / share) for one in ordered[:count])

    def infer(
        self,
        read: Callable[[slice], Floats],
        given_labels: npt.NDArray[np.int64],
        verified: Verified | None = None,
    ) -> LabelQuality:
        """Judge labels by Bayes' rule, averaged over explanations.

        Parameters
        ----------
        read
            Gives log P of some of the samples, ``(B, C)`` floats.
        given_labels
            ``(L,)`` int64 in 0..C-1.
        verified
            Of the L labels: those which the interval leaves out.
        """
        size = len(given_labels)
        explanations = self.likely_explanations()
        num_classes = len(explanations[0].class_bias)
        wrong_prob, log_odds = np.empty(size), np.empty(size)
        suggested = np.empty(size, dtype=np.int64)
        suggested_prob, ambiguity, class_uncertainty = (
            np.empty(size),
            np.empty(size),
            np.empty(size),
        )
        for part in blocks(size, num_classes):
            # Half the precision of the fit is enough here, and twice as fast.
            log_probs = np.asarray(read(part), dtype=np.float32)
            seen = average(explanations, log_probs, given_labels[part])
            log_odds[part] = seen.log_wrong - seen.log_right
            wrong_prob[part] = np.exp(seen.log_wrong - np.logaddexp(seen.log_wrong, seen.log_right))
            others = seen.clean_probs
            others[np.arange(len(others)), given_labels[part]] = -1.0
            suggested[part] = others.argmax(axis=1)
            suggested_prob[part] = others.max(axis=1)
            class_uncertainty[part] = seen.class_uncertainty
            said = softmax(self.softness * log_probs, axis=1)
            ambiguity[part] = 1.0 - np.square(said).sum(axis=1)
        doubtful = wrong_prob if verified is None else wrong_prob[~verified.labels]
        return LabelQuality(
            wrong_prob=wrong_prob,
            log_odds=log_odds,
            suggested=suggested,
            suggested_prob=np.clip(suggested_prob, 0.0, 1.0),
            ambiguity=np.clip(ambiguity, 0.0, 1.0),
            class_uncertainty=np.clip(class_uncertainty, 0.0, 1.0),
            interval=self.interval(len(doubtful), float(doubtful.sum())),
        )

    def interval(self, size: int, expected: float) -> tuple[float, float]:
        """Say where the number of wrong labels lies in nine of ten cases.

        Every explanation has a number of its own, with a spread as in `count_interval`.

        Parameters
        ----------
        size
            Number of labels judged.
        expected
            Expected number of wrong ones among them.
        """
        mean = sum(one.weight * one.wrong_share for one in self.explanations) * size
        # The samples fitted to may have a few more, or fewer, than all.
        scale = expected / mean if mean > 0 else 1.0
        return count_interval(
            np.array([one.weight for one in self.explanations]),
            np.array([one.wrong_share * size * scale for one in self.explanations]),
            np.array([math.sqrt(one.deviation_share * size) for one in self.explanations]),
            np.array([one.uncertainty_share * size for one in self.explanations]),
            size,
        )


def count_interval(
    weights: Floats, expected: Floats, deviation: Floats, class_uncertainty: Floats, size: int
) -> tuple[float, float]:
    """Say where the number of wrong labels lies in nine of ten cases, under several explanations.

    Were an explanation exact and labels independent, their number would be Poisson-binomial. They are
    neither: samples that are hard for the model look like wrong labels, all of them, and some wrong
    labels look right to it. So the spread is widened by a share, `UNCERTAINTY_FACTOR`, of the samples
    that the model is expected to get wrong. Each explanation's number is taken to be normal.

    Parameters
    ----------
    weights
        ``(E,)``, sum to 1.
    expected, deviation
        ``(E,)``, mean and standard deviation of the number under each.
    class_uncertainty
        ``(E,)``, the number of samples that the model is expected to get wrong.
    size
        Number of labels.
    """
    half = NORMAL_90 * deviation + UNCERTAINTY_FACTOR * class_uncertainty
    spread = np.maximum(half / NORMAL_90, 1e-9)
    tail = float(ndtr(-NORMAL_90))

    def quantile(share: float) -> float:
        low = float((expected - half * 8 - 1).min())
        high = float((expected + half * 8 + 1).max())
        return float(
            brentq(
                lambda x: float((weights * ndtr((x - expected) / spread)).sum()) - share, low, high
            )
        )

    return max(0.0, quantile(tail)), min(float(size), quantile(1.0 - tail))


def fit_label_model(
    log_probs: Floats,
    given_labels: npt.NDArray[np.int64],
    prior: SharpnessPrior | None = None,
    verified: Verified | None = None,
) -> LabelModel:
    """Fit the explanations, and weigh them.

    Parameters
    ----------
    log_probs
        ``(n, C)`` log P: natural logarithms of out-of-sample class probabilities. Those of `fit_rows`
        are enough.
    given_labels
        ``(n,)`` int64 in 0..C-1.
    prior
        What is assumed of the sharpness; by default `SharpnessPrior.of_predictions`.
    verified
        Of the n labels.
    """
    log_probs = np.asarray(log_probs, dtype=np.float64)
    classes = log_probs.shape[1]
    fit = _Fit.of(log_probs, given_labels, verified)
    calibration = calibrating_exponent(log_probs, fit.given)
    prior = prior or SharpnessPrior.of_predictions(calibration)
    found: list[Explanation] = []
    log_weights: list[float] = []
    confusion: Floats = np.where(np.eye(classes, dtype=bool), 4.0 * (classes - 1), 1.0)
    bias: Floats = np.zeros(classes)
    widths = np.log(np.gradient(STEPS))
    for step, width in zip(STEPS, widths, strict=True):
        sharpness = prior.center * math.exp(prior.spread * step)
        one = fit.explain(sharpness, 0.0, confusion, bias, fit_bias=True)
        confusion, bias = one.confusion, one.class_bias
        for share, weight in zip(FOLLOW_SHARES, prior.follow, strict=True):
            if weight == 0.0:
                continue
            if share > 0.0:
                one = fit.explain(
                    sharpness, share * calibration, one.confusion, bias, fit_bias=False
                )
            found.append(one)
            log_weights.append(
                prior.evidence * one.log_likelihood - abs(step) + width + math.log(weight)
            )
    weights = softmax(np.array(log_weights))
    explanations = tuple(
        replace(one, weight=float(weight)) for one, weight in zip(found, weights, strict=True)
    )
    softness = softening_exponent(log_probs, fit.given)
    model = LabelModel(explanations, prior, calibration, softness)
    return replace(model, kinds=_kinds(model, fit.unverified()))


def fit_rows(
    total: int, num_classes: int, seed: int, samples: int = FIT_SAMPLES
) -> npt.NDArray[np.int64]:
    """Draw the samples that a model of so many labels is fitted to, in their order.

    Parameters
    ----------
    total
        Number of labels.
    num_classes
        C.
    seed
        Decides the draw.
    samples
        How many to draw at most, where there are few classes.
    """
    values = samples * VALUES_PER_SAMPLE
    most = max(min(samples, values // num_classes), FIT_SAMPLES_PER_CLASS * num_classes)
    if total <= most:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False))


def blocks(size: int, num_classes: int) -> Iterator[slice]:
    """Give slices of so many rows that a block of ``(B, C)`` is worked on quickly."""
    step = max(1, BLOCK_VALUES // num_classes)
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def log_of(probs: Floats) -> Floats:
    """Give natural logarithms of probabilities ``(B, C)``, none below that of `MIN_PROB`."""
    kind = np.float64 if probs.dtype == np.float64 else np.float32
    floored = np.maximum(np.asarray(probs, dtype=kind), kind(MIN_PROB))
    return np.asarray(np.log(floored / floored.sum(axis=1, keepdims=True)))


def calibrating_exponent(log_probs: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Find the exponent a under which P^a, normalized, makes labels likeliest.

    Parameters
    ----------
    log_probs
        ``(n, C)``.
    labels
        ``(n,)`` int64: given labels, or the classes that a second model predicts.
    """
    rows = np.arange(len(labels))

    def loss(log_exponent: float) -> float:
        logits = math.exp(log_exponent) * log_probs
        return float((logsumexp(logits, axis=1) - logits[rows, labels]).mean())

    return math.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x)


def softening_exponent(log_probs: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Find the exponent under which P^a, with a share of labels that follow nothing, fits best.

    Parameters
    ----------
    log_probs
        ``(n, C)``.
    labels
        ``(n,)`` int64, given labels.
    """
    rows, classes = np.arange(len(labels)), log_probs.shape[1]

    def loss(parameters: Floats) -> float:
        said = softmax(math.exp(parameters[0]) * log_probs, axis=1)[rows, labels]
        lost = 1.0 / (1.0 + math.exp(-parameters[1]))
        return float(-np.log((1.0 - lost) * said + lost / classes).mean())

    found = minimize(
        loss, np.array([0.3, -2.5]), method="L-BFGS-B", bounds=[(-4.0, 4.0), (-12.0, 3.0)]
    )
    return math.exp(found.x[0])


@dataclass(frozen=True)
class Averaged:
    """What explanations say of a block of labels, averaged: ``(B,)``, and `clean_probs` ``(B, C)``."""

    log_wrong: Floats
    log_right: Floats
    clean_probs: Floats
    class_uncertainty: Floats


def average(
    explanations: tuple[Explanation, ...], log_probs: Floats, given: npt.NDArray[np.int64]
) -> Averaged:
    """Average over explanations what they say of some labels.

    Parameters
    ----------
    explanations
        Their weights sum to 1.
    log_probs
        ``(B, C)``, log P.
    given
        ``(B,)`` int64.
    """
    kind = log_probs.dtype
    rows = np.arange(len(given))
    log_wrong = np.full(len(given), -np.inf)
    log_right = np.full(len(given), -np.inf)
    clean_probs = np.zeros(log_probs.shape, dtype=kind)
    class_uncertainty = np.zeros(len(given))
    # Only ratios within a row matter. Several explanations share s, or t, and with it an exponential.
    centered = log_probs - log_probs.max(axis=1, keepdims=True)
    own = centered[rows, given].astype(np.float64)
    sharp: dict[float, Floats] = {}
    soft: dict[float, Floats] = {}
    for one in explanations:
        if one.sharpness not in sharp:
            bias = one.class_bias.astype(kind)
            sharp[one.sharpness] = np.exp(kind.type(one.sharpness) * centered + bias)
        truth = sharp[one.sharpness]  # (B, C)
        sure = truth.max(axis=1) / truth.sum(axis=1)
        class_uncertainty += one.weight * (1.0 - sure.astype(np.float64))
        confusion = one.confusion if one.follow else one.transition_matrix
        joint = confusion.T.astype(kind)[given]  # (B, C), P(ỹ | y = k, x) up to a factor
        log_own = np.log(confusion[given, given]) + one.sharpness * own + one.class_bias[given]
        if one.follow:
            if one.follow not in soft:
                soft[one.follow] = np.exp(kind.type(one.follow) * centered)
            total = channel_total(soft[one.follow], confusion, one.tells_pairs_apart)  # (B, C)
            joint /= total
            log_own -= np.log(total[rows, given].astype(np.float64))
        joint *= truth
        # The given class apart, lest a small share of wrong be lost beside it.
        joint[rows, given] = 0.0
        with np.errstate(divide="ignore"):
            log_others = np.log(joint.sum(axis=1).astype(np.float64))
        whole = np.logaddexp(log_own, log_others)
        joint *= (one.weight * np.exp(-whole)).astype(kind)[:, None]
        clean_probs += joint
        clean_probs[rows, given] += (one.weight * np.exp(log_own - whole)).astype(kind)
        log_right = np.logaddexp(log_right, math.log(one.weight) + log_own - whole)
        log_wrong = np.logaddexp(log_wrong, math.log(one.weight) + log_others - whole)
    return Averaged(log_wrong, log_right, clean_probs, class_uncertainty)


@dataclass(frozen=True)
class _Fit:
    """Samples that are fitted to: log P ``(n, C)``, labels ``(n,)``, and who was given which class.

    Labels are as they were given at first. Of the verified ones, ``(n,)`` bool, `known` are the rows in
    which that is known, ``(k,)``, and `right` their right classes.
    """

    log_probs: Floats
    given: npt.NDArray[np.int64]
    by_given: csr_array  # (C, n)
    verified: npt.NDArray[np.bool_]
    known: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls, log_probs: Floats, labels: npt.NDArray[np.int64], verified: Verified | None = None
    ) -> _Fit:
        """Take labels ``(n,)`` as they are now, and what is known of the verified ones."""
        size, classes = log_probs.shape
        given, mask = labels, np.zeros(size, dtype=bool)
        known = np.empty(0, dtype=np.int64)
        if verified is not None:
            given, mask = verified.as_given(labels), verified.labels
            known = np.flatnonzero(mask & (verified.first_given >= 0))
        by_given = csr_array((np.ones(size), (given, np.arange(size))), shape=(classes, size))
        return cls(log_probs, given, by_given, mask, known, labels[known])

    def unverified(self) -> _Fit:
        """Give the samples whose labels are not verified."""
        if not self.verified.any():
            return self
        return _Fit.of(self.log_probs[~self.verified], self.given[~self.verified])

    def explain(
        self, sharpness: float, follow: float, confusion: Floats, bias: Floats, *, fit_bias: bool
    ) -> Explanation:
        """Fit W, and b if asked for, by expectation maximization from a start."""
        log_probs, given = self.log_probs, self.given
        size, classes = log_probs.shape
        rows = np.arange(size)
        alike = np.exp(follow * log_probs)  # (n, C), ones where t = 0
        said = follow * float(log_probs[rows, given].mean())
        scaled = sharpness * log_probs
        truth = softmax(scaled + bias, axis=1)
        likelihood = -math.inf
        pairs = not follow or classes <= MANY_CLASSES
        for done in range(ROUNDS):
            total = confusion.sum(axis=1)  # (C,), or (n, C)
            if follow:
                total = channel_total(alike, confusion, pairs)
            joint = confusion.T[given]  # (n, C)
            joint /= total
            joint *= truth
            if len(self.known):
                certain = np.maximum(joint[self.known, self.right], MIN_JOINT)
                joint[self.known] = 0.0
                joint[self.known, self.right] = certain
            evidence = joint.sum(axis=1, keepdims=True)
            before, likelihood = likelihood, float(np.log(evidence).mean()) + said
            joint /= evidence  # P(y | x, ỹ)
            if done > FEWEST_ROUNDS and abs(likelihood - before) < TOLERANCE:
                break
            counts = np.asarray((self.by_given @ joint).T)  # (C, C)
            if not follow:
                exposure = np.repeat((joint.sum(axis=0) / total)[:, None], classes, axis=1)
            elif pairs:
                exposure = (joint / total).T @ alike  # (C, C)
            else:  # of the cells beside the diagonal their sum is enough, spread evenly
                ratio = joint / total
                own = (ratio * alike).sum(axis=0)
                rest = float((ratio.sum(axis=1) * alike.sum(axis=1)).sum() - own.sum())
                exposure = np.full((classes, classes), rest / (classes * (classes - 1)))
                np.fill_diagonal(exposure, own)
            confusion = _confusion(counts, exposure, told_apart=pairs)
            if fit_bias:
                shift = joint.sum(axis=0) + BIAS_PSEUDO_COUNT
                bias = bias + np.log(shift / (truth.sum(axis=0) + BIAS_PSEUDO_COUNT))
                bias = bias - bias.mean()
                truth = softmax(scaled + bias, axis=1)
        wrong = (1.0 - joint[rows, given])[~self.verified]
        mistaken = (1.0 - truth.max(axis=1))[~self.verified]
        return Explanation(
            weight=math.nan,
            sharpness=sharpness,
            follow=follow,
            class_bias=bias,
            confusion=confusion,
            log_likelihood=likelihood,
            wrong_share=_mean(wrong),
            deviation_share=_mean(wrong * (1.0 - wrong)),
            uncertainty_share=_mean(mistaken),
        )


def _mean(values: Floats) -> float:
    """Give the mean, 0 of no values: where all labels are verified."""
    return float(values.mean()) if len(values) else 0.0


def channel_total(alike: Floats, confusion: Floats, pairs: bool) -> Floats:
    """Give Σ_j P_j^t W_kj for each sample and right class, ``(B, C)``, from P^t.

    Parameters
    ----------
    alike
        ``(B, C)``, P^t up to a factor for each row.
    confusion
        W.
    pairs
        Whether W differs from 1 beside its diagonal.
    """
    if pairs:
        return np.asarray(alike @ confusion.T.astype(alike.dtype))
    own = np.diag(confusion).astype(alike.dtype) - 1
    return np.asarray(alike * own + alike.sum(axis=1, keepdims=True))


def _confusion(counts: Floats, exposure: Floats, *, told_apart: bool) -> Floats:
    """Estimate W from expected counts of right and given classes, and what W of ones would expect.

    The average cell beside the diagonal is 1.
    """
    diagonal = np.eye(len(counts), dtype=bool)
    beside = ~diagonal
    exposure = exposure * ((counts[beside].sum() + 1.0) / (exposure[beside].sum() + 1.0))
    cells = np.ones_like(counts)
    if told_apart:
        cells = (counts + CELL_PSEUDO_COUNT) / (exposure + CELL_PSEUDO_COUNT)
    right, expected = np.diag(counts), np.diag(exposure)
    leaning = DIAGONAL_PSEUDO_COUNT * right.sum() / counts.sum()
    own = (right + leaning) / (expected + leaning * expected.sum() / right.sum())
    return np.where(diagonal, own[:, None], cells)


def _kinds(model: LabelModel, fit: _Fit) -> MistakeKinds | None:
    """Tell mistakes that follow images from those that run between classes or follow nothing.

    Wrong labels are taken to be a mixture: some are drawn from what the sample resembles besides its
    right class, P_j / (1 - P_k), the others from a distribution of their right class. Shares and
    distributions are fitted by expectation maximization. Of the latter, what is no more frequent than
    the median pair of classes follows nothing.
    """
    given, log_probs = fit.given, fit.log_probs
    size, classes = log_probs.shape
    rows = np.arange(size)
    wrong = average(model.likely_explanations(), log_probs, given).clean_probs
    shares = wrong.sum(axis=0)  # (C,), right classes
    wrong[rows, given] = 0.0
    total = float(wrong.sum())
    if total < LEAST_FOR_KINDS:
        return None
    said = softmax(model.softness * log_probs, axis=1)
    resembles = said[rows, given][:, None] / np.maximum(1.0 - said, MIN_PROB)  # (n, C)
    beside = ~np.eye(classes, dtype=bool)
    habit = np.where(beside, 1.0 / (classes - 1), 0.0)
    follow = KIND_START
    counts = np.zeros_like(habit)
    for _ in range(KIND_ROUNDS):
        by_image = follow * resembles
        by_class = (1.0 - follow) * habit[:, given].T
        part = np.clip(by_image / np.maximum(by_image + by_class, MIN_PROB), 0.0, 1.0)
        follow = float((wrong * part).sum()) / total
        counts = np.where(beside, np.asarray((fit.by_given @ (wrong * (1.0 - part))).T), 0.0)
        habit = np.where(beside, counts + 1.0, 0.0)
        habit /= habit.sum(axis=1, keepdims=True)
    rates = habit * (counts.sum(axis=1) / np.maximum(shares, MIN_PROB))[:, None]
    usual = float(np.quantile(rates[beside], 0.5, method="lower"))
    nothing = float((np.minimum(rates, usual) * shares[:, None])[beside].sum()) / total
    nothing = min(nothing, 1.0 - follow)
    return MistakeKinds(follow, max(0.0, 1.0 - follow - nothing), nothing)

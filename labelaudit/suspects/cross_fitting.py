"""What classifiers of frozen features say of samples whose own labels they have not seen.

A linear classifier taught the other folds, and a vote of the nearest others. Which of them knows
better, and how much, depends on the features, and can be read off the labels themselves, for neither
was taught the label that it is held against. Both are taught twice, and each label only as far as it
is thought to be right: so they repeat fewer of the mistakes in the labels. (How far others are thought
right the second time is decided with the label among many: a trace of it comes back.)
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from labelaudit.sources.manifest import Verified
from labelaudit.suspects.label_model import calibrating_exponent, log_of
from labelaudit.suspects.nearest import (
    BLOCK_VALUES,
    MAX_REFERENCE,
    Axes,
    default_neighbors,
    draw,
    nearest,
)
from labelaudit.suspects.noise_model import MIN_PROB, fit_noise_model

ROUNDS = 2
FOLDS = 5
# Inverse strength of the linear classifier's penalty, and its iterations: see docs/method.md for what
# they were chosen on.
STRENGTH = 0.003
MAX_ITERATIONS = 25
# A fold is taught by no more samples than make so many products of samples, features and classes;
# where these are fewer than so many a class, not at all.
MAX_PRODUCTS = 1e9
MIN_TAUGHT = 5
MAX_VOTERS = 20
UNDECIDED_VOTES = 0.3  # spread over all classes, so that none is impossible
# Shares of the vote in the logarithm of both that are tried, on so many samples, or where there are
# very many classes on what makes up so many probabilities.
VOTE_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
TRIED_SAMPLES, TRIED_VALUES = 10_000, 1_000_000
# With n labels a class they have n / (n + 25) of the say, but never all, if they know at least this
# much of what can be known about the labels; none if they know but the lesser share; between, in
# proportion.
HALF_WEIGHT_LABELS = 25
MAX_MIXING_WEIGHT = 0.95
LOW_LIKELIHOOD, HIGH_LIKELIHOOD = 0.3, 0.6
# Opinions brought together at a time, 32 MiB of each.
MIXED_VALUES = 1 << 23
# The linear classifier and the vote make some of the same mistakes, so that they agree more often than
# either with the truth. The exponent that one shows of the other is too large by this factor (CIFAR-10,
# EfficientNet-Lite0, six kinds of labels: 1.03 to 1.12).
SAME_MISTAKES = 1.06
# The vote must be about as good as the linear classifier to say how good that is, in nats per label.
AS_GOOD = 0.25


@dataclass(frozen=True)
class OutOfSample:
    """Out-of-sample probabilities of labeled samples.

    Attributes
    ----------
    probs
        ``(L, C)`` float32, rows sum to 1.
    sharpness
        The exponent that makes them likeliest for the right classes, as far as the linear classifier
        and the vote of neighbors show it on each other. None where they cannot.
    weight
        In [0, 1], how far `probs` are those of the classifiers and not of the opinion that they were
        brought together with.
    """

    probs: np.ndarray
    sharpness: float | None = None
    weight: float = 0.0


def cross_fit_classifiers(
    features: np.ndarray,
    noisy_labels: np.ndarray,
    base_probs: np.ndarray,
    *,
    seed: int,
    device: torch.device | None = None,
    verified: Verified | None = None,
) -> OutOfSample:
    """Bring an opinion of labels together with what is said by those who have not seen them.

    Parameters
    ----------
    features
        ``(N, D)`` float32, maybe memory-mapped.
    noisy_labels
        ``(N,)`` int64 in 0..C-1, -1 where unlabeled; L of them are not.
    base_probs
        ``(L, C)``, rows sum to 1. It decides at first how far each label is trusted.
    seed
        Decides the folds, and the samples looked at where there are very many.
    device
        Where neighbors are looked for; by default the CPU.
    verified
        Of the L labels: these teach and vote with their full weight.

    Returns
    -------
    OutOfSample
        With `base_probs` itself where there are fewer labels than folds.
    """
    rows = np.flatnonzero(noisy_labels >= 0)
    given_labels = noisy_labels[rows]
    # How labels come about is read off them as they were before anybody corrected them.
    first_given = given_labels if verified is None else verified.as_given(given_labels)
    num_classes = base_probs.shape[1]
    if not enough_labels(len(rows)):
        return OutOfSample(base_probs)
    labels_a_class = min(len(rows), MAX_REFERENCE) / num_classes
    max_weight = min(MAX_MIXING_WEIGHT, labels_a_class / (labels_a_class + HALF_WEIGHT_LABELS))
    neighbors = find_neighbors(
        features, rows, num_classes, seed=seed, device=device or torch.device("cpu")
    )
    mixed = base_probs
    mixing_weight = 0.0
    most_known = None
    for _ in range(ROUNDS):
        model = fit_noise_model(mixed, first_given, seed=seed)
        posterior = model.infer(mixed, given_labels)
        if most_known is None:
            most_known = model.best_log_likelihood(posterior.clean_probs.mean(axis=0))
        right_prob = 1.0 - posterior.wrong_prob
        if verified is not None:
            right_prob[verified.labels] = 1.0
        linear = cross_fit_linear(features, rows, given_labels, num_classes, right_prob, seed=seed)
        votes = vote_of_neighbors(neighbors, given_labels, num_classes, right_prob)
        held_out, likelihood = mix_classifiers(linear, votes, first_given, seed=seed)
        known = normalized_likelihood(likelihood, most_known, first_given)
        sure = (known - LOW_LIKELIHOOD) / (HIGH_LIKELIHOOD - LOW_LIKELIHOOD)
        mixing_weight = max_weight * float(np.clip(sure, 0.0, 1.0))
        mixed = mix_probs(base_probs, held_out, mixing_weight)
    return OutOfSample(
        mixed, estimate_sharpness(linear, votes, mixed, given_labels, seed=seed), mixing_weight
    )


def estimate_sharpness(
    linear: np.ndarray,
    votes: np.ndarray,
    probs: np.ndarray,
    given_labels: np.ndarray,
    *,
    seed: int,
) -> float | None:
    """Say how sharp probabilities are about the right class, by holding two classifiers together.

    The exponent under which the linear classifier makes the vote's first choice likeliest is about the
    one for the right class, whatever mistakes are in the labels. It is handed on to `probs`: they get
    the exponent under which they are nearest to the linear classifier so sharpened.

    Parameters
    ----------
    linear, votes
        ``(L, C)``, rows sum to 1.
    probs
        ``(L, C)``, the probabilities in question.
    given_labels
        ``(L,)`` int64.
    seed
        Decides which samples are looked at where there are many.

    Returns
    -------
    float or None
        None where the linear classifier was not taught, or the vote knows much less than it.
    """
    most = min(TRIED_SAMPLES, TRIED_VALUES // linear.shape[1])
    tried = draw(np.arange(len(given_labels)), most, seed)
    labels = given_labels[tried]
    first, second, last = (log_of(x[tried].astype(np.float64)) for x in (linear, votes, probs))
    if np.ptp(first) < 1e-6:
        return None

    def fit(log_probs: np.ndarray) -> float:
        said = log_softmax(calibrating_exponent(log_probs, labels) * log_probs, axis=1)
        return float(said[np.arange(len(labels)), labels].mean())

    if fit(second) < fit(first) - AS_GOOD or fit(first) < fit(second) - AS_GOOD:
        return None
    sharpness = calibrating_exponent(first, second.argmax(axis=1)) / SAME_MISTAKES
    target = softmax(sharpness * first, axis=1)

    def distance(log_exponent: float) -> float:
        return -float((target * log_softmax(math.exp(log_exponent) * last, axis=1)).sum())

    return math.exp(minimize_scalar(distance, bounds=(-3.0, 3.0), method="bounded").x)


def enough_labels(num_labeled: int) -> bool:
    """Whether there are labels enough to hold some out."""
    return num_labeled >= FOLDS


def normalized_likelihood(likelihood: float, most: float, given_labels: np.ndarray) -> float:
    """Say how much of what can be known about the given labels somebody knows.

    Parameters
    ----------
    likelihood
        Mean of log P(ỹ | x) by a noise model of what he says, in nats.
    most
        The same of one who knows the right classes.
    given_labels
        ``(L,)`` int64.

    Returns
    -------
    float
        0 for one who knows but how frequent each label is, 1 for one who knows the right classes, or
        if that is no more.
    """
    shares = np.bincount(given_labels) / len(given_labels)
    least = -float(entropy(shares))
    return 1.0 if most <= least else (likelihood - least) / (most - least)


def cross_fit_linear(
    features: np.ndarray,
    rows: np.ndarray,
    given_labels: np.ndarray,
    num_classes: int,
    right_prob: np.ndarray,
    *,
    seed: int,
) -> np.ndarray:
    """Class probabilities of each labeled sample by a logistic regression on the other folds.

    Parameters
    ----------
    features
        ``(N, D)`` float32, maybe memory-mapped.
    rows
        ``(L,)`` int64, which of them are labeled.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    num_classes
        C.
    right_prob
        ``(L,)`` in [0, 1]: how much each label teaches.
    seed
        Decides the folds.

    Returns
    -------
    np.ndarray
        ``(L, C)`` float32, rows sum to 1; a class that was not taught has probability 0. Uniform where
        there are fewer samples than folds, too few a class, or but one class in the other folds.
    """
    size = len(rows)
    probs = np.full((size, num_classes), 1.0 / num_classes, dtype=np.float32)
    most = max(FOLDS, int(MAX_PRODUCTS / (features.shape[1] * max(num_classes, 10))))
    if not enough_labels(size) or most < min(size, MIN_TAUGHT * num_classes):
        return probs
    by_chance = np.random.default_rng(seed).permutation(size)
    scaler = StandardScaler().fit(features[rows[np.sort(by_chance[:most])]])
    # Features may lie in a file that is larger than memory.
    step = max(1, BLOCK_VALUES // features.shape[1])
    for _, held_out in KFold(FOLDS).split(by_chance):
        asked = np.zeros(size, dtype=bool)
        asked[by_chance[held_out]] = True
        seen = np.sort(by_chance[~asked[by_chance]][:most])
        if len(np.unique(given_labels[seen])) < 2:
            continue
        classifier = LogisticRegression(C=STRENGTH, max_iter=MAX_ITERATIONS)
        with warnings.catch_warnings():
            # As good as settled, and the probabilities are calibrated anew.
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(
                scaler.transform(features[rows[seen]]),
                given_labels[seen],
                sample_weight=right_prob[seen],
            )
        told = np.flatnonzero(asked)
        probs[told] = 0.0
        for start in range(0, len(told), step):
            part = told[start : start + step]
            said = classifier.predict_proba(scaler.transform(features[rows[part]]))
            probs[np.ix_(part, classifier.classes_)] = said
    return probs


def find_neighbors(
    features: np.ndarray,
    rows: np.ndarray,
    num_classes: int,
    *,
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """Find the samples most alike, by the angle between features along the principal axes.

    Parameters
    ----------
    features
        ``(N, D)`` float32, maybe memory-mapped.
    rows
        ``(L,)`` int64, which of them are labeled, at least two.
    num_classes
        C.
    seed
        Decides which are looked among where there are very many.
    device
        Where to look.

    Returns
    -------
    np.ndarray
        ``(L, k)`` int64, which of the L labeled samples; never the sample itself. Few in small data
        sets, at most 20.
    """
    reference = draw(np.arange(len(rows)), MAX_REFERENCE, seed)
    count = min(default_neighbors(len(reference), num_classes, MAX_VOTERS), len(reference) - 1)
    points = Axes.of(features, rows[reference], unit=True).project(features, rows, device)  # (L, s)
    place = np.full(len(rows), -1)
    place[reference] = np.arange(len(reference))
    found = np.empty((len(rows), count), dtype=np.int64)
    for part, near in nearest(points, points[reference], place, count):
        found[part] = reference[near]
    return found


def vote_of_neighbors(
    neighbors: np.ndarray, given_labels: np.ndarray, num_classes: int, right_prob: np.ndarray
) -> np.ndarray:
    """Let neighbors vote with their labels.

    Parameters
    ----------
    neighbors
        ``(L, k)`` int64, from `find_neighbors`.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    num_classes
        C.
    right_prob
        ``(L,)`` in [0, 1]: how much each vote weighs.

    Returns
    -------
    np.ndarray
        ``(L, C)`` float32, rows sum to 1.
    """
    votes = np.full((len(neighbors), num_classes), UNDECIDED_VOTES / num_classes, dtype=np.float32)
    every = np.arange(len(neighbors))
    for neighbor in neighbors.T:  # one neighbor of each sample at a time: no two votes for one cell
        votes[every, given_labels[neighbor]] += right_prob[neighbor]
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


def mix_classifiers(
    linear: np.ndarray, votes: np.ndarray, given_labels: np.ndarray, *, seed: int
) -> tuple[np.ndarray, float]:
    """Bring two opinions together so that the given labels are likeliest under a noise model of both.

    Parameters
    ----------
    linear, votes
        ``(L, C)``, rows sum to 1; neither was taught the labels.
    given_labels
        ``(L,)`` int64.
    seed
        Decides which samples the shares are tried on where there are many.

    Returns
    -------
    tuple
        The base_probs, ``(L, C)`` float32, rows sum to 1, and the mean of log P(ỹ | x), in nats.
    """
    most = min(TRIED_SAMPLES, TRIED_VALUES // linear.shape[1])
    tried = draw(np.arange(len(given_labels)), most, seed)
    told = given_labels[tried]
    found = []
    for share in VOTE_SHARES:
        both = mix_probs(linear[tried], votes[tried], share)
        found.append(fit_noise_model(both, told, seed=seed).log_likelihood(both, told))
    best = int(np.argmax(found))
    return mix_probs(linear, votes, VOTE_SHARES[best]), found[best]


def mix_probs(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """Give the normalized geometric mean of two opinions, ``(L, C)`` float32, rows sum to 1.

    Parameters
    ----------
    first, second
        ``(L, C)``, rows sum to 1.
    weight
        Of the second, in [0, 1].
    """
    mixed = np.empty(first.shape, dtype=np.float32)
    step = max(1, MIXED_VALUES // first.shape[1])
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        log_first = np.log(np.maximum(first[part], MIN_PROB))
        log_second = np.log(np.maximum(second[part], MIN_PROB))
        mixed[part] = softmax((1 - weight) * log_first + weight * log_second, axis=1)
    return mixed

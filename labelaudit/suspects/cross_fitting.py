"""Out-of-sample class probabilities of labels, from classifiers that are cross-fitted on features.

Two classifiers are used: a logistic regression trained on the other folds, and a vote of the nearest
other samples. Neither sees the label that it predicts. How they are mixed depends on the features, and
is chosen by the likelihood of the labels. Both are fitted twice. In the second round each label is
weighted by the probability that it is right, so that fewer mistakes in the labels are repeated. (That
probability depends a little on the sample's own label, which therefore leaves a trace.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from labelaudit.progress import Bars
from labelaudit.sources.manifest import Verified
from labelaudit.suspects import class_probs
from labelaudit.suspects.calibration import MIN_PROB, calibrating_exponent, log_of
from labelaudit.suspects.class_probs import ClassProbs, LazyProbs, held, whole
from labelaudit.suspects.feature_classifiers import (
    enough_labels,
    find_neighbors,
    prepare_linear,
    vote_of_neighbors,
)
from labelaudit.suspects.nearest import MAX_REFERENCE, draw
from labelaudit.suspects.noise_model import fit_noise_model

CPU = torch.device("cpu")
ROUNDS = 2
# Mixing weights of the vote that are tried, and the number of samples and of probabilities they are
# tried on at most; with many classes, at least the last number of samples.
VOTE_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TRIED_SAMPLES, TRIED_VALUES, FEWEST_TRIED = 5_000, 1_000_000, 1000
# The classifiers' mixing weight is n / (n + 25), at most 0.95, where n is the number of labels per
# class. It falls to 0 as their normalized likelihood falls from the higher to the lower number.
# Probabilities that have memorized labels are another matter, the more so the fewer labels there are:
# with any n the weight is at most 0.95, and at least 1 / (1 + (n / 100)²), whatever classifiers know.
HALF_WEIGHT_LABELS, MEMORIZED_LABELS = 25, 100
MAX_MIXING_WEIGHT = 0.95
LOW_LIKELIHOOD, HIGH_LIKELIHOOD = 0.3, 0.6
# From this number of labels per class on, the mixing weight is at its maximum. Whether the classifiers
# know enough is tried on this number of samples.
MANY_LABELS_PER_CLASS = math.ceil(HALF_WEIGHT_LABELS * MAX_MIXING_WEIGHT / (1 - MAX_MIXING_WEIGHT))
PROBED_SAMPLES = 3000
# Both classifiers make some of the same mistakes, so that they agree with each other more often than
# with the truth. The exponent that they show is too large by this factor (CIFAR-10,
# EfficientNet-Lite0, six kinds of labels: 1.03 to 1.12).
SAME_MISTAKES = 1.06
# The sharpness is estimated from this number of labels on, and only if mean log-likelihoods differ by
# less, in nats: those of the two classifiers, and those of the logistic regression and the mixture.
FEWEST_COMPARED = 1000
SIMILAR_LIKELIHOOD, SIMILAR_MIXTURE = 0.25, 0.1


@dataclass(frozen=True)
class OutOfSample:
    """Out-of-sample probabilities of the L labeled samples.

    Attributes
    ----------
    probs
        ``(L, C)`` float32, rows sum to 1.
    sharpness
        The exponent under which `probs` fit the right classes best, estimated from the agreement of the
        two classifiers. None if it cannot be estimated.
    mixing_weight
        Weight of the classifiers in `probs`, in [0, 1]; the rest is that of the given probabilities.
    """

    probs: np.ndarray
    sharpness: float | None = None
    mixing_weight: float = 0.0


def cross_fit_classifiers(
    features: np.ndarray,
    noisy_labels: np.ndarray,
    base_probs: np.ndarray,
    *,
    seed: int,
    memorized: bool = False,
    neighbors: np.ndarray | None = None,
    verified: Verified | None = None,
    bars: Bars | None = None,
) -> OutOfSample:
    """Cross-fit two classifiers on features, and mix them with given class probabilities.

    Parameters
    ----------
    features
        ``(N, D)`` float32, maybe memory-mapped.
    noisy_labels
        ``(N,)`` int64 in 0..C-1, -1 where unlabeled; L of them are labeled.
    base_probs
        ``(L, C)``, rows sum to 1. In the first round they decide how much each label is trusted.
    seed
        Seed of the folds, and of the draw of samples where there are very many.
    memorized
        Whether `base_probs` are those of other samples whose labels the model was trained on. The fewer
        labels, the more of the wrong ones it repeats, so the classifiers then have their full weight
        however few there are.
    neighbors
        ``(L, k)`` int64 in 0..L-1, from `find_neighbors`; by default they are searched on the CPU.
    verified
        Which of the L labels are verified; they are trusted fully.
    bars
        Show the progress of each step.

    Returns
    -------
    OutOfSample
        With `base_probs` alone where there are fewer labels than folds.
    """
    rows = np.flatnonzero(noisy_labels >= 0)
    given_labels = noisy_labels[rows]
    # The noise model describes labels as they were before anybody corrected them.
    first_given = given_labels if verified is None else verified.as_given(given_labels)
    num_classes = base_probs.shape[1]
    if not enough_labels(len(rows)):
        return OutOfSample(base_probs)
    labels_per_class = min(len(rows), MAX_REFERENCE) / num_classes
    if memorized:
        least, most = 1.0 / (1.0 + (labels_per_class / MEMORIZED_LABELS) ** 2), 1.0
    else:
        least, most = 0.0, labels_per_class / (labels_per_class + HALF_WEIGHT_LABELS)
    bars = bars or Bars.silent()
    if neighbors is None:
        neighbors = find_neighbors(features, rows, num_classes, seed=seed, device=CPU)
    classifiers = prepare_linear(features, rows, num_classes, seed=seed)
    probs: ClassProbs = base_probs
    mixing_weight = 0.0
    best_likelihood = None
    for number in range(ROUNDS):
        bars.begin(f"training classifiers, round {number + 1} of {ROUNDS}")
        model = fit_noise_model(probs, first_given, seed=seed)
        posterior = model.infer(probs, given_labels)
        if best_likelihood is None:
            best_likelihood = model.best_log_likelihood(posterior.class_shares)
        right_prob = 1.0 - posterior.wrong_prob
        if verified is not None:
            right_prob[verified.labels] = 1.0
        linear = (
            np.broadcast_to(np.float32(1.0 / num_classes), base_probs.shape)  # takes no memory
            if classifiers is None
            else classifiers.predict(given_labels, right_prob)
        )
        votes = _votes(neighbors, given_labels, num_classes, right_prob)
        oos_probs, likelihood = mix_classifiers(linear, votes, first_given, seed=seed)
        quality = normalized_likelihood(likelihood, best_likelihood, first_given)
        quality = (quality - LOW_LIKELIHOOD) / (HIGH_LIKELIHOOD - LOW_LIKELIHOOD)
        mixing_weight = min(MAX_MIXING_WEIGHT, float(np.clip(quality * most, least, most)))
        probs = mixture(base_probs, oos_probs, mixing_weight)
    sharpness = estimate_sharpness(linear, votes, probs, given_labels, seed=seed)
    return OutOfSample(whole(probs), sharpness, mixing_weight)


def has_many_labels(num_labeled: int, num_classes: int) -> bool:
    """Whether there are so many labels per class that classifiers may have their full weight."""
    return num_labeled >= MANY_LABELS_PER_CLASS * num_classes


def classifiers_suffice(
    features: np.ndarray, noisy_labels: np.ndarray, num_classes: int, *, seed: int
) -> bool:
    """Decide whether cross-fitted classifiers will have their full weight, whatever else is known.

    They are tried on a sample. They suffice if there are many labels per class, and if they come near
    enough to a classifier that knows the right classes.

    Parameters
    ----------
    features
        ``(N, D)`` floats, maybe memory-mapped.
    noisy_labels
        ``(N,)`` int64 in 0..C-1, -1 where unlabeled.
    num_classes
        C.
    seed
        Seed of the sample and of the folds.
    """
    rows = np.flatnonzero(noisy_labels >= 0)
    if not has_many_labels(len(rows), num_classes):
        return False
    rows = draw(rows, PROBED_SAMPLES, seed)
    labels, every = noisy_labels[rows], np.arange(len(rows))
    sample = features[rows]
    classifiers = prepare_linear(sample, every, num_classes, seed=seed)
    if classifiers is None:
        return False
    trusted = np.ones(len(rows))
    neighbors = find_neighbors(sample, every, num_classes, seed=seed, device=CPU)
    votes = _votes(neighbors, labels, num_classes, trusted)
    probs, _ = mix_classifiers(classifiers.predict(labels, trusted), votes, labels, seed=seed)
    model = fit_noise_model(probs, labels, seed=seed)
    best = model.best_log_likelihood(model.infer(probs, labels).class_shares)
    likelihood = model.log_likelihood(whole(probs), labels)
    known = normalized_likelihood(likelihood, best, labels)
    return known >= HIGH_LIKELIHOOD


def _votes(
    neighbors: np.ndarray, given_labels: np.ndarray, num_classes: int, right_prob: np.ndarray
) -> ClassProbs:
    """Return `vote_of_neighbors`, calculated when it is read if it is large."""
    return held(
        LazyProbs(
            (len(neighbors), num_classes),
            lambda rows: vote_of_neighbors(neighbors[rows], given_labels, num_classes, right_prob),
        )
    )


def estimate_sharpness(
    linear: ClassProbs,
    votes: ClassProbs,
    probs: ClassProbs,
    given_labels: np.ndarray,
    *,
    seed: int,
) -> float | None:
    """Estimate how sharp probabilities are about the right class, by comparing two classifiers.

    One exponent makes the logistic regression predict the vote's first choice best. It is about the
    exponent for the right class, whatever mistakes are in the labels. The exponent of `probs` is then
    the one that brings them nearest to the logistic regression with that exponent. A vote that is right
    less often shows a smaller exponent. The result is at least the exponent for the given labels.

    Parameters
    ----------
    linear, votes
        ``(L, C)``, rows sum to 1.
    probs
        ``(L, C)``, the probabilities whose sharpness is estimated.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    seed
        Seed of the draw of samples where there are many.

    Returns
    -------
    float or None
        None where labels are few, the logistic regression was not trained, or is much better or worse
        than the vote, or worse than the mixture.
    """
    if len(given_labels) < FEWEST_COMPARED:
        return None
    tried = tried_rows(len(given_labels), linear.shape[1], seed)
    labels = given_labels[tried]
    first, second, last = (log_of(x[tried].astype(np.float64)) for x in (linear, votes, probs))
    if np.ptp(first) < 1e-6:
        return None

    def calibrated_likelihood(log_probs: np.ndarray) -> float:
        calibrated = log_softmax(calibrating_exponent(log_probs, labels) * log_probs, axis=1)
        return float(calibrated[np.arange(len(labels)), labels].mean())

    known, known_to_vote, known_in_all = map(calibrated_likelihood, (first, second, last))
    if abs(known - known_to_vote) > SIMILAR_LIKELIHOOD or known_in_all - known > SIMILAR_MIXTURE:
        return None
    sharpness = calibrating_exponent(first, second.argmax(axis=1)) / SAME_MISTAKES
    target = softmax(sharpness * first, axis=1)

    def cross_entropy(log_exponent: float) -> float:
        return -float((target * log_softmax(math.exp(log_exponent) * last, axis=1)).sum())

    found = math.exp(minimize_scalar(cross_entropy, bounds=(-3.0, 3.0), method="bounded").x)
    # Mistakes in the labels make probabilities look less sharp than they are, never sharper.
    return max(found, calibrating_exponent(last, labels))


def normalized_likelihood(likelihood: float, best: float, given_labels: np.ndarray) -> float:
    """Scale the likelihood of given labels: 0 for the class frequencies, 1 for the right classes.

    Parameters
    ----------
    likelihood
        Mean of log P(ỹ | x) of a noise model, in nats.
    best
        The same for a model that knows the right classes.
    given_labels
        ``(L,)`` int64 in 0..C-1.

    Returns
    -------
    float
        0 for a model that predicts only the class frequencies, 1 for one that knows the right classes;
        1 if that is no better.
    """
    shares = np.bincount(given_labels) / len(given_labels)
    least = -float(entropy(shares))
    return 1.0 if best <= least else (likelihood - least) / (best - least)


def mix_classifiers(
    linear: ClassProbs, votes: ClassProbs, given_labels: np.ndarray, *, seed: int
) -> tuple[ClassProbs, float]:
    """Mix two classifiers so that a noise model of the mixture fits the given labels best.

    Parameters
    ----------
    linear, votes
        ``(L, C)``, rows sum to 1; out of sample.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    seed
        Seed of the draw of samples that mixing weights are tried on, where there are many.

    Returns
    -------
    tuple
        The mixture, ``(L, C)``, rows sum to 1; and the mean of log P(ỹ | x), in nats.
    """
    tried = tried_rows(len(given_labels), linear.shape[1], seed)
    labels = given_labels[tried]
    likelihoods = []
    first, second = linear[tried], votes[tried]
    for weight in VOTE_WEIGHTS:
        mixed = mix_probs(first, second, weight)
        likelihoods.append(fit_noise_model(mixed, labels, seed=seed).log_likelihood(mixed, labels))
    best = int(np.argmax(likelihoods))
    return mixture(linear, votes, VOTE_WEIGHTS[best]), likelihoods[best]


def tried_rows(total: int, num_classes: int, seed: int) -> np.ndarray:
    """Draw the rows among `total` that mixing weights and sharpness are tried on."""
    most = min(TRIED_SAMPLES, max(TRIED_VALUES // num_classes, FEWEST_TRIED))
    return draw(np.arange(total), most, seed)


def mixture(first: ClassProbs, second: ClassProbs, weight: float) -> ClassProbs:
    """Return `mix_probs` of all rows, calculated when they are read if they are many."""
    lazy = LazyProbs(first.shape, lambda rows: mix_probs(first[rows], second[rows], weight))
    return held(lazy)


def mix_probs(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """Return the normalized weighted geometric mean of class probabilities.

    Parameters
    ----------
    first, second
        ``(L, C)``, rows sum to 1.
    weight
        Weight of the second, in [0, 1].

    Returns
    -------
    np.ndarray
        ``(L, C)`` float32, rows sum to 1.
    """
    mixed = np.empty(first.shape, dtype=np.float32)
    for part in class_probs.blocks_of(first):
        log_first = np.log(np.maximum(first[part], MIN_PROB))
        log_second = np.log(np.maximum(second[part], MIN_PROB))
        mixed[part] = softmax((1 - weight) * log_first + weight * log_second, axis=1)
    return mixed

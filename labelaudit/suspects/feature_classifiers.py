"""Two classifiers of features that do not see the label they predict, for `cross_fitting`."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from labelaudit.suspects.nearest import (
    BLOCK_VALUES,
    EXACT_FEATURES,
    MAX_REFERENCE,
    Axes,
    default_neighbors,
    draw,
    nearest,
)
from labelaudit.suspects.wide_linear import WideLinear

FOLDS = 5
# Inverse strength of the logistic regression's penalty, and its iterations. The data that they were
# chosen on are in docs/explanation/research-log.md.
STRENGTH = 0.003
MAX_ITERATIONS = 25
# Largest product of training samples, features and classes. If that leaves fewer training samples per
# class than the second number, no logistic regression is trained.
MAX_PRODUCTS = 1e9
MIN_SAMPLES_PER_CLASS = 5
MAX_VOTING_NEIGHBORS = 20
PRIOR_VOTES = 0.3  # spread over all classes, so that none is impossible


def enough_labels(num_labeled: int) -> bool:
    """Whether there are enough labels for cross-fitting."""
    return num_labeled >= FOLDS


def cross_fit_linear(
    features: np.ndarray,
    rows: np.ndarray,
    given_labels: np.ndarray,
    num_classes: int,
    right_prob: np.ndarray,
    *,
    seed: int,
) -> np.ndarray:
    """Predict each labeled sample by a logistic regression that was trained on the other folds.

    Parameters
    ----------
    features
        ``(N, D)`` float32, maybe memory-mapped.
    rows
        ``(L,)`` int64, the labeled samples.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    num_classes
        C.
    right_prob
        ``(L,)`` in [0, 1], weight of each label in training.
    seed
        Seed of the folds.

    Returns
    -------
    np.ndarray
        ``(L, C)`` float32, rows sum to 1; 0 for a class that the training folds lack. Uniform where
        there are fewer samples than folds, too few per class, or only one class in the other folds.
    """
    size = len(rows)
    even = np.broadcast_to(np.float32(1.0 / num_classes), (size, num_classes))  # takes no memory
    most = _most_training_samples(features, size, num_classes)
    if most is None:
        return even
    probs = even.copy()
    shuffled = np.random.default_rng(seed).permutation(size)
    scaler = StandardScaler().fit(features[rows[np.sort(shuffled[:most])]])
    # Features may lie in a file that is larger than memory.
    step = max(1, BLOCK_VALUES // features.shape[1])
    for _, fold in KFold(FOLDS).split(shuffled):
        in_fold = np.zeros(size, dtype=bool)
        in_fold[shuffled[fold]] = True
        train = np.sort(shuffled[~in_fold[shuffled]][:most])
        if len(np.unique(given_labels[train])) < 2:
            continue
        classifier = LogisticRegression(C=STRENGTH, max_iter=MAX_ITERATIONS)
        with warnings.catch_warnings():
            # Convergence is not needed: the probabilities are calibrated later.
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(
                scaler.transform(features[rows[train]]),
                given_labels[train],
                sample_weight=right_prob[train],
            )
        test = np.flatnonzero(in_fold)
        probs[test] = 0.0
        for start in range(0, len(test), step):
            part = test[start : start + step]
            predicted = classifier.predict_proba(scaler.transform(features[rows[part]]))
            probs[np.ix_(part, classifier.classes_)] = predicted
    return probs


def prepare_wide(
    features: np.ndarray, rows: np.ndarray, num_classes: int, *, seed: int
) -> WideLinear | None:
    """Prepare the logistic regressions of `cross_fit_linear` for very many features.

    The parameters are those of `cross_fit_linear`. Returns None where the features are not so many, or
    no logistic regression is trained.
    """
    most = _most_training_samples(features, len(rows), num_classes)
    if features.shape[1] <= EXACT_FEATURES or most is None:
        return None
    return WideLinear(
        features, rows, num_classes, seed=seed, folds=FOLDS, most=most, strength=STRENGTH
    )


def _most_training_samples(features: np.ndarray, size: int, num_classes: int) -> int | None:
    """Return how many samples a logistic regression is trained on; None if that is too few."""
    most = max(FOLDS, int(MAX_PRODUCTS / (features.shape[1] * max(num_classes, 10))))
    if not enough_labels(size) or most < min(size, MIN_SAMPLES_PER_CLASS * num_classes):
        return None
    return most


def find_neighbors(
    features: np.ndarray,
    rows: np.ndarray,
    num_classes: int,
    *,
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """Find the nearest other samples, by the angle between features along the principal axes.

    Parameters
    ----------
    features
        ``(N, D)`` float32, maybe memory-mapped.
    rows
        ``(L,)`` int64, the labeled samples, at least two.
    num_classes
        C.
    seed
        Seed of the draw of samples that are searched, where there are very many.
    device
        Where to search.

    Returns
    -------
    np.ndarray
        ``(L, k)`` int64 in 0..L-1, indices into the labeled samples; never the sample itself. k is at
        most 20, and smaller in small data sets.
    """
    reference = draw(np.arange(len(rows)), MAX_REFERENCE, seed)
    count = default_neighbors(len(reference), num_classes, MAX_VOTING_NEIGHBORS)
    count = min(count, len(reference) - 1)
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
    """Count the labels of each sample's neighbors.

    Parameters
    ----------
    neighbors
        ``(L, k)`` int64, from `find_neighbors`.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    num_classes
        C.
    right_prob
        ``(L,)`` in [0, 1], weight of each label.

    Returns
    -------
    np.ndarray
        ``(L, C)`` float32, shares of the weighted votes; rows sum to 1.
    """
    votes = np.full((len(neighbors), num_classes), PRIOR_VOTES / num_classes, dtype=np.float32)
    every = np.arange(len(neighbors))
    for neighbor in neighbors.T:  # one neighbor of each sample at a time: no cell occurs twice
        votes[every, given_labels[neighbor]] += right_prob[neighbor]
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))

"""Two classifiers of features that do not see the label they predict, for `cross_fitting`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from labelaudit.suspects.linear_classifiers import CrossFittedLinear
from labelaudit.suspects.nearest import (
    MAX_REFERENCE,
    Axes,
    default_neighbors,
    draw,
    nearest,
)

FOLDS = 5
# Largest product of training samples, features and classes. If that leaves fewer training samples per
# class than the second number, no logistic regression is trained.
MAX_PRODUCTS = 1e9
MIN_SAMPLES_PER_CLASS = 5
MAX_VOTING_NEIGHBORS = 20
PRIOR_VOTES = 0.3  # spread over all classes, so that none is impossible


def enough_labels(num_labeled: int) -> bool:
    """Whether there are enough labels for cross-fitting."""
    return num_labeled >= FOLDS


def prepare_linear(
    features: np.ndarray, rows: np.ndarray, num_classes: int, *, seed: int
) -> CrossFittedLinear | None:
    """Prepare logistic regressions that predict each labeled sample after training on other folds.

    Parameters
    ----------
    features
        ``(N, D)`` floats, maybe memory-mapped.
    rows
        ``(L,)`` int64, the labeled samples.
    num_classes
        C.
    seed
        Seed of the folds.

    Returns
    -------
    CrossFittedLinear or None
        None where there are fewer samples than folds, or too few per class among those that can be
        trained on.
    """
    most = _most_training_samples(features, len(rows), num_classes)
    if most is None:
        return None
    return CrossFittedLinear(features, rows, num_classes, seed=seed, folds=FOLDS, most=most)


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
    advance: Callable[[int], object] = lambda samples: None,
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
    advance
        Called with numbers of samples whose neighbors were found.

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
        advance(len(near))
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

"""Evidence about each label after training: means over epochs, and predictions for its neighbors.

The guider was trained on the given labels. Its predictions for a sample's neighbors in the embedding
do not depend on that sample's own label, so they serve as out-of-sample probabilities.
docs/explanation/scores.md describes why this works, and where it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from labelaudit.progress import Bars
from labelaudit.sources.manifest import Verified, are_few
from labelaudit.suspects.cross_fitting import (
    MAX_MIXING_WEIGHT,
    OutOfSample,
    cross_fit_classifiers,
    has_many_labels,
)
from labelaudit.suspects.epoch_means import EpochMeans
from labelaudit.suspects.feature_classifiers import enough_labels, find_neighbors
from labelaudit.suspects.nearest import MAX_REFERENCE, default_neighbors, draw, nearest
from labelaudit.suspects.pixel_classifiers import mix_pixel_classifier, suits_pixels

MAX_NEIGHBORS = 30
# If a smaller share of samples is labeled, only unlabeled samples are used as neighbors.
MOST_UNLABELED_SHARE = 0.5
# Number of samples whose neighbors are searched at a time, and number of probabilities ``(B, k, C)``
# that are averaged at a time.
QUERIES_PER_BLOCK, AVERAGED_VALUES = 4096, 1 << 25


@dataclass(frozen=True)
class LabelEvidence:
    """The evidence about each of the L labels.

    Attributes
    ----------
    posterior
        ``(L,)`` float64 in [0, 1], mean over epochs of `epoch_means.posterior_wrong`.
    oos_probs
        ``(L, C)`` float32, rows sum to 1, class probabilities that do not depend on the sample's own
        label: the guider's, averaged over the sample's neighbors in the embedding, or in the features
        where these have many labels; mixed with those of classifiers where `mixing_weight` or
        `pixel_weight` is above 0.
    epsilon, epsilon_mean
        ``(L,)`` in [0, 1], ε of the last epoch, and its mean over epochs.
    learner_prob, guider_prob
        ``(L,)`` in [0, 1], probability of the given label in the last epoch.
    mixing_weight
        In [0, 1], weight of classifiers that were cross-fitted on features, in `oos_probs`.
    sharpness
        Sharpness of `oos_probs`, or None; see `cross_fitting.OutOfSample`.
    neighbors
        ``(L, k)`` int64 in 0..L-1, nearest labeled samples in the features, from `find_neighbors`. None
        if they were not searched, or not among all samples.
    pixel_weight
        In [0, 1], weight of the classifier that was cross-fitted on pixels, in `oos_probs`.
    """

    posterior: np.ndarray
    oos_probs: np.ndarray
    epsilon: np.ndarray
    epsilon_mean: np.ndarray
    learner_prob: np.ndarray
    guider_prob: np.ndarray
    mixing_weight: float = 0.0
    sharpness: float | None = None
    neighbors: np.ndarray | None = None
    pixel_weight: float = 0.0


def collect_evidence(
    means: EpochMeans,
    pred_probs: np.ndarray,
    embeddings: np.ndarray,
    noisy_labels: np.ndarray,
    *,
    seed: int,
    features: np.ndarray | None = None,
    pixels: np.ndarray | None = None,
    device: torch.device | None = None,
    verified: Verified | None = None,
    bars: Bars | None = None,
) -> LabelEvidence:
    """Collect the evidence about each label.

    Parameters
    ----------
    means
        Means of the L labeled samples over at least one epoch.
    pred_probs, embeddings
        The guider's class probabilities and embeddings after training, ``(N, C)`` and ``(N, d)``.
    noisy_labels
        ``(N,)`` int64 in 0..C-1, -1 where unlabeled.
    seed
        Seed of folds, and of the draw of samples that are searched where there are very many.
    features
        ``(N, D)`` float32, if the networks were trained on features: classifiers are then cross-fitted
        on them (`labelaudit.suspects.cross_fitting`), unless few samples are labeled.
    pixels
        ``(N, C, H, W)`` uint8, if the networks were trained on pixels: a classifier is then
        cross-fitted on them, where that may help (`labelaudit.suspects.pixel_classifiers`).
    device
        Where neighbors are searched; by default the CPU.
    verified
        Which of the L labels are verified.
    bars
        Show the progress of each step.
    """
    bars = bars or Bars.silent()
    labeled = np.flatnonzero(noisy_labels >= 0)
    few = are_few(len(labeled), len(noisy_labels)) or not enough_labels(len(labeled))
    num_classes = pred_probs.shape[1]
    neighbors = None
    if features is not None and not few:
        bar = bars.begin("finding similar samples", len(labeled))
        neighbors = find_neighbors(
            features,
            labeled,
            num_classes,
            seed=seed,
            device=device or torch.device("cpu"),
            advance=bar.advance,
        )

    def cross_fit(base_probs: np.ndarray) -> OutOfSample:
        assert features is not None
        return cross_fit_classifiers(
            features,
            noisy_labels,
            base_probs,
            seed=seed,
            memorized=not _mostly_unlabeled(noisy_labels),
            neighbors=neighbors,
            verified=verified,
            bars=bars,
        )

    oos = None
    if neighbors is not None and has_many_labels(len(labeled), num_classes):
        # The networks should have little weight, and need no neighbors of their own.
        oos = cross_fit(average_rows(pred_probs, labeled[neighbors]))
    if oos is None or oos.mixing_weight < MAX_MIXING_WEIGHT:
        probs = _average_in_embedding(
            embeddings, pred_probs, noisy_labels, seed=seed, device=device
        )
        oos = OutOfSample(probs) if neighbors is None else cross_fit(probs)
    pixel_weight = 0.0
    given_labels = noisy_labels[labeled]
    if pixels is not None and suits_pixels(pixels, given_labels, num_classes):
        bars.begin("training a classifier of the pixels")
        found = mix_pixel_classifier(
            pixels, labeled, given_labels, oos.probs, seed=seed, device=device, verified=verified
        )
        oos, pixel_weight = OutOfSample(found.probs), found.weight
    return LabelEvidence(
        posterior=means.posterior,
        oos_probs=oos.probs,
        epsilon=means.epsilon,
        epsilon_mean=means.epsilon_mean,
        learner_prob=means.learner_prob,
        guider_prob=means.guider_prob,
        mixing_weight=oos.mixing_weight,
        sharpness=oos.sharpness,
        neighbors=neighbors if len(labeled) <= MAX_REFERENCE else None,
        pixel_weight=pixel_weight,
    )


def _mostly_unlabeled(noisy_labels: np.ndarray) -> bool:
    return bool((noisy_labels >= 0).mean() < MOST_UNLABELED_SHARE)


def _average_in_embedding(
    embeddings: np.ndarray,
    pred_probs: np.ndarray,
    noisy_labels: np.ndarray,
    *,
    seed: int,
    device: torch.device | None,
) -> np.ndarray:
    """Average class probabilities over the neighbors of each labeled sample, ``(L, C)``."""
    labeled = np.flatnonzero(noisy_labels >= 0)
    reference = np.arange(len(noisy_labels))
    if _mostly_unlabeled(noisy_labels):
        reference = np.flatnonzero(noisy_labels < 0)
    return average_neighbors(embeddings, pred_probs, labeled, reference, seed=seed, device=device)


def average_rows(pred_probs: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Average class probabilities ``(N, C)`` over some rows ``(M, k)`` each: ``(M, C)`` float32."""
    total = np.zeros((len(found), pred_probs.shape[1]), dtype=np.float32)
    for rows in found.T:
        total += pred_probs[rows]
    return np.asarray(total / np.float32(found.shape[1]))


def average_neighbors(
    embeddings: np.ndarray,
    pred_probs: np.ndarray,
    queries: np.ndarray,
    reference: np.ndarray,
    *,
    seed: int,
    num_neighbors: int | None = None,
    device: torch.device | None = None,
) -> np.ndarray:
    """Average class probabilities over the nearest other samples.

    Parameters
    ----------
    embeddings
        ``(N, d)`` float32; distances are Euclidean.
    pred_probs
        ``(N, C)`` float32, class probabilities of every sample.
    queries
        ``(M,)`` int64, rows whose neighbors are averaged. A query is never its own neighbor.
    reference
        ``(R,)`` int64, rows that are searched. If there are more than `MAX_REFERENCE`, as many are
        drawn.
    seed
        Seed of that draw.
    num_neighbors
        By default 30; in small data sets a third of the average number of samples per class, but at
        least 5.
    device
        Where to search; by default the CPU.

    Returns
    -------
    np.ndarray
        ``(M, C)`` float32, rows sum to 1; uniform where there is no other sample.
    """
    num_classes = pred_probs.shape[1]
    reference = draw(reference, MAX_REFERENCE, seed)
    if num_neighbors is None:
        num_neighbors = default_neighbors(len(reference), num_classes, MAX_NEIGHBORS)
    search = search_among(
        embeddings[reference], min(num_neighbors + 1, len(reference)), device or torch.device("cpu")
    )
    result = np.empty((len(queries), num_classes), dtype=np.float32)
    step = max(1, AVERAGED_VALUES // (num_classes * (num_neighbors + 1)))
    for start in range(0, len(queries), QUERIES_PER_BLOCK):
        rows = queries[start : start + QUERIES_PER_BLOCK]
        found = reference[search(embeddings[rows])]  # (B, k+1)
        other = found != rows[:, None]
        other[other.all(axis=1), num_neighbors:] = False  # not its own neighbor: drop the farthest
        count = other.sum(axis=1, keepdims=True)
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            total = (pred_probs[found[part]] * other[part, :, None]).sum(axis=1)  # (B, C)
            result[start : start + len(rows)][part] = np.where(
                count[part] > 0, total / np.maximum(count[part], 1), 1.0 / num_classes
            )
    return result


def search_among(
    points: np.ndarray, count: int, device: torch.device
) -> Callable[[np.ndarray], np.ndarray]:
    """Make a function that finds the nearest points.

    Parameters
    ----------
    points
        ``(R, d)`` float32.
    count
        k, at most R.
    device
        Where to search.

    Returns
    -------
    callable
        From queries ``(Q, d)`` float32 to ``(Q, k)`` int64 in 0..R-1, nearest first.
    """
    center = points.mean(axis=0)  # products of large numbers would hide small distances
    known = torch.from_numpy(points - center).to(device)

    def search(queries: np.ndarray) -> np.ndarray:
        moved = torch.from_numpy(queries - center).to(device)
        own = np.full(len(queries), -1)
        return np.concatenate([rows for _, rows in nearest(moved, known, own, count)])

    return search

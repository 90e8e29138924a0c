"""A vote of the nearest neighbors in feature space, without any training.

Paper: Zhu et al. 2022, "Detecting Corrupted Labels Without Training a Model to Predict"
(https://arxiv.org/abs/2110.06283), its local voting. A label is wrong if the most frequent label among
the k nearest other samples, by cosine similarity, is another one. The suspect score is the share of
these neighbors with any other label.

Deviations: docs/methods/neighbors_vote.md.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from labelaudit.methods.system import System
from labelaudit.methods.task import AuditResult, Task

NEIGHBORS = 10
BLOCK_ROWS = 1024  # rows whose distances to all others are in memory at once


class NeighborsVote(System):
    """Flag labels that the nearest neighbors outvote."""

    reads = frozenset({"features"})

    def audit(self, task: Task) -> AuditResult:
        """Count the labels of the nearest other samples; see `System.audit`."""
        given = task.given
        unit = unit_length(task.features[task.labeled])
        index = NearestNeighbors(n_neighbors=min(NEIGHBORS + 1, len(given)), algorithm="brute").fit(
            unit
        )
        votes = count_votes(nearest(index, unit), given, task.num_classes, itself=True)
        share = votes[np.arange(len(given)), given] / np.maximum(votes.sum(axis=1), 1)
        test_probs = None
        if task.test_inputs is not None:
            near = nearest(index, unit_length(task.test_inputs[:, :, 0, 0]))[:, :NEIGHBORS]
            test_votes = count_votes(near, given, task.num_classes, itself=False)
            test_probs = test_votes / test_votes.sum(axis=1, keepdims=True)
        return AuditResult(
            suspect_score=1.0 - share,
            flagged=votes.argmax(axis=1) != given,
            epochs=0,
            test_probs=test_probs,
        )


def unit_length(features: np.ndarray) -> np.ndarray:
    """Scale each row of ``(N, D)`` to length 1, so that distances order like cosine similarity."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norms, np.finfo(features.dtype).tiny))


def nearest(index: NearestNeighbors, queries: np.ndarray) -> np.ndarray:
    """Return the rows of the nearest samples of each query, ``(Q, k)`` int64, nearest first."""
    blocks = range(0, len(queries), BLOCK_ROWS)
    return np.concatenate(
        [index.kneighbors(queries[i : i + BLOCK_ROWS], return_distance=False) for i in blocks]
    )


def count_votes(
    near: np.ndarray, given: np.ndarray, num_classes: int, *, itself: bool
) -> np.ndarray:
    """Count the labels of each sample's neighbors, ``(Q, num_classes)`` float64.

    Parameters
    ----------
    near
        ``(Q, k)``, rows of the neighbors.
    given
        ``(N,)`` int64, the labels of all rows.
    num_classes
        C.
    itself
        Whether query i is row i, whose own vote does not count.
    """
    votes = np.zeros((len(near), num_classes))
    for neighbor in near.T:
        other = neighbor != np.arange(len(near)) if itself else np.ones(len(near), dtype=bool)
        votes[np.flatnonzero(other), given[neighbor[other]]] += 1
    return votes

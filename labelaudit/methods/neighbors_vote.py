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


class NeighborsVote(System):
    """Flag labels that the nearest neighbors outvote."""

    reads = frozenset({"features"})

    def audit(self, task: Task) -> AuditResult:
        """Count the labels of the nearest other samples; see `System.audit`."""
        given = task.given
        unit = unit_length(task.features[task.labeled])
        index = NearestNeighbors(n_neighbors=min(NEIGHBORS, len(given) - 1), algorithm="brute")
        index.fit(unit)
        # Without a query, scikit-learn returns the neighbors of each sample except itself.
        probs = vote(index.kneighbors(return_distance=False), given, task.num_classes)
        test_probs = None
        if task.test_inputs is not None:
            queries = unit_length(task.test_inputs[:, :, 0, 0])
            near = index.kneighbors(queries, return_distance=False)
            test_probs = vote(near, given, task.num_classes)
        own = probs[np.arange(len(given)), given]
        return AuditResult(
            suspect_score=1.0 - own,
            flagged=probs.max(axis=1) > own,  # with as many votes for both, the label stays
            epochs=0,
            test_probs=test_probs,
        )


def unit_length(features: np.ndarray) -> np.ndarray:
    """Scale each row of ``(N, D)`` to length 1, so that distances order like cosine similarity."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norms, np.finfo(features.dtype).tiny))


def vote(near: np.ndarray, given: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the share of each class among the given labels of neighbors.

    Parameters
    ----------
    near
        ``(Q, k)`` int64, rows of the neighbors of Q samples.
    given
        ``(N,)`` int64, the labels of all rows.
    num_classes
        C.

    Returns
    -------
    np.ndarray
        ``(Q, C)``, rows sum to 1.
    """
    votes = np.zeros((len(near), num_classes))
    for neighbor in near.T:
        votes[np.arange(len(near)), given[neighbor]] += 1
    return np.asarray(votes / near.shape[1])

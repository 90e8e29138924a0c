"""A linear probe: what a linear classifier of features says of samples whose labels it has not seen."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
# Inverse strength of the penalty; see docs/method.md for what it was chosen on.
STRENGTH = 0.001
MAX_ITERATIONS = 200
# A fold is taught by no more samples than make so many products of samples, features and classes.
MAX_PRODUCTS = 1e9
# Samples asked about at a time: their features may lie in a file that is larger than memory.
ASKED_ROWS = 65_536


def probe_probs(
    features: np.ndarray, noisy_labels: np.ndarray, num_classes: int, *, seed: int
) -> np.ndarray:
    """Class probabilities of each labeled sample by a logistic regression on the other folds.

    Parameters
    ----------
    features
        ``(N, D)`` float32, maybe memory-mapped.
    noisy_labels
        ``(N,)`` int64, -1 where unlabeled; L of them are not.
    num_classes
        C.
    seed
        Decides the folds.

    Returns
    -------
    np.ndarray
        ``(L, C)`` float32, rows sum to 1; a class that the other folds do not hold has probability 0.
        Uniform where there are fewer samples than folds, or but one class in the other folds.
    """
    rows = np.flatnonzero(noisy_labels >= 0)
    given_labels = noisy_labels[rows]
    size = len(given_labels)
    probs = np.full((size, num_classes), 1.0 / num_classes, dtype=np.float32)
    if size < FOLDS:
        return probs
    most = max(FOLDS, int(MAX_PRODUCTS / (features.shape[1] * num_classes)))
    for seen, held_out in KFold(FOLDS, shuffle=True, random_state=seed).split(given_labels):
        # The order of the folds is one by chance, so that the first are any.
        seen = np.random.default_rng(seed).permutation(seen)[:most]
        if len(np.unique(given_labels[seen])) < 2:
            continue
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=MAX_ITERATIONS)
        )
        with warnings.catch_warnings():
            # As good as settled, and the probabilities are calibrated anew.
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(features[rows[seen]], given_labels[seen])
        probs[held_out] = 0.0
        for start in range(0, len(held_out), ASKED_ROWS):
            part = held_out[start : start + ASKED_ROWS]
            probs[np.ix_(part, probe.classes_)] = probe.predict_proba(features[rows[part]])
    return probs

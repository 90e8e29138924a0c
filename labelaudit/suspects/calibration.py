"""Exponents that calibrate class probabilities to labels, and safe logarithms."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp, softmax

Floats = npt.NDArray[np.floating]

MIN_PROB = 1e-9  # smaller than any real error rate, so that the top ranks stay apart


def log_of(probs: Floats) -> Floats:
    """Return the natural logarithms of class probabilities.

    Parameters
    ----------
    probs
        ``(B, C)`` floats in [0, 1].

    Returns
    -------
    np.ndarray
        ``(B, C)``, float64 for float64 and float32 otherwise. Probabilities are raised to at least
        `MIN_PROB`, and rows are normalized.
    """
    kind = np.float64 if probs.dtype == np.float64 else np.float32
    floored = np.maximum(np.asarray(probs, dtype=kind), kind(MIN_PROB))
    return np.asarray(np.log(floored / floored.sum(axis=1, keepdims=True)))


def calibrating_exponent(
    log_probs: Floats, labels: npt.NDArray[np.int64], log_sizes: Floats | None = None
) -> float:
    """Find the exponent a under which P^a, normalized, gives labels the highest likelihood.

    It is one over the temperature of Guo et al. 2017 (https://arxiv.org/abs/1706.04599).

    Parameters
    ----------
    log_probs
        ``(n, C)`` floats, log P.
    labels
        ``(n,)`` int64 in 0..C-1: given labels, or the classes that a second model predicts.
    log_sizes
        ``(C,)``, log of the number of classes in each column, where columns are bands of classes; see
        `labelaudit.suspects.condensed`.

    Returns
    -------
    float
        Between exp(-4) and exp(4).
    """
    rows = np.arange(len(labels))

    def loss(log_exponent: float) -> float:
        logits = math.exp(log_exponent) * log_probs
        if log_sizes is not None:
            logits += log_sizes
        return float((logsumexp(logits, axis=1) - logits[rows, labels]).mean())

    return math.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x)


def softening_exponent(
    log_probs: Floats, labels: npt.NDArray[np.int64], log_sizes: Floats | None = None
) -> float:
    """Find the exponent a under which P^a fits labels best, if some labels are uniformly random.

    The share of random labels is fitted together with the exponent.

    Parameters
    ----------
    log_probs
        ``(n, C)`` floats, log P.
    labels
        ``(n,)`` int64 in 0..C-1, given labels. They must not be a band of classes.
    log_sizes
        As for `calibrating_exponent`.

    Returns
    -------
    float
        Between exp(-4) and exp(4).
    """
    rows, classes = np.arange(len(labels)), float(log_probs.shape[1])
    if log_sizes is not None:
        classes = float(np.exp(log_sizes).sum())

    def loss(parameters: Floats) -> float:
        logits = math.exp(parameters[0]) * log_probs
        if log_sizes is not None:
            logits += log_sizes
        label_probs = softmax(logits, axis=1)[rows, labels]
        random_share = 1.0 / (1.0 + math.exp(-parameters[1]))
        return float(-np.log((1.0 - random_share) * label_probs + random_share / classes).mean())

    found = minimize(
        loss, np.array([0.3, -2.5]), method="L-BFGS-B", bounds=[(-4.0, 4.0), (-12.0, 3.0)]
    )
    return math.exp(found.x[0])

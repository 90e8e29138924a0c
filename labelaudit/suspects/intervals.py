"""Intervals for numbers and shares of wrong labels. All of them cover nine of ten cases."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr

Floats = npt.NDArray[np.floating]

NORMAL_90 = 1.645  # 90 % of a normal distribution lie within this many standard deviations
# Chosen on digits and MNIST, seeds 0-4: see docs/explanation/research-log.md.
UNCERTAINTY_FACTOR = 0.3


def count_interval(
    weights: Floats, expected: Floats, deviation: Floats, class_uncertainty: Floats, size: int
) -> tuple[float, float]:
    """Estimate the range of the number of wrong labels, under several explanations.

    If an explanation were exact and labels independent, the number would be Poisson-binomial.
    Neither is true: samples that are hard for the model look like wrong labels all at once, and some
    wrong labels look right to it. The spread is therefore widened by a share, `UNCERTAINTY_FACTOR`,
    of the samples whose class the model is expected to get wrong. The number under each explanation
    is taken to be normal.

    Parameters
    ----------
    weights
        ``(E,)``, weight of each explanation; they sum to 1.
    expected, deviation
        ``(E,)``, mean and standard deviation of the number under each.
    class_uncertainty
        ``(E,)``, number of samples whose class the model is expected to get wrong.
    size
        Number of labels.

    Returns
    -------
    tuple
        The 5 % and the 95 % quantile, in [0, size].
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


def wrong_interval(suspect_score: Floats, class_uncertainty: Floats) -> tuple[float, float]:
    """Estimate the range of the number of wrong labels from scores alone.

    This is `count_interval` for a single explanation.

    Parameters
    ----------
    suspect_score
        ``(L,)`` in [0, 1], probability that each label is wrong.
    class_uncertainty
        ``(L,)`` in [0, 1], probability that the model is mistaken about the class of the sample.

    Returns
    -------
    tuple
        The 5 % and the 95 % quantile, in [0, L].
    """
    deviation = math.sqrt(float((suspect_score * (1.0 - suspect_score)).sum()))
    return count_interval(
        np.ones(1),
        np.array([suspect_score.sum()]),
        np.array([deviation]),
        np.array([class_uncertainty.sum()]),
        len(suspect_score),
    )


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Return Wilson's interval of the share count / total (1927, https://doi.org/10.2307/2276774)."""
    share, weight = count / total, NORMAL_90**2 / total
    center = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight**2 / 4) / (1 + weight)
    return max(0.0, center - half), min(1.0, center + half)

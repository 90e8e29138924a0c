"""Scores held against what a person decided: how many labels were wrong, and how many were expected.

Whether scores are right about the mistakes in a data set cannot be read off its labels. Some dozens of
decided suspects tell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from labelaudit.suspects.label_model import NORMAL_90

Floats = npt.NDArray[np.float64]

# With fewer decided labels nothing is said of the others.
LEAST_FOR_SHIFT = 24
# Standard deviation of the shift's normal prior; as how many labels the decided ones count at most; and
# how often a decision is taken for a slip, which says "wrong" or "right" alike. Decided labels are
# mostly the worst suspects: trusted more, they would swing the scores of the others too far. Chosen on
# predictions for labels of people and for planted mistakes, see docs/method.md.
SHIFT_DEVIATION, SHIFT_EVIDENCE, SLIPS = 0.5, 50.0, 0.05
LARGEST_SHIFT = 8.0
SURE = 1e-6  # scores nearer to 0 or 1 are taken for this near
MOST_BINS, LEAST_IN_BIN = 5, 10
SHOWN_DIGITS = 3


@dataclass(frozen=True)
class ScoreBin:
    """Decided labels of similar scores.

    Attributes
    ----------
    low, high
        Their smallest and largest score.
    count
        How many they are.
    mean_score, share_wrong
        In [0, 1].
    interval
        Where the share of wrong ones lies in nine of ten cases, by Wilson's score interval.
    """

    low: float
    high: float
    count: int
    mean_score: float
    share_wrong: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class CheckedScores:
    """What decided labels say of the scores.

    Attributes
    ----------
    looked_at, wrong
        Number of decided labels, and of the wrong ones among them.
    expected
        How many were expected to be wrong: the sum of their scores.
    interval
        Where their number was expected in at least nine of ten cases.
    bins
        Up to five groups of decided labels, lowest scores first.
    shift
        What is added to the log-odds of a score so that scores fit the decisions better; None where
        fewer than 24 labels were decided.
    num_remaining, expected_remaining
        Number of the other labels, and of the wrong ones expected among them.
    recalibrated_remaining
        The same number by shifted scores; None without a shift.
    explanation
        All this in words.
    """

    looked_at: int
    wrong: int
    expected: float
    interval: tuple[int, int]
    bins: tuple[ScoreBin, ...]
    shift: float | None
    num_remaining: int
    expected_remaining: float
    recalibrated_remaining: float | None
    explanation: str

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def check_scores(
    suspect_score: Floats, wrong: npt.NDArray[np.bool_], remaining: Floats
) -> CheckedScores:
    """Hold scores against decisions.

    Parameters
    ----------
    suspect_score
        ``(K,)`` in [0, 1]: of decided labels, before anybody looked at them.
    wrong
        ``(K,)`` bool: whether they turned out to be wrong.
    remaining
        ``(R,)`` in [0, 1]: scores of the labels that nobody has decided about.
    """
    expected = float(suspect_score.sum())
    deviation = math.sqrt(float((suspect_score * (1.0 - suspect_score)).sum()))
    # A whole number is wrong, and one slip among labels that are sure says nothing.
    half = max(NORMAL_90 * deviation, 0.5)
    interval = (max(0, math.floor(expected - half)), min(len(wrong), math.ceil(expected + half)))
    shift = None
    recalibrated = None
    if len(wrong) >= LEAST_FOR_SHIFT:
        shift = fit_shift(suspect_score, wrong)
        recalibrated = float(expit(_log_odds(remaining) + shift).sum())
    found, left = int(wrong.sum()), float(remaining.sum())
    return CheckedScores(
        looked_at=len(wrong),
        wrong=found,
        expected=expected,
        interval=interval,
        bins=_bins(suspect_score, wrong),
        shift=shift,
        num_remaining=len(remaining),
        expected_remaining=left,
        recalibrated_remaining=recalibrated,
        explanation=" ".join(
            [
                *_explain_found(len(wrong), found, expected, interval),
                *_explain_remaining(len(remaining), left, recalibrated),
            ]
        ),
    )


def fit_shift(suspect_score: Floats, wrong: npt.NDArray[np.bool_]) -> float:
    """Find the number that, added to the log-odds of scores, makes them fit decisions better.

    It is the likeliest under a normal prior around 0, with decisions that count as `SHIFT_EVIDENCE` at
    most, so that a few decisions cannot swing it. It is not above 0 where fewer labels were wrong than
    expected, and not below 0 where more were.

    Parameters
    ----------
    suspect_score, wrong
        See `check_scores`.
    """
    signed = np.where(wrong, 1.0, -1.0)
    log_odds = _log_odds(suspect_score)
    weight = min(1.0, SHIFT_EVIDENCE / len(wrong))

    def loss(shift: float) -> float:
        told = SLIPS / 2 + (1.0 - SLIPS) * expit(signed * (log_odds + shift))
        return float(-weight * np.log(told).sum() + 0.5 * (shift / SHIFT_DEVIATION) ** 2)

    too_high = float(wrong.sum()) < float(suspect_score.sum())
    bounds = (-LARGEST_SHIFT, 0.0) if too_high else (0.0, LARGEST_SHIFT)
    return float(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Say where a share lies in nine of ten cases, by Wilson 1927.

    Parameters
    ----------
    count, total
        How many of how many, at least one.
    """
    share, weight = count / total, NORMAL_90**2 / total
    center = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight**2 / 4) / (1 + weight)
    return max(0.0, center - half), min(1.0, center + half)


def _log_odds(scores: Floats) -> Floats:
    return np.asarray(logit(np.clip(scores, SURE, 1.0 - SURE)))


def _bins(scores: Floats, wrong: npt.NDArray[np.bool_]) -> tuple[ScoreBin, ...]:
    """Group labels by their scores, about as many in each bin; those that look the same share one."""
    if not len(scores):
        return ()
    order = np.argsort(scores, kind="stable")
    number = min(MOST_BINS, max(1, len(scores) // LEAST_IN_BIN))
    shown = np.round(scores[order], SHOWN_DIGITS)
    firsts = [part[0] for part in np.array_split(np.arange(len(scores)), number)]
    starts = sorted({int(np.searchsorted(shown, shown[first])) for first in firsts})
    return tuple(_bin(scores[rows], wrong[rows]) for rows in np.split(order, starts[1:]))


def _bin(scores: Floats, wrong: npt.NDArray[np.bool_]) -> ScoreBin:
    return ScoreBin(
        low=float(scores.min()),
        high=float(scores.max()),
        count=len(scores),
        mean_score=float(scores.mean()),
        share_wrong=float(wrong.mean()),
        interval=wilson_interval(int(wrong.sum()), len(wrong)),
    )


def _explain_found(
    looked_at: int, wrong: int, expected: float, interval: tuple[int, int]
) -> Sequence[str]:
    if not looked_at:
        return ["No label has been looked at yet."]
    told = (
        f"Of {looked_at:,} {'label' if looked_at == 1 else 'labels'} looked at, {wrong:,}"
        f" {'was' if wrong == 1 else 'were'} wrong; {expected:,.0f}"
        f" {'was' if round(expected) == 1 else 'were'} expected."
    )
    low, high = interval
    if low <= wrong <= high:
        few = looked_at < LEAST_FOR_SHIFT
        return [told, "So few say little of the scores." if few else "The scores are about right."]
    return [
        told,
        f"The scores are too {'high' if wrong < low else 'low'}: in nine of ten cases {low:,} to"
        f" {high:,} would be wrong.",
    ]


def _explain_remaining(number: int, expected: float, recalibrated: float | None) -> Sequence[str]:
    if recalibrated is None or not number:
        return []
    return [
        f"Of the other {number:,} labels about {expected:,.0f} are expected to be wrong;"
        f" {recalibrated:,.0f} if their scores are off in the same way."
    ]

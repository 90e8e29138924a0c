"""Suspect scores compared with the decisions of a person.

The labels of a data set cannot show whether the scores are calibrated. A few dozen reviewed suspects
can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from labelaudit.suspects.intervals import NORMAL_90, wilson_interval

Floats = npt.NDArray[np.float64]

# With fewer decided labels nothing is estimated about the others.
LEAST_FOR_SHIFT = 24
# The shift has a normal prior with the first number as standard deviation. The decided labels count as
# at most the second number of labels, because they are mostly the worst suspects and would otherwise
# change the scores of the others too much. The third number is the share of decisions that are slips,
# of which half say "wrong". Chosen on labels of people and planted mistakes, see
# docs/explanation/research-log.md.
SHIFT_DEVIATION, SHIFT_EVIDENCE, SLIPS = 0.5, 50.0, 0.05
LARGEST_SHIFT = 8.0
EDGE = 1e-6  # scores are clipped to this distance from 0 and 1
MOST_BINS, LEAST_IN_BIN = 5, 10
SHOWN_DIGITS = 3


@dataclass(frozen=True)
class ScoreBin:
    """Decided labels with similar scores.

    Attributes
    ----------
    low, high
        Their smallest and largest score.
    count
        Number of labels.
    mean_score, share_wrong
        Mean score, and share of wrong labels, in [0, 1].
    interval
        Range of the share of wrong labels in nine of ten cases, by Wilson's score interval.
    """

    low: float
    high: float
    count: int
    mean_score: float
    share_wrong: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class CheckedScores:
    """The scores of decided labels compared with the decisions.

    Attributes
    ----------
    looked_at, wrong
        Number of decided labels, and of wrong ones among them.
    expected
        Expected number of wrong labels among them: the sum of their scores.
    interval
        Range of that number in at least nine of ten cases.
    bins
        Up to five groups of decided labels, lowest scores first.
    shift
        Number to add to the log-odds of scores, so that they fit the decisions better; None where
        fewer than 24 labels were decided.
    num_remaining, expected_remaining
        Number of the other labels, and expected number of wrong ones among them.
    recalibrated_remaining
        The expected number by shifted scores; None without a shift.
    explanation
        The comparison in sentences for the user.
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


def check_scores(
    suspect_score: Floats, wrong: npt.NDArray[np.bool_], remaining: Floats
) -> CheckedScores:
    """Compare scores with decisions.

    Parameters
    ----------
    suspect_score
        ``(K,)`` float64 in [0, 1], scores of decided labels before anybody reviewed them.
    wrong
        ``(K,)`` bool, whether they turned out to be wrong.
    remaining
        ``(R,)`` float64 in [0, 1], scores of the labels without a decision.
    """
    expected = float(suspect_score.sum())
    deviation = math.sqrt(float((suspect_score * (1.0 - suspect_score)).sum()))
    # The number of wrong labels is an integer, and a single slip among certain labels proves nothing.
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

    It is the most probable one under a normal prior around 0. Decisions count as at most
    `SHIFT_EVIDENCE` labels, so that a few of them cannot change it much. It is not above 0 where fewer
    labels were wrong than expected, and not below 0 where more were.
    """
    signed = np.where(wrong, 1.0, -1.0)
    log_odds = _log_odds(suspect_score)
    weight = min(1.0, SHIFT_EVIDENCE / len(wrong))

    def loss(shift: float) -> float:
        likelihood = SLIPS / 2 + (1.0 - SLIPS) * expit(signed * (log_odds + shift))
        return float(-weight * np.log(likelihood).sum() + 0.5 * (shift / SHIFT_DEVIATION) ** 2)

    too_high = float(wrong.sum()) < float(suspect_score.sum())
    bounds = (-LARGEST_SHIFT, 0.0) if too_high else (0.0, LARGEST_SHIFT)
    return float(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def _log_odds(scores: Floats) -> Floats:
    return np.asarray(logit(np.clip(scores, EDGE, 1.0 - EDGE)))


def _bins(scores: Floats, wrong: npt.NDArray[np.bool_]) -> tuple[ScoreBin, ...]:
    """Group labels by their scores into bins of similar size; equal rounded scores share a bin."""
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
        return ["No label has been reviewed yet."]
    found = (
        f"Of {looked_at:,} reviewed {'label' if looked_at == 1 else 'labels'}, {wrong:,}"
        f" {'was' if wrong == 1 else 'were'} wrong; the scores predicted {expected:,.0f}."
    )
    low, high = interval
    if low <= wrong <= high:
        few = looked_at < LEAST_FOR_SHIFT
        return [
            found,
            "These are too few to check the scores." if few else "The scores are about right.",
        ]
    return [
        found,
        f"The scores are too {'high' if wrong < low else 'low'}: they predicted between {low:,} and"
        f" {high:,} wrong labels in nine of ten cases.",
    ]


def _explain_remaining(number: int, expected: float, recalibrated: float | None) -> Sequence[str]:
    if recalibrated is None or not number:
        return []
    return [
        f"Of the other {number:,} labels, about {expected:,.0f} are expected to be wrong, or"
        f" {recalibrated:,.0f} if their scores are off in the same way."
    ]

"""From scores to flagged labels, and to how many suspects to review."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from labelaudit.errors import OptionError
from labelaudit.suspects.intervals import wrong_interval
from labelaudit.suspects.scores import Scores
from labelaudit.suspects.summary import ReviewPoint

REVIEW_SHARES = (0.5, 0.9, 0.99)
CURVE_STEPS = 20


@dataclass(frozen=True)
class Threshold:
    """A rule for flagging labels, parsed from what the user typed.

    Attributes
    ----------
    kind
        "auto", "value" (flag scores strictly above it), "top" (flag this many of the most suspect
        labels) or "rate" (flag this share of the labels, the most suspect ones).
    value
        The score, the number or the share; None for "auto".
    """

    kind: str
    value: float | None = None

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Parse ``auto``, ``0.x``, ``top:K`` or ``rate:R``.

        Raises OptionError if it is none of them.
        """
        text = str(text)  # a number is a score
        kind, colon, number = text.strip().partition(":")
        if text.strip() == "auto":
            return cls("auto")
        try:
            if not colon:
                kind, value = "value", float(kind)
                valid = 0.0 <= value <= 1.0
            elif kind == "top":
                value = float(int(number))
                valid = value >= 0
            elif kind == "rate":
                value = float(number)
                valid = 0.0 <= value <= 1.0
            else:
                valid, value = False, math.nan
        except (ValueError, OverflowError):
            valid, value = False, math.nan
        if not valid:
            raise OptionError(
                f"threshold {text!r} is not understood: use auto, a score from 0 to 1, top:K with"
                " a whole number K, or rate:R with a share R from 0 to 1"
            )
        return cls(kind, value)


@dataclass(frozen=True)
class Decision:
    """Which of the L labels are flagged, and why.

    Attributes
    ----------
    is_label_issue
        ``(L,)`` bool.
    threshold
        The score above which labels are flagged; for "top" and "rate", the lowest flagged score.
    rule, explanation
        The rule as typed, and as sentences for the user.
    expected_wrong
        Expected number of wrong labels.
    estimated_noise_rate
        The same as a share of the labels, in [0, 1].
    expected_wrong_interval
        Range of the number of wrong labels in nine of ten cases; None if the score is no probability.
    """

    is_label_issue: np.ndarray
    threshold: float
    rule: str
    explanation: str
    expected_wrong: float
    estimated_noise_rate: float
    expected_wrong_interval: tuple[float, float] | None


def decide(scores: Scores, threshold: str | float = "auto") -> Decision:
    """Flag labels by a rule; see `Threshold.parse`. A number is a score.

    Raises OptionError if the rule is not understood.
    """
    threshold = str(threshold)
    rule = Threshold.parse(threshold)
    total = len(scores.suspect_score)
    if rule.kind in ("top", "rate"):
        assert rule.value is not None
        count = int(rule.value) if rule.kind == "top" else round(rule.value * total)
        worst = scores.unverified_order[:count]
        count = len(worst)
        flagged = np.zeros(total, dtype=bool)
        flagged[worst] = True
        value = float(scores.suspect_score[worst[-1]]) if count else 1.0
        why = (
            f"The {count:,} most suspect of {total:,} labels are flagged, as you asked ({threshold})."
            f" The lowest flagged score is {value:.3f}."
        )
    else:
        value = scores.default_threshold if rule.value is None else rule.value
        flagged = scores.suspect_score > value
        origin = "the default" if rule.kind == "auto" else "as you asked"
        meaning = (
            ": these are more likely wrong than right"
            if scores.is_probability and rule.kind == "auto"
            else ""
        )
        why = f"Labels with a score above {value:g} are flagged ({origin}){meaning}."
    expected = float(scores.suspect_score.sum()) if scores.is_probability else float(flagged.sum())
    interval = scores.interval
    if interval is None and scores.is_probability:
        unverified = scores.unverified
        interval = wrong_interval(
            scores.suspect_score[unverified], scores.class_uncertainty[unverified]
        )
    why += f" {_explain_expected(expected, total, interval)}"
    return Decision(flagged, value, threshold, why, expected, expected / total, interval)


def _explain_expected(expected: float, total: int, interval: tuple[float, float] | None) -> str:
    share = f"{expected:,.0f} of {total:,} labels ({expected / total:.1%})"
    if interval is None:
        return (
            f"About {share} are expected to be wrong: the flagged ones, because this score is no"
            " probability."
        )
    return (
        f"About {share} are expected to be wrong; in nine of ten cases the number lies between"
        f" {interval[0]:,.0f} and {interval[1]:,.0f}."
    )


def review_curve(scores: Scores) -> list[ReviewPoint]:
    """Estimate how many wrong labels a person finds by reviewing the most suspect labels.

    Parameters
    ----------
    scores
        Scores of L labels. Their order is the order of the review; verified labels are not reviewed.

    Returns
    -------
    list of ReviewPoint
        One each for 1, 2, 5, 10, 20, 50, ... reviewed labels up to all, and for evenly spaced
        numbers up to twice the expected number of wrong labels. Empty if the score is no
        probability.
    """
    found = np.cumsum(scores.suspect_score[scores.unverified_order])
    total = len(found)
    if not scores.is_probability or not total:
        return []
    whole = max(float(found[-1]), 1e-12)
    stops = {base * 10**power for power in range(len(str(total))) for base in (1, 2, 5)}
    dense = min(2 * whole, total)
    stops |= {math.ceil(dense * step / CURVE_STEPS) for step in range(1, CURVE_STEPS + 1)}
    return [
        {
            "reviewed": stop,
            "expected_found": float(found[stop - 1]),
            "expected_share": float(found[stop - 1]) / whole,
        }
        for stop in [*sorted(stop for stop in stops if stop < total), total]
    ]


def to_review(scores: Scores) -> dict[str, int] | None:
    """Estimate how many suspects to review to find half, 90 % and 99 % of the wrong labels.

    Returns
    -------
    dict or None
        From each share of `REVIEW_SHARES`, as text, to a number of labels. None if the score is no
        probability, or hardly any label is expected to be wrong.
    """
    found = np.cumsum(scores.suspect_score[scores.unverified_order])
    if not scores.is_probability or not len(found) or found[-1] < 0.5:
        return None
    shares = found / found[-1] + 1e-9  # against rounding
    return {
        f"{share:g}": min(len(found), int(np.searchsorted(shares, share)) + 1)
        for share in REVIEW_SHARES
    }


def explain_review(reviewed: Mapping[str, int] | None) -> str:
    """Describe the result of `to_review`; "" for None."""
    if reviewed is None:
        return ""
    parts = [f"{float(share):.0%} among the first {count:,}" for share, count in reviewed.items()]
    return f"Of the wrong labels, expect {', '.join(parts[:-1])} and {parts[-1]} suspects."

"""From scores to flagged labels, in words; and whether any of it is to be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import cohen_kappa_score

from labelaudit.errors import OptionError
from labelaudit.sources.manifest import Verified
from labelaudit.suspects.label_model import MistakeKinds, count_interval
from labelaudit.suspects.scores import Scores

# Agreement beyond chance between what the neighbors say and the given labels (Cohen's κ) under which
# the model has learned nothing that could be held against a label. Labels of which six in ten are
# wrong at random still leave κ = 0.33 to a model that knows the classes.
MIN_KAPPA = 0.1
# To it comes what chance does: so many standard deviations of κ between unrelated even classes.
KAPPA_DEVIATIONS = 2.0
# Of more samples than this share a model may not be mistaken by its own estimate.
MAX_CLASS_UNCERTAINTY = 0.5
MIN_LABELS_PER_CLASS = 5
# Classes with fewer labels on average are learned roughly.
THIN_CLASS = 30
# Of more labels than this share it should be known what they were before they were corrected.
UNKNOWN_FIRST_SHARE = 0.01
REVIEW_SHARES = (0.5, 0.9, 0.99)
CURVE_STEPS = 20


@dataclass(frozen=True)
class Threshold:
    """A rule for flagging, parsed from what the user typed.

    Attributes
    ----------
    kind
        "auto", "value" (flag scores strictly above), "top" (the worst so many) or "rate" (the
        worst share of the labeled samples).
    value
        The score, the number or the share; None for "auto".
    """

    kind: str
    value: float | None = None

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Parse ``auto``, ``0.x``, ``top:K`` or ``rate:R``.

        Raises
        ------
        OptionError
            If it is none of them.
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
        except ValueError:
            valid, value = False, math.nan
        if not valid:
            raise OptionError(
                f"threshold {text!r} is not understood: use auto, a score from 0 to 1, top:K with"
                " a whole number K, or rate:R with a share R from 0 to 1"
            )
        return cls(kind, value)


@dataclass(frozen=True)
class Decision:
    """Which labels are flagged, and why.

    Attributes
    ----------
    is_label_issue
        ``(L,)`` bool.
    threshold
        The score above which (for top and rate: from which) labels are flagged.
    rule, explanation
        The rule as typed, and in words.
    expected_wrong
        Expected number of wrong labels among the labeled ones.
    estimated_noise_rate
        The same as a share of the labeled ones, in [0, 1].
    expected_wrong_interval
        Where the number of wrong labels lies in nine of ten cases; None if the score is no probability.
    """

    is_label_issue: np.ndarray
    threshold: float
    rule: str
    explanation: str
    expected_wrong: float
    estimated_noise_rate: float
    expected_wrong_interval: tuple[float, float] | None


def decide(scores: Scores, threshold: str = "auto") -> Decision:
    """Flag labels by a rule.

    Parameters
    ----------
    scores
        From `score_labels`.
    threshold
        See `Threshold.parse`.

    Raises
    ------
    OptionError
        If the rule is not understood.
    """
    rule = Threshold.parse(threshold)
    total = len(scores.suspect_score)
    flagged = np.zeros(total, dtype=bool)
    if rule.kind in ("top", "rate"):
        assert rule.value is not None
        count = int(rule.value) if rule.kind == "top" else round(rule.value * total)
        worst = scores.unverified_order[:count]
        count = len(worst)
        flagged[worst] = True
        value = float(scores.suspect_score[worst[-1]]) if count else 1.0
        why = (
            f"The {count:,} most suspect of {total:,} labels are flagged, as asked for"
            f" ({threshold}); the last of them scores {value:.3f}."
        )
    else:
        value = scores.default_threshold if rule.value is None else rule.value
        flagged = scores.suspect_score > value
        asked = "the default" if rule.kind == "auto" else "as asked for"
        meaning = (
            ": more likely wrong than right"
            if scores.is_probability and rule.kind == "auto"
            else ""
        )
        why = f"Labels that score above {value:g} are flagged ({asked}){meaning}."
    expected = float(scores.suspect_score.sum()) if scores.is_probability else float(flagged.sum())
    rate = expected / total
    interval = scores.interval
    if interval is None and scores.is_probability:
        doubtful = scores.unverified
        interval = wrong_interval(
            scores.suspect_score[doubtful], scores.class_uncertainty[doubtful]
        )
    why += f" About {expected:,.0f} of {total:,} labels ({rate:.1%}) are expected to be wrong," + (
        f" between {interval[0]:,.0f} and {interval[1]:,.0f} in nine of ten cases."
        if interval
        else " the number flagged: this score is no probability."
    )
    return Decision(flagged, value, threshold, why, expected, rate, interval)


def wrong_interval(suspect_score: np.ndarray, class_uncertainty: np.ndarray) -> tuple[float, float]:
    """Say where the number of wrong labels lies in nine of ten cases, by the scores alone.

    See `labelaudit.suspects.label_model.count_interval`, for a single explanation.

    Parameters
    ----------
    suspect_score
        ``(L,)``, probabilities that labels are wrong.
    class_uncertainty
        ``(L,)``, probabilities that the model is mistaken about the image.
    """
    deviation = math.sqrt(float((suspect_score * (1.0 - suspect_score)).sum()))
    return count_interval(
        np.ones(1),
        np.array([suspect_score.sum()]),
        np.array([deviation]),
        np.array([class_uncertainty.sum()]),
        len(suspect_score),
    )


def review_curve(scores: Scores) -> list[dict[str, float]]:
    """Say how many of the wrong labels are expected among the most suspect so many.

    Parameters
    ----------
    scores
        From `score_labels`; their order decides who is looked at first. Verified labels are not.

    Returns
    -------
    list of dict
        For 1, 2, 5, 10, 20, 50, ... samples up to all, and evenly spaced ones up to twice the expected
        number of wrong labels: ``reviewed``, ``expected_found`` (their number) and ``expected_share``
        (of all expected wrong labels, in [0, 1]). Empty if the score is no probability.
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
    """Say how many of the most suspect to look at to find a half, nine tenths, ... of the wrong labels.

    Returns
    -------
    dict or None
        Shares of `REVIEW_SHARES` as text to numbers of samples, as expected; None if the score is no
        probability or hardly any label is expected to be wrong.
    """
    found = np.cumsum(scores.suspect_score[scores.unverified_order])
    if not scores.is_probability or not len(found) or found[-1] < 0.5:
        return None
    enough = found / found[-1] + 1e-9  # against rounding
    return {
        f"{share:g}": min(len(found), int(np.searchsorted(enough, share)) + 1)
        for share in REVIEW_SHARES
    }


def explain_review(reviewed: Mapping[str, int] | None) -> str:
    """Put `to_review` in words, "" if there is nothing to say."""
    if reviewed is None:
        return ""
    told = [f"{float(share):.0%} among the first {count:,}" for share, count in reviewed.items()]
    return f"Of the wrong labels, expect {', '.join(told[:-1])} and {told[-1]} suspects."


@dataclass(frozen=True)
class Trust:
    """Whether the model learned enough to be believed, and if not, why not."""

    trustworthy: bool
    reasons: tuple[str, ...]


def assess_trust(
    predicted: np.ndarray,
    given_labels: np.ndarray,
    class_names: tuple[str, ...],
    *,
    class_uncertainty: float = 0.0,
    advice: str = "More epochs (--epochs), another encoder (--encoder) or more labels may help.",
) -> Trust:
    """Judge whether the labels were held against something that knows anything.

    It is judged by what is said of each sample without its label: of its neighbors, or by classifiers
    that were not taught it. A network can learn a label by heart that tells nothing about the image.

    Parameters
    ----------
    predicted
        ``(L,)`` int64: the class that is likeliest by that.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    class_names
        Names of the C classes.
    class_uncertainty
        Share of the samples, in [0, 1], that this is expected to get wrong by its own estimate.
    advice
        What may help.
    """
    agreement = float((predicted == given_labels).mean())
    reasons = []
    counts = np.bincount(predicted, minlength=len(class_names))
    given_share = np.bincount(given_labels, minlength=len(class_names)) / len(given_labels)
    top = int(counts.argmax())
    share = counts[top] / len(predicted)
    if share > max(0.9, given_share.max() + 0.5 * (1 - given_share.max())):
        reasons.append(
            f"The model calls {share:.0%} of the labeled samples {class_names[top]!r}, but only"
            f" {given_share[top]:.0%} are labeled so: it is near constant."
        )
    kappa = 0.0
    if len(np.unique(predicted)) > 1 or len(np.unique(given_labels)) > 1:
        kappa = float(cohen_kappa_score(predicted, given_labels))
    chance = math.sqrt(1 / (len(given_labels) * max(1, len(class_names) - 1)))
    if not kappa >= MIN_KAPPA + KAPPA_DEVIATIONS * chance:
        reasons.append(
            f"What is said of a sample without its label agrees with the label in {agreement:.0%} of"
            f" cases, hardly more often than chance would (Cohen's kappa {kappa:.2f}). Either the model"
            " did not learn, or the labels have little to do with what is in the samples."
        )
    elif class_uncertainty > MAX_CLASS_UNCERTAINTY:
        reasons.append(
            f"By its own estimate the model is mistaken about {class_uncertainty:.0%} of the samples."
            " It knows too little to say that a label is wrong."
        )
    if reasons:
        reasons.append(advice)
    return Trust(not reasons, tuple(reasons))


def explain_kinds(kinds: MistakeKinds | None) -> str:
    """Say what the wrong labels are like, and what helps; "" if that is not known."""
    if kinds is None:
        return ""
    shares = (kinds.follow_images, kinds.between_classes, kinds.follow_nothing)
    cures = (
        "A second opinion on the ambiguous samples helps most, and a written rule for where one class"
        " ends and the next begins.",
        "Look at the pairs of classes first. A habit, a rule that is read in two ways or a wrong"
        " mapping"
        " can be mended at once.",
        "Check first how the labels were joined to the samples: shuffled rows or a broken join do this,"
        " and so do slips.",
    )
    told = (
        f"Of the wrong labels, about {shares[0]:.0%} follow the samples (what looks alike is confused),"
        f" {shares[1]:.0%} run between certain classes, and {shares[2]:.0%} follow nothing."
    )
    return f"{told} {cures[int(np.argmax(shares))]}"


def few_labels_warning(given_labels: np.ndarray, class_names: tuple[str, ...]) -> str | None:
    """Warn of classes with too few labels to learn from, in one line, or give None."""
    counts = np.bincount(given_labels, minlength=len(class_names))
    few = [name for name, n in zip(class_names, counts, strict=True) if n < MIN_LABELS_PER_CLASS]
    if not few:
        return None
    shown = ", ".join(repr(name) for name in few[:3]) + (", …" if len(few) > 3 else "")
    return (
        f"{len(few)} of {len(class_names)} classes have fewer than {MIN_LABELS_PER_CLASS} labels"
        f" ({shown}): what is said of them is little more than a guess"
    )


def unknown_first_warning(verified: Verified | None) -> str | None:
    """Warn of verified labels that may have been corrected, in one line, or give None.

    Without the label that was given at first, a corrected suspect looks like a label that was right all
    along, and the others are thought to be the more right.

    Parameters
    ----------
    verified
        Of the labeled samples' labels.
    """
    if verified is None:
        return None
    unknown = int((verified.labels & (verified.first_given < 0)).sum())
    if unknown <= UNKNOWN_FIRST_SHARE * len(verified.labels):
        return None
    return (
        f"what {unknown:,} of the verified labels were at first is not known; if suspects were"
        " corrected, name the run in which they were found with --reviewed too, or fewer of the other"
        " wrong labels are found"
    )


def thin_classes_warning(given_labels: np.ndarray, num_classes: int) -> str | None:
    """Say what can be trusted where classes have few labels, in one line, or give None."""
    per_class = len(given_labels) / num_classes
    if per_class >= THIN_CLASS:
        return None
    return (
        f"there are {per_class:.0f} labels a class on average: so few teach a class only roughly. The"
        " order of the suspects can be trusted more than their scores, and scores more than the"
        " expected number of wrong labels; look at the suspects from the top for as long as it pays"
    )

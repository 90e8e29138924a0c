"""Whether the result of an audit can be trusted, and what to warn of."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from labelaudit.errors import UntrustedResultWarning
from labelaudit.sources.manifest import Verified

# Least agreement beyond chance (Cohen's κ) between out-of-sample predictions and given labels. If six
# of ten labels are wrong at random, a model that knows the classes still reaches κ = 0.33.
MIN_KAPPA = 0.1
# Added to it: this many standard deviations of κ between unrelated labels of even classes.
KAPPA_DEVIATIONS = 2.0
# Largest share of samples whose class the model may get wrong by its own estimate.
MAX_CLASS_UNCERTAINTY = 0.5
# Least share of the labels' entropy that a network's predictions must tell. It is 0.7 or more where a
# network has learned digits, and 0.0003 after three epochs in place of 37, which already rank well.
MIN_INFORMATION = 0.0001
ROWS_AT_ONCE = 1 << 14
MIN_LABELS_PER_CLASS = 5
# Classes with fewer labels on average are learned only roughly.
THIN_CLASS = 30
# Largest share of labels that may have been corrected without a record of the first label.
UNKNOWN_FIRST_SHARE = 0.01


@dataclass(frozen=True)
class Trust:
    """Whether the model learned enough to be trusted; if not, the reasons and advice."""

    trustworthy: bool
    reasons: tuple[str, ...]


def assess_trust(
    predicted: np.ndarray,
    given_labels: np.ndarray,
    class_names: tuple[str, ...],
    *,
    class_uncertainty: float = 0.0,
    information: float = 1.0,
    advice: str = "More epochs, another encoder or more labels may help.",
) -> Trust:
    """Assess whether out-of-sample predictions know enough about the classes to be trusted.

    In-sample predictions would not do: a network can memorize labels that have nothing to do with the
    samples.

    Parameters
    ----------
    predicted
        ``(L,)`` int64 in 0..C-1, the likeliest class out of sample.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    class_names
        Names of the C classes.
    class_uncertainty
        Share of samples, in [0, 1], whose class the predictions get wrong by their own estimate.
    information
        What the predictions tell about the class, in [0, 1]; see `share_of_information`.
    advice
        What may help; it follows the reasons.
    """
    agreement = float((predicted == given_labels).mean())
    reasons = []
    learned = information >= MIN_INFORMATION
    if not learned:
        reasons.append(
            "The network did not learn the classes: it gives almost every sample the same"
            " probabilities. Either training was too short, or the labels have little to do with the"
            " samples."
        )
    counts = np.bincount(predicted, minlength=len(class_names))
    given_share = np.bincount(given_labels, minlength=len(class_names)) / len(given_labels)
    top = int(counts.argmax())
    share = counts[top] / len(predicted)
    if share > max(0.9, given_share.max() + 0.5 * (1 - given_share.max())):
        reasons.append(
            f"The model predicts {class_names[top]!r} for {share:.0%} of the labeled samples, but only"
            f" {given_share[top]:.0%} have this label. Its predictions are almost constant."
        )
    kappa = 0.0
    if len(np.unique(predicted)) > 1 or len(np.unique(given_labels)) > 1:
        by_chance = float((counts / len(predicted)) @ given_share)
        kappa = (agreement - by_chance) / (1.0 - by_chance)
    chance = math.sqrt(1 / (len(given_labels) * max(1, len(class_names) - 1)))
    if MIN_KAPPA <= kappa < MIN_KAPPA + KAPPA_DEVIATIONS * chance:
        reasons.append(
            f"Predictions made without a sample's own label agree with {agreement:.0%} of the labels"
            f" (Cohen's kappa {kappa:.2f}), but {len(given_labels):,} labels are too few to tell this"
            " from chance."
        )
    elif not kappa >= MIN_KAPPA:
        reasons.append(
            f"Predictions made without a sample's own label agree with {agreement:.0%} of the labels,"
            f" hardly more than by chance (Cohen's kappa {kappa:.2f})."
            + (
                " Either the model did not learn, or the labels have little to do with the samples."
                if learned
                else ""
            )
        )
    elif class_uncertainty > MAX_CLASS_UNCERTAINTY:
        reasons.append(
            f"By its own estimate, the model predicts the wrong class for {class_uncertainty:.0%} of"
            " the samples. It knows too little to tell which labels are wrong."
        )
    if reasons:
        reasons.append(advice)
    return Trust(not reasons, tuple(reasons))


def share_of_information(probs: np.ndarray, given_labels: np.ndarray) -> float:
    """Return how much predictions tell about the class, as a share of the entropy of the labels.

    This is the mutual information of sample and predicted class. It is 0 for a network that predicts
    the same probabilities for all samples, however much these agree with the labels by chance.

    Parameters
    ----------
    probs
        ``(L, C)`` floats, rows sum to 1.
    given_labels
        ``(L,)`` int64 in 0..C-1.

    Returns
    -------
    float
        At least 0. It is 1 if there is nothing to tell, because all labels are of one class.
    """
    given_share = np.bincount(given_labels, minlength=probs.shape[1]) / len(given_labels)
    possible = float(entr(given_share).sum())
    if possible == 0:
        return 1.0
    mean = probs.mean(axis=0, dtype=np.float64)
    blocks = range(0, len(probs), ROWS_AT_ONCE)
    left = sum(float(entr(probs[start : start + ROWS_AT_ONCE]).sum()) for start in blocks)
    return max(0.0, float(entr(mean).sum()) - left / len(probs)) / possible


def warn_of_distrust(trust: Trust, *, stacklevel: int) -> None:
    """Warn a Python user of a result that should not be trusted."""
    if not trust.trustworthy:
        warnings.warn(
            f"do not trust this result. {trust.reasons[0]}",
            UntrustedResultWarning,
            stacklevel=stacklevel,
        )


def few_labels_warning(given_labels: np.ndarray, class_names: tuple[str, ...]) -> str | None:
    """Return a warning of classes with too few labels ``(L,)`` to learn from, in one line, or None."""
    counts = np.bincount(given_labels, minlength=len(class_names))
    few = [name for name, n in zip(class_names, counts, strict=True) if n < MIN_LABELS_PER_CLASS]
    if not few:
        return None
    shown = ", ".join(repr(name) for name in few[:3]) + (", …" if len(few) > 3 else "")
    return (
        f"{len(few)} of {len(class_names)} classes have fewer than {MIN_LABELS_PER_CLASS} labels"
        f" ({shown}); their results are little more than guesses"
    )


def unknown_first_warning(verified: Verified | None) -> str | None:
    """Return a warning of verified labels whose first label is not known, in one line, or None.

    Without its first label, a corrected suspect looks like a label that was right from the start. The
    other labels then look more reliable than they are.
    """
    if verified is None:
        return None
    unknown = int((verified.labels & (verified.first_given < 0)).sum())
    if unknown <= UNKNOWN_FIRST_SHARE * len(verified.labels):
        return None
    return (
        f"the first labels of {unknown:,} verified samples are not known. If you corrected suspects,"
        " name the run that found them with `reviewed`, or fewer of the other wrong labels are found"
    )


def thin_classes_warning(given_labels: np.ndarray, num_classes: int) -> str | None:
    """Return a warning where classes have few labels ``(L,)`` on average, in one line, or None."""
    per_class = len(given_labels) / num_classes
    if per_class >= THIN_CLASS:
        return None
    return (
        f"there are only {per_class:.0f} labels per class on average, so the classes are learned"
        " roughly. Trust the order of the suspects more than their scores, and the scores more than the"
        " expected number of wrong labels. Review from the top, until few suspects turn out to be wrong"
    )

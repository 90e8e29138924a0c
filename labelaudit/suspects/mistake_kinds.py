"""Kinds of wrong labels: confusions of similar classes, habits, or accidents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from labelaudit.suspects.calibration import MIN_PROB

Floats = npt.NDArray[np.floating]

KIND_ROUNDS, KIND_START = 30, 0.1
LEAST_FOR_KINDS = 20.0  # with fewer wrong labels their kind cannot be estimated


@dataclass(frozen=True)
class MistakeKinds:
    """Shares of the expected number of wrong labels, by kind; they sum to 1.

    Attributes
    ----------
    follow_images
        The wrong label resembles the sample: people confuse what looks alike.
    between_classes
        The mistake is common between two classes, whatever the sample looks like: a habit, a rule or
        a wrong mapping.
    follow_nothing
        Any class is as likely as another: shuffled rows, a broken join or slips.
    """

    follow_images: float
    between_classes: float
    follow_nothing: float


def estimate_kinds(
    clean_probs: Floats,
    label_probs: Floats,
    given: npt.NDArray[np.int64],
    by_given: csr_array,
) -> MistakeKinds | None:
    """Estimate the kinds of mistakes by expectation maximization.

    Wrong labels are taken to be a mixture. Some are drawn from what the sample resembles besides its
    right class k, P_j / (1 - P_k). The others are drawn from a distribution of their right class. Of
    these, pairs of classes follow nothing as far as they are no more frequent than the median pair.

    Parameters
    ----------
    clean_probs
        ``(n, C)`` float64, P(y = k | x, ỹ), rows sum to 1; overwritten.
    label_probs
        ``(n, C)`` float64, P calibrated to the labels that people give.
    given
        ``(n,)`` int64 in 0..C-1.
    by_given
        ``(C, n)`` sparse, 1 where sample n was given class c.

    Returns
    -------
    MistakeKinds or None
        None where fewer than `LEAST_FOR_KINDS` labels are expected to be wrong.
    """
    size, classes = label_probs.shape
    rows = np.arange(size)
    shares = clean_probs.sum(axis=0)  # (C,), right classes
    wrong = clean_probs
    wrong[rows, given] = 0.0
    total = float(wrong.sum())
    if total < LEAST_FOR_KINDS:
        return None
    resembles = label_probs[rows, given][:, None] / np.maximum(
        1.0 - label_probs, MIN_PROB
    )  # (n, C)
    beside = ~np.eye(classes, dtype=bool)
    habit = np.where(beside, 1.0 / (classes - 1), 0.0)
    follow = KIND_START
    counts = np.zeros_like(habit)
    for _ in range(KIND_ROUNDS):
        by_image = follow * resembles
        by_class = (1.0 - follow) * habit[:, given].T
        part = np.clip(by_image / np.maximum(by_image + by_class, MIN_PROB), 0.0, 1.0)
        follow = float((wrong * part).sum()) / total
        counts = np.where(beside, np.asarray((by_given @ (wrong * (1.0 - part))).T), 0.0)
        habit = np.where(beside, counts + 1.0, 0.0)
        habit /= habit.sum(axis=1, keepdims=True)
    rates = habit * (counts.sum(axis=1) / np.maximum(shares, MIN_PROB))[:, None]
    median = float(np.quantile(rates[beside], 0.5, method="lower"))
    nothing = float((np.minimum(rates, median) * shares[:, None])[beside].sum()) / total
    nothing = min(nothing, 1.0 - follow)
    return MistakeKinds(follow, max(0.0, 1.0 - follow - nothing), nothing)


def explain_kinds(kinds: MistakeKinds | None) -> str:
    """Describe the wrong labels and what helps against them; "" if their kind is not known."""
    if kinds is None:
        return ""
    shares = (kinds.follow_images, kinds.between_classes, kinds.follow_nothing)
    advice = (
        "What helps most is a second opinion on the ambiguous samples, and a written rule for the"
        " border between similar classes.",
        "Look at these pairs of classes first. A habit, an ambiguous rule or a wrong mapping can be"
        " corrected for many labels at once.",
        "Check first how the labels were joined to the samples. Shuffled rows or a broken join cause"
        " such mistakes, and so do slips.",
    )
    return (
        f"Of the wrong labels, about {shares[0]:.0%} name a class that the sample resembles (people"
        f" confuse what looks alike), {shares[1]:.0%} are common between certain pairs of classes, and"
        f" {shares[2]:.0%} show no pattern. {advice[int(np.argmax(shares))]}"
    )

"""The votes of annotators in the tables and in the summary, and whether they can be trusted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from labelaudit.sources.annotators import Votes
from labelaudit.sources.manifest import Manifest
from labelaudit.suspects.decision import Decision
from labelaudit.suspects.scores import Scores
from labelaudit.suspects.summary import AnnotatorSummary, VoteSummary
from labelaudit.suspects.trust import MIN_KAPPA, Trust

Indices = npt.NDArray[np.int64]

# Fewer pairs of votes do not show whether annotators agree.
FEWEST_PAIRS = 20


def votes_as_text(votes: Votes, class_names: tuple[str, ...]) -> list[str | None]:
    """Return the votes for each sample as "anna: cat, bob: dog"; None where nobody voted."""
    return [
        ", ".join(
            f"{name}: {class_names[code]}"
            for name, code in zip(votes.annotators, row, strict=True)
            if code >= 0
        )
        or None
        for row in votes.labels.tolist()
    ]


def share_for(votes: Votes, labels: Indices) -> npt.NDArray[np.float64]:
    """Return the share of the votes that are for a label, ``(N,)``; NaN where nobody voted.

    `labels` are ``(N,)`` class numbers, -1 where there is none.
    """
    number = (votes.labels >= 0).sum(axis=1)
    same = (votes.labels == labels[:, None]) & (votes.labels >= 0)
    return np.where(number > 0, same.sum(axis=1) / np.maximum(number, 1), np.nan)


def summarize_votes(
    votes: Votes, manifest: Manifest, scores: Scores, decision: Decision
) -> VoteSummary:
    """Summarize how annotators agree, and how often each is right.

    Parameters
    ----------
    votes
        The votes for the N samples.
    manifest
        N samples, L of them labeled.
    scores, decision
        Scores and flags of the L labels.
    """
    flagged = np.zeros(manifest.num_samples, dtype=bool)
    flagged[manifest.labeled] = decision.is_label_issue
    given = manifest.noisy_labels
    there = votes.labels >= 0
    accuracy: list[float | None] = [None] * len(votes.annotators)
    if scores.vote_probs is not None:
        probs = scores.vote_probs
        accuracy = [
            float(np.nanmean(column)) if np.isfinite(column).any() else None for column in probs.T
        ]
    agreed, compared, _ = _pairs(votes.labels)
    return VoteSummary(
        num_compared=int((there.sum(axis=1) > 1).sum()),
        num_tied=int(votes.tied.sum()),
        pair_agreement=agreed / compared if compared else None,
        annotators=[
            AnnotatorSummary(
                name=name,
                num_votes=int(voted.sum()),
                num_outvoted=int((voted & (column != given)).sum()),
                num_suspects=int((voted & (column == given) & flagged).sum()),
                estimated_accuracy=right,
            )
            for name, voted, column, right in zip(
                votes.annotators, there.T, votes.labels.T, accuracy, strict=True
            )
        ],
    )


def trust_votes(trust: Trust, votes: Indices | None) -> Trust:
    """Add a reason for distrust if annotators agree hardly more than by chance.

    `votes` are ``(N, A)`` class numbers, -1 where there is none.
    """
    if votes is None:
        return trust
    agreed, compared, chance = _pairs(votes)
    if compared < FEWEST_PAIRS or chance == 1:
        return trust
    kappa = (agreed / compared - chance) / (1 - chance)
    if kappa >= MIN_KAPPA:
        return trust
    reason = (
        f"Annotators agree with each other on {agreed / compared:.0%} of the samples that two of them"
        f" labeled, hardly more than by chance ({chance:.0%}). Check that their columns belong to the"
        " same samples and name the classes in the same way."
    )
    return replace(trust, trustworthy=False, reasons=(*trust.reasons, reason))


def _pairs(labels: Indices) -> tuple[int, int, float]:
    """Count the pairs of votes for a sample that agree, and all pairs; estimate the chance to agree."""
    rows, columns = np.nonzero(labels >= 0)
    cells = np.column_stack([rows, labels[rows, columns]])

    def pairs(counts: Indices) -> int:
        return int((counts * (counts - 1) // 2).sum())

    agreed = pairs(np.unique(cells, axis=0, return_counts=True)[1])
    compared = pairs(np.bincount(rows))
    counts = np.bincount(labels[labels >= 0])
    chance = float(np.square(counts / max(1, counts.sum())).sum())
    return agreed, compared, chance

"""From scores and decisions to the summary of an audit."""

from __future__ import annotations

import platform
from importlib.metadata import version

import numpy as np

from labelaudit.sources.annotators import Votes
from labelaudit.sources.manifest import Manifest
from labelaudit.suspects.decision import Decision, explain_review, review_curve, to_review
from labelaudit.suspects.metrics import detection_metrics
from labelaudit.suspects.mistake_kinds import explain_kinds
from labelaudit.suspects.scores import Scores
from labelaudit.suspects.summary import (
    AuditSummary,
    ClassSummary,
    KnownMetrics,
    Mistakes,
    ReviewPlan,
    ScoreUsed,
    ThresholdUsed,
)
from labelaudit.suspects.table import wrong_labels
from labelaudit.suspects.trust import Trust
from labelaudit.suspects.votes import summarize_votes
from labelaudit.version import installed_version


def summarize(
    manifest: Manifest,
    scores: Scores,
    decision: Decision,
    trust: Trust,
    clean_labels: np.ndarray | None = None,
    num_excluded: int = 0,
    warnings: list[str] | None = None,
    votes: Votes | None = None,
) -> AuditSummary:
    """Summarize the result of an audit.

    Parameters
    ----------
    manifest
        N samples, L of them labeled.
    scores, decision, trust
        Scores and flags of the L labels, and whether to trust them.
    clean_labels
        ``(N,)`` class names, "" where unknown; metrics need them.
    num_excluded
        Number of samples that a person has excluded; these are not among the N.
    warnings
        One line each.
    votes
        Labels of the N samples by several annotators.
    """
    given = manifest.noisy_labels[manifest.labeled]
    flagged = decision.is_label_issue
    reviewed = to_review(scores)
    kinds = scores.kinds
    return AuditSummary(
        name=manifest.name,
        num_samples=manifest.num_samples,
        num_labeled=manifest.num_labeled,
        num_unlabeled=manifest.num_samples - manifest.num_labeled,
        num_verified=0 if scores.verified is None else int(scores.verified.labels.sum()),
        num_excluded=num_excluded,
        num_classes=manifest.num_classes,
        class_names=list(manifest.class_names),
        num_suspects=int(flagged.sum()),
        estimated_noise_rate=decision.estimated_noise_rate,
        expected_wrong=decision.expected_wrong,
        expected_wrong_interval=decision.expected_wrong_interval,
        mistakes=None
        if kinds is None
        else Mistakes(**vars(kinds), explanation=explain_kinds(kinds)),
        mean_ambiguity=float(scores.ambiguity.mean()),
        review=ReviewPlan(
            explanation=explain_review(reviewed), to_find=reviewed, curve=review_curve(scores)
        ),
        threshold=ThresholdUsed(
            value=decision.threshold, rule=decision.rule, explanation=decision.explanation
        ),
        score=ScoreUsed(
            name=scores.name, explanation=scores.explanation, assumption=scores.assumption
        ),
        trust=trust,
        metrics=_metrics(manifest, scores, decision, clean_labels),
        votes=None if votes is None else summarize_votes(votes, manifest, scores, decision),
        per_class=_per_class(manifest, scores, given, flagged),
        warnings=warnings or [],
    )


def _per_class(
    manifest: Manifest, scores: Scores, given: np.ndarray, flagged: np.ndarray
) -> list[ClassSummary]:
    size = manifest.num_classes
    probable = scores.suspect_score if scores.is_probability else flagged.astype(np.float64)
    counts = np.bincount(given, minlength=size)
    suspects = np.bincount(given[flagged], minlength=size)
    expected = np.bincount(given, weights=probable, minlength=size)
    return [
        ClassSummary(
            class_name=name,
            num_labeled=int(labels),
            num_suspects=int(bad),
            estimated_noise_rate=float(wrong / labels) if labels else None,
        )
        for name, labels, bad, wrong in zip(
            manifest.class_names, counts, suspects, expected, strict=True
        )
    ]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result, by name."""
    return {
        "labelaudit": installed_version(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")},
    }


def _metrics(
    manifest: Manifest, scores: Scores, decision: Decision, clean_labels: np.ndarray | None
) -> KnownMetrics:
    if clean_labels is None:
        return KnownMetrics()
    known, wrong = wrong_labels(manifest, clean_labels)
    # Verified labels are never flagged, so they do not count, right or wrong.
    known, wrong = known & scores.unverified, wrong & scores.unverified
    if not known.any():
        return KnownMetrics()
    metrics = detection_metrics(
        scores.suspect_score[known], decision.is_label_issue[known], wrong[known]
    )
    return KnownMetrics(**metrics, num_wrong=int(wrong.sum()))

"""What an audit found, as plain numbers and words: the contract of summary.json."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, Self

import msgspec
import numpy as np

from labelaudit.errors import SourceError
from labelaudit.sources.manifest import Manifest
from labelaudit.suspects.checked import CheckedScores
from labelaudit.suspects.decision import (
    Decision,
    ReviewPoint,
    explain_review,
    review_curve,
    to_review,
)
from labelaudit.suspects.metrics import detection_metrics
from labelaudit.suspects.mistake_kinds import explain_kinds
from labelaudit.suspects.scores import Scores
from labelaudit.suspects.table import wrong_labels
from labelaudit.suspects.trust import Trust

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """Shares of the expected wrong labels by kind; see `MistakeKinds`."""

    follow_images: float
    between_classes: float
    follow_nothing: float
    explanation: str


@dataclass(frozen=True, kw_only=True)
class ReviewPlan:
    """How many suspects to review in order to find most of the wrong labels.

    Attributes
    ----------
    explanation
        In a sentence; "" where it cannot be estimated.
    to_find
        Number of suspects to review, by the share of the expected wrong labels among them.
    curve
        Expected finds by number of reviewed labels.
    """

    explanation: str
    to_find: dict[str, int] | None
    curve: list[ReviewPoint]


@dataclass(frozen=True, kw_only=True)
class ThresholdUsed:
    """The score above which labels are flagged, the rule as the user gave it, and in words."""

    value: float
    rule: str
    explanation: str


@dataclass(frozen=True, kw_only=True)
class ScoreUsed:
    """Name of the score, how it is made, and what it assumes."""

    name: str
    explanation: str
    assumption: str


@dataclass(frozen=True, kw_only=True)
class KnownMetrics:
    """Metrics against clean labels; None where these are not known.

    Attributes
    ----------
    precision, recall, f1, auroc, average_precision
        In [0, 1].
    num_wrong
        Number of labels that differ from the clean label.
    """

    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    auroc: float | None = None
    average_precision: float | None = None
    num_wrong: int | None = None


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """Counts of one given class; `estimated_noise_rate` is None for a class without a label."""

    class_name: str
    num_labeled: int
    num_suspects: int
    estimated_noise_rate: float | None


@dataclass(frozen=True, kw_only=True)
class EncoderUsed:
    """The encoder, why it was chosen, and the ``[C, H, W]`` that it reads (None for features)."""

    name: str
    reason: str
    image_shape: list[int] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditSummary(Mapping[str, Any]):
    """What an audit found. It is also a read-only mapping with the keys of summary.json.

    Attributes
    ----------
    name
        Of the data.
    num_samples, num_labeled, num_unlabeled, num_verified, num_excluded
        Numbers of samples: audited, with a label, without one, with a verified label, and left out
        because a person excluded them.
    num_classes, class_names
        C and its names in order.
    num_suspects
        Number of flagged labels.
    estimated_noise_rate, expected_wrong, expected_wrong_interval
        Expected share and number of wrong labels. In nine of ten cases the number lies in the
        interval, which is None for scores that are no probabilities.
    mistakes
        None where there are too few wrong labels to tell.
    mean_ambiguity
        Mean probability that two people label a sample differently, in [0, 1].
    review, threshold, score, trust, metrics, per_class
        See their classes.
    checked
        Scores compared with decisions of earlier runs; None without any.
    warnings
        One line each.
    """

    name: str
    num_samples: int
    num_labeled: int
    num_unlabeled: int
    num_verified: int = 0
    num_excluded: int = 0
    num_classes: int
    class_names: list[str]
    num_suspects: int
    estimated_noise_rate: float
    expected_wrong: float
    expected_wrong_interval: tuple[float, float] | None
    mistakes: Mistakes | None
    mean_ambiguity: float
    review: ReviewPlan
    threshold: ThresholdUsed
    score: ScoreUsed
    trust: Trust
    metrics: KnownMetrics
    checked: CheckedScores | None = None
    per_class: list[ClassSummary]
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and text, as they are in summary.json."""
        return {name: self[name] for name in self}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> Self:
        """Read what `to_json` gave. Keys of later versions are passed over.

        Parameters
        ----------
        value
            Plain values.
        where
            The file, for messages.

        Raises
        ------
        SourceError
            If a key is missing or its value has another type.
        """
        try:
            return msgspec.convert(dict(value), type=cls)
        except msgspec.ValidationError as error:
            raise SourceError(
                f"{where} is damaged ({error}); scan again with `force=True`"
            ) from error

    def __getitem__(self, key: str) -> Any:
        if key not in self.__dataclass_fields__:
            raise KeyError(key)
        return msgspec.json.decode(msgspec.json.encode(getattr(self, key)))

    def __iter__(self) -> Iterator[str]:
        return (one.name for one in fields(self))

    def __len__(self) -> int:
        return len(fields(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class Summary(AuditSummary):
    """What summary.json holds: what was found, and how the run was done.

    Attributes
    ----------
    encoder
        See `EncoderUsed`.
    columns
        What became of each column of a table, by name.
    status
        How the run ended.
    epochs, seconds, device, seed
        Number of trained epochs, time for all, where the networks ran, and the seed.
    versions
        Of Python and of the packages that decide a result.
    config
        All settings that decide the outcome.
    num_conflicting_duplicates
        Number of pairs that are the same sample, or nearly, with different labels.
    format_version
        Of summary.json. It goes up when a key changes its meaning or goes.
    """

    encoder: EncoderUsed
    columns: dict[str, str]
    status: Literal["complete", "interrupted", "out of time"]
    epochs: int
    seconds: float
    device: str
    seed: int
    versions: dict[str, str]
    config: dict[str, Any]
    num_conflicting_duplicates: int = 0
    format_version: int = FORMAT_VERSION


def summary_schema() -> dict[str, Any]:
    """Return the JSON Schema of summary.json (https://json-schema.org, draft 2020-12)."""
    schema = msgspec.json.schema(Summary)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def summarize(
    manifest: Manifest,
    scores: Scores,
    decision: Decision,
    trust: Trust,
    clean_labels: np.ndarray | None = None,
    num_excluded: int = 0,
    warnings: list[str] | None = None,
) -> AuditSummary:
    """Summarize what an audit found.

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


def installed_version() -> str:
    """Return the version of labelaudit, or "unknown" where it is not installed."""
    try:
        return version("labelaudit")
    except PackageNotFoundError:
        return "unknown"


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

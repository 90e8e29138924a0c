"""The summary of an audit as plain numbers and words, and the format of summary.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypedDict

from labelaudit.errors import SourceError
from labelaudit.suspects.checked import CheckedScores
from labelaudit.suspects.trust import Trust
from labelaudit.typed_json import MismatchError, from_plain, to_plain

MAX_PAIRS = 1000  # largest number of pairs of conflicting duplicates that are listed
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """Shares of the expected wrong labels by kind; see `MistakeKinds`."""

    follow_images: float
    between_classes: float
    follow_nothing: float
    explanation: str


class ReviewPoint(TypedDict):
    """Expected number of wrong labels among the first reviewed labels, the most suspect first.

    Attributes
    ----------
    reviewed
        Number of reviewed labels.
    expected_found, expected_share
        Expected number of wrong labels among them, and its share of all expected ones, in [0, 1].
    """

    reviewed: int
    expected_found: float
    expected_share: float


@dataclass(frozen=True, kw_only=True)
class ReviewPlan:
    """How many suspects to review to find most of the wrong labels.

    Attributes
    ----------
    explanation
        The plan in a sentence; "" if it cannot be estimated.
    to_find
        Number of suspects to review, by the share of the expected wrong labels among them.
    curve
        Expected number of wrong labels found, by number of reviewed labels.
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
    assumption: str = ""


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
class AnnotatorSummary:
    """The labels by one of several annotators.

    Attributes
    ----------
    name
        Name of the annotator's column.
    num_votes, num_outvoted, num_suspects
        Number of labels by this annotator, of those that differ from the given label, and of those
        that are the given label of a flagged sample.
    estimated_accuracy
        Estimated share of right labels, in [0, 1]. None where the votes are no part of the score.
    """

    name: str
    num_votes: int
    num_outvoted: int
    num_suspects: int
    estimated_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class VoteSummary:
    """The labels by several annotators.

    Attributes
    ----------
    num_compared, num_tied
        Number of samples with labels by two annotators or more, and of those without a single most
        frequent label.
    pair_agreement
        Share of the pairs of labels for a sample that agree, in [0, 1]; None without such a pair.
    annotators
        Each annotator, in the order of the columns.
    """

    num_compared: int
    num_tied: int
    pair_agreement: float | None
    annotators: list[AnnotatorSummary]


@dataclass(frozen=True, kw_only=True)
class EncoderUsed:
    """The encoder, why it was chosen, and the ``[C, H, W]`` that it reads (None for features)."""

    name: str
    reason: str
    image_shape: list[int] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditSummary(Mapping[str, Any]):
    """The summary of an audit. It is also a read-only mapping with the keys of summary.json.

    Attributes
    ----------
    name
        Name of the data.
    num_samples, num_labeled, num_unlabeled, num_verified, num_excluded
        Numbers of samples: all that were audited, with a label, without one, with a verified label, and
        left out because a person excluded them.
    num_classes, class_names
        C and its names in order.
    num_suspects
        Number of flagged labels.
    estimated_noise_rate, expected_wrong, expected_wrong_interval
        Expected share and number of wrong labels. In nine of ten cases the number lies in the
        interval, which is None for scores that are no probabilities.
    mistakes
        Kinds of wrong labels; None if there are too few to estimate them.
    mean_ambiguity
        Mean probability that two people label a sample differently, in [0, 1].
    review, threshold, score, trust, metrics, per_class
        See their classes.
    checked
        Scores compared with decisions of earlier runs; None without any.
    votes
        The labels by several annotators; None if there is one label per sample.
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
    mistakes: Mistakes | None = None
    mean_ambiguity: float | None = None
    review: ReviewPlan
    threshold: ThresholdUsed
    score: ScoreUsed
    trust: Trust
    metrics: KnownMetrics
    checked: CheckedScores | None = None
    votes: VoteSummary | None = None
    per_class: list[ClassSummary]
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and text, as they are in summary.json."""
        return {name: self[name] for name in self}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> Self:
        """Read the result of `to_json`. Keys of later versions are ignored. `where` is for messages.

        Raises SourceError if a key is missing or its value has another type.
        """
        try:
            read: Self = from_plain(cls, dict(value))
            return read
        except MismatchError as error:
            raise SourceError(
                f"{where} is damaged, or of another version of labelaudit ({error}); scan again with"
                " `force=True`"
            ) from error

    def __getitem__(self, key: str) -> Any:
        if key not in self.__dataclass_fields__:
            raise KeyError(key)
        return to_plain(getattr(self, key))

    def __iter__(self) -> Iterator[str]:
        return (one.name for one in fields(self))

    def __len__(self) -> int:
        return len(fields(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class Summary(AuditSummary):
    """The content of summary.json: the result of a run, and how the run was done.

    Attributes
    ----------
    encoder
        See `EncoderUsed`.
    columns
        How each column of a table was used, by name.
    status
        How the run ended: "complete", "interrupted", "out of time" or "diverged".
    epochs, seconds, device, seed
        Number of trained epochs, time for the whole run, device of the networks, and the seed.
    versions
        Versions of Python and of the packages that decide a result.
    config
        All settings that decide the outcome.
    num_conflicting_duplicates
        Number of pairs that are the same sample, or nearly, with different labels; `MAX_PAIRS` if there
        are as many or more.
    format_version
        Version of the format. It increases when a key changes its meaning or is removed.
    """

    encoder: EncoderUsed
    columns: dict[str, str]
    status: str
    epochs: int
    seconds: float
    device: str
    seed: int
    versions: dict[str, str]
    config: dict[str, Any]
    num_conflicting_duplicates: int = 0
    format_version: int = FORMAT_VERSION

    @property
    def duplicates(self) -> str:
        """Conflicting duplicates in words, such as "5 pairs of samples are"; "" if there are none."""
        count = self.num_conflicting_duplicates
        if count < 2:
            return "1 pair of samples is" if count else ""
        return f"{count:,} {'or more ' if count >= MAX_PAIRS else ''}pairs of samples are"

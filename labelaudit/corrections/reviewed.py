"""Decisions about earlier runs, used in a new one: `labelaudit scan --reviewed RUN`.

Decisions are joined to samples by id. The new run folder gets all of them in its corrections.csv, so
that the next round needs only the last run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from labelaudit.corrections.additions import Additions
from labelaudit.corrections.reading import file_of_decisions, read_corrections
from labelaudit.corrections.run import SUMMARY_FILE, Run, is_half_written, read_run
from labelaudit.corrections.table import (
    ACCEPT,
    CORRECTION_COLUMNS,
    EXCLUDE,
    GIVEN_LABEL,
    KEEP,
    RELABEL,
    label_before,
    write_corrections,
)
from labelaudit.errors import SourceError
from labelaudit.files import locked
from labelaudit.progress import Reporter
from labelaudit.reporting.run_folder import BEFORE_FILE, CORRECTIONS_FILE
from labelaudit.sources.classes import text_array
from labelaudit.sources.feature_tables import FeatureSource
from labelaudit.sources.manifest import UNLABELED, Source
from labelaudit.sources.name_matching import match_numbers
from labelaudit.sources.prediction_files import PredictionSource
from labelaudit.sources.texts import TextSource
from labelaudit.sources.wording import count, some
from labelaudit.suspects.checked import CheckedScores, check_scores
from labelaudit.suspects.summary import Summary

# The decisions that say which label is right.
ABOUT_LABELS = (ACCEPT, KEEP, RELABEL)

Data = TypeVar(
    "Data",
    Source,
    FeatureSource,
    Source | FeatureSource,
    Source | FeatureSource | TextSource,
    PredictionSource,
)


@dataclass(frozen=True, eq=False)
class Decisions:
    """Decisions about single samples.

    Attributes
    ----------
    corrections : DataFrame
        One row per sample, with the columns `CORRECTION_COLUMNS`.
    given_labels : mapping of str to str
        The label of a sample at the time of the decision, by sample id. Samples without a label are
        missing.
    first_labels : mapping of str to str
        The first label of a sample, by sample id, if an earlier review had already decided about it.
    """

    corrections: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=list(CORRECTION_COLUMNS), dtype="str")
    )
    given_labels: Mapping[str, str] = field(default_factory=dict)
    first_labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> Decisions:
        """Return the decisions about a run."""
        about = run.samples[run.samples["sample_id"].isin(run.corrections["sample_id"])]
        return cls(
            run.corrections,
            # A decision from an earlier run was about the label at that time.
            _by_id(about, "given_label") | _labels_decided_about(run.corrections),
            _by_id(about, "first_label") if "first_label" in about else {},
        )

    def followed_by(self, later: Decisions) -> Decisions:
        """Return these and later decisions. If both decide about a sample, the later one holds."""
        both = pd.concat([self.corrections, later.corrections], ignore_index=True)
        both = both.drop_duplicates("sample_id", keep="last", ignore_index=True)
        anew = set(later.corrections["sample_id"])

        def joined(first: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
            return {name: text for name, text in first.items() if name not in anew} | dict(then)

        return Decisions(
            both,
            joined(self.given_labels, later.given_labels),
            joined(self.first_labels, later.first_labels),
        )

    @property
    def table(self) -> pd.DataFrame:
        """The corrections, with the label that each decision was about."""
        given = [self.given_labels.get(name, "") for name in self.corrections["sample_id"]]
        return self.corrections.assign(**{GIVEN_LABEL: given})

    def still_about(self, samples: pd.DataFrame) -> tuple[Decisions, Decisions]:
        """Split into decisions that still apply, and those whose sample or kept label is gone."""
        now = dict(zip(samples["sample_id"], samples["given_label"], strict=True))
        names = self.corrections["sample_id"]
        then = [self.given_labels.get(name, now.get(name)) for name in names]
        same = np.array([now.get(n) == given for n, given in zip(names, then, strict=True)], bool)
        holds = names.isin(list(now)) & ((self.corrections["decision"] != KEEP) | same)
        return (
            replace(self, corrections=self.corrections[holds]),
            replace(self, corrections=self.corrections[~holds]),
        )


@dataclass(frozen=True, eq=False)
class DecidedScores:
    """The scores of a run for labels that were decided about, and the decisions.

    Attributes
    ----------
    scores : array (K,) float64
        Suspect scores in [0, 1].
    wrong : array (K,) bool
        Whether the label was wrong, by the decision.
    """

    scores: npt.NDArray[np.float64]
    wrong: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, run: Run) -> DecidedScores | None:
        """Return those of a run; None if there are none, or if scores are not probabilities."""
        decided = run.corrections[run.corrections["decision"].isin(ABOUT_LABELS)]
        decided = decided.drop(columns=GIVEN_LABEL, errors="ignore")
        # Labels that were verified before the run have no score in it.
        table = _doubtful(run.samples).merge(decided, on="sample_id")
        if not len(table) or not _are_probabilities(run.summary):
            return None
        wrong = (table["decision"] != KEEP) & (table["corrected_label"] != table["given_label"])
        return cls(table["suspect_score"].to_numpy(dtype=np.float64), wrong.to_numpy(dtype=bool))

    def check(self, remaining: pd.Series[Any]) -> CheckedScores:
        """Compare scores and decisions; `remaining` are the scores of the other labels."""
        return check_scores(self.scores, self.wrong, np.asarray(remaining, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Review:
    """The decisions of earlier runs, and how a new run uses them.

    Attributes
    ----------
    decisions : Decisions
        The decisions about all runs that were named.
    last : DecidedScores, or None
        The scores of the last of these runs.
    standing : Decisions
        The decisions about the run that is in the output folder already.
    added : Additions
        What else people have written into the corrections.csv of that run.
    """

    decisions: Decisions = field(default_factory=Decisions)
    last: DecidedScores | None = None
    standing: Decisions = field(default_factory=Decisions)
    added: Additions = field(default_factory=Additions)

    @property
    def excluded(self) -> frozenset[str]:
        """Ids of the samples that are left out."""
        decided = self.decisions.corrections
        return frozenset(decided.loc[decided["decision"] == EXCLUDE, "sample_id"])

    def check(self, samples: pd.DataFrame, summary: Summary) -> CheckedScores | None:
        """Compare the scores of the last run with the decisions, and recalibrate those of the new run.

        Return None if no label of the last run was decided about, or if scores are not probabilities.
        """
        if self.last is None or not _are_probabilities(summary):
            return None
        return self.last.check(_doubtful(samples)["suspect_score"])

    def keep_standing(self, folder: Path) -> None:
        """Write the decisions of the output folder into the new folder, before anything can fail.

        Raises OutputError if the file cannot be written.
        """
        file = folder / CORRECTIONS_FILE
        kept = self.added.beside(self.standing.table, self.added.rows["sample_id"])
        if len(kept) and not file.exists():
            write_corrections(kept, file)

    def carry_over(self, samples: pd.DataFrame, folder: Path, reporter: Reporter) -> pd.DataFrame:
        """Write all decisions into the new run folder, with what people have added to them.

        Return the rows that corrections.csv has now.

        Decisions about the replaced run that no longer hold are kept in `BEFORE_FILE`. The file in the
        folder is read again, because the review may have been continued meanwhile. Raises OutputError
        if a file cannot be written.
        """
        # A review that still runs waits, and then refuses decisions about the earlier run.
        with locked(folder / CORRECTIONS_FILE):
            stays, gone = self._write_decisions(samples, folder)
        if number := len(gone.corrections):
            reporter.warn(
                f"{number:,} earlier {'decision is' if number == 1 else 'decisions are'} about samples"
                f" or labels that no longer exist; see {BEFORE_FILE} in the run folder"
            )
        return stays

    def _write_decisions(
        self, samples: pd.DataFrame, folder: Path
    ) -> tuple[pd.DataFrame, Decisions]:
        """Write all decisions into the new run folder; return its rows, and what no longer holds."""
        file, before = folder / CORRECTIONS_FILE, folder / BEFORE_FILE
        standing, added = self.standing, self.added.followed_by(Additions.of(file))
        if file.exists():
            here = read_corrections(file, _by_id(samples, "suggested_label"))
            given = {**standing.given_labels, **_labels_decided_about(here)}
            standing = standing.followed_by(Decisions(here, given))
        holding, gone = standing.still_about(samples)
        names = set(samples["sample_id"])
        moved = added.beside(gone.table, set(added.rows["sample_id"]) - names)
        if len(moved):
            earlier = Additions.of(before).rows
            kept = pd.concat([earlier, moved], ignore_index=True).fillna("")
            write_corrections(kept.drop_duplicates("sample_id", keep="last"), before)
        stays = added.beside(self.decisions.followed_by(holding).table, names)
        if len(stays):
            write_corrections(stays, file)
        elif file.exists():
            file.unlink()
        return stays, gone


def open_review(
    reviewed: str | Path | Sequence[str | Path] | None, out: Path | None = None
) -> Review:
    """Read the decisions about earlier runs.

    Parameters
    ----------
    reviewed : str, Path, sequence of these, or None
        Run folders. Of two decisions about a sample, that in the later folder holds.
    out : Path, optional
        The folder that the new run will be written to. Decisions about a run in it, which is replaced
        or continued, are not lost.

    Raises
    ------
    SourceError
        A folder is not a run folder, has no decisions yet, or its corrections cannot be read.
    """
    standing, added = (Decisions(), Additions()) if out is None else _standing(out)
    if reviewed is None:
        return Review(standing=standing, added=added)
    paths = [reviewed] if isinstance(reviewed, str | Path) else list(reviewed)
    decisions, last = Decisions(), None
    for path in paths:
        run = read_run(path)
        if not len(run.corrections):
            raise SourceError(f"{path} has no decisions yet; run `labelaudit review {path}` first")
        decisions, last = decisions.followed_by(Decisions.of(run)), DecidedScores.of(run)
    return Review(decisions, last, standing, added)


def _standing(out: Path) -> tuple[Decisions, Additions]:
    """Read the decisions in a folder: about its run, or those carried over if it is unfinished."""
    try:
        added = Additions.of(out / CORRECTIONS_FILE)
        file = file_of_decisions(out)
        if file is None:
            return Decisions(), added
        if (out / SUMMARY_FILE).exists() and not is_half_written(out):
            return Decisions.of(read_run(out)), added
        table = read_corrections(file)
    except SourceError as error:
        raise SourceError(
            f"{error}. Its decisions would be lost, so move {CORRECTIONS_FILE} away first"
        ) from error
    return Decisions(table, _labels_decided_about(table)), added


def take_review(data: Data, review: Review) -> Data:
    """Apply decisions to a source: set labels, mark them as verified, and leave out excluded samples.

    A kept label is verified only if it is still the same. A corrected label that is not a class yet
    becomes a new class. The classes of predictions are fixed, however, so for predictions the sample
    becomes unlabeled. The source gets a warning about each of these cases. The first label of a sample
    is taken from the source, or else from the earliest run. If its class no longer exists, it counts
    as unknown.
    """
    if not len(review.decisions.corrections):
        return data
    source = data if isinstance(data, Source) else data.source
    excluded = pd.Index(source.manifest.sample_ids).isin(review.excluded)
    source = _with_labels(source, review.decisions, fixed=isinstance(data, PredictionSource))
    left = source.without_excluded(excluded, "by a reviewer")
    if isinstance(data, Source):
        return left
    return replace(data.subset(~excluded) if excluded.any() else data, source=left)


def check_run(run: Run | str | Path) -> CheckedScores | None:
    """Compare the scores of a run with the decisions about its suspects.

    Parameters
    ----------
    run : Run, str or Path
        The run, or its folder.

    Returns
    -------
    CheckedScores or None
        None if there are no decisions about labels, or if scores are not probabilities.

    Raises
    ------
    SourceError
        The folder is not a run folder, or its corrections cannot be read.
    """
    found = run if isinstance(run, Run) else read_run(run)
    decided = DecidedScores.of(found)
    if decided is None:
        return None
    done = found.corrections["decision"].isin([*ABOUT_LABELS, EXCLUDE])
    others = _doubtful(found.samples)
    others = others[~others["sample_id"].isin(found.corrections.loc[done, "sample_id"])]
    return decided.check(others["suspect_score"])


def _by_id(samples: pd.DataFrame, column: str) -> dict[str, str]:
    """Return a column by sample id, without missing values."""
    there = samples[samples[column].notna()]
    return dict(zip(there["sample_id"], there[column], strict=True))


def _labels_decided_about(corrections: pd.DataFrame) -> dict[str, str]:
    """Return the label that each decision was about by sample id, if the table has it."""
    if GIVEN_LABEL not in corrections:
        return {}
    return _by_id(corrections[corrections[GIVEN_LABEL] != ""], GIVEN_LABEL)


def _are_probabilities(summary: Summary) -> bool:
    return summary.expected_wrong_interval is not None


def _doubtful(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the labeled samples whose labels were not verified before the run."""
    there = samples["given_label"].notna()
    if "verified" in samples:
        there &= ~samples["verified"]
    return samples[there]


def _with_labels(source: Source, decisions: Decisions, *, fixed: bool) -> Source:
    """Set labels and mark them as verified; `fixed` means that there can be no new class."""
    manifest = source.manifest
    index = {name: number for number, name in enumerate(manifest.class_names)}
    names = (*manifest.class_names, "")
    labels = manifest.noisy_labels.copy()
    size = manifest.num_samples
    verified = np.zeros(size, dtype=bool) if source.verified is None else source.verified.copy()
    first = text_array([""] * size) if source.first_labels is None else source.first_labels.copy()
    absent: list[str] = []
    changed: list[str] = []
    unknown: list[str] = []
    decided = decisions.corrections[decisions.corrections["decision"].isin(ABOUT_LABELS)]
    places = pd.Index(manifest.sample_ids).get_indexer(pd.Index(decided["sample_id"]))
    # A spreadsheet turns "1" into "1.0".
    texts = (*decided["corrected_label"], *decisions.given_labels.values())
    written = match_numbers(texts, index)
    corrected = [written.get(label, label) for label in decided["corrected_label"]]
    for at, name, decision, label in zip(
        places, decided["sample_id"], decided["decision"], corrected, strict=True
    ):
        if at < 0:
            absent.append(name)
            continue
        then = decisions.given_labels.get(name, "")
        now, then = names[labels[at]], written.get(then, then)
        # The decision does not apply to another label, or to another sample with the same id.
        if decision == KEEP:
            holds = bool(now) and now == then
        else:
            known = ("", then, label, decisions.first_labels.get(name, then))
            holds = not then or now in known
        if not holds:
            changed.append(name)
            continue
        if decision != KEEP:
            if fixed and label not in index:
                unknown.append(label)
                labels[at] = UNLABELED
                continue
            labels[at] = index.setdefault(label, len(index))
        # The source knows the earliest label, and then earlier runs do.
        earlier = first[at] or decisions.first_labels.get(name, "")
        first[at] = earlier or label_before("" if decision == KEEP else label, now, then)
        verified[at] = True
    warnings = list(source.warnings)
    if absent:
        warnings.append(
            f"{count(absent, 'reviewed sample is', 'reviewed samples are')} not in the source:"
            f" {some(absent)}"
        )
    if changed:
        warnings.append(
            f"{count(changed, 'reviewed label has', 'reviewed labels have')} changed since the review:"
            f" {some(changed)}; these decisions are ignored"
        )
    if unknown:
        warnings.append(
            f"{count(unknown, 'label was', 'labels were')} corrected to a class that the predictions do"
            f" not have: {some(list(dict.fromkeys(unknown)))}; these samples are unlabeled"
        )
    return replace(
        source,
        manifest=replace(manifest, noisy_labels=labels, class_names=tuple(index)),
        verified=verified,
        first_labels=first,
        warnings=tuple(warnings),
    )

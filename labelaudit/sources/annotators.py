"""Labels by several annotators, one column each, and the label that most of them chose.

The given label of a sample is the class with most votes. A sample without a vote is unlabeled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array, triu

from labelaudit.errors import OptionError, SourceError
from labelaudit.sources.cells import Cells, Columns, find_column
from labelaudit.sources.name_matching import plain_form
from labelaudit.sources.values import as_array, as_frame, is_frame
from labelaudit.sources.wording import count, repeated, some

Indices = npt.NDArray[np.int64]
NO_VOTE = -1

_WHOLE_FLOAT = re.compile(r"(-?[0-9]{1,18})\.0+")
_COUNT = re.compile(r"[0-9]{1,6}")
# With fewer rows, equal sums of their cells may be a coincidence.
FEWEST_COUNTED = 10
# Two annotators who agree on all of so many samples may be one column that was copied.
FEWEST_COPIED = 50


@dataclass(frozen=True, eq=False)
class Votes:
    """The labels that A annotators gave to N samples.

    Attributes
    ----------
    annotators : tuple of str
        Their names: those of the columns.
    labels : array (N, A) int64
        Class numbers, -1 where an annotator did not label the sample.
    tied : array (N,) bool
        Whether another class has as many votes as the label that was chosen.
    """

    annotators: tuple[str, ...]
    labels: Indices
    tied: npt.NDArray[np.bool_]

    def subset(self, rows: npt.NDArray[Any]) -> Votes:
        """Return the votes for the samples in `rows`, (M,) indices."""
        return replace(self, labels=self.labels[rows], tied=self.tied[rows])


@dataclass(frozen=True, eq=False)
class VoteTexts:
    """The votes for R rows of a table as text.

    Attributes
    ----------
    columns : mapping of str to list of str
        The labels (R,) by each annotator, "" where there is none.
    labels : list of str
        The label (R,) that most annotators chose, "" where nobody voted; see `majority`.
    tied : list of bool
        Whether another class has as many votes (R,).
    warnings : tuple of str
        What a reader of the result must know, one line each.
    """

    columns: Mapping[str, list[str]]
    labels: list[str]
    tied: list[bool]
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, columns: Mapping[str, list[str]], where: str) -> VoteTexts:
        """Find the labels that most annotators chose; `where` names the table in messages.

        Raises SourceError if the columns are counts, and no labels.
        """
        _refuse_counts(columns, where)
        columns, warnings = _spelled_alike(columns, where)
        if silent := [name for name, texts in columns.items() if not any(texts)]:
            words = count(silent, "annotator has", "annotators have")
            warnings.append(f"{where}: {words} no label: {some(silent)}")
        names = sorted({text for texts in columns.values() for text in texts} - {""})
        codes = encode_votes(columns, names)
        chosen, tied = majority(codes)
        warnings += [f"{where}: {line}" for line in vote_warnings(codes, tied, tuple(columns))]
        named = [*names, ""]  # -1 is the last
        return cls(columns, [named[code] for code in chosen], tied.tolist(), tuple(warnings))

    def rows(self, rows: Sequence[int | None]) -> VoteTexts:
        """Return the votes for some rows; None stands for a sample without a row."""
        return replace(
            self,
            columns={
                name: ["" if row is None else texts[row] for row in rows]
                for name, texts in self.columns.items()
            },
            labels=["" if row is None else self.labels[row] for row in rows],
            tied=[row is not None and self.tied[row] for row in rows],
        )

    def described(self) -> list[str]:
        """Return the votes of each row as one text, for messages."""
        return [" / ".join(texts) for texts in zip(*self.columns.values(), strict=True)]

    def names(self) -> set[str]:
        """Return the classes that any annotator named."""
        return {text for texts in self.columns.values() for text in texts} - {""}

    def numbered(self, class_names: Sequence[str]) -> Votes:
        """Return the votes with class numbers."""
        codes = encode_votes(self.columns, class_names)
        return Votes(tuple(self.columns), codes, np.array(self.tied, dtype=bool))


# --- which columns ------------------------------------------------------------------------------


def annotator_columns(
    asked: Any, label_column: str | None, verified_column: str | None
) -> tuple[tuple[str, ...], str | None]:
    """Return the columns of several annotators, and the column of labels.

    Parameters
    ----------
    asked
        A list of columns, or their names separated by commas; None for no such columns.
    label_column, verified_column
        The columns that were requested for labels and verified labels.

    Returns
    -------
    annotators : tuple of str
        Empty if fewer than two columns were requested.
    label_column : str or None
        The only column, if one was requested. It is then read like any column of labels.

    Raises
    ------
    OptionError
        The names cannot be used, or not together with another option.
    """
    if asked is None:
        return (), label_column
    if isinstance(asked, str):
        asked = [name.strip() for name in asked.split(",")]
    names = list(asked) if isinstance(asked, list | tuple) else [asked]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise OptionError(
            "`label_columns` names the columns of several annotators, such as anna,bob,carla; give"
            f" their names without gaps (not {', '.join(map(repr, names)) or 'nothing'})"
        )
    if again := repeated(names):
        raise OptionError(
            f"`label_columns` names {some(again)} more than once; name each annotator's column once"
        )
    if label_column is not None:
        raise OptionError(
            "`label_column` names one column of labels and `label_columns` one for each annotator; use"
            " one of them"
        )
    if verified_column is not None:
        raise OptionError(
            "`verified_column` marks labels of one column, but with `label_columns` the label is what"
            " most annotators chose; name the column of verified labels with `label_column`, or give"
            " earlier decisions with `reviewed`"
        )
    return ((), names[0]) if len(names) == 1 else (tuple(names), None)


def with_majority(cells: Cells, columns: Columns) -> tuple[Cells, Columns, VoteTexts]:
    """Replace the columns of several annotators in a table by one of the labels that most chose.

    Returns
    -------
    cells, columns
        The same table and requests, with the new column as the column of labels.
    votes : VoteTexts
        The votes.

    Raises
    ------
    SourceError
        A column does not exist, holds no labels, or is requested for something else too.
    """
    for asked, what in ((columns.image, "the images or ids"), (columns.clean, "true labels")):
        if asked in columns.annotators:
            raise SourceError(
                f'"{asked}" is named as an annotator\'s column and as that of {what}; name it once'
            )
    texts: dict[str, list[str]] = {}
    declared: list[str] = []
    missing = [name for name in columns.annotators if name not in cells.names]
    if missing:
        raise SourceError(
            f"{cells.file} has no {'column' if len(missing) == 1 else 'columns'} {some(missing)} for"
            f" the labels of annotators; its columns: {', '.join(cells.names) or 'none'}"
        )
    for name in columns.annotators:
        if name not in cells.texts:
            raise SourceError(
                f'the column "{name}" of {cells.file} holds neither text nor numbers; give one column'
                " per annotator, with one label in each cell, in `label_columns`"
            )
        find_column(cells, name, (), "labels", "label_columns")
        texts[name] = cells.texts[name]
        declared += cells.declared.get(name, ())
    votes = VoteTexts.of(texts, cells.file.name)
    label = f"most of {', '.join(columns.annotators)}"
    while label in cells.names:
        label += "'"
    others = {name: cell for name, cell in cells.texts.items() if name not in texts}
    joined = replace(
        cells,
        names=(*cells.names, label),
        texts={**others, label: votes.labels},
        declared={**cells.declared, label: tuple(dict.fromkeys(declared))},
    )
    return joined, replace(columns, label=label), votes


def concatenate_votes(parts: Sequence[VoteTexts], where: str) -> VoteTexts | None:
    """Join the votes of several tables, and find the majority in all of them; None for no tables."""
    if len(parts) < 2:
        return parts[0] if parts else None
    columns = {
        name: [text for part in parts for text in part.columns[name]] for name in parts[0].columns
    }
    return VoteTexts.of(columns, where)


# --- what columns hold --------------------------------------------------------------------------


def encode_votes(columns: Mapping[str, list[str]], class_names: Sequence[str]) -> Indices:
    """Return class numbers (R, A), -1 where there is no label."""
    index = pd.Index(list(class_names))
    codes = [index.get_indexer(pd.Index(texts)) for texts in columns.values()]
    return np.stack(codes, axis=1).astype(np.int64)


def _refuse_counts(columns: Mapping[str, list[str]], where: str) -> None:
    """Raise if the columns are classes, and their cells count the votes for each."""
    rows = list(zip(*columns.values(), strict=True))
    if len(rows) < FEWEST_COUNTED or len(set(rows)) == 1:
        return
    if not all(_COUNT.fullmatch(cell) for row in rows for cell in row):
        return
    sums = {sum(int(cell) for cell in row) for row in rows}
    if len(sums) == 1:
        raise SourceError(
            f"{where}: the cells of {some(list(columns))} add up to {sums.pop():,} in every row, so"
            " they are counts of votes; give one column per annotator, with the names of classes"
        )


def _spelled_alike(
    columns: Mapping[str, list[str]], where: str
) -> tuple[dict[str, list[str]], list[str]]:
    """Write classes alike that annotators write differently, such as "cat" and "Cat", or "1" and "1.0".

    Two names that one annotator distinguishes stay apart.

    Returns
    -------
    columns
        The labels by each annotator.
    warnings
        One line that lists what was taken as the same class, if anything was.
    """
    counts = {name: Counter(texts) for name, texts in columns.items()}
    total = sum(counts.values(), Counter[str]())
    groups: dict[str, list[str]] = {}
    for text in total:
        groups.setdefault(plain_form(text), []).append(text)
    same: dict[str, str] = {}
    for names in groups.values():
        apart = any(sum(text in seen for text in names) > 1 for seen in counts.values())
        if len(names) > 1 and not apart:
            # A whole number as pandas writes it beside an empty cell is never the better name.
            chosen = min(names, key=lambda n: (_WHOLE_FLOAT.fullmatch(n) is not None, -total[n], n))
            same |= {name: chosen for name in names if name != chosen}
    if not same:
        return dict(columns), []
    pairs = [f'"{text}" as "{name}"' for text, name in sorted(same.items())]
    changed = {name: [same.get(text, text) for text in texts] for name, texts in columns.items()}
    return changed, [
        f"{where}: annotators write classes differently; taken as the same: {some(pairs, quote=False)}"
    ]


def vote_warnings(
    labels: Indices, tied: npt.NDArray[np.bool_], annotators: tuple[str, ...]
) -> list[str]:
    """Warn of ties (N,), and of annotators who never agree or always do; see `Votes`."""
    warnings = _odd_agreement(labels, annotators)
    if tied.any():
        voted = int((labels >= 0).any(axis=1).sum())
        warnings.append(
            f"the annotators are tied on {int(tied.sum()):,} of {voted:,} samples; such a label is that"
            " of the annotators who agree more often with the others"
        )
    return warnings


def _odd_agreement(labels: Indices, annotators: tuple[str, ...]) -> list[str]:
    votes = _VoteCells.of(labels)
    both, same = votes.pairs(votes.rows), votes.pairs(votes.cells)
    compared, agreed = int(both.sum()), int(same.sum())
    often = both.tocoo()
    copies = [
        f'"{annotators[one]}" and "{annotators[other]}"'
        for one, other, times in sorted(zip(often.row, often.col, often.data, strict=True))
        if times == same[one, other] and times >= FEWEST_COPIED
    ]
    if compared and not agreed:
        return [
            f"no two annotators agree on any sample ({compared:,} were compared); check that all of"
            " them name the classes alike, and that their columns are in the order of the samples"
        ]
    if not compared:
        return ["no sample has labels by two annotators, so their votes cannot be compared"]
    return [
        f"{pair} agree on every sample that both labeled; if one is a copy, leave it out, because its"
        " votes count as independent"
        for pair in copies
    ]


# --- labels in memory ---------------------------------------------------------------------------


def separate_annotators(labels: Any, what: str = "labels") -> dict[str, list[Any]] | None:
    """Return the labels by each annotator, if labels in memory have a column for each of several.

    Parameters
    ----------
    labels
        A DataFrame, array, tensor or list of rows (N, A), whose columns are annotators. Anything else
        has one label per sample.
    what
        What messages call the labels.

    Returns
    -------
    dict of str to list, or None
        The labels (N,) by annotator: the columns of a DataFrame by name, others as "annotator 0" and so
        on. None if there is one label per sample.

    Raises
    ------
    SourceError
        The rows are one-hot, probabilities or counts, or the names of columns repeat.
    """
    if is_frame(labels):
        frame = as_frame(labels)
        if frame.shape[1] < 2:
            return None
        names = [str(name) for name in frame.columns]
        if again := repeated(names):
            raise SourceError(f"columns of {what} repeat: {some(again)}; name each annotator once")
        columns = [frame.iloc[:, place].tolist() for place in range(len(names))]
    else:
        rows = _as_rows(labels)
        width = len(rows[0]) if rows and isinstance(rows[0], list | tuple) else 0
        if width < 2 or not all(
            isinstance(row, list | tuple) and len(row) == width for row in rows
        ):
            return None
        columns = [list(column) for column in zip(*rows, strict=True)]
        names = [f"annotator {number}" for number in range(width)]
    _refuse_one_hot(columns, what)
    return dict(zip(names, columns, strict=True))


def _as_rows(labels: Any) -> list[Any]:
    """Return the rows of a list or a matrix as lists; an empty list for a vector."""
    if isinstance(labels, list | tuple):
        if not labels or not (isinstance(labels[0], list | tuple) or np.ndim(labels[0]) == 1):
            return []
        return [row if isinstance(row, list | tuple) else as_array(row).tolist() for row in labels]
    matrix = labels if isinstance(labels, np.ndarray) else as_array(labels)  # masked: None
    return matrix.tolist() if matrix.ndim == 2 else []


def _refuse_one_hot(columns: list[list[Any]], what: str) -> None:
    """Raise if the rows of a matrix are numbers that add up to the same sum, which labels do not."""
    rows = list(zip(*columns, strict=True))
    if not all(isinstance(cell, int | float) for row in rows for cell in row):
        return
    sums = np.array(rows, dtype=np.float64).sum(axis=1)
    if len(set(rows)) > 1 and sums[0] > 0 and np.ptp(sums) < 1e-3:
        raise SourceError(
            f"{what} have the shape {(len(rows), len(columns))}; give one label per sample, such as"
            f" {what}.argmax(1) of one-hot rows, or one column of labels per annotator"
        )


# --- the majority -------------------------------------------------------------------------------


def majority(labels: Indices) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Return the class that most annotators chose, and whether that was a tie.

    A tie goes to the class whose voters agree more often with the other annotators, on average over
    all samples. If these are equal too, it goes to the class with more votes in the whole data, and
    then to the vote in the first column.

    Parameters
    ----------
    labels : array (N, A) int64
        Class numbers, -1 where there is no vote.

    Returns
    -------
    chosen : array (N,) int64
        -1 where nobody voted.
    tied : array (N,) bool
        Whether several classes have most votes.
    """
    size = len(labels)
    there = labels >= 0
    votes = _VoteCells.of(labels)
    # Of each vote: the votes for the same class, and the agreement of their annotators, summed.
    support = np.zeros(labels.shape, dtype=np.int64)
    trust = np.zeros(labels.shape)
    support[there] = np.bincount(votes.cells)[votes.cells]
    agreement = votes.agreement(labels.shape[1])
    trust[there] = np.bincount(votes.cells, weights=agreement[votes.columns])[votes.cells]
    counts = np.bincount(labels[there], minlength=int(labels.max(initial=0)) + 1)
    frequency = np.where(there, counts[np.maximum(labels, 0)], -1)
    best = there & (support == support.max(axis=1, keepdims=True))
    rows = np.arange(size)
    tied = (best & (labels != labels[rows, best.argmax(axis=1)][:, None])).any(axis=1)
    # The classes that are left have equally many votes, so sums order them as means do.
    for criterion in (np.round(trust, 9), frequency):
        left = np.where(best, criterion, -1.0)
        best &= left == left.max(axis=1, keepdims=True)
    chosen = labels[rows, best.argmax(axis=1)]
    return np.where(there.any(axis=1), chosen, NO_VOTE), tied


@dataclass(frozen=True, eq=False)
class _VoteCells:
    """V votes, ``(V,)`` int64 each, by sample and then by annotator.

    Attributes
    ----------
    rows
        The sample of each vote.
    columns
        Its annotator.
    cells
        A number for the sample and the class, 0..K-1.
    """

    rows: Indices
    columns: Indices
    cells: Indices

    @classmethod
    def of(cls, labels: Indices) -> _VoteCells:
        """Return the votes ``(N, A)``, where -1 is none."""
        rows, columns = np.nonzero(labels >= 0)
        keys = rows * (int(labels.max(initial=0)) + 1) + labels[rows, columns]
        return cls(rows, columns, np.unique(keys, return_inverse=True)[1])

    def agreement(self, number: int) -> npt.NDArray[np.float64]:
        """Return how often each annotator agrees with the others where both voted, (A,)."""
        others = np.bincount(self.rows)[self.rows] - 1
        same = np.bincount(self.cells)[self.cells] - 1
        # One of two, before any vote is seen.
        compared = 2.0 + np.bincount(self.columns, weights=others, minlength=number)
        agreed = 1.0 + np.bincount(self.columns, weights=same, minlength=number)
        return np.asarray(agreed / compared)

    def pairs(self, places: Indices) -> csr_array:
        """Return how often two annotators voted in the same place, (A, A) above the diagonal."""
        shape = (int(self.columns.max(initial=0)) + 1, int(places.max(initial=0)) + 1)
        there = csr_array((np.ones(len(places), dtype=np.int64), (self.columns, places)), shape)
        return csr_array(triu(there @ there.T, k=1))

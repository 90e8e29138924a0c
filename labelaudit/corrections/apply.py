"""Apply corrections to labels: a new label file in the format of the old one.

The old file is never changed. Everything is checked before anything is written.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from labelaudit.corrections.audited import AuditedLabels
from labelaudit.corrections.edits import plan_edits, refuse_format
from labelaudit.corrections.label_files import Edit, LabelFile, Write
from labelaudit.corrections.label_rows import Found, find_rows
from labelaudit.corrections.opened_labels import OpenedLabels, open_labels
from labelaudit.corrections.reading import corrections_path, read_corrections
from labelaudit.corrections.run import samples_near, suggestions_of
from labelaudit.corrections.table import (
    EXCLUDE,
    GIVEN_LABEL,
    KEEP,
    UNSURE,
    check_corrections,
    decision_meant,
    described,
    label_before,
)
from labelaudit.errors import OptionError, OutputError, SourceError
from labelaudit.files import atomic_write, remove_partial_files, suffix_of
from labelaudit.reporting.tables import write_csv
from labelaudit.sources.annotators import annotator_columns
from labelaudit.sources.cells import Columns
from labelaudit.sources.label_tables import MARKS
from labelaudit.sources.manifest import EXCLUDED, VERIFIED
from labelaudit.sources.name_matching import match_numbers
from labelaudit.sources.table_formats import TABLE_FORMATS

CHANGE_COLUMNS = ("sample_id", "from", "to", "decision", "note", "reviewer", "reviewed_at")
"""Columns of the table of changes, in order."""

Decision = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Applied:
    """The result of applying corrections.

    Attributes
    ----------
    out : Path or None
        The new label file, or the folder of new shards. None for a dry run.
    changes : DataFrame
        One row per changed label, in the order of the corrections, with the columns `CHANGE_COLUMNS`,
        all text. ``from`` is "" where there was no label.
    pairs : DataFrame
        Number of labels, ``count`` (int64), that changed ``from`` one class ``to`` another. The most
        frequent pair comes first.
    num_verified : int
        Number of rows that a decision to accept, keep or relabel has verified.
    num_excluded : int
        Number of rows that were marked as excluded or dropped.
    num_unsure : int
        Number of decisions that leave the label open.
    num_unchanged : int
        Number of other decisions that change nothing, because the labels agree with them already.
    changes_path : Path or None
        The table of changes beside `out`. None for a dry run.
    """

    out: Path | None
    changes: pd.DataFrame
    pairs: pd.DataFrame
    num_verified: int
    num_excluded: int
    num_unsure: int
    num_unchanged: int
    changes_path: Path | None


def apply_corrections(
    labels: str | Path,
    corrections: str | Path | pd.DataFrame,
    out: str | Path | None = None,
    *,
    label_column: str | None = None,
    label_columns: str | Sequence[str] | None = None,
    image_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    suggestions: Mapping[str, str] | None = None,
    allow_new_classes: bool = False,
    drop_excluded: bool = False,
    dry_run: bool = False,
    force: bool = False,
) -> Applied:
    """Write a copy of the labels with corrections, in the same format.

    The column ``verified`` is "yes" after a decision to accept, keep or relabel, and "excluded" after
    one to exclude. If the column exists already, other rows keep their values. If it holds truth values
    or numbers, it becomes true or 1. The column ``first_label`` holds the label before it was first
    corrected or kept, so that a scan can learn from it.

    Parameters
    ----------
    labels : str or Path
        The labels that were scanned: a table (CSV, TSV, JSONL, parquet), a folder with one subfolder
        per class, a folder with Hugging Face's metadata.csv (.jsonl, .parquet), or a folder of parquet
        shards. They are never changed.
    corrections : str, Path or DataFrame
        A file, see `read_corrections`, or a table, see `check_corrections`.
    out : str or Path, optional
        The file to write, with the suffix of the old one. It is a .csv file for a folder of classes,
        and a folder for a folder of shards. By default ``labels.fixed.csv`` beside ``labels.csv``, and
        ``photos.labels.csv`` beside the folder ``photos``.
    label_column, image_column, id_column : str, optional
        Columns of the table, as they were given to the scan.
    label_columns : str or sequence of str, optional
        Columns of several annotators, as they were given to the scan. They stay as they are. The new
        file has a further column ``label`` with the final label of each row: what most annotators
        chose, or the correction.
    split : str, optional
        The split that was scanned. By default the split that contains the samples.
    suggestions : mapping of str to str, optional
        Suggested labels by sample id, for decisions that accept a suggestion without naming it.
    allow_new_classes : bool
        Whether labels are allowed that no row has and the schema does not declare.
    drop_excluded : bool
        Whether excluded rows are left out. If samples are identified by row number, the rows of the new
        file have other numbers, and the same corrections no longer fit it.
    dry_run : bool
        Whether to only check labels and corrections, without writing anything.
    force : bool
        Whether existing output files may be overwritten.

    Returns
    -------
    Applied
        What was changed. The table of changes is also written beside the new labels, for example as
        ``labels.fixed.changes.csv``, or as ``changes.csv`` into the folder of new shards.

    Raises
    ------
    SourceError
        Labels or corrections cannot be read, a sample has no row, a label has changed since the audit,
        or a label is new or does not fit its column.
    OptionError
        `out` has the suffix of another format.
    OutputError
        `out` exists, is one of the input files, or cannot be written.
    """
    read = []  # input files, which must not be overwritten
    samples = None
    if isinstance(corrections, pd.DataFrame):
        table = check_corrections(corrections, "the corrections", suggestions)
    else:
        file_of_corrections = corrections_path(corrections)
        read.append(file_of_corrections)
        samples = samples_near(file_of_corrections)
        if suggestions is None and samples is not None:
            suggestions = suggestions_of(samples)
        table = read_corrections(file_of_corrections, suggestions)
    decided: list[Decision] = [
        {str(name): str(value) for name, value in row.items()} for row in table.to_dict("records")
    ]
    ids = [row["sample_id"] for row in decided]
    annotators, label_column = annotator_columns(label_columns, label_column, None)
    columns = Columns(image_column, label_column, None, annotators=annotators)
    opened = open_labels(Path(labels), columns, id_column, split, ids)
    decided = _as_written(opened, decided)
    refuse_format(opened.files[0])
    target = _target(opened, None if out is None else Path(out))
    droppable = {
        row["sample_id"] for row in decided if drop_excluded and row["decision"] == EXCLUDE
    }
    found = find_rows(
        opened,
        ids,
        droppable,
        by_id=id_column is not None,
        audited=AuditedLabels.of(samples, decided),
    )
    new_classes = _new_classes(opened, decided, allow_new_classes)
    edited = _edit(opened, decided, found, drop_excluded)
    plans = [
        plan_edits(file, opened.of_file(number, edited.edits), new_classes)
        for number, file in enumerate(opened.files)
    ]
    targets = [target / name for name in opened.shards] or [target]
    changes_path = target.with_name(f"{target.stem}.changes.csv")
    if opened.shards:
        changes_path = target / "changes.csv"
    if not dry_run:
        read = [opened.path, *(file.path for file in opened.files), *read]
        _check_targets(opened, target, [*targets, changes_path], read, force)
        _write_all(targets, plans, changes_path, edited.changes)
    return Applied(
        out=None if dry_run else target,
        changes=edited.changes,
        pairs=_pairs(edited.changes),
        num_verified=edited.num_verified,
        num_excluded=edited.num_excluded,
        num_unsure=sum(row["decision"] == UNSURE for row in decided),
        num_unchanged=edited.num_unchanged,
        changes_path=None if dry_run else changes_path,
    )


# --- what becomes of the rows ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Edited:
    """The edits of the rows that change, by row, and their summary."""

    edits: dict[int, Edit]
    changes: pd.DataFrame
    num_verified: int
    num_excluded: int
    num_unchanged: int


def _edit(
    opened: OpenedLabels, decided: Sequence[Decision], found: Found, drop_excluded: bool
) -> _Edited:
    """Turn decisions into edits; check that the labels are those that were decided about."""
    place_of = [(file, row) for file in opened.files for row in range(len(file.labels))]
    edits: dict[int, Edit] = {}
    changes: dict[tuple[str, ...], None] = {}
    by_row: dict[int, Decision] = {}
    unchanged = 0
    for decision in decided:
        if decision["decision"] == UNSURE:
            continue
        before = len(edits)
        for row in found.get(decision["sample_id"], ()):
            file, place = place_of[row]
            current = file.labels[place]
            _check_given(opened, decision, current)
            if decision["decision"] == KEEP and not current:
                continue  # the row has no label to keep
            other = by_row.setdefault(row, decision)
            if decision_meant(other) != decision_meant(decision):
                raise _conflict(opened, other, decision)
            edit = _edit_of(file, place, decision, drop_excluded)
            if edit != Edit():
                edits[row] = edit
            if edit.label is not None:
                texts = [decision[column] for column in CHANGE_COLUMNS[3:]]
                changes[(decision["sample_id"], current, edit.label, *texts)] = None
        unchanged += len(edits) == before
    for number, file in enumerate(opened.files):
        dropped = [edit for edit in opened.of_file(number, edits).values() if edit.drop]
        if len(dropped) == len(file.labels):
            raise SourceError(
                f"all rows of {file.path} are excluded and would be dropped; keep at least one of them"
            )
    excluded = [row for row, decision in by_row.items() if decision["decision"] == EXCLUDE]
    return _Edited(
        edits=edits,
        changes=pd.DataFrame(list(changes), columns=list(CHANGE_COLUMNS), dtype="str"),
        num_verified=len(by_row) - len(excluded),
        num_excluded=len(excluded),
        num_unchanged=unchanged,
    )


def _check_given(opened: OpenedLabels, decision: Decision, current: str) -> None:
    """Raise if a label is neither the one that was decided about nor the corrected one."""
    given = decision.get(GIVEN_LABEL, "")
    if given and current not in (given, decision_meant(decision)[1] or given):
        has = f'has the label "{current}"' if current else "has no label"
        raise SourceError(
            f'"{decision["sample_id"]}" {has} in {opened.name}, and had "{given}" in the audit; the'
            " table has changed since then, so scan it again"
        )


def _edit_of(file: LabelFile, row: int, decision: Decision, drop_excluded: bool) -> Edit:
    """Return what changes in a row; an empty edit if the row agrees with the decision already."""
    meant, label = decision_meant(decision)
    if meant == EXCLUDE and drop_excluded:
        return Edit(drop=True)
    if meant == EXCLUDE and file.typed:
        raise SourceError(
            f'the column "{file.verified_column}" of {file.path} holds truth values or numbers, so it'
            f' cannot hold "{EXCLUDED}"; rename the column, or leave excluded rows out with'
            " `drop_excluded`"
        )
    mark, word = (EXCLUDED, EXCLUDED) if meant == EXCLUDE else (VERIFIED, file.yes)
    marked = MARKS.get(file.verified[row].strip().lower())
    current = file.labels[row]
    first = ""
    if mark == VERIFIED and not file.first[row]:  # an earlier first label stays
        first = label_before(label, current, decision.get(GIVEN_LABEL, ""))
    return Edit(
        label=label if label and label != current else None,
        verified=word if marked != mark else None,
        first=first or None,
    )


def _conflict(opened: OpenedLabels, one: Decision, other: Decision) -> SourceError:
    return SourceError(
        f'"{one["sample_id"]}" and "{other["sample_id"]}" are the same row of {opened.name}, but their'
        f" decisions differ: {described(decision_meant(one))} and"
        f" {described(decision_meant(other))}; keep only one of them"
    )


def _as_written(opened: OpenedLabels, decided: Sequence[Decision]) -> list[Decision]:
    """Return decisions with their labels as the table writes them: spreadsheets turn "1" into "1.0"."""
    known = {name for file in opened.files for name in (*file.labels, *file.declared)} - {""}
    columns = (GIVEN_LABEL, "corrected_label")
    names = match_numbers({row.get(column, "") for row in decided for column in columns}, known)
    return [
        {name: names.get(text, text) if name in columns else text for name, text in row.items()}
        for row in decided
    ]


def _new_classes(opened: OpenedLabels, decided: Sequence[Decision], allowed: bool) -> list[str]:
    """Return the classes that only corrections have, in order; raise unless they are allowed."""
    known = {name for file in opened.files for name in (*file.labels, *file.declared)} - {""}
    labels = dict.fromkeys(decision_meant(row)[1] for row in decided)
    new = [label for label in labels if label and label not in known]
    if new and not allowed:
        folded = {name.casefold(): name for name in sorted(known)}
        named = []
        for label in new[:3]:
            close = difflib.get_close_matches(label.casefold(), folded, n=1)
            meant = f' (did you mean "{folded[close[0]]}"?)' if close else ""
            named.append(f'"{label}"{meant}')
        more = f" and {len(new) - 3:,} more" if len(new) > 3 else ""
        raise SourceError(
            f"{opened.name} has no class {', '.join(named)}{more}; correct"
            f" {'it' if len(new) == 1 else 'them'}, or allow new classes with"
            " `allow_new_classes=True`"
        )
    return new


def _pairs(changes: pd.DataFrame) -> pd.DataFrame:
    """Count the changes from one label to another, the most frequent first."""
    counts = Counter(zip(changes["from"], changes["to"], strict=True))
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return pd.DataFrame(
        {
            "from": pd.Series([pair[0] for pair, _ in rows], dtype="str"),
            "to": pd.Series([pair[1] for pair, _ in rows], dtype="str"),
            "count": pd.Series([times for _, times in rows], dtype="int64"),
        }
    )


# --- where to write ----------------------------------------------------------------------------


def _target(opened: OpenedLabels, out: Path | None) -> Path:
    """Return the file to write, or the folder for shards; `OptionError` for another format."""
    file = opened.files[0]
    if out is None:
        # A folder may be given as "." or "..", which are not names.
        folder = Path(os.path.abspath(opened.path))  # noqa: PTH100
        if opened.shards:
            return folder.with_name(f"{folder.name}.fixed")
        if file.listed:
            return folder.with_name(f"{folder.name}.labels.csv")
        return file.path.with_name(f"{file.path.stem}.fixed{file.path.suffix}")
    suffix = suffix_of(out.name)
    if opened.shards:
        if suffix in TABLE_FORMATS:
            raise OptionError(
                f"{opened.path} is a folder of shards, and each shard is written to a new file; give a"
                f" folder as `out`, not {out}"
            )
    elif suffix not in {"jsonl": ("jsonl", "ndjson")}.get(file.format, (file.format,)):
        raise OptionError(
            f"the labels of {opened.name} are written as .{file.format}, but {out} has another"
            f" suffix; name it {out.stem}.{file.format}"
        )
    return out


def _check_targets(
    opened: OpenedLabels, target: Path, files: Sequence[Path], read: Sequence[Path], force: bool
) -> None:
    """Raise if an output file is also an input, or exists already and `force` is not set."""
    for file in files:
        if any(_are_same(file, other) for other in read):
            raise OutputError(
                f"{file} is an input, which is never changed; choose another output with `out`"
            )
    if opened.shards:
        place = target.resolve()
        if opened.path.resolve() in (place, *place.parents):
            raise OutputError(
                f"{target} is inside the folder of labels, which is never changed; choose another"
                " output with `out`"
            )
        if target.exists() and not target.is_dir():
            raise OutputError(f"{target} is a file; choose a folder for the shards with `out`")
        if target.is_dir() and not force and any(target.iterdir()):
            raise _is_there(target)
    for file in files:
        if file.is_dir():
            raise OutputError(f"{file} is a folder; choose a file to write with `out`")
        if not force and os.path.lexists(file):
            raise _is_there(file)


def _is_there(path: Path) -> OutputError:
    return OutputError(
        f"{path} already exists; choose another output with `out`, or overwrite it with"
        " `force=True`"
    )


def _are_same(one: Path, other: Path) -> bool:
    if one.resolve() == other.resolve():
        return True
    return one.exists() and other.exists() and one.samefile(other)


def _write_all(
    targets: Sequence[Path], plans: Sequence[Write], changes_path: Path, changes: pd.DataFrame
) -> None:
    """Write all files. If one cannot be written, remove those that did not exist before."""
    new = [path for path in (*targets, changes_path) if not path.exists()]
    try:
        for file, write in zip(targets, plans, strict=True):
            _write(file, write)
        write_csv(changes, changes_path)
    except BaseException:
        for file in new:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        raise


def _write(file: Path, write: Write) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create the folder {file.parent}: {error.strerror}") from error
    remove_partial_files(file.parent)
    with atomic_write(file) as temporary:
        write(temporary)

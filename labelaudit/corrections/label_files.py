"""Label files: their rows as text, and the columns that `labelaudit apply` reads and writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.sources.annotators import VoteTexts, concatenate_votes, with_majority
from labelaudit.sources.cells import (
    FIRST_LABEL_COLUMN,
    ID_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMN,
    VERIFIED_COLUMN,
    Cells,
    Columns,
    column_called,
    find_column,
)
from labelaudit.sources.parquet_tables import refuse_repeated
from labelaudit.sources.table_formats import read_cells

YES = "yes"
"""The value of the column `VERIFIED_COLUMN` for a verified label.

A column of truth values or numbers keeps its type and has another value.
"""

FINAL_COLUMN, OTHER_FINAL_COLUMN = "label", "final_label"
"""The column of final labels, where several annotators have one column each.

The second name is for tables in which "label" is an annotator's column.
"""

Write = Callable[[Path], None]


@dataclass(frozen=True)
class Edit:
    """What changes in a row. None means that a cell stays as it is.

    Attributes
    ----------
    label : str or None
        The new label.
    verified : str or None
        The new value of the column ``verified``.
    first : str or None
        The new value of the column ``first_label``.
    drop : bool
        Whether the row is left out.
    """

    label: str | None = None
    verified: str | None = None
    first: str | None = None
    drop: bool = False


@dataclass(frozen=True, eq=False)
class LabelFile:
    """The R rows of one label file as text. An empty cell is "".

    Attributes
    ----------
    path : Path
        The file, or a folder with one subfolder per class.
    format : str
        "csv" (also of a folder), "tsv", "jsonl" or "parquet".
    label_column : str
        Name of the column of labels.
    labels : list of str
        The labels (R,), as class names if the schema declares these.
    ids : dict of str to list of str
        The columns (R,) that may identify rows, the most likely first.
    splits : list of str, or None
        The column of splits (R,), if there is one.
    declared : tuple of str
        Class names that the schema declares, in its order.
    verified_column : str or None
        Name of the column ``verified``, if there is one.
    verified : list of str
        Its cells (R,); all "" if there is no such column.
    yes : str
        The value that marks a row as verified.
    typed : bool
        Whether the column ``verified`` holds truth values or numbers and cannot hold text.
    first_column : str or None
        Name of the column ``first_label``, if there is one.
    first : list of str
        Its cells (R,); all "" if there is no such column.
    embedded : bool
        Whether the first of `ids` names images that are stored in the file itself.
    listed : bool
        Whether the labels are those of a source without a table, such as a folder with one subfolder
        per class. Corrected labels are written as a table.
    votes : VoteTexts or None
        The labels (R,) by several annotators. `labels` are then what most of them chose, and
        `label_column` is a new column.
    """

    path: Path
    format: str
    label_column: str
    labels: list[str]
    ids: dict[str, list[str]]
    splits: list[str] | None
    declared: tuple[str, ...]
    verified_column: str | None
    verified: list[str]
    yes: str
    first_column: str | None
    first: list[str]
    typed: bool = False
    embedded: bool = False
    listed: bool = False
    votes: VoteTexts | None = None

    @property
    def verified_name(self) -> str:
        """Name of the column ``verified`` in the new file."""
        return self.verified_column or VERIFIED_COLUMN

    @property
    def first_name(self) -> str:
        """Name of the column ``first_label`` in the new file."""
        return self.first_column or FIRST_LABEL_COLUMN

    @property
    def added(self) -> list[str]:
        """The columns that the file lacks and that the new file has."""
        new = [] if self.votes is None else [self.label_column]
        return new + [
            name
            for name, there in (
                (VERIFIED_COLUMN, self.verified_column),
                (FIRST_LABEL_COLUMN, self.first_column),
            )
            if there is None
        ]


@dataclass(frozen=True)
class _Wanted(Columns):
    """The columns that are read: labels, splits, ids, ``verified`` and ``first_label``."""

    ids: str | None = None

    def may_be_needed(self, name: str) -> bool:
        """Return whether a column of that name is read."""
        known = name.strip().lower() in ("sample_id", VERIFIED_COLUMN, FIRST_LABEL_COLUMN)
        return known or name == self.ids or super().may_be_needed(name)


def read_label_file(
    path: Path,
    *,
    label_column: str | None = None,
    image_column: str | None = None,
    id_column: str | None = None,
    annotators: tuple[str, ...] = (),
) -> LabelFile:
    """Read the rows of a table of labels.

    Parameters
    ----------
    path : Path
        CSV, TSV, JSONL or parquet.
    label_column, image_column, id_column : str, optional
        Columns of the table. By default the labels are in the first of `LABEL_COLUMNS`, and all
        `ID_COLUMNS` may identify rows.
    annotators : tuple of str
        Columns of several annotators; see `labelaudit.sources.annotators`.

    Raises
    ------
    SourceError
        The file is not such a table or lacks a column, or its column ``verified`` or ``first_label``
        has another meaning.
    """
    # `read_cells` and `find_column` are how a scan reads the same table.
    wanted: Columns = _Wanted(
        image_column, label_column, None, ids=id_column, annotators=annotators
    )
    cells = read_cells(path, wanted)
    votes, final = None, FINAL_COLUMN
    if annotators:
        final = FINAL_COLUMN if FINAL_COLUMN not in annotators else OTHER_FINAL_COLUMN
        if (taken := column_called(final, cells.names)) is not None:
            raise SourceError(
                f'{path} has a column "{taken}" already, but the final labels of'
                " `label_columns` would be written there; rename it, or correct it alone with"
                " `label_column`"
            )
        cells, wanted, votes = with_majority(cells, wanted)
        label_column = wanted.label
    label = find_column(cells, label_column, LABEL_COLUMNS, "the labels", "label_column")
    assert label is not None
    split = find_column(cells, None, (SPLIT_COLUMN,), "", None)
    if not len(cells.rows):
        raise SourceError(f"{path} is empty: it has no rows below its header")
    ids = _id_columns(cells, label, image_column, id_column)
    verified = column_called(VERIFIED_COLUMN, cells.names)
    first = column_called(FIRST_LABEL_COLUMN, cells.names)
    refuse_repeated(path, cells.names, [name for name in (verified, first) if name is not None])
    if verified is not None and (
        verified == label or verified not in cells.texts or verified in cells.declared
    ):
        raise SourceError(
            f'the column "{verified}" of {path} is needed to mark the labels that a person has'
            " verified, but holds something else; rename it"
        )
    texts = [""] * len(cells.rows) if verified is None else cells.texts[verified]
    suffix = suffix_of(path.name)
    format = "jsonl" if suffix == "ndjson" else suffix
    yes, typed = _words(path, format, verified, texts)
    if first is not None and (
        first in (label, *ids) or (format == "parquet" and not _holds_text(path, first))
    ):
        raise SourceError(
            f'the column "{first}" of {path} is needed for the first label of verified samples, but'
            " holds something else; rename it"
        )
    return LabelFile(
        path=path,
        format=format,
        label_column=label if votes is None else final,
        labels=cells.texts[label],
        ids=ids,
        splits=None if split is None else cells.texts[split],
        declared=_declared(cells.declared.get(label, ()), votes),
        verified_column=verified,
        verified=texts,
        yes=yes,
        first_column=first,
        first=[""] * len(cells.rows) if first is None else cells.texts[first],
        typed=typed,
        embedded=cells.embedded and id_column is None,
        votes=votes,
    )


def _declared(names: tuple[str, ...], votes: VoteTexts | None) -> tuple[str, ...]:
    """Return the class names of a schema, and those that any annotator used."""
    return names if votes is None else tuple(dict.fromkeys((*names, *sorted(votes.names()))))


def vote_together(files: Sequence[LabelFile], where: str) -> list[LabelFile]:
    """Find the labels that most annotators chose in several files together, as a scan does."""
    parts = [file.votes for file in files if file.votes is not None]
    joined = concatenate_votes(parts, where)
    if joined is None or len(files) < 2:
        return list(files)
    ends = list(accumulate(len(file.labels) for file in files))
    return [
        replace(file, labels=joined.labels[end - len(file.labels) : end])
        for file, end in zip(files, ends, strict=True)
    ]


def _id_columns(
    cells: Cells, label: str, image_column: str | None, id_column: str | None
) -> dict[str, list[str]]:
    """Return the columns that may identify rows, the most likely first."""
    ids: dict[str, list[str]] = {}
    if cells.image is not None and id_column is None:
        ids[cells.image] = cells.texts[cells.image]
    for asked, option in ((id_column, "id_column"), (image_column, "image_column")):
        if asked is not None:
            name = find_column(cells, asked, (), "the ids", option)
            assert name is not None
            ids.setdefault(name, cells.texts[name])
    if id_column is None and image_column is None:
        lowered = {name.strip().lower(): name for name in reversed(cells.texts)}
        for known in ID_COLUMNS:
            if known in lowered and lowered[known] != label:
                ids.setdefault(lowered[known], cells.texts[lowered[known]])
    return ids


def _words(path: Path, format: str, column: str | None, texts: list[str]) -> tuple[str, bool]:
    """Return a column's value for "verified", and whether its type excludes other text."""
    if column is None:
        return YES, False
    if format == "parquet":
        kind = plain_type(pq.read_schema(path).field(column).type)
        if pa.types.is_boolean(kind):
            return "true", True
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return "1", True
        if not (is_text_type(kind) or pa.types.is_null(kind)):
            raise SourceError(
                f'the column "{column}" of {path} is needed to mark the labels that a person has'
                f" verified, but holds {kind}; rename it"
            )
    if format == "jsonl":
        with path.open(encoding="utf-8-sig") as stream:
            values = [json.loads(line).get(column) for line in stream if line.strip()]
        kinds = {type(value) for value in values if value is not None}
        if kinds and str not in kinds:
            return ("true" if bool in kinds else "1"), True
    # Text that spells truth values, as pandas writes them, keeps its spelling.
    spelled = {text for text in texts if text}
    lowered = {text.lower() for text in spelled}
    if lowered and lowered <= {"true", "false"}:
        if all(text.isupper() for text in spelled):
            return "TRUE", False
        return ("true" if all(text.islower() for text in spelled) else "True"), False
    if lowered and lowered <= {"0", "1"}:
        return "1", False
    return YES, False


def _holds_text(path: Path, column: str) -> bool:
    """Return whether text can be written into a column of a parquet file."""
    kind = plain_type(pq.read_schema(path).field(column).type)
    return is_text_type(kind) or bool(pa.types.is_null(kind))


def changed_error(file: LabelFile) -> SourceError:
    """Return the error for a file that has changed since it was read."""
    return SourceError(f"{file.path} changed while it was read; run the command again")


def misfit_error(file: LabelFile, label: str, kind: str) -> SourceError:
    """Return the error for a label that does not fit the type of its column."""
    return SourceError(
        f'"{label}" cannot be written into the column "{file.label_column}" of {file.path}: it'
        f" holds {kind}"
    )


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, whether they are stored in a dictionary or not."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text_type(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds text."""
    # By name, because the oldest supported pyarrow does not know string views.
    return (
        bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
        or str(kind) == "string_view"
    )

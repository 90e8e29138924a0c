"""Tables of labels: their columns of images or ids, labels, splits and marks.

A table names its images. `labelaudit.sources.image_tables` checks whether they exist.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from labelaudit.errors import SourceError
from labelaudit.images.containers import Indices
from labelaudit.sources.annotators import VoteTexts, concatenate_votes, with_majority
from labelaudit.sources.cells import (
    FIRST_LABEL_COLUMN,
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMN,
    VERIFIED_COLUMN,
    Cells,
    Columns,
    cells_of_frame,
    column_called,
    find_column,
)
from labelaudit.sources.manifest import EXCLUDED, VERIFIED
from labelaudit.sources.name_matching import renamed
from labelaudit.sources.table_formats import read_cells
from labelaudit.sources.table_kinds import advice_for_features, advice_for_table

# Meaning of the cells in a column of verified labels, in any case.
MARKS = {
    **dict.fromkeys(("yes", "true", "1", "1.0", "y", "t", "verified"), VERIFIED),
    **dict.fromkeys(("", "no", "false", "0", "0.0", "n", "f", "nan", "none", "null"), ""),
    **dict.fromkeys(("excluded", "exclude"), EXCLUDED),
}


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Rows of labels, as text, from one file or several.

    Attributes
    ----------
    files : tuple of Path
        The files.
    file_of : array (R,) int64
        For each row the index of its file.
    rows : array (R,) int64
        Number of each row in its file, as a person counts: lines from 1, rows of parquet from 0.
    row_word : str
        "line" or "row".
    images : list of str
        Paths of images, or ids, as written. If the images are in the table itself: their names, or "".
    labels, clean : list of str
        Given and true labels; "" where there is none.
    splits : list of str, or None
        The split of each row.
    declared : tuple of str
        Class names that the schema lists, in its order.
    others : mapping of str to list of str
        Further columns that were read.
    embedded : str, or None
        The column that holds the images themselves.
    marks : list of str, or None
        For each row `VERIFIED`, `EXCLUDED` or "", if a column of verified labels was requested.
    first : list of str, or None
        The labels that were given at first to verified samples; "" if unknown, and for other samples.
    marks_passed_over : bool
        Whether `labelaudit apply` wrote the table, and its column of verified labels is not used.
    votes : VoteTexts, or None
        The labels by several annotators. `labels` are then what most of them chose.
    """

    files: tuple[Path, ...]
    file_of: Indices
    rows: Indices
    row_word: str
    images: list[str]
    labels: list[str]
    clean: list[str] | None
    splits: list[str] | None
    declared: tuple[str, ...]
    others: Mapping[str, list[str]]
    embedded: str | None = None
    marks: list[str] | None = None
    first: list[str] | None = None
    marks_passed_over: bool = False
    votes: VoteTexts | None = None

    @property
    def where(self) -> str:
        """The file, or the folder of several files, for messages."""
        return str(self.files[0]) if len(self.files) == 1 else str(self.files[0].parent)

    def place(self, row: int) -> str:
        """Return where a row is, for messages: "labels.csv line 3"."""
        return f"{self.files[self.file_of[row]].name} {self.row_word} {self.rows[row]}"

    def moved_into(self, base: str) -> "LabelTable":
        """Return the table with relative paths below `base`, "" or a folder with its slash."""
        if not base:
            return self
        moved = [
            text if not text or re.match(r"[\\/]|[A-Za-z]:[\\/]", text) else base + text
            for text in self.images
        ]
        return replace(self, images=moved)


def read_table(
    file: Path | pd.DataFrame | Cells,
    columns: Columns,
    image_names: Sequence[str] = IMAGE_COLUMNS,
    *,
    images_needed: bool = True,
    labels_needed: bool = True,
    split: str | None = None,
    named: Path | None = None,
) -> LabelTable:
    """Read the labels of a table in a file or in memory.

    Parameters
    ----------
    file : Path, DataFrame or Cells
        CSV, TSV, JSONL, parquet or Arrow; or the table itself.
    columns : Columns
        The requested columns.
    image_names : sequence of str
        Names of the column of images (or ids), if none is requested. The first that exists is used.
    images_needed : bool
        Whether a table without such a column is refused. If it is not, all `images` are "", and a
        column that holds the images themselves is not read.
    labels_needed : bool
        Whether a table without a column of labels is refused. If it is not, all `labels` are "".
    split : str, optional
        The requested split, if the table must have a column of splits for it.
    named : Path, optional
        The source that commands in messages name, if the table is one of its files.

    Raises
    ------
    SourceError
        The file is not a table, lacks a column, contradicts its own schema, or has no rows.
    """
    cells = _cells_of(file, columns)
    votes = None
    if columns.annotators:
        cells, columns, votes = with_majority(cells, columns)
    if labels_needed:
        names = image_names if images_needed else None
        _refuse_several_missing(cells, columns, names, split, named)
    label = _find_labels(cells, columns, needed=labels_needed)
    clean = None
    if columns.clean is not None:
        clean = find_column(cells, columns.clean, (), "true labels", "clean_label_column")
    verified = None
    if columns.verified is not None:
        verified = find_column(cells, columns.verified, (), "verified labels", "verified_column")
    split = find_column(cells, None, (SPLIT_COLUMN,), "", None)
    first = None if verified is None else column_called(FIRST_LABEL_COLUMN, cells.texts)
    if first in (label, clean, verified, columns.image):
        first = None
    image = cells.image if images_needed else None
    if image is None and images_needed:
        image = _find_images(cells, columns, image_names, named)
    elif image is None:
        image = find_column(cells, columns.image, image_names, "the ids", None)
    if not len(cells.rows):
        raise SourceError(f"{cells.file} is empty: it has no rows below its header")
    table = LabelTable(
        files=(cells.file,),
        file_of=np.zeros(len(cells.rows), np.int64),
        rows=cells.rows,
        row_word=cells.row_word,
        images=[""] * len(cells.rows) if image is None else cells.texts[image],
        labels=[""] * len(cells.rows) if label is None else cells.texts[label],
        clean=_clean_texts(cells, label, clean),
        splits=None if split is None else cells.texts[split],
        declared=_declared_names(cells, label, clean),
        others={
            name: texts
            for name, texts in cells.texts.items()
            if name not in (image, label, clean, verified, first, split, cells.image)
        },
        embedded=image if cells.embedded and images_needed else None,
        votes=votes,
    )
    if verified is None:
        applied = (
            column_called(VERIFIED_COLUMN, cells.names),
            column_called(FIRST_LABEL_COLUMN, cells.names),
        )
        return replace(table, marks_passed_over=None not in applied)
    marks = _read_marks(table, verified, cells.texts[verified])
    if first is None:
        return replace(table, marks=marks)
    known = [
        text if mark == VERIFIED else ""
        for text, mark in zip(cells.texts[first], marks, strict=True)
    ]
    return replace(table, marks=marks, first=known)


def _cells_of(file: Path | pd.DataFrame | Cells, columns: Columns) -> Cells:
    if isinstance(file, Cells):
        return file
    return read_cells(file, columns) if isinstance(file, Path) else cells_of_frame(file, columns)


def _refuse_several_missing(
    cells: Cells,
    columns: Columns,
    image_names: Sequence[str] | None,
    split: str | None,
    named: Path | None,
) -> None:
    """Raise SourceError if a table lacks several columns, so that they are told all at once.

    `image_names` is None if no images are needed. A single column is told where it is looked for.
    """
    image = ("id_column" if image_names is None else "image_column", columns.image)
    asked = (
        ("label_column", columns.label),
        image,
        ("clean_label_column", columns.clean),
        ("verified_column", columns.verified),
    )
    missing = [
        f'"{name}" (`{option}`)'
        for option, name in asked
        if name is not None and name not in cells.names
    ]
    there = {name.strip().lower() for name in cells.names}
    if columns.label is None and not there.intersection(LABEL_COLUMNS):
        missing.append(f"one of the labels ({', '.join(LABEL_COLUMNS)}, or `label_column`)")
    no_image = columns.image is None and cells.image is None
    if image_names is not None and no_image and not there.intersection(image_names):
        missing.append(f"one of the images ({', '.join(image_names)}, or `image_column`)")
    if split is not None and SPLIT_COLUMN not in there:
        missing.append(f'"{SPLIT_COLUMN}" (`split` is "{split}")')
    if len(missing) > 1 and cells.names:
        raise SourceError(
            f"{cells.file} lacks {len(missing)} columns: {', '.join(missing)}; its columns:"
            f" {', '.join(cells.names) or 'none'}{_hint(cells, columns, image_names, named)}"
        )


def _hint(
    cells: Cells, columns: Columns, image_names: Sequence[str] | None, named: Path | None
) -> str:
    """Return advice for a table without images, or ""; it begins with a semicolon."""
    advice = ""
    if image_names is not None and columns.image is None and cells.file.is_file():
        advice = advice_for_features(cells.file) or advice_for_table(cells.file, named)
    return advice and f"; {advice}"


def _find_labels(cells: Cells, columns: Columns, *, needed: bool) -> str | None:
    if not needed and columns.label is None:
        return find_column(cells, None, LABEL_COLUMNS, "the labels", None)
    try:
        label = find_column(cells, columns.label, LABEL_COLUMNS, "the labels", "label_column")
    except SourceError as error:
        advice = advice_for_features(cells.file) if columns.label is None else ""
        raise SourceError(f"{error}{advice and '; '}{advice}") from None
    return label


def _find_images(
    cells: Cells, columns: Columns, image_names: Sequence[str], named: Path | None
) -> str | None:
    try:
        return find_column(cells, columns.image, image_names, "the images", "image_column")
    except SourceError as error:
        raise SourceError(f"{error}{_hint(cells, columns, image_names, named)}") from None


def _clean_texts(cells: Cells, label: str | None, clean: str | None) -> list[str] | None:
    """Return the true labels as the given ones are written, if the schema names only their classes."""
    if clean is None:
        return None
    names, texts = cells.declared.get(clean, ()), cells.texts[clean]
    indices = {str(number): name for number, name in enumerate(names)}
    given = set() if label is None else set(cells.texts[label]) - {""}
    if label in cells.declared or not given <= indices.keys() - names:
        return texts
    return renamed(texts, {name: number for number, name in indices.items()})


def _declared_names(cells: Cells, label: str | None, clean: str | None) -> tuple[str, ...]:
    """Return the names that the schema declares for the given labels.

    The names of true labels are among them only if both columns are written in the same way.
    """
    given = cells.declared.get(label or "", ())
    true = cells.declared.get(clean or "", ())
    if not given and (label is None or not set(true).intersection(cells.texts[label])):
        return ()
    return tuple(dict.fromkeys((*given, *true)))


def _read_marks(table: LabelTable, column: str, texts: Sequence[str]) -> list[str]:
    """Return the marks that the cells of a column of verified labels mean; see `MARKS`."""
    marks = []
    for row, text in enumerate(texts):
        mark = MARKS.get(text.strip().lower())
        if mark is None:
            raise SourceError(
                f'{table.place(row)}: "{column}" is "{text}"; write yes for a label that is verified,'
                " excluded for a sample to leave out, and no or nothing for the others"
            )
        marks.append(mark)
    return marks


def concatenate(tables: Sequence[LabelTable]) -> LabelTable:
    """Join the tables of several files to one table."""
    first = tables[0]
    files = tuple(table.files[0] for table in tables)
    for table in tables:
        if table.embedded != first.embedded or (table.splits is None) != (first.splits is None):
            raise SourceError(
                f"{table.files[0]} and {files[0]} differ in their columns of images or splits; "
                "read them one by one"
            )
    sizes = [len(table.labels) for table in tables]
    votes = concatenate_votes([table.votes for table in tables if table.votes], first.where)
    return replace(
        first,
        files=files,
        file_of=np.repeat(np.arange(len(tables)), sizes),
        rows=np.concatenate([table.rows for table in tables]),
        images=[text for table in tables for text in table.images],
        labels=votes.labels if votes else [text for table in tables for text in table.labels],
        clean=None if first.clean is None else [c for table in tables for c in table.clean or ()],
        marks=None if first.marks is None else [m for table in tables for m in table.marks or ()],
        first=None
        if all(table.first is None for table in tables)
        else [f for table in tables for f in table.first or [""] * len(table.labels)],
        splits=None
        if first.splits is None
        else [s for table in tables for s in table.splits or ()],
        declared=tuple(dict.fromkeys(name for table in tables for name in table.declared)),
        others={
            column: [text for table in tables for text in table.others[column]]
            for column in first.others
            if all(column in table.others for table in tables)
        },
        votes=votes,
    )

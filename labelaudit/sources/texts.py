"""Texts to audit: the column of a table, of parquet or Arrow files, or of data in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from labelaudit.errors import OptionError, SourceError
from labelaudit.files import check_regular, exists, suffix_of
from labelaudit.images.containers import NoImages
from labelaudit.sources.arrays import source_of_images
from labelaudit.sources.arrow_datasets import find_arrow_splits
from labelaudit.sources.cells import (
    ID_COLUMNS,
    Cells,
    Columns,
    cells_of_frame,
    find_column,
    same_written,
)
from labelaudit.sources.classes import as_text, make_source, text_array
from labelaudit.sources.feature_tables import SHOWN_COLUMNS, TableSource, source_from_table
from labelaudit.sources.file_tree import IMAGE_SUFFIXES, RESULTS_MARKER, FileTree, source_name
from labelaudit.sources.label_tables import LabelTable, concatenate, read_table
from labelaudit.sources.manifest import Source, Texts
from labelaudit.sources.python_data import Asked, read_python_data, type_name
from labelaudit.sources.shard_labels import relabel
from labelaudit.sources.shards import ids_of_rows
from labelaudit.sources.splits import choose_split, shard_splits
from labelaudit.sources.table_formats import TABLE_FORMATS, read_cells
from labelaudit.sources.table_kinds import writes_number
from labelaudit.sources.values import as_frame, is_frame, is_list
from labelaudit.sources.wording import some

# Folders of these files are read as one table. Other folders are refused, because what they hold is
# not known.
SHARDS = ("arrow", "parquet")
# Number of cells that show whether a column holds numbers.
TRIED_ROWS = 1000
# What the texts of a list are called, which have no column.
UNNAMED = "text"
_NO_TEXT = "its text is empty"


@dataclass(frozen=True, eq=False)
class TextSource:
    """A source whose samples are texts.

    Attributes
    ----------
    source : Source
        Samples and labels; its images are `NoImages`.
    texts : array (N,) object of str
        The text of each sample, never blank.
    details : DataFrame (N, k) of str
        The columns that the report shows: the texts, then other columns of the rows.
    column : str
        Name of the column of texts.
    by_row : bool
        Whether samples are named by the number of their row, because the table has no ids.
    """

    source: Source
    texts: Texts
    details: pd.DataFrame
    column: str = UNNAMED
    by_row: bool = False

    def subset(self, keep: npt.NDArray[Any]) -> TextSource:
        """Return the samples that `keep` selects: (M,) indices or an (N,) mask."""
        return replace(
            self,
            source=self.source.subset(keep),
            texts=self.texts[keep],
            details=self.details.iloc[keep].reset_index(drop=True),
        )


def read_texts(
    source: Any,
    text_column: str,
    labels: Any = None,
    *,
    label_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    verified_column: str | None = None,
    label_columns: tuple[str, ...] = (),
    require_labels: bool = True,
) -> TextSource:
    """Read the column of texts of a table, and its labels.

    Samples whose text is empty or blank are left out, with a warning.

    Parameters
    ----------
    source : str, Path, DataFrame or data set
        CSV, TSV, JSONL, parquet or Arrow; a folder of parquet files, or one that Hugging Face's
        `datasets` has written; or a DataFrame, or such a data set, in memory.
    text_column : str
        The column of texts.
    labels : str or Path, or sequence (N,), optional
        For a source on disk a table of labels, whose ids are those of the samples; for data in memory
        their labels. By default the source has a column of labels.
    label_column, id_column, split, clean_label_column, verified_column, label_columns
        See `labelaudit.sources.feature_tables.read_labels_with_features`.
    require_labels : bool
        Whether fewer than two classes are refused.

    Raises
    ------
    SourceError, OptionError
        The source cannot be read, there is no such column or it holds no texts, or there are fewer
        than two classes.
    """
    columns = Columns(
        id_column,
        label_column,
        clean_label_column,
        SHOWN_COLUMNS + 1,
        verified_column,
        label_columns,
        text_column,
    )
    if text_column in (label_column, clean_label_column, verified_column, id_column):
        raise OptionError(
            f'`text_column` is "{text_column}", which another option names too; name another column'
        )
    if not isinstance(source, str | Path):
        if is_frame(source) and labels is None:
            table = _read_part(as_frame(source), columns, require_labels, split)
            rows = _rows_of(table, columns, split, require_labels)
            return _of_rows(rows, columns, "the DataFrame")
        return _of_data(source, labels, columns, split)
    path = Path(source)
    if labels is None:
        return _on_disk(path, columns, split, require_labels)
    if not isinstance(labels, str | Path):
        raise OptionError(
            f"labels= is {type_name(labels)}; for a source on disk give the path of a table of labels"
        )
    own = replace(columns, label=None, clean=None, verified=None, annotators=())
    found = _on_disk(path, own, split, require_labels=False)
    table = read_table(Path(labels), replace(columns, text=None), ID_COLUMNS)
    return _relabeled(found, table, split, path)


def texts_of_list(texts: Any, labels: Any, *, require_labels: bool = True) -> TextSource:
    """Return a list of texts (N,) and their labels (N,) as a source.

    There may be no labels if `require_labels` is False. Raises SourceError if an item is no text, or
    the labels do not fit.
    """
    cells = list(texts.tolist() if hasattr(texts, "tolist") else texts)
    if labels is None and not require_labels:
        none = [""] * len(cells)
        source = make_source(
            name="texts",
            where="the list",
            ids=[str(row) for row in range(len(cells))],
            paths=text_array(none),
            images=NoImages(len(cells)),
            labels=none,
            require_classes=False,
        )
        return _with_texts(source, _as_texts(cells, "the list"), None, UNNAMED, "the list", True)
    if labels is None:
        raise OptionError("a list of texts needs labels=, one for each text")
    if len(labels) != len(cells):
        raise SourceError(
            f"there are {len(labels):,} labels and {len(cells):,} texts; give one for each"
        )
    source = source_of_images(NoImages(len(cells)), labels, name="texts")
    return _with_texts(source, _as_texts(cells, "the list"), None, UNNAMED, "the list", True)


def are_texts(source: object) -> bool:
    """Return whether data in memory are a list, array or Series of texts, not paths of images."""
    if isinstance(source, np.ndarray) and source.dtype.kind in ("U", "T"):
        return source.ndim == 1 and len(source) > 0 and not _is_image(str(source[0]))
    series = hasattr(source, "iloc") and not hasattr(source, "columns")
    # A column of a data set of Hugging Face is neither a list nor an array.
    column = type(source).__module__.startswith("datasets.") and type(source).__name__ == "Column"
    if not (is_list(source) or series or column):
        return False
    first = next((one for one in cast(Iterable[Any], source) if one is not None), None)
    return isinstance(first, str) and not _is_image(first)


def _is_image(text: str) -> bool:
    return suffix_of(text.strip()) in IMAGE_SUFFIXES


# --- on disk -----------------------------------------------------------------------------------


def read_rows(path: Path, columns: Columns, split: str | None) -> Source:
    """Read the samples and labels of a table, or of parquet or Arrow files, without texts or images.

    Parameters
    ----------
    path, split
        See `read_texts`.
    columns : Columns
        The requested columns.

    Raises
    ------
    SourceError
        The files cannot be read, or have no column of labels.
    """
    return _rows_on_disk(path, columns, split, require_labels=True).source


def _on_disk(path: Path, columns: Columns, split: str | None, require_labels: bool) -> TextSource:
    rows = _rows_on_disk(path, columns, split, require_labels)
    return _of_rows(rows, columns, str(path))


def _rows_on_disk(
    path: Path, columns: Columns, split: str | None, require_labels: bool
) -> TableSource:
    if not exists(path):
        raise SourceError(f"{path} does not exist; check the path of the source")
    if not path.is_dir():
        check_regular(path)
        if suffix_of(path.name) not in TABLE_FORMATS:
            raise SourceError(
                f"{path} is not a table of texts; give one of {', '.join(TABLE_FORMATS)}, or a folder"
                " of parquet or Arrow files"
            )
        table = _read_part(path, columns, require_labels, split)
        return _rows_of(table, columns, split, require_labels)
    table, names, warnings, split = _read_folder(path, columns, split, require_labels)
    ids = ids_of_rows(path, names, table, np.arange(len(table.labels)))
    if columns.image is not None and ids != [name.replace("\\", "/") for name in table.images]:
        raise SourceError(
            f'the ids in the column "{columns.image}" of {path} are missing or repeat; name another'
            " one with `id_column`, or leave it out"
        )
    rows = _rows_of(replace(table, images=ids), columns, split, require_labels)
    source = rows.source
    manifest = replace(source.manifest, name=source_name(path))
    return replace(
        rows,
        source=replace(source, manifest=manifest, warnings=(*warnings, *source.warnings)),
    )


def _rows_of(
    table: LabelTable, columns: Columns, split: str | None, require_labels: bool
) -> TableSource:
    return source_from_table(
        table, by_row=True, id_column=columns.image, split=split, require_classes=require_labels
    )


def _read_folder(
    path: Path, columns: Columns, split: str | None, require_labels: bool
) -> tuple[LabelTable, list[str], list[str], str | None]:
    """Read a folder of parquet or Arrow files as one table, without images.

    Returns the rows of one split, the names of its files, warnings, and the split that the rows must
    still name themselves. Raises SourceError if there is no such file or split.
    """
    if (path / RESULTS_MARKER).is_file():
        raise SourceError(
            f"{path} holds results of labelaudit ({RESULTS_MARKER}) and is no source; give the table"
            " of the texts"
        )
    files = FileTree(path).walk()
    splits = find_arrow_splits(path, files)
    split_of = {file: name for name, group in splits.items() for file in group}
    names = list(split_of)
    if not names:
        names = [file for file in files if suffix_of(file) == "parquet"]
        split_of = shard_splits(names)
    if not names:
        tables = [file for file in files if suffix_of(file) in TABLE_FORMATS]
        advice = f"give one of its tables, such as {path / tables[0]}" if tables else "give a table"
        raise SourceError(
            f"{path} holds no parquet or Arrow files of texts; {advice} as the source"
        )
    warnings: list[str] = []
    there = sorted(set(split_of.values()) - {""})
    if len(there) > 1:
        chosen = choose_split(there, split, path, warnings)
        names, split = [name for name in names if split_of[name] == chosen], None
    table = concatenate([_read_part(path / name, columns, require_labels) for name in names])
    if table.splits is None and split in there:
        split = None  # the files are that split
    return table, names, warnings, split


def _read_part(
    table: Path | pd.DataFrame, columns: Columns, require_labels: bool, split: str | None = None
) -> LabelTable:
    """Read the rows of one table, without images."""
    cells = _cells_of(table, columns)
    if columns.text is not None:
        _check_column(cells, columns)
    return read_table(
        cells,
        columns,
        ID_COLUMNS,
        images_needed=False,
        labels_needed=require_labels,
        split=split,
    )


def _cells_of(table: Path | pd.DataFrame, columns: Columns) -> Cells:
    if isinstance(table, Path):
        return read_cells(table, columns)
    return cells_of_frame(table, columns)


def _check_column(cells: Cells, columns: Columns) -> None:
    """Raise SourceError if the column of texts is not there, or holds numbers."""
    column = find_column(cells, columns.text, (), "the texts", "text_column")
    assert column is not None
    tried = [text for text in cells.texts[column] if text.strip()][:TRIED_ROWS]
    if tried and all(map(writes_number, tried)):
        raise SourceError(
            f'the column "{column}" of {cells.file} holds numbers such as {tried[0]}, not texts; name'
            " the column of texts with `text_column`, or audit columns of numbers with `tabular`"
        )


def _of_rows(rows: TableSource, columns: Columns, where: str) -> TextSource:
    """Make a source of the rows of a table with a column of texts."""
    assert columns.text is not None
    names = tuple(str(name) for name in rows.details)
    name = columns.text if columns.text in names else same_written(columns.text, names)
    if name is None:
        raise SourceError(
            f'the column "{columns.text}" of {where} holds the labels, ids or splits; name the column'
            " of texts with `text_column`"
        )
    ids = rows.source.manifest.sample_ids.tolist()
    by_row = ids == [str(row) for row in rows.table_rows]
    texts = rows.details[name].tolist()
    return _with_texts(rows.source, texts, rows.details, name, where, by_row)


def _with_texts(
    source: Source,
    texts: Sequence[str],
    details: pd.DataFrame | None,
    column: str,
    where: str,
    by_row: bool,
) -> TextSource:
    """Return the samples whose text is not blank; the others are listed as skipped."""
    shown = pd.DataFrame({column: list(texts)}, dtype=str)
    if details is not None:
        shown = pd.concat([shown, details.drop(columns=column)], axis=1)
    blank = [row for row, text in enumerate(texts) if not text.strip()]
    if len(blank) == len(texts):
        raise SourceError(
            f'the column "{column}" of {where} has no text in any of its {len(texts):,} rows; name the'
            " column of texts with `text_column`"
        )
    found = TextSource(source, text_array(list(texts)), shown, column, by_row)
    if not blank:
        return found
    left = source.without_unreadable(dict.fromkeys(blank, _NO_TEXT), "left out for want of a text")
    kept = np.delete(np.arange(len(texts)), blank)
    return replace(found.subset(kept), source=left)


def _relabeled(found: TextSource, table: LabelTable, split: str | None, path: Path) -> TextSource:
    """Return texts with the labels of another table, joined by their ids."""
    skipped = found.source.skipped
    source = relabel(found.source, table, split, path)
    left = source.manifest.sample_ids
    rows = pd.Index(found.source.manifest.sample_ids).get_indexer(pd.Index(left))
    source = replace(source, skipped=pd.concat([skipped, source.skipped], ignore_index=True))
    return replace(found.subset(rows), source=source)


# --- in memory ---------------------------------------------------------------------------------


def _of_data(source: Any, labels: Any, columns: Columns, split: str | None) -> TextSource:
    """Read a data set of Hugging Face, or a DataFrame whose labels are given separately."""
    asked_for = {
        "clean_label_column": columns.clean,
        "verified_column": columns.verified,
        "label_columns": columns.annotators or None,
        "id_column": columns.image,
    }
    for option, value in asked_for.items():
        if value is not None:
            raise OptionError(
                f"`{option}` names a column of a table; give a path or a DataFrame with its labels"
            )
    assert columns.text is not None
    if is_frame(source):
        frame = as_frame(source)
        cells = cells_of_frame(frame, columns)
        _check_column(cells, columns)
        name = find_column(cells, columns.text, (), "the texts", "text_column")
        assert name is not None
        made = source_of_images(NoImages(len(frame)), labels, name="DataFrame")
        return _with_texts(made, cells.texts[name], None, name, "the DataFrame", True)
    is_set = hasattr(source, "column_names") or hasattr(source, "keys")
    if not is_set:
        raise OptionError(
            f"`text_column` names a column, but the source is {type_name(source)}; give a path, a"
            " DataFrame or a data set of Hugging Face, or leave it out with a list of texts"
        )
    warnings: list[str] = []
    if hasattr(source, "keys"):  # several splits
        source = source[choose_split(list(source), split, "the data set", warnings)]
    if not hasattr(source, "__len__"):
        raise OptionError("the data set is streamed; load it without streaming=True")
    if columns.text not in source.column_names:
        raise OptionError(
            f'the data set has no column "{columns.text}"; its columns:'
            f" {some(list(source.column_names), quote=False, shown=20)}; name one of them with"
            " `text_column`"
        )
    words = source.select_columns([columns.text])
    given = source.remove_columns([columns.text])
    asked = Asked(labels, None, columns.label, None, with_features=True)
    made = cast(Source, read_python_data(given, asked))
    manifest = replace(made.manifest, images=NoImages(made.manifest.num_samples))
    made = replace(made, manifest=manifest, warnings=(*warnings, *made.warnings))
    texts = _as_texts(list(words.with_format(None)[columns.text]), f'"{columns.text}"')
    return _with_texts(made, texts, None, columns.text, "the data set", True)


def _as_texts(cells: Sequence[Any], what: str) -> list[str]:
    texts = []
    for row, cell in enumerate(cells):
        if cell is not None and not isinstance(cell, str) and cell == cell:
            raise SourceError(f"item {row} of {what} is {type_name(cell)}, not a text; give texts")
        texts.append(as_text(cell))
    return texts

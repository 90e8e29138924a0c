"""Precomputed features of samples of any kind, such as texts, sounds or photos; no image is needed.

Features are read from a NumPy file, whose row i belongs to row i of a table of labels; from a parquet
file, by id; or from a column of the table of labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.images.containers import Indices, NoImages
from labelaudit.images.store import copy_rows
from labelaudit.sources.cells import ID_COLUMNS, Columns
from labelaudit.sources.classes import make_source, text_array
from labelaudit.sources.feature_files import (
    Floats,
    as_floats,
    check_rows,
    names_rows,
    read_by_id,
    read_column,
    read_rows,
)
from labelaudit.sources.file_tree import source_name
from labelaudit.sources.label_tables import LabelTable, read_table
from labelaudit.sources.manifest import EXCLUDED, Source
from labelaudit.sources.splits import rows_of_split
from labelaudit.sources.wording import some

# Number of further columns that are read for the report, which shows the most informative ones.
SHOWN_COLUMNS = 24


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """A source whose samples come with features.

    Attributes
    ----------
    source : Source
        Samples and labels; its images may be `NoImages`.
    features : array (N, d) float32
        In the order of the samples. Memory-mapped if possible.
    details : DataFrame (N, k) of str
        Other columns of the rows, which the report shows of samples without an image.
    notes : dict of str to str
        How each column became features, if that was done here.
    """

    source: Source
    features: Floats
    details: pd.DataFrame
    notes: dict[str, str] = field(default_factory=dict)

    def subset(self, keep: npt.NDArray[Any]) -> "FeatureSource":
        """Return the samples that `keep` selects: (M,) indices or an (N,) mask."""
        return FeatureSource(
            self.source.subset(keep),
            copy_rows(self.features, keep),
            self.details.iloc[keep].reset_index(drop=True),
            self.notes,
        )


def read_labels_with_features(
    labels: str | Path,
    features: str | Path | npt.NDArray[Any],
    *,
    label_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    verified_column: str | None = None,
    label_columns: tuple[str, ...] = (),
) -> FeatureSource:
    """Read a table of labels and the features of its rows; no image is needed.

    Parameters
    ----------
    labels : str or Path
        CSV, TSV, JSONL or parquet with one row per sample. An empty cell means no label.
    features : str, Path or array
        A .npy file or an array: row i belongs to row i of the table. A .parquet file: by id, or by
        the numbers of the rows if `labelaudit embed` wrote it about such a table; see `join_features`.
        Otherwise the column of the table that holds a list of numbers in each row.
    label_column, id_column : str, optional
        Columns of the table. By default the first column named in `LABEL_COLUMNS`, `ID_COLUMNS`. Rows
        without ids are named by their number, from 0.
    split : str, optional
        Which split to read, if the table has a column "split". By default "train", with a
        warning.
    clean_label_column : str, optional
        Column of true labels, for benchmarks.
    verified_column : str, optional
        Column of verified labels; see `labelaudit.sources.folders.read_source`.
    label_columns : tuple of str
        Columns of several annotators; see `labelaudit.sources.annotators`.

    Raises
    ------
    SourceError
        A file does not exist or cannot be read, the two do not fit together, a feature is not a finite
        number, or there are fewer than two classes.
    """
    columns = Columns(
        id_column,
        label_column,
        clean_label_column,
        SHOWN_COLUMNS + 1,
        verified_column,
        label_columns,
    )
    table = read_table(Path(labels), columns, ID_COLUMNS, images_needed=False, split=split)
    if isinstance(features, str | Path) and suffix_of(str(features)) == "parquet":
        numbered = id_column is None and names_rows(Path(features))
        read = source_from_table(table, by_row=numbered, id_column=id_column, split=split)
        values, found = read_by_id(Path(features), read.source.manifest.sample_ids)
        return _without_lacking(read, values, found, Path(features))
    read = source_from_table(table, by_row=True, id_column=id_column, split=split)
    details = read.details
    if isinstance(features, str) and suffix_of(features) != "npy":
        values = read_column(table, features)
        details = details.drop(columns=features, errors="ignore")
    else:
        values = read_rows(features, table)
    if len(read.table_rows) < len(values):
        values = copy_rows(values, read.table_rows)
    return FeatureSource(read.source, values, details)


def join_features(source: Source, file: str | Path) -> FeatureSource:
    """Add precomputed features to a source, by the ids of its samples.

    Parameters
    ----------
    source : Source
        N samples.
    file : str or Path
        Parquet, in any order. Ids are in the column "sample_id", "id" or another of `ID_COLUMNS`,
        otherwise in the first. Features are in one column of lists (such as "features"), otherwise
        in all other numeric columns. Ids that are not in the source are ignored. Samples that are
        not in the file are skipped, with a warning.

    Raises
    ------
    SourceError
        The file is not such a table, none of its ids is that of a sample, ids repeat, or a feature
        is not a finite number.
    """
    path = Path(file)
    if suffix_of(path.name) != "parquet":
        raise SourceError(
            f"{path}: features of images are found by their ids; give a parquet file with the"
            " columns sample_id and features"
        )
    total = source.manifest.num_samples
    values, found = read_by_id(path, source.manifest.sample_ids)
    read = TableSource(source, pd.DataFrame(index=range(total)), np.arange(total), total)
    return _without_lacking(read, values, found, path)


def features_of_rows(source: Source, features: npt.NDArray[Any]) -> FeatureSource:
    """Add precomputed features (N, d) to a source with N samples; row i belongs to sample i.

    Raises SourceError if the numbers of rows and samples differ, or a feature is not a finite number.
    """
    ids = source.manifest.sample_ids
    name = "the array of features"
    check_rows(name, features, len(ids), "the source")
    values = as_floats(features, lambda row: f'row {row} of {name} ("{ids[row]}")')
    return FeatureSource(source, values, pd.DataFrame(index=range(len(ids))))


@dataclass(frozen=True, eq=False)
class TableSource:
    """A source made of the rows of a table.

    Attributes
    ----------
    source : Source
        Its images are `NoImages`.
    details : DataFrame (N, k) of str
        Other columns of the rows.
    table_rows : array (N,) int64
        The row of each sample in the table.
    num_rows : int
        Number of rows of the table.
    """

    source: Source
    details: pd.DataFrame
    table_rows: Indices
    num_rows: int


def source_from_table(
    table: LabelTable,
    *,
    by_row: bool,
    id_column: str | None = None,
    split: str | None = None,
    require_classes: bool = True,
) -> TableSource:
    """Make a source of the rows of a table, without images.

    Parameters
    ----------
    table : LabelTable
        Its `images` are ids, or "".
    by_row : bool
        Whether rows may be named by their number if ids are missing or repeat. This is ignored if
        `id_column` is given.
    id_column : str, optional
        The requested column.
    split : str, optional
        Which split to read.
    require_classes : bool
        Whether fewer than two classes are refused.

    Raises
    ------
    SourceError
        There is no such split, ids are needed and missing, or there are fewer than two classes.
    """
    warnings: list[str] = []
    rows = np.flatnonzero(rows_of_split(table, split, warnings))
    ids = [table.images[row] for row in rows]
    trouble = _trouble_with_ids(table, ids, rows)
    if trouble and (id_column is not None or not by_row):
        raise SourceError(f"{trouble}; name a column of ids with `id_column`")
    if trouble and any(ids):
        warnings.append(f"{trouble}; rows are named by their number")
    source = make_source(
        name=source_name(table.files[0]),
        where=table.where,
        ids=[str(row) for row in rows] if trouble else ids,
        paths=text_array([""] * len(rows)),
        images=NoImages(len(rows)),
        labels=[table.labels[row] for row in rows],
        clean=None if table.clean is None else [table.clean[row] for row in rows],
        marks=None if table.marks is None else [table.marks[row] for row in rows],
        first=None if table.first is None else [table.first[row] for row in rows],
        votes=None if table.votes is None else table.votes.rows(rows.tolist()),
        declared=table.declared,
        warnings=warnings,
        require_classes=require_classes,
    )
    if table.marks is not None:
        rows = rows[[table.marks[row] != EXCLUDED for row in rows]]
    details = pd.DataFrame(
        {name: [texts[row] for row in rows] for name, texts in table.others.items()},
        index=range(len(rows)),
        dtype=str,
    )
    return TableSource(source, details, rows, len(table.labels))


def _without_lacking(
    read: TableSource, values: Floats, found: npt.NDArray[np.bool_], file: Path
) -> FeatureSource:
    """Return the samples that features were found for; the others are listed as skipped."""
    if found.all():
        return FeatureSource(read.source, values, read.details)
    reason = f"it has no features in {file.name}"
    lacking = {int(row): reason for row in np.flatnonzero(~found)}
    source = read.source.without_unreadable(lacking, "left out, because they have no features")
    details = read.details[found].reset_index(drop=True)
    return FeatureSource(source, copy_rows(values, found), details)


def _trouble_with_ids(table: LabelTable, ids: Sequence[str], rows: Indices) -> str:
    """Return why the ids do not identify the rows; "" if they do."""
    if not any(ids):
        return f"{table.where} has no ids"
    if "" in ids:
        return f"{table.place(int(rows[ids.index('')]))} has no id"
    if len(set(ids)) < len(ids):
        repeated = pd.Series(ids)[pd.Series(ids).duplicated()].unique().tolist()
        return f"ids in {table.where} repeat: {some(repeated)}"
    return ""

"""Features made elsewhere, of anything: texts, sounds, photos. No image is needed then.

They come in a NumPy file, whose row i belongs to row i of a table of labels; in a parquet file, by
id; or in a column of the table of labels itself.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelaudit.errors import SourceError
from labelaudit.images.containers import Indices, NoImages
from labelaudit.images.store import make_store
from labelaudit.sources.folders import rows_of_split, source_name
from labelaudit.sources.label_tables import (
    ID_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMN,
    Columns,
    LabelTable,
    read_table,
    suffix_of,
)
from labelaudit.sources.manifest import (
    EXCLUDED,
    Source,
    Texts,
    as_text,
    make_source,
    some,
    text_array,
)

Floats = npt.NDArray[np.float32]

# Rows converted or checked at a time, to bound what lies in memory twice.
BLOCK_ROWS = 4096
# Columns of a table that are read for the report, which shows those that tell most.
SHOWN_COLUMNS = 24
FEATURE_COLUMNS = ("features", "embedding", "embeddings", "vector")


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """A source whose samples come with features.

    Attributes
    ----------
    source : Source
        Samples and labels; its images may be `NoImages`.
    features : array (N, d) float32
        In the order of the samples; memory-mapped where that was possible.
    details : DataFrame (N, k) of str
        What a person may want to see of a sample without a picture: other columns of its row.
    notes : dict of str to str
        What was done to make the features, if it was done here.
    """

    source: Source
    features: Floats
    details: pd.DataFrame
    notes: dict[str, str] = field(default_factory=dict)

    def subset(self, keep: npt.NDArray[Any]) -> "FeatureSource":
        """Return the samples that `keep` picks: (M,) indices or an (N,) mask."""
        return FeatureSource(
            self.source.subset(keep),
            self.features[keep],
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
) -> FeatureSource:
    """Read a table of labels and the features of its rows; no image is needed.

    Parameters
    ----------
    labels : str or Path
        CSV, TSV, JSONL or parquet, a sample a row; without a label where its cell is empty.
    features : str, Path or array
        A file .npy, or an array: row i belongs to row i of the table. A file .parquet: by id; see
        `join_features`. Else the table's column that holds a list of numbers in each row.
    label_column, id_column : str, optional
        Columns of the table; by default the first there of `LABEL_COLUMNS`, `ID_COLUMNS`. Rows
        without ids are called by their number, from 0.
    split : str, optional
        Which split to read, where the table has a column "split". By default "train", with a
        warning.
    clean_label_column : str, optional
        Column of true labels, for benchmarks.
    verified_column : str, optional
        Column of verified labels; see `labelaudit.sources.folders.read_source`.

    Raises
    ------
    SourceError
        A file is not there or not readable, the two do not fit together, a feature is not a finite
        number, or there are fewer than two classes.
    """
    columns = Columns(
        id_column, label_column, clean_label_column, SHOWN_COLUMNS + 1, verified_column
    )
    table = read_table(Path(labels), columns, ID_COLUMNS, images_needed=False)
    if isinstance(features, str | Path) and suffix_of(str(features)) == "parquet":
        read = source_from_table(table, by_row=False, id_column=id_column, split=split)
        values, found = _read_by_id(Path(features), read.source.manifest.sample_ids)
        return _without_lacking(read, values, found, Path(features))
    read = source_from_table(table, by_row=True, id_column=id_column, split=split)
    details = read.details
    if isinstance(features, str) and suffix_of(features) != "npy":
        values = _read_column(table, features)
        details = details.drop(columns=features, errors="ignore")
    else:
        values = _read_rows(features, table)
    if len(read.table_rows) < len(values):
        values = values[read.table_rows]
    return FeatureSource(read.source, values, details)


def join_features(source: Source, file: str | Path) -> FeatureSource:
    """Add features made elsewhere to a source, by the ids of its samples.

    Parameters
    ----------
    source : Source
        N samples.
    file : str or Path
        Parquet, in any order. Ids are in the column "sample_id", "id" or another of `ID_COLUMNS`,
        or else the first; features in one column of lists (such as "features"), or else in all
        other numeric columns. Ids that the source has not are passed over; samples that the file
        has not are listed as skipped, with a warning.

    Raises
    ------
    SourceError
        The file is not such a table, none of its ids is a sample's, ids repeat, or a feature is
        not a finite number.
    """
    path = Path(file)
    if suffix_of(path.name) != "parquet":
        raise SourceError(
            f"{path}: features of images are found by their ids; give a parquet file with the"
            " columns sample_id and features"
        )
    total = source.manifest.num_samples
    values, found = _read_by_id(path, source.manifest.sample_ids)
    read = TableSource(source, pd.DataFrame(index=range(total)), np.arange(total), total)
    return _without_lacking(read, values, found, path)


def features_of_rows(source: Source, features: npt.NDArray[Any]) -> FeatureSource:
    """Add features made elsewhere to a source, row by row.

    Parameters
    ----------
    source : Source
        N samples.
    features : array (N, d)
        Numbers; row i belongs to sample i.

    Raises
    ------
    SourceError
        There are not as many rows as samples, or a feature is not a finite number.
    """
    ids = source.manifest.sample_ids
    name = "the array of features"
    _check_rows(name, features, len(ids), "the source")
    values = _as_floats(features, lambda row: f'row {row} of {name} ("{ids[row]}")')
    return FeatureSource(source, values, pd.DataFrame(index=range(len(ids))))


@dataclass(frozen=True, eq=False)
class TableSource:
    """A source made of a table's rows.

    Attributes
    ----------
    source : Source
        Its images are `NoImages`.
    details : DataFrame (N, k) of str
        Other columns of the rows.
    table_rows : array (N,) int64
        Which rows of the table the samples are.
    num_rows : int
        How many rows the table has.
    """

    source: Source
    details: pd.DataFrame
    table_rows: Indices
    num_rows: int


def source_from_table(
    table: LabelTable, *, by_row: bool, id_column: str | None = None, split: str | None = None
) -> TableSource:
    """Make a source of a table's rows, without images.

    Parameters
    ----------
    table : LabelTable
        Its `images` are ids, or "".
    by_row : bool
        Whether rows may be called by their number where ids are missing or repeat, unless the
        column was asked for.
    id_column : str, optional
        The column that was asked for.
    split : str, optional
        Which split to read.

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
        raise SourceError(f"{trouble}; name a column of ids with id_column (--id-column)")
    if trouble and any(ids):
        warnings.append(f"{trouble}; rows are called by their number")
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
        declared=table.declared,
        warnings=warnings,
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
    source = read.source.without_unreadable(lacking, "left out for lack of features")
    return FeatureSource(source, values[found], read.details[found].reset_index(drop=True))


def _trouble_with_ids(table: LabelTable, ids: Sequence[str], rows: Indices) -> str:
    """Return why ids do not name the rows, "" where they do."""
    if not any(ids):
        return f"{table.where} has no ids"
    if "" in ids:
        return f"{table.place(int(rows[ids.index('')]))} has no id"
    if len(set(ids)) < len(ids):
        repeated = pd.Series(ids)[pd.Series(ids).duplicated()].unique().tolist()
        return f"ids in {table.where} repeat: {some(repeated)}"
    return ""


def _read_rows(features: str | Path | npt.NDArray[Any], table: LabelTable) -> Floats:
    """Return features (R, d) of the table's R rows, from a .npy file or an array."""
    if isinstance(features, np.ndarray):
        name, values = "the array of features", features
    else:
        name = str(features)
        try:
            values = np.load(features, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise SourceError(f"{name} does not exist; check the path of the features") from error
        except (OSError, ValueError, EOFError) as error:
            raise SourceError(f"{name} is not a .npy file of numbers: {error}") from error
    _check_rows(name, values, len(table.labels), table.where)
    return _as_floats(values, lambda row: f"row {row} of {name} ({table.place(row)})")


def _check_rows(name: str, values: npt.NDArray[Any], total: int, where: str) -> None:
    """Raise unless values are numbers (total, d)."""
    if values.ndim != 2 or 0 in values.shape:
        raise SourceError(f"{name} has the shape {values.shape}; give (rows, features)")
    if values.dtype.kind not in "fiu":
        raise SourceError(f"{name} holds {values.dtype}; give numbers")
    if len(values) != total:
        raise SourceError(
            f"{name} has {len(values):,} rows and {where} has {total:,}; "
            "row i of one belongs to row i of the other"
        )


def _as_floats(
    values: npt.NDArray[Any], place: Callable[[int], str], out: Floats | None = None
) -> Floats:
    """Return (N, d) float32, the array itself where it is that; SourceError names a bad row."""
    ready = values.dtype == np.float32 and values.flags.c_contiguous and out is None
    floats = values if ready else make_store(values.shape, np.float32) if out is None else out
    for start in range(0, len(values), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        if not ready:
            with np.errstate(over="ignore"):
                floats[block] = values[block]
        finite = np.isfinite(floats[block]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise SourceError(f"{place(row)} has a feature that is not a finite number; mend it")
    return floats


def _read_column(table: LabelTable, column: str) -> Floats:
    """Return features (R, d) from a column of lists in the table's own file."""
    file = table.files[0]
    suffix = suffix_of(file.name)
    if suffix == "parquet":
        with pq.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            if column not in names:
                raise _no_such_features(column, file, names)
            cells = opened.read(columns=[column]).column(0)
        return _from_lists(cells, lambda row: f'"{column}" in {table.place(row)}')
    if suffix in ("csv", "tsv"):
        raise SourceError(
            f'features are "{column}", which is no file .npy or .parquet, and a column of lists is'
            f" read from parquet or JSONL only, not from {file}"
        )
    lists, names = list[Any](), dict[str, None]()
    with file.open(encoding="utf-8-sig") as stream:  # read before: it is JSONL
        for line in stream:
            if line.strip():
                record = json.loads(line)
                names.update(dict.fromkeys(record))
                lists.append(record.get(column))
    if column not in names:
        raise _no_such_features(column, file, list(names))
    try:
        cells = pa.array(lists, pa.list_(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SourceError(f'"{column}" in {file} is not a list of numbers: {error}') from error
    return _from_lists(pa.chunked_array([cells]), lambda row: f'"{column}" in {table.place(row)}')


def _no_such_features(column: str, file: Path, names: Sequence[str]) -> SourceError:
    return SourceError(
        f'features are "{column}", which is no file .npy or .parquet and no column of {file};'
        f" columns there: {', '.join(names)}"
    )


def _from_lists(cells: pa.ChunkedArray, place: Callable[[int], str]) -> Floats:
    """Return a column of lists as (N, d) float32."""
    kind = cells.type
    if not _is_list_of_numbers(kind):
        raise SourceError(f"{place(0)} is {kind} and not a list of numbers")
    sizes = pc.list_value_length(cells).to_numpy(zero_copy_only=False)  # NaN where null
    first = sizes[0] if len(sizes) else 0
    wrong = np.flatnonzero(sizes != first)
    if len(wrong) or not first > 0:
        row = int(wrong[0]) if len(wrong) else 0
        size = "no features" if not sizes[row] > 0 else f"{int(sizes[row])} features"
        raise SourceError(f"{place(row)} has {size}; all rows need as many as the first")
    out = make_store((len(sizes), int(first)), np.float32)
    start = 0
    for chunk in cells.chunks:
        flat = chunk.flatten().to_numpy(zero_copy_only=False)
        block = slice(start, start + len(chunk))
        begin = start

        def of_chunk(row: int, begin: int = begin) -> str:
            return place(begin + row)

        _as_floats(flat.reshape(len(chunk), int(first)), of_chunk, out[block])
        start += len(chunk)
    return out


def _is_list_of_numbers(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and _is_number(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _read_by_id(file: Path, ids: Texts) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return features (N, d) of the samples called `ids`, and the mask (N,) of those found."""
    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            id_column, columns = _feature_columns(file, schema)
            stored = opened.read(columns=[id_column]).column(0).to_pylist()
            names = [id_text(file, row, value) for row, value in enumerate(stored)]
            position = _positions(file, names, ids)
            values: Floats | None = None
            start = 0
            for batch in opened.iter_batches(batch_size=BLOCK_ROWS, columns=columns):
                block = _batch_features(file, batch, names[start : start + len(batch)])
                if values is None:
                    values = np.zeros((len(ids), block.shape[1]), np.float32)
                elif block.shape[1] != values.shape[1]:
                    raise SourceError(
                        f'"{names[start]}" in {file} has {block.shape[1]} features; all rows need'
                        " as many as the first"
                    )
                where = position[start : start + len(batch)]
                values[where[where >= 0]] = block[where >= 0]
                start += len(batch)
    except FileNotFoundError as error:
        raise SourceError(f"{file} does not exist; check the path of the features") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{file} is not a parquet file, or a damaged one: {error}") from error
    assert values is not None  # some id was found, so there is a row
    found = np.zeros(len(ids), bool)
    found[position[position >= 0]] = True
    return values, found


def id_text(file: Path, row: int, value: object) -> str:
    """Give an id as text; SourceError where it is no text or number."""
    try:
        return as_text(value)
    except TypeError as error:
        raise SourceError(f"the id in row {row} of {file} is {error}") from error


def _positions(file: Path, names: list[str], ids: Texts) -> Indices:
    """Return for each row of the file its sample, (R,) int64, -1 where it is none."""
    repeated = pd.Index(names)[pd.Index(names).duplicated()].unique().tolist()
    if repeated:
        raise SourceError(f"ids in {file} repeat: {some(repeated)}; keep one row of each")
    position: Indices = pd.Index(ids).get_indexer(pd.Index(names)).astype(np.int64)
    if not (position >= 0).any():
        there = f'e.g. "{names[0]}"' if names else "no row"
        raise SourceError(
            f"none of the {len(ids):,} samples has features in {file}: it has {there}, and the"
            f' samples are called e.g. "{ids[0]}"'
        )
    return position


def _feature_columns(file: Path, schema: pa.Schema) -> tuple[str, list[str]]:
    """Return the column of ids and the columns of features of a parquet file."""
    lowered = {name.strip().lower(): name for name in reversed(schema.names)}
    known = ("sample_id", "id", "image", *ID_COLUMNS)
    id_column = next((lowered[name] for name in known if name in lowered), None)
    if id_column is None and schema.names:
        id_column = schema.names[0]
    lists = [column.name for column in schema if _is_list_of_numbers(column.type)]
    if len(lists) > 1:
        lists = [name for name in lists if name.strip().lower() in FEATURE_COLUMNS] or lists
    if len(lists) > 1:
        raise SourceError(
            f"{file} has several columns of lists: {', '.join(lists)}; keep the features alone"
        )
    passed_over = (id_column, *(lowered.get(name) for name in (*LABEL_COLUMNS, SPLIT_COLUMN)))
    numbers = [c.name for c in schema if _is_number(c.type) and c.name not in passed_over]
    if id_column is None or id_column in lists or not (lists or numbers):
        raise SourceError(
            f"{file} has no ids or no features; give a column of ids, first or called sample_id,"
            " and a column of lists or columns of numbers"
        )
    return id_column, lists or numbers


def _batch_features(file: Path, batch: pa.RecordBatch, names: list[str]) -> Floats:
    def place(row: int) -> str:
        return f'"{names[row]}" in {file}'

    if _is_list_of_numbers(batch.schema.types[0]):
        return _from_lists(pa.chunked_array([batch.column(0)]), place)
    columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
    return _as_floats(np.stack(columns, axis=1), place)

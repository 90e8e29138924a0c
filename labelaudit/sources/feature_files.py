"""Features from files and arrays as float32: by row, by id, or from a column of lists."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelaudit.errors import SourceError
from labelaudit.images.containers import Indices
from labelaudit.images.store import make_store
from labelaudit.sources.cells import ID_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMN
from labelaudit.sources.classes import as_text
from labelaudit.sources.label_tables import LabelTable
from labelaudit.sources.manifest import Texts
from labelaudit.sources.table_formats import read_lists
from labelaudit.sources.wording import some

Floats = npt.NDArray[np.float32]
# Number of rows that are converted or checked at a time, to bound the copies in memory.
BLOCK_ROWS = 4096
FEATURE_COLUMNS = ("features", "embedding", "embeddings", "vector")


def read_rows(features: str | Path | npt.NDArray[Any], table: LabelTable) -> Floats:
    """Return features (R, d) of the R rows of a table, from a .npy file or an array."""
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
    check_rows(name, values, len(table.labels), table.where)
    return as_floats(values, lambda row: f"row {row} of {name} ({table.place(row)})")


def check_rows(name: str, values: npt.NDArray[Any], total: int, where: str) -> None:
    """Raise SourceError unless values are numbers of the shape (total, d)."""
    if values.ndim != 2 or 0 in values.shape:
        raise SourceError(f"{name} has the shape {values.shape}; give (rows, features)")
    if values.dtype.kind not in "fiu":
        raise SourceError(f"{name} holds {values.dtype}; give numbers")
    if len(values) != total:
        raise SourceError(
            f"{name} has {len(values):,} rows and {where} has {total:,}; "
            "give one row per row of the table, in the same order"
        )


def as_floats(
    values: npt.NDArray[Any], place: Callable[[int], str], out: Floats | None = None
) -> Floats:
    """Return values as float32; the array itself if it is that already.

    Parameters
    ----------
    values : array (N, d)
        Numbers.
    place : callable
        Returns how messages name a row.
    out : array (N, d) float32, optional
        The array to write to. By default a new one.

    Raises
    ------
    SourceError
        A number is not finite.
    """
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
            raise SourceError(f"{place(row)} has a feature that is not a finite number; correct it")
    return floats


def read_column(table: LabelTable, column: str) -> Floats:
    """Return features (R, d) from a column of lists in the file of the table itself."""
    lists = read_lists(table.files[0], column)
    return _from_lists(lists, lambda row: f'"{column}" in {table.place(row)}')


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
        raise SourceError(f"{place(row)} has {size}; all rows need as many as the first one")
    out = make_store((len(sizes), int(first)), np.float32)
    start = 0
    for chunk in cells.chunks:
        flat = chunk.flatten().to_numpy(zero_copy_only=False)
        block = slice(start, start + len(chunk))
        begin = start

        def of_chunk(row: int, begin: int = begin) -> str:
            return place(begin + row)

        as_floats(flat.reshape(len(chunk), int(first)), of_chunk, out[block])
        start += len(chunk)
    return out


def _is_list_of_numbers(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and _is_number(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def read_by_id(file: Path, ids: Texts) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return features (N, d) of the samples with these ids, and the mask (N,) of those found."""
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
    """Return an id as text; SourceError if it is neither text nor a number."""
    try:
        return as_text(value)
    except TypeError as error:
        raise SourceError(f"the id in row {row} of {file} is {error}") from error


def _positions(file: Path, names: list[str], ids: Texts) -> Indices:
    """Return the sample of each row of the file, (R,) int64; -1 for rows of no sample."""
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
            f"{file} has several columns of lists: {', '.join(lists)}; keep only that of the"
            " features"
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
    return as_floats(np.stack(columns, axis=1), place)

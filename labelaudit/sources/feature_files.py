"""Features from files and arrays as float32: by row, by id, or from a column of lists."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from labelaudit.errors import SourceError
from labelaudit.files import check_regular
from labelaudit.images.containers import Indices
from labelaudit.images.store import make_copy, make_store
from labelaudit.sources.cells import ID_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMN
from labelaudit.sources.label_tables import LabelTable
from labelaudit.sources.manifest import Texts
from labelaudit.sources.parquet_tables import (
    is_text,
    open_parquet,
    refuse_large_columns,
    refuse_repeated,
    texts_of_column,
)
from labelaudit.sources.table_formats import read_lists
from labelaudit.sources.wording import some

Floats = npt.NDArray[np.float32]
# Number of rows that are converted or checked at a time, to bound the copies in memory.
BLOCK_ROWS = 4096
MOST_FEATURES = 1 << 20
# The name that pandas gives to an index without a name.
PANDAS_INDEX = "__index_level_0__"
FEATURE_COLUMNS = ("features", "embedding", "embeddings", "vector")
# What `labelaudit embed` writes into a parquet file if its ids are the numbers of the rows of a table.
BY_ROW = "ids_are_row_numbers"


def read_rows(features: str | Path | npt.NDArray[Any], table: LabelTable) -> Floats:
    """Return features (R, d) of the R rows of a table, from a .npy file or an array."""
    if isinstance(features, np.ndarray):
        name, values = "the array of features", features
    else:
        name, values = str(features), open_npy(Path(features))
    check_rows(name, values, len(table.labels), table.where)
    return as_floats(values, lambda row: f"row {row} of {name} ({table.place(row)})")


def open_npy(file: Path) -> npt.NDArray[Any]:
    """Open a .npy file as a memory-mapped array.

    Raises SourceError if it is not a regular file, holds Python objects or several arrays, or is
    damaged.
    """
    check_regular(file)
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        # NumPy parses the header as Python code, so that damaged ones raise errors of many kinds.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{file} is not a .npy file of numbers: {reason}") from error
    if not isinstance(values, np.ndarray):
        # numpy.load recognizes an archive by its content, whatever the name of the file.
        values.close()
        raise SourceError(
            f"{file} holds several arrays (.npz); save the one that is meant with numpy.save"
        )
    return values


def check_rows(name: str, values: npt.NDArray[Any], total: int, where: str) -> None:
    """Raise SourceError unless values are numbers of the shape (total, d)."""
    if values.ndim != 2 or 0 in values.shape:
        raise SourceError(f"{name} has the shape {values.shape}; give (rows, features)")
    refuse_wide(name, values.shape[1])
    if values.dtype.kind not in "fiu":
        raise SourceError(f"{name} holds {values.dtype}; give numbers")
    if len(values) != total:
        raise SourceError(
            f"{name} has {len(values):,} rows and {where} has {total:,}; "
            "give one row per row of the table, in the same order"
        )


def refuse_wide(name: str, size: int) -> None:
    """Raise SourceError if rows have more features than anything can be computed with."""
    if size > MOST_FEATURES:
        raise SourceError(
            f"{name} has {size:,} features per row, and at most {MOST_FEATURES:,} can be used; reduce"
            " them first, for example by a principal component analysis"
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
            raise SourceError(
                f"{place(row)} has a feature that is not a finite number, or too large for float32;"
                " correct it"
            )
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
    refuse_wide(place(0), int(first))
    out = make_store((len(sizes), int(first)), np.float32)
    start = 0
    for chunk in cells.chunks:
        flat = as_numpy(chunk.flatten())
        block = slice(start, start + len(chunk))
        begin = start

        def of_chunk(row: int, begin: int = begin) -> str:
            return place(begin + row)

        as_floats(flat.reshape(len(chunk), int(first)), of_chunk, out[block])
        start += len(chunk)
    return out


def _is_list_of_numbers(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and is_number(kind.value_type)


def is_number(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds numbers."""
    types = pa.types
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind))


def names_rows(file: Path) -> bool:
    """Whether `labelaudit embed` wrote a parquet file about a table without ids, by row numbers."""
    with open_parquet(file) as opened:
        metadata = opened.schema_arrow.metadata or {}
    try:
        return json.loads(metadata[b"labelaudit"])["encoder"][BY_ROW] is True
    except (KeyError, TypeError, ValueError, RecursionError):
        return False


def read_by_id(file: Path, ids: Texts) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return features (N, d) of the samples with these ids, and the mask (N,) of those found."""
    with open_parquet(file) as opened:
        schema = opened.schema_arrow
        id_column, columns = _feature_columns(file, schema)
        refuse_repeated(file, schema.names, (id_column, *columns))
        refuse_large_columns(file, opened.metadata, columns)
        with open_parquet(
            file, [id_column] if is_text(schema.field(id_column).type) else []
        ) as ids_of:
            names = texts_of_column(file, ids_of, schema.field(id_column))
        if names is None:
            kind = schema.field(id_column).type
            raise SourceError(
                f"the id in row 0 of {file} is a {kind}, not text or a number; the column of ids is"
                f' "{id_column}"'
            )
        position = _positions(file, names, ids)
        values: Floats | None = None
        start = 0
        for batch in opened.iter_batches(batch_size=BLOCK_ROWS, columns=columns):
            if start + len(batch) > len(names):
                raise SourceError(f"{file} is damaged: its columns differ in length")
            block = _batch_features(file, batch, columns, names[start : start + len(batch)])
            if values is None:
                refuse_wide(str(file), block.shape[1])
                values = make_copy((len(ids), block.shape[1]), np.float32)
            elif block.shape[1] != values.shape[1]:
                raise SourceError(
                    f'"{names[start]}" in {file} has {block.shape[1]} features; all rows need'
                    " as many as the first"
                )
            where = position[start : start + len(batch)]
            values[where[where >= 0]] = block[where >= 0]
            start += len(batch)
    if values is None or start < len(names):
        raise SourceError(f"{file} is damaged: its columns differ in length")
    found = np.zeros(len(ids), bool)
    found[position[position >= 0]] = True
    return values, found


class SampleNames:
    """Finds samples by names in files.

    A name in another Unicode form means the same: file systems write "é" as one character or as two.

    Parameters
    ----------
    ids
        ``(N,)`` unique ids of the samples.
    """

    def __init__(self, ids: Texts) -> None:
        self._ids = pd.Index(ids)

    @cached_property
    def _composed(self) -> "pd.Index[str]":
        return pd.Index([unicodedata.normalize("NFC", str(text)) for text in self._ids])

    def find(self, names: Sequence[str]) -> Indices:
        """Return the sample of each of R unique names, (R,) int64; -1 where there is none."""
        position: Indices = self._ids.get_indexer(pd.Index(names)).astype(np.int64)
        left = [row for row in np.flatnonzero(position < 0).tolist() if not names[row].isascii()]
        if left and self._composed.is_unique:
            others = pd.Index([unicodedata.normalize("NFC", names[row]) for row in left])
            found = self._composed.get_indexer(others).astype(np.int64)
            free = ~np.isin(found, position) & ~others.duplicated()
            position[left] = np.where(free, found, -1)
        return position


def _positions(file: Path, names: list[str], ids: Texts) -> Indices:
    """Return the sample of each row of the file, (R,) int64; -1 for rows of no sample."""
    repeated = pd.Index(names)[pd.Index(names).duplicated()].unique().tolist()
    if repeated:
        raise SourceError(f"ids in {file} repeat: {some(repeated)}; keep one row of each")
    position = SampleNames(ids).find(names)
    if not (position >= 0).any():
        there = f"e.g. {some(names[:1])}" if names else "no row"
        raise SourceError(
            f"none of the {len(ids):,} samples has features in {file}: it has {there}, and the"
            f" samples are called e.g. {some(ids[:1].tolist())}"
        )
    return position


def _feature_columns(file: Path, schema: pa.Schema) -> tuple[str, list[str]]:
    """Return the column of ids and the columns of features of a parquet file."""
    lowered = {name.strip().lower(): name for name in reversed(schema.names)}
    known = ("sample_id", "id", "image", *ID_COLUMNS, PANDAS_INDEX)
    id_column = next((lowered[name] for name in known if name in lowered), None)
    if id_column is None and schema.names:
        id_column = schema.names[0]
    lists = [column.name for column in schema if _is_list_of_numbers(column.type)]
    if len(lists) > 1:
        lists = [name for name in lists if name.strip().lower() in FEATURE_COLUMNS] or lists
    if len(lists) > 1:
        raise SourceError(
            f"{file} has several columns of lists: {some(lists, quote=False)}; keep only that of the"
            " features"
        )
    no_features = (*LABEL_COLUMNS, SPLIT_COLUMN, PANDAS_INDEX)
    passed_over = (id_column, *(lowered.get(name) for name in no_features))
    numbers = [c.name for c in schema if is_number(c.type) and c.name not in passed_over]
    if id_column is None or id_column in lists or not (lists or numbers):
        raise SourceError(
            f"{file} has no ids or no features; give a column of ids, first or called sample_id,"
            " and a column of lists or columns of numbers"
        )
    return id_column, lists or numbers


def _batch_features(
    file: Path, batch: pa.RecordBatch, columns: list[str], names: list[str]
) -> Floats:
    def place(row: int) -> str:
        return f'"{names[row]}" in {file}'

    # By name, because Arrow also reads "x.1" where "x" is asked for.
    cells = [batch.column(name) for name in columns]
    if _is_list_of_numbers(cells[0].type):
        return _from_lists(pa.chunked_array(cells), place)
    numbers = [as_numpy(column) for column in cells]
    return as_floats(np.stack(numbers, axis=1), place)


def as_numpy(column: pa.Array) -> npt.NDArray[Any]:
    """Return a column of numbers as an array, with NaN where there is none."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values

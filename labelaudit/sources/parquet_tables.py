"""Tables in parquet files, which may hold the images themselves and declare the names of classes."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelaudit.errors import SourceError
from labelaudit.files import check_regular, suffix_of
from labelaudit.memory import check_memory
from labelaudit.sources.cells import (
    BYTES_PER_CELL,
    IMAGE_COLUMNS,
    Cells,
    Columns,
    one_image_column,
)
from labelaudit.sources.classes import as_text
from labelaudit.sources.file_tree import IMAGE_SUFFIXES
from labelaudit.sources.manifest import UNLABELED

# Number of rows that are read at a time. It is less if a few bytes on the disk could become many.
BATCH_ROWS = 1 << 16
# Bytes that the rows of a batch may need if the file is hostile.
BATCH_BYTES = 1 << 28
# Rows in which strings that are stored as binary are looked for.
PROBED_ROWS = 16


@contextmanager
def open_parquet(file: Path, texts: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """Open a parquet file; what Arrow raises in the block becomes a SourceError.

    The columns `texts`, of text or bytes, are read as dictionaries. Otherwise a few bytes on the disk
    could become any number of long words in memory.
    """
    check_regular(file)
    try:
        with (
            _named_in_utf8(file) as source,
            pq.ParquetFile(source, read_dictionary=list(texts)) as opened,
        ):
            yield opened
    except SourceError:
        raise
    except MemoryError as error:
        raise SourceError(f"{file} needs more memory than there is; split it") from error
    # Damaged files also make Arrow raise the errors of Python: names and texts that are not UTF-8,
    # dates and sizes out of range.
    except (pa.ArrowException, OSError, UnicodeError, OverflowError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{file} is not a parquet file, or a damaged one: {reason}") from error


@contextmanager
def _named_in_utf8(file: Path) -> Iterator[Path | IO[bytes]]:
    """Yield the path, or the open file if Arrow cannot take its name."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        with file.open("rb") as stream:
            yield stream
        return
    yield file


def read_parquet(file: Path, columns: Columns) -> Cells:
    """Read the cells of a parquet file; see `labelaudit.sources.table_formats`."""
    with open_parquet(file) as opened:
        schema, footer = opened.schema_arrow, opened.metadata
        image = _typed_image_column(file, opened, columns)
        class_names = _declared_names(schema)
        wanted = columns.of_interest(schema.names)
        times = Counter(schema.names)
        needed = [
            field
            for field in schema
            if times[field.name] == 1 and (field.name in wanted or field.name == image)
        ]
        check_memory(
            footer.num_rows * len(needed) * BYTES_PER_CELL,
            f"{file}, which has {footer.num_rows:,} rows,",
            "split it into several files",
        )
        # If all bytes are null, the column only names files, like a column of paths.
        embedded = image is not None and not _all_null(footer, f"{image}.bytes")
    texts: dict[str, list[str]] = {}
    with open_parquet(file, [field.name for field in needed if is_text(field.type)]) as opened:
        for field in needed:
            cells = texts_of_column(file, opened, field, class_names.get(field.name))
            if cells is None and field.name == image:
                cells = [""] * footer.num_rows
            if cells is None:
                continue
            if len(cells) != footer.num_rows:
                raise SourceError(
                    f"{file} is damaged: it has {footer.num_rows:,} rows, and the column"
                    f' "{field.name}" has {len(cells):,}'
                )
            texts[field.name] = cells
    rows = np.arange(footer.num_rows, dtype=np.int64)
    return Cells(file, tuple(schema.names), texts, rows, "row", class_names, image, embedded)


def lists_of_parquet(file: Path, column: str) -> tuple[list[str], pa.ChunkedArray | None]:
    """Read a column of lists of a parquet file; see `labelaudit.sources.table_formats`."""
    with open_parquet(file) as opened:
        names = opened.schema_arrow.names
        if column not in names:
            return names, None
        refuse_repeated(file, names, [column])
        refuse_large_columns(file, opened.metadata, [column])
        return names, opened.read(columns=[column]).column(column)


def refuse_repeated(file: Path, names: Iterable[str], wanted: Iterable[str]) -> None:
    """Raise SourceError if a wanted column has the name of another."""
    times = Counter(names)
    for name in wanted:
        if times[name] > 1:
            raise SourceError(f'{file} has two columns "{name}"; rename one')


def refuse_large_columns(file: Path, footer: pq.FileMetaData, columns: Iterable[str]) -> None:
    """Raise SourceError if columns have more values than the memory can hold as float32."""
    wanted = set(columns)
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    values = sum(
        group.column(i).num_values
        for group in groups
        for i in range(group.num_columns)
        if group.column(i).path_in_schema.partition(".")[0] in wanted
        or group.column(i).path_in_schema in wanted
    )
    check_memory(4 * values, f"{file}, which holds {values:,} numbers,", "split it")


def texts_of_column(
    file: Path, opened: pq.ParquetFile, field: pa.Field, class_names: tuple[str, ...] | None = None
) -> list[str] | None:
    """Read a column of a parquet file as text.

    Parameters
    ----------
    file, opened
        The file. If the column holds text, it was opened to be read as a dictionary.
    field : pa.Field
        The column. No other has its name.
    class_names : tuple of str, optional
        The names of the classes that the column numbers.

    Returns
    -------
    list of str, or None
        "" where a cell is empty. Of images only the paths. None if the column holds no text.

    Raises
    ------
    SourceError
        A number is not that of a class, or the texts need more memory than there is.
    """
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    leaf = field.name
    if pa.types.is_struct(kind):
        place = kind.get_field_index("path")  # -1 also where it occurs twice
        if place < 0:
            return None
        leaf = f"{field.name}.path"
    elif not _is_cell(kind) or (is_binary(kind) and not _holds_text(opened, field.name)):
        return None
    texts: list[str] = []
    characters = 0
    rows = BATCH_ROWS
    if leaf != field.name or not (is_text(kind) or pa.types.is_dictionary(field.type)):
        rows = _batch_rows(opened.metadata, leaf)
    for batch in opened.iter_batches(rows, columns=[leaf]):
        cells = batch.column(field.name)
        new = texts_of_array(cells if leaf == field.name else pc.struct_field(cells, "path"))
        if new is None:
            return None
        if class_names is not None and pa.types.is_integer(kind):
            new = _named_classes(file, field.name, cells.to_pylist(), class_names, len(texts))
        characters += sum(map(len, new))
        check_memory(characters, f'the column "{field.name}" of {file}', "leave it out")
        texts += new
    return texts


def texts_of_array(cells: pa.Array) -> list[str] | None:
    """Return cells as text, "" where empty; None if their type is none of text or numbers.

    Some programs store strings as binary. Bytes that are no text also give None.
    """
    if pa.types.is_dictionary(cells.type):
        words = texts_of_array(cells.dictionary)
        if words is None:
            return None
        return ["" if place is None else words[place] for place in cells.indices.to_pylist()]
    if not _is_cell(cells.type):
        return None
    listed = cells.to_pylist()
    if not is_binary(cells.type):
        return [as_text(cell) for cell in listed]
    try:
        return ["" if cell is None else cell.decode() for cell in listed]
    except UnicodeDecodeError:
        return None


def _named_classes(
    file: Path, column: str, cells: list[int | None], class_names: tuple[str, ...], start: int
) -> list[str]:
    """Return the names of classes that the schema numbers; "" where there is none."""
    for row, cell in enumerate(cells, start):
        if cell is not None and not UNLABELED <= cell < len(class_names):
            raise SourceError(
                f'{file.name} row {row}: "{column}" is {cell}, and the schema has '
                f"{len(class_names)} class names; correct the row or the schema"
            )
    return ["" if cell is None or cell == UNLABELED else class_names[cell] for cell in cells]


def _is_cell(kind: pa.DataType) -> bool:
    """Return whether a cell of this type can be a text: also numbers, truth values and bytes."""
    types = pa.types
    numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    plain = numbers or types.is_boolean(kind) or types.is_null(kind)
    return bool(plain or is_text(kind) or types.is_fixed_size_binary(kind))


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds texts, or bytes of any length."""
    types = pa.types
    texts = types.is_string(kind) or types.is_large_string(kind)
    # By name, because the oldest supported pyarrow does not know views.
    views = str(kind) in ("string_view", "binary_view")
    return bool(texts or views or types.is_binary(kind) or types.is_large_binary(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds bytes, which may be text or images."""
    types = pa.types
    fixed = types.is_fixed_size_binary(kind) and not types.is_decimal(kind)
    binary = types.is_binary(kind) or types.is_large_binary(kind)
    return bool(binary or fixed or str(kind) == "binary_view")


def _batch_rows(footer: pq.FileMetaData, leaf: str) -> int:
    """Return how many rows of a column that is not read as a dictionary can be read at a time.

    A word of a dictionary may be as long as its chunk on the disk, and every row may repeat it.
    """
    longest = 1
    for i in range(footer.num_row_groups):
        group = footer.row_group(i)
        if group.total_byte_size * BATCH_ROWS > BATCH_BYTES:
            chunks = (group.column(j) for j in range(group.num_columns))
            sizes = [c.total_uncompressed_size for c in chunks if c.path_in_schema == leaf]
            longest = max(longest, *sizes, 1)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // longest))


def _typed_image_column(file: Path, opened: pq.ParquetFile, columns: Columns) -> str | None:
    """Return the column whose type is that of encoded images; None if there is none."""
    names: list[str] = []
    times = Counter(opened.schema_arrow.names)
    for field in opened.schema_arrow:
        if times[field.name] > 1:
            continue
        named = field.name == columns.image or field.name.strip().lower() in IMAGE_COLUMNS
        struct = pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
        binary = named and is_binary(field.type)
        if not (struct or binary) or columns.image not in (None, field.name):
            continue
        if struct or not _holds_text(opened, field.name):
            names.append(field.name)
    return one_image_column(file, names)


def _holds_text(opened: pq.ParquetFile, column: str) -> bool:
    """Return whether the first cells of a binary column are text, such as paths, and not images.

    A column called "image" holds paths only if they end like names of images.
    """
    paths = column.strip().lower() == "image"
    rows = min(PROBED_ROWS, _batch_rows(opened.metadata, column))
    for batch in opened.iter_batches(rows, columns=[column]):
        cells = [cell for cell in batch.column(column).to_pylist() if cell]
        if cells:
            return all(_is_text(cell, path=paths) for cell in cells)
    return False


def _is_text(data: bytes, *, path: bool) -> bool:
    """Return whether bytes are a line of text, or a path. Encoded images have control characters."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable() and (not path or suffix_of(text) in IMAGE_SUFFIXES)


def _all_null(footer: pq.FileMetaData, leaf: str) -> bool:
    """Return whether a column is null throughout by the file's statistics; False without them."""
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    columns = [g.column(j) for g in groups for j in range(g.num_columns)]
    nulls = [
        column.num_values > 0
        and column.statistics is not None
        and column.statistics.has_null_count
        and column.statistics.null_count == column.num_values
        for column in columns
        if column.path_in_schema == leaf
    ]
    return len(nulls) > 0 and all(nulls)


def _declared_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the class names of the columns that Hugging Face's metadata calls ClassLabel."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {
            column: tuple(as_text(str(name)) for name in feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}  # no metadata, or in another form: labels are their own names

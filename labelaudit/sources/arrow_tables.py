"""Tables in Arrow files, as Hugging Face's `datasets` writes them; the files are memory-mapped."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelaudit.errors import SourceError
from labelaudit.files import check_regular
from labelaudit.images.containers import CellImages, Indices
from labelaudit.memory import check_memory
from labelaudit.sources.cells import (
    BYTES_PER_CELL,
    IMAGE_COLUMNS,
    Cells,
    Columns,
    one_image_column,
)
from labelaudit.sources.classes import as_text
from labelaudit.sources.manifest import UNLABELED


def open_arrow(file: Path) -> pa.Table:
    """Return the table of an Arrow file without reading its cells.

    Raises
    ------
    SourceError
        The file does not exist, or is not an Arrow file, or a damaged one.
    """
    check_regular(file)
    try:
        mapped = pa.memory_map(str(file))
        try:
            return pa.ipc.open_stream(mapped).read_all()  # `datasets` writes streams
        except pa.ArrowInvalid:
            mapped.seek(0)
            return pa.ipc.open_file(mapped).read_all()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{file} is not an Arrow file, or a damaged one: {reason}") from error


def read_arrow(file: Path, columns: Columns) -> Cells:
    """Read the cells of an Arrow file; see `labelaudit.sources.table_formats`."""
    table = open_arrow(file)
    features = _features(table.schema)
    image = _image_column(file, table.schema, features, columns)
    declared = {
        name: tuple(str(one) for one in feature["names"])
        for name, feature in features.items()
        if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
    }
    wanted = columns.of_interest(table.column_names)
    needed = [name for name in table.column_names if name in wanted or name == image]
    check_memory(
        table.num_rows * len(needed) * BYTES_PER_CELL,
        f"{file}, which has {table.num_rows:,} rows,",
        "split it into several files",
    )
    texts: dict[str, list[str]] = {}
    for name in needed:
        try:
            found = _texts(file, name, table[name], declared.get(name))
        except KeyError as error:
            raise SourceError(f'{file} has two columns "{name}"; rename one') from error
        except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
            raise SourceError(f'the column "{name}" of {file} is damaged: {error}') from error
        if found is not None:
            texts[name] = found
    rows = np.arange(table.num_rows, dtype=np.int64)
    embedded = image is not None
    return Cells(
        file, tuple(table.column_names), texts, rows, "row", declared, image, embedded=embedded
    )


def lists_of_arrow(file: Path, column: str) -> tuple[list[str], pa.ChunkedArray | None]:
    """Read a column of lists of an Arrow file; see `labelaudit.sources.table_formats`."""
    table = open_arrow(file)
    return table.column_names, table[column] if column in table.column_names else None


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return the description of each column in Hugging Face's metadata, if the file has them."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {name: one for name, one in features.items() if isinstance(one, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _image_column(
    file: Path, schema: pa.Schema, features: dict[str, dict[str, Any]], columns: Columns
) -> str | None:
    """Return the column that holds encoded images; None if there is none."""
    found = []
    for field in schema:
        kind = features.get(field.name, {}).get("_type", "Image")
        struct = pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
        binary = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        named = field.name == columns.image or field.name.strip().lower() in IMAGE_COLUMNS
        wanted = columns.image in (None, field.name)
        if wanted and ((struct and kind == "Image") or (binary and named)):
            found.append(field.name)
    return one_image_column(file, found)


def _texts(
    file: Path, name: str, cells: pa.ChunkedArray, class_names: tuple[str, ...] | None
) -> list[str] | None:
    """Return a column as text; None if it holds none. Of images only the paths are read."""
    kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
    if pa.types.is_struct(kind):
        if kind.get_field_index("path") < 0:
            return [""] * len(cells)
        place = kind.get_field_index("path")
        paths = [path for chunk in cells.chunks for path in chunk.field(place).to_pylist()]
        return [as_text(path) for path in paths]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [""] * len(cells)
    if pa.types.is_nested(kind):
        return None
    values = cells.to_pylist()
    if class_names is None or not pa.types.is_integer(kind):
        try:
            return [as_text(value) for value in values]
        except TypeError:
            return None
    for row, value in enumerate(values):
        if value is not None and not UNLABELED <= value < len(class_names):
            raise SourceError(
                f'{file.name} row {row}: "{name}" is {value}, and the schema has {len(class_names)}'
                " class names; correct the row or the schema"
            )
    return ["" if one is None or one == UNLABELED else class_names[one] for one in values]


class _Rows:
    """The cells of one column of several Arrow files, by row of all of them."""

    def __init__(self, files: Sequence[Path], column: str) -> None:
        self._files = files
        self._column = column
        self._cells = [open_arrow(file)[column] for file in files]
        self.starts = np.concatenate([[0], np.cumsum([len(cells) for cells in self._cells])])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> dict[str, Any]:
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        cell = self._cells[file][row - int(self.starts[file])].as_py()
        if isinstance(cell, dict) and cell.get("bytes") is None and cell.get("path"):
            # The path of `datasets` is absolute, or relative to the file.
            cell = {"bytes": None, "path": str(self._files[file].parent / cell["path"])}
        return {self._column: cell}


def images_of_arrow(
    files: Sequence[Path], column: str, file_of: Indices, rows: Indices
) -> CellImages:
    """Return the images in a column of Arrow files, which are read one at a time.

    Parameters
    ----------
    files : sequence of Path
        The files.
    column : str
        The column that holds the images.
    file_of, rows : array (N,) int64
        For each image the index of its file in `files`, and its row in that file.
    """
    cells = _Rows(files, column)
    return CellImages(cells, column, cells.starts[file_of] + rows)

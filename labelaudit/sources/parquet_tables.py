"""Tables in parquet files, which may hold the images themselves and declare the names of classes."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelaudit.errors import SourceError
from labelaudit.sources.cells import IMAGE_COLUMNS, Cells, Columns
from labelaudit.sources.classes import as_text
from labelaudit.sources.manifest import UNLABELED


def read_parquet(file: Path, columns: Columns) -> Cells:
    """Read the cells of a parquet file; see `labelaudit.sources.table_formats`."""
    try:
        with pq.ParquetFile(file) as opened:
            schema, footer = opened.schema_arrow, opened.metadata
            image = _typed_image_column(file, schema, columns)
            class_names = _declared_names(schema)
            wanted = columns.of_interest(schema.names)
            texts: dict[str, list[str]] = {}
            for column in schema:
                if column.name in wanted or column.name == image:
                    cells = _parquet_texts(file, opened, column, class_names.get(column.name))
                    if cells is not None:
                        texts[column.name] = cells
    except pa.ArrowInvalid as error:
        raise SourceError(f"{file} is not a parquet file, or a damaged one: {error}") from error
    rows = np.arange(footer.num_rows, dtype=np.int64)
    # If all bytes are null, the column only names files, like a column of paths.
    embedded = image is not None and not _all_null(footer, f"{image}.bytes")
    return Cells(file, tuple(schema.names), texts, rows, "row", class_names, image, embedded)


def lists_of_parquet(file: Path, column: str) -> tuple[list[str], pa.ChunkedArray | None]:
    """Read a column of lists of a parquet file; see `labelaudit.sources.table_formats`."""
    with pq.ParquetFile(file) as opened:
        names = opened.schema_arrow.names
        return names, opened.read(columns=[column]).column(0) if column in names else None


def _parquet_texts(
    file: Path, opened: pq.ParquetFile, field: pa.Field, class_names: tuple[str, ...] | None
) -> list[str] | None:
    """Read a column as text; None if it holds no text. Of images only the paths are read."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_struct(kind):
        if kind.get_field_index("path") < 0:
            return [""] * opened.metadata.num_rows
        cells = opened.read(columns=[f"{field.name}.path"]).column(0).to_pylist()
        return [as_text(cell and cell["path"]) for cell in cells]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [""] * opened.metadata.num_rows
    if pa.types.is_nested(kind):
        return None
    cells = opened.read(columns=[field.name]).column(0).to_pylist()
    if class_names is None or not pa.types.is_integer(kind):
        try:
            return [as_text(cell) for cell in cells]
        except TypeError:
            return None
    for row, cell in enumerate(cells):
        if cell is not None and not UNLABELED <= cell < len(class_names):
            raise SourceError(
                f'{file.name} row {row}: "{field.name}" is {cell}, and the schema has '
                f"{len(class_names)} class names; correct the row or the schema"
            )
    return ["" if cell is None or cell == UNLABELED else class_names[cell] for cell in cells]


def _typed_image_column(file: Path, schema: pa.Schema, columns: Columns) -> str | None:
    """Return the column whose type is that of encoded images; None if there is none."""
    names: list[str] = []
    for field in schema:
        binary = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        named = field.name == columns.image or field.name.strip().lower() in IMAGE_COLUMNS
        struct = pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
        if (struct or (binary and named)) and columns.image in (None, field.name):
            names.append(field.name)
    if len(names) > 1:
        names = [name for name in names if name.strip().lower() == "image"] or names
    if len(names) > 1:
        raise SourceError(
            f"{file} has several columns of images: {', '.join(names)}; "
            "choose one with `image_column`"
        )
    return names[0] if names else None


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
            column: tuple(str(name) for name in feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}  # no metadata, or in another form: labels are their own names

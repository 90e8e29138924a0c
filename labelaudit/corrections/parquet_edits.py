"""Edits of a parquet table of labels: a copy with the same schema, types and compression."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelaudit.corrections.label_files import (
    Edit,
    LabelFile,
    Write,
    is_text_type,
    misfit_error,
    plain_type,
)
from labelaudit.errors import SourceError
from labelaudit.sources.classes import as_text


def plan_parquet(file: LabelFile, edits: Mapping[int, Edit], new_classes: Sequence[str]) -> Write:
    """Check edits of a parquet file, and return a function that writes the copy; see `plan_edits`."""
    schema: pa.Schema = pq.read_schema(file.path)
    new_classes = [name for name in new_classes if name not in file.declared]
    declares = file.declared and file.votes is None
    names = (*file.declared, *new_classes) if declares else ()
    labels = {row: edit.label for row, edit in edits.items() if edit.label is not None}
    marks = {row: edit.verified for row, edit in edits.items() if edit.verified is not None}
    firsts = {row: edit.first for row, edit in edits.items() if edit.first is not None}
    # New columns are inserted after `verified`, or at the end if that is new too.
    place = len(schema)
    if file.verified_column is not None:
        place = schema.get_field_index(file.verified_column) + 1
    written = schema
    for name in reversed(file.added):
        written = written.insert(place, pa.field(name, pa.string()))
    values: dict[int, dict[int, object]] = {}
    for name, texts in (
        (file.label_column, labels),
        (file.verified_name, marks),
        (file.first_name, firsts),
    ):
        at = written.get_field_index(name)
        if texts and pa.types.is_null(written.field(at).type):  # a column of nulls cannot hold text
            written = written.set(at, written.field(at).with_type(pa.string()))
        kind = written.field(at).type
        known = names if name == file.label_column else ()
        values[at] = {row: _parquet_value(file, t, kind, known) for row, t in texts.items()}
    dropped = {row for row, edit in edits.items() if edit.drop}
    metadata = _with_features(schema.metadata, file, names if new_classes else ())
    written = written.with_metadata(metadata)
    if written.equals(schema, check_metadata=True) and not edits:
        return lambda path: _copy(file.path, path)

    def write(path: Path) -> None:
        try:
            with pq.ParquetFile(file.path) as opened:
                options = _writer_options(opened.metadata, file)
                with pq.ParquetWriter(path, written, **options) as writer:
                    first = 0
                    for number in range(opened.num_row_groups):
                        group = opened.read_row_group(number)
                        rows = range(first, first + len(group))
                        first += len(group)
                        columns = list(group.columns)
                        empty = pa.chunked_array([pa.nulls(len(group), pa.string())])
                        columns[place:place] = [empty] * len(file.added)
                        for at, new in values.items():
                            columns[at] = _with_values(columns[at], written.types[at], new, rows)
                        table = pa.Table.from_arrays(columns, schema=written)
                        if dropped.intersection(rows):
                            table = table.filter(pa.array([row not in dropped for row in rows]))
                        if len(table):
                            writer.write_table(table, row_group_size=len(table))
        except pa.ArrowInvalid as error:
            raise SourceError(f"{file.path} cannot be copied with the edits: {error}") from error

    return write


def _copy(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


def _parquet_value(
    file: LabelFile, text: str, kind: pa.DataType, class_names: Sequence[str]
) -> object:
    """Return the value of a type that a scan reads as this text; raise if there is none."""
    plain = plain_type(kind)
    if is_text_type(plain):
        return text
    if pa.types.is_binary(plain) or pa.types.is_large_binary(plain):
        return text.encode()  # some programs store strings so
    if pa.types.is_integer(plain) and class_names:
        if text in class_names:
            return class_names.index(text)
        raise misfit_error(file, text, f"{plain} with other class names")
    try:
        value: Any
        if pa.types.is_boolean(plain):
            value = {"true": True, "false": False}.get(text)
        elif pa.types.is_integer(plain):
            value = int(text)
        elif pa.types.is_floating(plain):
            value = float(text)
        else:
            value = Decimal(text)
        value = pa.scalar(value, plain).as_py()
        if as_text(value) == text:
            return value
    except (ValueError, TypeError, ArithmeticError):
        pass
    raise misfit_error(file, text, str(plain))


def _with_values(
    column: pa.ChunkedArray, kind: pa.DataType, values: Mapping[int, object], rows: range
) -> pa.ChunkedArray:
    """Return a column of the rows `rows` with new values in some of them."""
    # By row, not by value: there may be many row groups, and many values.
    here = {row - rows.start: values[row] for row in rows if row in values}
    if not here:
        return column if column.type == kind else column.cast(kind)
    if not pa.types.is_dictionary(kind):
        cells = column.to_pylist()
        for place, value in here.items():
            cells[place] = value
        return pa.chunked_array([pa.array(cells, kind)])
    # The order of a dictionary may have a meaning, so new words are added at its end.
    array = column.unify_dictionaries().combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    words = array.dictionary.to_pylist()
    indices = array.indices.to_pylist()
    index = {word: number for number, word in enumerate(words)}
    for place, value in here.items():
        indices[place] = index.setdefault(value, len(index))
    dictionary = pa.array(index, kind.value_type)
    changed = pa.DictionaryArray.from_arrays(
        pa.array(indices, kind.index_type), dictionary, ordered=kind.ordered
    )
    return pa.chunked_array([changed])


def _with_features(
    metadata: Mapping[bytes, bytes] | None,
    file: LabelFile,
    class_names: Sequence[str],
) -> dict[bytes, bytes] | None:
    """Return a schema's metadata with the changed columns described for Hugging Face's reader."""
    if metadata is None or b"huggingface" not in metadata:
        return None if metadata is None else dict(metadata)
    try:
        described = json.loads(metadata[b"huggingface"])
        features = described["info"]["features"]
        if class_names:
            label = features[file.label_column]
            label["names"] = list(class_names)
            if "num_classes" in label:
                label["num_classes"] = len(class_names)
        if features:
            features |= {name: {"dtype": "string", "_type": "Value"} for name in file.added}
    except (KeyError, TypeError, ValueError):
        return dict(metadata)  # its form is not known, so it stays as it is
    if not class_names and not file.added:
        return dict(metadata)
    return {**metadata, b"huggingface": json.dumps(described).encode()}


def _writer_options(footer: pq.FileMetaData, file: LabelFile) -> dict[str, Any]:
    """Return options that write columns with the compression, encoding and statistics they had."""
    if not footer.num_row_groups:
        return {}
    group = footer.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    codecs_of = {column.path_in_schema: column.compression for column in columns}
    for name in file.added:
        codecs_of[name] = codecs_of.get(file.label_column, "SNAPPY")
    return {
        "compression": {
            path: "NONE" if codec == "UNCOMPRESSED" else codec for path, codec in codecs_of.items()
        },
        "use_dictionary": [c.path_in_schema for c in columns if c.has_dictionary_page] + file.added,
        "write_statistics": [c.path_in_schema for c in columns if c.is_stats_set] + file.added,
        "store_schema": b"ARROW:schema" in (footer.metadata or {}),
        # The compliant type would rename the items of lists to "element".
        "use_compliant_nested_type": False,
        "use_deprecated_int96_timestamps": any(c.physical_type == "INT96" for c in columns),
    }

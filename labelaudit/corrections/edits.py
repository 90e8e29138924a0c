"""Edits of label files: a copy in the same format, with some labels changed.

In a text table only the cells of changed labels and of the columns ``verified`` and ``first_label``
differ. Every other byte stays. A parquet file keeps its schema, types, row groups and compression.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from labelaudit.corrections.csv_edits import edit_csv, list_as_csv
from labelaudit.corrections.jsonl_edits import edit_jsonl
from labelaudit.corrections.label_files import Edit, LabelFile, Write, changed_error
from labelaudit.corrections.parquet_edits import plan_parquet
from labelaudit.errors import SourceError

TEXT_EDITORS = {"csv": edit_csv, "tsv": edit_csv, "jsonl": edit_jsonl}


def refuse_format(file: LabelFile) -> None:
    """Raise `SourceError` if files of this format are read, but cannot be edited."""
    if file.format != "parquet" and file.format not in TEXT_EDITORS:
        raise SourceError(
            f"{file.path}: labels are read from .{file.format} files, but not written to them; save the"
            f" table {_other_format(file)}, and correct the labels there"
        )


def _other_format(file: LabelFile) -> str:
    unpacked = file.format.removesuffix(".gz")
    return "as .parquet or .csv" if unpacked == file.format else f"unpacked, as .{unpacked}"


def plan_edits(
    file: LabelFile, edits: Mapping[int, Edit], new_classes: Sequence[str] = ()
) -> Write:
    """Check that edits can be made, and return a function that writes the edited file to a path.

    Parameters
    ----------
    file : LabelFile
        The file to copy. The file itself is only read.
    edits : mapping of int to Edit
        The edits by row. Other rows stay as they are, and get an empty cell in a new column.
    new_classes : sequence of str
        Classes to declare in the schema, if it declares classes.

    Returns
    -------
    callable
        Takes the path to write to.

    Raises
    ------
    SourceError
        A label does not fit the type of its column, or the file has changed or is damaged. The returned
        function raises it too, if a parquet file is damaged in the middle.
    """
    if file.votes is not None:  # the column of labels is new, so every row gets its label
        edits = {
            row: replace(edit, label=edit.label or label or None)
            for row, label in enumerate(file.labels)
            for edit in (edits.get(row, Edit()),)
        }
    if file.listed:
        listed = list_as_csv(file, edits).encode()
        return lambda path: _write_bytes(path, listed)
    if file.format == "parquet":
        return plan_parquet(file, edits, new_classes)
    edited = TEXT_EDITORS[file.format]
    try:
        data = file.path.read_bytes()
        mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        written = mark + edited(file, data[len(mark) :].decode(), edits).encode()
    except SourceError:
        raise
    except (OSError, ValueError, LookupError) as error:
        raise changed_error(file) from error  # the same file could be parsed before
    return lambda path: _write_bytes(path, written)


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)

"""Label files, written anew in their own format with some labels changed.

Of a text table only the cells of changed labels and of the columns ``verified`` and ``first_label``
differ; every other byte stays. A parquet file keeps its schema, types, row groups and compression.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from pathlib import Path

from labelaudit.corrections.csv_edits import edit_csv, list_as_csv
from labelaudit.corrections.jsonl_edits import edit_jsonl
from labelaudit.corrections.label_files import Edit, LabelFile, Write, changed_error
from labelaudit.corrections.parquet_edits import plan_parquet
from labelaudit.errors import SourceError


def plan_edits(
    file: LabelFile, edits: Mapping[int, Edit], new_classes: Sequence[str] = ()
) -> Write:
    """Check that edits can be made, and return what writes the file with them to a path.

    Parameters
    ----------
    file : LabelFile
        What to write anew; the file itself is only read.
    edits : mapping of int to Edit
        By row. The others stay, and get an empty cell where the column ``verified`` or ``first_label``
        is new.
    new_classes : sequence of str
        Classes to declare beside those that the schema declares, if it declares any.

    Raises
    ------
    SourceError
        A label does not fit the type of its column, or the file has changed or is damaged. Also from
        what is returned, where a parquet file is damaged in the middle.
    """
    if file.path.is_dir():
        listed = list_as_csv(file, edits).encode()
        return lambda path: _write_bytes(path, listed)
    if file.format == "parquet":
        return plan_parquet(file, edits, new_classes)
    edited = edit_jsonl if file.format == "jsonl" else edit_csv
    try:
        data = file.path.read_bytes()
        mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        written = mark + edited(file, data[len(mark) :].decode(), edits).encode()
    except SourceError:
        raise
    except (OSError, ValueError, LookupError) as error:
        raise changed_error(file) from error  # it could be read and parsed before
    return lambda path: _write_bytes(path, written)


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)

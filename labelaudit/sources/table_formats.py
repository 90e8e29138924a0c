"""The formats of tables: which reader a file goes to, by its suffix."""

from pathlib import Path

from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.sources.cells import Cells, Columns
from labelaudit.sources.parquet_tables import read_parquet
from labelaudit.sources.text_tables import read_csv, read_jsonl

TABLE_SUFFIXES = ("csv", "tsv", "jsonl", "ndjson", "parquet")


def read_cells(file: Path, columns: Columns) -> Cells:
    """Read the columns of a table that may be needed.

    Parameters
    ----------
    file : Path
        CSV, TSV, JSONL or parquet, by its suffix.
    columns : Columns
        Says which columns are of interest.

    Raises
    ------
    SourceError
        The file is not there, not readable, or not such a table.
    """
    suffix = suffix_of(file.name)
    if not file.exists():
        raise SourceError(f"{file} does not exist; check the path of the table")
    if file.is_dir() or suffix not in TABLE_SUFFIXES:
        raise SourceError(
            f"{file} is not a table that can be read; give one of {', '.join(TABLE_SUFFIXES)}"
        )
    read = {"csv": read_csv, "tsv": read_csv, "parquet": read_parquet}.get(suffix, read_jsonl)
    try:
        return read(file, columns)
    except UnicodeDecodeError as error:
        raise SourceError(f"{file} is not a text table in UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror or error}") from error

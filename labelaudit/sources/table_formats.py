"""The formats of tables, one row for each suffix."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from labelaudit.errors import SourceError
from labelaudit.files import check_regular, suffix_of
from labelaudit.sources.arrow_tables import lists_of_arrow, read_arrow
from labelaudit.sources.cells import SHOWN_NAMES, Cells, Columns
from labelaudit.sources.parquet_tables import lists_of_parquet, read_parquet
from labelaudit.sources.text_tables import lists_of_jsonl, read_csv, read_jsonl
from labelaudit.sources.wording import some

# The names of all columns of a file, and one column of lists; None if there is no column of that name.
Lists = tuple[Sequence[str], pa.ChunkedArray | None]


@dataclass(frozen=True)
class TableFormat:
    """How the tables of one format are read.

    Attributes
    ----------
    read_cells : callable
        Returns the `Cells` of a file, those of the columns that may be needed. Raises SourceError if
        the file is not of this format.
    read_lists : callable, or None
        Returns a column of lists of numbers, such as embeddings; see `Lists`. None if the format has
        no lists.
    """

    read_cells: Callable[[Path, Columns], Cells]
    read_lists: Callable[[Path, str], Lists] | None = None


TABLE_FORMATS = {
    "csv": TableFormat(read_csv),
    "tsv": TableFormat(read_csv),
    "jsonl": TableFormat(read_jsonl, lists_of_jsonl),
    "ndjson": TableFormat(read_jsonl, lists_of_jsonl),
    "parquet": TableFormat(read_parquet, lists_of_parquet),
    "arrow": TableFormat(read_arrow, lists_of_arrow),
    "csv.gz": TableFormat(read_csv),
    "tsv.gz": TableFormat(read_csv),
    "jsonl.gz": TableFormat(read_jsonl, lists_of_jsonl),
    "ndjson.gz": TableFormat(read_jsonl, lists_of_jsonl),
}


def read_cells(file: Path, columns: Columns) -> Cells:
    """Read the columns of a table that may be needed.

    Parameters
    ----------
    file : Path
        A table in one of `TABLE_FORMATS`, by its suffix.
    columns : Columns
        Says which columns are of interest.

    Raises
    ------
    SourceError
        The file is not there, not readable, or not such a table.
    """
    format = TABLE_FORMATS.get(suffix_of(file.name))
    check_regular(file)
    if format is None:
        raise SourceError(
            f"{file} is not a table that can be read; give one of {', '.join(TABLE_FORMATS)}"
        )
    with readable(file):
        return format.read_cells(file, columns)


def read_lists(file: Path, column: str) -> pa.ChunkedArray:
    """Return a column of lists of a table whose cells were read before.

    Raises
    ------
    SourceError
        There is no such column, or the format has no lists.
    """
    check_regular(file)  # once more, because reading a pipe would wait for ever
    read = TABLE_FORMATS[suffix_of(file.name)].read_lists
    if read is None:
        formats = ", ".join(name for name, one in TABLE_FORMATS.items() if one.read_lists)
        raise SourceError(
            f'features are "{column}", which is no file .npy or .parquet, and {file} cannot hold a'
            f" column of lists; formats that can: {formats}"
        )
    with readable(file):
        names, lists = read(file, column)
    if lists is None:
        raise SourceError(
            f'features are "{column}", which is no file .npy or .parquet and no column of {file};'
            f" columns there: {some(names, quote=False, shown=SHOWN_NAMES)}"
        )
    return lists


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turn the errors of damaged files and of files in other encodings into SourceErrors."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SourceError(f"{file} is not a text table in UTF-8; save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:  # the last two are those of gzip
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{file} cannot be read: {reason}") from error
    except MemoryError as error:
        raise SourceError(f"{file} needs more memory than there is; split it") from error

"""The cells of a table as text, and its columns by name.

Every cell is text, exactly as written, "" where it is empty. `labelaudit.sources.table_formats` reads
the cells of files.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from labelaudit.errors import SourceError
from labelaudit.files import well_formed
from labelaudit.images.containers import Indices
from labelaudit.sources.classes import as_text
from labelaudit.sources.wording import some

# Names of columns that are recognized, in this order and in any case.
IMAGE_COLUMNS = ("path", "file_name", "filename", "image", "file", "id")
ID_COLUMNS = ("sample_id", *IMAGE_COLUMNS)  # for rows without images
LABEL_COLUMNS = ("label", "class", "target", "category")
SPLIT_COLUMN = "split"
# The labels that were given at first. `labelaudit apply` writes this column beside the verified marks.
FIRST_LABEL_COLUMN = "first_label"
VERIFIED_COLUMN = "verified"  # as `labelaudit apply` writes it
# Bytes that the text of a cell needs at least: the object, and its place in a list.
BYTES_PER_CELL = 57
SHOWN_NAMES = 20  # columns of a table that a message lists


@dataclass(frozen=True)
class Columns:
    """The columns that were requested by name; None for a column that is recognized by its name.

    `others` is the number of further columns to read, for the report or as features. Columns that
    could be ids come first, then the others in their order. `annotators` are the columns of several
    annotators, which take the place of `label`. `text` is the column of texts to audit.
    """

    image: str | None
    label: str | None
    clean: str | None
    others: int = 0
    verified: str | None = None
    annotators: tuple[str, ...] = ()
    text: str | None = None

    def may_be_needed(self, name: str) -> bool:
        """Return whether a column of that name is always read."""
        first = () if self.verified is None else (FIRST_LABEL_COLUMN,)
        known = (*IMAGE_COLUMNS, *LABEL_COLUMNS, SPLIT_COLUMN, *first)
        asked = (self.image, self.label, self.clean, self.verified, self.text, *self.annotators)
        composed = {unicodedata.normalize("NFC", one) for one in asked if one is not None}
        return unicodedata.normalize("NFC", name) in composed or name.strip().lower() in known

    def of_interest(self, names: Sequence[str]) -> frozenset[str]:
        """Return the columns of a table that are read."""
        needed = {name for name in names if self.may_be_needed(name)}
        more = [name for name, times in Counter(names).items() if times == 1 and name not in needed]
        more.sort(key=lambda name: name.strip().lower() not in ID_COLUMNS)
        return frozenset(needed.union(more[: self.others]))

    def refuse(self, why: str) -> None:
        """Raise SourceError if a column was requested and there is no table."""
        asked = {
            "image_column": self.image,
            "label_column": self.label,
            "clean_label_column": self.clean,
            "verified_column": self.verified,
            "label_columns": ", ".join(self.annotators) or None,
        }
        for option, value in asked.items():
            if value is not None:
                raise SourceError(
                    f'`{option}` is "{value}", but {why}, without a table; give the table as well'
                )


@dataclass(frozen=True, eq=False)
class Cells:
    """The columns of one file that may be needed, as text, "" where empty."""

    file: Path
    names: tuple[str, ...]  # of all columns, for messages
    texts: dict[str, list[str]]
    rows: Indices  # (R,) as a person counts them: lines from 1, a parquet file's rows from 0
    row_word: str
    declared: dict[str, tuple[str, ...]]  # class names by column
    image: str | None = None  # column recognized by its type
    embedded: bool = False  # whether it holds the images themselves


def cells_of_frame(frame: pd.DataFrame, columns: Columns) -> Cells:
    """Return the columns of a DataFrame that may be needed."""
    file = Path("DataFrame")
    names = [well_formed(str(name)) for name in frame.columns]
    wanted = columns.of_interest(names)
    times = Counter(names)
    texts: dict[str, list[str]] = {}
    for position, name in enumerate(names):
        if name not in wanted or times[name] > 1:
            continue
        # Columns of lists, objects or dates are left out, as in a parquet file.
        with suppress(TypeError):
            texts[name] = [as_text(cell) for cell in frame.iloc[:, position].tolist()]
    return Cells(file, tuple(names), texts, np.arange(len(frame), dtype=np.int64), "row", {})


def column_called(name: str, names: Iterable[str]) -> str | None:
    """Return the column with this name, or else the first that differs from it only in case."""
    alike = [one for one in names if one.strip().lower() == name]
    return name if name in alike else next(iter(alike), None)


def find_column(
    cells: Cells, asked: str | None, known: Sequence[str], what: str, option: str | None
) -> str | None:
    """Return the requested column, or else the first of the known names that the table has.

    Parameters
    ----------
    cells : Cells
        The table.
    asked : str, or None
        The requested column.
    known : sequence of str
        Names that are recognized, in any case.
    what : str
        What the column holds, for messages.
    option : str, or None
        The option that names the column. None if the column is optional: then the result is None if
        there is no such column.

    Raises
    ------
    SourceError
        There is no such column, or it holds neither text nor numbers.
    """
    there = f"its columns: {some(cells.names, quote=False, shown=SHOWN_NAMES) or 'none'}"
    advice = f"name it with `{option}`"
    if asked is not None:
        column = asked if asked in cells.names else same_written(asked, cells.names)
        if column is None:
            raise SourceError(f'{cells.file} has no column "{asked}" for {what}; {there}')
    else:
        lowered = {name.strip().lower(): name for name in reversed(cells.names)}
        column = next((lowered[name] for name in known if name in lowered), None)
        if column is None and option is None:
            return None
        if column is None:
            raise SourceError(
                f"{cells.file} has no column for {what} ({', '.join(known)}); {there}; {advice}"
            )
    if cells.names.count(column) > 1:
        raise SourceError(f'{cells.file} has two columns "{column}"; rename one')
    if column not in cells.texts:
        if asked is None and option is None:
            return None
        raise SourceError(
            f'the column "{column}" of {cells.file} holds neither text nor numbers; {there}; {advice}'
        )
    return column


def one_image_column(file: Path, names: list[str]) -> str | None:
    """Return the column of images: of several the one called "image"; None if there is none.

    Raises SourceError if there are several, and not one of that name.
    """
    if len(names) > 1:
        names = [name for name in names if name.strip().lower() == "image"] or names
    if len(names) > 1:
        raise SourceError(
            f"{file} has several columns of images: {', '.join(names)}; choose one with"
            " `image_column`"
        )
    return names[0] if names else None


def same_written(asked: str, names: Sequence[str]) -> str | None:
    """Return the column whose name is the requested one in another Unicode form; None if none is."""
    form = unicodedata.normalize("NFC", asked)
    return next((name for name in names if unicodedata.normalize("NFC", name) == form), None)

"""What a table probably is, if it names no images: texts, features, or columns of numbers."""

import shlex
from pathlib import Path

from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.sources.cells import ID_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMN, Cells, Columns
from labelaudit.sources.parquet_tables import open_parquet
from labelaudit.sources.table_formats import TABLE_FORMATS, read_cells, read_lists

MANY_COLUMNS = 1000
TRIED_ROWS = 200
# A column holds texts if its cells have so many words on average, and most of them differ.
WORDS_OF_TEXT = 4
SHARE_DISTINCT = 0.5


def advice_for_table(file: Path, named: Path | None = None) -> str:
    """Return the command that scans a table without images; "" if it holds no features.

    Parameters
    ----------
    file : Path
        A table that could be read as one of images, but names none.
    named : Path, optional
        What the command names instead, if the table is one of several files.
    """
    try:
        cells = read_cells(file, Columns(None, None, None, others=MANY_COLUMNS))
    except (SourceError, OSError):
        return ""
    shown = shlex.quote(str(named or file))
    labeled = any(name.strip().lower() in LABEL_COLUMNS for name in cells.names)
    end = "" if labeled else "; name the column of labels with `label_column`"
    with_file = f"`labelaudit scan {shown} --features FILE`"
    for name in lists_of_numbers(cells):
        return (
            f'if the column "{name}" holds the features of the samples:'
            f" `labelaudit scan {shown} --features {shlex.quote(name)}`{end}"
        )
    for name in columns_of_texts(cells):
        return (
            f'if the column "{name}" holds the texts to audit:'
            f" `labelaudit scan {shown} --text-column {shlex.quote(name)}`; with features of your own:"
            f" {with_file}{end}"
        )
    if numbers := numeric_columns(cells):
        return (
            f"if its rows are the samples, and columns such as {numbers[0]} their features:"
            f" `labelaudit scan {shown} --tabular`; with features in another file: {with_file}{end}"
        )
    return f"if its rows are samples without images, give their features: {with_file}{end}"


def advice_for_features(file: Path, labels: str = "LABELS") -> str:
    """Return the command that takes a file as features; "" if it holds something else."""
    if not is_feature_file(file):
        return ""
    return (
        f"if {file} holds the features of samples, give the table of their labels as the source:"
        f" `labelaudit scan {shlex.quote(labels)} --features {shlex.quote(str(file))}`"
    )


def numeric_columns(cells: Cells) -> list[str]:
    """Return the columns that hold only numbers, other than ids, labels and splits."""
    passed_over = {*ID_COLUMNS, *LABEL_COLUMNS, SPLIT_COLUMN, ""}
    found = []
    for name, texts in cells.texts.items():
        there = [text for text in texts[:TRIED_ROWS] if text.strip()]
        if name.strip().lower() not in passed_over and there and all(map(writes_number, there)):
            found.append(name)
    return found


def columns_of_texts(cells: Cells) -> list[str]:
    """Return the columns that hold texts of several words, those of the longest texts first."""
    passed_over = {*ID_COLUMNS, *LABEL_COLUMNS, SPLIT_COLUMN, ""}
    found: dict[str, float] = {}
    for name, texts in cells.texts.items():
        there = [text for text in texts[:TRIED_ROWS] if text.strip()]
        if name.strip().lower() in passed_over or not there:
            continue
        words = sum(len(text.split()) for text in there) / len(there)
        if words >= WORDS_OF_TEXT and len(set(there)) > SHARE_DISTINCT * len(there):
            found[name] = words
    return sorted(found, key=lambda name: -found[name])


def writes_number(text: str) -> bool:
    """Return whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def lists_of_numbers(cells: Cells) -> list[str]:
    """Return the columns of a table that hold lists of numbers."""
    if suffix_of(cells.file.name) == "parquet":
        with open_parquet(cells.file) as opened:
            schema = opened.schema_arrow
        return [field.name for field in schema if _holds_numbers(str(field.type))]
    if TABLE_FORMATS[suffix_of(cells.file.name)].read_lists is None:
        return []
    found = []
    for name in cells.names:
        if name not in cells.texts:
            try:
                read_lists(cells.file, name)
            except SourceError:
                continue
            found.append(name)
    return found


def _holds_numbers(kind: str) -> bool:
    lists = kind.startswith(("list<", "large_list<", "fixed_size_list<"))
    return lists and any(word in kind for word in ("float", "double", "int", "halffloat"))


def is_feature_file(file: Path) -> bool:
    """Return whether a file holds features and no labels, as `labelaudit embed` writes."""
    if suffix_of(file.name) != "parquet":
        return suffix_of(file.name) in ("npy", "npz")
    try:
        with open_parquet(file) as opened:
            schema = opened.schema_arrow
    except SourceError:
        return False
    if any(name.strip().lower() in LABEL_COLUMNS for name in schema.names):
        return False
    kinds = [str(field.type) for field in schema]
    if any(kind.startswith(("struct<", "binary", "large_binary")) for kind in kinds):
        return False
    numbers = sum(kind in ("float", "double", "halffloat") for kind in kinds)
    return numbers > 1 or any(map(_holds_numbers, kinds))

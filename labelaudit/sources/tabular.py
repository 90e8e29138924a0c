"""Features from the columns of a table: numbers and categories, through scikit-learn.

Every column ends on one scale, so that distances weigh them alike: a number's mean square is 1, and
two samples of different categories are as far apart as two numbers are on average. What is no
feature (ids, free text, constants) is left out, and said.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from labelaudit.errors import SourceError
from labelaudit.images.containers import Indices
from labelaudit.sources.cells import FIRST_LABEL_COLUMN, ID_COLUMNS, VERIFIED_COLUMN, Columns
from labelaudit.sources.feature_files import Floats
from labelaudit.sources.feature_tables import FeatureSource, source_from_table
from labelaudit.sources.label_tables import read_table
from labelaudit.sources.manifest import UNLABELED
from labelaudit.sources.values import as_frame, is_frame

# Standardized, a column of a heavier tail than this is a few huge values and a crowd at 0, and the
# huge ones alone decide who is near to whom. A normal distribution has an excess kurtosis of 0, a
# Laplace distribution of 3, a log-normal one (incomes, counts, sizes) of 100 and more.
HEAVY_TAIL = 10.0
# Categories rarer than this share, and those beyond the most frequent ones, count as one.
RARE_CATEGORY = 0.005
MAX_CATEGORIES = 32
# Texts with so many words on average, or of which so large a share occur once, are no categories.
WORDS_OF_TEXT = 4
SHARE_UNIQUE = 0.5
# A column of numbers counts the rows if so many of the whole numbers in its range are there, once
# each; in tables of fewer rows than this only the name tells.
DENSE = 0.9
FEWEST_TO_COUNT = 20
# Columns read from a file.
MAX_COLUMNS = 10_000


@dataclass(frozen=True)
class _Kind:
    """What a column is, and the words for what was done with it."""

    name: str  # "scaled", "ranked", "categories" or "left out"
    words: str


def read_tabular(
    table: Any,
    *,
    label_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    verified_column: str | None = None,
) -> FeatureSource:
    """Read a table whose rows are the samples, and make features of its other columns.

    Parameters
    ----------
    table : str, Path or DataFrame
        CSV, TSV, JSONL or parquet, or a table in memory. A row without a label is unlabeled.
    label_column, id_column, split, clean_label_column, verified_column : str, optional
        See `labelaudit.sources.feature_tables.read_labels_with_features`. None of these columns
        becomes a feature, nor does "first_label".

    Raises
    ------
    SourceError
        The file is not such a table, has no column to make features of, or has fewer than two
        classes.
    """
    given = as_frame(table) if is_frame(table) else Path(table)
    columns = Columns(id_column, label_column, clean_label_column, MAX_COLUMNS, verified_column)
    read = read_table(given, columns, ID_COLUMNS, images_needed=False)
    rows = source_from_table(read, by_row=True, id_column=id_column, split=split)
    labels = rows.source.manifest.noisy_labels
    names = [str(name) for name in rows.details]
    left_out = {
        name: "left out: it tells the same as the label"
        for name in names
        if _tells_the_same(rows.details[name], labels)
    }
    if FIRST_LABEL_COLUMN in names:
        for name in {VERIFIED_COLUMN, FIRST_LABEL_COLUMN}.intersection(names):
            left_out[name] = "left out: written by labelaudit apply"
    try:
        features, notes = tabular_features(rows.details, exclude=left_out)
    except SourceError as error:
        raise SourceError(f"{read.where}: {error}") from error
    return FeatureSource(rows.source, features, rows.details, notes | left_out)


def _tells_the_same(column: "pd.Series[str]", labels: Indices) -> bool:
    """Say whether each label has one value in the column, and each value one label."""
    pairs = pd.DataFrame({"value": column.to_numpy(), "label": labels})[labels != UNLABELED]
    distinct = pairs.drop_duplicates()
    return bool(len(distinct) == distinct["value"].nunique() == distinct["label"].nunique())


def tabular_features(
    table: pd.DataFrame, exclude: Iterable[str] = ()
) -> tuple[Floats, dict[str, str]]:
    """Make features of a table's columns.

    Numbers are standardized; those with a heavy tail (`HEAVY_TAIL`) are spread by rank to a normal
    distribution instead. Missing numbers become the median, with a column that says so. Categories
    become one column each, those that are rare together one, and so does a missing category. Texts
    that are all numbers count as numbers.

    Parameters
    ----------
    table : DataFrame (N, k)
        Columns of numbers, booleans, categories or texts; "" and NaN are missing.
    exclude : iterable of str
        Columns that are no features, such as the labels.

    Returns
    -------
    features : array (N, d) float32
        A row does not depend on the order of the others.
    notes : dict of str to str
        For each column what was done with it, in words.

    Raises
    ------
    SourceError
        No column is left.
    """
    excluded = set(exclude)
    notes: dict[str, str] = {}
    columns: dict[str, list[str]] = {"scaled": [], "ranked": [], "categories": []}
    ready: dict[str, pd.Series[Any]] = {}
    for position, name in enumerate(table.columns):
        if name in excluded:
            notes[name] = "left out: it is excluded"
            continue
        values = _typed(table.iloc[:, position])
        kind = _kind_of(str(name), values)
        notes[name] = kind.words
        if kind.name in columns:
            # By place, for names may be numbers or repeat.
            ready[str(position)] = values
            columns[kind.name].append(str(position))
    if not ready:
        why = "; ".join(f"{name}: {words}" for name, words in list(notes.items())[:3])
        raise SourceError(f"no column is left to make features of ({why or 'there is none'})")
    made = _transformer(columns, len(table)).fit_transform(pd.DataFrame(ready))
    return np.ascontiguousarray(made, dtype=np.float32), notes


def _transformer(columns: dict[str, list[str]], num_rows: int) -> ColumnTransformer:
    categories = OneHotEncoder(
        min_frequency=max(2, round(RARE_CATEGORY * num_rows)),
        max_categories=MAX_CATEGORIES,
        handle_unknown="ignore",
        sparse_output=False,
    )
    return ColumnTransformer(
        [
            ("scaled", make_pipeline(_imputer(), StandardScaler()), columns["scaled"]),
            (
                "ranked",
                make_pipeline(
                    _imputer(),
                    QuantileTransformer(
                        n_quantiles=min(1000, num_rows),
                        output_distribution="normal",
                        subsample=None,
                    ),
                    # Ranks of many equal values are not yet of variance 1.
                    StandardScaler(),
                ),
                columns["ranked"],
            ),
            ("categories", categories, columns["categories"]),
        ],
        sparse_threshold=0,
    )


def _imputer() -> SimpleImputer:
    return SimpleImputer(strategy="median", add_indicator=True)


def _typed(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a column as float64 with NaN if its values are numbers, else as text with None."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.astype(object).map({True: "true", False: "false"}).astype(object)
    if pd.api.types.is_numeric_dtype(column.dtype):
        numbers = pd.to_numeric(column).astype("float64")
        return numbers.where(np.isfinite(numbers))
    texts = column.astype(object).where(column.notna(), None)
    texts = texts.map(lambda value: None if value is None else str(value).strip() or None)
    numbers = pd.to_numeric(texts, errors="coerce").astype("float64")
    all_numbers = (texts.notna() == np.isfinite(numbers)).all()
    codes = texts.str.match(r"0\d").fillna(False).any()  # "0815" counts nothing
    return numbers if all_numbers and not codes else texts


def _kind_of(name: str, values: "pd.Series[Any]") -> _Kind:
    there = values.dropna()
    missing = len(values) - len(there)
    lacking = f", {missing:,} missing" if missing else ""
    distinct = there.nunique()
    if distinct == 0:
        return _Kind("left out", "left out: it is empty")
    if distinct == 1 and not missing:
        return _Kind("left out", "left out: all its values are the same")
    if values.dtype == np.float64:
        if _is_counter(name, there.to_numpy(), distinct):
            return _Kind("left out", "left out: its numbers look like ids")
        if _excess_kurtosis(there.to_numpy()) > HEAVY_TAIL:
            return _Kind("ranked", f"number with a heavy tail, spread by rank{lacking}")
        return _Kind("scaled", f"number, standardized{lacking}")
    words = there.str.count(r"\S+").mean()
    if words >= WORDS_OF_TEXT:
        return _Kind("left out", "left out: it is free text; bring features of it (--features)")
    if distinct > max(2, SHARE_UNIQUE * len(there)):
        return _Kind("left out", "left out: nearly every row has a value of its own")
    return _Kind("categories", f"category, one column a value ({distinct:,} values{lacking})")


def _is_counter(name: str, numbers: npt.NDArray[np.float64], distinct: int) -> bool:
    """Say whether numbers count rows rather than tell of them."""
    if distinct < len(numbers) or (numbers % 1 != 0).any():
        return False
    plain = name.strip().lower()
    if plain in ID_COLUMNS or plain.endswith(("_id", "id_", " id")) or plain in ("index", ""):
        return True
    span = float(numbers.max() - numbers.min()) + 1
    return len(numbers) >= max(FEWEST_TO_COUNT, DENSE * span)


def _excess_kurtosis(numbers: npt.NDArray[np.float64]) -> float:
    centered = numbers - numbers.mean()
    scale = np.abs(centered).max()
    if scale == 0:
        return 0.0
    centered = centered / scale  # the fourth power of large numbers would overflow
    return float((centered**4).mean() / (centered**2).mean() ** 2 - 3.0)

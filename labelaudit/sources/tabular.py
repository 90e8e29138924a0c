"""Features from the columns of a table: numbers and categories, through scikit-learn.

All columns get the same scale, so that each counts alike in distances. Numbers have a mean square of
1, and two different categories are as far apart as two numbers are on average. Columns that are no
features (ids, free text, constants) are left out, and the notes say so.
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
from labelaudit.sources.wording import some

# Largest excess kurtosis of a column that is standardized. With a heavier tail, most values would be
# close to 0, and a few huge ones would decide all distances. The excess kurtosis of a normal
# distribution is 0, of a Laplace distribution 3, of a log-normal one (incomes, sizes) 100 and more.
HEAVY_TAIL = 10.0
# Categories with a smaller share, and those beyond the most frequent ones, become one category.
RARE_CATEGORY = 0.005
MAX_CATEGORIES = 32
# A column is no category if its texts have at least this number of words on average, or if its number
# of different values exceeds this share of its rows.
WORDS_OF_TEXT = 4
SHARE_UNIQUE = 0.5
# A column of different whole numbers is an id if it fills this share of its range. In tables with fewer
# rows than the second number, only the name of the column decides.
DENSE = 0.9
FEWEST_TO_COUNT = 20
# How programs write that a number is missing, in any case: the list of pandas, and "?", "-" and the
# like of older data sets. An infinite number is taken as missing too. In a column of categories they
# are categories, because "NA" may be Namibia.
_MARKS = """na n/a #n/a #na <na> n.a. nan -nan 1.#ind -1.#ind 1.#qnan -1.#qnan null #null! none nat
    ? - -- – — . .. #value! #div/0! #ref! #num! #name? inf +inf -inf infinity +infinity -infinity"""
MISSING_MARKS = {*_MARKS.split(), "#n/a n/a"}
# Numbers beyond it, or below its inverse, are scaled before they are standardized.
SQUARABLE = 1e100
MAX_COLUMNS = 10_000  # largest number of columns of which features are made


@dataclass(frozen=True)
class _Kind:
    """The kind of a column, and a description of how it became features."""

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
    label_columns: tuple[str, ...] = (),
) -> FeatureSource:
    """Read a table whose rows are the samples, and make features of its other columns.

    Parameters
    ----------
    table : str, Path or DataFrame
        CSV, TSV, JSONL or parquet, or a table in memory. A row without a label is unlabeled.
    label_column, id_column, split, clean_label_column, verified_column, label_columns
        See `labelaudit.sources.feature_tables.read_labels_with_features`. None of these columns
        becomes a feature, and neither does "first_label".

    Raises
    ------
    SourceError
        The table cannot be read, has no column or too many columns to make features of, or has fewer
        than two classes.
    """
    given = as_frame(table) if is_frame(table) else Path(table)
    columns = Columns(
        id_column, label_column, clean_label_column, MAX_COLUMNS + 1, verified_column, label_columns
    )
    read = read_table(given, columns, ID_COLUMNS, images_needed=False, split=split)
    rows = source_from_table(read, by_row=True, id_column=id_column, split=split)
    labels = rows.source.manifest.noisy_labels
    names = [str(name) for name in rows.details]
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"the table has more than {MAX_COLUMNS:,} columns besides the label; drop some, or give"
            " them as an array with `features`"
        )
    left_out = {
        name: "left out: it is equivalent to the label"
        for name in names
        if _tells_the_same(rows.details[name], labels)
    }
    if label_columns:
        for name in {"label", "final_label"}.intersection(names):
            left_out[name] = "left out: it may be the final label of the annotators' columns"
    if FIRST_LABEL_COLUMN in names:
        for name in {VERIFIED_COLUMN, FIRST_LABEL_COLUMN}.intersection(names):
            left_out[name] = "left out: written by labelaudit apply"
    try:
        features, notes = tabular_features(rows.details, exclude=left_out)
    except SourceError as error:
        raise SourceError(f"{read.where}: {error}") from error
    return FeatureSource(rows.source, features, rows.details, notes | left_out)


def _tells_the_same(column: "pd.Series[str]", labels: Indices) -> bool:
    """Return whether each label has one value in the column, and each value one label."""
    pairs = pd.DataFrame({"value": column.to_numpy(), "label": labels})[labels != UNLABELED]
    distinct = pairs.drop_duplicates()
    return bool(len(distinct) == distinct["value"].nunique() == distinct["label"].nunique())


def tabular_features(
    table: pd.DataFrame, exclude: Iterable[str] = ()
) -> tuple[Floats, dict[str, str]]:
    """Make features of a table's columns.

    Numbers are standardized. If their tail is heavy (`HEAVY_TAIL`), they are mapped by rank to a
    normal distribution instead. A missing number becomes the median, and a further column marks it.
    In a column of numbers, marks such as "NA" or "?" (`MISSING_MARKS`) are missing numbers.
    Each category becomes one column, missing values too; rare categories share one. Texts are numbers
    if all of them are.

    Parameters
    ----------
    table : DataFrame (N, k)
        Columns of numbers, booleans, categories or texts. "" and NaN are missing values.
    exclude : iterable of str
        Columns that are no features, such as the labels.

    Returns
    -------
    features : array (N, d) float32
        They do not depend on the order of the rows.
    notes : dict of str to str
        How each column became features, in words.

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
        values, marks = _typed(table.iloc[:, position])
        if values.dtype == np.float64:
            values = _in_range(values)
        kind = _kind_of(str(name), values, marks)
        notes[name] = kind.words
        if kind.name in columns:
            # By position, because names may be numbers or repeat.
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
                    # With many equal values, the ranks do not have a variance of 1.
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


def _typed(column: "pd.Series[Any]") -> "tuple[pd.Series[Any], list[str]]":
    """Return a column as float64 with NaN if its values are numbers, else as text with None.

    The list holds the marks that were found instead of numbers, the most frequent first.
    """
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.astype(object).map({True: "true", False: "false"}).astype(object), []
    if pd.api.types.is_numeric_dtype(column.dtype):
        numbers = pd.to_numeric(column).astype("float64")
        return numbers.where(np.isfinite(numbers)), []
    texts = column.astype(object).where(column.notna(), None)
    texts = texts.map(lambda value: None if value is None else str(value).strip() or None)
    numbers = pd.to_numeric(texts, errors="coerce").astype("float64")
    numbers = numbers.where(np.isfinite(numbers))
    others = texts[texts.notna() & numbers.isna()].value_counts().index.tolist()
    are_marks = all(text.lower() in MISSING_MARKS for text in others)
    codes = texts.str.match(r"0\d").fillna(False).any()  # "0815" is a code, not a number
    if not are_marks or codes or numbers.isna().all():
        return texts, []
    return numbers, others


def _in_range(numbers: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return numbers on a scale whose squares are float64; as they are on nearly all scales."""
    largest = numbers.abs().max()
    usual = not largest > 0 or 1 / SQUARABLE < largest < SQUARABLE
    return numbers if usual else numbers / largest


def _kind_of(name: str, values: "pd.Series[Any]", marks: list[str]) -> _Kind:
    there = values.dropna()
    missing = len(values) - len(there)
    lacking = f", {missing:,} missing" if missing else ""
    if marks:
        lacking += f" (written {some(marks)})"
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
        return _Kind("left out", "left out: it is free text; `text_column` audits it")
    if distinct > max(2, SHARE_UNIQUE * len(there)):
        return _Kind("left out", "left out: almost every row has a different value")
    return _Kind("categories", f"category, one column per value ({distinct:,} values{lacking})")


def _is_counter(name: str, numbers: npt.NDArray[np.float64], distinct: int) -> bool:
    """Return whether numbers count the rows, like ids."""
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
    centered = centered / scale  # otherwise the fourth power of large numbers overflows
    return float((centered**4).mean() / (centered**2).mean() ** 2 - 3.0)

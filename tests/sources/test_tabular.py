"""Tables as features: every column on one scale, and what is no feature left out and said."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labelaudit.errors import SourceError
from labelaudit.sources import tabular
from labelaudit.sources.tabular import read_tabular, tabular_features

ROWS = 300


def columns(**more: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.normal(40, 12, ROWS),
            "income": rng.lognormal(10, 2, ROWS),
            "color": rng.choice(["red", "green", "blue"], ROWS),
            **more,
        }
    )


# --- what becomes of a column ------------------------------------------------------------------


def test_numbers_and_categories_weigh_alike() -> None:
    table = columns()
    features, notes = tabular_features(table)
    assert features.shape == (ROWS, 5)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[:, :2].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(features[:, :2].std(0), 1, atol=1e-4)
    assert set(np.unique(features[:, 2:])) == {0, 1}
    one, other = (features[(table["color"] == c).to_numpy().argmax(), 2:] for c in ("red", "blue"))
    assert ((one - other) ** 2).sum() == 2  # as two numbers of variance 1 on average
    assert notes == {
        "age": "number, standardized",
        "income": "number with a heavy tail, spread by rank",
        "color": "category, one column per value (3 values)",
    }


def test_a_heavy_tail_is_spread_by_rank() -> None:
    table = columns()
    features, _ = tabular_features(table)
    assert np.abs(features[:, 1]).max() < 6
    order = np.argsort(table["income"].to_numpy())
    assert (np.diff(features[order, 1]) >= 0).all()
    _, notes = tabular_features(pd.DataFrame({"x": np.random.default_rng(0).laplace(size=5000)}))
    assert notes["x"] == "number, standardized"


def test_texts_of_numbers_are_numbers() -> None:
    table = columns()
    as_text = table.astype(str)
    np.testing.assert_allclose(tabular_features(as_text)[0], tabular_features(table)[0], atol=1e-5)


def test_codes_with_leading_zeros_are_categories() -> None:
    _, notes = tabular_features(columns(zip=["01", "12", "23"] * 100))
    assert notes["zip"] == "category, one column per value (3 values)"


@pytest.mark.parametrize(
    "mark", ["NA", "N/A", "#N/A", "NULL", "null", "nan", "None", "?", "-", " - "]
)
def test_usual_marks_of_a_missing_number(mark: str) -> None:
    numbers = pd.Series(np.random.default_rng(0).normal(size=ROWS))
    empty = numbers.map(str)
    empty[::30] = ""
    marked = empty.mask(empty == "", mark)
    expected, notes = tabular_features(pd.DataFrame({"x": empty}))
    assert notes == {"x": "number, standardized, 10 missing"}
    features, notes = tabular_features(pd.DataFrame({"x": marked}))
    np.testing.assert_array_equal(features, expected)
    assert notes == {"x": f'number, standardized, 10 missing (written "{mark.strip()}")'}


def test_marks_of_a_missing_number_are_categories_among_words() -> None:
    countries = pd.Series(["NA", "DE", "FR"] * (ROWS // 3))  # Namibia, Germany, France
    features, notes = tabular_features(pd.DataFrame({"country": countries}))
    assert notes == {"country": "category, one column per value (3 values)"}
    assert features.sum(0).tolist() == [100, 100, 100]
    _, notes = tabular_features(pd.DataFrame({"x": [1.0, 2.0] * 5, "y": ["NA", "?"] * 5}))
    assert notes["y"].startswith("category")


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_numbers_whose_squares_overflow(scale: float) -> None:
    numbers = np.random.default_rng(0).normal(size=ROWS)
    expected, _ = tabular_features(pd.DataFrame({"x": numbers}))
    features, notes = tabular_features(pd.DataFrame({"x": numbers * scale}))
    np.testing.assert_allclose(features, expected, rtol=1e-5)
    assert notes == {"x": "number, standardized"}


def test_missing_numbers_become_the_median_and_are_marked() -> None:
    sizes = np.random.default_rng(1).normal(5, 1, ROWS)
    sizes[::3] = np.nan
    plain, _ = tabular_features(columns())
    made, notes = tabular_features(columns(size=sizes))
    assert notes["size"] == "number, standardized, 100 missing"
    assert made.shape[1] == plain.shape[1] + 2
    assert np.isfinite(made).all()
    filled, marked = made[:, 1], made[:, 2]  # after the age
    assert len(np.unique(filled[::3])) == 1
    assert len(np.unique(marked)) == 2


@pytest.mark.parametrize("missing", ["", None, np.nan])
def test_a_missing_category_is_one_of_its_own(missing: Any) -> None:
    shapes = pd.Series(["round", "square", missing] * 100, dtype=object)
    made, notes = tabular_features(pd.DataFrame({"shape": shapes}))
    assert made.shape == (ROWS, 3)
    assert (made.sum(1) == 1).all()
    assert notes["shape"] == "category, one column per value (2 values, 100 missing)"


def test_booleans_infinities_and_half_empty_columns() -> None:
    made, notes = tabular_features(
        pd.DataFrame(
            {
                "flag": [True, False] * 150,
                "ratio": [1.0, 2.5, np.inf] * 100,
                "seen": ["yes", None] * 150,
                7: np.random.default_rng(0).normal(size=ROWS),
            }
        )
    )
    assert np.isfinite(made).all()
    assert notes["ratio"] == "number, standardized, 100 missing"
    assert notes["seen"] == "category, one column per value (1 values, 150 missing)"
    assert made.shape[1] == 2 + 2 + 2 + 1


def test_rare_categories_count_as_one_and_many_are_bounded() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in rng.geometric(0.05, 3000)]
    made, _ = tabular_features(pd.DataFrame({"word": words}))
    assert made.shape[1] == 32
    rare = ["a"] * 500 + ["b"] * 498 + ["c", "d"]
    made, _ = tabular_features(pd.DataFrame({"x": rare}))
    assert made.shape[1] == 3
    assert made[-2:, -1].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("nothing", [""] * ROWS, "it is empty"),
        ("same", ["x"] * ROWS, "all its values are the same"),
        ("number", [3.0] * ROWS, "all its values are the same"),
        ("row", list(range(1000, 1000 + ROWS)), "its numbers look like ids"),
        ("shuffled", np.random.default_rng(0).permutation(ROWS), "its numbers look like ids"),
        ("user_id", np.arange(ROWS) * 97, "its numbers look like ids"),
        ("key", [f"k{i}" for i in range(ROWS)], "almost every row has a different value"),
        ("note", ["the lid does not close well"] * 200 + ["no"] * 100, "it is free text"),
    ],
)
def test_what_is_left_out(name: str, values: Any, words: str) -> None:
    plain, _ = tabular_features(columns())
    made, notes = tabular_features(columns(**{name: values}))
    np.testing.assert_array_equal(made, plain)
    assert notes[name].startswith(f"left out: {words}")


def test_rows_do_not_depend_on_their_order() -> None:
    table = columns(size=np.where(np.arange(ROWS) % 7 == 0, np.nan, np.arange(ROWS) ** 2.5))
    made, _ = tabular_features(table)
    order = np.random.default_rng(2).permutation(ROWS)
    shuffled, _ = tabular_features(table.iloc[order])
    np.testing.assert_allclose(shuffled, made[order], atol=1e-5)


def test_no_column_is_left() -> None:
    with pytest.raises(SourceError, match=r"no column is left.*same: left out: all its values"):
        tabular_features(pd.DataFrame({"same": [1, 1], "b": [1, 2]}), exclude=["b"])
    with pytest.raises(SourceError, match="there is none"):
        tabular_features(pd.DataFrame(index=range(3)))


# --- tables on disk ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_on_disk(tmp_path: Path, kind: str, write: Any) -> None:
    table = columns(id=[f"p{i}" for i in range(ROWS)], label=["yes", "no", ""] * 100)
    rows = table.to_dict("records")
    read = read_tabular(write.table(tmp_path / f"people.{kind}", rows))
    manifest = read.source.manifest
    assert manifest.class_names == ("no", "yes")
    assert manifest.num_labeled == 200
    assert manifest.sample_ids[:2].tolist() == ["p0", "p1"]
    np.testing.assert_allclose(read.features, tabular_features(columns())[0], atol=1e-4)
    assert list(read.details.columns) == ["age", "income", "color"]
    assert read.details["color"].tolist() == columns()["color"].tolist()
    assert set(read.notes) == {"age", "income", "color"}


def test_copies_of_the_label_and_the_truth_are_no_features(tmp_path: Path, write: Any) -> None:
    labels = np.random.default_rng(3).choice(["cat", "dog"], ROWS)
    truth = np.where(np.arange(ROWS) % 9 == 0, "cat", labels)
    table = columns(label=labels, code=np.where(labels == "cat", 17, 4), truth=truth)
    file = write.table(tmp_path / "t.csv", table.to_dict("records"))
    read = read_tabular(file, clean_label_column="truth")
    assert read.notes["code"] == "left out: it is equivalent to the label"
    np.testing.assert_allclose(read.features, tabular_features(columns())[0], atol=1e-4)
    assert read.source.clean_labels is not None
    assert read.source.clean_labels.tolist() == truth.tolist()


def test_a_table_with_too_many_columns_is_refused(
    tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "MAX_COLUMNS", 3)
    rows: list[dict[str, object]] = [
        {"label": c, **{f"x{n}": i * n for n in range(3)}} for i, c in enumerate("abab")
    ]
    assert len(read_tabular(write.table(tmp_path / "t.csv", rows)).features) == 4
    for row in rows:
        row["x3"] = 1
    with pytest.raises(SourceError, match="more than 3 columns besides the label"):
        read_tabular(write.table(tmp_path / "u.csv", rows))


def test_tables_that_cannot_be_read(tmp_path: Path, write: Any) -> None:
    rows: list[dict[str, object]] = [{"label": c, "id": i} for i, c in enumerate("abab")]
    with pytest.raises(SourceError, match=r"t\.csv: no column is left"):
        read_tabular(write.table(tmp_path / "t.csv", rows))
    with pytest.raises(SourceError, match="no column for the labels"):
        read_tabular(write.table(tmp_path / "u.csv", [{"a": 1}]))
    with pytest.raises(SourceError, match=r'no column "b" for the ids'):
        read_tabular(tmp_path / "t.csv", id_column="b")


def test_a_column_of_verified_labels_is_no_feature(tmp_path: Path) -> None:
    table = columns(label=["a", "b"] * (ROWS // 2), done=["yes", "no", "excluded"] * (ROWS // 3))
    table.to_csv(tmp_path / "t.csv", index=False)
    read = read_tabular(tmp_path / "t.csv", verified_column="done")
    assert set(read.notes) == {"age", "income", "color"}
    assert read.source.manifest.num_samples == len(read.features) == 200
    assert read.source.verified.tolist() == [True, False] * 100
    assert "done" in read_tabular(tmp_path / "t.csv").notes


def test_what_labels_were_at_first_is_no_feature(tmp_path: Path) -> None:
    labels = ["a", "b"] * (ROWS // 2)
    done = ["yes", "", "yes"] * (ROWS // 3)
    first = ["b", "", "a"] * (ROWS // 3)
    table = columns(label=labels, done=done, first_label=first)
    table.to_csv(tmp_path / "t.csv", index=False)
    read = read_tabular(tmp_path / "t.csv", verified_column="done")
    assert set(read.notes) == set(read.details) == {"age", "income", "color"}
    assert read.source.first_given.tolist() == [1, -1, 0] * (ROWS // 3)
    plain = read_tabular(tmp_path / "t.csv")
    assert plain.source.first_given is None
    assert plain.notes["first_label"] == "left out: written by labelaudit apply"
    assert plain.notes["done"].startswith("category")
    without = table.drop(columns="first_label")
    without.to_csv(tmp_path / "without.csv", index=False)
    np.testing.assert_array_equal(plain.features, read_tabular(tmp_path / "without.csv").features)

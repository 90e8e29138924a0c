"""Features made elsewhere: found by row or by id, aligned whatever the order, refused when wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelaudit.errors import SourceError
from labelaudit.images.containers import NoImages, UnreadableImageError
from labelaudit.images.plan import plan_images
from labelaudit.sources.feature_tables import join_features, read_labels_with_features
from labelaudit.sources.folders import read_source
from labelaudit.sources.prediction_files import read_labels_alone

NAMES = [f"t{i}" for i in range(12)]
VALUES = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
LABELS = ["pos", "neg", "", "pos"] * 3


def rows(**more: list[Any]) -> list[dict[str, object]]:
    columns = {"id": NAMES, "text": [f"text of {n}" for n in NAMES], "label": LABELS, **more}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.fixture
def labels(tmp_path: Path, write: Any) -> Path:
    file: Path = write.table(tmp_path / "labels.csv", rows())
    return file


def write_parquet(file: Path, order: Any = range(12), **more: Any) -> Path:
    columns = {
        "sample_id": [NAMES[i] for i in order],
        "features": pa.array([VALUES[i].tolist() for i in order], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table({**columns, **more}), file, row_group_size=5)
    return file


def save(file: Path, values: np.ndarray) -> Path:
    np.save(file, values)
    return file


# --- labels without images ---------------------------------------------------------------------


def test_row_i_belongs_to_row_i(labels: Path, tmp_path: Path) -> None:
    read = read_labels_with_features(labels, save(tmp_path / "x.npy", VALUES))
    manifest = read.source.manifest
    assert manifest.sample_ids.tolist() == NAMES
    assert manifest.class_names == ("neg", "pos")
    assert manifest.noisy_labels.tolist() == [1, 0, -1, 1] * 3
    assert manifest.name == "labels"
    np.testing.assert_array_equal(read.features, VALUES)
    assert isinstance(read.features, np.memmap)  # not copied
    assert list(read.details.columns) == ["text"]
    assert read.details["text"].tolist() == [f"text of {n}" for n in NAMES]
    assert read.source.warnings == ()


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", ">f4", "uint16"])
def test_numbers_of_other_types(labels: Path, tmp_path: Path, dtype: str) -> None:
    values = (VALUES * 10 + 50).astype(dtype)
    read = read_labels_with_features(labels, save(tmp_path / "x.npy", values))
    assert read.features.dtype == np.float32
    np.testing.assert_allclose(read.features, values.astype(np.float32))
    transposed = read_labels_with_features(labels, np.asfortranarray(VALUES))
    np.testing.assert_array_equal(transposed.features, VALUES)


def test_blank_lines_of_the_table_are_no_rows(tmp_path: Path, write: Any) -> None:
    file = write.text(tmp_path / "l.csv", "id,label\n\na,x\n\nb,y\n")
    read = read_labels_with_features(file, VALUES[:2])
    np.testing.assert_array_equal(read.features, VALUES[:2])


def test_parquet_by_id_in_any_order(labels: Path, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(12)
    read = read_labels_with_features(labels, write_parquet(tmp_path / "f.parquet", order))
    np.testing.assert_array_equal(read.features, VALUES)
    assert read.source.manifest.sample_ids.tolist() == NAMES


def test_rows_without_features_are_left_out_and_others_passed_over(
    labels: Path, tmp_path: Path
) -> None:
    file = tmp_path / "f.parquet"
    ids = [*NAMES[3:][::-1], "stranger"]
    values = [*VALUES[3:][::-1].tolist(), [9.0] * 5]
    pq.write_table(pa.table({"sample_id": ids, "embedding": values}), file)
    read = read_labels_with_features(labels, str(file))
    assert read.source.manifest.sample_ids.tolist() == NAMES[3:]
    np.testing.assert_array_equal(read.features, VALUES[3:])
    assert read.details["text"].tolist() == [f"text of {n}" for n in NAMES[3:]]
    assert read.details.index.tolist() == list(range(9))
    (warning,) = read.source.warnings
    assert warning == '3 samples left out, because they have no features: "t0", "t1", "t2"'
    assert read.source.skipped["reason"].unique().tolist() == ["it has no features in f.parquet"]


def test_many_columns_of_numbers(labels: Path, tmp_path: Path) -> None:
    table = pd.DataFrame(VALUES[::-1], columns=[f"f{i}" for i in range(5)])
    table.insert(0, "key", NAMES[::-1])
    table["label"] = 1
    table["remark"] = "x"
    table.to_parquet(tmp_path / "f.parquet", index=False)
    read = read_labels_with_features(labels, tmp_path / "f.parquet")
    np.testing.assert_array_equal(read.features, VALUES)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_column_of_the_table_itself(tmp_path: Path, kind: str, write: Any) -> None:
    vectors = [row.tolist() for row in VALUES]
    file = write.table(tmp_path / f"labels.{kind}", rows(vector=vectors, note=["n"] * 12))
    read = read_labels_with_features(file, "vector")
    np.testing.assert_array_equal(read.features, VALUES)
    assert list(read.details.columns) == ["text", "note"]


def test_lists_of_fixed_size_and_slices(labels: Path, tmp_path: Path) -> None:
    flat = pa.array(VALUES.ravel())
    for kind in (pa.list_(pa.float32(), 5), pa.large_list(pa.float64())):
        fixed = pa.FixedSizeListArray.from_arrays(flat, 5)
        table = pa.table({"id": NAMES, "x": fixed.cast(kind)})
        pq.write_table(table, tmp_path / "f.parquet", row_group_size=7)
        read = read_labels_with_features(labels, tmp_path / "f.parquet")
        np.testing.assert_array_equal(read.features, VALUES)


def test_splits_and_true_labels(tmp_path: Path, write: Any) -> None:
    file = write.table(
        tmp_path / "labels.parquet",
        rows(split=["train", "train", "test", "train"] * 3, truth=["pos"] * 12),
    )
    read = read_labels_with_features(file, VALUES, clean_label_column="truth")
    train = [i for i in range(12) if i % 4 != 2]
    np.testing.assert_array_equal(read.features, VALUES[train])
    assert read.source.manifest.sample_ids.tolist() == [NAMES[i] for i in train]
    assert read.details["text"].tolist() == [f"text of {NAMES[i]}" for i in train]
    assert 'only the split "train" was read' in read.source.warnings[0]
    assert read.source.clean_labels is not None
    assert set(read.source.clean_labels) == {"pos"}
    by_id = read_labels_with_features(
        file, write_parquet(tmp_path / "f.parquet", range(11, -1, -1))
    )
    np.testing.assert_array_equal(by_id.features, VALUES[train])


def test_rows_without_ids_are_called_by_their_number(tmp_path: Path, write: Any) -> None:
    file = write.text(tmp_path / "l.csv", "text,label\n" + "a,x\nb,y\n" * 6)
    read = read_labels_with_features(file, VALUES)
    assert read.source.manifest.sample_ids.tolist() == [str(i) for i in range(12)]
    assert read.source.warnings == ()
    repeated = write.text(tmp_path / "r.csv", "file,label\n" + "a,x\nb,y\n" * 6)
    read = read_labels_with_features(repeated, VALUES)
    assert read.source.manifest.sample_ids.tolist() == [str(i) for i in range(12)]
    (warning,) = read.source.warnings
    assert 'r.csv repeat: "a", "b"; rows are named by their number' in warning
    with pytest.raises(SourceError, match=r"repeat.*`id_column`"):
        read_labels_with_features(repeated, VALUES, id_column="file")
    with pytest.raises(SourceError, match=r"has no ids; name a column of ids.*`id_column`"):
        read_labels_with_features(file, write_parquet(tmp_path / "f.parquet"))


def test_a_table_of_images_is_read_without_them(tmp_path: Path, write: Any) -> None:
    file = write.parquet(tmp_path / "p.parquet", ["a", "b"] * 6, paths=[f"{n}.png" for n in NAMES])
    read = read_labels_with_features(file, VALUES)
    assert read.source.manifest.sample_ids.tolist() == [f"{n}.png" for n in NAMES]
    assert isinstance(read.source.manifest.images, NoImages)


def test_subsets_stay_aligned(labels: Path) -> None:
    part = read_labels_with_features(labels, VALUES).subset(np.array([5, 0]))
    np.testing.assert_array_equal(part.features, VALUES[[5, 0]])
    assert part.details["text"].tolist() == ["text of t5", "text of t0"]
    assert part.details.index.tolist() == [0, 1]
    mask = np.arange(12) > 9
    assert read_labels_with_features(labels, VALUES).subset(mask).details["text"].tolist() == [
        "text of t10",
        "text of t11",
    ]


def test_no_images_say_so() -> None:
    images = NoImages(3)
    assert len(images.subset(np.array([0, 2]))) == 2
    with pytest.raises(UnreadableImageError, match="labels and features, and no images"):
        images.read(0)
    with pytest.raises(SourceError, match="labels and features, and no images"):
        plan_images(images)


# --- features of images ------------------------------------------------------------------------


def test_features_join_images_by_id(folder: Path, tmp_path: Path, write: Any) -> None:
    table = write.text(tmp_path / "l.csv", "path,label\na.png,x\nb.png,y\nc.png,x\ndeep/d.png,y\n")
    source = read_source(folder, table)
    ids = ["deep/d.png", "c.png", "a.png"]
    pq.write_table(
        pa.table({"sample_id": ids, "features": VALUES[:3].tolist()}), tmp_path / "f.parquet"
    )
    joined = join_features(source, tmp_path / "f.parquet")
    assert joined.source.manifest.sample_ids.tolist() == ["a.png", "c.png", "deep/d.png"]
    np.testing.assert_array_equal(joined.features, VALUES[:3][::-1])
    assert len(joined.source.manifest.images) == 3
    assert joined.details.shape == (3, 0)
    with pytest.raises(SourceError, match=r"by their ids; give a parquet file"):
        join_features(source, tmp_path / "f.npy")


# --- what is refused ---------------------------------------------------------------------------


def test_features_that_do_not_fit_the_rows(labels: Path, tmp_path: Path) -> None:
    def expect(message: str, features: Any) -> None:
        with pytest.raises(SourceError, match=message) as raised:
            read_labels_with_features(labels, features)
        assert "\n" not in str(raised.value)

    bad = VALUES.copy()
    bad[7, 2] = np.nan
    expect(
        r"row 7 of .*x\.npy \(labels\.csv line 9\) has a feature that is not a finite number",
        save(tmp_path / "x.npy", bad),
    )
    bad[7, 2], bad[3, 0] = 0, np.inf
    expect(r"row 3 of the array of features", bad)
    expect(r"row 0 of the array", np.full((12, 2), 1e300))
    expect(
        r"x\.npy has 11 rows and .*labels\.csv has 12; give one row per row",
        save(tmp_path / "x.npy", VALUES[:11]),
    )
    expect(r"has the shape \(12,\); give \(rows, features\)", VALUES[:, 0])
    expect(r"has the shape \(12, 0\)", VALUES[:, :0])
    expect(r"holds <U1; give numbers", np.full((12, 2), "a"))
    expect("holds bool; give numbers", VALUES > 0)
    expect("does not exist", tmp_path / "none.npy")
    (tmp_path / "x.npy").write_bytes(b"no numbers")
    expect(r"is not a \.npy file of numbers", str(tmp_path / "x.npy"))
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    expect(r"is not a \.npy file of numbers", tmp_path / "o.npy")


def test_parquet_files_that_do_not_fit(labels: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.parquet"

    def expect(message: str, **columns: Any) -> None:
        pq.write_table(pa.table(columns), file)
        with pytest.raises(SourceError, match=message) as raised:
            read_labels_with_features(labels, file)
        assert "\n" not in str(raised.value)

    lists = VALUES.tolist()
    expect('ids in .* repeat: "t0"; keep one row', id=["t0", "t0", *NAMES[2:]], x=lists)
    expect('none of the 12 samples has features in .*"a".*"t0"', id=list("abcdefghijkl"), x=lists)
    expect('"t4" in .* not a finite number', id=NAMES, x=[*lists[:4], [np.nan] * 5, *lists[5:]])
    expect('"t2" in .* has 4 features; all rows', id=NAMES, x=[*lists[:2], [1.0] * 4, *lists[3:]])
    expect('"t2" in .* has no features', id=NAMES, x=[*lists[:2], None, *lists[3:]])
    expect('"t0" in .* has no features', id=NAMES, x=[None, *lists[1:]])
    expect("several columns of lists: x, y", id=NAMES, x=lists, y=lists)
    expect("no ids or no features", id=NAMES, text=NAMES)
    expect("no ids or no features", x=lists)
    expect("the id in row 0 .* is a list", id=[["a"]] * 12, x=lists)
    expect('"t3" in .*finite', id=NAMES, a=[1.0] * 12, b=[1.0] * 3 + [None] + [1.0] * 8)
    file.write_bytes(b"no parquet")
    with pytest.raises(SourceError, match="is not a parquet file"):
        read_labels_with_features(labels, file)
    with pytest.raises(SourceError, match="does not exist"):
        read_labels_with_features(labels, tmp_path / "none.parquet")


def test_lists_of_another_length_in_a_later_part_of_the_file(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelaudit.sources.feature_files.BLOCK_ROWS", 4)
    lists = [*VALUES[:8].tolist(), *VALUES[8:, :3].tolist()]
    pq.write_table(pa.table({"id": NAMES, "x": lists}), tmp_path / "f.parquet")
    with pytest.raises(SourceError, match=r'"t8" in .* has 3 features'):
        read_labels_with_features(labels, tmp_path / "f.parquet")


def test_columns_that_are_no_features(labels: Path, tmp_path: Path, write: Any) -> None:
    with pytest.raises(SourceError, match=r'"vector".*no file \.npy or \.parquet.*csv cannot hold'):
        read_labels_with_features(labels, "vector")
    for kind in ("jsonl", "parquet"):
        file = write.table(tmp_path / f"l.{kind}", rows(vector=[[1.0, 2.0]] * 12))
        with pytest.raises(SourceError, match=r'"vectors".*no column of.*id, text, label, vector'):
            read_labels_with_features(file, "vectors")
        with pytest.raises(SourceError, match=r"not a list of numbers"):
            read_labels_with_features(file, "text")
    broken = rows(vector=[[1.0, 2.0]] * 11 + [[1.0]])
    file = write.table(tmp_path / "b.jsonl", broken)
    with pytest.raises(SourceError, match=r'"vector" in b\.jsonl line 12 has 1 features'):
        read_labels_with_features(file, "vector")
    text = "".join(json.dumps(row) + "\n" for row in broken).replace("[1.0]", '[1.0, "x"]')
    with pytest.raises(SourceError, match="not a list of numbers"):
        read_labels_with_features(write.text(tmp_path / "c.jsonl", text), "vector")


# --- verified labels ---------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["row", "id"])
def test_rows_that_are_excluded_take_their_features_along(
    tmp_path: Path, write: Any, by: str
) -> None:
    marks = ["yes", "", "yes", "excluded"] * 3
    file = write.table(tmp_path / "l.csv", rows(done=marks))
    features = (
        save(tmp_path / "x.npy", VALUES) if by == "row" else write_parquet(tmp_path / "x.parquet")
    )
    read = read_labels_with_features(file, features, verified_column="done")
    kept = [i for i, mark in enumerate(marks) if mark != "excluded"]
    assert read.source.manifest.sample_ids.tolist() == [NAMES[i] for i in kept]
    np.testing.assert_array_equal(read.features, VALUES[kept])
    assert read.details["text"].tolist() == [f"text of {NAMES[i]}" for i in kept]
    assert list(read.details.columns) == ["text"]
    assert read.source.verified.tolist() == [True, False, False] * 3  # the third has no label
    assert read.source.num_excluded == 3
    assert any(line.startswith("3 samples excluded in the column") for line in read.source.warnings)


def test_first_labels_go_with_their_rows_and_are_not_shown(tmp_path: Path, write: Any) -> None:
    marks = ["yes", "", "yes", "excluded"] * 3
    file = write.table(tmp_path / "l.csv", rows(done=marks, first_label=["neg", "pos", "", ""] * 3))
    for features in (
        save(tmp_path / "x.npy", VALUES),
        write_parquet(tmp_path / "x.parquet", range(9)),  # others are left out
    ):
        read = read_labels_with_features(file, features, verified_column="done")
        total = read.source.manifest.num_samples
        assert read.source.first_given.tolist() == ([0, -1, -1] * 3)[:total]
        assert list(read.details.columns) == ["text"]
    alone = read_labels_alone(file, by_row=True, verified_column="done")
    assert alone.source.first_labels.tolist() == ["neg", "", ""] * 3
    assert list(alone.details.columns) == ["text"]

"""Duplicates with two labels: exact ones by content, near ones by what is usual in the data."""

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from labelaudit.suspects import duplicates as duplicates_module
from labelaudit.suspects import nearest as nearest_module
from labelaudit.suspects.duplicates import COLUMNS, conflicting_duplicates

NAMES = ("ant", "bee", "cow")


def cloud(count: int, dimensions: int, inner: int = 12, seed: int = 0) -> np.ndarray:
    """Points of a few intrinsic dimensions in many."""
    rng = np.random.default_rng(seed)
    inner = min(inner, dimensions)
    mix = rng.normal(size=(inner, dimensions)) / np.sqrt(inner)
    return (rng.normal(size=(count, inner)) @ mix + 5).astype(np.float32)


def find(embeddings: np.ndarray, labels: np.ndarray, **options: object) -> pd.DataFrame:
    ids = np.array([f"s{i}" for i in range(len(labels))], dtype=object)
    return conflicting_duplicates(embeddings, labels, ids, NAMES, **options)  # type: ignore[arg-type]


def pairs(table: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(table["sample_id_a"], table["sample_id_b"], strict=True))


# --- exact -------------------------------------------------------------------------------------


def test_copies_with_two_labels() -> None:
    points = cloud(200, 20)
    labels = np.zeros(200, np.int64)
    points[150] = points[3]
    labels[150] = 2
    points[60] = points[7]  # the same label twice is no conflict
    points[61] = points[8]
    labels[61] = -1  # nor is none
    table = find(points, labels)
    assert list(table.columns) == list(COLUMNS)
    assert table.iloc[0].tolist() == ["s3", "s150", "ant", "cow", 0.0, "exact"]
    assert len(table) == 1


def test_of_many_copies_the_uncommon_labels_are_listed() -> None:
    points = np.repeat(cloud(10, 6), 20, axis=0)
    labels = np.zeros(200, np.int64)
    labels[[4, 9, 30]] = [1, 2, 1]
    labels[0] = 1  # the example is the first of the most common label
    assert pairs(find(points, labels)) == {("s0", "s1"), ("s1", "s4"), ("s1", "s9"), ("s20", "s30")}


def test_content_hashes_decide_what_is_the_same() -> None:
    points = cloud(100, 20)
    points[1] = points[0]
    labels = np.zeros(100, np.int64)
    labels[[1, 51]] = 1
    hashes = np.array([i.to_bytes(16, "big") for i in range(100)], "V16")
    hashes[51] = hashes[50]
    table = find(points, labels, content_hashes=hashes)
    assert table["kind"].tolist() == ["exact", "near"]  # other files, same features
    assert pairs(table) == {("s50", "s51"), ("s0", "s1")}
    assert table["distance"].tolist() == [0, 0]


# --- near --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [2, 12, 300])
def test_near_duplicates_are_found_and_ordinary_neighbors_are_not(dimensions: int) -> None:
    rng = np.random.default_rng(1)
    even = rng.random((1000, dimensions), dtype=np.float32)
    points = even if dimensions < 4 else cloud(1000, dimensions)
    usual = np.sort(np.linalg.norm(points[:100, None] - points[None], axis=2), axis=1)[:, 1]
    shift = rng.normal(size=(40, dimensions))
    shift *= 0.02 * np.median(usual) / np.linalg.norm(shift, axis=1, keepdims=True)
    copies = points[:40] + shift.astype(np.float32)
    labels = rng.integers(0, 3, 1040)
    labels[1000:] = (labels[:40] + 1) % 3
    table = find(np.concatenate([points, copies]), labels)
    planted = {(f"s{i}", f"s{1000 + i}") for i in range(40)}
    assert len(pairs(table) & planted) >= 36
    assert len(pairs(table) - planted) <= 0.01 * 1000
    assert (np.diff(table["distance"]) >= 0).all()
    assert set(table["kind"]) == {"near"}


def test_near_is_relative_to_the_data() -> None:
    points = np.concatenate([cloud(500, 16), cloud(1, 16, seed=0) + 1e-3])
    labels = np.zeros(501, np.int64)
    labels[500] = 1
    for scale in (1e-4, 1.0, 1e4):
        assert pairs(find(points * np.float32(scale), labels)) == {("s0", "s500")}
    assert len(find(points[::5], labels[::5])) <= 1


def test_many_near_duplicates_do_not_make_them_usual() -> None:
    rng = np.random.default_rng(2)
    points = cloud(600, 40)
    twins = points[:150] + rng.normal(size=(150, 40)).astype(np.float32) * 0.01
    labels = np.zeros(750, np.int64)
    labels[600:] = 1
    table = find(np.concatenate([points, twins]), labels)
    assert len(pairs(table) & {(f"s{i}", f"s{600 + i}") for i in range(150)}) >= 145


def test_queries_limit_the_search() -> None:
    points = cloud(500, 30)
    points = np.concatenate([points, points[:20] + np.float32(1e-3)])
    labels = np.zeros(520, np.int64)
    labels[500:] = 1
    assert len(find(points, labels)) == 20
    table = find(points, labels, queries=np.array([3, 507, 300]))
    assert pairs(table) == {("s3", "s503"), ("s7", "s507")}


def test_blocks_and_projection_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = cloud(400, 200, inner=30)
    points = np.concatenate([points, points[:30] + np.float32(2e-3)])
    labels = np.random.default_rng(3).integers(0, 3, 430)
    whole = find(points, labels)
    assert len(whole) > 10
    for module in (duplicates_module, nearest_module):
        monkeypatch.setattr(module, "BLOCK_VALUES", 3000)
    pd.testing.assert_frame_equal(find(points, labels), whole)
    monkeypatch.setattr(nearest_module, "NUM_AXES", 300)
    pd.testing.assert_frame_equal(find(points, labels), whole)
    pd.testing.assert_frame_equal(find(points.astype(np.float64), labels), whole, rtol=1e-3)


# --- bounds ------------------------------------------------------------------------------------


def test_at_most_so_many_pairs_the_nearest_first() -> None:
    points = cloud(400, 10)
    points[:30] = points[100:130]
    points[30:60] = points[130:160] + np.float32(1e-4)
    labels = np.zeros(400, np.int64)
    labels[:60] = 1
    table = find(points, labels, max_pairs=40)
    assert table["kind"].value_counts().to_dict() == {"exact": 30, "near": 10}
    assert len(find(points, labels)) == 60


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_hardly_any_samples(count: int) -> None:
    table = find(cloud(count, 4), np.arange(count))
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 0


def test_all_samples_the_same_and_none_labeled() -> None:
    same = np.ones((50, 7), np.float32)
    labels = np.arange(50) % 2
    table = find(same, labels)
    assert len(table) == 25
    assert set(table["kind"]) == {"exact"}
    assert len(find(same, np.full(50, -1))) == 0


def test_features_most_of_which_are_constant_are_searched() -> None:
    # A covariance of many equal eigenvalues: single precision did not converge on it.
    rng = np.random.default_rng(0)
    points = np.zeros((1000, 1280), np.float32)
    fires = rng.choice(1280, 274, replace=False)  # of a ReLU that rarely does
    points[:, fires] = np.maximum(rng.normal(-1, 1, (1000, 274)), 0)
    points[600] = points[5]
    points[600, fires[0]] += 1e-4
    labels = np.zeros(1000, np.int64)
    labels[600] = 1
    assert pairs(find(points, labels)) == {("s5", "s600")}


def test_neighbors_that_are_known_are_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    points = cloud(300, 80)
    points[7] = points[150] + 0.01
    labels = np.random.default_rng(3).integers(0, 2, 300)
    labels[[7, 150]] = 0, 1
    searched = find(points, labels)
    known = NearestNeighbors(n_neighbors=11).fit(points).kneighbors(points)[1][:, 1:]
    monkeypatch.setattr(duplicates_module, "nearest", None)
    found = find(points, labels, neighbors=known)
    pd.testing.assert_frame_equal(searched, found)
    assert found[["sample_id_a", "sample_id_b", "kind"]].to_numpy().tolist() == [
        ["s7", "s150", "near"]
    ]

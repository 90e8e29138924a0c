import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelaudit.images.containers import ImageFiles, NoImages
from labelaudit.networks.standardize import standardizing_scale
from labelaudit.reporting import evidence
from labelaudit.reporting.evidence import nearest_right_labeled, source_pictures
from labelaudit.reporting.files import evidence_of
from labelaudit.sources.classes import text_array


def table(given: Any, flagged: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {"given_label": pd.Series(given, dtype="str"), "is_label_issue": np.asarray(flagged)}
    )


def names_of(values: Any) -> pd.Series:
    """Names as a table of suspects has them, whose index has nothing to do with rows."""
    return pd.Series(values, index=range(100, 100 + len(values)), dtype="str")


@pytest.mark.parametrize("block", [2, 4096])
def test_neighbors_are_near_labeled_as_wanted_and_not_flagged(monkeypatch, block) -> None:
    monkeypatch.setattr(evidence, "BLOCK_ROWS", block)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(120, 5)).astype(np.float32)
    names = np.array(["a", "b", "NA"], dtype=object)
    given = names[rng.integers(0, 3, 120)]
    given[::10] = None  # unlabeled
    flagged = (rng.random(120) < 0.2) & (given != None)  # noqa: E711
    rows = rng.permutation(np.flatnonzero(flagged))
    scale = np.array([1, 1, 5, 0, 1])
    samples = table(given, flagged)
    suggested = names[rng.integers(0, 3, len(rows))]
    for wanted in (suggested, given[rows]):
        found = nearest_right_labeled(points, samples, rows, names_of(wanted), scale)
        assert found.shape == (len(rows), 3)
        assert found.dtype == np.int64
        for row, name, near in zip(rows, wanted, found, strict=True):
            right = np.flatnonzero((given == name) & ~flagged)
            distance = np.linalg.norm((points[right] - points[row]) * scale, axis=1)
            assert near.tolist() == right[np.argsort(distance)[:3]].tolist()


@pytest.mark.parametrize("block", [2, 4096])
def test_no_sample_is_a_neighbor_of_itself(monkeypatch, block) -> None:
    """Also where it is not flagged and carries the label that is wanted."""
    monkeypatch.setattr(evidence, "BLOCK_ROWS", block)
    points = np.array([[0.0], [0.0], [1.0], [3.0], [7.0]])
    samples = table(["a"] * 5, [False] * 5)
    found = nearest_right_labeled(points, samples, np.arange(5), names_of(["a"] * 5))
    assert found.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [2, 0, 1], [3, 2, 0]]


def test_fewer_neighbors_leave_gaps() -> None:
    points = np.array([[0.0], [1.0], [2.0], [9.0]])
    samples = table(["a", "b", "b", "c"], [True, False, True, True])
    rows = np.array([0, 3, 1, 2])
    found = nearest_right_labeled(points, samples, rows, names_of(["b", "d", "b", None]))
    assert found.tolist() == [[1, -1, -1], [-1, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    nobody = nearest_right_labeled(points, samples, np.array([], int), names_of([]))
    assert nobody.shape == (0, 3)


def test_points_that_are_no_numbers_are_near_to_nothing() -> None:
    points = np.array([[0.0], [np.nan], [2.0], [9.0]])
    samples = table(["a", "a", "a", "b"], [False, False, False, True])
    found = nearest_right_labeled(points, samples, np.array([3, 1]), names_of(["a", "a"]))
    assert found.tolist() == [[2, 0, -1], [-1, -1, -1]]


def test_points_on_disk_are_read_where_they_are_needed(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float16)
    np.save(tmp_path / "points.npy", points)
    samples = table(["a", "b"] * 15, [row < 6 for row in range(30)])
    arguments = (samples, np.arange(6), names_of(["a"] * 6))
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    expected = nearest_right_labeled(points.astype(np.float32), *arguments)
    assert nearest_right_labeled(mapped, *arguments).tolist() == expected.tolist()
    assert (expected >= 6).all()


def test_large_features_do_not_drown_the_small_ones() -> None:
    """Features are standardized: the first one varies by thousands and tells nothing here."""
    features = np.array([[0, 0.0], [5000, 0.1], [1, 9.0], [4000, 0.2], [9000, 8.0]], np.float32)
    samples = table(["b", "a", "a", "a", "a"], [True, False, False, False, False])
    found = evidence_of(
        NoImages(5),
        samples,
        pd.DataFrame(index=range(5)),
        points=features,
        scale=standardizing_scale(features),
    )
    assert found.pictures is None
    assert found.neighbors is not None
    plain = nearest_right_labeled(features, samples, np.array([0]), names_of(["a"]))
    scaled = found.neighbors(np.array([0]), names_of(["a"]))
    assert plain.tolist() == [[2, 3, 1]]
    assert scaled.tolist() == [[3, 1, 2]]


def test_without_features_nothing_tells_what_lies_near(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 200).save(tmp_path / "one.png")
    images = ImageFiles(text_array([str(tmp_path / "one.png")]))
    found = evidence_of(images, table(["a"], [True]), pd.DataFrame({"k": ["v"]}), points=None)
    assert found.neighbors is None
    assert found.pictures is not None
    assert found.details["k"].tolist() == ["v"]
    assert list(found.pictures(np.array([0]), lambda row, image: image.getpixel((0, 0)))) == [200]


@pytest.fixture
def numbered(tmp_path: Path) -> list[str]:
    """Paths of twelve photos whose red is 20 times their row; 5 is broken, and 7 is not there."""
    paths = [str(tmp_path / f"{row}.jpg") for row in range(12)]
    for row, path in enumerate(paths):
        Image.new("RGB", (2400, 1200), (20 * row, 0, 0)).save(path)
    Path(paths[5]).write_bytes(b"broken")
    Path(paths[7]).unlink()
    return paths


def test_pictures_are_read_where_they_lie_and_broken_ones_are_none(numbered: list[str]) -> None:
    pictures = source_pictures(ImageFiles(text_array(numbered)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = list(pictures(np.array([2, 5, 7, 11]), lambda row, image: (row, image)))
    assert [one is None for one in seen] == [False, True, True, False]
    for one, row in ((seen[0], 2), (seen[3], 11)):
        assert one is not None
        assert one[0] == row
        assert type(one[0]) is int
        assert one[1].size == (1200, 600)  # decoded at half the size, which is fast
        assert abs(one[1].getpixel((5, 5))[0] - 20 * row) < 5


def test_what_is_made_of_pictures_comes_in_the_order_of_the_rows(numbered: list[str]) -> None:
    pictures = source_pictures(ImageFiles(text_array(numbered)))
    rows = np.array([11, 0, 3, 3, 10, 1, 2, 4, 6, 8, 9])
    reds = list(pictures(rows, lambda row, image: (row, round(image.getpixel((9, 9))[0] / 20))))
    assert reds == [(row, row) for row in rows]
    assert list(pictures(np.array([], np.int64), lambda row, image: row)) == []


def _no_room(row: int, image: Image.Image) -> int:
    if row == 3:
        raise OSError("cannot be encoded")
    return row


def _bug(row: int, image: Image.Image) -> int:
    raise RuntimeError("no image")


def test_a_picture_that_cannot_be_encoded_is_one_that_cannot_be_seen(numbered: list[str]) -> None:
    pictures = source_pictures(ImageFiles(text_array(numbered)))
    assert list(pictures(np.array([2, 3, 4]), _no_room)) == [2, None, 4]


def test_other_trouble_is_not_swallowed(numbered: list[str]) -> None:
    pictures = source_pictures(ImageFiles(text_array(numbered)))
    look: Callable[[int, Image.Image], int] = _bug
    with pytest.raises(RuntimeError, match="no image"):
        list(pictures(np.array([2, 3, 4]), look))

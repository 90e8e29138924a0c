import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelaudit.data.images import ImageFiles
from labelaudit.data.manifest import text_array
from labelaudit.reporting import evidence
from labelaudit.reporting.evidence import (
    nearest_right_labeled,
    source_pictures,
    stored_pictures,
)


def table(given, suggested, flagged) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "given_label": pd.Series(given, dtype="str"),
            "suggested_label": pd.Series(suggested, dtype="str"),
            "is_label_issue": flagged,
        }
    )


@pytest.mark.parametrize("block", [2, 4096])
def test_neighbors_are_near_labeled_as_suggested_and_not_flagged(monkeypatch, block) -> None:
    monkeypatch.setattr(evidence, "BLOCK_ROWS", block)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(120, 5)).astype(np.float32)
    names = np.array(["a", "b", "NA"], dtype=object)
    given = names[rng.integers(0, 3, 120)]
    given[::10] = None  # unlabeled
    suggested = names[rng.integers(0, 3, 120)]
    flagged = (rng.random(120) < 0.2) & (given != None)  # noqa: E711
    rows = np.flatnonzero(flagged)
    scale = np.array([1, 1, 5, 0, 1])
    found = nearest_right_labeled(points, table(given, suggested, flagged), rows, scale)
    assert found.shape == (len(rows), 3)
    for row, near in zip(rows, found, strict=True):
        right = np.flatnonzero((given == suggested[row]) & ~flagged)
        distance = np.linalg.norm((points[right] - points[row]) * scale, axis=1)
        assert near.tolist() == right[np.argsort(distance)[:3]].tolist()


def test_fewer_neighbors_leave_gaps() -> None:
    points = np.array([[0.0], [1.0], [2.0], [9.0]])
    samples = table(["a", "b", "b", "c"], ["b", "a", "a", "d"], [True, False, True, True])
    found = nearest_right_labeled(points, samples, np.array([0, 3]))
    assert found.tolist() == [[1, -1, -1], [-1, -1, -1]]
    assert nearest_right_labeled(points, samples, np.array([], int)).shape == (0, 3)


def test_stored_pictures_are_those_of_the_rows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6)).astype(np.uint8)
    seen = list(stored_pictures(pixels)(np.array([3, 1])))
    assert [image.mode for image in seen if image] == ["RGB", "RGB"]
    assert seen[0] is not None
    np.testing.assert_array_equal(np.asarray(seen[0]), pixels[3].transpose(1, 2, 0))
    (grey,) = stored_pictures(pixels[:, :1])(np.array([2]))
    assert grey is not None
    np.testing.assert_array_equal(np.asarray(grey), pixels[2, 0])


def test_pictures_are_read_where_they_lie_and_broken_ones_are_none(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{row}.jpg") for row in range(12)]
    for row, path in enumerate(paths):
        Image.new("RGB", (1600, 900), (20 * row, 0, 0)).save(path)
    Path(paths[5]).write_bytes(b"broken")
    Path(paths[7]).unlink()
    pictures = source_pictures(ImageFiles(text_array(paths)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = list(pictures(np.array([2, 5, 7, 11])))
    assert [image is None for image in seen] == [False, True, True, False]
    for image, row in ((seen[0], 2), (seen[3], 11)):
        assert image is not None
        assert image.width < 1600  # decoded small
        assert abs(image.getpixel((5, 5))[0] - 20 * row) < 5

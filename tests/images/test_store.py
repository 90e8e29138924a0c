import numpy as np
import pytest

from labelaudit.errors import SourceError
from labelaudit.images import store
from labelaudit.images.store import copy_rows, keep_rows, make_store


def test_a_small_store_is_in_memory_and_a_large_one_is_a_file_without_a_name(tmp_path, monkeypatch):
    assert not isinstance(make_store((4, 3), np.uint8, tmp_path), np.memmap)
    monkeypatch.setattr(store, "LARGEST_IN_MEMORY", 100)
    small = make_store((100,), np.uint8, tmp_path)
    large = make_store((26, 1), np.float32, tmp_path / "run that is not there yet")
    assert not isinstance(small, np.memmap)
    assert isinstance(large, np.memmap)
    assert large.shape == (26, 1)
    assert large.dtype == np.float32
    assert not large.any()
    large[:] = 2.5
    assert large.sum() == 65
    assert list(tmp_path.iterdir()) == []


def test_no_room_on_the_disk_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(SourceError, match=r"need 1048576\.0 GiB, but .* `out`"):
        make_store((1 << 30, 1 << 20), np.uint8, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_rows_are_left_out_in_place(share, monkeypatch):
    monkeypatch.setattr(store, "MOVED_ROWS", 7)
    rng = np.random.default_rng(0)
    values = rng.integers(0, 255, (100, 2, 3)).astype(np.uint8)
    keep = rng.random(100) < share
    expected = values[keep]
    kept = keep_rows(values, keep)
    np.testing.assert_array_equal(kept, expected)
    assert kept.size == 0 or np.shares_memory(kept, values)


def test_chosen_rows_are_copied_in_blocks_and_a_large_copy_is_mapped(monkeypatch):
    values = np.arange(60, dtype=np.float32).reshape(20, 3)
    monkeypatch.setattr(store, "MOVED_ROWS", 4)
    chosen = np.array([19, 0, 7, 7, 3])
    mask = values[:, 0] > 20
    for largest, kind in ((10**6, np.ndarray), (10, np.memmap)):
        monkeypatch.setattr(store, "LARGEST_IN_MEMORY", largest)
        for rows in (chosen, mask):
            copy = copy_rows(values, rows)
            assert type(copy) is kind
            np.testing.assert_array_equal(copy, values[rows])
            assert not np.shares_memory(copy, values)

"""Where encoded images lie: files, arrays and parquet."""

import io
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelaudit.images import containers
from labelaudit.images.containers import (
    ImageFiles,
    ParquetImages,
)
from labelaudit.images.decode import decode_images, decode_source
from labelaudit.images.pillow import load_image
from labelaudit.images.plan import plan_images

GREY = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)


def encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_image_files(tmp_path: Path) -> None:
    files = []
    for i in range(3):
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(GREY + np.uint8(i)).save(files[-1])
    images = ImageFiles(np.array([*files, str(tmp_path / "gone.png")], dtype=object))
    part = images.subset(np.array([3, 2]))
    decoded = decode_source(part, plan_images(part))
    assert decoded.unreadable == {0: "the file does not exist"}
    np.testing.assert_array_equal(decoded.pixels[1, 0], GREY + np.uint8(2))


def write_shards(folder: Path, shards: int, rows: int, group: int) -> list[Path]:
    files = []
    for shard in range(shards):
        cells = [
            {"bytes": encoded(Image.fromarray(GREY + np.uint8(shard * rows + i))), "path": None}
            for i in range(rows)
        ]
        files.append(folder / f"{shard}.parquet")
        pq.write_table(pa.table({"image": cells}), files[-1], row_group_size=group)
    return files


def read_groups(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """Count how often each row group is read, and see that nothing reads a whole table."""
    counts: Counter[tuple[str, int]] = Counter()
    lock = threading.Lock()
    original = containers._Shard.read

    def read(shard: Any, group: int) -> Any:
        with lock:
            counts[shard.file.name, group] += 1
        time.sleep(0.002)  # long enough for another thread to want the same
        return original(shard, group)

    monkeypatch.setattr(containers._Shard, "read", read)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *a, **k: pytest.fail("read whole"))
    return counts


def test_parquet_row_groups_are_each_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_shards(tmp_path, shards=3, rows=35, group=8)
    images = ParquetImages(files, "image", np.repeat(np.arange(3), 35), np.tile(np.arange(35), 3))
    counts = read_groups(monkeypatch)
    decoded = decode_images(images, height=5, width=7, channels=1, workers=8)
    for i in range(105):
        np.testing.assert_array_equal(decoded.pixels[i, 0], GREY + np.uint8(i))
    assert len(counts) == 15
    assert set(counts.values()) == {1}


def test_parquet_images_are_read_lazily_and_kept_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_shards(tmp_path, shards=1, rows=80, group=8)
    monkeypatch.setattr(containers, "ROW_GROUP_CACHE_BYTES", 1)
    counts = read_groups(monkeypatch)
    images = ParquetImages(files, "image", np.zeros(80, int), np.arange(80))
    part = images.subset(np.array([79, 17, 16]))
    assert not counts
    np.testing.assert_array_equal(np.asarray(load_image(part.read(1))), GREY + np.uint8(17))
    assert counts == {("0.parquet", 2): 1}
    for index in (2, 0, 1):  # the two row groups used last stay
        part.read(index)
    assert counts == {("0.parquet", 2): 1, ("0.parquet", 9): 1}
    for index in range(80):
        images.read(index)
    assert len(images._groups._groups) == 2


def test_a_damaged_row_group_costs_its_images_alone(tmp_path: Path) -> None:
    (file,) = write_shards(tmp_path, shards=1, rows=24, group=8)
    chunk = pq.ParquetFile(file).metadata.row_group(1).column(0)
    data = bytearray(file.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    file.write_bytes(data)
    images = ParquetImages([file], "image", np.zeros(24, int), np.arange(24))
    decoded = decode_images(images, height=5, width=7, channels=1, workers=3)
    assert list(decoded.unreadable) == list(range(8, 16))
    np.testing.assert_array_equal(decoded.pixels[23, 0], GREY + np.uint8(23))

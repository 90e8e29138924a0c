"""Features of images: the cache knows content, survives kills, and never mixes anything up."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labelaudit.errors import OptionError, OutputError
from labelaudit.features import cache as cache_module
from labelaudit.features import extraction
from labelaudit.features.backbones import open_backbone
from labelaudit.features.cache import (
    FeatureStore,
    content_key,
    default_cache_dir,
)
from labelaudit.features.extraction import extract_features
from labelaudit.images.containers import ImageArrays, ImageFiles

SIDE = 4


class Preprocess:
    """Resizes to `SIDE`."""

    resize = SIDE

    def __call__(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE))).transpose(2, 0, 1)


class FakeBackbone:
    """Gives the mean color and a multiple of it, and counts the images that it sees."""

    name = "fake"
    device = torch.device("cpu")
    feature_size = 4
    image_size = SIDE
    preprocess = Preprocess()

    def __init__(self, identity: str = "fake-1", scale: float = 1.0) -> None:
        self.identity = identity
        self.scale = scale
        self.seen = 0
        self.interrupt_at = -1

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (3, SIDE, SIDE)
        if 0 <= self.interrupt_at <= self.seen:
            raise KeyboardInterrupt
        self.seen += len(pixels)
        mean = pixels.float().mean((2, 3)) / 255
        return torch.cat([mean, mean[:, :1] * 2], 1) * self.scale


@pytest.fixture
def photos(tmp_path: Path) -> ImageFiles:
    """Forty files of one color each."""
    return ImageFiles(write_photos(tmp_path / "photos", range(40)))


def write_photos(folder: Path, colors: Any) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for color in colors:
        paths.append(str(folder / f"{color}.png"))
        Image.new("RGB", (6, 5), (color, 2 * color, 255 - color)).save(paths[-1])
    return np.array(paths, dtype=object)


def expected(colors: Any) -> np.ndarray:
    rows = [(c / 255, 2 * c / 255, 1 - c / 255, 2 * c / 255) for c in colors]
    return np.array(rows, np.float32)


def extract(images: Any, backbone: Any, cache: Path, **options: Any) -> Any:
    return extract_features(images, backbone, cache_dir=cache, **options)


# --- what is computed --------------------------------------------------------------------------


def test_features_of_wide_images_belong_to_the_range_of_their_source(tmp_path: Path) -> None:
    paths = []
    for value in (1000, 1050, 1100, 5000):
        paths.append(str(tmp_path / f"{value}.png"))
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(paths[-1])
    files = np.array(paths, dtype=object)
    backbone = FakeBackbone()
    three = extract(ImageFiles(files[:3]), backbone, tmp_path / "cache")
    np.testing.assert_allclose(three.features[:, 0], [0, 0.5, 1], atol=5e-3)
    again = extract(ImageFiles(files[:3]), backbone, tmp_path / "cache")
    assert again.num_computed == 0
    four = extract(ImageFiles(files), backbone, tmp_path / "cache")
    assert four.num_computed == 4
    np.testing.assert_allclose(four.features[:, 0], [0, 0.0125, 0.025, 1], atol=5e-3)


def test_features_come_in_order_and_only_once(photos: ImageFiles, tmp_path: Path) -> None:
    backbone = FakeBackbone()
    reached: list[int] = []
    first = extract(photos, backbone, tmp_path, on_progress=reached.append)
    assert first.features.dtype == np.float32
    np.testing.assert_allclose(first.features, expected(range(40)), atol=1e-3)
    assert (first.num_computed, backbone.seen, first.unreadable) == (40, 40, {})
    assert reached == sorted(reached)
    assert reached[-1] == 40
    again = extract(photos, backbone, tmp_path, workers=1)
    assert (again.num_computed, backbone.seen) == (0, 40)
    np.testing.assert_array_equal(again.features, first.features)
    np.testing.assert_array_equal(again.content_hashes, first.content_hashes)


def test_other_order_other_names_and_new_images(photos: ImageFiles, tmp_path: Path) -> None:
    backbone = FakeBackbone()
    first = extract(photos, backbone, tmp_path)
    order = np.random.default_rng(0).permutation(40)[:25]
    np.testing.assert_array_equal(
        extract(photos.subset(order), backbone, tmp_path).features, first.features[order]
    )
    colors = [39, 100, 0, 101, 100]
    moved = ImageFiles(write_photos(tmp_path / "moved", colors))
    more = extract(moved, backbone, tmp_path)
    assert more.num_computed == 2  # 100 occurs twice
    assert backbone.seen == 42
    np.testing.assert_allclose(more.features, expected(colors), atol=1e-3)
    np.testing.assert_array_equal(more.features[0], first.features[39])
    assert more.content_hashes[1] == more.content_hashes[4] != more.content_hashes[3]


def test_changed_files_are_other_images(photos: ImageFiles, tmp_path: Path) -> None:
    backbone = FakeBackbone()
    extract(photos, backbone, tmp_path)
    Image.new("RGB", (6, 5), "white").save(tmp_path / "photos" / "7.png")
    changed = extract(photos, backbone, tmp_path)
    assert changed.num_computed == 1
    np.testing.assert_allclose(changed.features[7], [1, 1, 1, 2])


def test_arrays_are_known_by_their_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (9, 5, 7, 3), dtype=np.uint8)
    backbone = FakeBackbone()
    first = extract(ImageArrays(color), backbone, tmp_path)
    reversed_view = ImageArrays(color[:, :, :, :][::-1])
    second = extract(reversed_view, backbone, tmp_path)
    assert (first.num_computed, second.num_computed) == (9, 0)
    np.testing.assert_array_equal(second.features, first.features[::-1])
    assert content_key(np.zeros((2, 3), np.uint8)) != content_key(np.zeros((3, 2), np.uint8))
    assert content_key(np.zeros((2, 3), np.uint8)) != content_key(bytes(6))


def test_unreadable_images_have_reasons(photos: ImageFiles, tmp_path: Path) -> None:
    (tmp_path / "photos" / "3.png").unlink()
    (tmp_path / "photos" / "5.png").write_bytes(b"")
    (tmp_path / "photos" / "38.png").write_bytes(b"GIF8 and then nothing")
    for _ in range(2):
        found = extract(photos, FakeBackbone(), tmp_path)
        assert list(found.unreadable) == [3, 5, 38]
        assert found.unreadable[3] == "the file does not exist"
        assert found.unreadable[5] == "the file is empty"
        assert not found.features[[3, 5, 38]].any()
        np.testing.assert_allclose(found.features[4], expected([4])[0], atol=1e-3)
    (tmp_path / "photos" / "3.png").write_bytes((tmp_path / "photos" / "4.png").read_bytes())
    mended = extract(photos, FakeBackbone(), tmp_path)
    assert list(mended.unreadable) == [5, 38]


def test_backbones_do_not_share_features(photos: ImageFiles, tmp_path: Path) -> None:
    one = extract(photos, FakeBackbone(), tmp_path)
    other = extract(photos, FakeBackbone("fake-2", scale=3.0), tmp_path)
    assert other.num_computed == 40
    np.testing.assert_allclose(other.features, 3 * one.features, atol=1e-2)


def test_values_too_large_or_too_small_for_half_precision(
    photos: ImageFiles, tmp_path: Path
) -> None:
    for identity, scale in (("large", 1e6), ("small", 1e-7)):
        found = extract(photos, FakeBackbone(identity, scale), tmp_path)
        np.testing.assert_allclose(found.features, expected(range(40)) * scale, rtol=1e-5)


def test_features_that_are_not_finite(photos: ImageFiles, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="fake gives features that are not finite"):
        extract(photos, FakeBackbone(scale=float("nan")), tmp_path)


def test_the_result_may_lie_elsewhere(photos: ImageFiles, tmp_path: Path) -> None:
    def allocate(shape: tuple[int, int]) -> np.ndarray:
        return np.memmap(tmp_path / "out", np.float32, "w+", shape=shape)

    found = extract(photos, FakeBackbone(), tmp_path, allocate=allocate)
    assert isinstance(found.features, np.memmap)
    np.testing.assert_allclose(found.features, expected(range(40)), atol=1e-3)


def test_no_images(tmp_path: Path) -> None:
    found = extract(ImageFiles(np.array([], dtype=object)), FakeBackbone(), tmp_path)
    assert found.features.shape == (0, 4)


def test_large_photos_are_reduced_while_they_are_decoded(tmp_path: Path) -> None:
    gradient = np.linspace(0, 255, 640).astype(np.uint8)
    photo = Image.fromarray(np.tile(gradient, (480, 1)))
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=95)
    path = tmp_path / "photo.jpg"
    path.write_bytes(stream.getvalue())
    found = extract(ImageFiles(np.array([str(path)], dtype=object)), FakeBackbone(), tmp_path)
    np.testing.assert_allclose(found.features[0, :3], 0.5, atol=0.01)


# --- what is kept ------------------------------------------------------------------------------


def test_what_was_computed_before_an_interruption_is_kept(
    photos: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "LARGEST_BATCH", 8)
    backbone = FakeBackbone()
    backbone.interrupt_at = 16
    with pytest.raises(KeyboardInterrupt):
        extract(photos, backbone, tmp_path)
    assert backbone.seen == 16
    backbone.interrupt_at = -1
    assert extract(photos, backbone, tmp_path).num_computed == 24
    np.testing.assert_allclose(
        extract(photos, backbone, tmp_path).features, expected(range(40)), atol=1e-3
    )


CHILD = """
import sys, time
import numpy as np
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from test_cache import FakeBackbone, cache_module, extraction, ImageFiles, extract_features

class Slow(FakeBackbone):
    def __call__(self, pixels):
        time.sleep(float(sys.argv[4]))
        return super().__call__(pixels)

extraction.LARGEST_BATCH = 4
cache_module.PART_SECONDS = 0.0
paths = np.array([f"{sys.argv[2]}/{color}.png" for color in range(40)], dtype=object)
found = extract_features(ImageFiles(paths), Slow(), cache_dir=sys.argv[3])
np.save(f"{sys.argv[3]}/{sys.argv[5]}.npy", found.features)
"""


def test_a_kill_and_two_processes_at_once(photos: ImageFiles, tmp_path: Path) -> None:
    def start(seconds: float, name: str) -> subprocess.Popen[bytes]:
        arguments = [Path(__file__).parent, tmp_path / "photos", tmp_path, seconds, name]
        return subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)])

    killed, whole = start(0.3, "killed"), start(0.05, "whole")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("features/*/*.part")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert whole.wait(timeout=60) == 0
    np.testing.assert_allclose(np.load(tmp_path / "whole.npy"), expected(range(40)), atol=1e-3)
    backbone = FakeBackbone()
    np.testing.assert_array_equal(
        extract(photos, backbone, tmp_path).features, np.load(tmp_path / "whole.npy")
    )
    assert backbone.seen == 0


def test_stores_side_by_side_see_what_is_whole(tmp_path: Path) -> None:
    keys = [bytes([i] * 16) for i in range(6)]
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    one, other = (FeatureStore(tmp_path, "fake", 2) for _ in range(2))
    one.add(keys[:4], values[:4])
    other.add(keys[2:], values[2:])
    assert one.keys() == set()
    one.keep()
    assert other.keys() == set(keys[:4])
    other.keep()
    assert one.keys() == set(keys)
    out = np.full((4, 2), -1, np.float32)
    wanted = np.array([keys[5], keys[0], keys[5], b"?" * 16], "V16")
    one.fetch(wanted, np.array([0, 1, 2]), out)
    np.testing.assert_array_equal(out, [*values[[5, 0, 5]], [-1, -1]])
    with pytest.raises(OutputError, match="some of them are missing"):
        one.fetch(wanted, np.arange(4), out)


def test_keys_that_end_in_zeros(tmp_path: Path) -> None:
    keys = [bytes(16), b"\1" + bytes(15)]
    with FeatureStore(tmp_path, "fake", 1) as store:
        store.add(keys, np.array([[1], [2]], np.float32))
    assert store.keys() == set(keys)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "other"])
def test_damaged_files_are_computed_again(photos: ImageFiles, tmp_path: Path, damage: str) -> None:
    extract(photos, FakeBackbone(), tmp_path)
    (part,) = tmp_path.glob("features/fake-1/*.part")
    data = part.read_bytes()
    if damage == "other":
        with FeatureStore(tmp_path, "else", 9) as store:
            store.add([bytes(16)], np.zeros((1, 9), np.float32))
        (other,) = store.folder.glob("*.part")
        data = other.read_bytes()
    part.write_bytes(
        {"cut": data[:-10], "garbage": b"\x93NUMPY nonsense", "empty": b"", "other": data}[damage]
    )
    backbone = FakeBackbone()
    again = extract(photos, backbone, tmp_path)
    assert backbone.seen == 40
    np.testing.assert_allclose(again.features, expected(range(40)), atol=1e-3)


def flip_a_byte(part: Path) -> None:
    data = bytearray(part.read_bytes())
    data[-100] ^= 0x20  # in the features
    part.write_bytes(data)


def edit(part: Path) -> None:
    with part.open("rb") as file:
        keys, features = np.load(file), np.load(file)
    with part.open("wb") as file:
        np.save(file, keys)
        np.save(file, features[::-1])


@pytest.mark.parametrize("damage", [flip_a_byte, edit])
def test_changed_features_are_computed_again(
    photos: ImageFiles, tmp_path: Path, damage: Any
) -> None:
    first = extract(photos, FakeBackbone(), tmp_path)
    (part,) = tmp_path.glob("features/fake-1/*.part")
    damage(part)
    backbone = FakeBackbone()
    again = extract(photos, backbone, tmp_path)
    assert again.damaged == (part,)
    assert backbone.seen == again.num_computed == 40
    np.testing.assert_array_equal(again.features, first.features)
    assert not part.exists()
    third = extract(photos, backbone, tmp_path)
    assert (third.damaged, third.num_computed) == ((), 0)


def test_only_the_features_in_a_damaged_file_are_computed_again(
    photos: ImageFiles, tmp_path: Path
) -> None:
    extract(photos.subset(np.arange(10)), FakeBackbone(), tmp_path)
    (part,) = tmp_path.glob("features/fake-1/*.part")
    extract(photos.subset(np.arange(5, 40)), FakeBackbone(), tmp_path)
    extract(photos.subset(np.arange(5)), FakeBackbone(), tmp_path)
    flip_a_byte(part)
    again = extract(photos, FakeBackbone(), tmp_path)
    assert again.num_computed == 10
    np.testing.assert_allclose(again.features, expected(range(40)), atol=1e-3)


def test_parts_are_written_now_and_then(
    photos: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "LARGEST_BATCH", 5)
    monkeypatch.setattr(cache_module, "PART_ROWS", 10)
    found = extract(photos, FakeBackbone(), tmp_path)
    assert len(list(tmp_path.glob("features/fake-1/*.part"))) == 4
    np.testing.assert_allclose(found.features, expected(range(40)), atol=1e-3)


# --- where -------------------------------------------------------------------------------------


def test_the_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("LABELAUDIT_CACHE", "~/mine")
    assert default_cache_dir() == Path.home() / "mine"
    monkeypatch.delenv("LABELAUDIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "labelaudit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "labelaudit"


@pytest.mark.skipif(sys.platform != "linux", reason="home folders of other systems differ")
def test_an_account_without_a_home_is_told_to_name_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a container that runs with the id of a user whom it does not know."""
    for name in ("HOME", "LABELAUDIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(OutputError, match=r"no home folder.*set LABELAUDIT_CACHE") as raised:
        default_cache_dir()
    assert "\n" not in str(raised.value)
    with pytest.raises(OptionError, match=r"weights ~/r18\.pth does not exist"):
        open_backbone("resnet18", "~/r18.pth", torch.device("cpu"), None)
    monkeypatch.setenv("LABELAUDIT_CACHE", "~/mine")
    with pytest.raises(OutputError, match="set LABELAUDIT_CACHE"):
        default_cache_dir()
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path


def test_a_cache_that_cannot_be_made(photos: ImageFiles, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OutputError, match=r"cannot be cached in .*file.*LABELAUDIT_CACHE"
    ) as raised:
        extract(photos, FakeBackbone(), tmp_path / "file")
    assert "\n" not in str(raised.value)


def test_a_disk_that_is_full(
    photos: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OutputError, match=r"No space left on device.*LABELAUDIT_CACHE"):
        extract(photos, FakeBackbone(), tmp_path)

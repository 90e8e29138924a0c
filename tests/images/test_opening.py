"""What is opened at all: raster formats, regular files, and images of a sane size."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import EpsImagePlugin, Image

from labelaudit.images import containers, opening
from labelaudit.images.containers import (
    CellImages,
    ImageFiles,
    ParquetImages,
    UnreadableImageError,
    read_regular,
)
from labelaudit.images.decode import decode_images
from labelaudit.images.pillow import load_image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        load_image(data)
    return str(caught.value)


# --- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"\xc5\xd0\xd3\xc6" + bytes(28)])
def test_postscript_starts_no_program(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a))
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: started.append(a))
    assert "PostScript is not read" in reason(start + EPS)
    assert not started


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"\xd7\xcd\xc6\x9a" + bytes(40), "WMF"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"\xff\x0a" + bytes(64), "JPEG XL"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_other_formats_say_what_they_are(data: bytes, words: str) -> None:
    assert words in reason(data)


@pytest.mark.parametrize("kind", ["DDS", "ICNS", "SPIDER", "MSP"])
def test_only_common_raster_formats_are_tried(kind: str) -> None:
    mode = {"SPIDER": "F", "MSP": "1"}.get(kind, "RGB")
    assert "not an image" in reason(encoded(Image.new(mode, (32, 32)), kind))


@pytest.mark.parametrize(
    "kind",
    ["BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TGA", "WEBP"],
)
def test_common_raster_formats_are_read(kind: str) -> None:
    image = load_image(encoded(Image.new("RGB", (32, 32), (200, 30, 30)), kind))
    np.testing.assert_allclose(np.asarray(image)[16, 16], [200, 30, 30], atol=8)


def test_avif_is_read_or_the_advice_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    if opening.features.check("avif"):
        data = encoded(Image.new("RGB", (32, 32), (200, 30, 30)), "AVIF")
        np.testing.assert_allclose(np.asarray(load_image(data))[9, 9], [200, 30, 30], atol=8)
    else:
        data = b"\0\0\0\x20ftypavif\0\0\0\0avifmif1" + bytes(64)
    monkeypatch.setattr(opening.features, "check", lambda name: False)
    assert "install pillow 11.3" in reason(data)


def test_heic_is_read_by_its_extra() -> None:
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 30, 30))).save(stream)
    image = load_image(stream.getvalue())
    assert image.size == (64, 48)
    np.testing.assert_allclose(np.asarray(image)[9, 9], [200, 30, 30], atol=8)


def test_heic_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
    assert 'pip install "labelaudit[heif]"' in reason(data)


# --- images that fill the memory ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "1", {}),
        ("GIF", "L", {}),
        ("WEBP", "RGB", {"lossless": True, "method": 0}),
        ("TIFF", "L", {"compression": "tiff_deflate"}),
        ("JPEG", "L", {"progressive": True}),
    ],
)
def test_small_files_of_many_pixels_are_not_decoded(
    kind: str, mode: str, options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BOMB_BYTES", 2**20)
    data = encoded(Image.new(mode, (2000, 1000)), kind, **options)
    assert "2,000 x 1,000 pixels" in reason(data)
    assert f"{len(data):,} bytes" in reason(data)


def test_a_png_in_an_icon_is_no_larger_than_an_icon() -> None:
    icon = encoded(Image.new("RGBA", (64, 64)), "ICO", sizes=[(64, 64)])
    assert load_image(icon).size == (64, 64)
    large = encoded(Image.new("L", (2000, 1200)))
    assert "2,000 x 1,200" in reason(icon[: icon.find(b"\x89PNG")] + large)


def test_large_photos_are_decoded_to_a_small_size() -> None:
    data = encoded(Image.new("L", (10_000, 10_000), 77), "JPEG")
    assert len(data) < 2**21
    cells = [{"image": {"bytes": data, "path": None}}]
    decoded = decode_images(CellImages(cells, "image"), height=8, width=8, channels=1)
    assert not decoded.unreadable
    assert (abs(decoded.pixels.astype(int) - 77) < 3).all()


def test_large_images_are_decoded_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening._ROOM, "_size", 1)
    data = encoded(Image.new("L", (40, 40), 7))
    cells = [{"image": {"bytes": data, "path": None}}] * 50
    decoded = decode_images(CellImages(cells, "image"), height=8, width=8, channels=1, workers=8)
    assert (decoded.pixels == 7).all()


# --- files that are not regular ----------------------------------------------------------------


def test_only_regular_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    os.mkfifo("pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket")
    Path("folder").mkdir()
    for name, target in {
        "to_pipe": "pipe", "to_device": "/dev/zero", "to_socket": "socket", "to_folder": "folder",
        "to_itself": "to_itself", "to_nothing": "nothing",
    }.items():  # fmt: skip
        Path(name).symlink_to(target)
    Path("good").write_bytes(encoded(Image.new("L", (4, 4), 9)))
    Path("to_good").symlink_to("good")
    names = ["to_pipe", "pipe", "to_device", "to_socket", "to_folder", "to_itself", "to_nothing"]
    images = ImageFiles(np.array([*names, "a\0b", "x" * 300, "to_good"], dtype=object))
    decoded = decode_images(images, height=4, width=4, channels=1)
    server.close()
    words = [
        "named pipe",
        "named pipe",
        "device",
        "socket",
        "folder",
        "symbolic links",
        "not exist",
    ]
    for found, word in zip(
        decoded.unreadable.values(), [*words, "null byte", "too long"], strict=True
    ):
        assert word in found
    assert (decoded.pixels[9] == 9).all()


def test_a_cell_may_not_name_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    cells = [{"bytes": None, "path": "pipe.png"}, {"bytes": None, "path": "/dev/zero"}]
    pq.write_table(pa.table({"image": cells}), tmp_path / "t.parquet")
    images = ParquetImages([tmp_path / "t.parquet"], "image", np.zeros(2, int), np.arange(2))
    with pytest.raises(OSError, match="named pipe"):
        images.read(0)
    with pytest.raises(OSError, match="leaves the folder"):
        images.read(1)
    rows = [{"image": {"bytes": None, "path": "/dev/zero"}}]
    with pytest.raises(OSError, match="device"):
        CellImages(rows, "image").read(0)


def test_a_sparse_file_is_no_image(tmp_path: Path) -> None:
    for size, words in ((300 * 2**30, "too many for an image"), (100 * 2**20, "begins with zeros")):
        with (tmp_path / "x.png").open("wb") as file:
            file.truncate(size)
        with pytest.raises(OSError, match=words):
            read_regular(tmp_path / "x.png")


def test_a_parquet_file_that_unpacks_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "LARGEST_ROW_GROUP", 2**20)
    cells = [{"bytes": bytes(2**21), "path": None}]
    pq.write_table(pa.table({"image": cells}), tmp_path / "t.parquet", compression="zstd")
    images = ParquetImages([tmp_path / "t.parquet"], "image", np.zeros(1, int), np.zeros(1, int))
    with pytest.raises(OSError, match="unpacks from"):
        images.read(0)


def test_an_image_that_is_repeated_in_parquet_is_held_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "LARGEST_ROW_GROUP", 2**20)
    noise = os.urandom(2**18)
    cells = [{"bytes": noise, "path": None}] * 200
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": cells}), file, dictionary_pagesize_limit=2**30)
    del cells
    before = pa.total_allocated_bytes()
    images = ParquetImages([file], "image", np.zeros(200, int), np.arange(200))
    assert images.read(150) == noise
    assert pa.total_allocated_bytes() - before < 2**22  # 200 of them would be 50 MiB

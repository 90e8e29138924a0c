"""Decoding: what a person would see, exactly where no resampling is needed, and never a crash."""

import io
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from labelaudit.errors import SourceError
from labelaudit.images import pillow
from labelaudit.images.containers import (
    ImageArrays,
    UnreadableImageError,
)
from labelaudit.images.decode import ColorFoundError, DecodedImages, decode_images, decode_source
from labelaudit.images.pillow import load_image
from labelaudit.images.plan import plan_images
from labelaudit.images.visits import visit_images

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
COLOR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def seen(data: bytes | np.ndarray) -> np.ndarray:
    return np.asarray(load_image(data))


def decode_planned(images: Any, **options: Any) -> DecodedImages:
    return decode_source(images, plan_images(images), **options)


class Encoded:
    """Images of a list, which may hold exceptions to raise."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int) -> Any:
        if isinstance(self.items[index], BaseException):
            raise self.items[index]
        return self.items[index]

    def subset(self, indices: np.ndarray) -> "Encoded":
        return Encoded([self.items[i] for i in indices])


# --- visits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 5])
def test_visits_come_in_order_with_reasons_for_what_fails(workers: int) -> None:
    items = [bytes([i]) for i in range(200)]
    items[7] = FileNotFoundError(2, "No such file")  # type: ignore[call-overload]

    def visit(index: int, data: Any) -> bytes:
        time.sleep(0.001 * (index % 3))
        if index == 90:
            raise OSError("too heavy")
        return bytes(data) * 2

    visits = list(visit_images(Encoded(items), visit, step=8, workers=workers))
    assert max(map(len, visits)) <= 8
    seen = [one for some in visits for one in some]
    assert len(seen) == 200
    assert (str(seen[7]), str(seen[90])) == ("the file does not exist", "too heavy")
    assert isinstance(seen[7], UnreadableImageError)
    assert all(seen[i] == bytes([i, i]) for i in range(200) if i not in (7, 90))


def test_visits_stay_close_to_what_was_taken_and_end_when_closed() -> None:
    visited: list[int] = []
    visits = visit_images(
        Encoded([b""] * 10_000), lambda index, _: visited.append(index), step=10, workers=2
    )
    next(visits)
    time.sleep(0.2)
    assert len(visited) <= 10 * (2 * 2 + 1)
    visits.close()
    count = len(visited)
    time.sleep(0.05)
    assert len(visited) == count
    assert threading.active_count() < 50


def test_other_exceptions_end_the_visit() -> None:
    def visit(index: int, _: Any) -> None:
        if index == 60:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(visit_images(Encoded([b""] * 200), visit, workers=3))


# --- modes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP"])
def test_lossless_formats_keep_gray_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    values = seen(encoded(Image.fromarray(GRAY), kind, **options))
    np.testing.assert_array_equal(values if values.ndim == 2 else values[..., 1], GRAY)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_keep_color_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = load_image(encoded(Image.fromarray(COLOR), kind, **options))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), COLOR)


def test_one_bit() -> None:
    bits = Image.fromarray(GRAY > 127)
    assert bits.mode == "1"
    np.testing.assert_array_equal(seen(encoded(bits)), np.where(GRAY > 127, 255, 0))


def test_palette() -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9])
    expected = [[[255, 0, 0], [0, 255, 0]], [[9, 9, 9], [0, 255, 0]]]
    np.testing.assert_array_equal(seen(encoded(image)), expected)


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"])
def test_palette_with_transparency_shows_white(transparency: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9])
    expected = [[[255, 0, 0], [255, 255, 255]], [[9, 9, 9], [255, 255, 255]]]
    values = seen(encoded(image, transparency=transparency))
    np.testing.assert_array_equal(values, expected)


def test_alpha_is_laid_on_white() -> None:
    alpha = np.array([[0, 255, 128]], np.uint8)
    color = np.array([[[10, 20, 30]] * 3], np.uint8)
    rgba = Image.fromarray(np.dstack([color, alpha]))
    expected = color * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255)
    np.testing.assert_allclose(seen(encoded(rgba)), expected, atol=1)
    np.testing.assert_array_equal(seen(encoded(rgba))[0, :2], [[255] * 3, [10, 20, 30]])
    gray = Image.merge("LA", (Image.fromarray(color[..., 0]), Image.fromarray(alpha)))
    values = seen(encoded(gray))
    assert values.ndim == 2
    np.testing.assert_allclose(values, expected[..., 0], atol=1)


def test_opaque_alpha_changes_nothing() -> None:
    rgba = np.dstack([COLOR, np.full(GRAY.shape, 255, np.uint8)])
    np.testing.assert_array_equal(seen(encoded(Image.fromarray(rgba))), COLOR)
    np.testing.assert_array_equal(seen(rgba), COLOR)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_a_transparent_color_shows_white(mode: str) -> None:
    if mode == "I;16":
        image, key = Image.fromarray(np.array([[300, 65535], [0, 300]], np.uint16)), 300
        expected: Any = [[255, 255], [0, 255]]
    elif mode == "RGB":
        image, key = Image.new("RGB", (2, 2), (1, 2, 3)), (1, 2, 3)
        image.putpixel((1, 0), (9, 8, 7))
        expected = [[[255] * 3, [9, 8, 7]], [[255] * 3, [255] * 3]]
    else:
        image, key = Image.new(mode, (2, 2), 0), 0
        image.putpixel((1, 0), 255 if mode == "1" else 7)
        expected = [[255, 255 if mode == "1" else 7], [255, 255]]
    np.testing.assert_array_equal(seen(encoded(image, transparency=key)), expected)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32896, 65535, 1000]], np.uint16)
    expected = [[0, 1, 128, 255, 4]]
    np.testing.assert_array_equal(seen(encoded(Image.fromarray(values))), expected)
    big_endian = Image.frombytes("I;16B", (5, 1), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(seen(encoded(big_endian, "TIFF")), expected)
    np.testing.assert_array_equal(
        seen(encoded(Image.fromarray(values.astype(np.int32)), "TIFF")), expected
    )


def test_eight_bits_in_a_wide_file_are_kept() -> None:
    wide = Image.fromarray(GRAY.astype(np.int32))
    assert wide.mode == "I"
    np.testing.assert_array_equal(seen(encoded(wide, "TIFF")), GRAY)
    np.testing.assert_array_equal(seen(encoded(Image.fromarray(GRAY.astype(np.uint16)))), GRAY)


def test_integers_beyond_sixteen_bits_are_stretched() -> None:
    values = np.array([[-1000, 0, 1000]], np.int32)
    np.testing.assert_array_equal(seen(encoded(Image.fromarray(values), "TIFF")), [[0, 128, 255]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 7.0, 255.0], [0, 7, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([100.0, 1000.0, np.nan], [0, 255, 0]),
        ([np.nan, np.inf, np.nan], [0, 0, 0]),
        ([-5.0, -5.0, -5.0], [0, 0, 0]),
    ],
)
def test_floats(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    assert image.mode == "F"
    np.testing.assert_array_equal(seen(encoded(image, "TIFF")), [expected])


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    cmyk = Image.new("CMYK", (16, 16), (255, 0, 0, 0))  # cyan
    image = load_image(encoded(cmyk, kind))
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image)[8, 8], [0, 255, 255], atol=3)


def test_lab_and_ycbcr() -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 30))
    lab = ImageCms.applyTransform(
        red,
        ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        ),
    )
    assert lab is not None
    np.testing.assert_allclose(seen(encoded(lab, "TIFF"))[0, 0], [200, 30, 30], atol=4)
    ycbcr = pillow.as_seen(red.convert("YCbCr"))  # few formats keep the mode
    np.testing.assert_allclose(np.asarray(ycbcr)[0, 0], [200, 30, 30], atol=4)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (40, 200)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (seen(data) == 40).all()


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_arrays_are_taken_as_they_are(shape: tuple[int, ...]) -> None:
    values = RNG.integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(seen(values), values.reshape(seen(values).shape))


# --- orientation -------------------------------------------------------------------------------

UPRIGHT = np.zeros((16, 32), np.uint8)
UPRIGHT[:8, :16] = 200
UPRIGHT[8:, 16:] = 90
STORED = {  # how the upright picture lies in a file with this orientation
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    options: dict[str, Any] = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
    data = encoded(image, kind, exif=exif, **options)
    values = seen(data)
    assert values.shape[:2] == UPRIGHT.shape
    np.testing.assert_allclose(values if values.ndim == 2 else values[..., 0], UPRIGHT, atol=6)
    plan = plan_images(Encoded([data]))
    assert (plan.height, plan.width) == UPRIGHT.shape


def test_damaged_exif_does_not_matter() -> None:
    data = encoded(Image.fromarray(GRAY), "PNG", exif=b"Exif\x00\x00garbage")
    np.testing.assert_array_equal(seen(data), GRAY)


# --- what cannot be read -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated_files_are_unreadable(kind: str) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = encoded(noise, kind)
    seen(whole)
    with pytest.raises(UnreadableImageError):
        load_image(whole[: len(whole) // 2])


def test_reasons_are_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = encoded(Image.fromarray(GRAY))
    bomb = encoded(Image.new("1", (64, 64)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 - 1)
    items = [good, b"", b"<html>", good[:-30], bomb, FileNotFoundError(2, "x"), PermissionError()]
    decoded = decode_images(Encoded(items), height=5, width=7, channels=1, workers=2)
    assert list(decoded.unreadable) == [1, 2, 3, 4, 5, 6]
    reasons = decoded.unreadable
    assert reasons[1] == "the file is empty"
    assert reasons[2] == "not an image that Pillow can read"
    assert reasons[4].startswith("too many pixels to decode safely")
    assert reasons[5] == "the file does not exist"
    assert reasons[6] == "no permission to read the file"
    assert all("\n" not in reason and "BytesIO" not in reason for reason in reasons.values())
    np.testing.assert_array_equal(decoded.pixels[0, 0], GRAY)
    assert not decoded.pixels[1:].any()


def test_unreadable_rows_are_zero_in_an_array_that_was_not() -> None:
    out = np.full((2, 1, 5, 7), 9, np.uint8)
    good = encoded(Image.fromarray(GRAY))
    decoded = decode_images(Encoded([b"x", good]), height=5, width=7, channels=1, out=out)
    assert decoded.pixels is out
    assert not out[0].any()
    np.testing.assert_array_equal(out[1, 0], GRAY)


def test_random_damage_never_crashes() -> None:
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    items = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        for _ in range(15):
            data = np.frombuffer(encoded(noise, kind), np.uint8).copy()
            data[rng.integers(0, len(data), 6)] = rng.integers(0, 256, 6)
            items.append(data.tobytes())
    decoded = decode_images(Encoded(items), height=16, width=16, channels=3)
    assert all(isinstance(reason, str) and reason for reason in decoded.unreadable.values())


def test_pillows_warnings_do_not_leak() -> None:
    palette = Image.fromarray(GRAY % 3, "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9])
    data = encoded(palette, transparency=b"\xff\x00\xff")
    tiff = encoded(Image.fromarray(COLOR), "TIFF")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(data)
        decode_planned(Encoded([data, tiff[:-4], tiff]))


def test_memory_running_out_is_not_a_broken_image() -> None:
    with pytest.raises(MemoryError):
        decode_images(Encoded([MemoryError()]), height=2, width=2, channels=1)


# --- plans -------------------------------------------------------------------------------------


def test_plan_of_gray_and_of_color() -> None:
    gray = [encoded(Image.fromarray(GRAY)), encoded(Image.fromarray(GRAY > 99))]
    plan = plan_images(Encoded(gray))
    assert (plan.channels, plan.height, plan.width) == (1, 5, 7)
    assert not plan.mixed_sizes
    assert plan.num_probed == 2
    assert plan_images(Encoded([*gray, encoded(Image.fromarray(COLOR))])).channels == 3
    assert plan_images(ImageArrays(GRAY[None])).channels == 1
    assert plan_images(ImageArrays(GRAY[None, ..., None])).channels == 1
    assert plan_images(ImageArrays(COLOR[None])).channels == 3


def test_gray_stored_as_color_is_gray() -> None:
    webp = encoded(Image.fromarray(GRAY), "WEBP", lossless=True)
    decoded = decode_planned(Encoded([webp, webp]))
    assert decoded.pixels.shape == (2, 1, 5, 7)
    np.testing.assert_array_equal(decoded.pixels[1, 0], GRAY)


def test_plan_takes_the_median_size_of_evenly_spaced_probes() -> None:
    sizes = [(10, 20)] * 60 + [(30, 40)] * 40
    items = [encoded(Image.new("L", size)) for size in sizes]
    images = Encoded(items)
    asked = []
    read = images.read
    images.read = lambda index: asked.append(index) or read(index)  # type: ignore[method-assign]
    plan = plan_images(images, max_probe=11)
    assert (plan.width, plan.height, plan.mixed_sizes, plan.num_probed) == (10, 20, True, 11)
    assert sorted(asked) == [0, 9, 19, 29, 39, 49, 59, 69, 79, 89, 99]


def test_plan_without_a_readable_image() -> None:
    with pytest.raises(SourceError, match=r"none of the 2 images tried.*not an image"):
        plan_images(Encoded([b"text", b"more"]))
    plan = plan_images(Encoded([b"text", encoded(Image.fromarray(GRAY))]))
    assert (plan.num_probed, plan.height) == (1, 5)


def test_color_missed_by_the_plan_is_never_dropped() -> None:
    gray = encoded(Image.fromarray(GRAY))
    items = [gray] * 20 + [encoded(Image.fromarray(COLOR))] + [gray] * 20
    with pytest.raises(ColorFoundError, match="image 20"):
        decode_images(Encoded(items), height=5, width=7, channels=1)
    shapes = []

    def allocate(shape: tuple[int, int, int, int]) -> np.ndarray:
        shapes.append(shape)
        return np.empty(shape, np.uint8)

    plan = plan_images(Encoded(items), max_probe=2)
    decoded = decode_source(Encoded(items), plan, allocate=allocate)
    assert shapes == [(41, 1, 5, 7), (41, 3, 5, 7)]
    np.testing.assert_array_equal(decoded.pixels[20], COLOR.transpose(2, 0, 1))
    np.testing.assert_array_equal(decoded.pixels[40], np.stack([GRAY] * 3))


# --- sizes -------------------------------------------------------------------------------------


def decode_one(image: Image.Image, height: int, width: int, kind: str = "PNG") -> np.ndarray:
    channels = 1 if image.mode == "L" else 3
    images = Encoded([encoded(image, kind)])
    decoded = decode_images(images, height=height, width=width, channels=channels)
    assert not decoded.unreadable
    return decoded.pixels[0]


def test_the_right_size_is_exact() -> None:
    np.testing.assert_array_equal(decode_one(Image.fromarray(GRAY), 5, 7)[0], GRAY)
    np.testing.assert_array_equal(
        decode_one(Image.fromarray(COLOR), 5, 7), COLOR.transpose(2, 0, 1)
    )


def test_a_jpeg_of_the_right_size_is_exact() -> None:
    image = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with Image.open(io.BytesIO(encoded(image, "JPEG"))) as reference:
        expected = np.asarray(reference).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode_one(image, 64, 64, "JPEG"), expected)


def test_the_aspect_ratio_is_kept_and_the_rest_takes_the_edges_color() -> None:
    values = np.full((40, 80), 180, np.uint8)
    values[10:30, 20:60] = 20
    result = decode_one(Image.fromarray(values), 20, 20)[0]
    assert (result[:5] == 180).all()
    assert (result[15:] == 180).all()
    assert result[8:12, 7:13].max() < 40
    np.testing.assert_allclose(result[5:15, 1:3], 180, atol=3)


def test_padding_of_color_images_is_a_color() -> None:
    result = decode_one(Image.new("RGB", (10, 40), (10, 200, 30)), 20, 20)
    assert result.shape == (3, 20, 20)
    np.testing.assert_array_equal(result[:, 0, 0], [10, 200, 30])
    np.testing.assert_array_equal(result[:, 19, 19], [10, 200, 30])


def test_reducing_averages_instead_of_picking() -> None:
    checkers = np.indices((64, 64)).sum(0).astype(np.uint8) % 2 * 255
    result = decode_one(Image.fromarray(checkers), 8, 8)[0].astype(int)
    assert np.abs(result - 127).max() < 10


def test_enlarging_does_not_overshoot() -> None:
    edge = np.zeros((4, 4), np.uint8)
    edge[:, 2:] = 200
    result = decode_one(Image.fromarray(edge), 32, 32)[0]
    assert result.max() == 200
    assert (np.diff(result[16].astype(int)) >= 0).all()


def test_a_sliver_keeps_a_pixel() -> None:
    assert decode_one(Image.new("L", (1000, 1), 77), 8, 8).max() == 77


def test_large_jpegs_decoded_smaller_look_the_same() -> None:
    y, x = np.mgrid[0:480, 0:640] / 480
    waves = np.dstack([128 + 100 * np.sin(9 * x), 128 + 100 * np.cos(7 * y), 255 * x / 2])
    image = Image.fromarray(waves.astype(np.uint8))
    via_jpeg = decode_one(image, 48, 64, "JPEG").astype(int)
    via_png = decode_one(image, 48, 64, "PNG").astype(int)
    assert np.abs(via_jpeg - via_png).mean() < 2


# --- decoding many -----------------------------------------------------------------------------


def test_the_result_does_not_depend_on_the_threads() -> None:
    items: list[Any] = []
    for i in range(203):
        size = (6 + i % 5, 9 - i % 3)
        image = Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        items.append(b"broken" if i % 17 == 3 else encoded(image))
    one = decode_planned(Encoded(items), workers=1)
    many = decode_planned(Encoded(items), workers=7)
    np.testing.assert_array_equal(one.pixels, many.pixels)
    assert list(one.unreadable.items()) == list(many.unreadable.items())
    assert list(one.unreadable) == list(range(3, 203, 17))


def test_progress_is_sparse_and_ends_at_the_total() -> None:
    calls: list[int] = []
    images = ImageArrays(np.zeros((5000, 2, 2), np.uint8))
    decode_planned(images, on_progress=calls.append)
    assert calls == sorted(set(calls))
    assert calls[-1] == 5000
    assert 50 <= len(calls) <= 201


def test_no_image_at_all() -> None:
    images = ImageArrays(np.zeros((0, 2, 2), np.uint8))
    assert decode_images(images, height=2, width=2, channels=1).pixels.shape == (0, 1, 2, 2)
    with pytest.raises(SourceError):
        plan_images(images)


def test_wrong_arrays_are_refused() -> None:
    images = ImageArrays(GRAY[None])
    with pytest.raises(ValueError, match="out is"):
        decode_images(images, height=5, width=7, channels=1, out=np.zeros((1, 1, 5, 8), np.uint8))
    with pytest.raises(ValueError, match="out is"):
        decode_images(images, height=5, width=7, channels=1, out=np.zeros((1, 1, 5, 7)))
    with pytest.raises(ValueError, match="channels is 2"):
        decode_images(images, height=5, width=7, channels=2)


def test_decoding_into_a_memory_map(tmp_path: Path) -> None:
    def allocate(shape: tuple[int, int, int, int]) -> np.ndarray:
        return np.lib.format.open_memmap(tmp_path / "p.npy", "w+", np.uint8, shape)

    decode_planned(ImageArrays(COLOR[None]), size=(5, 7), allocate=allocate)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy")[0], COLOR.transpose(2, 0, 1))


def test_an_interrupt_stops_promptly() -> None:
    class Slow(Encoded):
        def read(self, index: int) -> Any:
            count[0] += 1
            time.sleep(0.002)
            return super().read(index)

    count = [0]
    images = Slow([encoded(Image.fromarray(GRAY))] * 3000)

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_images(images, height=5, width=7, channels=1, workers=2, on_progress=interrupt)
    at_return = count[0]
    assert at_return < 600
    time.sleep(0.02)
    assert count[0] == at_return  # no thread goes on behind the caller's back


def test_png_text_that_unpacks_to_too_much_is_unreadable() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 2_000_000, zip=True)
    data = encoded(Image.fromarray(GRAY), pnginfo=info)
    decoded = decode_images(Encoded([data]), height=5, width=7, channels=1)
    assert "too large" in decoded.unreadable[0].lower()

"""Images with more than 8 bits: one range for all images of a source."""

import io

import numpy as np
import pytest
from PIL import Image

from labelaudit.images.containers import CellImages
from labelaudit.images.decode import DecodedImages, decode_images
from labelaudit.images.gray_range import (
    BYTE,
    SIXTEEN_BITS,
    UNIT,
    GrayRange,
    decide_range,
    few_levels_warning,
)
from labelaudit.sources.arrays import source_from_arrays


def decode(*arrays: np.ndarray, kind: str = "PNG") -> DecodedImages:
    cells = []
    for values in arrays:
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, kind)
        cells.append({"image": {"bytes": stream.getvalue(), "path": None}})
    height, width = arrays[0].shape
    decoded = decode_images(CellImages(cells, "image"), height=height, width=width, channels=1)
    assert not decoded.unreadable
    return decoded


def uniform(*values: int, dtype: type = np.uint16) -> list[np.ndarray]:
    return [np.full((4, 4), value, dtype) for value in values]


@pytest.mark.parametrize("values", [(254, 255, 256, 1000, 4095), (1000, 1030, 1060, 1100)])
def test_brightness_keeps_its_order_across_files(values: tuple[int, ...]) -> None:
    levels = decode(*uniform(*values)).pixels[:, 0, 0, 0].astype(int)
    assert levels[0] == 0
    assert levels[-1] == 255
    assert (np.diff(levels) >= 0).all()
    assert abs(levels[1] - levels[0] - 255 * (values[1] - values[0]) / np.ptp(values)) <= 1


def test_sixteen_bits_are_scaled_as_such() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    dark = np.full((8, 8), 257, np.uint16)
    decoded = decode(ramp, dark)
    np.testing.assert_array_equal(decoded.pixels[0, 0], np.rint(ramp / 257))
    assert (decoded.pixels[1] == 1).all()  # alone, its values would be kept
    assert decoded.gray_ranges == {"integers": SIXTEEN_BITS}


def test_eight_bits_beside_sixteen_stay_as_they_are() -> None:
    eight = np.arange(64, dtype=np.uint8).reshape(8, 8)
    ramp = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    decoded = decode(eight, ramp)
    np.testing.assert_array_equal(decoded.pixels[0, 0], eight)
    np.testing.assert_array_equal(decoded.pixels[1, 0], np.rint(ramp * (255 / 4095)))


def test_eight_bits_only_measure_nothing() -> None:
    assert decode(np.zeros((4, 4), np.uint8)).gray_ranges == {}


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_signed_and_float_tiffs_have_one_range(dtype: type) -> None:
    levels = decode(*uniform(-1000, 0, 1000, dtype=dtype), kind="TIFF").pixels[:, 0, 0, 0]
    np.testing.assert_array_equal(levels, [0, 128, 255])


def test_a_hot_pixel_does_not_decide_the_range() -> None:
    ramps = [np.linspace(1000, 1100, 4096).astype(np.uint16).reshape(64, 64) for _ in range(3)]
    ramps[1][5, 5] = 65535
    pixels = decode(*ramps).pixels[:, 0]
    assert np.ptp(pixels[0].astype(int)) > 150
    assert pixels[1, 5, 5] == 255


@pytest.mark.parametrize(
    ("low", "high", "floats", "expected"),
    [
        (0, 255, False, BYTE),
        (128, 143, False, BYTE),
        (0, 256, False, GrayRange(0, 256)),
        (0, 4095, False, GrayRange(0, 4095)),
        (0, 20000, False, SIXTEEN_BITS),
        (33069, 36863, False, GrayRange(33069, 36863)),
        (-5, 100, False, GrayRange(-5, 100)),
        (0, 1, True, UNIT),
        (0.5, 0.51, True, GrayRange(0.5, 0.51)),
        (0, 1.02, True, GrayRange(0, 1.02)),
        (0, 200, True, BYTE),
        (700, 700, False, SIXTEEN_BITS),
    ],
)
def test_ranges(low: float, high: float, floats: bool, expected: GrayRange) -> None:
    assert decide_range(low, high, (low, high), floats) == expected


def test_the_range_does_not_depend_on_the_threads_or_the_order() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(500, 900, (8, 8)).astype(np.uint16) for _ in range(40)]
    arrays += [rng.integers(0, 256, (8, 8)).astype(np.uint8) for _ in range(40)]
    forth, back = decode(*arrays), decode(*arrays[::-1])
    np.testing.assert_array_equal(forth.pixels, back.pixels[::-1])
    assert forth.gray_ranges == back.gray_ranges


def test_wide_images_that_are_rare_are_found() -> None:
    arrays = [np.zeros((2, 2), np.uint8)] * 600
    arrays[301] = np.array([[1000, 1040], [1080, 1100]], np.uint16)
    decoded = decode(*arrays)
    np.testing.assert_array_equal(decoded.pixels[301, 0], [[0, 102], [204, 255]])


def test_images_in_memory_have_one_range() -> None:
    loaded = [Image.fromarray(array) for array in uniform(254, 256, 1000, 4095)]
    source = source_from_arrays(loaded, [0, 1, 0, 1])
    images = source.manifest.images
    levels = [int(np.asarray(images.read(row))[0, 0]) for row in range(4)]
    assert levels == [0, 0, 50, 255]


def test_few_gray_levels_are_said() -> None:
    pixels = np.full((4, 1, 2, 2), 100, np.uint8)
    pixels[2:] = 103
    assert "they use 2, from 100 to 103" in str(few_levels_warning(pixels))
    pixels[3] = 200
    assert few_levels_warning(pixels) is None

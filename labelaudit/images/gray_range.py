"""The range of gray values of images with more than 8 bits, decided once for all images of a source.

If each image were scaled by its own values, the darkest image of a set could become the brightest. The
same scale for all keeps their order.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from labelaudit.images.containers import Images, Pixels
from labelaudit.images.opening import (
    bytes_to_decode,
    check_unpacked,
    may_be_wide,
    open_encoded,
    room_to_decode,
)

Values = npt.NDArray[np.float64]

# Largest number of images with more than 8 bits that are measured. If these images are rare, at most
# `_SEARCHED` images are opened to find them.
MEASURED = 256
_SEARCHED = 4096
# Number of values of each image that are used for percentiles.
_VALUES_PER_IMAGE = 4096
# Images that use a smaller share of the range of their type are stretched.
_USED_SHARE = 0.25
# A few dead or hot pixels do not decide the range: if nearly all values, those between these
# percentiles, use less than this share of it, theirs is taken.
_BULK = (0.1, 99.9)
_BULK_SHARE = 1 / 8
_MARGIN = 0.25  # of the bulk's width, added on both sides
# If the lightest and the darkest pixel of all images differ by fewer gray levels, this is said.
FEW_LEVELS = 16


@dataclass(frozen=True)
class GrayRange:
    """The values that become black and white; those between are scaled evenly, the others clipped."""

    low: float
    high: float

    def narrow(self, values: Values) -> Pixels:
        """Scale values of any shape to 8 bits; those that are not finite become as 0 does."""
        values = np.where(np.isfinite(values), values, 0.0)
        if self.high <= self.low:
            return np.zeros(values.shape, np.uint8)
        scaled = (values - self.low) * 255.0 / (self.high - self.low)
        return np.rint(scaled).clip(0, 255).astype(np.uint8)

    def describe(self) -> str:
        """Return the range in words."""
        return f"{self.low:,.6g} to {self.high:,.6g}"


BYTE = GrayRange(0.0, 255.0)
SIXTEEN_BITS = GrayRange(0.0, 65535.0)
UNIT = GrayRange(0.0, 1.0)


def is_wide(mode: str) -> bool:
    """Return whether a mode of Pillow is gray with more than 8 bits, or of floats."""
    return mode.startswith("I") or mode == "F"


def values_of(image: Image.Image) -> Values:
    """Return the gray values (H, W) of a loaded image with more than 8 bits."""
    return np.asarray(image).astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Sample:
    """What was measured in one image: whether it is of floats, its extremes, some values."""

    floats: bool
    low: float
    high: float
    values: Values

    @classmethod
    def of(cls, image: Image.Image) -> "_Sample | None":
        """Measure an image; None if it has no finite value."""
        values = values_of(image).ravel()
        values = values[np.isfinite(values)]
        if isinstance(transparent := image.info.get("transparency"), int):
            values = values[values != transparent]
        if not len(values):
            return None
        some = values[:: max(1, len(values) // _VALUES_PER_IMAGE)]
        return cls(image.mode == "F", float(values.min()), float(values.max()), some)


def decide_range(low: float, high: float, bulk: tuple[float, float], floats: bool) -> GrayRange:
    """Choose the range of gray values from those found in all images.

    Integers from 0 to 255 are 8 bits in a wide file, and are kept. Those that use much of 0 to 65,535
    are scaled as 16 bits. Floats from 0 to 1 and from 0 to 255 are scaled likewise. Anything else, such
    as 12 bits in a file of 16, is stretched from the lowest to the highest value.

    Parameters
    ----------
    low, high : float
        The lowest and the highest value.
    bulk : (float, float)
        The values between which nearly all are.
    floats : bool
        Whether they are floats.
    """
    typical = (UNIT, BYTE) if floats else (BYTE, SIXTEEN_BITS)
    for kind in typical:
        enough = not floats and kind is BYTE
        enough = enough or high - low >= _USED_SHARE * (kind.high - kind.low)
        if low >= kind.low and high <= kind.high and (enough or low == high):
            if kind is SIXTEEN_BITS and _is_narrow(low, high, bulk):
                break
            return kind
    if _is_narrow(low, high, bulk):
        margin = _MARGIN * (bulk[1] - bulk[0])
        return GrayRange(max(low, bulk[0] - margin), min(high, bulk[1] + margin))
    return GrayRange(low, high)


def _is_narrow(low: float, high: float, bulk: tuple[float, float]) -> bool:
    return 0 < bulk[1] - bulk[0] < _BULK_SHARE * (high - low)


class GrayRanges:
    """The ranges of integers and of floats in a source, measured when the first such image is met.

    Thread-safe. The ranges depend only on the images, and not on which of them is met first.

    Parameters
    ----------
    images : Images, or None
        The source's images; see also `of_loaded`.
    """

    def __init__(self, images: Images | None) -> None:
        self._images = images
        self._lock = threading.Lock()
        self._ranges: dict[bool, GrayRange] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the lock."""
        return {"_images": self._images, "_ranges": self._ranges}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    @classmethod
    def of_loaded(cls, wide: Sequence[Image.Image]) -> "GrayRanges":
        """Measure images in memory, of all of which `is_wide` is true."""
        ranges = cls(None)
        samples = [_Sample.of(image) for image in wide]
        ranges._ranges = _range_of([sample for sample in samples if sample is not None])
        return ranges

    def measure(self) -> dict[bool, GrayRange]:
        """Measure the ranges if that is not done: of floats (True), of integers (False).

        Call it outside `room_to_decode`, because it needs room itself.
        """
        with self._lock:
            if self._ranges is None:
                self._ranges = {} if self._images is None else _measure(self._images)
            return self._ranges

    def range_of(self, image: Image.Image) -> GrayRange:
        """Return the range for an opened image of which `is_wide` is true."""
        floats = image.mode == "F"
        # None like it may be among the images that were measured.
        return self.measure().get(floats, UNIT if floats else SIXTEEN_BITS)

    def range_of_encoded(self, data: bytes | Pixels) -> GrayRange | None:
        """Return the range for the content of a file; None if it has 8 bits, or cannot be opened."""
        if isinstance(data, np.ndarray) or not may_be_wide(data):
            return None
        try:
            image = open_encoded(data)
        except Exception:  # Pillow raises almost any exception on damaged files
            return None
        return self.range_of(image) if is_wide(image.mode) else None

    @property
    def measured(self) -> dict[str, GrayRange]:
        """The ranges that were measured so far: of "integers", of "floats"."""
        names = {False: "integers", True: "floats"}
        return {names[floats]: found for floats, found in (self._ranges or {}).items()}


def describe_ranges(ranges: Mapping[str, GrayRange]) -> list[str]:
    """Return a line for each measured range, for the user."""
    return [
        f"Gray {kind} of more than 8 bits are scaled from {found.describe()} to 0 to 255, the same for"
        " all images."
        for kind, found in ranges.items()
    ]


def few_levels_warning(pixels: Pixels) -> str | None:
    """Return a warning about images of few and similar gray levels, or None.

    Parameters
    ----------
    pixels : array (N, C, H, W) uint8
        The decoded images. Of many, evenly spaced ones are used.
    """
    some = pixels[:: max(1, len(pixels) // MEASURED)]
    if not len(some):
        return None
    low, high = int(some.min()), int(some.max())
    if high - low >= FEW_LEVELS:
        return None
    return (
        "all images are nearly the same: of 256 gray levels they use"
        f" {len(np.unique(some))}, from {low} to {high}; check how they were saved"
    )


def range_of_one(image: Image.Image) -> GrayRange:
    """Return the range for a loaded image that is the only one of its source."""
    sample = _Sample.of(image)
    return BYTE if sample is None else _range_of([sample])[image.mode == "F"]


def _measure(images: Images) -> dict[bool, GrayRange]:
    total = len(images)
    indices = np.unique(np.linspace(0, total - 1, min(MEASURED, total)).astype(int))
    samples = _samples(images, indices)
    if len(samples) < min(MEASURED, total) // 8 and total > MEASURED:
        # Few of the images have more than 8 bits: look for more of them.
        indices = np.unique(np.linspace(0, total - 1, min(_SEARCHED, total)).astype(int))
        samples = _samples(images, indices)
    return _range_of(samples)


def _samples(images: Images, indices: npt.NDArray[np.int64]) -> list[_Sample]:
    # The threads that decode the images wait meanwhile, so these may be as many.
    from labelaudit.images.visits import usable_cores

    with ThreadPoolExecutor(usable_cores()) as pool:
        found = list(pool.map(lambda index: _sample_of(images, int(index)), indices))
    return [sample for sample in found if sample is not None]


def _sample_of(images: Images, index: int) -> _Sample | None:
    try:
        data = images.read(index)
        if isinstance(data, np.ndarray) or not may_be_wide(data):
            return None
        image = open_encoded(data)
        if not is_wide(image.mode):
            return None
        check_unpacked(image, len(data))
        with room_to_decode(bytes_to_decode(image)):
            image.load()
            return _Sample.of(image)
    except MemoryError:
        raise
    except Exception:
        # Pillow raises almost any exception on damaged files. Decoding reports them.
        return None


def _range_of(samples: list[_Sample]) -> dict[bool, GrayRange]:
    ranges = {}
    for floats in sorted({sample.floats for sample in samples}):
        these = [sample for sample in samples if sample.floats == floats]
        bulk = np.percentile(np.concatenate([sample.values for sample in these]), _BULK)
        ranges[floats] = decide_range(
            min(sample.low for sample in these),
            max(sample.high for sample in these),
            (float(bulk[0]), float(bulk[1])),
            floats,
        )
    return ranges

"""Decoding all images of a source once, in parallel, to one (N, C, H, W) uint8 array.

`decode_source` is the function to use; `decode_images` decodes to a given number of channels.

An image that cannot be decoded raises no error here. It is listed with the reason.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from labelaudit.images.containers import Images, Pixels
from labelaudit.images.gray_range import GrayRange, GrayRanges
from labelaudit.images.pillow import has_color, load_visited
from labelaudit.images.plan import ImagePlan
from labelaudit.images.visits import Progress, visit_images


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """All images as one array.

    Attributes
    ----------
    pixels : array (N, C, H, W) uint8
        The images in order. Unreadable ones are zero.
    unreadable : dict of int to str
        The reason for each image that could not be decoded, by its index, in order.
    gray_ranges : dict of str to GrayRange
        By which ranges images with more than 8 bits were scaled: "integers", "floats". Empty if there
        are no such images.
    """

    pixels: Pixels
    unreadable: dict[int, str]
    gray_ranges: dict[str, GrayRange] = field(default_factory=dict)


class ColorFoundError(Exception):
    """An image has color although gray was planned; `decode_source` handles this."""

    def __init__(self, index: int) -> None:
        super().__init__(f"image {index} has color, and one gray channel was planned")
        self.index = index


def decode_source(
    images: Images,
    plan: ImagePlan,
    size: tuple[int, int] | None = None,
    *,
    workers: int | None = None,
    allocate: Callable[[tuple[int, int, int, int]], Pixels] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> DecodedImages:
    """Decode all images to the size and the channels of a plan.

    The plan was made from some of the images. If another one has color although gray was planned,
    decoding starts over with three channels, so that no color is lost. `on_progress` then starts
    over, too.

    Parameters
    ----------
    images : Images
        The source's images, N of them.
    plan : ImagePlan
        From `plan_images`.
    size : (height, width), optional
        In pixels. By default that of the plan.
    workers : int, optional
        Number of threads. By default one per core that the process may use.
    allocate : callable, optional
        Returns a uint8 array of a given shape (N, C, H, W) to decode into. It may be memory-mapped.
        Called again if decoding starts over.
    on_progress : callable, optional
        Called in this thread with the number of images done, about 200 times at most.
    """
    height, width = size or (plan.height, plan.width)

    def decode(channels: int) -> DecodedImages:
        return decode_images(
            images,
            height=height,
            width=width,
            channels=channels,
            workers=workers,
            out=allocate((len(images), channels, height, width)) if allocate else None,
            on_progress=on_progress,
        )

    try:
        return decode(plan.channels)
    except ColorFoundError:
        return decode(3)


def decode_images(
    images: Images,
    *,
    height: int,
    width: int,
    channels: int,
    workers: int | None = None,
    out: Pixels | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> DecodedImages:
    """Decode all images to one size, in parallel. The result does not depend on the threads.

    An image of that size keeps its exact pixels. Any other is resized with its aspect ratio kept
    (Lanczos to reduce, bilinear to enlarge) and centered. The rest is filled with the median color
    of its edge. Black bars would reveal the aspect ratio, and with it often the class.

    Parameters
    ----------
    images : Images
        The source's images, N of them.
    height, width : int
        Size of the result in pixels.
    channels : {1, 3}
        With 3, gray images get three equal channels.
    workers : int, optional
        Number of threads. By default one per core that the process may use.
    out : array (N, channels, height, width) uint8, optional
        The array to decode into, which is returned as `pixels`. It may be memory-mapped. By default
        a new array.
    on_progress : callable, optional
        Called in this thread with the number of images done, about 200 times at most.

    Raises
    ------
    ColorFoundError
        `channels` is 1 and an image has color.
    ValueError
        `out` has another shape or dtype, or `channels` is not 1 or 3.
    """
    total = len(images)
    shape = (total, channels, height, width)
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels}, not 1 or 3")
    pixels = np.zeros(shape, np.uint8) if out is None else out
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ValueError(f"out is {pixels.shape} {pixels.dtype}, not {shape} uint8")
    unreadable: dict[int, str] = {}
    ranges = GrayRanges(images)
    progress = Progress(total, on_progress)
    done = 0

    def decode(index: int, data: bytes | Pixels) -> None:
        _decode_into(pixels[index], data, index, ranges)

    with closing(visit_images(images, decode, workers=workers)) as visits:
        for visited in visits:
            for index, failed in enumerate(visited, done):
                if failed is not None:
                    pixels[index] = 0
                    unreadable[index] = str(failed)
            done += len(visited)
            progress.reached(done)
    return DecodedImages(pixels=pixels, unreadable=unreadable, gray_ranges=ranges.measured)


def _decode_into(target: Pixels, data: bytes | Pixels, index: int, ranges: GrayRanges) -> None:
    """Decode image `index` into `target` (C, H, W)."""
    channels, height, width = target.shape
    image = load_visited(data, (height, width), ranges)
    if channels == 1 and image.mode == "RGB":
        if has_color(image):
            raise ColorFoundError(index)
        image = image.getchannel(0)
    if image.size != (width, height):
        image = _fit(image, height, width)
    values = np.asarray(image)
    # (H, W) fills every channel; (H, W, 3) -> (3, H, W)
    target[...] = values if values.ndim == 2 else values.transpose(2, 0, 1)


def _fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize with the aspect ratio kept, and center on the median color of the edge."""
    scale = min(height / image.height, width / image.width)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BILINEAR
    if inner != image.size:
        image = image.resize(inner, smooth)
    if inner == (width, height):
        return image
    values = np.asarray(image)  # (h, w) or (h, w, 3)
    edge = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    median = np.median(edge, axis=0).astype(int)
    canvas = Image.new(image.mode, (width, height), _fill(median))
    canvas.paste(image, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def _fill(color: Any) -> int | tuple[int, ...]:
    return int(color) if np.ndim(color) == 0 else tuple(int(value) for value in color)

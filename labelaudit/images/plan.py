"""The size and the channels that fit all images of a source, from a sample of them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from labelaudit.errors import SourceError
from labelaudit.images.containers import Images
from labelaudit.images.pillow import (
    GREY_MODES,
    has_color,
    load_visited,
    open_encoded,
    orientation_of,
    quiet_pillow,
    reason_of,
)
from labelaudit.images.visits import usable_cores

# Color is looked for in the pixels of so many images whose mode is color; in a source that has
# any, the first one looked at nearly always ends the search.
_COLOR_PROBES = 64


@dataclass(frozen=True)
class ImagePlan:
    """What a sample of the images says about all of them.

    Attributes
    ----------
    channels : int
        1 if every probed image is grey, else 3.
    height, width : int
        Median size of the probed images in pixels, as seen (upright).
    mixed_sizes : bool
        Whether the probed images differ in size.
    num_probed : int
        How many images were opened.
    """

    channels: int
    height: int
    width: int
    mixed_sizes: bool
    num_probed: int


def plan_images(images: Images, max_probe: int = 1000) -> ImagePlan:
    """Find size and channels from evenly spaced images, mostly from their headers alone.

    Grey is a matter of pixels where the mode does not tell: WebP, many JPEGs and palettes store
    grey images as color with three equal channels. A source whose color images were all missed
    by the probing is met by `decode_source`.

    Parameters
    ----------
    images : Images
        The source's images, at least one.
    max_probe : int
        At most so many are opened.

    Raises
    ------
    SourceError
        None of the probed images can be opened.
    """
    indices = np.unique(np.linspace(0, len(images) - 1, min(max_probe, len(images))).astype(int))
    with quiet_pillow(), ThreadPoolExecutor(usable_cores()) as pool:
        Image.init()
        probes = list(pool.map(lambda index: _probe(images, int(index)), indices))
        headers = [probe for probe in probes if isinstance(probe, _Header)]
        if not headers:
            reason = probes[0] if probes else "there are none"
            raise SourceError(
                f"none of the {len(probes)} images tried can be opened ({reason}); "
                "check that the files are images and whole"
            )
        colored = [header.index for header in headers if not header.grey_mode]
        spread = np.linspace(0, len(colored) - 1, min(_COLOR_PROBES, len(colored))).astype(int)
        grey = all(not _shows_color(images, colored[i]) for i in spread)
    return ImagePlan(
        channels=1 if grey else 3,
        height=int(np.median([header.height for header in headers])),
        width=int(np.median([header.width for header in headers])),
        mixed_sizes=len({(header.height, header.width) for header in headers}) > 1,
        num_probed=len(headers),
    )


@dataclass(frozen=True)
class _Header:
    index: int
    height: int
    width: int
    grey_mode: bool


def _probe(images: Images, index: int) -> "_Header | str":
    """Open an image's header: its size as seen and whether its mode is grey, or why not."""
    try:
        data = images.read(index)
        if isinstance(data, np.ndarray):
            grey = data.ndim == 2 or data.shape[2] == 1
            return _Header(index, data.shape[0], data.shape[1], grey)
        if not data:
            return "the file is empty"
        with open_encoded(data) as image:
            if image.format == "TIFF":
                image.load()  # only then does Pillow turn it, and forget the tag
            width, height = image.size
            if orientation_of(image) >= 5:  # a quarter turn
                width, height = height, width
            grey = image.mode in GREY_MODES or image.mode.startswith("I")
            return _Header(index, height, width, grey)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged files
        return reason_of(error)


def _shows_color(images: Images, index: int) -> bool:
    try:
        return has_color(load_visited(images.read(index)))
    except OSError:
        return False  # unreadable images have no say

"""The size and the channels that fit all images of a source, from a sample of them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from labelaudit.errors import SourceError
from labelaudit.images.containers import Images
from labelaudit.images.opening import (
    bytes_to_decode,
    check_unpacked,
    open_encoded,
    reason_of,
    room_to_decode,
)
from labelaudit.images.pillow import (
    GRAY_MODES,
    has_color,
    load_visited,
    orientation_of,
    quiet_pillow,
)
from labelaudit.images.visits import usable_cores

# Number of images with a color mode whose pixels are compared. In a source with color images, the
# first one nearly always ends the search.
_COLOR_PROBES = 64


@dataclass(frozen=True)
class ImagePlan:
    """The size and the channels of all images, estimated from some of them.

    Attributes
    ----------
    channels : int
        1 if every opened image is gray, else 3.
    height, width : int
        Median size of the opened images in pixels, when upright.
    mixed_sizes : bool
        Whether the opened images differ in size.
    num_probed : int
        Number of images that were opened.
    """

    channels: int
    height: int
    width: int
    mixed_sizes: bool
    num_probed: int


def plan_images(images: Images, max_probe: int = 1000) -> ImagePlan:
    """Find the size and the channels from evenly spaced images, mostly from their headers.

    WebP files, many JPEGs and palette images store gray as color with three equal channels. So the
    pixels of images with a color mode are compared. If all color images were missed here,
    `decode_source` finds them.

    Parameters
    ----------
    images : Images
        The source's images, at least one.
    max_probe : int
        Largest number of images to open.

    Raises
    ------
    SourceError
        None of these images can be opened.
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
        colored = [header.index for header in headers if not header.gray_mode]
        spread = np.linspace(0, len(colored) - 1, min(_COLOR_PROBES, len(colored))).astype(int)
        gray = all(not _shows_color(images, colored[i]) for i in spread)
    return ImagePlan(
        channels=1 if gray else 3,
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
    gray_mode: bool


def _probe(images: Images, index: int) -> "_Header | str":
    """Return the upright size of an image and whether its mode is gray; or why it cannot be read."""
    try:
        data = images.read(index)
        if isinstance(data, np.ndarray):
            gray = data.ndim == 2 or data.shape[2] == 1
            return _Header(index, data.shape[0], data.shape[1], gray)
        if not data:
            return "the file is empty"
        with open_encoded(data) as image:
            check_unpacked(image, len(data))
            if image.format == "TIFF":
                with room_to_decode(bytes_to_decode(image)):
                    image.load()  # only then does Pillow apply the orientation and remove the tag
            width, height = image.size
            if orientation_of(image) >= 5:  # a quarter turn
                width, height = height, width
            gray = image.mode in GRAY_MODES or image.mode.startswith("I")
            return _Header(index, height, width, gray)
    except MemoryError:
        raise
    except Exception as error:  # on damaged files Pillow raises almost any exception
        return reason_of(error)


def _shows_color(images: Images, index: int) -> bool:
    try:
        return has_color(load_visited(images.read(index)))
    except OSError:
        return False  # unreadable images do not count

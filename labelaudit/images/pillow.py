"""Decode one image as a person sees it, by Pillow."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageChops

from labelaudit.images.containers import Pixels, UnreadableImageError
from labelaudit.images.gray_range import GrayRanges, is_wide, range_of_one, values_of
from labelaudit.images.opening import (
    BOMB_BYTES,
    bytes_to_decode,
    check_unpacked,
    open_encoded,
    reason_of,
    room_to_decode,
)

# Pillow's modes that are gray, with or without alpha; those of 16 bits begin with "I".
GRAY_MODES = frozenset({"1", "L", "LA", "La", "F"})
# Keys of `Image.info` in which Pillow stores metadata that may contain an orientation.
_ORIENTATION_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(data: bytes | Pixels) -> Image.Image:
    """Decode one image as a person would see it.

    The EXIF orientation is applied. Transparent pixels become white. CMYK and other color spaces
    become RGB. Gray of 16 bits or floats is scaled to 8 bits, by the range of this image alone. Of an
    animation the first frame is returned.

    Parameters
    ----------
    data : bytes or array (H, W) or (H, W, C) uint8
        The content of a file, or pixels with C = 1, 3 or 4.

    Returns
    -------
    PIL.Image.Image
        Mode "L" if the mode of the file is gray, else "RGB". If the file has this mode and no
        orientation, the pixels are exactly those of the file.

    Raises
    ------
    UnreadableImageError
        The data are no image, truncated or damaged, or have too many pixels to decode safely.

    Notes
    -----
    Call this from one thread at a time. It silences the warnings of Pillow, and warning filters
    belong to the whole process. `decode_images` and `visit_images` work with many threads.
    """
    with quiet_pillow():
        return load_visited(data)


def load_visited(
    data: bytes | Pixels,
    reducible_to: tuple[int, int] | None = None,
    ranges: GrayRanges | None = None,
    spare: int = 2,
) -> Image.Image:
    """Decode one image like `load_image`, in a thread of `visit_images`.

    Parameters
    ----------
    data : bytes or array (H, W) or (H, W, C) uint8
        The content of a file, or pixels.
    reducible_to : (height, width), optional
        A JPEG that is larger than needed may be decoded at a half, a quarter or an eighth of its
        size, but at least `spare` times this size. Its decoder does that at almost no cost.
    ranges : GrayRanges, optional
        The ranges of gray values of all images of the source, by which those with more than 8 bits are
        scaled. By default each is scaled by its own.
    spare : int
        With 2 an image that is then reduced to `reducible_to` hardly differs from one that was decoded
        in its full size. With 1 it differs a little more, and decoding and resizing take less time.

    Raises
    ------
    UnreadableImageError
        See `load_image`.
    """
    if isinstance(data, np.ndarray):
        pixels = data[..., 0] if data.ndim == 3 and data.shape[2] == 1 else data
        return as_seen(Image.fromarray(pixels))
    if not data:
        raise UnreadableImageError("the file is empty")
    needed = 0
    try:
        image = open_encoded(data)
        check_unpacked(image, len(data))
        if ranges is not None and is_wide(image.mode):
            ranges.measure()
        needed = bytes_to_decode(image)
        if reducible_to is not None:
            # A square, because the orientation may still swap the sides.
            side = spare * max(reducible_to)
            image.draft(image.mode, (side, side))
        if image.format == "JPEG":
            needed = max(needed, 4 * image.width * image.height)
        with room_to_decode(needed):
            image.load()
            return as_seen(image, ranges)
    except MemoryError as error:
        if needed < BOMB_BYTES:
            # The machine lacks memory. The file is not damaged and must not be reported as such.
            raise
        raise UnreadableImageError(
            f"{image.width:,} x {image.height:,} pixels need more memory than is free; save it smaller"
        ) from error
    except Exception as error:
        # On damaged files Pillow's decoders raise almost any exception: OSError, SyntaxError,
        # ValueError, struct.error, KeyError, ...
        raise UnreadableImageError(reason_of(error)) from error


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings (palette transparency, EXIF, size) from the user.

    It is entered once around all threads, never inside them, because warning filters belong to the
    process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def as_seen(image: Image.Image, ranges: GrayRanges | None = None) -> Image.Image:
    """Convert a loaded image to "L" or "RGB", upright; for `ranges` see `load_visited`."""
    orientation = orientation_of(image)
    if is_wide(image.mode):
        seen = _narrow(image, ranges)
    elif image.has_transparency_data and image.mode != "CMYK":
        seen = _on_white(image)
    elif image.mode in ("L", "RGB"):
        seen = image
    else:
        seen = image.convert("L" if image.mode in GRAY_MODES else "RGB")
    return seen.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else seen


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, from 1 (upright) to 8; 1 where the file names none."""
    # Read only if it may exist, because `getexif` decodes the whole of a PNG.
    if image.format != "TIFF" and not any(key in image.info for key in _ORIENTATION_KEYS):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        # The picture is readable even if its metadata are damaged. Viewers ignore them, too.
        return 1


def _on_white(image: Image.Image) -> Image.Image:
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:
        # A PNG of 16 bits per channel, which Pillow reads as 8, names its color in 16.
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    gray = image.mode in GRAY_MODES
    layered = image.convert("LA" if gray else "RGBA")
    opaque = layered.convert("L" if gray else "RGB")
    canvas = Image.new(opaque.mode, opaque.size, "white")
    canvas.paste(opaque, mask=layered.getchannel("A"))
    return canvas


def _narrow(image: Image.Image, ranges: GrayRanges | None) -> Image.Image:
    """Scale gray of 16 bits, 32 bits or floats to 8 bits."""
    found = range_of_one(image) if ranges is None else ranges.range_of(image)
    values = values_of(image)  # (H, W)
    narrow = found.narrow(values)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        narrow[values == transparent] = 255
    return Image.fromarray(narrow)


def has_color(image: Image.Image) -> bool:
    """Return whether the three channels of an image differ anywhere; False for mode "L"."""
    if image.mode == "L":
        return False
    red, green, blue = image.split()
    return any(ImageChops.difference(red, other).getbbox() is not None for other in (green, blue))

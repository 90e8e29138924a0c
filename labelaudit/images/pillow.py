"""Decode one image as a person sees it, by Pillow."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from labelaudit.images.containers import Pixels, UnreadableImageError

# Pillow's modes that are gray, with or without alpha; those of 16 bits begin with "I".
GRAY_MODES = frozenset({"1", "L", "LA", "La", "F"})
# Formats by the first bytes of a file. Pillow can recognize them, but tries its 40 readers one after
# the other, which takes longer than decoding a thumbnail.
_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n": "PNG",
    b"GIF8": "GIF",
    b"RIFF": "WEBP",
}
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
    become RGB. Gray of 16 bits or floats is scaled to 8 bits. Of an animation the first frame is
    returned.

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


def load_visited(data: bytes | Pixels, reducible_to: tuple[int, int] | None = None) -> Image.Image:
    """Decode one image like `load_image`, in a thread of `visit_images`.

    Parameters
    ----------
    data : bytes or array (H, W) or (H, W, C) uint8
        The content of a file, or pixels.
    reducible_to : (height, width), optional
        A JPEG of at least four times this size may be decoded smaller, but at least twice this size.
        Its decoder halves images at almost no cost.

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
    try:
        image = open_encoded(data)
        if reducible_to is not None:
            # A square, because the orientation may still swap the sides.
            side = 2 * max(reducible_to)
            image.draft(image.mode, (side, side))
        image.load()
        return as_seen(image)
    except MemoryError:
        # The machine lacks memory. The file is not damaged and must not be reported as such.
        raise
    except Exception as error:
        # On damaged files Pillow's decoders raise almost any exception: OSError, SyntaxError,
        # ValueError, struct.error, KeyError, ...
        raise UnreadableImageError(reason_of(error)) from error


def open_encoded(data: bytes) -> Image.Image:
    """Open an image by its header; on damaged files almost any exception is raised."""
    known = next((name for start, name in _BEGINNINGS.items() if data.startswith(start)), None)
    return Image.open(io.BytesIO(data), formats=None if known is None else [known])


def reason_of(error: Exception) -> str:
    """Return why an image cannot be read, as a report can show it."""
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, PermissionError):
        return "no permission to read the file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels to decode safely: {error}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings (palette transparency, EXIF, size) from the user.

    It is entered once around all threads, never inside them, because warning filters belong to the
    process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def as_seen(image: Image.Image) -> Image.Image:
    """Convert a loaded image to "L" or "RGB", upright."""
    orientation = orientation_of(image)
    if image.mode.startswith("I") or image.mode == "F":
        seen = _narrow(image)
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


def _narrow(image: Image.Image) -> Image.Image:
    """Scale gray of 16 bits, 32 bits or floats to 8 bits.

    Integers from 0 to 65,535 are scaled as 16 bits, unless none exceeds 255: those are 8 bits in
    a wide file. Floats from 0 to 1 are scaled by 255 and those from 0 to 255 kept. Anything else
    is stretched from its minimum to its maximum.
    """
    values = np.asarray(image).astype(np.float64)  # (H, W)
    finite = np.isfinite(values)
    values[~finite] = 0.0
    low = float(values.min(where=finite, initial=np.inf))
    high = float(values.max(where=finite, initial=-np.inf))
    if not finite.any() or low == high == 0.0:
        scaled = np.zeros_like(values)
    elif image.mode == "F" and low >= 0.0 and high <= 1.0:
        scaled = values * 255.0
    elif low >= 0.0 and high <= 255.0:
        scaled = values
    elif image.mode != "F" and low >= 0.0 and high <= 65535.0:
        scaled = values / 257.0
    else:
        scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    narrow = np.rint(scaled).clip(0, 255).astype(np.uint8)
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

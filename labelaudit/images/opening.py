"""Open one encoded image by its header: only raster formats, and only of a size that can be decoded.

Pillow recognizes some fifty formats, whatever the name of the file is. A few of them start other
programs (EPS starts Ghostscript). Only `FORMATS` are tried here.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from labelaudit.images.containers import Pixels, UnreadableImageError

# The formats that Pillow decodes within this process, those of `IMAGE_SUFFIXES`. HEIF is decoded by
# pillow-heif.
FORMATS = (
    "JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "ICO", "PCX",
    "SGI", "TGA",
)  # fmt: skip
# Formats by the first bytes of a file. Pillow can recognize them, but tries its readers one after the
# other, which takes longer than decoding a thumbnail.
_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n": "PNG",
    b"GIF8": "GIF",
    b"RIFF": "WEBP",
}
# Formats that are known by their first bytes and not read, with advice.
_CONVERT = "convert it to PNG or JPEG"
_NOT_READ = {
    b"\xff\x0a": f"JPEG XL is not read; {_CONVERT}",
    b"\x00\x00\x00\x0cJXL ": f"JPEG XL is not read; {_CONVERT}",
    b"%!PS": f"PostScript is not read; {_CONVERT}",
    b"\xc5\xd0\xd3\xc6": f"PostScript is not read; {_CONVERT}",
    b"%PDF": f"PDF is not read; {_CONVERT}",
    b"SIMPLE  =": f"FITS is not read; {_CONVERT}",
    b"\xd7\xcd\xc6\x9a": f"WMF is not read; {_CONVERT}",
    b"<svg": f"SVG is not read; {_CONVERT}",
    b"version https://git-lfs": "the file is a pointer of Git LFS; fetch the image with `git lfs pull`",
}
# Brands of files in the ISO container (bytes 8 to 12) that are HEIF or AVIF.
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"}
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

# An image that unpacks to more than this, and to more than this many times the size of its file, is
# taken for one that was made to fill the memory. Photos unpack to 3 to 50 times their file.
BOMB_BYTES = 128 * 2**20
BOMB_RATIO = 200
LARGEST_ICON = 1024
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of TIFF
# Images are decoded at the same time as long as they need no more memory than this together.
DECODING_BYTES = 2**30
# While it is decoded an image exists about three times: as decoded, converted, and resized.
_COPIES = 3


def open_encoded(data: bytes) -> Image.Image:
    """Open an image by its header.

    Raises
    ------
    UnreadableImageError
        The format is not one that is read here.
    Exception
        On damaged files Pillow raises almost any exception.
    """
    for beginning, reason in _NOT_READ.items():
        if data.startswith(beginning):
            raise UnreadableImageError(reason)
    kind = next((name for start, name in _BEGINNINGS.items() if data.startswith(start)), None)
    if kind is None and data[4:8] == b"ftyp":
        kind = _iso_format(data)
    if kind is not None:
        return Image.open(io.BytesIO(data), formats=[kind])
    image = Image.open(io.BytesIO(data), formats=readable_formats())
    if image.format == "ICO":
        _check_icon(data)
    return image


def readable_formats() -> list[str]:
    """Return those of `FORMATS` that the installed Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_icon(data: bytes) -> None:
    """Refuse an icon whose PNG is larger than icons are, because the icon's header hides that."""
    at = data.find(b"\x89PNG\r\n")
    while at >= 0:
        width, height = (int.from_bytes(data[at + i : at + i + 4], "big") for i in (16, 20))
        if max(width, height) > LARGEST_ICON:
            raise UnreadableImageError(f"an icon of {width:,} x {height:,} pixels; save it as PNG")
        at = data.find(b"\x89PNG\r\n", at + 1)


def _iso_format(data: bytes) -> str | None:
    """Return the format of an ISO container, "AVIF" or "HEIF"; None for another one."""
    length = int.from_bytes(data[:4], "big")
    brands = {data[at : at + 4] for at in (8, *range(16, min(length, 256), 4))}
    if data[8:12] in _AVIF_BRANDS or (brands & _AVIF_BRANDS and not brands & {b"heic", b"heix"}):
        if not features.check("avif"):
            raise UnreadableImageError("this Pillow reads no AVIF; install pillow 11.3 or later")
        return "AVIF"
    if brands & _HEIF_BRANDS:
        _register_heif()
        return "HEIF"
    return None


def _register_heif() -> None:
    """Let Pillow read HEIF by pillow-heif, if that is installed."""
    if "HEIF" in Image.OPEN:
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise UnreadableImageError(
            'HEIC is read by pillow-heif, which is missing; pip install "labelaudit[heif]"'
        ) from None
    register_heif_opener()


def bytes_to_decode(image: Image.Image) -> int:
    """Return the memory, in bytes, that the pixels of an opened image take when they are decoded."""
    pixels = image.width * image.height
    each = 1 if image.mode in ("1", "L") else 2 if image.mode.startswith("I;") else 4
    if image.format == "JPEG":
        # All coefficients of a progressive JPEG are in memory, even if it is decoded smaller. Any
        # other JPEG is decoded line by line, and to a quarter of its sides where it is large.
        return pixels * 6 if "progressive" in image.info else pixels * each // 16
    if image.format == "TIFF":
        # Its tiles may be larger than the image.
        tags = getattr(image, "tag_v2", {})
        sides = [tags.get(tag, 0) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
        if all(isinstance(side, int) for side in sides):
            pixels = max(pixels, sides[0] * sides[1])
    return pixels * each


def check_unpacked(image: Image.Image, file_bytes: int) -> None:
    """Refuse an opened image that was made to fill the memory.

    Parameters
    ----------
    image : PIL.Image.Image
        Opened, not loaded.
    file_bytes : int
        Size of its file.

    Raises
    ------
    UnreadableImageError
        It unpacks to more than `BOMB_BYTES`, and `BOMB_RATIO` times its file.
    """
    needed = bytes_to_decode(image)
    if needed > BOMB_BYTES and needed > BOMB_RATIO * file_bytes:
        raise UnreadableImageError(
            f"{image.width:,} x {image.height:,} pixels ({needed / 2**20:,.0f} MiB) unpack from"
            f" {file_bytes:,} bytes, as in a file made to fill the memory; save it smaller"
        )


class _Room:
    """Memory that decoding threads share. A thread that finds none waits."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, needed: int) -> Iterator[None]:
        """Wait until there is room, or nobody else has any, and hold it while the context lasts."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + needed <= self._size)
            self._taken += needed
        try:
            yield
        finally:
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()


_ROOM = _Room(DECODING_BYTES)


@contextmanager
def room_to_decode(needed: int) -> Iterator[None]:
    """Wait until the memory that decoding an image needs is not used by other threads.

    `needed` are the bytes of its pixels; a few copies are made of them.
    """
    with _ROOM.take(_COPIES * needed):
        yield


def may_be_wide(data: bytes | Pixels) -> bool:
    """Return whether an image may have more than 8 bits per pixel and channel, from its first bytes."""
    if isinstance(data, np.ndarray):
        return False
    if data.startswith(b"\x89PNG\r\n"):
        return data[24:25] == b"\x10"  # the depth in the header
    return not data.startswith((b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM"))


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
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

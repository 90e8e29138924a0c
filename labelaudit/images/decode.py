"""Where encoded images lie, and decoding them once, in parallel, to uint8 pixels.

`Images` is the one view of a source's images that the rest needs: how many there are, and the
encoded bytes (or the array) of one of them. `decode_source` turns a whole source into one
(N, C, H, W) uint8 array; `plan_images` and `decode_images` are its two steps.

An image that cannot be decoded is never an error here: it is counted, with the reason in words.
"""

import io
import os
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageChops, UnidentifiedImageError

from labelaudit.errors import SourceError

T = TypeVar("T")
Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

# Row groups of a few thousand thumbnails, or of a hundred photos, are some 10 MB each: enough of
# them fit for every decoding thread to stand in its own.
ROW_GROUP_CACHE_BYTES = 256 * 2**20


class Images(Protocol):
    """The images of a source, in the order of its samples, read one at a time."""

    def __len__(self) -> int:
        """Return how many images there are."""
        ...

    def read(self, index: int) -> bytes | Pixels:
        """Return one image: its encoded bytes, or (H, W) or (H, W, C) uint8. Thread-safe.

        Raises
        ------
        OSError
            The image cannot be read: no such file, no permission, nothing in the table's cell.
        """
        ...

    def subset(self, indices: Indices) -> "Images":
        """Return the images at `indices` (M,), in that order, without reading any."""
        ...


class ImageFiles:
    """Images that are files.

    Parameters
    ----------
    paths : array (N,) of str
        A path that can be opened as it is, for each image.
    """

    def __init__(self, paths: npt.NDArray[np.object_]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> bytes:
        """Return the file's bytes; raises OSError where it cannot be read."""
        return Path(self._paths[index]).read_bytes()

    def subset(self, indices: Indices) -> "ImageFiles":
        """Return the files at `indices` (M,)."""
        return ImageFiles(self._paths[indices])


class ImageArrays:
    """Images that are an array in memory, or memory-mapped; it is not copied.

    Parameters
    ----------
    arrays : array (M, H, W) or (M, H, W, C) uint8
        C is 1 (grey), 3 (RGB) or 4 (RGB and alpha).
    rows : array (N,) int64, optional
        Which of the M images these are; by default all of them.
    """

    def __init__(self, arrays: Pixels, rows: Indices | None = None) -> None:
        self._arrays = arrays
        self._rows = np.arange(len(arrays)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Pixels:
        """Return a view of the image, (H, W) or (H, W, C) uint8."""
        image: Pixels = self._arrays[self._rows[index]]
        return image

    def subset(self, indices: Indices) -> "ImageArrays":
        """Return the images at `indices` (M,); the array stays one and the same."""
        return ImageArrays(self._arrays, self._rows[indices])


class ParquetImages:
    """Images in a column of parquet files: Hugging Face's struct{bytes, path}, or plain binary.

    Only the row groups being read are in memory, at most `ROW_GROUP_CACHE_BYTES` of them or two,
    whichever is more. Threads that walk through the rows in about the same order read each row
    group once: whoever needs it first reads it, the others wait for that.

    Parameters
    ----------
    files : sequence of Path
        The parquet files.
    column : str
        The column that holds the images.
    file_of : array (N,) int64
        For each image the file it lies in, as an index into `files`.
    rows : array (N,) int64
        For each image its row in that file, from 0.
    """

    def __init__(self, files: Sequence[Path], column: str, file_of: Indices, rows: Indices) -> None:
        self._column = column
        self._file_of = file_of
        self._rows = rows
        self._shards = [_Shard(file, column) for file in files]
        self._groups = _RowGroupCache(self._shards)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> bytes:
        """Return the image's bytes.

        Where the cell has a path and no bytes they are read from that path, relative to the
        parquet file's folder and inside it; raises OSError where there is neither or it fails.
        """
        file = int(self._file_of[index])
        shard = self._shards[file]
        group, row = shard.locate(int(self._rows[index]))
        cell = self._groups.get(file, group)[row].as_py()
        if isinstance(cell, bytes):
            return cell
        if cell is not None and cell.get("bytes") is not None:
            data: bytes = cell["bytes"]
            return data
        if cell is not None and cell.get("path"):
            return _path_inside(shard.file.parent, cell["path"]).read_bytes()
        raise OSError("the table's cell holds no image")

    def subset(self, indices: Indices) -> "ParquetImages":
        """Return the images at `indices` (M,), sharing the files and what is cached of them."""
        part = ParquetImages.__new__(ParquetImages)
        part._column = self._column
        part._file_of = self._file_of[indices]
        part._rows = self._rows[indices]
        part._shards = self._shards
        part._groups = self._groups
        return part


class NoImages:
    """The images of a source that has none: labels of texts, sounds or rows, with features.

    Parameters
    ----------
    total : int
        How many samples there are.
    """

    def __init__(self, total: int) -> None:
        self._total = total

    def __len__(self) -> int:
        return self._total

    def read(self, index: int) -> bytes:
        """Raise UnreadableImageError: there is nothing to see."""
        raise UnreadableImageError("this source has labels and features, and no images")

    def subset(self, indices: Indices) -> "NoImages":
        """Return as many as `indices` (M,)."""
        return NoImages(len(indices))


class _Shard:
    """One parquet file: its footer, read once, and where its row groups begin."""

    def __init__(self, file: Path, column: str) -> None:
        self.file = file
        self._column = column
        with pq.ParquetFile(file) as opened:
            self._footer = opened.metadata
        sizes = [self._footer.row_group(i).num_rows for i in range(self._footer.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])

    def locate(self, row: int) -> tuple[int, int]:
        """Return the row group that holds `row`, and the row's place in it."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        return group, row - int(self._starts[group])

    def read(self, group: int) -> pa.ChunkedArray:
        # A file handle of its own for each read: one shared by threads is not safe to seek in.
        try:
            with pq.ParquetFile(self.file, metadata=self._footer) as opened:
                table = opened.read_row_group(group, columns=[self._column], use_threads=False)
        except pa.ArrowException as error:
            raise OSError(f"a damaged part of {self.file.name}: {error}") from error
        return table.column(0)


class _RowGroupCache:
    """The row groups read last, each read by one thread while the others wait for it."""

    def __init__(self, shards: Sequence[_Shard]) -> None:
        self._shards = shards
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[int, int], Future[pa.ChunkedArray]] = OrderedDict()

    def get(self, file: int, group: int) -> pa.ChunkedArray:
        key = (file, group)
        with self._lock:
            waiting = self._groups.get(key)
            if waiting is not None:
                self._groups.move_to_end(key)
            else:
                mine: Future[pa.ChunkedArray] = Future()
                self._groups[key] = mine
        if waiting is not None:
            return waiting.result()
        try:
            mine.set_result(self._shards[file].read(group))
        except BaseException as error:
            with self._lock:
                self._groups.pop(key, None)
            mine.set_exception(error)
            raise
        with self._lock:
            self._drop_oldest()
        return mine.result()

    def _drop_oldest(self) -> None:
        read = {key: future.result() for key, future in self._groups.items() if future.done()}
        total = sum(group.nbytes for group in read.values())
        for key, group in list(read.items()):
            # Two stay whatever their size: at the border of two row groups both are in use.
            if total <= ROW_GROUP_CACHE_BYTES or len(read) <= 2:
                return
            total -= group.nbytes
            del read[key], self._groups[key]


def _path_inside(folder: Path, text: str) -> Path:
    """Return the path in `folder` that a table's cell names; OSError where it leads out of it."""
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(text).drive or ".." in path.parts:
        raise OSError(f'the path "{text}" leaves the folder of the parquet file')
    return folder / path


class UnreadableImageError(OSError):
    """An image cannot be decoded; the message says why, in words that fit into a report."""


class ColorFoundError(Exception):
    """A color image turned up where grey ones were planned; `decode_source` handles it."""

    def __init__(self, index: int) -> None:
        super().__init__(f"image {index} has color, and one grey channel was planned")
        self.index = index


# Pillow's modes that are grey, with or without alpha; those of 16 bits begin with "I".
_GREY_MODES = frozenset({"1", "L", "LA", "La", "F"})
# Formats by how their files begin. Pillow finds out by itself, but asks each of its 40 readers in
# turn, which takes longer than decoding a thumbnail.
_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n": "PNG",
    b"GIF8": "GIF",
    b"RIFF": "WEBP",
}
# What Pillow keeps in `info` for formats that can carry an orientation.
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

    EXIF orientation is applied; what is transparent shows white; CMYK and other color spaces
    become RGB; 16-bit and float grey is scaled to 8 bits; of an animation it is the first frame.

    Parameters
    ----------
    data : bytes or array (H, W) or (H, W, C) uint8
        A file's content, or pixels with C in 1, 3, 4.

    Returns
    -------
    PIL.Image.Image
        In mode "L" where the file's mode is grey, else "RGB". Pixels whose file has the same mode
        and no orientation are exactly the file's.

    Raises
    ------
    UnreadableImageError
        Not an image, truncated, broken, or too many pixels to decode safely.

    Notes
    -----
    For one thread at a time, because it silences Pillow's warnings, and warning filters belong to
    the process; `decode_images` and `visit_images` are for many.
    """
    with _quiet_pillow():
        return load_visited(data)


def load_visited(data: bytes | Pixels, reducible_to: tuple[int, int] | None = None) -> Image.Image:
    """Decode like `load_image` in one of the threads of `visit_images`, which silences warnings.

    With `reducible_to` (height, width) a JPEG at least four times as large may come out smaller,
    though at least twice that size: its decoder halves almost for free.
    """
    if isinstance(data, np.ndarray):
        pixels = data[..., 0] if data.ndim == 3 and data.shape[2] == 1 else data
        return _as_seen(Image.fromarray(pixels))
    if not data:
        raise UnreadableImageError("the file is empty")
    try:
        image = _open(data)
        if reducible_to is not None:
            # A square, because the orientation may still swap the sides.
            side = 2 * max(reducible_to)
            image.draft(image.mode, (side, side))
        image.load()
        return _as_seen(image)
    except MemoryError:
        # The machine's trouble, not the image's: it must not pass for a broken file.
        raise
    except Exception as error:
        # On damaged files Pillow's decoders raise nearly anything: OSError, SyntaxError,
        # ValueError, struct.error, KeyError, ...
        raise UnreadableImageError(_reason(error)) from error


def _open(data: bytes) -> Image.Image:
    known = next((name for start, name in _BEGINNINGS.items() if data.startswith(start)), None)
    return Image.open(io.BytesIO(data), formats=None if known is None else [known])


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file is not there"
    if isinstance(error, PermissionError):
        return "no permission to read the file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels to decode safely: {error}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings (palette transparency, EXIF, size) from the user.

    Entered once around all threads, never in them, for the filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _as_seen(image: Image.Image) -> Image.Image:
    """Convert a loaded image to "L" or "RGB", upright."""
    orientation = _orientation(image)
    if image.mode.startswith("I") or image.mode == "F":
        seen = _narrow(image)
    elif image.has_transparency_data and image.mode != "CMYK":
        seen = _on_white(image)
    elif image.mode in ("L", "RGB"):
        seen = image
    else:
        seen = image.convert("L" if image.mode in _GREY_MODES else "RGB")
    return seen.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else seen


def _orientation(image: Image.Image) -> int:
    # Asked only where there is something to ask: for a PNG `getexif` would decode all of it.
    if image.format != "TIFF" and not any(key in image.info for key in _ORIENTATION_KEYS):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        # Damaged metadata does not make the picture unreadable; viewers show it as it lies.
        return 1


def _on_white(image: Image.Image) -> Image.Image:
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:
        # A PNG of 16 bits a channel, which Pillow reads as 8, names its color in 16.
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    grey = image.mode in _GREY_MODES
    layered = image.convert("LA" if grey else "RGBA")
    opaque = layered.convert("L" if grey else "RGB")
    canvas = Image.new(opaque.mode, opaque.size, "white")
    canvas.paste(opaque, mask=layered.getchannel("A"))
    return canvas


def _narrow(image: Image.Image) -> Image.Image:
    """Scale grey of 16 bits, 32 bits or floats to 8 bits.

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


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """All images as one array.

    Attributes
    ----------
    pixels : array (N, C, H, W) uint8
        The images in order; those that are unreadable are zero.
    unreadable : dict of int to str
        Index of each image that could not be decoded, in order, and the reason in words.
    """

    pixels: Pixels
    unreadable: dict[int, str]


# Color is looked for in the pixels of so many images whose mode is color; in a source that has
# any, the first one looked at nearly always ends the search.
_COLOR_PROBES = 64


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
    with _quiet_pillow(), ThreadPoolExecutor(_usable_cores()) as pool:
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
        with _open(data) as image:
            if image.format == "TIFF":
                image.load()  # only then does Pillow turn it, and forget the tag
            width, height = image.size
            if _orientation(image) >= 5:  # a quarter turn
                width, height = height, width
            grey = image.mode in _GREY_MODES or image.mode.startswith("I")
            return _Header(index, height, width, grey)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged files
        return _reason(error)


def _shows_color(images: Images, index: int) -> bool:
    try:
        return _has_color(load_visited(images.read(index)))
    except OSError:
        return False  # unreadable images have no say


def _has_color(image: Image.Image) -> bool:
    """Say whether the three channels of an image differ anywhere; False for mode "L"."""
    if image.mode == "L":
        return False
    red, green, blue = image.split()
    return any(ImageChops.difference(red, other).getbbox() is not None for other in (green, blue))


def decode_source(
    images: Images,
    plan: ImagePlan,
    size: tuple[int, int] | None = None,
    *,
    workers: int | None = None,
    allocate: Callable[[tuple[int, int, int, int]], Pixels] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> DecodedImages:
    """Decode all images, with the size and the channels that fit them: the call to use.

    The plan was made from a sample. Should a color image turn up among images planned as
    grey, decoding starts over with three channels, so that color is never lost; `on_progress`
    then starts again from the beginning.

    Parameters
    ----------
    images : Images
        The source's images, N of them.
    plan : ImagePlan
        From `plan_images`.
    size : (height, width), optional
        In pixels; by default the plan's.
    workers : int, optional
        Threads; by default one for each core that the process may use.
    allocate : callable, optional
        Makes the array to decode into from its shape (N, C, H, W), in uint8: where a source
        does not fit into memory, a memory-mapped one. Called again if decoding starts over.
    on_progress : callable, optional
        Called in this thread with the number of images done, at most some 200 times.
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
    """Decode all images to one size, in parallel; the result does not depend on the threads.

    An image of that size keeps its pixels exactly. Another is resized with its aspect ratio kept
    (Lanczos to make it smaller, bilinear to enlarge) and centered; the rest is filled with the
    median color of its edge. Black bars would be the strongest shape in the picture, one that
    tells the aspect ratio and with it often the class; the edge's color hides the seam.

    Parameters
    ----------
    images : Images
        The source's images, N of them.
    height, width : int
        Size of the result in pixels.
    channels : {1, 3}
        With 3, grey images get three equal channels.
    workers : int, optional
        Threads; by default one for each core that the process may use.
    out : array (N, channels, height, width) uint8, optional
        Decoded into and returned as `pixels`, e.g. memory-mapped; by default a new array.
    on_progress : callable, optional
        Called in this thread with the number of images done, at most some 200 times.

    Raises
    ------
    ColorFoundError
        `channels` is 1 and an image has color; it is not dropped silently.
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
    progress = Progress(total, on_progress)
    done = 0

    def decode(index: int, data: bytes | Pixels) -> None:
        _decode_into(pixels[index], data, index)

    with closing(visit_images(images, decode, workers=workers)) as visits:
        for visited in visits:
            for index, failed in enumerate(visited, done):
                if failed is not None:
                    pixels[index] = 0
                    unreadable[index] = str(failed)
            done += len(visited)
            progress.reached(done)
    return DecodedImages(pixels=pixels, unreadable=unreadable)


def visit_images(
    images: Images,
    visit: Callable[[int, bytes | Pixels], T],
    *,
    step: int = 64,
    workers: int | None = None,
) -> Generator[list[T | UnreadableImageError], None, None]:
    """Read all images in parallel threads, and yield what `visit` makes of them, in order.

    Close it (`contextlib.closing`) where it may not be exhausted: that ends the threads, each
    after the image in its hands.

    Parameters
    ----------
    images : Images
        The source's images, N of them.
    visit : callable
        Called in a thread with an image's index and what `Images.read` returned. For Pillow use
        `load_visited` there.
    step : int
        At most so many results are yielded at once, and at most two such lists for each thread, and
        one more, wait to be taken.
    workers : int, optional
        Threads; by default one for each core that the process may use.

    Yields
    ------
    list
        Results of the next images; in place of a result the UnreadableImageError, with the reason
        in words, where reading or `visit` raised an OSError. Other exceptions end the iteration.
    """
    total = len(images)
    workers = workers or _usable_cores()
    stopping = threading.Event()

    def visit_range(start: int, stop: int) -> list[T | UnreadableImageError]:
        results: list[T | UnreadableImageError] = []
        for index in range(start, stop):
            if stopping.is_set():
                break
            try:
                results.append(visit(index, images.read(index)))
            except OSError as error:
                results.append(UnreadableImageError(_reason(error)))
        return results

    # Ranges, not images, go to the threads, and only a few ahead of the oldest: a million images
    # do not become a million futures, and results come back in order.
    step = max(1, min(step, total // (4 * workers)))
    pending: deque[Future[list[T | UnreadableImageError]]] = deque()
    with _quiet_pillow(), ThreadPoolExecutor(workers) as pool:
        Image.init()  # its lazy loading of formats is not made for several threads at once
        try:
            for start in range(0, total, step):
                pending.append(pool.submit(visit_range, start, min(start + step, total)))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            # Ctrl-C among them: each thread ends after the image in its hands.
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _decode_into(target: Pixels, data: bytes | Pixels, index: int) -> None:
    """Decode image `index` into `target` (C, H, W)."""
    channels, height, width = target.shape
    image = load_visited(data, reducible_to=(height, width))
    if channels == 1 and image.mode == "RGB":
        if _has_color(image):
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


class Progress:
    """Passes on at most some 200 calls, and always the last one."""

    def __init__(self, total: int, call: Callable[[int], None] | None) -> None:
        self._total = total
        self._call = call
        self._every = max(1, total // 200)
        self._next = self._every

    def reached(self, done: int) -> None:
        """Tell that so many are done."""
        if self._call is not None and (done >= self._next or done == self._total):
            self._call(done)
            self._next = done + self._every


def _usable_cores() -> int:
    # In a container or under taskset fewer than the machine has; macOS and Windows cannot tell.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

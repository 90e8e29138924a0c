"""Features of images from a frozen backbone, cached on disk by the content of each image.

Another audit of the same images computes nothing, even if their order or their names have changed.
Features from elsewhere are read by `labelaudit.sources.feature_tables`.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelaudit.checksums import is_intact, seal
from labelaudit.errors import OptionError, OutputError
from labelaudit.features.backbones import Backbone
from labelaudit.files import atomic_write, remove_partial_files
from labelaudit.images.containers import Images, Pixels, UnreadableImageError
from labelaudit.images.gray_range import GrayRange, GrayRanges
from labelaudit.images.pillow import load_visited
from labelaudit.images.visits import Progress, visit_images

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.void]  # of HASH_BYTES each

CACHE_VARIABLE = "LABELAUDIT_CACHE"
HASH_BYTES = 16
# Computed features are written at the latest after this many images or seconds, so that an
# interruption loses no more.
PART_ROWS = 4096
PART_SECONDS = 15.0
# Number of pixels in each forward pass, which bounds its memory. A CPU is faster if they fit its cache:
# EfficientNet-Lite0 reads 160 images of 128x128 per second in batches of 24, and 107 in batches of 98.
CPU_BATCH_PIXELS = 8 * 224**2
DEVICE_BATCH_PIXELS = 256 * 224**2
LARGEST_BATCH = 256
# Number of rows that are copied at a time, to bound the memory that is used twice.
BLOCK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class ExtractedFeatures:
    """The features of all images of a source.

    Attributes
    ----------
    features : array (N, d) float32
        In the order of the images; zero where an image is unreadable.
    unreadable : dict of int to str
        Index of each image that could not be decoded, in order, and the reason in words.
    content_hashes : array (N,) of 16 bytes each
        Equal for files, or arrays of pixels, with the same content; zero where unreadable.
    num_computed : int
        Number of images whose features were computed; the others were in the cache.
    gray_ranges : dict of str to GrayRange
        See `labelaudit.images.decode.DecodedImages`.
    damaged : tuple of Path
        Files of the cache that have changed since they were written. They were deleted, and the
        features of their images computed again.
    """

    features: Floats
    unreadable: dict[int, str]
    content_hashes: Hashes
    num_computed: int
    gray_ranges: dict[str, GrayRange] = field(default_factory=dict)
    damaged: tuple[Path, ...] = ()


def extract_features(
    images: Images,
    backbone: Backbone,
    *,
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    allocate: Callable[[tuple[int, int]], Floats] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ExtractedFeatures:
    """Return the features of each image, and compute only those that are not in the cache.

    Images are recognized by their content. After an interruption, the next call continues at the same
    point. Concurrent calls are safe, but may compute the same features. Each image is read and hashed
    once, and decoded only if its features are not in the cache.

    Parameters
    ----------
    images : Images
        The source's images, N of them.
    backbone : Backbone
        Gives d features per image.
    cache_dir : str or Path, optional
        Folder of the cache; by default `default_cache_dir`.
    workers : int, optional
        Number of threads that read and decode; by default one per core that the process may use.
    allocate : callable, optional
        Makes the array (N, d) float32 of zeros for the result. It can be memory-mapped if memory is
        too small.
    on_progress : callable, optional
        Called in this thread with the number of images done, at most some 200 times.

    Raises
    ------
    OptionError
        The backbone gives features that are not finite.
    OutputError
        The cache cannot be written.
    """
    store = FeatureStore(
        (default_cache_dir() if cache_dir is None else Path(cache_dir)) / "features",
        backbone.identity,
        backbone.feature_size,
    )
    added: set[bytes] = set()
    size = _batch_size(backbone)
    resize = (backbone.preprocess.resize,) * 2
    ranges = GrayRanges(images)

    def visit(index: int, data: bytes | Pixels) -> tuple[bytes, Pixels | None]:
        key = content_key(data, ranges.range_of_encoded(data))
        if key in added or store.holds(key):
            return key, None
        return key, backbone.preprocess(load_visited(data, resize, ranges))

    keys = np.zeros(len(images), f"V{HASH_BYTES}")
    unreadable: dict[int, str] = {}
    batch: dict[bytes, Pixels] = {}
    progress = Progress(len(images), on_progress)
    done = 0
    with closing(visit_images(images, visit, step=16, workers=workers)) as visits, store:
        for visited in visits:
            for index, seen in enumerate(visited, done):
                if isinstance(seen, UnreadableImageError):
                    unreadable[index] = str(seen)
                    continue
                keys[index], pixels = seen
                # The same image may be decoded twice, but its features are computed once.
                if pixels is not None and seen[0] not in added:
                    added.add(seen[0])
                    batch[seen[0]] = pixels
                if len(batch) >= size:
                    store.add(list(batch), _look_at(batch, backbone))
                    batch.clear()
            done += len(visited)
            progress.reached(done)
        if batch:
            store.add(list(batch), _look_at(batch, backbone))
    shape = (len(images), backbone.feature_size)
    features = np.zeros(shape, np.float32) if allocate is None else allocate(shape)
    store.fetch(keys, np.setdiff1d(np.arange(len(images)), list(unreadable)), features)
    damaged = tuple(store.damaged)
    return ExtractedFeatures(features, unreadable, keys, len(added), ranges.measured, damaged)


def default_cache_dir() -> Path:
    """Return the folder that LABELAUDIT_CACHE names, or labelaudit's in the user's cache folder.

    Raises
    ------
    OutputError
        It lies in the home folder of an account that has none, for example in a container.
    """
    named = os.environ.get(CACHE_VARIABLE)
    try:
        if named:
            return Path(named).expanduser()
        # Imported only here, so that a machine without it can run from the source tree.
        from platformdirs import user_cache_path

        # Some versions of it return "~/.cache" where nobody knows the home folder.
        return user_cache_path("labelaudit", appauthor=False).expanduser()
    except RuntimeError as error:
        raise OutputError(
            "there is no folder for the cache, because this account has no home folder; set"
            f" {CACHE_VARIABLE} to a folder"
        ) from error


def content_key(data: bytes | Pixels, gray_range: GrayRange | None = None) -> bytes:
    """Return 16 bytes that identify the content of an image: its encoded bytes, or its pixels.

    `gray_range` is that by which an image with more than 8 bits is scaled, which other images decide.
    """
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    if isinstance(data, np.ndarray):
        digest.update(f"pixels {data.shape}".encode())
        digest.update(np.ascontiguousarray(data).data)
    else:
        digest.update(data)
    if gray_range is not None:
        digest.update(f"gray {gray_range.low!r} {gray_range.high!r}".encode())
    return digest.digest()


def _batch_size(backbone: Backbone) -> int:
    pixels = CPU_BATCH_PIXELS if backbone.device.type == "cpu" else DEVICE_BATCH_PIXELS
    return max(1, min(LARGEST_BATCH, pixels // backbone.image_size**2))


def _look_at(batch: dict[bytes, Pixels], backbone: Backbone) -> Floats:
    """Return the features (B, d) of preprocessed images. Raises OptionError if not finite."""
    features: Floats = backbone(torch.from_numpy(np.stack(list(batch.values())))).cpu().numpy()
    if not np.isfinite(features).all():
        raise OptionError(
            f"{backbone.name} gives features that are not finite; "
            "its weights may be damaged, or not those of this network"
        )
    return features


class FeatureStore:
    """Features in files that are written once, completely, and never changed.

    A file holds two arrays as `numpy.save` writes them: keys (M,) of 16 bytes each, then features
    (M, d), in half precision if that loses less than a thousandth, and at last the checksum of both.
    The first audit reads the features back too, so that it gets the same values as the next. Each
    process writes its own files, so no lock is needed.

    As a context manager it writes what was added when the context ends, also after an error.

    Parameters
    ----------
    root : Path
        Folder of all stores.
    identity : str
        `Backbone.identity`, the name of the store's folder. The folder is made if it is missing.
    feature_size : int
        d.

    Attributes
    ----------
    damaged : list of Path
        Files that were found to have changed since they were written, and deleted.

    Raises
    ------
    OutputError
        The folder cannot be made.
    """

    def __init__(self, root: Path, identity: str, feature_size: int) -> None:
        self.folder = root / identity
        self._feature_size = feature_size
        self._added: list[tuple[list[bytes], Floats]] = []
        self._kept_at = time.monotonic()
        self.damaged: list[Path] = []
        self._intact: dict[Path, bool] = {}  # of each file that was read whole
        self._file_of: dict[bytes, Path] | None = None
        self._lock = Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_keep(error.strerror or str(error)) from error
        remove_partial_files(self.folder)

    def __enter__(self) -> "FeatureStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.keep()

    def keys(self) -> set[bytes]:
        """Return the keys of all features in the store."""
        return {key for _, keys, _ in self._parts() for key in keys.tolist()}

    def holds(self, key: bytes) -> bool:
        """Whether the features of a key were in the store at the first call, and are intact.

        The checksum of a file is compared when the first of its keys is asked for. Several threads may
        call this.
        """
        with self._lock:
            if self._file_of is None:
                self._file_of = self._index()
            while (path := self._file_of.get(key)) is not None:
                if self._is_intact(path):
                    return True
                self._file_of = self._index()  # without this file
            return False

    def _index(self) -> dict[bytes, Path]:
        """Return the file of each key."""
        return {key: path for path, keys, _ in self._parts() for key in keys.tolist()}

    def _is_intact(self, path: Path) -> bool:
        """Whether a file has its checksum. If not, it is deleted."""
        if path not in self._intact:
            try:
                # A file without a checksum was written by an earlier version.
                self._intact[path] = is_intact(path) is True
            except OSError:  # another process has deleted it
                self._intact[path] = False
            if not self._intact[path]:
                self.damaged.append(path)
                with suppress(OSError):
                    path.unlink()
        return self._intact[path]

    def add(self, keys: Sequence[bytes], features: Floats) -> None:
        """Add the features (M, d) of M keys. They are written later by `keep`."""
        self._added.append((list(keys), features))
        rows = sum(len(keys) for keys, _ in self._added)
        if rows >= PART_ROWS or time.monotonic() - self._kept_at > PART_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Write the added features to a new file.

        Raises OutputError if the file cannot be written.
        """
        self._kept_at = time.monotonic()
        if not self._added:
            return
        keys = np.array([key for keys, _ in self._added for key in keys], f"V{HASH_BYTES}")
        features = np.concatenate([features for _, features in self._added])
        self._added.clear()
        try:
            with (
                atomic_write(self.folder / f"{secrets.token_hex(8)}.part") as path,
                path.open("wb") as file,
            ):
                np.lib.format.write_array(file, keys, version=(1, 0))
                np.lib.format.write_array(file, _halved(features), version=(1, 0))
                file.flush()
                seal(path)
        except OutputError as error:
            raise self._cannot_keep(str(error.__cause__)) from error

    def fetch(self, keys: Hashes, rows: npt.NDArray[np.int64], out: Floats) -> None:
        """Fill the `rows` (M,) of `out` (N, d) with the features of those of `keys` (N,).

        Raises OutputError if some features are missing, because their files were removed.
        """
        number: dict[bytes, int] = {}  # of each content, from 0: U of them
        content = np.array([number.setdefault(k, len(number)) for k in keys[rows].tolist()], int)
        part_of = np.full(len(number), -1)
        row_of = np.zeros(len(number), np.int64)
        parts: list[npt.NDArray[np.floating[Any]]] = []
        for path, stored, features in self._parts():
            found = [
                (one, row)
                for row, key in enumerate(stored.tolist())
                if (one := number.get(key)) is not None and part_of[one] < 0
            ]
            if found and self._is_intact(path):
                for one, row in found:
                    part_of[one], row_of[one] = len(parts), row
                parts.append(features)
        if (part_of < 0).any():
            raise self._cannot_keep("some of them are missing")
        order = np.argsort(part_of[content], kind="stable")  # each file's rows together
        for start in range(0, len(order), BLOCK_ROWS):
            block = order[start : start + BLOCK_ROWS]
            for part in np.unique(part_of[content[block]]):
                here = block[part_of[content[block]] == part]
                out[rows[here]] = parts[part][row_of[content[here]]]

    def _parts(self) -> Iterator[tuple[Path, Hashes, npt.NDArray[np.floating[Any]]]]:
        """Yield the path, keys (M,) and memory-mapped features (M, d) of each file.

        Files that are known or seen at once to be damaged are skipped.
        """
        for path in sorted(self.folder.glob("[!.]*.part")):
            if not self._intact.get(path, True):
                continue
            try:
                with path.open("rb") as file:
                    keys = np.lib.format.read_array(file, allow_pickle=False)
                    np.lib.format.read_magic(file)
                    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                    start = file.tell()
                features = np.memmap(path, dtype, "r", start, shape)
            except (OSError, ValueError, EOFError):
                continue
            fits = keys.dtype == f"V{HASH_BYTES}" and dtype in (np.float16, np.float32)
            if fits and shape == (len(keys), self._feature_size):
                yield path, keys, features

    def _cannot_keep(self, reason: str) -> OutputError:
        return OutputError(
            f"features cannot be cached in {self.folder} ({reason}); free some space, or set"
            f" {CACHE_VARIABLE} to another folder"
        )


def _halved(features: Floats) -> npt.NDArray[np.floating[Any]]:
    """Return features in half precision if that loses less than a thousandth of the largest."""
    with np.errstate(over="ignore", invalid="ignore"):
        half = features.astype(np.float16)
        loss = np.abs(half - features).max(initial=0.0)  # infinite where half is too narrow
    return half if loss <= 1e-3 * np.abs(features).max(initial=0.0) else features

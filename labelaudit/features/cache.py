"""Features on disk, kept by the content of the images that they belong to."""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from labelaudit.checksums import is_intact, seal
from labelaudit.errors import OutputError
from labelaudit.files import atomic_write, remove_partial_files
from labelaudit.images.containers import Pixels
from labelaudit.images.gray_range import GrayRange

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.void]  # of HASH_BYTES each

CACHE_VARIABLE = "LABELAUDIT_CACHE"
HASH_BYTES = 16
# Computed features are written at the latest after this many images or seconds, so that an
# interruption loses no more.
PART_ROWS = 4096
PART_SECONDS = 15.0
# Number of rows that are copied at a time, to bound the memory that is used twice.
BLOCK_ROWS = 4096


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

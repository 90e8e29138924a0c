"""Arrays for the pixels or features of all samples: in memory if small, else in a mapped file.

The operating system caches the pages of a mapped file and drops them if memory runs short. A data set
may therefore be larger than memory.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError

Store = npt.NDArray[Any]

# In bytes. A larger array is memory-mapped.
LARGEST_IN_MEMORY = 1 << 29
PREFIX = "labelaudit-store-"
# Number of rows that are moved at a time when some are dropped.
MOVED_ROWS = 4096


def make_store(shape: tuple[int, ...], dtype: npt.DTypeLike, scratch: Path | None = None) -> Store:
    """Make an array of zeros, in memory up to `LARGEST_IN_MEMORY` bytes, else memory-mapped.

    The mapped file has no name, so the system deletes it together with the array, even after a crash.

    Parameters
    ----------
    shape, dtype
        Those of the array.
    scratch
        Folder for the file, or its nearest parent if it does not exist. By default the system's
        folder for temporary files.

    Raises
    ------
    SourceError
        If the disk has no space for the file.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize <= LARGEST_IN_MEMORY:
        return np.zeros(shape, dtype)
    folder = writable(scratch)
    with tempfile.TemporaryFile(prefix=PREFIX, dir=folder) as file:
        return map_file(file, folder, shape, dtype)


def writable(folder: Path | None) -> Path:
    """Return a folder or its nearest existing parent; if read-only, that for temporary files."""
    while folder is not None and not folder.is_dir():
        folder = folder.parent
    if folder is None or not os.access(folder, os.W_OK):
        return Path(tempfile.gettempdir())
    return folder


def map_file(file: IO[bytes], folder: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Store:
    """Map an open file, which is extended if it is too short. Several processes may share it.

    Its space on the disk is reserved at once. Otherwise a full disk would kill the process that writes
    to the array. Raises SourceError if the disk has no space for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(folder).free
    try:
        missing = size - os.fstat(file.fileno()).st_size
        if free < missing:
            raise OSError
        if missing > 0 and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif missing > 0:
            os.truncate(file.fileno(), size)
    except OSError as error:
        raise SourceError(
            f"the decoded samples need {size / 2**30:.1f} GiB, but {folder} has only"
            f" {free / 2**30:.1f} GiB left; free some space, or write to another disk with `out`"
        ) from error
    return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def make_copy(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Store:
    """Make an array of zeros as `make_store` does, but in memory if the disk has no space for it."""
    try:
        return make_store(shape, dtype)
    except SourceError:
        return np.zeros(shape, dtype)


def copy_rows(array: Store, chosen: npt.NDArray[Any]) -> Store:
    """Return a copy of some rows: in memory if it is small, else memory-mapped; see `make_copy`.

    Parameters
    ----------
    array
        ``(N, ...)``, which may be memory-mapped. It is read in blocks, so that it need not fit in
        memory.
    chosen
        ``(M,)`` indices, or an ``(N,)`` mask.
    """
    rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
    made = make_copy((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), MOVED_ROWS):
        made[start : start + MOVED_ROWS] = array[rows[start : start + MOVED_ROWS]]
    return made


def keep_rows(store: Store, keep: np.ndarray) -> Store:
    """Move the rows to keep to the front, in their order, and return a view of them.

    Parameters
    ----------
    store
        ``(N, ...)``. It is changed in place, so that nothing is in memory twice.
    keep
        ``(N,)`` bool.
    """
    rows = np.flatnonzero(keep)
    for start in range(0, len(rows), MOVED_ROWS):
        part = rows[start : start + MOVED_ROWS]
        # Rows only move to the front, so what is overwritten was moved before.
        store[start : start + len(part)] = store[part]
    return store[: len(rows)]

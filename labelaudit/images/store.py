"""Room for what is read of every sample: in memory while it is small, else in a mapped file.

The pages of a mapped file are the system's cache: they are given back where memory runs short, so that
a data set may be larger than memory.
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

# A larger store is mapped.
LARGEST_IN_MEMORY = 1 << 29
PREFIX = "labelaudit-store-"
# Rows moved at a time where some are left out.
MOVED_ROWS = 4096


def make_store(shape: tuple[int, ...], dtype: npt.DTypeLike, scratch: Path | None = None) -> Store:
    """Make an array of zeros, in memory up to `LARGEST_IN_MEMORY` bytes, else memory-mapped.

    A mapped file has no name, so that it goes when the array is let go, whatever happens.

    Parameters
    ----------
    shape, dtype
        The array's.
    scratch
        Folder for the file, or the first above it that is there; by default the system's for
        temporary files.

    Raises
    ------
    SourceError
        If there is no room for the file.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize <= LARGEST_IN_MEMORY:
        return np.zeros(shape, dtype)
    folder = writable(scratch)
    with tempfile.TemporaryFile(prefix=PREFIX, dir=folder) as file:
        return map_file(file, folder, shape, dtype)


def writable(folder: Path | None) -> Path:
    """Give a folder, or the first above it that is there; else the system's."""
    while folder is not None and not folder.is_dir():
        folder = folder.parent
    if folder is None or not os.access(folder, os.W_OK):
        return Path(tempfile.gettempdir())
    return folder


def map_file(file: IO[bytes], folder: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Store:
    """Map an open file, made long enough if it is not; several processes may share it.

    The room is taken at once: a file that the disk cannot hold kills whoever writes to it.

    Parameters
    ----------
    file, folder
        Open for reading and writing, and where it lies.
    shape, dtype
        The array's.

    Raises
    ------
    SourceError
        If there is no room for it.
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
            f"the decoded samples take {size / 2**30:.1f} GiB, and {folder} has"
            f" {free / 2**30:.1f} GiB left; free some, or write to another disk with `out`"
        ) from error
    return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def keep_rows(store: Store, keep: np.ndarray) -> Store:
    """Move the rows to keep to the front, in their order, and give a view of them.

    Parameters
    ----------
    store
        ``(N, ...)``, changed in place, so that nothing lies in memory twice.
    keep
        ``(N,)`` bool.
    """
    rows = np.flatnonzero(keep)
    for start in range(0, len(rows), MOVED_ROWS):
        part = rows[start : start + MOVED_ROWS]
        # Rows only move towards the front, so what is overwritten was read already.
        store[start : start + len(part)] = store[part]
    return store[: len(rows)]

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
from typing import Any

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError

Store = npt.NDArray[Any]

# A larger store is mapped.
LARGEST_IN_MEMORY = 1 << 29
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
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= LARGEST_IN_MEMORY:
        return np.zeros(shape, dtype)
    while scratch is not None and not scratch.is_dir():
        scratch = scratch.parent
    with tempfile.TemporaryFile(prefix="labelaudit-", dir=scratch) as file:
        _reserve(file.fileno(), size, scratch or Path(tempfile.gettempdir()))
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def _reserve(file: int, size: int, folder: Path) -> None:
    """Take the room now: a mapped file that the disk cannot hold kills whoever writes to it."""
    free = shutil.disk_usage(folder).free
    try:
        if free < size:
            raise OSError
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
        else:
            os.truncate(file, size)
    except OSError as error:
        raise SourceError(
            f"the decoded samples take {size / 2**30:.1f} GiB, and {folder} has"
            f" {free / 2**30:.1f} GiB left; free some, or write to another disk with --out"
        ) from error


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

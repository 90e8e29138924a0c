"""Checksums of files: at their end (a seal), or kept elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

# A sealed file ends with this text and the sha256 (hex) of all bytes before it. Readers of zip files
# and of NumPy arrays ignore bytes after the content.
SEAL = b"\nlabelaudit sha256 "
SEAL_BYTES = len(SEAL) + 64
BLOCK_BYTES = 1 << 20
BLOCK_ROWS = 4096


class Digest(Protocol):
    """What hashlib's functions return."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""


def add_rows(digest: Digest, array: npt.NDArray[Any]) -> None:
    """Add an array ``(N, ...)`` to a digest, in blocks, because it may be mapped from a file."""
    for start in range(0, len(array), BLOCK_ROWS):
        digest.update(np.ascontiguousarray(array[start : start + BLOCK_ROWS]).data)


def file_digest(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(path: Path) -> None:
    """Append the checksum of a file to it."""
    digest = file_digest(path)
    with path.open("ab") as file:
        file.write(SEAL + digest.encode())


def is_intact(path: Path) -> bool | None:
    """Whether a file is as it was when it was sealed; None if it has no seal."""
    with path.open("rb") as file:
        size = file.seek(0, 2) - SEAL_BYTES
        if size < 0:
            return None
        file.seek(size)
        text, _, digest = file.read().rpartition(SEAL)
        if text or len(digest) != 64:
            return None
        return _digest_of_first(file, size).encode() == digest


def _digest_of_first(file: IO[bytes], size: int) -> str:
    """Return the sha256 (hex) of the first bytes of a file."""
    file.seek(0)
    digest = hashlib.sha256()
    while size and (block := file.read(min(size, BLOCK_BYTES))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()

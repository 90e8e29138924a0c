"""Images that are members of tar files. Each is read from its place; nothing is unpacked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelaudit.images.containers import Indices


class TarImages:
    """Images that are members of uncompressed tar files.

    Parameters
    ----------
    files : sequence of Path
        The tar files.
    file_of : array (N,) int64
        For each image the index of its file in `files`.
    places : array (N, 2) int64
        For each image its first byte in that file, and its number of bytes; -1 if there is no image.
    """

    def __init__(
        self, files: Sequence[Path], file_of: Indices, places: npt.NDArray[np.int64]
    ) -> None:
        self._files = files
        self._file_of = file_of
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> bytes:
        """Return the image's bytes; raises OSError if there is none, or the file is cut off."""
        start, size = self._places[index].tolist()
        if start < 0:
            raise OSError("the sample has no image")
        file = self._files[self._file_of[index]]
        with file.open("rb") as opened:
            opened.seek(start)
            data: bytes = opened.read(size)
        if len(data) < size:
            raise OSError(f"{file.name} is cut off")
        return data

    def subset(self, indices: Indices) -> "TarImages":
        """Return the images at `indices` (M,), of the same files."""
        return TarImages(self._files, self._file_of[indices], self._places[indices])

"""Containers of images: files, an array, or a column of parquet files.

They share the interface `Images`: the number of images, and the encoded bytes (or the array) of each.
"""

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from labelaudit.files import kind_of_file

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
# A row group of a few thousand thumbnails, or of a hundred photos, takes about 10 MB, so there is room
# for one per decoding thread.
ROW_GROUP_CACHE_BYTES = 256 * 2**20
# Larger files are not read as images. Of those of many pixels none would be decoded.
LARGEST_FILE = 2**30
# A compressed part of a parquet file that unpacks to more than this, and to more than this many times
# its size, was made to fill the memory. Encoded images do not compress.
LARGEST_ROW_GROUP, ROW_GROUP_RATIO = 512 * 2**20, 100


class UnreadableImageError(OSError):
    """An image cannot be decoded. The message is a reason that a report can show."""


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
        For each image a path that can be opened.
    """

    def __init__(self, paths: npt.NDArray[np.object_]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> bytes:
        """Return the file's bytes; raises OSError where it cannot be read."""
        return read_regular(self._paths[index])

    def subset(self, indices: Indices) -> "ImageFiles":
        """Return the files at `indices` (M,)."""
        return ImageFiles(self._paths[indices])


class ImageArrays:
    """Images that are arrays in memory, or one memory-mapped array; they are not copied.

    Parameters
    ----------
    arrays : array (M, H, W) or (M, H, W, C) uint8, or a sequence of M arrays
        C is 1 (gray), 3 (RGB) or 4 (RGB and alpha). The images of a sequence, (H, W) or (H, W, C),
        may differ in size.
    rows : array (N,) int64, optional
        Which of the M images these are. By default all of them.
    """

    def __init__(self, arrays: Pixels | Sequence[Pixels], rows: Indices | None = None) -> None:
        self._arrays = arrays
        self._rows = np.arange(len(arrays)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Pixels:
        """Return a view of the image, (H, W) or (H, W, C) uint8."""
        image: Pixels = self._arrays[self._rows[index]]
        return image

    def subset(self, indices: Indices) -> "ImageArrays":
        """Return the images at `indices` (M,); the arrays are shared."""
        return ImageArrays(self._arrays, self._rows[indices])


class NoImages:
    """The images of a source without images, such as labels of texts or sounds with features."""

    def __init__(self, total: int) -> None:
        self._total = total

    def __len__(self) -> int:
        return self._total

    def read(self, index: int) -> bytes:
        """Raise UnreadableImageError, because there is no image."""
        raise UnreadableImageError("this source has labels and features, and no images")

    def subset(self, indices: Indices) -> "NoImages":
        """Return the same for the samples at `indices` (M,)."""
        return NoImages(len(indices))


class ParquetImages:
    """Images in a column of parquet files: Hugging Face's struct{bytes, path}, or plain binary.

    Only the row groups in use are in memory: up to `ROW_GROUP_CACHE_BYTES`, but at least two. Threads
    that go through the rows in about the same order read each row group once. The first thread that
    needs a row group reads it, and the others wait.

    Parameters
    ----------
    files : sequence of Path
        The parquet files.
    column : str
        The column that holds the images.
    file_of : array (N,) int64
        For each image the index of its file in `files`.
    rows : array (N,) int64
        For each image its row in that file, from 0.
    """

    def __init__(self, files: Sequence[Path], column: str, file_of: Indices, rows: Indices) -> None:
        self._column = column
        self._file_of = file_of
        self._rows = rows
        self._shards = [_Shard(file, column) for file in files]
        self._groups = _RowGroupCache(self._shards)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the cache and its lock. The files themselves are not needed for it."""
        return {name: value for name, value in vars(self).items() if name != "_groups"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._groups = _RowGroupCache(self._shards)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> bytes:
        """Return the image's bytes.

        If the cell has a path and no bytes, the file at that path is read. The path is relative to
        the folder of the parquet file and must not leave it. Raises OSError if the cell has neither,
        or if reading fails.
        """
        file = int(self._file_of[index])
        shard = self._shards[file]
        group, row = shard.locate(int(self._rows[index]))
        cell = self._groups.get(file, group)[row].as_py()
        return _bytes_of(cell, lambda path: _path_inside(shard.file.parent, path))

    def subset(self, indices: Indices) -> "ParquetImages":
        """Return the images at `indices` (M,). The files and their cache are shared."""
        part = ParquetImages.__new__(ParquetImages)
        part._column = self._column
        part._file_of = self._file_of[indices]
        part._rows = self._rows[indices]
        part._shards = self._shards
        part._groups = self._groups
        return part


class CellImages:
    """Images in the rows of a data set in memory, such as one of Hugging Face.

    Parameters
    ----------
    table : sequence of mappings
        `table[row][column]` is a cell with "bytes", or else a "path" that can be opened.
    column : str
        The column that holds the images.
    rows : array (N,) int64, optional
        Which rows these are. By default all of them.
    """

    def __init__(self, table: Any, column: str, rows: Indices | None = None) -> None:
        self._table = table
        self._column = column
        self._rows = np.arange(len(table)) if rows is None else rows
        self._lock = threading.Lock()  # such a table may not be made for several threads

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the lock."""
        return CellImages, (self._table, self._column, self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> bytes:
        """Return the image's bytes; raises OSError where the cell holds none."""
        with self._lock:
            cell = self._table[int(self._rows[index])][self._column]
        return _bytes_of(cell, Path)

    def subset(self, indices: Indices) -> "CellImages":
        """Return the images at `indices` (M,), of the same table."""
        return CellImages(self._table, self._column, self._rows[indices])


def read_regular(path: str | Path) -> bytes:
    """Return the content of a regular file, or of one that a link leads to.

    Raises
    ------
    OSError
        It cannot be read, is something else (a named pipe would be waited for, a device read for ever),
        or is too large to be an image.
    """
    try:
        # Before it is opened, because opening a device may change something.
        _refuse_irregular(os.stat(path))  # noqa: PTH116 - a path may be text, for speed
        # The flag: it may have become a named pipe, for whose writer opening would wait.
        number = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except ValueError as error:  # a zero byte in the path
        raise UnreadableImageError(f"the path cannot be opened: {error}") from None
    with os.fdopen(number, "rb") as file:
        status = os.fstat(number)
        _refuse_irregular(status)
        if status.st_size > LARGEST_FILE:
            raise UnreadableImageError(
                f"the file has {status.st_size:,} bytes, too many for an image"
            )
        if status.st_size > LARGEST_ROW_GROUP // 16 and not any(file.peek(64)[:64]):
            raise UnreadableImageError("the file begins with zeros and is no image")
        # Not more than it had: files of the system may say 0 and never end.
        return file.read(status.st_size)


def _refuse_irregular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImageError(f"not a regular file but {kind_of_file(status.st_mode)}")


def _bytes_of(cell: Any, locate: Callable[[str], Path]) -> bytes:
    """Return the image in a cell: binary, or Hugging Face's struct{bytes, path}."""
    if isinstance(cell, bytes):
        return cell
    if cell is not None and cell.get("bytes") is not None:
        data: bytes = cell["bytes"]
        return data
    if cell is not None and cell.get("path"):
        return read_regular(locate(cell["path"]))
    raise OSError("the table's cell holds no image")


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

    def _repeated(self, group: int) -> list[str]:
        """Return the columns of a row group that repeat few images, often enough to fill the memory.

        Raises UnreadableImageError if the row group itself unpacks to that much.
        """
        repeated = []
        row_group = self._footer.row_group(group)
        for number in range(row_group.num_columns):
            chunk = row_group.column(number)
            name = chunk.path_in_schema
            if name.split(".")[0] != self._column or chunk.physical_type != "BYTE_ARRAY":
                continue
            packed, unpacked = chunk.total_compressed_size, chunk.total_uncompressed_size
            if unpacked > max(LARGEST_ROW_GROUP, ROW_GROUP_RATIO * packed):
                raise UnreadableImageError(
                    f"a part of {self.file.name} unpacks from {packed:,} to {unpacked:,} bytes, as in a"
                    " file made to fill the memory"
                )
            if chunk.has_dictionary_page and unpacked * chunk.num_values > LARGEST_ROW_GROUP:
                distinct = chunk.data_page_offset - chunk.dictionary_page_offset
                repeated += [name] if 2 * distinct > packed else []
        return repeated

    def read(self, group: int) -> pa.ChunkedArray:
        # A file handle of its own for each read: one shared by threads is not safe to seek in.
        again = self._repeated(group)
        try:
            with pq.ParquetFile(
                self.file, metadata=self._footer, read_dictionary=again or None
            ) as opened:
                table = opened.read_row_group(group, columns=[self._column], use_threads=False)
        except pa.ArrowException as error:
            raise OSError(f"a damaged part of {self.file.name}: {error}") from error
        return table.column(0)


class _RowGroupCache:
    """The row groups that were read last. Each is read by one thread, and the others wait for it."""

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
            # At least two are kept, because both are in use at the border between them.
            if total <= ROW_GROUP_CACHE_BYTES or len(read) <= 2:
                return
            total -= group.nbytes
            del read[key], self._groups[key]


def _path_inside(folder: Path, text: str) -> Path:
    """Return the path that a cell names in `folder`; OSError if it leaves the folder."""
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(text).drive or ".." in path.parts:
        raise OSError(f'the path "{text}" leaves the folder of the parquet file')
    return folder / path

"""Evidence in the report beside a suspect: its picture, and similar samples that look right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from labelaudit.images.containers import Images, Indices, Pixels
from labelaudit.images.gray_range import GrayRanges
from labelaudit.images.pillow import load_visited
from labelaudit.images.visits import visit_images

NUM_NEIGHBORS = 3
# Number of rows that are compared at a time, to bound the memory.
BLOCK_ROWS = 4096
# Images are decoded at a reduced size if that is faster, but at no less than twice this side.
PICTURE_SIDE = 256

T = TypeVar("T")
Neighbors = Callable[[Indices, pd.Series], Indices]


class Pictures(Protocol):
    """Passes the images of some rows to a function, possibly in several threads."""

    def __call__(self, rows: Indices, look: Callable[[int, Image.Image], T]) -> Iterator[T | None]:
        """Yield what `look` returns for each row, in order; None for images that cannot be read."""
        ...


@dataclass(frozen=True)
class Evidence:
    """The sources of pictures, neighbors and details that the page shows beside a suspect.

    Attributes
    ----------
    pictures
        Reads pictures of samples; None if there are no pictures at all.
    neighbors
        Takes rows ``(G,)`` and one wanted class name for each. Returns the rows ``(G, k)`` of the
        nearest samples that have this label and are not flagged, the nearest first, -1 where there
        are fewer. None if there are neither features nor embeddings.
    details
        N rows: other columns of the samples' rows, all text.
    """

    pictures: Pictures | None
    neighbors: Neighbors | None
    details: pd.DataFrame


def nearest_right_labeled(
    points: NDArray[np.floating],
    samples: pd.DataFrame,
    rows: Indices,
    wanted: pd.Series,
    scale: NDArray[np.floating] | None = None,
) -> Indices:
    """Find the nearest samples that have a given label and are not flagged.

    Parameters
    ----------
    points
        ``(N, d)``, may be memory-mapped. Distances are Euclidean.
    samples
        N rows with ``given_label`` and ``is_label_issue``.
    rows
        ``(G,)``, the rows to find neighbors for. No row is a neighbor of itself.
    wanted
        G class names, some may be missing: the label that the neighbors of each row must have.
    scale
        ``(d,)``, factors that the points are multiplied with first.

    Returns
    -------
    Indices
        ``(G, NUM_NEIGHBORS)`` int64, the nearest first, -1 where there are fewer.
    """
    given = samples["given_label"].where(~samples["is_label_issue"].to_numpy(dtype=bool))
    factor = 1.0 if scale is None else np.asarray(scale, dtype=np.float32)

    def take(some: Indices) -> NDArray[np.float32]:
        return np.asarray(points[some], dtype=np.float32) * factor

    found = np.full((len(rows), NUM_NEIGHBORS), -1, dtype=np.int64)
    for name in wanted.dropna().unique():
        asking = np.flatnonzero((wanted == name).to_numpy(dtype=bool, na_value=False))
        candidates = np.flatnonzero((given == name).to_numpy(dtype=bool, na_value=False))
        mine = take(rows[asking])  # (Q, d)
        best = np.full((len(asking), NUM_NEIGHBORS), np.inf, dtype=np.float32)
        for start in range(0, len(candidates), BLOCK_ROWS):
            block = candidates[start : start + BLOCK_ROWS]
            theirs = take(block)  # (B, d)
            distance = (
                (mine**2).sum(1)[:, None] - 2 * mine @ theirs.T + (theirs**2).sum(1)
            )  # (Q, B), squared
            distance[rows[asking][:, None] == block] = np.inf
            near = np.concatenate([best, distance], axis=1)
            nearest = np.concatenate([found[asking], np.tile(block, (len(asking), 1))], axis=1)
            order = np.argsort(near, axis=1, kind="stable")[:, :NUM_NEIGHBORS]
            best = np.take_along_axis(near, order, axis=1)
            found[asking] = np.where(np.isinf(best), -1, np.take_along_axis(nearest, order, axis=1))
    return found


@dataclass(frozen=True, eq=False)
class _SourcePictures:
    """Reads images from their source; an object, so that a result can be pickled."""

    images: Images
    ranges: GrayRanges

    def __call__(self, rows: Indices, look: Callable[[int, Image.Image], T]) -> Iterator[T | None]:
        def load(position: int, data: bytes | Pixels) -> T:
            image = load_visited(data, (PICTURE_SIDE, PICTURE_SIDE), self.ranges)
            return look(int(rows[position]), image)

        with closing(visit_images(self.images.subset(rows), load, step=8)) as visits:
            for visited in visits:
                for seen in visited:
                    yield None if isinstance(seen, Exception) else seen


def source_pictures(images: Images) -> Pictures:
    """Return a function that reads the images of some rows from their source, in several threads."""
    return _SourcePictures(images, GrayRanges(images))

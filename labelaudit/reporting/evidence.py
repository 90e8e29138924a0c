"""What the report shows beside a suspect: pictures, and neighbors whose labels look right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from labelaudit.data.images import Images, Indices, Pixels, load_visited, visit_images

NUM_NEIGHBORS = 3
# Rows compared at a time, to bound what lies in memory.
BLOCK_ROWS = 4096
# Pictures are decoded at no less than twice this side, where that saves time.
PICTURE_SIDE = 96


def nearest_right_labeled(
    points: NDArray[np.floating],
    samples: pd.DataFrame,
    rows: Indices,
    scale: NDArray[np.floating] | None = None,
) -> Indices:
    """Find the nearest samples that carry the suggested label and are not flagged.

    Parameters
    ----------
    points
        ``(N, d)``, maybe memory-mapped; distances are Euclidean.
    samples
        N rows with ``given_label``, ``suggested_label`` and ``is_label_issue``.
    rows
        ``(G,)``, rows to find neighbors for.
    scale
        ``(d,)``, what the points are multiplied with first.

    Returns
    -------
    Indices
        ``(G, NUM_NEIGHBORS)`` int64, the nearest first; -1 where there are no more.
    """
    given = samples["given_label"].where(~samples["is_label_issue"].to_numpy(dtype=bool))
    suggested = samples["suggested_label"].iloc[rows]
    factor = 1.0 if scale is None else np.asarray(scale, dtype=np.float32)

    def take(some: Indices) -> NDArray[np.float32]:
        return np.asarray(points[some], dtype=np.float32) * factor

    found = np.full((len(rows), NUM_NEIGHBORS), -1, dtype=np.int64)
    for name in suggested.dropna().unique():
        asking = np.flatnonzero((suggested == name).to_numpy(dtype=bool))
        candidates = np.flatnonzero((given == name).to_numpy(dtype=bool, na_value=False))
        mine = take(rows[asking])  # (Q, d)
        best = np.full((len(asking), NUM_NEIGHBORS), np.inf, dtype=np.float32)
        for start in range(0, len(candidates), BLOCK_ROWS):
            block = candidates[start : start + BLOCK_ROWS]
            theirs = take(block)  # (B, d)
            distance = (
                (mine**2).sum(1)[:, None] - 2 * mine @ theirs.T + (theirs**2).sum(1)
            )  # (Q, B), squared
            near = np.concatenate([best, distance], axis=1)
            who = np.concatenate([found[asking], np.tile(block, (len(asking), 1))], axis=1)
            order = np.argsort(near, axis=1, kind="stable")[:, :NUM_NEIGHBORS]
            best = np.take_along_axis(near, order, axis=1)
            found[asking] = np.take_along_axis(who, order, axis=1)
    return found


def stored_pictures(pixels: Pixels) -> Callable[[Indices], Iterator[Image.Image | None]]:
    """Return what gives the stored images ``(N, C, H, W)`` uint8 of some rows, mode L or RGB."""

    def pictures(rows: Indices) -> Iterator[Image.Image | None]:
        for row in rows:
            image = pixels[row]
            yield Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))

    return pictures


def source_pictures(images: Images) -> Callable[[Indices], Iterator[Image.Image | None]]:
    """Return what reads the images of some rows from where they lie; None for unreadable ones."""

    def pictures(rows: Indices) -> Iterator[Image.Image | None]:
        def load(_: int, data: bytes | Pixels) -> Image.Image:
            return load_visited(data, reducible_to=(PICTURE_SIDE, PICTURE_SIDE))

        with closing(visit_images(images.subset(rows), load, step=8)) as visits:
            for visited in visits:
                for seen in visited:
                    yield seen if isinstance(seen, Image.Image) else None

    return pictures

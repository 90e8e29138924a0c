"""Features whose squares would be lost in single precision, brought into its range."""

from __future__ import annotations

import numpy as np

from labelaudit.images.store import copy_rows

SCALED_ROWS = 4096
# Largest feature that is used as it is. Squares of larger ones, summed, may be infinite in 32 bits.
MOST = 1e15


def in_range(features: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Return features of which no column is so large or small that its squares are lost.

    If there is such a column, all are divided by one power of two, which changes none of their digits.
    Columns that are far smaller than the largest are divided by powers of their own.

    Parameters
    ----------
    features
        ``(N, D)`` floats. They are not changed.
    rows
        ``(R,)`` int64, the rows that matter, by default all. Others may hold NaN.
    """
    looked = features if rows is None else features[rows]
    largest = np.maximum(looked.max(axis=0), -looked.min(axis=0))
    odd = np.flatnonzero((largest > MOST) | ((largest < 1 / MOST) & (largest > 0)))
    if not len(odd):
        return features
    scaled = copy_rows(features, np.arange(len(features)))
    _, own = np.frexp(largest)
    common = int(own[largest > 0].max())
    exponents = np.where(own < common + np.log2(1 / MOST), own, common)
    for start in range(0, len(scaled), SCALED_ROWS):
        block = scaled[start : start + SCALED_ROWS]
        np.ldexp(block, -exponents, out=block)
    return scaled

"""The data that comes along: scikit-learn's digits, with labels made wrong on purpose."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.data.manifest import Source, source_from_arrays


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Give scikit-learn's digits: ``(1797, 8, 8)`` uint8 images and ``(1797,)`` int64 labels."""
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target.astype(np.int64)


def corrupted_digits(rate: float, seed: int) -> Source:
    """Give the digits with a share of each class's labels flipped, and the truth beside them."""
    images, labels = digits()
    return source_from_arrays(
        images, corrupt_symmetric(labels, rate, 10, seed), clean_labels=labels, name="digits"
    )

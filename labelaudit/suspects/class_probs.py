"""Class probabilities of many samples and classes, as an array or calculated when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from labelaudit.memory import row_blocks

# Up to this number of probabilities, several arrays of them are held in memory, 256 MiB each. More are
# calculated a block at a time, with this many in a block.
MOST_VALUES, BLOCK_VALUES = 1 << 26, 1 << 23


class ClassProbs(Protocol):
    """Class probabilities ``(L, C)``. NumPy arrays are an implementation."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(L, C)."""

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Return those of some rows, ``(B, C)``."""


@dataclass(frozen=True)
class LazyProbs:
    """Class probabilities that are calculated when they are read.

    Attributes
    ----------
    shape
        (L, C).
    read
        Returns those of some rows, a slice or an array of integers, as ``(B, C)`` float32.
    """

    shape: tuple[int, ...]
    read: Callable[[Any], np.ndarray]

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        return self.read(rows)


def held(probs: LazyProbs) -> ClassProbs:
    """Return an array of these probabilities, or themselves where it would need too much memory."""
    size, classes = probs.shape
    return whole(probs) if size * classes <= MOST_VALUES else probs


def whole(probs: ClassProbs) -> np.ndarray:
    """Return an array of these probabilities, ``(L, C)`` float32; an array itself."""
    if isinstance(probs, np.ndarray):
        return probs
    result = np.empty(probs.shape, dtype=np.float32)
    for part in blocks_of(probs):
        result[part] = probs[part]
    return result


def blocks_of(probs: ClassProbs) -> Iterator[slice]:
    """Cut the rows into slices, each with about `BLOCK_VALUES` probabilities."""
    size, classes = probs.shape
    return row_blocks(size, classes, BLOCK_VALUES)

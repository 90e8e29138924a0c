"""Class probabilities of very many classes, condensed for a fit.

Few of thousands of classes are likely for a sample. The given class and the likeliest others are kept
one by one. The rest are put into bands of similar probability, ordered by rank: each band holds twice
as many classes as the one before it. A fit then takes about 140 columns, however many classes there
are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelaudit.memory import row_blocks

Floats = npt.NDArray[np.floating]

KEPT_CLASSES = 128
# Number of probabilities ``(B, C)`` in memory at a time.
BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class Condensed:
    """Condensed log-probabilities of n labeled samples; see the module.

    Attributes
    ----------
    log_probs
        ``(n, K)`` float64, log P of a column's class, or of an average class of its band.
    classes
        ``(n, K)`` int64, the class of a column; C for a band. Column 0 is the given class.
    log_sizes
        ``(K,)`` float64, logarithm of the number of classes in a column.
    num_classes
        C.
    """

    log_probs: Floats
    classes: npt.NDArray[np.int64]
    log_sizes: Floats
    num_classes: int

    def __len__(self) -> int:
        """Return the number of samples, n."""
        return len(self.log_probs)

    @property
    def given(self) -> npt.NDArray[np.int64]:
        """Given labels, ``(n,)`` int64 in 0..C-1."""
        return np.asarray(self.classes[:, 0])

    def total(self, values: Floats) -> Floats:
        """Sum values ``(n, K)`` by class: ``(C + 1,)`` float64, the last for all bands."""
        return np.asarray(
            np.bincount(
                self.classes.ravel(), weights=values.ravel(), minlength=self.num_classes + 1
            ),
            dtype=np.float64,
        )

    def pairs(self) -> Pairs:
        """Return the pairs of a kept class and the given one that occur among the samples."""
        right = self.classes[:, 1 : 1 + KEPT_CLASSES]
        keys, index = np.unique(right * self.num_classes + self.given[:, None], return_inverse=True)
        return Pairs(*np.divmod(keys, self.num_classes), index.reshape(right.shape))


@dataclass(frozen=True)
class Pairs:
    """The P pairs of classes that occur among samples.

    Attributes
    ----------
    right, given
        ``(P,)`` int64 in 0..C-1, a class that a sample may have, and another that it was given.
    index
        ``(n, KEPT_CLASSES)`` int64, the pair of each sample and each of its kept classes.
    """

    right: npt.NDArray[np.int64]
    given: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]

    def total(self, values: Floats) -> Floats:
        """Sum values ``(n, K)`` of the kept classes by pair, ``(P,)`` float64."""
        kept = values[:, 1 : 1 + KEPT_CLASSES]
        return np.asarray(
            np.bincount(self.index.ravel(), weights=kept.ravel(), minlength=len(self.right)),
            dtype=np.float64,
        )


def condense(
    read: Callable[[npt.NDArray[np.int64]], Floats],
    rows: npt.NDArray[np.int64],
    given: npt.NDArray[np.int64],
    num_classes: int,
    kept: npt.NDArray[np.int64] | None = None,
) -> Condensed:
    """Condense the log-probabilities of some samples.

    Parameters
    ----------
    read
        Returns log P of samples by their rows, ``(B, C)`` floats.
    rows
        ``(n,)`` int64, the samples.
    given
        ``(n,)`` int64 in 0..C-1, their labels.
    num_classes
        C, more than `KEPT_CLASSES` + 1.
    kept
        ``(n,)`` int64, one more class of each sample that is kept by itself; -1 for none.
    """
    edges = band_edges(num_classes)
    sizes = np.diff(edges)
    singles = 1 + KEPT_CLASSES
    columns = singles + len(sizes)
    log_probs = np.empty((len(rows), columns))
    classes = np.full((len(rows), columns), num_classes, dtype=np.int64)
    for part in row_blocks(len(rows), num_classes, BLOCK_VALUES):
        block = read(rows[part])  # (B, C)
        every = np.arange(len(block))
        key = -block
        if kept is not None:
            forced = np.flatnonzero(kept[part] >= 0)
            key[forced, kept[part][forced]] = -np.inf
        key[every, given[part]] = np.inf  # comes last, and is a column of its own
        order = key.argpartition((*edges[:-1], num_classes - 1), axis=1)[:, :-1]
        ranked = np.take_along_axis(block, order, axis=1).astype(np.float64)  # (B, C - 1)
        log_probs[part, 0], classes[part, 0] = block[every, given[part]], given[part]
        log_probs[part, 1:singles] = ranked[:, :KEPT_CLASSES]
        classes[part, 1:singles] = order[:, :KEPT_CLASSES]
        mass = np.add.reduceat(np.exp(ranked), edges[:-1], axis=1)
        log_probs[part, singles:] = np.log(mass / sizes)
    return Condensed(
        log_probs, classes, np.log(np.concatenate([np.ones(singles), sizes])), num_classes
    )


def num_columns(num_classes: int) -> int:
    """Return K, the number of columns of condensed probabilities."""
    return KEPT_CLASSES + len(band_edges(num_classes))


def band_edges(num_classes: int) -> npt.NDArray[np.int64]:
    """Return the ranks at which bands start, and the number of classes besides the given one."""
    edges = [KEPT_CLASSES]
    while 2 * edges[-1] < num_classes - 1:
        edges.append(2 * edges[-1])
    return np.array([*edges, num_classes - 1])

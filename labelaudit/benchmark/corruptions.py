"""Label noise with exact counts, reproducible from a seed."""

from __future__ import annotations

import numpy as np

from labelaudit.errors import OptionError


def corrupt_symmetric(
    clean_labels: np.ndarray, rate: float, num_classes: int, seed: int
) -> np.ndarray:
    """Flip a share of each class to the other classes, evenly at random (section 4.1).

    Parameters
    ----------
    clean_labels
        ``(N,)`` int64 in 0..C-1, or -1 for samples that are to stay unlabeled.
    rate
        Share of each class to flip, in [0, 1]; the count is rounded to the nearest.
    num_classes
        C, at least 2.
    seed
        Decides which and to what.

    Returns
    -------
    np.ndarray
        ``(N,)`` int64.

    Raises
    ------
    OptionError
        If the rate is not in [0, 1] or there is but one class.
    """
    noisy, flips = _flips(clean_labels, rate, num_classes, seed)
    for rng, cls, rows in flips:
        noisy[rows] = (cls + rng.integers(1, num_classes, size=len(rows))) % num_classes
    return noisy


def corrupt_pair(clean_labels: np.ndarray, rate: float, num_classes: int, seed: int) -> np.ndarray:
    """Flip a share of each class to the next one, c → c+1; see `corrupt_symmetric`."""
    noisy, flips = _flips(clean_labels, rate, num_classes, seed)
    for _, cls, rows in flips:
        noisy[rows] = (cls + 1) % num_classes
    return noisy


def _flips(
    clean_labels: np.ndarray, rate: float, num_classes: int, seed: int
) -> tuple[np.ndarray, list[tuple[np.random.Generator, int, np.ndarray]]]:
    if not 0 <= rate <= 1:
        raise OptionError(f"a noise rate of {rate} is no share; give one from 0 to 1")
    if num_classes < 2:
        raise OptionError("labels can be corrupted only where there are two classes or more")
    rng = np.random.default_rng(seed)
    chosen = []
    for cls in range(num_classes):
        members = np.flatnonzero(clean_labels == cls)
        count = int(np.floor(rate * len(members) + 0.5))
        chosen.append((rng, cls, rng.choice(members, count, replace=False)))
    return np.array(clean_labels, dtype=np.int64), chosen

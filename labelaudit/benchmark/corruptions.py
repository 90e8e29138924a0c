"""Label noise, reproducible from a seed.

Every kind except `instance` flips an exact number of labels in each class. The seed decides which
samples these are. Unlabeled samples (-1) stay unlabeled.

| kind | new label of a sample of class c | what is exact |
|---|---|---|
| symmetric | any other class, uniformly at random | number of flips per class |
| pair | c + 1 (modulo C) | everything |
| asymmetric | the class that c is often confused with; some classes stay clean | everything |
| matrix | drawn from row c of a transition matrix | every cell, rounded to an integer |
| instance | a class that the sample resembles (Xia et al. 2020) | nothing |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labelaudit.errors import OptionError

# The usual maps of asymmetric noise (Patrini et al. 2017, https://arxiv.org/abs/1609.03683).
CIFAR10_MAP = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}  # truck, bird, deer, cat, dog
MNIST_MAP = {7: 1, 2: 7, 5: 6, 6: 5, 3: 8}
CLASS_MAPS: Mapping[str, Mapping[int, int]] = {"cifar10": CIFAR10_MAP, "mnist": MNIST_MAP}

# Standard deviation of the flip rates of instance noise (Xia et al. 2020, Algorithm 2).
FLIP_RATE_STD = 0.1
MATRIX_TOLERANCE = 1e-4


def corrupt_symmetric(
    clean_labels: np.ndarray, rate: float, num_classes: int, seed: int
) -> np.ndarray:
    """Flip a share of each class to the other classes, uniformly at random (section 4.1).

    Parameters
    ----------
    clean_labels
        ``(N,)`` int64 in 0..C-1, or -1 for unlabeled samples.
    rate
        Share of each class to flip, in [0, 1]. The number of flips is rounded to an integer.
    num_classes
        C, at least 2.
    seed
        Decides which labels are flipped, and to which class.

    Returns
    -------
    np.ndarray
        ``(N,)`` int64.

    Raises
    ------
    OptionError
        If the rate is not in [0, 1], or if there is only one class.
    """
    rng, chosen = _choose(clean_labels, rate, num_classes, seed)
    noisy = np.array(clean_labels, dtype=np.int64)
    for cls, rows in enumerate(chosen):
        noisy[rows] = (cls + rng.integers(1, num_classes, size=len(rows))) % num_classes
    return noisy


def corrupt_pair(clean_labels: np.ndarray, rate: float, num_classes: int, seed: int) -> np.ndarray:
    """Flip a share of each class to the next one, c → c+1; see `corrupt_symmetric`."""
    following = {cls: (cls + 1) % num_classes for cls in range(num_classes)}
    return corrupt_asymmetric(clean_labels, rate, num_classes, seed, following)


def corrupt_asymmetric(
    clean_labels: np.ndarray,
    rate: float,
    num_classes: int,
    seed: int,
    class_map: Mapping[int, int],
) -> np.ndarray:
    """Flip a share of some classes to the class that each is often confused with.

    Parameters
    ----------
    clean_labels, num_classes, seed
        As in `corrupt_symmetric`.
    rate
        Share flipped within the affected classes.
    class_map
        The new class of each affected class.
    """
    _, chosen = _choose(clean_labels, rate, num_classes, seed)
    noisy = np.array(clean_labels, dtype=np.int64)
    for cls, target in class_map.items():
        noisy[chosen[cls]] = target
    return noisy


def corrupt_by_matrix(
    clean_labels: np.ndarray, transition_matrix: np.ndarray, seed: int
) -> np.ndarray:
    """Flip labels so that their counts match a transition matrix, rounded to integers.

    Parameters
    ----------
    clean_labels
        ``(N,)`` int64 in 0..C-1, or -1.
    transition_matrix
        ``(C, C)``, T[i, j] = P(given j given right i). Rows sum to 1.
    seed
        Decides which samples flip, and how counts that are not integers are rounded.

    Raises
    ------
    OptionError
        If the rows are not probabilities.
    """
    matrix = check_transition_matrix(transition_matrix)
    rng = np.random.default_rng(seed)
    noisy = np.array(clean_labels, dtype=np.int64)
    for cls, row in enumerate(matrix):
        members = rng.permutation(np.flatnonzero(noisy == cls))
        counts = _apportion(row, len(members), rng)
        noisy[members] = -2 - np.repeat(
            np.arange(len(row)), counts
        )  # below -1, so that no class is met twice
    flipped = noisy <= -2
    noisy[flipped] = -2 - noisy[flipped]
    return noisy


def corrupt_by_instance(
    clean_labels: np.ndarray, samples: np.ndarray, rate: float, num_classes: int, seed: int
) -> np.ndarray:
    """Flip labels to classes that depend on each sample.

    Xia et al. 2020, "Part-dependent Label Noise" (https://arxiv.org/abs/2006.07836), Algorithm 2.
    Sample i flips with a probability q_i from N(rate, 0.1²), truncated to [0, 1]. The new class is
    drawn from the softmax of x_i W_y, with a random matrix W_y for each class y.

    Parameters
    ----------
    clean_labels, num_classes, seed
        As in `corrupt_symmetric`.
    samples
        Pixels or features, ``(N, ...)`` of any real type. They are standardized first.
    rate
        Mean flip rate, in [0, 1]. The realized share varies by about sqrt(rate (1-rate) / N).
    """
    _check(rate, num_classes)
    rng = np.random.default_rng(seed)
    flat = samples.reshape(len(samples), -1)
    noisy = np.array(clean_labels, dtype=np.int64)
    labeled = np.flatnonzero(noisy >= 0)
    flip_rates = _truncated_normal(rate, FLIP_RATE_STD, len(labeled), rng)
    weights = rng.standard_normal((num_classes, flat.shape[1], num_classes))
    mean, std = float(flat.mean()), max(float(flat.std()), 1e-6)
    for cls in range(num_classes):
        mine = np.flatnonzero(clean_labels[labeled] == cls)
        rows = labeled[mine]
        pull = ((flat[rows] - mean) / std) @ weights[cls]  # (n, C)
        pull[:, cls] = -np.inf
        pull -= pull.max(axis=1, keepdims=True, initial=-np.inf)
        probs = np.exp(pull)
        probs *= (flip_rates[mine] / probs.sum(axis=1))[:, None]
        probs[:, cls] = 1.0 - flip_rates[mine]
        drawn = (probs.cumsum(axis=1) < rng.random((len(rows), 1))).sum(axis=1)
        noisy[rows] = np.minimum(drawn, num_classes - 1)
    return noisy


def realised_matrix(
    clean_labels: np.ndarray, noisy_labels: np.ndarray, num_classes: int
) -> np.ndarray:
    """Return the realized transition matrix, ``(C, C)``; rows of empty classes are zero.

    Samples without a clean or a given label do not count.
    """
    both = (clean_labels >= 0) & (noisy_labels >= 0)
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (clean_labels[both], noisy_labels[both]), 1)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def read_transition_matrix(path: str | Path, num_classes: int) -> np.ndarray:
    """Read a ``(C, C)`` matrix from a .npy file, or from text with C numbers per line.

    Raises OptionError if the file cannot be read, or is not a transition matrix of C classes.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
        else:
            text = path.read_text(encoding="utf-8").replace(",", " ")
            matrix = np.array([line.split() for line in text.splitlines() if line.strip()], float)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{path} cannot be read as a transition matrix ({error}); give a .npy file, or text"
            f" with {num_classes} lines of {num_classes} numbers"
        ) from error
    if matrix.shape != (num_classes, num_classes):
        raise OptionError(
            f"{path} holds a matrix of shape {matrix.shape}; for {num_classes} classes it must be"
            f" {num_classes}x{num_classes}"
        )
    return check_transition_matrix(matrix)


def check_transition_matrix(matrix: np.ndarray) -> np.ndarray:
    """Return the matrix as float64 ``(C, C)``. Raises OptionError if rows are not probabilities."""
    matrix = np.asarray(matrix, dtype=np.float64)
    sums = matrix.sum(axis=1)
    if not (np.isfinite(matrix).all() and (matrix >= 0).all()):
        raise OptionError("the transition matrix has entries outside 0 to 1; give probabilities")
    if np.abs(sums - 1).max() > MATRIX_TOLERANCE:
        row = int(np.abs(sums - 1).argmax())
        raise OptionError(f"row {row} of the transition matrix sums to {sums[row]:g}; make it 1")
    return np.asarray(matrix / sums[:, None])


def _check(rate: float, num_classes: int) -> None:
    if not 0 <= rate <= 1:
        raise OptionError(f"the noise rate is {rate}; it must lie between 0 and 1")
    if num_classes < 2:
        raise OptionError("labels cannot be corrupted with one class; give two classes or more")


def _choose(
    clean_labels: np.ndarray, rate: float, num_classes: int, seed: int
) -> tuple[np.random.Generator, list[np.ndarray]]:
    """Choose an exact share of each class; return the generator and the rows by class."""
    _check(rate, num_classes)
    rng = np.random.default_rng(seed)
    chosen = []
    for cls in range(num_classes):
        members = np.flatnonzero(clean_labels == cls)
        count = int(np.floor(rate * len(members) + 0.5))
        chosen.append(rng.choice(members, count, replace=False))
    return rng, chosen


def _apportion(shares: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Return integers that sum to `total` and differ from `shares` × `total` by less than 1.

    They are rounded by largest remainder, and ties are broken at random.
    """
    exact = shares * total
    counts = np.floor(exact + 1e-9).astype(np.int64)
    missing = total - int(counts.sum())
    order = np.lexsort((rng.random(len(shares)), -(exact - counts).round(9)))
    counts[order[:missing]] += 1
    return counts


def _truncated_normal(mean: float, std: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw from N(mean, std²) given that the draw lies in [0, 1], by rejection."""
    if mean in (0.0, 1.0):
        return np.full(size, mean)  # 0 and 1 are meant exactly
    draws = rng.normal(mean, std, size)
    while (outside := (draws < 0) | (draws > 1)).any():
        draws[outside] = rng.normal(mean, std, int(outside.sum()))
    return draws

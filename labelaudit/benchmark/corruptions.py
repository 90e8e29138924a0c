"""Label noise, reproducible from a seed.

Every kind but `instance` flips an exact number of labels in each class; which samples they are is
random. Samples that are unlabeled (-1) stay so.

| kind | what a label of class c becomes | exact |
|---|---|---|
| symmetric | any other class, evenly at random | flips in each class |
| pair | c + 1 (modulo C) | all |
| asymmetric | the class that it is usually mistaken for; other classes stay clean | all |
| matrix | by a transition matrix | every cell, to the nearest whole number |
| instance | what the image suggests, after Xia et al. 2020 | nothing: random by nature |
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

FLIP_RATE_STD = 0.1  # spread of the flip rates of instance noise (Xia et al. 2020, Algorithm 2)
MATRIX_TOLERANCE = 1e-4


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
    """Flip a share of some classes to the class that each is usually mistaken for.

    Parameters
    ----------
    clean_labels, num_classes, seed
        As in `corrupt_symmetric`.
    rate
        Share flipped *within the affected classes*.
    class_map
        What each affected class becomes.
    """
    _, chosen = _choose(clean_labels, rate, num_classes, seed)
    noisy = np.array(clean_labels, dtype=np.int64)
    for cls, target in class_map.items():
        noisy[chosen[cls]] = target
    return noisy


def corrupt_by_matrix(
    clean_labels: np.ndarray, transition_matrix: np.ndarray, seed: int
) -> np.ndarray:
    """Flip labels so that the counts follow a transition matrix to the nearest whole number.

    Parameters
    ----------
    clean_labels
        ``(N,)`` int64 in 0..C-1, or -1.
    transition_matrix
        ``(C, C)``, T[i, j] = p(noisy = j given clean = i); rows sum to 1.
    seed
        Decides which samples flip, and who gets the odd ones where counts are not whole.

    Raises
    ------
    OptionError
        If the matrix is not one of probabilities.
    """
    matrix = check_transition_matrix(transition_matrix)
    rng = np.random.default_rng(seed)
    noisy = np.array(clean_labels, dtype=np.int64)
    for cls, row in enumerate(matrix):
        members = rng.permutation(np.flatnonzero(noisy == cls))
        counts = _apportion(row, len(members), rng)
        noisy[members] = -2 - np.repeat(np.arange(len(row)), counts)  # told apart from classes
    flipped = noisy <= -2
    noisy[flipped] = -2 - noisy[flipped]
    return noisy


def corrupt_by_instance(
    clean_labels: np.ndarray, images: np.ndarray, rate: float, num_classes: int, seed: int
) -> np.ndarray:
    """Flip labels to what each image suggests.

    Xia et al. 2020, "Part-dependent Label Noise" (https://arxiv.org/abs/2006.07836), Algorithm 2:
    sample i flips with probability q_i from N(rate, 0.1²) truncated to [0, 1]; where to follows
    the softmax of x_i W_y with a random matrix W_y for each class y.

    Parameters
    ----------
    clean_labels, num_classes, seed
        As in `corrupt_symmetric`.
    images
        ``(N, ...)``, any real type; standardized over the data set first.
    rate
        Mean flip rate, in [0, 1]. The realised share varies by about sqrt(rate (1-rate) / N).
    """
    _check(rate, num_classes)
    rng = np.random.default_rng(seed)
    flat = images.reshape(len(images), -1)
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
    """Share of each class that became each class, ``(C, C)``; rows without samples are zero.

    Samples without a label, clean or given, do not count.
    """
    both = (clean_labels >= 0) & (noisy_labels >= 0)
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (clean_labels[both], noisy_labels[both]), 1)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def read_transition_matrix(path: str | Path, num_classes: int) -> np.ndarray:
    """Read a ``(C, C)`` matrix from a .npy file, or from text with C numbers a line.

    Raises
    ------
    OptionError
        If the file is not there, or is no transition matrix of C classes.
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
            f"{path} holds a matrix of shape {matrix.shape}; there are {num_classes} classes, so it"
            f" must be {num_classes}x{num_classes}"
        )
    return check_transition_matrix(matrix)


def check_transition_matrix(matrix: np.ndarray) -> np.ndarray:
    """Give the matrix as float64 ``(C, C)`` if its rows are probabilities.

    Raises
    ------
    OptionError
        If they are not.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    sums = matrix.sum(axis=1)
    if not (np.isfinite(matrix).all() and (matrix >= 0).all()):
        raise OptionError(
            "a transition matrix holds probabilities; this one has others than 0 to 1"
        )
    if np.abs(sums - 1).max() > MATRIX_TOLERANCE:
        row = int(np.abs(sums - 1).argmax())
        raise OptionError(f"row {row} of the transition matrix sums to {sums[row]:g}, not to 1")
    return np.asarray(matrix / sums[:, None])


def _check(rate: float, num_classes: int) -> None:
    if not 0 <= rate <= 1:
        raise OptionError(f"a noise rate of {rate} is no share; give one from 0 to 1")
    if num_classes < 2:
        raise OptionError("labels can be corrupted only where there are two classes or more")


def _choose(
    clean_labels: np.ndarray, rate: float, num_classes: int, seed: int
) -> tuple[np.random.Generator, list[np.ndarray]]:
    """Choose an exact share of each class; give the generator for what follows."""
    _check(rate, num_classes)
    rng = np.random.default_rng(seed)
    chosen = []
    for cls in range(num_classes):
        members = np.flatnonzero(clean_labels == cls)
        count = int(np.floor(rate * len(members) + 0.5))
        chosen.append(rng.choice(members, count, replace=False))
    return rng, chosen


def _apportion(shares: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Whole counts that sum to `total` and are within one of `shares` × `total`.

    By largest remainder; ties are broken at random.
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
        return np.full(size, mean)  # no noise and nothing but noise are meant exactly
    draws = rng.normal(mean, std, size)
    while (outside := (draws < 0) | (draws > 1)).any():
        draws[outside] = rng.normal(mean, std, int(outside.sum()))
    return draws

"""Kinds of label noise by name, and the corruption of a data set's labels by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labelaudit.benchmark.corruptions import (
    CLASS_MAPS,
    corrupt_asymmetric,
    corrupt_by_instance,
    corrupt_by_matrix,
    corrupt_pair,
    corrupt_symmetric,
    read_transition_matrix,
)
from labelaudit.benchmark.datasets import Dataset
from labelaudit.errors import OptionError

NOISE_KINDS = ("symmetric", "pair", "asymmetric", "matrix:FILE", "instance", "column:NAME")


@dataclass(frozen=True)
class Noise:
    """A kind of label noise and its rate.

    Attributes
    ----------
    kind
        One of `NOISE_KINDS`, with the file or the column in place of the capital letters.
    rate
        Share of the labels that are made wrong, in [0, 1]; for "asymmetric" within the affected
        classes. None for "matrix" and "column", where the file or the column decides it.
    """

    kind: str
    rate: float | None

    @classmethod
    def parse(cls, kind: str, rates: list[float]) -> list[Noise]:
        """Return a kind of noise at each rate.

        Raises OptionError if the kind is unknown or a rate is not in [0, 1].
        """
        name, colon, argument = kind.partition(":")
        named = name in _WITHOUT_RATE
        if name not in _CORRUPTIONS or (bool(colon), bool(argument)) != (named, named):
            raise OptionError(f"unknown noise {kind!r}: choose one of {', '.join(NOISE_KINDS)}")
        if named:
            return [cls(kind, None)]
        for rate in rates:
            if not 0 <= rate <= 1:
                raise OptionError(f"the noise rate is {rate}; it must lie between 0 and 1")
        return [cls(kind, rate) for rate in rates]


@dataclass(frozen=True)
class Corruption:
    """The labels of a data set as the systems receive them.

    Attributes
    ----------
    noisy_labels
        ``(N,)`` int64, -1 where the label was removed.
    labeled
        ``(L,)`` int64, rows that still have a label.
    wrong
        ``(L,)`` bool, whether the label of each differs from the truth.
    """

    noisy_labels: np.ndarray
    labeled: np.ndarray
    wrong: np.ndarray


def corrupt(dataset: Dataset, noise: Noise, num_labeled: int | None, seed: int) -> Corruption:
    """Keep `num_labeled` labels, balanced by class, and corrupt them. None keeps all labels.

    The result depends only on the arguments, so it is the same for every system. Raises OptionError if
    the noise does not fit the data set.
    """
    clean = keep_labels(dataset.clean_labels, num_labeled, len(dataset.class_names), seed)
    name, _, argument = noise.kind.partition(":")
    noisy = _CORRUPTIONS[name](dataset, clean, noise.rate or 0.0, seed, argument)
    labeled = np.flatnonzero(noisy >= 0)
    return Corruption(noisy, labeled, noisy[labeled] != dataset.clean_labels[labeled])


def _symmetric(data: Dataset, clean: np.ndarray, rate: float, seed: int, _: str) -> np.ndarray:
    return corrupt_symmetric(clean, rate, len(data.class_names), seed)


def _pair(data: Dataset, clean: np.ndarray, rate: float, seed: int, _: str) -> np.ndarray:
    return corrupt_pair(clean, rate, len(data.class_names), seed)


def _asymmetric(data: Dataset, clean: np.ndarray, rate: float, seed: int, _: str) -> np.ndarray:
    """Use the data set's usual map of confused classes, or pair noise where there is none."""
    classes, class_map = len(data.class_names), CLASS_MAPS.get(data.noise_name)
    if class_map is None:
        return corrupt_pair(clean, rate, classes, seed)
    return corrupt_asymmetric(clean, rate, classes, seed, class_map)


def _instance(data: Dataset, clean: np.ndarray, rate: float, seed: int, _: str) -> np.ndarray:
    return corrupt_by_instance(clean, data.inputs, rate, len(data.class_names), seed)


def _matrix(data: Dataset, clean: np.ndarray, _: float, seed: int, path: str) -> np.ndarray:
    return corrupt_by_matrix(clean, read_transition_matrix(path, len(data.class_names)), seed)


def _column(data: Dataset, clean: np.ndarray, _: float, __: int, column: str) -> np.ndarray:
    if column not in data.extra_labels:
        there = ", ".join(data.extra_labels) or "none"
        raise OptionError(
            f"{data.name} has no label column {column!r}; other label columns: {there}"
        )
    return np.where(clean >= 0, data.extra_labels[column], -1)


_CORRUPTIONS: dict[str, Callable[[Dataset, np.ndarray, float, int, str], np.ndarray]] = {
    "symmetric": _symmetric,
    "pair": _pair,
    "asymmetric": _asymmetric,
    "instance": _instance,
    "matrix": _matrix,
    "column": _column,
}
_WITHOUT_RATE = ("matrix", "column")


def keep_labels(
    labels: np.ndarray, num_labeled: int | None, num_classes: int, seed: int
) -> np.ndarray:
    """Keep some labels, balanced by class as far as each class has enough; the rest become -1.

    Raises OptionError if `num_labeled` is larger than the number of labels or smaller than the number
    of classes.
    """
    if num_labeled is None:
        return labels
    if not num_classes <= num_labeled <= len(labels):
        raise OptionError(
            f"num_labeled is {num_labeled}; it must lie between {num_classes}, the number of"
            f" classes, and {len(labels):,}, the number of labels"
        )
    rng = np.random.default_rng([seed, num_labeled])
    shuffled = rng.permutation(len(labels))
    # The k-th member of each class comes before the (k+1)-th of any.
    place = np.empty(len(labels), dtype=np.int64)
    for cls in range(num_classes):
        members = shuffled[labels[shuffled] == cls]
        place[members] = np.arange(len(members))
    keep = shuffled[np.argsort(place[shuffled], kind="stable")][:num_labeled]
    kept = np.full(len(labels), -1, dtype=np.int64)
    kept[keep] = labels[keep]
    return kept

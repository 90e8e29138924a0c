"""The data of the demo: scikit-learn's digits, with some labels made wrong on purpose."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.errors import OutputError
from labelaudit.files import atomic_write
from labelaudit.sources.arrays import source_from_arrays
from labelaudit.sources.manifest import Source


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's digits: ``(1797, 8, 8)`` uint8 images and ``(1797,)`` int64 labels."""
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target.astype(np.int64)


def corrupted_digits(rate: float, seed: int) -> Source:
    """Return the digits with a share of each class's labels flipped, and their true labels."""
    images, labels = digits()
    return source_from_arrays(
        images, corrupt_symmetric(labels, rate, 10, seed), clean_labels=labels, name="digits"
    )


def write_digits(folder: Path, rate: float, seed: int) -> tuple[Path, Path]:
    """Write the digits with planted label errors as files, to try the other commands on.

    Parameters
    ----------
    folder
        A new or empty folder. A folder ``images`` of PNG files is written into it, and ``labels.csv``
        with the columns ``path``, ``label`` and ``true_label``.
    rate
        Share of the labels that are made wrong, in [0, 1].
    seed
        Decides which labels are made wrong.

    Returns
    -------
    tuple of Path
        The folder of images, and the table of labels.

    Raises
    ------
    OutputError
        If the folder is not empty, or cannot be written.
    """
    images, labels = digits()
    given = corrupt_symmetric(labels, rate, 10, seed)
    place, table = folder / "images", folder / "labels.csv"
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} exists and is not empty; choose another folder for `data`")
        place.mkdir(parents=True)
        for number, pixels in enumerate(images):
            Image.fromarray(pixels).save(place / f"{number:04d}.png")
        with atomic_write(table) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "label", "true_label"])
            for number, (label, truth) in enumerate(zip(given, labels, strict=True)):
                writer.writerow([f"{number:04d}.png", label, truth])
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror or error})") from error
    return place, table

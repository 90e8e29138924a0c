"""One row of the table of bad and unusual inputs."""

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

QUICK = ["--epochs", "1", "--encoder", "mlp", "--out", "out"]
"""Options of a scan of pixels that takes about a second."""


@dataclass(frozen=True)
class UnusualInput:
    """An input, and what labelaudit makes of it: a message, or a result.

    Attributes
    ----------
    name
        What is unusual, in a few words. Names are unique in the whole table.
    make
        Writes the input into the empty folder that it is given, and returns the command line, such as
        ``["scan", "photos", "labels.csv"]``. Paths are relative to that folder.
    message
        Regular expression that is found in the only line of the error. The exit code is 2.
    check
        Receives the folder after a command with exit code 0, and its output (stdout and stderr).
        Raises AssertionError if the result is not the right one.
    seconds
        Time limit.
    rewrites
        Files of an earlier run that the command is there to write again, relative to the folder. All
        other files stay as they were.
    """

    name: str
    make: Callable[[Path], list[str]]
    message: str | None = None
    check: Callable[[Path, str], None] | None = None
    seconds: float = 60.0
    rewrites: tuple[str, ...] = ()


def write_images(folder: Path, classes: int = 2, each: int = 10, suffix: str = ".png") -> None:
    """Write images of 8 x 8 pixels, one folder per class, named ``class0`` and so on.

    A class is a brightness, so that a mistake can be found.
    """
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 60, (8, 8)) + label * (190 // max(classes - 1, 1))
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(folder / f"class{label}" / f"{number:03d}{suffix}")


def write_features(folder: Path, rows: int = 60, columns: int = 4, classes: int = 3) -> np.ndarray:
    """Write ``features.npy`` with separable classes. Return the labels, ``(rows,)`` integers."""
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    centers = 8 * np.eye(columns)[:classes]
    features = rng.normal(size=(rows, columns)) + centers[labels]
    np.save(folder / "features.npy", features.astype(np.float32))
    return labels


def write_labels(folder: Path, labels: np.ndarray, name: str = "labels.csv") -> None:
    """Write a table with the columns ``path`` and ``label``."""
    lines = [f"{row},{label}" for row, label in enumerate(labels)]
    (folder / name).write_text("\n".join(["path,label", *lines]) + "\n")


@functools.cache
def _weights() -> tuple[tempfile.TemporaryDirectory, str]:
    import torch
    from torchvision.models import squeezenet1_1

    folder = tempfile.TemporaryDirectory(prefix="labelaudit-weights-")
    file = str(Path(folder.name) / "squeezenet.pt")
    torch.save(squeezenet1_1(weights=None).state_dict(), file)
    return folder, file


def embed_command(source: str) -> list[str]:
    """Return a command that reads and decodes all images in a twentieth of a second.

    It writes ``features.parquet``. Its network has random weights, because only the reading counts.
    """
    options = ["--encoder", "squeezenet1_1", "--image-size", "32", "--out", "features.parquet"]
    return ["embed", source, *options, "--weights", _weights()[1]]

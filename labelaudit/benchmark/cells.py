"""One cell of a sweep: a data set, its corruption and a system, scored against the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from labelaudit.benchmark.corruptions import (
    CLASS_MAPS,
    corrupt_asymmetric,
    corrupt_by_instance,
    corrupt_by_matrix,
    corrupt_pair,
    corrupt_symmetric,
    read_transition_matrix,
    realised_matrix,
)
from labelaudit.benchmark.datasets import Dataset
from labelaudit.benchmark.systems import METHODS
from labelaudit.errors import OptionError
from labelaudit.methods.system import System
from labelaudit.methods.task import AuditResult, Task
from labelaudit.networks.encoders import EncoderChoice, choose_encoder
from labelaudit.progress import Reporter
from labelaudit.reporting.tables import write_csv
from labelaudit.suspects.metrics import (
    detection_metrics,
    expected_calibration_error,
    f1_at_true_count,
)
from labelaudit.training.device import choose_device

# Share of the labeled samples whose correct labels are given to systems that need some. They are
# balanced by class, with at least one per class.
TRUSTED_SHARE = 0.05

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

        Raises
        ------
        OptionError
            If the kind is unknown or a rate is not in [0, 1].
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
    """Remove labels where that is asked for and corrupt the rest, the same for every system.

    Parameters
    ----------
    dataset
        A data set with clean labels.
    noise
        The noise to add.
    num_labeled
        Number of labels to keep, balanced by class. None keeps all.
    seed
        Decides which labels are kept, which are flipped, and to what.

    Raises
    ------
    OptionError
        If the noise does not fit the data set.
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

    Raises
    ------
    OptionError
        If `num_labeled` is larger than the number of labels or smaller than the number of classes.
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


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes
    ----------
    method
        A key of `labelaudit.benchmark.systems.METHODS`.
    noise, num_labeled, seed
        The corruption.
    encoder
        The requested encoder: a name or "auto".
    epochs, batch_size
        Set by a protocol. None leaves each method its own value.
    flip
        Whether training images are mirrored at random.
    device
        The requested device.
    """

    method: str
    noise: Noise
    seed: int
    num_labeled: int | None = None
    encoder: str = "auto"
    epochs: int | None = None
    batch_size: int | None = None
    device: str = "auto"
    flip: bool = False

    @property
    def stem(self) -> str:
        """First part of the names of the cell's files, without the method."""
        rate = "" if self.noise.rate is None else f"-{self.noise.rate:g}"
        kind = self.noise.kind.replace(":", "-").replace("/", "-").replace("\\", "-")
        return f"{kind}{rate}-seed{self.seed}"

    @property
    def key(self) -> tuple[object, ...]:
        """Values that identify the cell within a sweep, as in results.csv."""
        return (self.noise.kind, self.noise.rate, self.seed, self.method)

    def __str__(self) -> str:
        rate = "" if self.noise.rate is None else f" {self.noise.rate:g}"
        return f"{self.method}, {self.noise.kind}{rate}, seed {self.seed}"


@dataclass(frozen=True)
class CellResult:
    """The scores of a system on a cell.

    Attributes
    ----------
    rows
        Rows for results.csv: the system at its own threshold first, then its variants.
    curve
        Test error after each epoch, if it was asked for.
    scores
        One row per labeled sample, with the columns sample_id, suspect_score, is_label_issue and
        is_wrong; wrong_prob too where the system gives probabilities.
    """

    rows: list[dict[str, Any]]
    curve: list[float]
    scores: pd.DataFrame


def run_cell(
    cell: Cell, dataset: Dataset, *, curve: bool = False, reporter: Reporter | None = None
) -> CellResult:
    """Run a system on a corrupted data set and score its result against the truth.

    Parameters
    ----------
    cell
        The system, the corruption and the settings.
    dataset
        The data set before corruption.
    curve
        Measure the test error after every epoch, which costs one pass over the test set each time.
    reporter
        Shows progress.

    Raises
    ------
    OptionError
        If the system cannot be run on this data set.
    """
    system = METHODS[cell.method]()
    device = choose_device(cell.device)
    choice = choose_reading(dataset, cell.encoder, device.type)
    corruption = corrupt(dataset, cell.noise, cell.num_labeled, cell.seed)
    errors: list[float] = []

    def watch(_: int, probs: np.ndarray) -> None:
        errors.append(float((probs.argmax(axis=1) != dataset.test_labels).mean()))

    test_inputs = dataset.test_inputs
    task = Task(
        inputs=resized(dataset.inputs, choice.image_shape),
        noisy_labels=corruption.noisy_labels,
        num_classes=len(dataset.class_names),
        encoder=choice.name,
        device=device,
        seed=cell.seed,
        test_inputs=None if test_inputs is None else resized(test_inputs, choice.image_shape),
        epochs=cell.epochs,
        batch_size=cell.batch_size,
        flip=cell.flip,
        noise_rate=float(corruption.wrong.mean()) if system.needs_noise_rate else None,
        trusted=_trusted(dataset, corruption, cell.seed) if system.needs_trusted else None,
        watch=watch if curve and dataset.test_labels is not None else None,
        reporter=reporter or Reporter(),
    )
    started = time.monotonic()
    result = system.audit(task)
    seconds = time.monotonic() - started
    measured = {
        "f1_at_true_count": f1_at_true_count(result.suspect_score, corruption.wrong),
        "test_error": _test_error(result, dataset),
        "seconds": round(seconds, 2),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "num_labeled": len(corruption.labeled),
        "num_wrong": int(corruption.wrong.sum()),
        "num_trusted": result.num_trusted,
        **_calibration(result, corruption.wrong),
        "epochs": result.epochs,
        "encoder": choice.name,
    }
    scores = pd.DataFrame(
        {
            "sample_id": np.asarray(dataset.sample_ids, dtype=object)[corruption.labeled],
            "suspect_score": np.asarray(result.suspect_score, dtype=np.float64),
            "is_label_issue": result.flagged,
            "is_wrong": corruption.wrong,
        }
    )
    if result.wrong_prob is not None:
        scores["wrong_prob"] = result.wrong_prob
    return CellResult(_rows(cell, dataset, system, result, corruption, measured), errors, scores)


def choose_reading(dataset: Dataset, encoder: str, device_type: str) -> EncoderChoice:
    """Choose the encoder for a data set and the shape at which it reads each sample.

    Parameters
    ----------
    dataset
        Images or features.
    encoder
        The requested encoder: a name or "auto". Features have one encoder of their own.
    device_type
        "cuda", "mps" or "cpu".

    Raises
    ------
    OptionError
        If the encoder is unknown or cannot read these samples.
    """
    channels, height, width = dataset.inputs.shape[1:]
    if dataset.kind == "pixels":
        shape = (channels, height, width)
        return choose_encoder(encoder, shape, len(dataset.inputs), device_type)
    if encoder not in ("auto", "features"):
        raise OptionError(
            f"{dataset.name} holds features, and encoder {encoder!r} reads images; leave --encoder"
            " out"
        )
    return EncoderChoice("features", (channels, 1, 1), f"{channels:,} features per sample")


def _rows(
    cell: Cell,
    dataset: Dataset,
    system: System,
    result: AuditResult,
    corruption: Corruption,
    measured: dict[str, Any],
) -> list[dict[str, Any]]:
    """Score the system at its own threshold and at each of its variants."""
    variants = {f"{cell.method}: {name}": mask for name, mask in result.variants.items()}
    rows = [
        {
            "dataset": dataset.name,
            "noise": cell.noise.kind,
            "rate": cell.noise.rate,
            "seed": cell.seed,
            "method": name,
            **detection_metrics(result.suspect_score, flagged, corruption.wrong),
            **measured,
        }
        for name, flagged in {cell.method: result.flagged, **variants}.items()
    ]
    if system.best_variant and variants:
        # No user could choose this variant, because the truth chose it. The others have to beat it.
        best = max(rows, key=lambda row: row["f1"] if row["f1"] is not None else -1.0)
        rows.append({**best, "method": f"{cell.method} ({system.best_variant})"})
    return rows


def _calibration(result: AuditResult, wrong: np.ndarray) -> dict[str, float | None]:
    """Compare the predicted number of wrong labels with the truth, where probabilities are given."""
    prob, interval = result.wrong_prob, result.wrong_interval
    return {
        "expected_wrong": None if prob is None else float(prob.sum()),
        "expected_low": None if interval is None else interval[0],
        "expected_high": None if interval is None else interval[1],
        "calibration_error": None if prob is None else expected_calibration_error(prob, wrong),
    }


def _test_error(result: AuditResult, dataset: Dataset) -> float | None:
    if result.test_probs is None or dataset.test_labels is None:
        return None
    return float((result.test_probs.argmax(axis=1) != dataset.test_labels).mean())


def _trusted(dataset: Dataset, corruption: Corruption, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw labeled rows whose correct labels are given away; return the rows and these labels."""
    classes = len(dataset.class_names)
    rows = corruption.labeled
    size = max(classes, round(TRUSTED_SHARE * len(rows)))
    kept = keep_labels(dataset.clean_labels[rows], min(size, len(rows)), classes, seed)
    chosen = rows[kept >= 0]
    return chosen, dataset.clean_labels[chosen]


def resized(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return ``(N, C, H, W)`` uint8 at the size that an encoder reads, averaged or interpolated.

    Inputs that have the shape already are returned as they are; features always have.
    """
    if pixels.shape[1:] == shape:
        return pixels
    result = np.empty((len(pixels), *shape), dtype=np.uint8)
    for start in range(0, len(pixels), 4096):
        block = torch.from_numpy(pixels[start : start + 4096]).float()
        block = torch.nn.functional.interpolate(block, shape[1:], mode="bilinear", antialias=True)
        result[start : start + 4096] = block.round().clamp(0, 255).to(torch.uint8).numpy()
    return result


def write_corruption(folder: Path, dataset: Dataset, cell: Cell) -> None:
    """Write the corrupted labels and the realized transition matrix as CSV files.

    ``labels-….csv`` has the columns sample_id, given_label and clean_label, with class names. Other
    tools can be run on the same corruption and scored with ``labelaudit eval --scores``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    corruption = corrupt(dataset, cell.noise, cell.num_labeled, cell.seed)
    names = np.asarray(dataset.class_names, dtype=object)
    given = np.where(corruption.noisy_labels >= 0, names[corruption.noisy_labels], None)
    labels = pd.DataFrame(
        {
            "sample_id": dataset.sample_ids,
            "given_label": given,
            "clean_label": names[dataset.clean_labels],
        }
    )
    write_csv(labels.astype("str"), folder / f"labels-{cell.stem}.csv")
    kept = np.where(corruption.noisy_labels >= 0, dataset.clean_labels, -1)
    matrix = realised_matrix(kept, corruption.noisy_labels, len(names))
    frame = pd.DataFrame(matrix, columns=[f"to {name}" for name in names])
    frame.insert(0, "from", names)
    write_csv(frame, folder / f"matrix-{cell.stem}.csv")

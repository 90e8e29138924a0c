"""One cell of a sweep: a data set, its corruption and a system, scored against the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from labelaudit.benchmark.corruptions import realised_matrix
from labelaudit.benchmark.datasets import Dataset
from labelaudit.benchmark.noise import Corruption, Noise, corrupt, keep_labels
from labelaudit.benchmark.systems import METHODS
from labelaudit.benchmark.unfinished import UnfinishedCell
from labelaudit.errors import OptionError
from labelaudit.methods.system import System
from labelaudit.methods.task import AuditResult, Task
from labelaudit.networks.encoders import ENCODER_NAMES, EncoderChoice, choose_encoder
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
        Test error after each epoch by its number, from 1, if requested.
    scores
        One row per labeled sample, with the columns sample_id, suspect_score, is_label_issue and
        is_wrong; wrong_prob too where the system gives probabilities.
    warnings
        What the system warned of, if another process ran the cell.
    """

    rows: list[dict[str, Any]]
    curve: dict[int, float]
    scores: pd.DataFrame
    warnings: tuple[str, ...] = ()


def run_cell(
    cell: Cell,
    dataset: Dataset,
    *,
    curve: bool = False,
    reporter: Reporter | None = None,
    state: Path | None = None,
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
    state
        Folder for the state of the cell until it is finished. A cell that finds one there continues
        its training, if its system can (`System.resumable`).

    Raises
    ------
    OptionError
        If the system cannot be run on this data set.
    """
    system = METHODS[cell.method]()
    unfinished = UnfinishedCell.open(state if system.resumable else None)
    device = choose_device(cell.device)
    choice = choose_reading(dataset, cell.encoder, device.type)
    corruption = corrupt(dataset, cell.noise, cell.num_labeled, cell.seed)

    def watch(epoch: int, predict: Callable[[], np.ndarray | None]) -> None:
        unfinished.keep(epoch, _test_error(predict(), dataset) if curve else None)

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
        watch=watch,
        state=unfinished.folder,
        reporter=reporter or Reporter(),
    )
    result = system.audit(task)
    seconds = unfinished.seconds_so_far()
    measured = {
        "f1_at_true_count": f1_at_true_count(result.suspect_score, corruption.wrong),
        "test_error": _test_error(result.test_probs, dataset),
        "seconds": round(seconds, 2),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "num_samples": len(dataset.inputs),
        "num_labeled": len(corruption.labeled),
        "num_wrong": int(corruption.wrong.sum()),
        "num_trusted": result.num_trusted,
        **_calibration(result, corruption.wrong),
        "trustworthy": result.trustworthy,
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
    rows = _rows(cell, dataset, system, result, corruption, measured)
    return CellResult(rows, unfinished.test_error, scores)


def choose_reading(dataset: Dataset, encoder: str, device_type: str) -> EncoderChoice:
    """Choose the encoder for a data set and the shape at which it reads each sample.

    Raises OptionError if the encoder is unknown or cannot read these samples.
    """
    channels, height, width = dataset.inputs.shape[1:]
    if dataset.kind == "pixels":
        if encoder not in ("auto", *ENCODER_NAMES):
            raise OptionError(
                f"eval trains every method on the images, and encoder {encoder!r} is none of auto,"
                f" {', '.join(ENCODER_NAMES)}; for a pretrained network, write features with"
                " `labelaudit embed` and give them as `features`"
            )
        shape = (channels, height, width)
        return choose_encoder(encoder, shape, len(dataset.inputs), device_type)
    if encoder not in ("auto", "features"):
        raise OptionError(
            f"{dataset.name} holds features, and encoder {encoder!r} reads images; leave `encoder`"
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


def _test_error(test_probs: np.ndarray | None, dataset: Dataset) -> float | None:
    if test_probs is None or dataset.test_labels is None:
        return None
    return float((test_probs.argmax(axis=1) != dataset.test_labels).mean())


def _trusted(dataset: Dataset, corruption: Corruption, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw labeled rows whose correct labels a system may use; return the rows and these labels."""
    classes = len(dataset.class_names)
    rows = corruption.labeled
    size = max(classes, round(TRUSTED_SHARE * len(rows)))
    kept = keep_labels(dataset.clean_labels[rows], min(size, len(rows)), classes, seed)
    chosen = rows[kept >= 0]
    return chosen, dataset.clean_labels[chosen]


def resized(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return ``(N, C, H, W)`` uint8 at the size that an encoder reads, averaged or interpolated.

    Inputs of this shape, such as all features, are returned unchanged.
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

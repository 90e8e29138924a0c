"""One cell of a sweep: a data set, its corruption, a system; and how the system did."""

from __future__ import annotations

import time
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
from labelaudit.benchmark.systems import METHODS, NEEDS_TRUSTED
from labelaudit.errors import OptionError
from labelaudit.methods.task import Task, Verdict
from labelaudit.networks.encoders import choose_encoder
from labelaudit.progress import Reporter
from labelaudit.reporting.tables import write_csv
from labelaudit.suspects.metrics import (
    detection_metrics,
    expected_calibration_error,
    f1_at_true_count,
)
from labelaudit.training.device import choose_device

# Labels known to be right that a system which needs them is given: this share of the labeled images,
# balanced by class, at least one a class.
TRUSTED_SHARE = 0.05

NOISE_KINDS = ("symmetric", "pair", "asymmetric", "matrix:FILE", "instance", "column:NAME")


@dataclass(frozen=True)
class Noise:
    """A kind of noise at a rate.

    Attributes
    ----------
    kind
        One of `NOISE_KINDS`, with the file or the column named.
    rate
        Share of labels flipped, in [0, 1]; within the affected classes for "asymmetric". None for
        "matrix" and "column", which bring their own.
    """

    kind: str
    rate: float | None

    @classmethod
    def parse(cls, kind: str, rates: list[float]) -> list[Noise]:
        """Give a kind of noise at each rate.

        Raises
        ------
        OptionError
            If the kind is unknown or a rate is not in [0, 1].
        """
        name, colon, rest = kind.partition(":")
        if name in ("matrix", "column") and colon and rest:
            return [cls(kind, None)]
        if kind not in ("symmetric", "pair", "asymmetric", "instance"):
            raise OptionError(f"unknown noise {kind!r}: choose one of {', '.join(NOISE_KINDS)}")
        for rate in rates:
            if not 0 <= rate <= 1:
                raise OptionError(f"a noise rate of {rate} is no share; give one from 0 to 1")
        return [cls(kind, rate) for rate in rates]


@dataclass(frozen=True)
class Corruption:
    """A data set's labels as the systems get them.

    Attributes
    ----------
    noisy_labels
        ``(N,)`` int64, -1 where the label was taken away.
    labeled
        ``(L,)`` rows that kept one.
    wrong
        ``(L,)`` bool: whether the label of each differs from the truth.
    """

    noisy_labels: np.ndarray
    labeled: np.ndarray
    wrong: np.ndarray


def corrupt(dataset: Dataset, noise: Noise, num_labeled: int | None, seed: int) -> Corruption:
    """Take labels away, if so asked, and corrupt the others; the same for every system.

    Parameters
    ----------
    dataset
        With clean labels.
    noise
        What to do to them.
    num_labeled
        Keep so many labels, balanced by class; None keeps all.
    seed
        Decides which, and to what.

    Raises
    ------
    OptionError
        If the noise does not fit the data set.
    """
    clean = keep_labels(dataset.clean_labels, num_labeled, len(dataset.class_names), seed)
    classes = len(dataset.class_names)
    rate = noise.rate if noise.rate is not None else 0.0
    name, _, argument = noise.kind.partition(":")
    if name == "symmetric":
        noisy = corrupt_symmetric(clean, rate, classes, seed)
    elif name == "pair":
        noisy = corrupt_pair(clean, rate, classes, seed)
    elif name == "asymmetric":
        class_map = CLASS_MAPS.get(dataset.noise_name)
        if class_map is None:
            noisy = corrupt_pair(clean, rate, classes, seed)
        else:
            noisy = corrupt_asymmetric(clean, rate, classes, seed, class_map)
    elif name == "instance":
        noisy = corrupt_by_instance(clean, dataset.pixels, rate, classes, seed)
    elif name == "matrix":
        noisy = corrupt_by_matrix(clean, read_transition_matrix(argument, classes), seed)
    else:
        if argument not in dataset.extra_labels:
            there = ", ".join(dataset.extra_labels) or "none"
            raise OptionError(
                f"{dataset.name} has no column {argument!r} of labels; there: {there}"
            )
        noisy = np.where(clean >= 0, dataset.extra_labels[argument], -1)
    labeled = np.flatnonzero(noisy >= 0)
    return Corruption(noisy, labeled, noisy[labeled] != dataset.clean_labels[labeled])


def keep_labels(
    labels: np.ndarray, num_labeled: int | None, num_classes: int, seed: int
) -> np.ndarray:
    """Keep so many labels, balanced by class as far as there are enough; the others become -1.

    Raises
    ------
    OptionError
        If there are not so many, or fewer than classes are asked for.
    """
    if num_labeled is None:
        return labels
    if not num_classes <= num_labeled <= len(labels):
        raise OptionError(
            f"--num-labeled is {num_labeled}; it must lie between {num_classes}, one a class, and"
            f" {len(labels):,}"
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
    """What is run.

    Attributes
    ----------
    method
        A key of `labelaudit.benchmark.systems.METHODS`.
    noise, num_labeled, seed
        The corruption.
    encoder
        As asked for: a name or "auto".
    epochs, batch_size
        Set by a protocol; None leaves each method its own.
    flip
        Whether training images are mirrored at random.
    device
        As asked for.
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
        """Name of the cell's files, its method apart."""
        rate = "" if self.noise.rate is None else f"-{self.noise.rate:g}"
        kind = self.noise.kind.replace(":", "-").replace("/", "-").replace("\\", "-")
        return f"{kind}{rate}-seed{self.seed}"

    @property
    def key(self) -> tuple[object, ...]:
        """What tells the cell apart within a sweep, as it stands in results.csv."""
        return (self.noise.kind, self.noise.rate, self.seed, self.method)

    def __str__(self) -> str:
        rate = "" if self.noise.rate is None else f" {self.noise.rate:g}"
        return f"{self.method}, {self.noise.kind}{rate}, seed {self.seed}"


@dataclass(frozen=True)
class CellResult:
    """How a system did on a cell.

    Attributes
    ----------
    rows
        For results.csv: the system at its own threshold, then its variants.
    curve
        Test error after each epoch, if it was asked for.
    scores
        Columns sample_id, suspect_score, is_label_issue and is_wrong, a row a labeled sample.
    """

    rows: list[dict[str, Any]]
    curve: list[float]
    scores: pd.DataFrame


def run_cell(
    cell: Cell, dataset: Dataset, *, curve: bool = False, reporter: Reporter | None = None
) -> CellResult:
    """Run a system on a corrupted data set and score it against the truth.

    Parameters
    ----------
    cell
        What to run.
    dataset
        On what.
    curve
        Work out the test error after every epoch; costs a pass over the test set each.
    reporter
        Told of progress.

    Raises
    ------
    OptionError
        If the system cannot be run on this.
    """
    device = choose_device(cell.device)
    channels, height, width = dataset.pixels.shape[1:]
    choice = choose_encoder(
        cell.encoder, (channels, height, width), len(dataset.pixels), device.type
    )
    corruption = corrupt(dataset, cell.noise, cell.num_labeled, cell.seed)
    errors: list[float] = []

    def watch(_: int, probs: np.ndarray) -> None:
        errors.append(float((probs.argmax(axis=1) != dataset.test_labels).mean()))

    task = Task(
        pixels=resized(dataset.pixels, choice.image_shape),
        noisy_labels=corruption.noisy_labels,
        num_classes=len(dataset.class_names),
        encoder=choice.name,
        device=device,
        seed=cell.seed,
        test_pixels=(
            None
            if dataset.test_pixels is None
            else resized(dataset.test_pixels, choice.image_shape)
        ),
        epochs=cell.epochs,
        batch_size=cell.batch_size,
        flip=cell.flip,
        noise_rate=float(corruption.wrong.mean()),
        trusted=_trusted(dataset, corruption, cell),
        watch=watch if curve and dataset.test_labels is not None else None,
        reporter=reporter or Reporter(),
    )
    started = time.monotonic()
    verdict = METHODS[cell.method]().audit(task)
    seconds = time.monotonic() - started
    common = {
        "dataset": dataset.name,
        "noise": cell.noise.kind,
        "rate": cell.noise.rate,
        "seed": cell.seed,
    }
    measured = {
        "f1_at_true_count": f1_at_true_count(verdict.suspect_score, corruption.wrong),
        "test_error": _test_error(verdict, dataset),
        "seconds": round(seconds, 2),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "num_labeled": len(corruption.labeled),
        "num_wrong": int(corruption.wrong.sum()),
        "num_trusted": verdict.num_trusted,
        **_calibration(verdict, corruption.wrong),
        "epochs": verdict.epochs,
        "encoder": choice.name,
    }
    rows = [
        {
            **common,
            "method": name,
            **detection_metrics(verdict.suspect_score, flagged, corruption.wrong),
            **measured,
        }
        for name, flagged in _cuts(cell.method, verdict).items()
    ]
    if verdict.variants and cell.method == "confident-learning":
        # The truth chose it: no user could. It is what the others have to beat.
        best = max(rows, key=lambda row: row["f1"] if row["f1"] is not None else -1.0)
        rows.append({**best, "method": f"{cell.method} (best filter)"})
    scores = pd.DataFrame(
        {
            "sample_id": np.asarray(dataset.sample_ids, dtype=object)[corruption.labeled],
            "suspect_score": np.asarray(verdict.suspect_score, dtype=np.float64),
            "is_label_issue": verdict.flagged,
            "is_wrong": corruption.wrong,
        }
    )
    if verdict.wrong_prob is not None:
        scores["wrong_prob"] = verdict.wrong_prob
    return CellResult(rows, errors, scores)


def _calibration(verdict: Verdict, wrong: np.ndarray) -> dict[str, float | None]:
    """Say whether probabilities mean what they say, for systems that give any."""
    prob, interval = verdict.wrong_prob, verdict.wrong_interval
    return {
        "expected_wrong": None if prob is None else float(prob.sum()),
        "expected_low": None if interval is None else interval[0],
        "expected_high": None if interval is None else interval[1],
        "calibration_error": None if prob is None else expected_calibration_error(prob, wrong),
    }


def _cuts(method: str, verdict: Verdict) -> dict[str, np.ndarray]:
    variants = {f"{method}: {name}": mask for name, mask in verdict.variants.items()}
    return {method: verdict.flagged, **variants}


def _test_error(verdict: Verdict, dataset: Dataset) -> float | None:
    if verdict.test_probs is None or dataset.test_labels is None:
        return None
    return float((verdict.test_probs.argmax(axis=1) != dataset.test_labels).mean())


def _trusted(
    dataset: Dataset, corruption: Corruption, cell: Cell
) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw rows whose true labels are told to systems that need them."""
    if cell.method not in NEEDS_TRUSTED:
        return None
    classes = len(dataset.class_names)
    truth = np.where(corruption.noisy_labels >= 0, dataset.clean_labels, -1)
    size = max(classes, round(TRUSTED_SHARE * len(corruption.labeled)))
    rows = corruption.labeled
    kept = keep_labels(truth[rows], min(size, len(rows)), classes, cell.seed)
    chosen = rows[kept >= 0]
    return chosen, dataset.clean_labels[chosen]


def resized(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Give ``(N, C, H, W)`` uint8 at the size that an encoder reads, averaged or interpolated."""
    if pixels.shape[1:] == shape:
        return pixels
    result = np.empty((len(pixels), *shape), dtype=np.uint8)
    for start in range(0, len(pixels), 4096):
        block = torch.from_numpy(pixels[start : start + 4096]).float()
        block = torch.nn.functional.interpolate(block, shape[1:], mode="bilinear", antialias=True)
        result[start : start + 4096] = block.round().clamp(0, 255).to(torch.uint8).numpy()
    return result


def write_corruption(folder: Path, dataset: Dataset, cell: Cell) -> None:
    """Write the labels that systems get, and the realised transition matrix, as CSV files.

    ``labels-….csv``: sample_id, given_label, clean_label, names. Others can be scored on the same
    corruption with ``labelaudit eval --scores``.
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

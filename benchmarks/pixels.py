"""Images that are hard to tell apart: UMN with and without the classifier of the pixels.

    python benchmarks/pixels.py DATA_FOLDER

DATA_FOLDER holds the folders mnist and cifar10 with parquet shards. Every cell draws images with its
seed, corrupts their labels and trains UMN once. The labels are then judged twice: by the neighbors
alone ("before"), and with the classifier that is cross-fitted on the pixels ("after"). Finished cells
are rows of benchmarks/results/pixels.csv and are not run again, so a stopped command can be continued.
After each cell benchmarks/pixels.md is written from all rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from finished_rows import read_rows
from provenance import commit, hardware

from labelaudit import LabelAuditor
from labelaudit.benchmark.datasets import Dataset, load_dataset
from labelaudit.benchmark.evaluation import open_dataset
from labelaudit.benchmark.noise import Noise, corrupt
from labelaudit.suspects.label_evidence import collect_evidence
from labelaudit.suspects.metrics import detection_metrics
from labelaudit.suspects.scores import score_labels

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "pixels.csv", HERE / "pixels.md"
NUM_IMAGES = 8_000
SEEDS = range(100, 105)
NOISES = (
    Noise("symmetric", 0.2),
    Noise("symmetric", 0.4),
    Noise("pair", 0.3),
    Noise("symmetric", 0.0),
)
GRAY = np.array([0.299, 0.587, 0.114])
KEYS = ["data", "noise", "rate", "seed"]


def some(data: Dataset, seed: int, size: int = NUM_IMAGES) -> Dataset:
    """Draw some images with a seed."""
    rows = np.random.default_rng(seed).permutation(len(data.inputs))[:size]
    return replace(
        data,
        inputs=data.inputs[rows],
        clean_labels=data.clean_labels[rows],
        sample_ids=data.sample_ids[rows],
    )


def pooled(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of pixels, ``(N, C, H, W)``."""
    total, channels, height, width = pixels.shape
    squares = pixels.reshape(total, channels, height // factor, factor, width // factor, factor)
    return squares.mean(axis=(3, 5)).round().astype(np.uint8)


@cache
def mnist_images(folder: Path) -> Dataset:
    """Read MNIST's training images."""
    return open_dataset(str(folder / "mnist"), test="test")


@cache
def cifar10_images(folder: Path) -> Dataset:
    """Read CIFAR-10's training images."""
    return open_dataset(str(folder / "cifar10" / "train.parquet"))


def upper_halves(folder: Path, seed: int) -> Dataset:
    """Draw upper halves of MNIST's images."""
    data = some(mnist_images(folder), seed)
    return replace(data, inputs=np.ascontiguousarray(data.inputs[:, :, :14]))


def small_digits(folder: Path, seed: int) -> Dataset:
    """Draw MNIST's images at 7x7 pixels."""
    data = some(mnist_images(folder), seed)
    return replace(data, inputs=pooled(data.inputs, 4))


def gray_photos(folder: Path, seed: int) -> Dataset:
    """Draw CIFAR-10's images in gray at 16x16 pixels."""
    data = some(cifar10_images(folder), seed)
    gray = np.einsum("nchw,c->nhw", data.inputs, GRAY)[:, None]
    return replace(data, inputs=pooled(gray, 2))


def digits(folder: Path, seed: int) -> Dataset:
    """Take scikit-learn's digits."""
    return load_dataset("digits")


def mnist(folder: Path, seed: int) -> Dataset:
    """Draw 10,000 images of MNIST, as benchmarks/detection.py does."""
    return some(mnist_images(folder), seed, 10_000)


DATA: dict[str, Callable[[Path, int], Dataset]] = {
    "upper halves of MNIST": upper_halves,
    "MNIST at 7x7": small_digits,
    "digits": digits,
    "CIFAR-10, gray, 16x16": gray_photos,
    "MNIST": mnist,
}


@dataclass(frozen=True)
class Cell:
    """A data set, a kind of noise and a seed."""

    data: str
    noise: Noise
    seed: int

    def key(self) -> tuple[str, str, float, int]:
        """Return the values of `KEYS`."""
        assert self.noise.rate is not None
        return self.data, self.noise.kind, self.noise.rate, self.seed


def run(cell: Cell, folder: Path) -> Iterator[dict[str, object]]:
    """Train once, judge twice, and yield one row for each rule."""
    data = DATA[cell.data](folder, cell.seed)
    corruption = corrupt(data, cell.noise, None, cell.seed)
    started = time.process_time()
    auditor = LabelAuditor(seed=cell.seed, device="cpu", verbose=0).fit(
        data.inputs[:, 0], corruption.noisy_labels
    )
    audit_seconds = time.process_time() - started
    plan, fitted = auditor.audited_.plan, auditor.audited_.fitted
    for rule, pixels in (("before", None), ("after", plan.inputs.store)):
        started = time.process_time()
        evidence = collect_evidence(
            fitted.means,
            fitted.pred_probs,
            fitted.embeddings,
            corruption.noisy_labels,
            seed=cell.seed,
            pixels=pixels,
        )
        seconds = time.process_time() - started
        scores = score_labels(evidence, fitted.pred_probs, corruption.noisy_labels, seed=cell.seed)
        flagged = scores.suspect_score > scores.default_threshold
        metrics = detection_metrics(scores.suspect_score, flagged, corruption.wrong)
        yield {
            **dict(zip(KEYS, cell.key(), strict=True)),
            "rule": rule,
            "f1": metrics["f1"],
            "auroc": metrics["auroc"],
            "flagged": float(flagged.mean()),
            "expected": float(scores.suspect_score.mean()),
            "wrong": float(corruption.wrong.mean()),
            "pixel_weight": evidence.pixel_weight,
            "evidence_cpu_seconds": seconds,
            "audit_cpu_seconds": audit_seconds,
            "commit": commit(),
        }


def report(rows: pd.DataFrame) -> str:
    """Return the finished cells as Markdown."""
    lines = []
    for (data, kind, rate), cell in rows.groupby(["data", "noise", "rate"], sort=False):
        by = {rule: part.set_index("seed") for rule, part in cell.groupby("rule")}
        both = [by["before"], by["after"]]
        f1, auroc = (
            [f"{part[name].mean():.{digits}f}" if rate else "–" for part in both]
            for name, digits in (("f1", 3), ("auroc", 4))
        )
        change = (by["after"]["f1"] - by["before"]["f1"]).to_numpy()
        spread = f"{change.mean():+.3f} ({change.min():+.3f} to {change.max():+.3f})"
        flagged = [f"{100 * part['flagged'].mean():.1f}" for part in both]
        added = both[1]["evidence_cpu_seconds"] - both[0]["evidence_cpu_seconds"]
        share = (added / (both[1]["audit_cpu_seconds"] - added)).mean()
        lines.append(
            f"| {data} | {kind} {rate:g} | {len(both[0])} | {' | '.join(f1)}"
            f" | {spread if rate else '–'} | {' | '.join(auroc)} | {' | '.join(flagged)}"
            f" | {100 * both[0]['wrong'].mean():.1f} | {both[1]['pixel_weight'].mean():.2f}"
            f" | {share:.0%} |"
        )
    commits = " ".join(dict.fromkeys(rows["commit"]))
    head = [
        "# Images that are hard to tell apart",
        "",
        f"`python benchmarks/pixels.py DATA_FOLDER`; commits: {commits}; {hardware()}.",
        "",
        "UMN is trained once per cell, and the labels are judged twice: by the neighbors alone"
        " (before), and with a classifier that is cross-fitted on the pixels (after; [how a score is"
        " computed](../docs/explanation/scores.md#pixels)). Each seed draws 8,000 images, for MNIST"
        " 10,000; digits has 1,500. The rule was chosen on the same data with seed 0; reported"
        " are seeds from 100 on. Flagged: share of the labels with a score above 0.5. Added time: CPU"
        " time of the classifier, as a share of the audit without it.",
        "",
        "| data | noise | seeds | F1 before | F1 after | change, mean and range | AUROC before"
        " | AUROC after | flagged before, % | flagged after, % | wrong, % | weight of the classifier"
        " | added time |",
        "|" + "---|" * 13,
    ]
    return "\n".join([*head, *lines]) + "\n"


def main() -> None:
    """Run the cells that are not finished, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the folders mnist and cifar10")
    parser.add_argument("--data", action="append", default=[], choices=list(DATA))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="number of seeds, from 100")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    rows = read_rows(RESULTS, *KEYS)
    done = set(rows[KEYS].itertuples(index=False, name=None))
    cells = [
        Cell(data, noise, seed)
        for seed in SEEDS[: options.seeds]
        for data in options.data or DATA
        for noise in NOISES
    ]
    for cell in cells:
        if options.report_only or cell.key() in done:
            continue
        found = pd.DataFrame(list(run(cell, options.folder)))
        rows = found if rows.empty else pd.concat([rows, found])
        rows.to_csv(RESULTS, index=False)
        print(found[[*KEYS, "rule", "f1", "auroc", "flagged"]].to_string(header=False), flush=True)
        PAGE.write_text(report(rows), encoding="utf-8")
    if options.report_only:
        PAGE.write_text(report(rows), encoding="utf-8")


if __name__ == "__main__":
    main()

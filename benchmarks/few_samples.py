"""Audits of features of few samples, all of which are labeled.

    python benchmarks/few_samples.py MNIST_FOLDER [--seeds N]

The pixels of digits and of MNIST are taken as features. Each cell is a data set, its number of samples,
a kind of noise, a seed and a method. It is run by the code of `labelaudit eval` with default settings.
Finished cells are rows of benchmarks/results/few_samples.csv and are not run again, so a stopped
command can be continued. benchmarks/few_samples.md is written from all rows after each seed's cells.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from finished_rows import is_done, keep_row, read_rows
from provenance import commit, hardware

from labelaudit.benchmark.cells import Cell, run_cell
from labelaudit.benchmark.datasets import Dataset, dataset_from_source, load_dataset
from labelaudit.benchmark.evaluation import limited, open_dataset
from labelaudit.benchmark.noise import Noise

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "few_samples.csv", HERE / "few_samples.md"
FIRST_SEED, NUM_SEEDS = 100, 2
DATA, SIZES = ("digits", "mnist"), (50, 100, 200, 400)
NOISES = (("symmetric", 0.1), ("symmetric", 0.2), ("pair", 0.2))
METHODS = ("umn", "linear-probe-strong", "linear-probe")
SETTING = ["data", "samples", "noise", "rate"]


@dataclass(frozen=True)
class Trial:
    """A method on some samples of a data set, with a kind and a rate of noise and a seed."""

    data: str
    samples: int
    noise: str
    rate: float
    seed: int
    method: str


def trials(seed: int) -> Iterator[Trial]:
    """Yield all cells of a seed."""
    for data, samples, (noise, rate), method in product(DATA, SIZES, NOISES, METHODS):
        yield Trial(data, samples, noise, rate, seed, method)


@cache
def read_features(name: str, mnist: Path) -> Dataset:
    """Read a data set whose pixels are features."""
    images = load_dataset("digits") if name == "digits" else open_dataset(str(mnist), test="test")
    values = images.inputs.reshape(len(images.inputs), -1).astype(np.float32)
    return dataset_from_source(values, labels=images.clean_labels)


def run(trial: Trial, mnist: Path) -> dict[str, object]:
    """Run a cell, and return its row."""
    data = limited(read_features(trial.data, mnist), trial.samples)
    row = run_cell(
        Cell(trial.method, Noise(trial.noise, trial.rate), trial.seed, device="cpu"), data
    ).rows[0]
    names = (
        "f1", "f1_at_true_count", "auroc", "num_wrong", "expected_wrong", "expected_low",
        "expected_high",
    )  # fmt: skip
    return {**vars(trial), **{name: row[name] for name in names}, "commit": commit()}


def report(rows: pd.DataFrame) -> str:
    """Return the finished cells as Markdown."""
    commits = " ".join(dict.fromkeys(rows["commit"]))
    means = rows.pivot_table("f1", SETTING, "method")
    best = int((means.idxmax(axis=1) == "umn").sum())
    inside = rows["num_wrong"].between(rows["expected_low"], rows["expected_high"])
    rows = rows.assign(covered=inside)
    ours = rows[rows["method"] == "umn"]
    lines = [
        "# Audits of features of few samples",
        "",
        f"`python benchmarks/few_samples.py MNIST_FOLDER`; commits: {commits}; {hardware()}; pixels of"
        f" digits and of MNIST as features, ten classes. Means over the seeds {FIRST_SEED} to"
        f" {rows['seed'].max()}. umn runs with the defaults of `labelaudit.scan`; the linear probes are"
        " cross-validated logistic regressions with cleanlab's rules"
        " ([their page](../docs/methods/linear_probe.md)). Expected is the expected number of wrong"
        " labels, as a share of the true one; covered counts the intervals that hold the true number.",
        "",
        f"umn has the highest F1 in {best} of {len(means)} settings. Its interval of the number of"
        f" wrong labels holds the true number in {ours['covered'].sum()} of {len(ours)} audits, and"
        " nine of ten are meant. It is too narrow where labels are few. With fewer than 30 labels per"
        " class a scan warns that the number is not to be trusted much.",
        "",
        "| data | samples | noise | method | F1 | F1 at the true count | AUROC | expected | covered |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (data, samples, noise, rate), setting in rows.groupby(SETTING, sort=False):
        for method, part in setting.groupby("method", sort=False):
            scores = part[["f1", "f1_at_true_count", "auroc"]].mean()
            numbers = " | ".join(f"{value:.3f}" for value in scores)
            expected, covered = "–", "–"
            if part["expected_wrong"].notna().all():
                expected = f"{(part['expected_wrong'] / part['num_wrong']).mean():.2f}"
                covered = f"{part['covered'].sum()} of {len(part)}"
            lines.append(
                f"| {data} | {samples} | {noise} {rate:g} | {method} | {numbers} | {expected} |"
                f" {covered} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the cells that are not finished, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", type=Path, help="folder of MNIST, with parquet shards")
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(FIRST_SEED, FIRST_SEED + given.seeds):
        for trial in trials(seed):
            if not is_done(RESULTS, vars(trial)):
                keep_row(RESULTS, run(trial, given.mnist))
        PAGE.write_text(report(read_rows(RESULTS)))


if __name__ == "__main__":
    main()

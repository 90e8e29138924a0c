"""The rivals of UMN beside supervised training on the same labels.

    python benchmarks/rivals.py DATA_FOLDER [--seeds N] [--only digits]

DATA_FOLDER holds the folder mnist with parquet shards. Each cell is a method, a data set, a number of
labels, a rate of symmetric noise and a seed. It is run by the code of `labelaudit eval`, with the
settings that each method has by default. Finished cells are rows of benchmarks/results/rivals.csv and
are not run again, so a stopped command can be continued. benchmarks/rivals.md is written from all rows
after each cell. The cells of the first seed come first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from finished_rows import is_done, keep_row, read_rows
from provenance import commit, hardware

from labelaudit.benchmark.cells import Cell, run_cell
from labelaudit.benchmark.datasets import Dataset, load_dataset
from labelaudit.benchmark.evaluation import limited, open_dataset
from labelaudit.benchmark.noise import Noise
from labelaudit.benchmark.protocols import RATES

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "rivals.csv", HERE / "rivals.md"
FIRST_SEED, NUM_SEEDS = 100, 3
NUM_IMAGES = 10_000  # of MNIST
BASELINE = "supervised"
METHODS = (
    BASELINE, "mentornet", "mean-teacher", "reweight", "mentornet-learned", "mislabeled-vae",
)  # fmt: skip
SETTINGS = (("digits", 100), ("digits", 1500), ("mnist", 100))
SETTING = ["data", "labels", "rate"]
MEASURES = {"test_error": "test error", "f1": "F1", "auroc": "AUROC"}


@dataclass(frozen=True)
class Trial:
    """A method on a data set with some labels, a rate of wrong ones and a seed."""

    data: str
    labels: int
    rate: float
    seed: int
    method: str


def trials(seeds: range, only: str | None) -> Iterator[Trial]:
    """Yield all cells, the first seed's first, and its slow ones last."""
    for seed in seeds:
        for method in METHODS:
            for data, labels in SETTINGS:
                if only in (None, data):
                    yield from (Trial(data, labels, rate, seed, method) for rate in RATES)


@cache
def read_data(name: str, folder: Path) -> Dataset:
    """Read digits, or the images of MNIST that `labelaudit eval --limit` takes."""
    if name == "digits":
        return load_dataset("digits")
    return limited(open_dataset(str(folder / name), test="test"), NUM_IMAGES)


def run(trial: Trial, folder: Path) -> dict[str, object]:
    """Run a cell, and return its row."""
    data = read_data(trial.data, folder)
    num_labeled = None if trial.labels == len(data.inputs) else trial.labels
    noise = Noise("symmetric", trial.rate)
    cell = Cell(trial.method, noise, trial.seed, num_labeled, device="cpu")
    started = time.process_time()
    row = run_cell(cell, data).rows[0]
    seconds = round(time.process_time() - started, 1)
    names = ("test_error", "f1", "auroc", "epochs", "num_trusted")
    return {
        **vars(trial),
        **{name: row[name] for name in names},
        "cpu_seconds": seconds,
        "commit": commit(),
    }


def beside_baseline(rows: pd.DataFrame) -> list[str]:
    """Return one line per method and measure: on how many settings it is as good as the baseline."""
    key = [*SETTING, "seed"]
    base = rows[rows["method"] == BASELINE].set_index(key)
    lines = []
    for method in METHODS[1:]:
        ours = rows[rows["method"] == method].set_index(key)
        shared = ours.index.intersection(base.index)
        if shared.empty:
            continue
        parts = [method]
        for name in MEASURES:
            gain = ours.loc[shared, name] - base.loc[shared, name]
            gain = -gain if name == "test_error" else gain
            means = gain.groupby(level=SETTING).mean()
            parts.append(f"{(means >= 0).sum()} of {len(means)}")
            parts.append(f"{means.mean():+.3f} ({means.min():+.3f} to {means.max():+.3f})")
        lines.append(f"| {' | '.join(parts)} |")
    return lines


def tables(rows: pd.DataFrame) -> Iterator[str]:
    """Yield a table of each measure, with one row per method and setting."""
    for name, title in MEASURES.items():
        rates = " | ".join(f"{rate:.0%}" for rate in RATES)
        yield from ("", f"## {title[0].upper()}{title[1:]}", "")
        yield f"| data | labels | method | {rates} | seeds |"
        yield "|---|---|---|" + "---|" * (len(RATES) + 1)
        for data, labels in SETTINGS:
            for method in METHODS:
                part = rows[
                    (rows["data"] == data) & (rows["labels"] == labels) & (rows["method"] == method)
                ]
                if part.empty:
                    continue
                means = part.groupby("rate")[name].mean().reindex(list(RATES))
                cells = " | ".join("–" if pd.isna(mean) else f"{mean:.3f}" for mean in means)
                yield f"| {data} | {labels:,} | {method} | {cells} | {part['seed'].nunique()} |"


def report(rows: pd.DataFrame) -> str:
    """Return the finished cells as Markdown."""
    commits = " ".join(dict.fromkeys(rows["commit"]))
    total = len(SETTINGS) * len(RATES) * len(METHODS) * NUM_SEEDS
    lines = [
        "# The rivals beside supervised training",
        "",
        f"`python benchmarks/rivals.py DATA_FOLDER`; commits: {commits}; {hardware()}; {len(rows)} of"
        f" {total} cells.",
        "",
        f"Every method has the same corrupted labels (symmetric noise) and its own default settings,"
        f" which were chosen on seeds 0-4. Means are over seeds from {FIRST_SEED} on. digits has 1,500"
        f" training images of 8x8 pixels and 297 test images, MNIST {NUM_IMAGES:,} and 10,000."
        " mislabeled-vae is told the noise rate; mentornet-learned and reweight are told the true"
        " labels of one label in twenty, at least one per class.",
        "",
        f"Beside {BASELINE} (a setting is a data set, a number of labels and a rate; only seeds that"
        " both have are compared; a gain is the difference of the means, above 0 where the method is"
        ' better; "as good" counts the settings whose gain is at least 0, and brackets hold the least'
        " and the greatest gain of a setting):",
        "",
        "| method | test error as good | gain | F1 as good | gain | AUROC as good | gain |",
        "|---|---|---|---|---|---|---|",
        *beside_baseline(rows),
        *tables(rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the cells that are not finished, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with the folder mnist")
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    parser.add_argument("--only", choices=sorted({data for data, _ in SETTINGS}))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for trial in trials(range(FIRST_SEED, FIRST_SEED + given.seeds), given.only):
        if not is_done(RESULTS, vars(trial)):
            keep_row(RESULTS, run(trial, given.data))
            PAGE.write_text(report(read_rows(RESULTS)))
    PAGE.write_text(report(read_rows(RESULTS)))


if __name__ == "__main__":
    main()

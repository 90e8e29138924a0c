"""Measure ``labelaudit scan`` as users run it: PNG files, a CSV of labels, default options.

    python benchmarks/scan_mnist.py MNIST.parquet --work /tmp/scan-mnist

MNIST.parquet is the training split in Hugging Face's schema (`image`, `label`). For each seed 10,000
images are drawn and written as PNG files, and their labels are corrupted. The command line runs in its
own process, and its summary.json holds the metrics by the `clean` column of the CSV. Finished runs are
kept, so that a stopped sweep can be continued. The table is written to
benchmarks/results/scan_mnist.md, and every run to scan_mnist.csv.

Seeds 100 and up were never used to choose anything.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image
from provenance import commit, hardware

from labelaudit.benchmark.corruptions import corrupt_pair, corrupt_symmetric

RESULTS = Path(__file__).parent / "results"
NUM_IMAGES = 10_000
CELLS = {
    "all labeled, symmetric 20%": ("symmetric", 0.2, None, range(100, 103)),
    "all labeled, pair 30%": ("pair", 0.3, None, range(100, 103)),
    "100 labeled, symmetric 20%": ("symmetric", 0.2, 100, range(100, 110)),
}
CORRUPT = {"symmetric": corrupt_symmetric, "pair": corrupt_pair}


def write_source(
    parquet: Path, folder: Path, seed: int, noise: str, rate: float, num_labeled: int | None
) -> None:
    """Write PNG files and labels.csv with columns path, label, clean."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(parquet)
    labels = table["label"].to_numpy()
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels))[:NUM_IMAGES]
    clean = labels[rows].astype(np.int64)
    for number, row in enumerate(rows):
        data = table["image"][int(row)]["bytes"].as_py()
        Image.open(io.BytesIO(data)).convert("L").save(images / f"{number:05d}.png")
    given = clean.copy()
    if num_labeled is not None:
        given[:] = -1
        for cls in range(10):
            keep = rng.choice(np.flatnonzero(clean == cls), num_labeled // 10, replace=False)
            given[keep] = cls
    given = CORRUPT[noise](given, rate, 10, seed)
    pd.DataFrame(
        {
            "path": [f"{number:05d}.png" for number in range(len(rows))],
            "label": ["" if label < 0 else str(label) for label in given],
            "clean": clean,
        }
    ).to_csv(folder / "labels.csv", index=False)


def run_cell(parquet: Path, work: Path, name: str, seed: int) -> dict[str, object]:
    """Run one scan, or read the result of an earlier one."""
    noise, rate, num_labeled, _ = CELLS[name]
    folder = work / f"{noise}-{rate}-{num_labeled or 'all'}-{seed}"
    summary = folder / "run" / "summary.json"
    took = folder / "seconds.txt"
    if not took.exists():
        write_source(parquet, folder, seed, noise, rate, num_labeled)
        command = [sys.executable, "-m", "labelaudit", "scan", "images", "labels.csv"]
        command += ["--clean-label-column", "clean", "--seed", str(seed), "--out", "run", "--force"]
        started = time.monotonic()
        subprocess.run(command, cwd=folder, check=True)
        took.write_text(f"{time.monotonic() - started:.1f}")
    found = json.loads(summary.read_text(encoding="utf-8"))
    return {
        "cell": name,
        "seed": seed,
        **found["metrics"],
        "num_suspects": found["num_suspects"],
        "expected_wrong": round(found["expected_wrong"], 1),
        "epochs": found["epochs"],
        "encoder": found["encoder"]["name"],
        "command_seconds": float(took.read_text()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for images and runs")
    arguments = parser.parse_args()
    parquet = arguments.parquet.resolve()
    rows = [
        run_cell(parquet, arguments.work.resolve(), name, seed)
        for name, (*_, seeds) in CELLS.items()
        for seed in seeds
    ]
    runs = pd.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    runs.to_csv(RESULTS / "scan_mnist.csv", index=False, float_format="%.4f")
    lines = [
        "# `labelaudit scan` on 10,000 MNIST images",
        "",
        "PNG files and a CSV, default options; mean ± standard deviation over seeds.",
        "",
        "| cell | seeds | F1 | precision | recall | AUROC | expected / truly wrong | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, cell in runs.groupby("cell", sort=False):
        told = [
            f"{cell[m].mean():.3f} ± {cell[m].std():.3f}"
            for m in ("f1", "precision", "recall", "auroc")
        ]
        lines.append(
            f"| {name} | {cell['seed'].min()}-{cell['seed'].max()} | {' | '.join(told)} |"
            f" {cell['expected_wrong'].mean():,.0f} / {cell['num_wrong'].mean():,.0f} |"
            f" {cell['command_seconds'].mean():.0f} (at most {cell['command_seconds'].max():.0f}) |"
        )
    lines += [
        "",
        "Seconds are for the whole command, from reading files to the report.",
        "",
        f"Command: `python benchmarks/scan_mnist.py MNIST.parquet --work DIR`, commit {commit()},"
        f" {hardware()},"
        f" Python {platform.python_version()}. Every run is in `scan_mnist.csv`.",
        "",
    ]
    (RESULTS / "scan_mnist.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

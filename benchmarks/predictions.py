"""Time and memory of find_label_issues compared with cleanlab's, on random predictions.

    python benchmarks/predictions.py

Each system runs in its own process on the same memory-mapped file of predictions: cleanlab's default
filter, and labelaudit's default. Needs labelaudit[peers]. Writes benchmarks/predictions.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from provenance import commit, hardware

HERE = Path(__file__).parent
SHAPES = ((50_000, 10), (100_000, 100), (1_000_000, 100), (1_000_000, 1_000))
SYSTEMS = ("labelaudit", "cleanlab")
# cleanlab keeps several arrays of the size of the predictions, which need too much memory here.
TOO_LARGE = {("cleanlab", (1_000_000, 1_000))}


def write(folder: Path, shape: tuple[int, int]) -> None:
    """Write predictions that agree with nine of ten labels, of which one in twenty is wrong."""
    size, classes = shape
    rng = np.random.default_rng(0)
    right = rng.integers(0, classes, size)
    wrong = rng.random(size) < 0.05
    given = np.where(wrong, rng.integers(0, classes, size), right)
    np.save(folder / "labels.npy", given)
    probs = np.lib.format.open_memmap(
        folder / "probs.npy", mode="w+", dtype=np.float32, shape=shape
    )
    for start in range(0, size, 10_000):
        rows = right[start : start + 10_000]
        logits = rng.normal(size=(len(rows), classes)).astype(np.float32)
        logits[np.arange(len(rows)), rows] += 3.0 + np.log(classes)
        block = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs[start : start + 10_000] = block / block.sum(axis=1, keepdims=True)
    probs.flush()


class Watch(threading.Thread):
    """Measures the memory of the process in MiB, without mapped files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0

    def run(self) -> None:
        """Measure fifty times per second."""
        while True:
            self.peak = max(self.peak, anonymous())
            time.sleep(0.02)


def anonymous() -> float:
    """Return this process's anonymous memory in MiB, as Linux reports it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure(system: str, folder: Path) -> None:
    """Run one system in this process; print seconds and MiB as JSON."""
    labels = np.load(folder / "labels.npy")
    probs = np.load(folder / "probs.npy", mmap_mode="r")
    find: Callable[..., Any]
    if system == "cleanlab":
        from cleanlab.filter import find_label_issues as find
    else:
        from labelaudit import find_label_issues as find
    before, watch = anonymous(), Watch()
    watch.start()
    start = time.perf_counter()
    find(labels, probs)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": watch.peak - before}))


def main() -> None:
    """Measure all shapes and systems alternately, and report medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]))
        return
    rows = []
    for shape in SHAPES:
        with tempfile.TemporaryDirectory(dir=HERE.parent / ".data") as temporary:
            folder = Path(temporary)
            write(folder, shape)
            found: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
            for _ in range(options.repeats if shape[0] * shape[1] < 10**8 else 1):
                for system in SYSTEMS:
                    if (system, shape) in TOO_LARGE:
                        continue
                    command = [sys.executable, __file__, "--measure", system, str(folder)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    found[system].append(json.loads(done.stdout.splitlines()[-1]))
                    print(shape, system, found[system][-1], flush=True)
            for system, runs in found.items():
                if runs:
                    seconds = np.median([run["seconds"] for run in runs])
                    peak = np.median([run["peak"] for run in runs])
                    rows.append(
                        f"| {shape[0]:,} x {shape[1]:,} | {system} | {seconds:.1f} | {peak:,.0f} |"
                    )
        report(rows, options.repeats)


def report(rows: list[str], repeats: int) -> None:
    """Write benchmarks/predictions.md."""
    lines = [
        "# Time and memory of find_label_issues",
        "",
        f"`python benchmarks/predictions.py`; commit {commit()}; {hardware()}; medians of {repeats}"
        " alternating runs, or one run for the larger shapes.",
        "",
        "Random float32 predictions in a memory-mapped file, with 5% of the labels wrong. The peak is"
        " the growth of the memory of the process, without pages of the mapped file. cleanlab runs"
        " with its default filter.",
        "",
        "| predictions | system | seconds | peak, MiB |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    (HERE / "predictions.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Measure time and memory of ``labelaudit scan`` on wide features and on very many classes.

    python benchmarks/sizes.py --work FOLDER
    python benchmarks/sizes.py --work FOLDER --case 20000x256-10000

A case is NUMBERxFEATURES-CLASSES. Features are Gaussian clusters, one for each class, and a twentieth
of the labels name another class. The command line scans them in its own process with its defaults. The
time is that of the process, wall clock and processor (user and system). Judging is the time between the
lines "Ranking the labels." and "Writing the results.". The peak is the largest resident memory of the
process. Finished runs are kept in benchmarks/results/sizes.csv, and benchmarks/sizes.md is written from
them; --again measures them again. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from finished_rows import read_rows
from provenance import commit, hardware

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "sizes.csv"
# Number of samples, features and classes.
CASES = (
    "10000x4096-10",
    "500x20000-10",
    "2000x32-500",
    "12000x32-3000",
    "20000x256-10000",
)
WRONG_SHARE, SEED = 0.05, 0
MIB = 2**20
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def write_case(folder: Path, samples: int, features: int, classes: int) -> None:
    """Write features.npy, and labels.csv with the columns id, label and truth."""
    if (folder / "labels.csv").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    centers = rng.normal(size=(classes, features)).astype(np.float32)
    truth = rng.permutation(np.arange(samples) % classes)
    spread = 2.0 if features >= 256 else 1.0
    values = centers[truth] + rng.normal(size=(samples, features)).astype(np.float32) * spread
    given = truth.copy()
    wrong = rng.choice(samples, round(WRONG_SHARE * samples), replace=False)
    given[wrong] = (truth[wrong] + rng.integers(1, classes, len(wrong))) % classes
    np.save(folder / "features.npy", values.astype(np.float32))
    ids = [f"s{number}" for number in range(samples)]
    table = {"id": ids, "label": [f"c{k}" for k in given], "truth": [f"c{k}" for k in truth]}
    pd.DataFrame(table).to_csv(folder / "labels.csv", index=False)


def scan(folder: Path, epochs: int | None) -> dict[str, float]:
    """Run a scan, and measure its time and memory."""
    command = [sys.executable, "-m", "labelaudit", "scan", str(folder / "labels.csv")]
    command += ["--features", str(folder / "features.npy"), "--label-column", "label"]
    command += ["--clean-label-column", "truth", "--device", "cpu", "--seed", str(SEED)]
    command += ["--out", str(folder / "run"), "--force"]
    command += [] if epochs is None else ["--epochs", str(epochs)]
    started = time.monotonic()
    reached: dict[str, float] = {}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            reached[line.strip()] = time.monotonic()
            print(f"{reached[line.strip()] - started:7.1f} s  {line}", end="", flush=True)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    told = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    written = sum(file.stat().st_size for file in (folder / "run").rglob("*") if file.is_file())
    return {
        "seconds": time.monotonic() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "judging_seconds": reached["Writing the results."] - reached["Ranking the labels."],
        "peak_mib": usage.ru_maxrss * MAXRSS_UNIT / MIB,
        "run_folder_mib": written / MIB,
        "f1": told["metrics"]["f1"],
        "average_precision": told["metrics"]["average_precision"],
        "trusted": told["trust"]["trustworthy"],
    }


def report(done: pd.DataFrame) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Time and memory on wide features and on many classes",
        "",
        "`python benchmarks/sizes.py --work FOLDER`: the whole command `labelaudit scan --features` on"
        " Gaussian clusters, with a twentieth of the labels wrong. Judging is the part after training,"
        " without the report. The load is that of the machine before the run, 0 for an idle one.",
        "",
        "| samples x features, classes | seconds | CPU seconds | judging, seconds | peak, MiB | run"
        " folder, MiB | F1 | average precision | trusted | load | commit, hardware |",
        "|" + "---|" * 11,
    ]
    for row in done.itertuples():
        size, _, classes = row.case.partition("-")
        lines.append(
            f"| {size.replace('x', ' x ')}, {classes} | {row.seconds:.0f} | {row.cpu_seconds:.0f}"
            f" | {row.judging_seconds:.1f} | {row.peak_mib:,.0f} | {row.run_folder_mib:,.0f}"
            f" | {row.f1:.3f} | {row.average_precision:.3f} | {'yes' if row.trusted else 'no'}"
            f" | {row.load:.1f} | {row.commit}, {row.hardware} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse, run what is not finished, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--case", action="append", help=f"default: {', '.join(CASES)}")
    parser.add_argument("--epochs", type=int, help="only for a trial, which is not kept")
    parser.add_argument("--again", action="store_true", help="measure finished cases again")
    options = parser.parse_args()
    for case in options.case or CASES:
        done = read_rows(RESULTS, "case")
        if (done["case"] == case).any() and not options.again and options.epochs is None:
            continue
        match = re.fullmatch(r"(\d+)x(\d+)-(\d+)", case)
        if match is None:
            raise SystemExit(f"{case}: give NUMBERxFEATURES-CLASSES")
        folder = options.work.resolve() / case
        write_case(folder, *map(int, match.groups()))
        row = {"case": case, "load": os.getloadavg()[0], **scan(folder, options.epochs)}
        row |= {"commit": commit(), "hardware": hardware()}
        print(row, flush=True)
        if options.epochs is None:
            rest = done[done["case"] != case]
            done = pd.concat([rest, pd.DataFrame([row])]) if len(rest) else pd.DataFrame([row])
            done.to_csv(RESULTS, index=False)
            (HERE / "sizes.md").write_text(report(done), encoding="utf-8")


if __name__ == "__main__":
    main()

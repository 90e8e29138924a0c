"""Measure time and memory of ``labelaudit scan --features`` as the number of samples grows.

    python benchmarks/scale_features.py --work FOLDER
    python benchmarks/scale_features.py --work FOLDER --samples 1000000

Features are 768 numbers per sample in float16, in a .npy file. They are Gaussian clusters of ten
classes, and a fifth of the labels name another class. The command line scans them in its own process
with its defaults. Anonymous memory is Linux's RssAnon, which does not include mapped files. It is read
five times per second. Finished runs are kept in results/scale_features.csv, and scale_features.md
beside it is written from them; --again measures them again. Needs Linux, and 6 GiB of disk for
1,000,000 samples.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import IO

import numpy as np
import pandas as pd
from finished_rows import read_rows
from provenance import commit, hardware
from scale import MIB, SAMPLED_SECONDS, anonymous_bytes

from labelaudit.benchmark.corruptions import corrupt_symmetric

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "scale_features.csv"
FEATURES, CLASSES, APART, SEED = 768, 10, 0.12, 0
BLOCK = 10_000
# What ends when a line on standard error begins like this.
PARTS = {
    "reading": "Found ",
    "training": "Ranking the labels.",
    "judging": "Writing the results.",
}


def write_case(folder: Path, samples: int) -> None:
    """Write features.npy, and labels.csv with the columns id, label and truth."""
    if (folder / "labels.csv").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    means = rng.normal(0, APART, (CLASSES, FEATURES)).astype(np.float32)
    truth = rng.integers(0, CLASSES, samples)
    given = corrupt_symmetric(truth, 0.2, CLASSES, SEED)
    values = np.lib.format.open_memmap(
        folder / "features.npy", "w+", np.float16, (samples, FEATURES)
    )
    for start in range(0, samples, BLOCK):
        block = slice(start, start + BLOCK)
        noise = rng.standard_normal((len(truth[block]), FEATURES), np.float32)
        values[block] = means[truth[block]] + noise
    values.flush()
    ids = [f"s{number}" for number in range(samples)]
    table = {"id": ids, "label": [f"c{k}" for k in given], "truth": [f"c{k}" for k in truth]}
    pd.DataFrame(table).to_csv(folder / "labels.csv", index=False)


def scan(folder: Path) -> dict[str, float]:
    """Run a scan, and measure its time and memory."""
    command = [sys.executable, "-m", "labelaudit", "scan", str(folder / "labels.csv")]
    command += ["--features", str(folder / "features.npy"), "--label-column", "label"]
    command += ["--clean-label-column", "truth", "--device", "cpu", "--seed", str(SEED)]
    command += ["--out", str(folder / "run"), "--force"]
    said: list[tuple[float, str]] = []
    started, anonymous = time.monotonic(), {"": 0}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        reader = Thread(target=listen, args=(process.stderr, said, started))
        reader.start()
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            part = next(
                (name for name, line in PARTS.items() if not reached(said, line)), "writing"
            )
            anonymous[part] = max(anonymous.get(part, 0), anonymous_bytes(process.pid))
            time.sleep(SAMPLED_SECONDS)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        reader.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    told = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    written = sum(file.stat().st_size for file in (folder / "run").rglob("*") if file.is_file())
    row = {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "anonymous_mib": max(anonymous.values()) / MIB,
        "run_folder_mib": written / MIB,
        "f1": told["metrics"]["f1"],
    }
    ends = {name: reached(said, line) or 0.0 for name, line in PARTS.items()} | {"writing": seconds}
    before = 0.0
    for name, end in ends.items():
        row |= {f"{name}_seconds": end - before, f"{name}_mib": anonymous.get(name, 0) / MIB}
        before = end
    return row


def listen(stream: IO[str], said: list[tuple[float, str]], started: float) -> None:
    """Keep each line with the seconds since the start, and show it."""
    for line in stream:
        said.append((time.monotonic() - started, line.strip()))
        print(f"{said[-1][0]:7.1f} s  {line}", end="", flush=True)


def reached(said: list[tuple[float, str]], line: str) -> float | None:
    """Return the seconds until the first line that begins so; None if there is none yet."""
    return next((seconds for seconds, words in said if words.startswith(line)), None)


def report(done: pd.DataFrame) -> str:
    """Return the results as Markdown."""
    done = done.sort_values("samples")
    parts = (*PARTS, "writing")
    lines = [
        "# Time and memory by the number of samples with features",
        "",
        "`python benchmarks/scale_features.py --work FOLDER`, with `--samples`.",
        "",
        f"The whole command `labelaudit scan --features` on {FEATURES} features per sample, float16 in"
        f" a .npy file, {CLASSES} Gaussian classes with a fifth of the labels wrong, seed {SEED}."
        " Anonymous memory is the largest RssAnon of the process; the largest of each part is in"
        " brackets after its seconds. The load is that of the machine before the run, 0 for an idle"
        " one.",
        "",
        f"| samples | seconds | CPU seconds | anonymous MiB | {' | '.join(parts)} | run folder, MiB |"
        " F1 | load | commit, hardware |",
        "|" + "---|" * 12,
    ]
    for row in done.to_dict("records"):
        cells = [f"{row[f'{part}_seconds']:.0f} ({row[f'{part}_mib']:,.0f})" for part in parts]
        lines.append(
            f"| {row['samples']:,} | {row['seconds']:.0f} | {row['cpu_seconds']:.0f}"
            f" | {row['anonymous_mib']:,.0f} | {' | '.join(cells)} | {row['run_folder_mib']:,.0f}"
            f" | {row['f1']:.3f} | {row['load']:.1f} | {row['commit']}, {row['hardware']} |"
        )
    by = done.set_index("samples")
    for samples in by.index:
        if samples // 10 in by.index:
            ratio = by.loc[samples, "seconds"] / by.loc[samples // 10, "seconds"]
            lines += [
                "",
                f"{samples:,} samples take {ratio:.1f} times as long as {samples // 10:,}.",
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse, run what is not finished, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--samples", type=int, action="append", help="default: 20,000 and 100,000")
    parser.add_argument("--again", action="store_true", help="measure finished runs again")
    asked = parser.parse_args()
    for samples in asked.samples or [20_000, 100_000]:
        done = read_rows(RESULTS, "samples")
        if (done["samples"] == samples).any() and not asked.again:
            continue
        folder = asked.work.resolve() / f"{samples}x{FEATURES}"
        write_case(folder, samples)
        row = {"samples": samples, "load": os.getloadavg()[0], **scan(folder)}
        row |= {"commit": commit(), "hardware": hardware()}
        print(row, flush=True)
        rest = done[done["samples"] != samples]
        done = pd.concat([rest, pd.DataFrame([row])]) if len(rest) else pd.DataFrame([row])
        done.to_csv(RESULTS, index=False)
        (HERE / "scale_features.md").write_text(report(done), encoding="utf-8")
    print(report(read_rows(RESULTS)))


if __name__ == "__main__":
    main()

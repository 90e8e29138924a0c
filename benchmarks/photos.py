"""From the README's command for photos to the report: seconds, and the mistakes that it finds.

    python benchmarks/photos.py --cifar10 CIFAR10_TRAIN.parquet [--fresh]

Makes a folder of 600 small JPEGs, one subfolder per class, and runs `labelaudit scan photos` on it in
a process of its own, with an empty cache of features. The images are CIFAR-10's of four classes,
enlarged to squares of 96 to 224 pixels; 55 of them lie in the folder of another class. With --fresh
the command comes from a new environment, which uv makes from this checkout by
`pip install ".[photos]"`. Needs labelaudit[photos]; --fresh needs uv and a package registry. A row
is added to benchmarks/results/photos.csv for each run, and benchmarks/photos.md is written from them.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from finished_rows import read_rows
from PIL import Image
from provenance import commit, hardware

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "photos.csv"
CLASSES = {0: "airplane", 1: "automobile", 3: "cat", 7: "horse"}
IMAGES, MISTAKES, SEED = 600, 55, 100
SIDES = (96, 224)


def make_photos(cifar10: Path, folder: Path) -> set[str]:
    """Write the photos into one subfolder per class; return the names of those in a wrong one."""
    rng = np.random.default_rng(SEED)
    table = pq.read_table(cifar10)
    labels = table["label"].to_numpy()
    each = IMAGES // len(CLASSES)
    rows = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:each] for c in CLASSES])
    wrong_rows = set(rng.permutation(rows)[:MISTAKES].tolist())
    wrong = set()
    for number, row in enumerate(rng.permutation(rows).tolist()):
        given = true = int(labels[row])
        if row in wrong_rows:
            given = int(rng.choice([c for c in CLASSES if c != true]))
        place = folder / CLASSES[given]
        place.mkdir(parents=True, exist_ok=True)
        name = f"{CLASSES[given]}/{number:04d}.jpg"
        image = Image.open(io.BytesIO(table["image"][row].as_py()["bytes"])).convert("RGB")
        side = int(rng.integers(SIDES[0], SIDES[1] + 1))
        image.resize((side, side), Image.Resampling.BICUBIC).save(folder / name, quality=90)
        if given != true:
            wrong.add(name)
    return wrong


def fresh_environment(folder: Path) -> tuple[list[str], float]:
    """Install this checkout with the extra into a new environment; return its command and seconds."""
    started = time.perf_counter()
    uv = shutil.which("uv")
    assert uv is not None, "--fresh needs uv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python"]
    subprocess.run([*install, f"{HERE.parent}[photos]"], check=True)
    return [str(folder / "bin" / "labelaudit")], time.perf_counter() - started


def run(cifar10: Path, fresh: bool, device: str) -> dict[str, object]:
    """Make the photos, run the command, and compare its suspects with the planted mistakes."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        wrong = make_photos(cifar10, work / "photos")
        command, install = [sys.executable, "-m", "labelaudit"], float("nan")
        environment = {**os.environ, "LABELAUDIT_CACHE": str(work / "cache")}
        if fresh:
            command, install = fresh_environment(work / "venv")
            environment.pop("PYTHONPATH", None)
        else:
            environment["PYTHONPATH"] = str(HERE.parent)
        started = time.perf_counter()
        shown = subprocess.run(
            [*command, "scan", "photos", "--device", device],
            cwd=work,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
        print(shown.stderr, shown.stdout)
        assert (work / "labelaudit-photos" / "report.html").is_file()
        suspects = pd.read_csv(work / "labelaudit-photos" / "suspects.csv")
    flagged = set(suspects["sample_id"])
    found = len(flagged & wrong)
    return {
        "environment": "fresh" if fresh else "this one",
        "device": device,
        "install_seconds": install,
        "seconds": seconds,
        "flagged": len(flagged),
        "found": found,
        "mistakes": len(wrong),
        "f1": 2 * found / (len(flagged) + len(wrong)),
        "machine": hardware(),
        "commit": commit(),
    }


def report() -> str:
    """Return the results as Markdown."""
    lines = [
        "# From the command for photos to the report",
        "",
        f"`python benchmarks/photos.py --cifar10 CIFAR10_TRAIN.parquet [--fresh]`: {IMAGES} JPEGs of"
        f" {len(CLASSES)} classes, {SIDES[0]} to {SIDES[1]} pixels per side, made from CIFAR-10's"
        f" training images (seed {SEED}), of which {MISTAKES} lie in the folder of another class."
        " `labelaudit scan photos` runs in a process of its own, with an empty cache of features."
        " Seconds are those from the command to the written report.",
        "",
        "| environment | device | installing, s | scan, s | flagged | found | F1 | machine | commit |",
        "|" + "---|" * 9,
    ]
    for row in read_rows(RESULTS).itertuples():
        install = "–" if np.isnan(row.install_seconds) else f"{row.install_seconds:.0f}"
        lines.append(
            f"| {row.environment} | {row.device} | {install} | {row.seconds:.0f} | {row.flagged}"
            f" | {row.found} of {row.mistakes} | {row.f1:.3f} | {row.machine} | {row.commit} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar10", type=Path, required=True, help="parquet of its training split")
    parser.add_argument("--fresh", action="store_true", help="install into a new environment first")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--again", action="store_true", help="replace the row of the same kind")
    options = parser.parse_args()
    row = pd.DataFrame([run(options.cifar10, options.fresh, options.device)])
    if RESULTS.exists():
        done = read_rows(RESULTS)
        if options.again:
            same = done["environment"].eq(row["environment"][0]) & done["device"].eq(options.device)
            done = done[~same]
        row = pd.concat([done, row])
    row.to_csv(RESULTS, index=False)
    (HERE / "photos.md").write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()

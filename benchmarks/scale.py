"""Measure memory, disk and time of ``labelaudit scan`` as the number of images grows.

    python benchmarks/scale.py --work FOLDER
    python benchmarks/scale.py --work FOLDER --images 1000000

Synthetic 32x32 color images of ten classes, of which a fifth have wrong labels, are written as PNG in
parquet shards. The command line scans them in its own process, with the MLP encoder and two epochs. Its
anonymous memory (Linux's RssAnon, which does not include the mapped store) and the free space of the
disk are measured five times per second. Finished runs are kept in benchmarks/results/scale.csv, and
benchmarks/scale.md is written from them. Needs Linux, and 8 GiB of disk for 1,000,000 images.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from finished_rows import read_rows
from PIL import Image
from provenance import commit, hardware

from labelaudit.benchmark.corruptions import corrupt_symmetric

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "scale.csv"
SIDE, PATCH, CLASSES = 32, 8, 10
SHARD, ROW_GROUP = 100_000, 2_000
SAMPLED_SECONDS = 0.2
MIB = 2**20


def write_shards(folder: Path, count: int, seed: int) -> None:
    """Write images of patches of 8x8 pixels. Each class has its own colors, and there is much noise."""
    if folder.exists():
        return
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    grid = SIDE // PATCH
    colors = rng.normal(128, 40, (CLASSES, grid, grid, 3))
    clean = rng.integers(0, CLASSES, count)
    given = corrupt_symmetric(clean, 0.2, CLASSES, seed)
    for number, start in enumerate(range(0, count, SHARD)):
        rows = np.arange(start, min(start + SHARD, count))
        patches = colors[clean[rows]] + rng.normal(0, 60, (len(rows), grid, grid, 3))
        cells = [{"bytes": png(patch), "path": None} for patch in patches.clip(0, 255)]
        table = pa.table(
            {"image": cells, "label": given[rows], "clean": [str(c) for c in clean[rows]]}
        )
        pq.write_table(table, partial / f"train-{number:05d}.parquet", row_group_size=ROW_GROUP)
    partial.rename(folder)


def png(patches: np.ndarray) -> bytes:
    """Encode patches ``(G, G, 3)`` as an image of 32x32 pixels."""
    pixels = patches.astype(np.uint8).repeat(PATCH, axis=0).repeat(PATCH, axis=1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def anonymous_bytes(pid: int) -> int:
    """Return a process's RssAnon in bytes, 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return int(found[0]) * 1024 if found else 0


def scan(folder: Path, out: Path, epochs: int, seed: int) -> dict[str, float | str]:
    """Run a scan, and measure its memory and disk."""
    command = [sys.executable, "-m", "labelaudit", "scan", str(folder), "--encoder", "mlp"]
    command += ["--epochs", str(epochs), "--clean-label-column", "clean", "--seed", str(seed)]
    command += ["--out", str(out), "--force", "--device", "cpu"]
    before = shutil.disk_usage(out.parent).free
    started = time.monotonic()
    memory = disk = 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            memory = max(memory, anonymous_bytes(process.pid))
            disk = max(disk, before - shutil.disk_usage(out.parent).free)
            time.sleep(SAMPLED_SECONDS)
    if process.returncode:
        raise SystemExit(process.returncode)
    told = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return {
        "seconds": time.monotonic() - started,
        "anonymous_mib": memory / MIB,
        "disk_mib": disk / MIB,
        "run_folder_mib": sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / MIB,
        "f1": told["metrics"]["f1"],
    }


def report() -> str:
    """Return the results as Markdown."""
    done = read_rows(RESULTS).sort_values(["epochs", "images"])
    lines = [
        "# Memory, disk and time by the number of images",
        "",
        "`python benchmarks/scale.py --work FOLDER`, with `--images` and `--epochs`.",
        "",
        "The whole command `labelaudit scan --encoder mlp` on synthetic 32x32 color images in parquet,"
        " with a fifth of the labels wrong, seed 0. Anonymous memory is the largest RssAnon of the"
        " process. Disk includes the run folder, and the store of pixels, which is deleted at the end."
        " A store of up to half a gibibyte (170,000 images) is in memory instead.",
        "",
        "| images | epochs | seconds | seconds per 1,000 images | anonymous MiB | disk, MiB |"
        " run folder, MiB | F1 | commit, hardware |",
        "|" + "---|" * 9,
    ]
    lines += [
        f"| {row.images:,} | {row.epochs} | {row.seconds:.0f} | {1000 * row.seconds / row.images:.2f}"
        f" | {row.anonymous_mib:,.0f} | {row.disk_mib:,.0f} | {row.run_folder_mib:,.0f}"
        f" | {row.f1:.3f} | {row.commit}, {row.hardware} |"
        for row in done.itertuples()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse, run what is not finished, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for images and runs")
    parser.add_argument("--images", type=int, action="append", help="default: 10,000 and 100,000")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    work = options.work.resolve()
    for count in options.images or [10_000, 100_000]:
        done = read_rows(RESULTS)
        if len(done) and ((done["images"] == count) & (done["epochs"] == options.epochs)).any():
            continue
        folder = work / f"images-{count}"
        write_shards(folder, count, seed=0)
        row = {"images": count, "epochs": options.epochs}
        row |= scan(folder, work / f"run-{count}", options.epochs, seed=0)
        row |= {"commit": commit(), "hardware": hardware()}
        print(row, flush=True)
        pd.concat([done, pd.DataFrame([row])]).to_csv(RESULTS, index=False)
    text = report()
    (HERE / "scale.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

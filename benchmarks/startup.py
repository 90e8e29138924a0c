"""How long a person waits for the first line, and for the message about a mistyped path.

    python benchmarks/startup.py OTHER_CHECKOUT

Runs whole processes of this checkout and of another one in turn, and writes benchmarks/startup.md.
Both use the environment that runs this script. Measure on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from provenance import commit, hardware

HERE = Path(__file__).parent
RUNS = 9


def environment(checkout: Path) -> dict[str, str]:
    """Return the environment in which Python imports labelaudit from a checkout."""
    return {**os.environ, "PYTHONPATH": str(checkout.resolve())}


def mistyped(checkout: Path, folder: Path) -> float:
    """Return the seconds until `labelaudit scan nowhere` has ended with its message."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "labelaudit", "scan", "nowhere"]
    done = subprocess.run(command, cwd=folder, env=environment(checkout), capture_output=True)
    seconds = time.perf_counter() - started
    assert b"nowhere" in done.stderr
    return seconds


def first_line(checkout: Path, folder: Path) -> float:
    """Return the seconds until a scan in a terminal has written its first characters."""
    main, terminal = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "labelaudit",
        "scan",
        "labels.csv",
        "--features",
        "features.npy",
    ]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--out", "run", "--force"],
        cwd=folder,
        env=environment(checkout),
        stdout=terminal,
        stderr=terminal,
    )
    os.read(main, 1)
    seconds = time.perf_counter() - started
    process.kill()
    process.wait()
    os.close(main)
    os.close(terminal)
    return seconds


def commit_of(checkout: Path) -> str:
    """Return the commit of a checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def measure(wait: Callable[[Path, Path], float], checkouts: list[Path]) -> list[list[float]]:
    """Measure each checkout in turn; the first run of each only warms the caches of the disk."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rng = np.random.default_rng(0)
        np.save(folder / "features.npy", rng.normal(size=(400, 8)).astype(np.float32))
        rows = "".join(f"{row},{row % 3}\n" for row in range(400))
        (folder / "labels.csv").write_text(f"id,label\n{rows}")
        seconds = [[wait(checkout, folder) for checkout in checkouts] for _ in range(RUNS + 1)]
    return [list(column) for column in zip(*seconds[1:], strict=True)]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="checkout to compare with")
    other: Path = parser.parse_args().other
    checkouts = [other, HERE.parent]
    lines = [
        "# Time until the first line",
        "",
        "`python benchmarks/startup.py OTHER_CHECKOUT`. Whole processes, medians of"
        f" {RUNS} runs in turn, with the smallest and the largest; {hardware()}.",
        "",
        f"| seconds until | {commit_of(other)} | {commit()} | ratio |",
        "|---|---|---|---|",
    ]
    for what, wait in (
        ("the message about a mistyped path", mistyped),
        ("the first line of a scan in a terminal", first_line),
    ):
        taken = measure(wait, checkouts)
        middle = [statistics.median(one) for one in taken]
        cells = [
            f"{m:.2f} ({min(one):.2f} to {max(one):.2f})"
            for m, one in zip(middle, taken, strict=True)
        ]
        lines.append(f"| {what} | {' | '.join(cells)} | {middle[1] / middle[0]:.3f} |")
    (HERE / "startup.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

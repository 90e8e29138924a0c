"""A column of the paper's tables on a GPU, in calls of a few minutes each.

    python benchmarks/gpu_columns.py table1-cifar10 CIFAR10_FOLDER OUT
    python benchmarks/gpu_columns.py table1-svhn SVHN_FOLDER OUT --rate 0.2 --seconds 640
    python benchmarks/gpu_columns.py table1-cifar10 CIFAR10_FOLDER OUT --device cpu --tiny

The columns are table1-mnist, table1-cifar10, table1-svhn, table2-svhn and figure3. FOLDER holds the
training and the test split as parquet shards in Hugging Face's schema. For SVHN it may also hold
train_32x32.mat and test_32x32.mat.

Each part of a column is one command, `python -m labelaudit eval … --protocol COLUMN`, run from the
source tree. The rates and parts that tell most come first. One seed and fewer epochs than the paper's
350 are run, and every title says so. Methods that train on the labeled images alone keep 350 epochs
wherever that is affordable.

OUT/COLUMN/table.md sets our numbers beside the paper's. It is written anew whenever a cell is finished.
When the seconds are over, the running command is stopped as by Ctrl-C. Call the script again with the
same OUT to go on: finished cells stay, and a stopped training continues from its checkpoint. The exit
status is 0 if everything is finished, 3 if time is up or the script was stopped, and 1 if something
failed.

With `--tiny` a few images are used, so that a CPU can rehearse a column.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np
import pandas as pd
from provenance import commit

from labelaudit.benchmark.comparison import plot_curves
from labelaudit.benchmark.paper_table import protocol_table, protocol_title
from labelaudit.benchmark.protocols import PROTOCOLS
from labelaudit.benchmark.sweep import results_in
from labelaudit.files import atomic_write
from labelaudit.reporting.tables import read_csv

ROOT = Path(__file__).parents[1]
SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")
PAPER_EPOCHS = 350
RATES = (0.2, 0.4, 0.1, 0.3, 0.5)
# A command needs about this many seconds before its first step; a shorter rest is not used.
SHORTEST = 40.0
# For the last checkpoint, the reports and plots of a command that is stopped.
GRACE = 30.0
WATCH = 2.0
TINY = ("--num-labeled", "10", "--limit", "20", "--batch-size", "10")
CELL = ("rate", "num_labeled", "epochs", "seed", "method")
TIME_IS_UP, BAD_INPUT, FAILED, FINISHED = 3, 2, 1, 0


@dataclass(frozen=True)
class Part:
    """Methods that are trained for the same number of epochs, by one command.

    Attributes
    ----------
    methods
        Names of `labelaudit.benchmark.systems.METHODS`, in this order.
    epochs
        Passes over the training images, or over the labeled ones if the method reads only these.
    """

    methods: tuple[str, ...]
    epochs: int

    def folder(self, tiny: bool) -> str:
        """Name of the folder of the part's sweep. Parts of the same length share one."""
        return f"{self.trained(tiny)}-epochs"

    def trained(self, tiny: bool) -> int:
        """Return the epochs, also of a rehearsal."""
        return self.epochs if not tiny else 2 if self.epochs == PAPER_EPOCHS else 1


def parts_of(epochs: int, epochs_of_labeled: int, *, reweight: bool = True) -> tuple[Part, ...]:
    """Return Table 1's methods: UMN first, then the others, the quick ones before the slow ones."""
    parts = [
        Part(("umn",), epochs),
        Part(("supervised", "mentornet"), epochs_of_labeled),
        Part(("mislabeled-vae", "mean-teacher"), epochs),
        Part(("reweight",), epochs_of_labeled),
    ]
    return tuple(parts if reweight else parts[:-1])


@dataclass(frozen=True)
class Column:
    """The parts of a column, and its rates; the rates and parts that tell most come first."""

    parts: tuple[Part, ...]
    rates: tuple[float, ...] = RATES


# Estimated for an H100 from the number of steps (of 100 images, 3 ms with the MLP and 6 ms with the
# 13-layer network for UMN, less for the others), and 15 s for the start of each command.
COLUMNS = {
    "table1-cifar10": Column(parts_of(30, PAPER_EPOCHS)),  # a rate in 9 minutes
    "table1-svhn": Column(parts_of(30, PAPER_EPOCHS)),  # a rate in 8 minutes
    # UMN at a rate in 10 minutes, the other methods in 14 minutes
    "table1-mnist": Column(parts_of(PAPER_EPOCHS, PAPER_EPOCHS, reweight=False)),
    # All five numbers of labels in 8 minutes.
    "table2-svhn": Column((Part(("umn",), 15), Part(("mentornet",), 100)), rates=(0.2,)),
    # A rate in 8 minutes. Each epoch ends with a pass over the test set, hence the 100.
    "figure3": Column(parts_of(20, 100), rates=(0.2, 0.4, 0.3)),
}


@dataclass(frozen=True)
class Settings:
    """What the command line of this script says."""

    column: str
    data: Path
    out: Path
    rates: tuple[float, ...]
    seed: int
    device: str
    tiny: bool

    @property
    def folder(self) -> Path:
        """Folder of the column."""
        return self.out / self.column

    def command(self, part: Part, rate: float) -> list[str]:
        """Return the command of a part at a rate."""
        known = all((self.data / name).exists() for name in SVHN_FILES)
        data = ["--data-dir", str(self.data)] if known else [str(self.data), "--test", "test"]
        return [
            *(sys.executable, "-W", "ignore", "-m", "labelaudit", "eval", *data),
            *("--protocol", self.column, "--rate", f"{rate:g}"),
            *(word for method in part.methods for word in ("--method", method)),
            *("--epochs", str(part.trained(self.tiny))),
            *("--seeds", "1", "--first-seed", str(self.seed)),
            *("--device", self.device, "--out", str(self.folder / part.folder(self.tiny))),
            *(TINY if self.tiny else ()),
        ]

    def is_done(self, part: Part, rate: float) -> bool:
        """Return whether all cells of a part at a rate are finished."""
        rows = results_below(self.folder / part.folder(self.tiny))
        rows = rows[np.isclose(rows["rate"].astype(float), rate) & (rows["seed"] == self.seed)]
        wanted = 1 if self.tiny else len(PROTOCOLS[self.column].num_labeled)
        return all((rows["method"] == method).sum() == wanted for method in part.methods)


def results_below(folder: Path) -> pd.DataFrame:
    """Return the finished rows of all sweeps in a folder."""
    return results_in(path.parent for path in sorted(folder.rglob("results.csv")))


@dataclass
class Board:
    """The table of a column and its plot, kept up to date while its cells run."""

    settings: Settings
    shown: set[tuple[object, ...]] = field(default_factory=set, init=False)
    commit: str = field(default_factory=commit, init=False)

    def update(self) -> None:
        """Print the rows that are new, and write the table anew if there are any."""
        results = results_below(self.settings.folder)
        rows = {tuple(row[name] for name in CELL): row for row in results.to_dict("records")}
        new = [key for key in rows if key not in self.shown]
        for row in map(rows.__getitem__, new):
            if ": " not in row["method"]:
                trained = f"{row['num_labeled']} labels, epochs {row['epochs']}"
                measured = f"test error {row['test_error']:.4f}, {row['seconds']:.0f} s"
                print(f"{row['rate']:.0%} {row['method']}, {trained}: {measured}", flush=True)
        self.shown.update(new)
        if new:
            self.write(results)

    def write(self, results: pd.DataFrame) -> None:
        """Write table.md, and test_error.png if there are curves."""
        settings, protocol = self.settings, PROTOCOLS[self.settings.column]
        changed = {"batch_size": int(TINY[-1])} if settings.tiny else {}
        lines = protocol_table(results, protocol, changed)
        lines += [
            f"`python benchmarks/gpu_columns.py {settings.column} FOLDER OUT`, commit {self.commit}.",
            "",
        ]
        with atomic_write(settings.folder / "table.md") as path:
            path.write_text("\n".join(lines), encoding="utf-8")
        curves = [read_csv(path) for path in sorted(settings.folder.rglob("curves.csv"))]
        if curves:
            note = protocol_title(results, protocol, changed)
            plot_curves(pd.concat(curves), settings.folder / "test_error.png", note)


def run(command: Sequence[str], log: Path, deadline: float, board: Board) -> int | None:
    """Run a command until the deadline; return its exit status, or None if it had to be stopped."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with log.open("ab") as stream:
        stream.write(f"$ {' '.join(command)}\n".encode())
        stream.flush()
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
        )
        try:
            while time.monotonic() < deadline:
                try:
                    return process.wait(WATCH)
                except subprocess.TimeoutExpired:
                    board.update()
            return None
        finally:
            stop(process)
            board.update()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a command as Ctrl-C does, so that it leaves whole files; kill it if it does not end."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_column(settings: Settings, seconds: float) -> int:
    """Run the parts of a column that are not finished; return the exit status."""
    deadline = time.monotonic() + seconds - GRACE
    settings.folder.mkdir(parents=True, exist_ok=True)
    log, board = settings.folder / "log.txt", Board(settings)
    board.update()
    failed = False
    waiting = [
        (rate, part)
        for rate in settings.rates
        for part in COLUMNS[settings.column].parts
        if not settings.is_done(part, rate)
    ]
    for rate, part in waiting:
        status = None
        if deadline - time.monotonic() > (0 if settings.tiny else SHORTEST):
            status = run(settings.command(part, rate), log, deadline, board)
        if status is None:
            print(f"Time is up: {settings.folder} is not finished. Run the same command again.")
            return TIME_IS_UP
        if status == BAD_INPUT:
            show_end(log)
            return FAILED
        if not settings.is_done(part, rate):
            failed = True
            print(f"{', '.join(part.methods)} at {rate:g} failed:")
            show_end(log)
    print(f"{'Not all is finished' if failed else 'Finished'}: {settings.folder / 'table.md'}")
    return FAILED if failed else FINISHED


def show_end(log: Path) -> None:
    """Print the last lines of a log."""
    text = log.read_text(encoding="utf-8", errors="replace")
    print("\n".join(text.splitlines()[-15:]))


def interrupt(number: int, frame: FrameType | None) -> None:
    """Treat the end of the machine as Ctrl-C."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, and run a column."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("column", choices=[*COLUMNS])
    parser.add_argument("data", type=Path, help="folder of the data set's files")
    parser.add_argument("out", type=Path, help="folder for results; an earlier one is continued")
    parser.add_argument(
        "--rate", type=float, action="append", help="run only this share of wrong labels"
    )
    parser.add_argument("--seconds", type=float, default=560, help="stop after this time")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="a rehearsal on a few images at one rate"
    )
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        parser.error(f"{options.data} is no folder; give the folder of the data set's files")
    rates = tuple(options.rate or COLUMNS[options.column].rates)
    settings = Settings(
        options.column,
        options.data.resolve(),
        options.out.resolve(),
        rates[:1] if options.tiny else rates,
        options.seed,
        options.device,
        options.tiny,
    )
    # A background job of a shell ignores Ctrl-C, and so would the commands that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        return run_column(settings, options.seconds)
    except KeyboardInterrupt:
        print(f"Interrupted: {settings.folder} has what is finished. The same command continues.")
        return TIME_IS_UP


if __name__ == "__main__":
    sys.exit(main())

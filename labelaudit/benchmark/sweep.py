"""Run many cells, keep the finished ones, and continue a sweep that was stopped.

The folder of a sweep holds settings.json, results.csv with one row per data set, noise, rate, seed and
method, curves.csv and failures.csv. scores/ holds the score of each sample by each system, and
corruptions/ has the corrupted labels and the realized transition matrices. A cell that fails is
reported and does not end the sweep. The next run tries it again. unfinished/ holds the state of the
cells that are being trained, and the next run continues them if their system can.
"""

from __future__ import annotations

import json
import os
import threading
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from labelaudit.benchmark.cell_reporter import CellReporter
from labelaudit.benchmark.cells import Cell, CellResult, run_cell, write_corruption
from labelaudit.benchmark.datasets import Dataset
from labelaudit.benchmark.unfinished import UnfinishedCell
from labelaudit.errors import LabelauditError, OutputError
from labelaudit.files import FOLDER_LOCK, atomic_write, folder_lock, remove_partial_files
from labelaudit.images.visits import usable_cores
from labelaudit.methods.task import CHECKPOINT
from labelaudit.progress import Bar, Reporter
from labelaudit.reporting.tables import read_csv, write_csv, write_parquet
from labelaudit.typed_json import to_plain

COLUMNS = (
    "dataset", "noise", "rate", "seed", "method", "precision", "recall", "f1", "f1_at_true_count",
    "auroc", "average_precision", "test_error", "seconds", "device", "num_labeled", "num_wrong",
    "num_trusted", "epochs", "encoder", "expected_wrong", "expected_low", "expected_high",
    "calibration_error", "num_samples", "trustworthy",
)  # fmt: skip
KEY = ["noise", "rate", "seed", "method"]
DIGEST = "data_sha256"  # the setting that identifies the data
NOISE_DIGESTS = "noise_sha256"  # the setting that identifies wrong labels from files and columns


@dataclass
class Sweep:
    """A folder of results, to which finished cells are added.

    Parameters
    ----------
    folder
        Created if it does not exist. A sweep in it with the same settings is continued.
    settings
        The settings of all cells. A folder with other settings is refused.

    Raises
    ------
    OutputError
        If the folder holds other files, or a sweep with other settings.
    """

    folder: Path
    settings: dict[str, Any]
    results: pd.DataFrame = field(init=False)
    curves: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        settings = to_plain(self.settings)
        path = self.folder / "settings.json"
        held = {child.name for child in self.folder.iterdir()} if self.folder.exists() else set()
        if held - {FOLDER_LOCK} and not path.exists():
            raise OutputError(
                f"{self.folder} exists and holds no sweep of labelaudit; choose another folder (out)"
            )
        noise = settings.pop(NOISE_DIGESTS, {})
        if path.exists():
            before = self._settings_before(path)
            before.setdefault(DIGEST, settings.get(DIGEST))  # a sweep from before it was recorded
            earlier = before.pop(NOISE_DIGESTS, {})
            noise = {**earlier, **noise}
            for kind, digest in earlier.items():
                if noise[kind] != digest:
                    raise OutputError(
                        f"{self.folder} holds a sweep with other labels of {kind}; choose another"
                        " folder (out)"
                    )
            changed = sorted(
                name for name in {*before, *settings} if before.get(name) != settings.get(name)
            )
            if changed == [DIGEST]:
                raise OutputError(
                    f"{self.folder} holds a sweep of other data of the same name; choose another folder"
                    " (out)"
                )
            if changed:
                raise OutputError(
                    f"{self.folder} holds a sweep with other settings ({', '.join(changed)}); give"
                    " the same settings to continue it, or choose another folder (out)"
                )
            self.settings = {**settings, NOISE_DIGESTS: noise}
        self.results = self._read("results.csv", COLUMNS)
        self.curves = self._read("curves.csv", (*KEY, "epoch", "test_error"))

    def _settings_before(self, path: Path) -> dict[str, Any]:
        """Return the settings of the sweep in the folder. Raises OutputError if they are damaged."""
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(before, dict) and isinstance(before.get(NOISE_DIGESTS, {}), dict):
                return before
        except (OSError, ValueError):
            pass
        raise OutputError(f"{path} is damaged; choose another folder (out)")

    def _read(self, name: str, columns: Iterable[str]) -> pd.DataFrame:
        path = self.folder / name
        return read_csv(path) if path.exists() else pd.DataFrame(columns=list(columns))

    def start(self) -> None:
        """Create the folder, if it does not exist, and write the settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(self.folder)
        with atomic_write(self.folder / "settings.json") as path:
            path.write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")

    def done(self, cell: Cell) -> bool:
        """Return whether a cell is finished."""
        results = self.results
        if results.empty:
            return False
        rate = results["rate"].isna() if cell.noise.rate is None else (
            np.isclose(results["rate"].astype(float), cell.noise.rate)
        )  # fmt: skip
        same = (results["noise"] == cell.noise.kind) & (results["seed"] == cell.seed)
        return bool((same & rate & (results["method"] == cell.method)).any())

    def add(self, cell: Cell, result: CellResult) -> None:
        """Add a finished cell, and write it to disk at once."""
        rows = pd.DataFrame(result.rows).reindex(columns=list(COLUMNS))
        self.results = _append(self.results, rows)
        if result.curve:
            curve = pd.DataFrame(
                {
                    **dict(zip(KEY, cell.key, strict=True)),
                    "epoch": list(result.curve),
                    "test_error": list(result.curve.values()),
                }
            )
            self.curves = _append(self.curves, curve)
            write_csv(self.curves, self.folder / "curves.csv")
        scores = self.folder / "scores"
        scores.mkdir(exist_ok=True)
        write_parquet(result.scores, scores / f"{cell.stem}-{cell.method}.parquet")
        write_csv(self.results, self.folder / "results.csv")
        UnfinishedCell(self.state(cell)).remove()

    def state(self, cell: Cell) -> Path:
        """Return the folder for the state of a cell until it is finished."""
        return self.folder / "unfinished" / f"{cell.stem}-{cell.method}"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Let one process at a time write to the folder of a sweep, which need not exist yet.

    Raises OutputError if another one does, or if no file can be made there.
    """
    here = folder.resolve()
    lock = folder_lock(here)
    try:
        here.parent.mkdir(parents=True, exist_ok=True)
        taken = lock.acquire()
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror or error}); choose another folder (out)"
        ) from error
    if not taken:
        raise OutputError(
            f"another labelaudit is writing to {folder}; wait until it has ended, or choose another"
            " folder (out)"
        )
    try:
        yield
    finally:
        lock.release()


def results_in(folders: Iterable[Path]) -> pd.DataFrame:
    """Return the finished rows of sweeps, with `COLUMNS` if there are none."""
    paths = [folder / "results.csv" for folder in folders]
    found = [read_csv(path) for path in paths if path.exists()]
    if not found:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(found, ignore_index=True)


def _append(frame: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return rows if frame.empty else pd.concat([frame, rows], ignore_index=True)


def run_sweep(
    sweep: Sweep,
    cells: list[Cell],
    dataset: Dataset,
    *,
    jobs: int = 1,
    curves: bool = False,
    reporter: Reporter | None = None,
) -> list[tuple[Cell, str]]:
    """Run the cells that are not finished; return those that failed, with the reason.

    Up to `jobs` cells run at the same time. Each has its own process and an equal share of the CPU
    cores. If there are several GPUs, the cells take turns on them. `curves` measures the test error
    after every epoch.
    """
    reporter = reporter or Reporter()
    sweep.start()
    waiting = [cell for cell in cells if not sweep.done(cell)]
    if len(waiting) < len(cells):
        reporter.say(f"{len(cells) - len(waiting)} of {len(cells)} cells are finished already.")
    for cell in {(c.noise, c.seed): c for c in waiting}.values():
        write_corruption(sweep.folder / "corruptions", dataset, cell)
    for cell in waiting:
        epoch = UnfinishedCell.open(sweep.state(cell)).epoch
        if (sweep.state(cell) / CHECKPOINT).exists():
            reporter.say(f"{cell}: continues from its checkpoint; it had reached epoch {epoch}.")
    failures: list[tuple[Cell, str]] = []
    with reporter.bar("evaluating", total=len(waiting)) as bar:
        how = _How(sweep, curves, reporter, bar)
        for cell, result in _outcomes(waiting, dataset, how, jobs):
            if isinstance(result, CellResult):
                for text in result.warnings:
                    how.warn(cell, text)
                sweep.add(cell, result)
                reporter.say(f"{cell}: {_format_row(result.rows[0])}")
            else:
                failures.append((cell, result))
                reporter.warn(f"{cell} failed: {result.splitlines()[-1]}")
            bar.advance()
    _write_failures(sweep.folder / "failures.csv", failures)
    return failures


def _format_row(row: dict[str, Any]) -> str:
    """Return the main measures of a row in words."""
    parts = [
        f"{name} {row[key]:.3f}"
        for name, key in (("F1", "f1"), ("AUROC", "auroc"), ("test error", "test_error"))
        if row[key] is not None
    ]
    doubt = ["it does not trust this result itself"] if row["trustworthy"] is False else []
    return ", ".join([*parts, *doubt, f"{row['seconds']:.0f} s"])


def _write_failures(path: Path, failures: list[tuple[Cell, str]]) -> None:
    if failures:
        rows = [(*cell.key, reason) for cell, reason in failures]
        write_csv(pd.DataFrame(rows, columns=[*KEY, "reason"]), path)
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _How:
    """How cells are run, and where their progress is kept and shown."""

    sweep: Sweep
    curves: bool
    reporter: Reporter
    bar: Bar
    warned: set[str] = field(default_factory=set)

    def warn(self, cell: Cell, text: str) -> None:
        """Show a warning of a cell, unless another cell had the same one."""
        if text not in self.warned:
            self.warned.add(text)
            self.reporter.warn(f"{cell}: {text}")

    def attempt(self, cell: Cell, dataset: Dataset) -> CellResult | str:
        """Run a cell in this process, with its progress shown."""
        reporter = CellReporter(
            self.reporter, self.bar, str(cell), lambda text: self.warn(cell, text)
        )
        return _attempt(cell, dataset, self.curves, self.sweep.state(cell), reporter)


def _outcomes(
    cells: list[Cell], dataset: Dataset, how: _How, jobs: int
) -> Iterator[tuple[Cell, CellResult | str]]:
    """Run cells; yield each with its result, or with the error message, as it ends."""
    if jobs <= 1:
        for cell in cells:
            yield cell, how.attempt(cell, dataset)
        return
    waiting, idle = list(cells), False
    while waiting:
        ended: set[Cell] = set()
        try:
            for cell, result in _side_by_side(waiting, dataset, how, jobs):
                ended.add(cell)
                yield cell, result
            return
        except BrokenProcessPool as error:
            left = [cell for cell in waiting if cell not in ended]
            # Cells begin in their order, so one of the first was in the process that died. If none
            # ends in two rounds, no process can work here.
            number = len(left) if idle and not ended else jobs
            for cell in left[:number]:
                yield cell, f"{error}\na process died, perhaps for lack of memory (jobs: {jobs})"
            waiting, idle = left[number:], not ended


def _side_by_side(
    cells: list[Cell], dataset: Dataset, how: _How, jobs: int
) -> Iterator[tuple[Cell, CellResult | str]]:
    """Run cells in several processes. Raises BrokenProcessPool if one of them dies."""
    # Processes are spawned, because neither CUDA nor OpenMP survives a fork.
    threads = max(1, usable_cores() // jobs)
    pool = ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_set_up, initargs=(dataset, how.curves, threads)
    )
    others = active_children()
    with pool:
        try:
            yield from _as_they_end(pool, cells, how)
        except BaseException:  # Ctrl-C; the pool would run the cells that its workers have next
            for process in active_children():
                if process not in others:
                    process.kill()  # what is kept of a cell is written atomically
            pool.shutdown(cancel_futures=True)
            raise


def _as_they_end(
    pool: ProcessPoolExecutor, cells: list[Cell], how: _How
) -> Iterator[tuple[Cell, CellResult | str]]:
    devices = torch.cuda.device_count()
    futures = {}
    for number, cell in enumerate(cells):
        device = f"cuda:{number % devices}" if devices > 1 and cell.device == "auto" else None
        futures[pool.submit(_work, cell, device, how.sweep.state(cell))] = cell
    broken = None
    for future in as_completed(futures):
        try:
            result = future.result()
        except BrokenProcessPool as error:
            broken = error  # the results of cells that had ended are still to come
        except Exception:  # a result that could not be sent, for example
            yield futures[future], traceback.format_exc()
        else:
            yield futures[future], result
    if broken is not None:
        raise broken


def _attempt(
    cell: Cell, dataset: Dataset, curves: bool, state: Path, reporter: Reporter | None = None
) -> CellResult | str:
    try:
        return run_cell(cell, dataset, curve=curves, reporter=reporter, state=state)
    except LabelauditError as error:
        return str(error)
    except Exception:  # reported with the cell, and the sweep continues
        return traceback.format_exc()


# Data of a worker process, which its initializer can pass to its tasks only through the module.
_worker: dict[str, Any] = {}


def _set_up(dataset: Dataset, curves: bool, threads: int) -> None:
    _end_with_parent()
    torch.set_num_threads(threads)
    _worker.update(dataset=dataset, curves=curves)


def _end_with_parent() -> None:
    """End this process when its parent ends, so that a killed sweep leaves no workers behind."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _work(cell: Cell, device: str | None, state: Path) -> CellResult | str:
    if device is not None:
        cell = replace(cell, device=device)
    told = _Warnings()
    result = _attempt(cell, _worker["dataset"], _worker["curves"], state, told)
    return replace(result, warnings=tuple(told.texts)) if isinstance(result, CellResult) else result


class _Warnings(Reporter):
    """Keeps the warnings of a cell, for the process that shows them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.texts.append(text)

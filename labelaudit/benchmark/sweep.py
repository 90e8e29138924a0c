"""Run many cells, keep what is finished, and go on where a sweep was stopped.

The folder of a sweep holds settings.json, results.csv (a row a data set, noise, rate, seed and
method), curves.csv, failures.csv, scores/ with what each system said of each sample, and
corruptions/ with the labels that the systems got and the realised transition matrices. A cell that
breaks is reported and does not end the sweep; it is tried again next time.
"""

from __future__ import annotations

import json
import os
import threading
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from labelaudit.benchmark.cells import Cell, CellResult, run_cell, write_corruption
from labelaudit.benchmark.datasets import Dataset
from labelaudit.errors import LabelauditError, OutputError
from labelaudit.files import atomic_write
from labelaudit.progress import Reporter
from labelaudit.reporting.tables import read_csv, write_csv, write_parquet

COLUMNS = (
    "dataset", "noise", "rate", "seed", "method", "precision", "recall", "f1", "f1_at_true_count",
    "auroc", "average_precision", "test_error", "seconds", "device", "num_labeled", "num_wrong",
    "num_trusted", "epochs", "encoder", "expected_wrong", "expected_low", "expected_high",
    "calibration_error",
)  # fmt: skip
KEY = ["noise", "rate", "seed", "method"]


@dataclass
class Sweep:
    """A folder of results that grows.

    Parameters
    ----------
    folder
        Made if it is not there. One that holds a sweep of the same settings is gone on with.
    settings
        What all cells share; a folder with others is refused.

    Raises
    ------
    OutputError
        If the folder is something else, or holds a sweep with other settings.
    """

    folder: Path
    settings: dict[str, Any]
    results: pd.DataFrame = field(init=False)
    curves: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        settings = json.loads(json.dumps(self.settings))
        path = self.folder / "settings.json"
        if self.folder.exists() and not path.exists() and any(self.folder.iterdir()):
            raise OutputError(
                f"{self.folder} is there already and holds no sweep of labelaudit; choose another"
                " --out"
            )
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = sorted(
                name for name in {*before, *settings} if before.get(name) != settings.get(name)
            )
            if changed:
                raise OutputError(
                    f"{self.folder} holds a sweep with other settings ({', '.join(changed)}); give"
                    " the same to go on with it, or choose another --out"
                )
        self.results = self._read("results.csv", COLUMNS)
        self.curves = self._read("curves.csv", (*KEY, "epoch", "test_error"))

    def _read(self, name: str, columns: Iterable[str]) -> pd.DataFrame:
        path = self.folder / name
        return read_csv(path) if path.exists() else pd.DataFrame(columns=list(columns))

    def start(self) -> None:
        """Make the folder, if it is not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / "settings.json") as path:
            path.write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")

    def done(self, cell: Cell) -> bool:
        """Say whether a cell's row is there."""
        results = self.results
        if results.empty:
            return False
        rate = results["rate"].isna() if cell.noise.rate is None else (
            np.isclose(results["rate"].astype(float), cell.noise.rate)
        )  # fmt: skip
        same = (results["noise"] == cell.noise.kind) & (results["seed"] == cell.seed)
        return bool((same & rate & (results["method"] == cell.method)).any())

    def add(self, cell: Cell, result: CellResult) -> None:
        """Keep a finished cell, on disk before anything else happens."""
        rows = pd.DataFrame(result.rows).reindex(columns=list(COLUMNS))
        self.results = _append(self.results, rows)
        if result.curve:
            curve = pd.DataFrame(
                {
                    **dict(zip(KEY, cell.key, strict=True)),
                    "epoch": np.arange(1, len(result.curve) + 1),
                    "test_error": result.curve,
                }
            )
            self.curves = _append(self.curves, curve)
            write_csv(self.curves, self.folder / "curves.csv")
        scores = self.folder / "scores"
        scores.mkdir(exist_ok=True)
        write_parquet(result.scores, scores / f"{cell.stem}-{cell.method}.parquet")
        write_csv(self.results, self.folder / "results.csv")


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
    """Run what is not finished yet; give the cells that broke, with the reason.

    Parameters
    ----------
    sweep
        Where results go, and what is there already.
    cells
        What is wanted.
    dataset
        On what.
    jobs
        Cells side by side, each in a process of its own with its share of the cores; over the GPUs
        in turn where there are several.
    curves
        Work out the test error after every epoch.
    reporter
        Told of progress.
    """
    reporter = reporter or Reporter()
    sweep.start()
    waiting = [cell for cell in cells if not sweep.done(cell)]
    if len(waiting) < len(cells):
        reporter.say(f"{len(cells) - len(waiting)} of {len(cells)} cells are there already.")
    for cell in {(c.noise, c.seed): c for c in waiting}.values():
        write_corruption(sweep.folder / "corruptions", dataset, cell)
    failures: list[tuple[Cell, str]] = []
    with reporter.bar("evaluating", total=len(waiting)) as bar:
        for cell, result in _outcomes(waiting, dataset, jobs, curves):
            if isinstance(result, CellResult):
                sweep.add(cell, result)
                reporter.say(f"{cell}: {_told(result.rows[0])}")
            else:
                failures.append((cell, result))
                reporter.warn(f"{cell} broke: {result.splitlines()[-1]}")
            bar.advance()
    _write_failures(sweep.folder / "failures.csv", failures)
    return failures


def _told(row: dict[str, Any]) -> str:
    parts = [
        f"{name} {row[key]:.3f}"
        for name, key in (("F1", "f1"), ("AUROC", "auroc"), ("test error", "test_error"))
        if row[key] is not None
    ]
    return ", ".join([*parts, f"{row['seconds']:.0f} s"])


def _write_failures(path: Path, failures: list[tuple[Cell, str]]) -> None:
    if failures:
        rows = [(*cell.key, reason) for cell, reason in failures]
        write_csv(pd.DataFrame(rows, columns=[*KEY, "reason"]), path)
    else:
        path.unlink(missing_ok=True)


def _outcomes(
    cells: list[Cell], dataset: Dataset, jobs: int, curves: bool
) -> Iterator[tuple[Cell, CellResult | str]]:
    """Run cells; give each with its result, or with what went wrong, as they end."""
    if jobs <= 1:
        for cell in cells:
            yield cell, _attempt(cell, dataset, curves)
        return
    # Spawned, not forked: neither CUDA nor OpenMP survives a fork.
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_set_up, initargs=(dataset, curves, threads)
    )
    with pool:
        devices = torch.cuda.device_count()
        futures = {}
        for number, cell in enumerate(cells):
            device = f"cuda:{number % devices}" if devices > 1 and cell.device == "auto" else None
            futures[pool.submit(_work, cell, device)] = cell
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except Exception:  # the worker itself died, of memory for one
                yield futures[future], traceback.format_exc()


def _attempt(cell: Cell, dataset: Dataset, curves: bool) -> CellResult | str:
    try:
        return run_cell(cell, dataset, curve=curves)
    except LabelauditError as error:
        return str(error)
    except Exception:  # reported with the cell; the sweep goes on
        return traceback.format_exc()


_worker: dict[str, Any] = {}


def _set_up(dataset: Dataset, curves: bool, threads: int) -> None:
    _end_with_parent()
    torch.set_num_threads(threads)
    _worker.update(dataset=dataset, curves=curves)


def _end_with_parent() -> None:
    """End this process when its parent ends: a sweep that is killed leaves no workers behind."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _work(cell: Cell, device: str | None) -> CellResult | str:
    if device is not None:
        cell = replace(cell, device=device)
    return _attempt(cell, _worker["dataset"], _worker["curves"])

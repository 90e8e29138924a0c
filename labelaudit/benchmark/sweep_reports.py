"""The tables and plots of a sweep: results.md, summary.csv and the files in plots/."""

from __future__ import annotations

import pandas as pd

from labelaudit.benchmark.cells import Cell
from labelaudit.benchmark.comparison import (
    CELL,
    cell_title,
    plot_by_rate,
    plot_curves,
    plot_precision_recall_of,
    write_markdown,
)
from labelaudit.benchmark.datasets import Dataset
from labelaudit.benchmark.noise import Noise
from labelaudit.benchmark.paper_table import protocol_title
from labelaudit.benchmark.protocols import Protocol
from labelaudit.benchmark.sweep import DIGEST, NOISE_DIGESTS, Sweep
from labelaudit.benchmark.systems import METHODS
from labelaudit.reporting.tables import write_csv


def write_reports(
    sweep: Sweep, summary: pd.DataFrame, dataset: Dataset, experiment: Protocol | None = None
) -> None:
    """Write results.md, summary.csv and the plots of a sweep.

    All of them say where the sweep differs from the paper's experiment, if it is a part of one.
    """
    if summary.empty:
        return
    folder = sweep.folder
    measure, note = "f1", ""
    if experiment is not None:
        measure = experiment.measure
        note = protocol_title(sweep.results, experiment, sweep.settings)
    write_csv(summary, folder / "summary.csv")
    digests = (DIGEST, NOISE_DIGESTS)
    given = {k: v for k, v in sweep.settings.items() if v is not None and k not in digests}
    settings = ", ".join(f"{k} {v}" for k, v in given.items())
    write_markdown(
        folder / "results.md",
        summary,
        f"Finding planted label errors in {dataset.name}",
        [
            *([f"**{note}**"] if note else []),
            f"Settings: {settings}. F1, precision and recall are at each method's own threshold.",
            *(
                f"`{name} ({system.best_variant})` was chosen by the truth, which users do not have."
                for name, system in METHODS.items()
                if system.best_variant and name in set(summary["method"])
            ),
        ],
    )
    plot_by_rate(summary, folder / "plots" / f"{measure}_by_rate.png", measure, note)
    if not sweep.curves.empty:
        plot_curves(sweep.curves, folder / "plots" / "test_error.png", note)
    for _, cell in sweep.results.groupby(CELL, sort=False, dropna=False):
        first = cell.iloc[0]
        rate = None if pd.isna(first["rate"]) else float(first["rate"])
        stem = Cell("", Noise(first["noise"], rate), int(first["seed"])).stem
        paths = {m: folder / "scores" / f"{stem}-{m}.parquet" for m in METHODS}
        scores = {m: pd.read_parquet(path) for m, path in paths.items() if path.exists()}
        scores = {m: frame for m, frame in scores.items() if frame["is_wrong"].any()}
        if scores:
            title = f"{cell_title(first)}, seed {first['seed']}"
            plot_precision_recall_of(
                scores, title, folder / "plots" / f"precision_recall-{stem}.png"
            )

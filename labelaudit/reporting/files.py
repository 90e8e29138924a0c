"""Everything that lies in the run folder when a scan is done."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image

from labelaudit.reporting.html import write_report
from labelaudit.reporting.plots import (
    plot_class_pairs,
    plot_embedding,
    plot_epsilon,
    plot_precision_recall,
)
from labelaudit.reporting.run_folder import RunFolder
from labelaudit.reporting.tables import write_csv, write_parquet
from labelaudit.result import ScanResult


def write_results(
    folder: RunFolder, result: ScanResult, *, pixels: np.ndarray, skipped: pd.DataFrame
) -> None:
    """Write tables, arrays, plots and the page; each file whole or not at all.

    Parameters
    ----------
    folder
        Claimed.
    result
        What was found.
    pixels
        ``(N, C, H, W)`` uint8, for thumbnails; rows in the order of `result.samples`.
    skipped
        Columns sample_id, path, reason; skipped.csv is written if there are any.
    """
    write_csv(result.suspects, folder.path / "suspects.csv")
    write_parquet(result.samples, folder.path / "samples.parquet")
    if len(skipped):
        write_csv(skipped, folder.path / "skipped.csv")
    for name, array in (
        ("pred_probs.npy", result.pred_probs),
        ("embeddings.npy", result.embeddings),
    ):
        with folder.file(name) as path, path.open("wb") as file:
            np.save(file, array)
    folder.write_json("summary.json", result.summary)
    write_report(
        folder.path / "report.html",
        samples=result.samples,
        suspects=result.suspects,
        summary=result.summary,
        history=result.history,
        thumbnail=partial(thumbnail, pixels),
        plots=write_plots(folder.path / "plots", result),
    )


def write_plots(folder: Path, result: ScanResult) -> dict[str, Path]:
    """Draw the plots of a result into a folder; give their paths by name."""
    folder.mkdir(exist_ok=True)
    paths = {name: folder / f"{name}.png" for name in ("epsilon", "class_pairs", "embedding")}
    labeled = result.samples[result.samples["given_label"].notna()]
    wrong = None
    if "clean_label" in labeled:
        known = labeled["clean_label"].notna().to_numpy()
        wrong = known & (labeled["clean_label"] != labeled["given_label"]).to_numpy()
    flagged = labeled["is_label_issue"].to_numpy()
    # Where some truths are unknown, their labels are neither right nor wrong to plot.
    truth = wrong if wrong is not None and known.all() else None
    plot_epsilon(result.history, paths["epsilon"], truth, flagged)
    plot_class_pairs(result.samples, result.summary["class_names"], paths["class_pairs"])
    plot_embedding(
        result.embeddings, result.samples, paths["embedding"], seed=result.summary["seed"]
    )
    if wrong is not None and wrong.any():
        paths["precision_recall"] = folder / "precision_recall.png"
        plot_precision_recall(
            labeled["suspect_score"].to_numpy()[known],
            wrong[known],
            result.summary["threshold"]["value"],
            paths["precision_recall"],
            flagged[known],
        )
    return paths


def thumbnail(pixels: np.ndarray, row: int) -> PIL.Image.Image:
    """Give the stored image of a row of ``(N, C, H, W)`` uint8, mode L or RGB."""
    image = pixels[row]
    return PIL.Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))

"""Everything that lies in the run folder when a scan is done."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from labelaudit.data.images import NoImages
from labelaudit.inputs import Inputs
from labelaudit.networks.encoders import PixelStatistics
from labelaudit.reporting.evidence import nearest_right_labeled, source_pictures, stored_pictures
from labelaudit.reporting.html import Pictures, write_report
from labelaudit.reporting.plots import (
    plot_class_pairs,
    plot_embedding,
    plot_epsilon,
    plot_precision_recall,
)
from labelaudit.reporting.run_folder import RunFolder
from labelaudit.reporting.tables import write_csv, write_parquet
from labelaudit.result import ScanResult


def write_results(folder: RunFolder, result: ScanResult, inputs: Inputs) -> None:
    """Write tables, arrays, plots and the page; each file whole or not at all.

    Parameters
    ----------
    folder
        Claimed.
    result
        What was found.
    inputs
        What was read, for evidence; rows in the order of `result.samples`.
    """
    write_csv(result.suspects, folder.path / "suspects.csv")
    write_parquet(result.samples, folder.path / "samples.parquet")
    for name, table in (("skipped", inputs.source.skipped), ("duplicates", result.duplicates)):
        path = folder.path / f"{name}.csv"
        if len(table):
            write_csv(table, path)
        else:  # an interrupted run that was gone on with may have had some
            path.unlink(missing_ok=True)
    for name, array in (
        ("pred_probs.npy", result.pred_probs),
        ("embeddings.npy", result.embeddings),
    ):
        with folder.file(name) as path, path.open("wb") as file:
            np.save(file, array)
    folder.write_json("summary.json", result.summary)
    images = inputs.source.manifest.images
    pictures: Pictures | None
    if not inputs.are_features:
        pictures = stored_pictures(inputs.store)
        neighbors = partial(nearest_right_labeled, result.embeddings, result.samples)
    else:
        pictures = None if isinstance(images, NoImages) else source_pictures(images)
        # Standardized, as the encoder reads them: one of large numbers is not all that counts.
        scale = 1 / np.array(PixelStatistics.of(inputs.store).std)
        neighbors = partial(nearest_right_labeled, inputs.features, result.samples, scale=scale)
    write_report(
        folder.path / "report.html",
        samples=result.samples,
        suspects=result.suspects,
        summary=result.summary,
        history=result.history,
        pictures=pictures,
        neighbors=neighbors,
        details=inputs.details,
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

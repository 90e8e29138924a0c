"""Everything that lies in the run folder when a scan is done."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from labelaudit.images.decode import Images, NoImages
from labelaudit.inputs import Inputs
from labelaudit.networks.encoders import PixelStatistics
from labelaudit.progress import Reporter
from labelaudit.reporting.evidence import Evidence, nearest_right_labeled, source_pictures
from labelaudit.reporting.html import render_page, write_page
from labelaudit.reporting.plots import (
    plot_class_pairs,
    plot_embedding,
    plot_epsilon,
    plot_precision_recall,
    plot_review,
)
from labelaudit.reporting.review_data import write_review_data
from labelaudit.reporting.run_folder import RunFolder
from labelaudit.reporting.tables import write_csv, write_parquet
from labelaudit.sources.manifest import Source
from labelaudit.suspects.result import ScanResult


def evidence_of(inputs: Inputs, result: ScanResult) -> Evidence:
    """Gather what there is to show of samples that a network was trained on."""
    if inputs.are_features:
        images = inputs.source.manifest.images
        return evidence_of_files(images, result.samples, inputs.details, features=inputs.features)
    assert result.embeddings is not None
    neighbors = partial(nearest_right_labeled, result.embeddings, result.samples)
    return Evidence(source_pictures(inputs.source.manifest.images), neighbors, inputs.details)


def evidence_of_files(
    images: Images, samples: pd.DataFrame, details: pd.DataFrame, *, features: np.ndarray | None
) -> Evidence:
    """Gather what there is to show of images where they lie, and of features.

    Parameters
    ----------
    images
        Of the N samples.
    samples
        N rows, judged.
    details
        N rows.
    features
        ``(N, D)``, or None.
    """
    neighbors = None
    if features is not None:
        # Standardized, as the encoder reads them: one of large numbers is not all that counts.
        scale = 1 / np.array(PixelStatistics.of(features[:, :, None, None]).std)
        neighbors = partial(nearest_right_labeled, features, samples, scale=scale)
    pictures = None if isinstance(images, NoImages) else source_pictures(images)
    return Evidence(pictures, neighbors, details)


def write_results(
    folder: RunFolder,
    result: ScanResult,
    source: Source,
    evidence: Evidence,
    *,
    max_suspects: int | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Write tables, arrays, plots and the page; each file whole or not at all.

    Parameters
    ----------
    folder
        Claimed.
    result
        What was found.
    source
        What was read.
    evidence
        Rows in the order of `result.samples`.
    max_suspects
        How many of the worst the page shows; by default all.
    reporter
        Shows progress.
    """
    write_csv(result.suspects, folder.path / "suspects.csv")
    write_parquet(result.samples, folder.path / "samples.parquet")
    for name, table in (("skipped", source.skipped), ("duplicates", result.duplicates)):
        path = folder.path / f"{name}.csv"
        if len(table):
            write_csv(table, path)
        else:  # an interrupted run that was gone on with may have had some
            path.unlink(missing_ok=True)
    if result.embeddings is not None:  # predictions that were brought along are there already
        for name, array in (
            ("pred_probs.npy", result.pred_probs),
            ("embeddings.npy", result.embeddings),
        ):
            with folder.file(name) as path, path.open("wb") as file:
                np.save(file, array)
    folder.write_json("summary.json", result.summary)
    blocks = write_review_data(
        folder.path,
        samples=result.samples,
        suspects=result.suspects,
        summary=result.summary,
        history=result.history,
        pred_probs=result.pred_probs,
        evidence=evidence,
        max_suspects=max_suspects,
        reporter=reporter,
    )
    listed = len(result.suspects)
    page = render_page(
        suspects=result.suspects,
        summary=result.summary,
        plots=write_plots(folder.path / "plots", result),
        blocks=blocks,
        epochs=[] if result.history is None else list(result.history.epochs),
        noun="samples" if evidence.pictures is None else "images",
        num_listed=listed if max_suspects is None else min(max_suspects, listed),
    )
    write_page(folder.path / "report.html", page)


def write_plots(folder: Path, result: ScanResult) -> dict[str, Path]:
    """Draw the plots of a result into a folder; give their paths by name."""
    folder.mkdir(exist_ok=True)
    paths = {"class_pairs": folder / "class_pairs.png"}
    labeled = result.samples[result.samples["given_label"].notna()]
    wrong = None
    if "clean_label" in labeled:
        known = labeled["clean_label"].notna().to_numpy()
        wrong = known & (labeled["clean_label"] != labeled["given_label"]).to_numpy()
    flagged = labeled["is_label_issue"].to_numpy()
    # Where some truths are unknown, their labels are neither right nor wrong to plot.
    truth = wrong if wrong is not None and known.all() else None
    if result.summary["review"]["curve"]:
        paths["review"] = folder / "review.png"
        ranked = None if truth is None else truth[np.argsort(labeled["rank"].to_numpy())]
        plot_review(
            result.summary["review"], result.summary["num_suspects"], paths["review"], ranked
        )
    plot_class_pairs(result.samples, result.summary["class_names"], paths["class_pairs"])
    if result.history is not None:
        paths["epsilon"] = folder / "epsilon.png"
        plot_epsilon(result.history, paths["epsilon"], truth, flagged)
    if result.embeddings is not None:
        paths["embedding"] = folder / "embedding.png"
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

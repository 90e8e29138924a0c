"""The files that a scan writes into its run folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from labelaudit.files import cannot_write
from labelaudit.images.containers import Images, NoImages
from labelaudit.progress import Bars, Reporter
from labelaudit.reporting.blocks import DATA_FOLDER, Block
from labelaudit.reporting.evidence import Evidence, nearest_right_labeled, source_pictures
from labelaudit.reporting.findings import Findings
from labelaudit.reporting.html import render_page, write_page
from labelaudit.reporting.plots.class_pairs import plot_class_pairs
from labelaudit.reporting.plots.detection import plot_precision_recall, plot_review
from labelaudit.reporting.plots.embedding import plot_embedding
from labelaudit.reporting.plots.epsilon import plot_epsilon
from labelaudit.reporting.review_data import write_review_data
from labelaudit.reporting.run_folder import RunFolder
from labelaudit.reporting.tables import write_csv, write_parquet


def evidence_of(
    images: Images,
    samples: pd.DataFrame,
    details: pd.DataFrame,
    *,
    points: np.ndarray | None,
    scale: np.ndarray | None = None,
) -> Evidence:
    """Collect the evidence that the page can show beside a suspect.

    Parameters
    ----------
    images
        The images of the N samples.
    samples
        N rows, as in `ScanResult.samples`.
    details
        N rows: other columns of the samples' rows, all text.
    points
        Embeddings or features ``(N, d)`` in which neighbors are searched; None for no neighbors.
    scale
        ``(d,)``, factors that the points are multiplied with first.
    """
    neighbors = None
    if points is not None:
        neighbors = partial(nearest_right_labeled, points, samples, scale=scale)
    pictures = None if isinstance(images, NoImages) else source_pictures(images)
    return Evidence(pictures, neighbors, details)


def write_results(
    folder: RunFolder,
    result: Findings,
    *,
    decisions: pd.DataFrame | None = None,
    max_suspects: int | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Write tables, arrays, weights, plots and the page into a claimed folder, each atomically."""
    folder.begin_results()
    with (reporter or Reporter()).bar("writing tables"):
        _write_values(folder, result)
    write_report(
        folder.path / "report.html",
        result,
        plots=folder.path / "plots",
        decisions=decisions,
        max_suspects=max_suspects,
        reporter=reporter,
    )


def _write_values(folder: RunFolder, result: Findings) -> None:
    """Write tables, arrays, weights and the summary."""
    contents = result.contents
    write_csv(result.suspects, folder.path / "suspects.csv")
    write_parquet(result.samples, folder.path / "samples.parquet")
    for name, table in (("skipped", contents.skipped), ("duplicates", result.duplicates)):
        path = folder.path / f"{name}.csv"
        if len(table):
            write_csv(table, path)
        else:  # a run that was interrupted and resumed may have written one
            path.unlink(missing_ok=True)
    if result.embeddings is not None:  # otherwise the predictions are the user's own
        for name, array in (
            ("pred_probs.npy", result.pred_probs),
            ("embeddings.npy", result.embeddings),
        ):
            with folder.file(name) as path, path.open("wb") as file:
                np.save(file, array)
    if contents.model is not None:
        # Given a path, torch would write the name of the temporary file into the archive.
        with folder.file("model.pt") as path, path.open("wb") as file:
            torch.save(contents.model, file)
    folder.write_json("summary.json", result.summary.to_json())


def write_report(
    path: Path,
    result: Findings,
    *,
    plots: Path,
    data_folder: str = DATA_FOLDER,
    decisions: pd.DataFrame | None = None,
    max_suspects: int | None = None,
    reporter: Reporter | None = None,
) -> list[Block]:
    """Write the report page, its plots, and the data of the suspects in a folder beside it.

    Return the blocks of data that the page itself contains.
    """
    reporter = reporter or Reporter()
    evidence = result.contents.evidence
    blocks = write_review_data(
        path.parent,
        samples=result.samples,
        suspects=result.suspects,
        summary=result.summary,
        history=result.history,
        pred_probs=result.pred_probs,
        evidence=evidence,
        max_suspects=max_suspects,
        data_folder=data_folder,
        reporter=reporter,
    )
    with reporter.bars() as bars:
        drawn = write_plots(plots, result, bars)
    listed = len(result.suspects)
    page = render_page(
        suspects=result.suspects,
        summary=result.summary,
        plots=drawn,
        blocks=blocks,
        data_folder=data_folder,
        decisions=[] if decisions is None else decisions.to_dict("records"),
        epochs=[] if result.history is None else list(result.history.epochs),
        noun="samples" if evidence.pictures is None else "images",
        num_listed=listed if max_suspects is None else min(max_suspects, listed),
    )
    write_page(path, page)
    return blocks


def write_plots(folder: Path, result: Findings, bars: Bars) -> dict[str, Path]:
    """Draw the plots of a result into a folder, and return their paths by name."""
    bars.begin("drawing plots")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    paths = {"class_pairs": folder / "class_pairs.png"}
    labeled = result.samples[result.samples["given_label"].notna()]
    wrong = None
    if "clean_label" in labeled:
        known = labeled["clean_label"].notna().to_numpy()
        wrong = known & (labeled["clean_label"] != labeled["given_label"]).to_numpy()
    flagged = labeled["is_label_issue"].to_numpy()
    # The plot needs the true label of every labeled sample.
    truth = wrong if wrong is not None and known.all() else None
    summary = result.summary
    if summary.review.curve:
        paths["review"] = folder / "review.png"
        ranked = None if truth is None else truth[np.argsort(labeled["rank"].to_numpy())]
        plot_review(summary["review"], summary.num_suspects, paths["review"], ranked)
    plot_class_pairs(result.samples, summary.class_names, paths["class_pairs"])
    if result.history is not None:
        paths["epsilon"] = folder / "epsilon.png"
        plot_epsilon(result.history, paths["epsilon"], truth, flagged)
    if result.embeddings is not None:
        bars.begin("drawing a map of the samples")  # takes longest
        paths["embedding"] = folder / "embedding.png"
        plot_embedding(result.embeddings, result.samples, paths["embedding"], seed=summary.seed)
        bars.begin("drawing plots")
    if wrong is not None and wrong.any():
        paths["precision_recall"] = folder / "precision_recall.png"
        plot_precision_recall(
            labeled["suspect_score"].to_numpy()[known],
            wrong[known],
            summary.threshold.value,
            paths["precision_recall"],
            flagged[known],
        )
    return paths

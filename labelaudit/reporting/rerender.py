"""`labelaudit report`: the page of a run folder, written anew from what lies in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from labelaudit.corrections.reviewed import check_run
from labelaudit.corrections.run import Run, read_run, rows_of
from labelaudit.data.images import ImageFiles
from labelaudit.data.manifest import text_array
from labelaudit.progress import Reporter
from labelaudit.reporting.blocks import DATA_FOLDER, INDEX, Block, read_block, stored_blocks
from labelaudit.reporting.evidence import Evidence, nearest_right_labeled, source_pictures
from labelaudit.reporting.html import PLOT_TEXTS, write_report
from labelaudit.reporting.review_data import write_review_data
from labelaudit.reporting.tables import suspects_table
from labelaudit.training.recorder import EpsilonHistory


def render_report(run: str | Path, reporter: Reporter | None = None) -> Path:
    """Write the report page of a run folder anew, with what was decided since.

    Pictures and neighbors are those that the run folder holds. A folder of an earlier version has none:
    images are read from their files then, where they still lie there.

    Parameters
    ----------
    run : str or Path
        The run folder.
    reporter : Reporter, optional
        Shows progress.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    SourceError
        If the folder is none of labelaudit's, or incomplete.
    OutputError
        If the page cannot be written.
    """
    found = read_run(run)
    folder = found.path
    suspects = suspects_table(found.samples)
    if (folder / DATA_FOLDER / f"{INDEX}.js").exists():
        blocks = stored_blocks(folder)
    else:
        blocks = _blocks_of_earlier_version(found, reporter or Reporter())
    index = read_block(folder, INDEX)
    plots = {key: folder / "plots" / f"{key}.png" for key in PLOT_TEXTS}
    path = folder / "report.html"
    write_report(
        path,
        suspects=suspects,
        summary=found.summary,
        plots={key: file for key, file in plots.items() if file.exists()},
        blocks=blocks,
        decisions=rows_of(found.corrections),
        epochs=index["epochs"],
        noun=index["noun"],
        num_listed=len(index["suspects"]["id"]),
        checked=check_run(folder),
    )
    return path


def _blocks_of_earlier_version(run: Run, reporter: Reporter) -> list[Block]:
    """Write the blocks of a folder that has none, with what can still be had."""
    folder, samples = run.path, run.samples
    paths = samples["path"].fillna("").astype(str)
    pictures = None
    if (samples["path"].fillna("") != "").all() and Path(paths.iloc[0]).exists():
        pictures = source_pictures(ImageFiles(text_array(paths.tolist())))
    neighbors = None
    if (folder / "embeddings.npy").exists():
        embeddings = np.load(folder / "embeddings.npy", mmap_mode="r")
        neighbors = partial(nearest_right_labeled, embeddings, samples)
    history = EpsilonHistory(folder / "epsilon")
    probs = folder / "pred_probs.npy"
    return write_review_data(
        folder,
        samples=samples,
        suspects=suspects_table(samples),
        summary=run.summary,
        history=history if history.epochs else None,
        pred_probs=np.load(probs, mmap_mode="r") if probs.exists() else None,
        evidence=Evidence(pictures, neighbors, pd.DataFrame(index=range(len(samples)))),
        reporter=reporter,
    )

"""`labelaudit report`: the report page of a run folder, written again from the files in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from labelaudit.corrections.run import Run, read_run, rows_of
from labelaudit.errors import SourceError
from labelaudit.progress import Reporter
from labelaudit.reporting.blocks import DATA_FOLDER, INDEX, read_block, stored_blocks
from labelaudit.reporting.html import PLOT_TEXTS, render_page, write_page
from labelaudit.reporting.tables import SAMPLE_TEXT, suspects_table


def render_report(run: str | Path, reporter: Reporter | None = None) -> Path:
    """Write the report page of a run folder again, with the decisions made since.

    Pictures and neighbors are taken from the run folder. If an earlier version wrote the folder, it has
    none. The images are then read from their files, if these still exist.

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
        The folder is not a run folder, or is incomplete or damaged.
    OutputError
        The page cannot be written.
    """
    found = read_run(run)
    if not (found.path / DATA_FOLDER / f"{INDEX}.js").exists():
        _write_blocks_of_earlier_version(found, reporter or Reporter())
    path = found.path / "report.html"
    write_page(path, page_of(found, read_block(found.path, INDEX)))
    return path


def page_of(run: Run, index: Any, *, live: bool = False) -> str:
    """Render the page of a run whose folder has the blocks of the page's data.

    `index` is the content of the block `INDEX`. `live` is set by `labelaudit review`. Raises
    SourceError if a file in the folder is missing or damaged.
    """
    from labelaudit.corrections.reviewed import check_run

    folder = run.path
    plots = {key: folder / "plots" / f"{key}.png" for key in PLOT_TEXTS}
    try:
        return render_page(
            suspects=suspects_table(run.samples),
            summary=run.summary,
            plots={key: file for key, file in plots.items() if file.is_file()},
            blocks=stored_blocks(folder, index),
            decisions=[] if live else rows_of(run.corrections),
            epochs=index["epochs"],
            noun=index["noun"],
            num_listed=len(index["suspects"]["id"]),
            checked=check_run(run),
            live=live,
        )
    except (AttributeError, KeyError, TypeError, jinja2.UndefinedError) as error:
        raise SourceError(
            f"{folder} is damaged: its files do not fit together ({error!r}); scan again with"
            " `force=True`"
        ) from error


def _write_blocks_of_earlier_version(run: Run, reporter: Reporter) -> None:
    """Write the blocks of a folder that has none, with the data that are still available."""
    from labelaudit.images.containers import ImageFiles
    from labelaudit.reporting.evidence import Evidence, nearest_right_labeled, source_pictures
    from labelaudit.reporting.review_data import write_review_data
    from labelaudit.sources.classes import text_array
    from labelaudit.training.recorder import EpsilonHistory

    folder, samples = run.path, run.samples
    paths = samples["path"].fillna("").astype(str)
    pictures = None
    if (paths != "").all() and Path(paths.iloc[0]).exists():
        pictures = source_pictures(ImageFiles(text_array(paths.tolist())))
    neighbors = None
    if (folder / "embeddings.npy").exists():
        embeddings = np.load(folder / "embeddings.npy", mmap_mode="r")
        neighbors = partial(nearest_right_labeled, embeddings, samples)
    details = (
        samples[[SAMPLE_TEXT]] if SAMPLE_TEXT in samples else pd.DataFrame(index=samples.index)
    )
    history = EpsilonHistory(folder / "epsilon")
    probs = folder / "pred_probs.npy"
    write_review_data(
        folder,
        samples=samples,
        suspects=suspects_table(samples),
        summary=run.summary,
        history=history if history.epochs else None,
        pred_probs=np.load(probs, mmap_mode="r") if probs.exists() else None,
        evidence=Evidence(pictures, neighbors, details),
        reporter=reporter,
    )

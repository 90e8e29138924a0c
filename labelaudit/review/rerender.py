"""`labelaudit report`: the page of a run folder, written anew from what lies in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from labelaudit.corrections.run import Run, read_run, rows_of
from labelaudit.errors import SourceError
from labelaudit.progress import Reporter
from labelaudit.reporting.blocks import DATA_FOLDER, INDEX, read_block, stored_blocks
from labelaudit.reporting.html import PLOT_TEXTS, render_page, write_page
from labelaudit.reporting.tables import suspects_table


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
        If the folder is none of labelaudit's, incomplete or damaged.
    OutputError
        If the page cannot be written.
    """
    found = read_run(run)
    if not (found.path / DATA_FOLDER / f"{INDEX}.js").exists():
        _write_blocks_of_earlier_version(found, reporter or Reporter())
    path = found.path / "report.html"
    write_page(path, page_of(found))
    return path


def page_of(run: Run, *, live: bool = False) -> str:
    """Render the page of a run folder.

    Parameters
    ----------
    run : Run
        With the blocks of the page's data in its folder.
    live : bool
        Whether `labelaudit review` serves it.

    Raises
    ------
    SourceError
        If a file in the folder is missing or damaged.
    """
    from labelaudit.corrections.reviewed import check_run

    folder = run.path
    index = read_block(folder, INDEX)
    plots = {key: folder / "plots" / f"{key}.png" for key in PLOT_TEXTS}
    try:
        return render_page(
            suspects=suspects_table(run.samples),
            summary=run.summary,
            plots={key: file for key, file in plots.items() if file.exists()},
            blocks=stored_blocks(folder),
            decisions=[] if live else rows_of(run.corrections),
            epochs=index["epochs"],
            noun=index["noun"],
            num_listed=len(index["suspects"]["id"]),
            checked=check_run(run),
            live=live,
        )
    except (AttributeError, KeyError, TypeError, jinja2.UndefinedError) as error:
        raise SourceError(
            f"{folder} is damaged: what it holds does not fit together ({error!r}); scan again with"
            " --force"
        ) from error


def _write_blocks_of_earlier_version(run: Run, reporter: Reporter) -> None:
    """Write the blocks of a folder that has none, with what can still be had."""
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
    history = EpsilonHistory(folder / "epsilon")
    probs = folder / "pred_probs.npy"
    write_review_data(
        folder,
        samples=samples,
        suspects=suspects_table(samples),
        summary=run.summary,
        history=history if history.epochs else None,
        pred_probs=np.load(probs, mmap_mode="r") if probs.exists() else None,
        evidence=Evidence(pictures, neighbors, pd.DataFrame(index=range(len(samples)))),
        reporter=reporter,
    )

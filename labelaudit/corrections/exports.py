"""Export the suspects of a run to other tools: Label Studio, FiftyOne, cleanlab, CVAT, plain CSV."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from labelaudit.corrections.cvat import cvat_files
from labelaudit.corrections.export_files import Export, Writer, json_writer, text_writer
from labelaudit.corrections.fiftyone import fiftyone_files
from labelaudit.corrections.label_studio import labeling_config, shows_text, tasks
from labelaudit.corrections.run import Run, read_run, rows_of
from labelaudit.errors import OptionError, OutputError, UntrustedResultWarning
from labelaudit.files import atomic_write, remove_partial_files
from labelaudit.reporting.tables import SAMPLE_TEXT, escape, write_csv

_CSV_COLUMNS = (
    "sample_id",
    "path",
    "given_label",
    "suggested_label",
    "suspect_score",
    "is_label_issue",
    "rank",
    "ambiguity",
    "trusted",
    "decision",
    "corrected_label",
    "note",
)


def export_run(
    run_path: str | Path,
    to: str,
    out: str | Path | None = None,
    *,
    image_root_url: str | None = None,
    force: bool = False,
    all_samples: bool = False,
) -> list[Path]:
    """Write the suspects of a run in the format of another tool. Images are not copied.

    Parameters
    ----------
    run_path : str or Path
        A run folder that `labelaudit scan` wrote.
    to : str
        One of `FORMATS`:

        - "label-studio": ``tasks.json`` to import, and the labeling interface,
          ``labeling_config.xml``.
        - "fiftyone": ``metadata.json`` and ``samples.json``, a dataset of the type
          `fiftyone.types.FiftyOneDataset`. The given label is the field ``ground_truth``.
        - "cleanlab": ``label_issues.csv`` for `cleanlab.classification.CleanLearning.fit`, with one row
          per labeled sample, in the order of the data set; and ``class_names.json``, whose order the
          integer labels follow.
        - "cvat": ``annotations.xml`` ("CVAT for images 1.1") with one tag per image, named after the
          sample id; and ``labels.json``, for the raw view of the label constructor.
        - "csv": ``suspects_plain.csv``.
    out : str or Path, optional
        The folder to write; by default ``export-<to>`` in the run folder.
    image_root_url : str, optional
        For Label Studio: address of the folder of images on a server; see
        `labelaudit.corrections.label_studio.tasks`.
    force : bool, optional
        Write into an existing folder. Files of the same names are replaced, and others stay.
    all_samples : bool, optional
        Export all labeled samples instead of the suspects. For cleanlab, all are always exported.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    SourceError
        The folder is not a finished run, or the images are not found.
    OptionError
        `to` is not known, or the format cannot represent this run.
    OutputError
        `out` exists already, or cannot be written.

    Warns
    -----
    UntrustedResultWarning
        The result of the run should not be trusted.
    """
    if to not in _BUILDERS:
        raise OptionError(f'`to` "{to}" is not known; choose one of {", ".join(FORMATS)}')
    if image_root_url is not None and to != "label-studio":
        raise OptionError("`image_root_url` is only for `to` label-studio; leave it out")
    run = read_run(run_path)
    folder = Path(out) if out is not None else run.path / f"export-{to}"
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; choose another folder with `out`")
    if folder.exists() and not force:
        raise OutputError(
            f"{folder} already exists; replace the files of this export in it with"
            " `force=True`, or choose another `out`"
        )
    frame = _chosen(run, all_samples=all_samples)
    writers = _BUILDERS[to](Export(run, frame, image_root_url, all_samples))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be created ({error.strerror}); choose another `out`"
        ) from error
    remove_partial_files(folder)
    for name, write in writers.items():
        with atomic_write(folder / name) as partial:
            write(partial)
    if not run.trusted:
        reasons = run.summary.trust.reasons or ("Its summary.json says so.",)
        warnings.warn(
            f"do not trust this result. {reasons[0]}", UntrustedResultWarning, stacklevel=2
        )
    return [folder / name for name in writers]


def _chosen(run: Run, *, all_samples: bool) -> pd.DataFrame:
    """Return the samples to export, the most suspect first, with the decisions about them."""
    decided = run.corrections.set_index("sample_id")
    joined = run.chosen(all_samples=all_samples).copy()
    for name in ("decision", "corrected_label", "note"):
        texts = joined["sample_id"].map(decided[name])
        joined[name] = texts.astype(object).where(texts.notna() & (texts != ""), None)
    return joined


# --- Label Studio ------------------------------------------------------------------------------


def _label_studio(export: Export) -> dict[str, Writer]:
    run, url = export.run, export.image_root_url
    return {
        "tasks.json": json_writer(tasks(run, url, all_samples=export.all_samples)),
        "labeling_config.xml": text_writer(
            labeling_config(run.class_names, is_text=shows_text(run, url))
        ),
    }


# --- cleanlab ----------------------------------------------------------------------------------


def _cleanlab(export: Export) -> dict[str, Writer]:
    # All labeled samples, in the order of the data set, because cleanlab matches rows by position.
    labeled, class_names = export.run.labeled, export.run.class_names
    codes = {name: code for code, name in enumerate(class_names)}
    table = pd.DataFrame(
        {
            "is_label_issue": labeled["is_label_issue"].astype(bool),
            "label_quality": labeled["label_score"],
            "given_label": labeled["given_label"].map(codes).astype("int64"),
            "predicted_label": labeled["predicted_label"].map(codes).astype("int64"),
            "sample_id": labeled["sample_id"],
            "trusted": export.run.trusted,
        }
    )
    return {
        "label_issues.csv": lambda path: write_csv(table, path),
        "class_names.json": json_writer(class_names),
    }


# --- plain CSV ---------------------------------------------------------------------------------


def _csv(export: Export) -> dict[str, Writer]:
    columns = [*_CSV_COLUMNS, *([SAMPLE_TEXT] if SAMPLE_TEXT in export.frame else [])]
    table = export.frame.assign(trusted=export.run.trusted)[columns]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows_of(table):
        writer.writerow(
            escape(value) if isinstance(value, str) else value for value in row.values()
        )
    return {"suspects_plain.csv": text_writer(out.getvalue())}


# --- all of them -------------------------------------------------------------------------------


_BUILDERS: dict[str, Callable[[Export], dict[str, Writer]]] = {
    "label-studio": _label_studio,
    "fiftyone": fiftyone_files,
    "cleanlab": _cleanlab,
    "cvat": cvat_files,
    "csv": _csv,
}
FORMATS = tuple(_BUILDERS)
"""The formats that `export_run` can write."""

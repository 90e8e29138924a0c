"""Read a run folder, for exports, reviews and comparisons."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from labelaudit.corrections.reading import file_of_decisions, read_corrections
from labelaudit.corrections.table import CORRECTION_COLUMNS
from labelaudit.errors import SourceError
from labelaudit.reporting.run_files import EARLIER, MARKER, UNFINISHED
from labelaudit.suspects.summary import Summary

SUMMARY_FILE = "summary.json"
SAMPLES_FILE = "samples.parquet"

# The columns that are required. There may be others.
_COLUMNS = (
    "sample_id",
    "path",
    "given_label",
    "predicted_label",
    "suggested_label",
    "suggested_prob",
    "suspect_score",
    "label_score",
    "is_label_issue",
    "rank",
    "ambiguity",
)
_TEXTS = ("given_label", "predicted_label", "suggested_label")
_NUMBERS = ("suspect_score", "rank")  # of each label


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, read from its folder.

    Attributes
    ----------
    path : Path
        The run folder.
    summary : Summary
        The content of summary.json.
    samples : DataFrame
        One row per sample of the data set, in its order.
    corrections : DataFrame
        The decisions in corrections.csv, or in a suspects.csv that a person has filled in. The columns
        are `CORRECTION_COLUMNS`, and possibly `GIVEN_LABEL`. Without decisions it has no rows.
    version : str
        Version of labelaudit that wrote the run.
    """

    path: Path
    summary: Summary
    samples: pd.DataFrame
    corrections: pd.DataFrame
    version: str

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the columns of pred_probs.npy."""
        return list(self.summary.class_names)

    @property
    def trusted(self) -> bool:
        """Whether the result can be trusted."""
        return self.summary.trust.trustworthy

    @cached_property
    def labeled(self) -> pd.DataFrame:
        """The labeled samples, in the order of the data set."""
        return self.samples[self.samples["given_label"].notna()].reset_index(drop=True)

    @cached_property
    def suspects(self) -> pd.DataFrame:
        """The flagged samples, the most suspect first."""
        flagged = self.labeled[self.labeled["is_label_issue"]]
        return flagged.sort_values("rank", kind="stable").reset_index(drop=True)

    def chosen(self, *, all_samples: bool) -> pd.DataFrame:
        """Return the suspects, or all labeled samples, the most suspect first."""
        if not all_samples:
            return self.suspects
        return self.labeled.sort_values("rank", kind="stable").reset_index(drop=True)

    @cached_property
    def suggestions(self) -> dict[str, str]:
        """The suggested labels by sample id, of samples that have one."""
        return suggestions_of(self.samples)

    def image_files(self, frame: pd.DataFrame) -> list[str]:
        """Return the absolute paths of the image files of samples.

        A scan of a relative path writes relative paths. They are relative to the folder where the scan
        was started. This is assumed to be the current folder, or the folder of the run folder.

        Parameters
        ----------
        frame : DataFrame
            Rows of `samples` whose ``path`` is not empty.

        Raises
        ------
        SourceError
            The paths are relative, and the first image is in neither of these folders.
        """
        paths = frame["path"].tolist()
        relative = [path for path in paths if not Path(path).is_absolute()]
        if not relative:
            return paths
        for folder in (Path.cwd(), self.path.absolute().parent):
            if (folder / relative[0]).exists():
                # As text, because creating a million Path objects takes seconds.
                return [os.path.normpath(os.path.join(folder, path)) for path in paths]  # noqa: PTH118
        raise SourceError(
            f"the image {relative[0]} is not found; run this in the folder in which `labelaudit scan`"
            " was started"
        )


def read_run(path: str | Path) -> Run:
    """Read a run folder that `labelaudit scan` wrote.

    Raises SourceError if the folder does not exist, was not written by labelaudit, or holds an
    unfinished run, or one of its files is missing or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist; give the folder that `labelaudit scan` wrote")
    if not path.is_dir():
        raise SourceError(
            f"{path} is a file; give the folder that `labelaudit scan` wrote, with {SUMMARY_FILE}"
        )
    earlier = path / EARLIER
    if not (path / MARKER).is_file():
        raise SourceError(
            f"{path} is not a run folder of labelaudit: {MARKER} is missing; "
            + (
                "a scan was cut off there, so start it again with `force=True`"
                if (earlier / MARKER).is_file()
                else "give the folder that `labelaudit scan` wrote"
            )
        )
    marker = _read_object(path / MARKER)
    missing = [name for name in (SUMMARY_FILE, SAMPLES_FILE) if not (path / name).is_file()]
    unfinished = marker.get("status") in UNFINISHED
    if is_half_written(path) or (missing and unfinished):
        why = f"{missing[0]} is missing" if missing else "its files are being written"
        kept = f". The results that it replaces are in {earlier}" if earlier.is_dir() else ""
        raise SourceError(
            f"the run in {path} is unfinished: {why}; wait for the scan, or continue it with"
            f" `resume=True`{kept}"
        )
    if missing:
        raise SourceError(
            f"{path} is incomplete: {missing[0]} is missing; scan again with `force=True`"
        )
    summary_file = path / SUMMARY_FILE
    summary = Summary.from_json(_read_object(summary_file), str(summary_file))
    samples = _read_samples(path / SAMPLES_FILE)
    foreign = set(samples["given_label"].dropna().unique()).difference(summary.class_names)
    if foreign:
        raise SourceError(
            f"{path} is damaged: {SUMMARY_FILE} has no class {min(foreign)!r}, which {SAMPLES_FILE}"
            " has; scan again with `force=True`"
        )
    corrections = pd.DataFrame(columns=list(CORRECTION_COLUMNS), dtype="str")
    version = summary.versions.get("labelaudit") or marker.get("labelaudit") or "unknown"
    run = Run(path, summary, samples, corrections, str(version))
    file = file_of_decisions(path)
    if file is None:
        return run
    decided = read_corrections(file, run.suggestions)
    return replace(run, corrections=decided)


def is_half_written(path: Path) -> bool:
    """Whether a scan is writing its results into a run folder, or was cut off while it did."""
    marker = path / MARKER
    return marker.is_file() and _read_object(marker).get("status") == "writing"


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as plain Python values, with None for missing values."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that labelaudit wrote."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # the latter where it is nested too deeply
        raise SourceError(f"{path} is damaged ({error}); scan again with `force=True`") from error
    if not isinstance(value, dict):
        raise SourceError(
            f"{path} is damaged (it is not a JSON object); scan again with `force=True`"
        )
    return value


def _read_samples(path: Path) -> pd.DataFrame:
    try:
        samples = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise SourceError(
            f"{path} is damaged ({str(error).splitlines()[0]}); scan again with `force=True`"
        ) from error
    _require_columns(path, samples)
    damage = _damage_of(samples)
    if damage is not None:
        raise SourceError(f"{path} is damaged ({damage}); scan again with `force=True`")
    # Ids such as "001" are text, in every version of pandas.
    samples["sample_id"] = samples["sample_id"].astype("str")
    return samples


def _damage_of(samples: pd.DataFrame) -> str | None:
    """Return what no scan has written into the table of samples; None if there is nothing."""
    labeled = samples["given_label"].notna()
    for name in _TEXTS:
        if pd.api.types.infer_dtype(samples[name], skipna=True) not in ("string", "empty"):
            return f"{name} is not text"
    for name in _NUMBERS:
        if not pd.api.types.is_numeric_dtype(samples[name]):
            return f"{name} is not a number"
        if samples.loc[labeled, name].isna().any():
            return f"a label has no {name}"
    if not samples.loc[labeled, "suspect_score"].between(0, 1).all():
        return "a suspect_score is not in [0, 1]"
    flags = samples.loc[labeled, "is_label_issue"]
    if not pd.api.types.is_bool_dtype(flags) and set(flags) - {True, False}:
        return "is_label_issue is neither true nor false"
    if samples["sample_id"].isna().any():
        return "a sample has no sample_id"
    repeated = samples["sample_id"][samples["sample_id"].duplicated()]
    return f'two samples have the id "{repeated.iloc[0]}"' if len(repeated) else None


def _require_columns(path: Path, samples: pd.DataFrame) -> None:
    for name in _COLUMNS:
        if name not in samples:
            raise SourceError(
                f'{path} lacks the column "{name}"; an older version of labelaudit may have written it,'
                " so scan again with `force=True`"
            )


def samples_near(corrections: Path) -> pd.DataFrame | None:
    """Return the samples of the run folder that contains a file of corrections.

    None if the file is not in a run folder.
    """
    folder = corrections.parent
    if not (folder / MARKER).is_file() or not (folder / SAMPLES_FILE).is_file():
        return None
    return _read_samples(folder / SAMPLES_FILE)


def suggestions_of(samples: pd.DataFrame) -> dict[str, str]:
    """Return the suggested labels by sample id, of samples that have one."""
    suggested = samples[samples["suggested_label"].notna()]
    return dict(zip(suggested["sample_id"], suggested["suggested_label"], strict=True))

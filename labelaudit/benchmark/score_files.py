"""Scores of a finished run or of another tool, compared with the truth of one corruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from scipy.stats import rankdata

from labelaudit.benchmark.datasets import Dataset
from labelaudit.benchmark.noise import Noise, corrupt
from labelaudit.errors import SourceError
from labelaudit.reporting.tables import read_csv
from labelaudit.sources.name_matching import match_names, renamed
from labelaudit.suspects.metrics import detection_metrics, f1_at_true_count


def score_file(
    path: str | Path,
    dataset: Dataset,
    noise: Noise,
    *,
    seed: int,
    num_labeled: int | None = None,
    threshold: float | None = None,
) -> dict[str, float | None]:
    """Score a run folder, or the scores of another tool, on one corruption.

    Parameters
    ----------
    path
        A run folder of `labelaudit scan`, or a CSV or parquet file with the columns sample_id and
        suspect_score (high = suspect). An optional column is_label_issue holds the flags.
    dataset, noise, seed, num_labeled
        The corruption that the scores belong to.
    threshold
        Flag scores above it. By default the file's own flags are used.

    Returns
    -------
    dict
        `labelaudit.suspects.metrics.METRIC_NAMES` and ``f1_at_true_count``. Precision, recall and
        F1 are None where neither the file nor `threshold` decides what is flagged.

    Raises
    ------
    SourceError
        If the file cannot be read, does not score every labeled sample, or has a column given_label
        with other labels than those of the corruption.
    """
    scores = _read_scores(Path(path))
    corruption = corrupt(dataset, noise, num_labeled, seed)
    ids = np.asarray(dataset.sample_ids, dtype=object)[corruption.labeled]
    aligned = scores.reindex(ids)
    missing = aligned["suspect_score"].isna()
    if missing.any():
        raise SourceError(
            f"{path} has no score for {int(missing.sum()):,} of {len(ids):,} labeled samples, for"
            f" example {ids[missing.to_numpy()][0]!r}; give a score for every labeled sample"
        )
    if "given_label" in aligned:
        written = aligned["given_label"].astype(object).fillna("").astype(str).tolist()
        classes = dataset.class_names
        given = renamed(written, match_names(written, classes, classes))
        noisy = [classes[label] for label in corruption.noisy_labels[corruption.labeled].tolist()]
        others = sum(one != other for one, other in zip(given, noisy, strict=True))
        if others:
            raise SourceError(
                f"the given labels in {path} differ from those of this corruption for {others:,} of"
                f" {len(ids):,} samples; name the noise, the rate and the seed of the labels that were"
                " scored"
            )
    values = aligned["suspect_score"].to_numpy(dtype=np.float64)
    ranks = rankdata(values)  # only the order counts, and a score may be infinite
    flagged = None
    if threshold is not None:
        flagged = values > threshold
    elif "is_label_issue" in aligned:
        flagged = aligned["is_label_issue"].to_numpy(dtype=bool)
    metrics = detection_metrics(
        ranks, np.zeros(len(values), bool) if flagged is None else flagged, corruption.wrong
    )
    if flagged is None:
        metrics |= {"precision": None, "recall": None, "f1": None}
    return {**metrics, "f1_at_true_count": f1_at_true_count(ranks, corruption.wrong)}


def _read_scores(path: Path) -> pd.DataFrame:
    if path.is_dir():
        path = path / "samples.parquet"
    if not path.exists():
        raise SourceError(f"{path} does not exist; give a run folder or a table of scores")
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else read_csv(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as a table of scores: {error}") from error
    needed = {"sample_id", "suspect_score"}
    if not needed <= set(frame.columns):
        raise SourceError(
            f"{path} needs the columns sample_id and suspect_score; it has"
            f" {', '.join(map(str, frame.columns))}"
        )
    if not is_numeric_dtype(frame["suspect_score"]):
        raise SourceError(f"the column suspect_score of {path} does not hold numbers")
    if "is_label_issue" in frame and not is_bool_dtype(frame["is_label_issue"]):
        raise SourceError(f"the column is_label_issue of {path} does not hold truth values")
    frame = frame.assign(sample_id=frame["sample_id"].astype(str))
    if frame["sample_id"].duplicated().any():
        twice = frame.loc[frame["sample_id"].duplicated(), "sample_id"].iloc[0]
        raise SourceError(f"{path} has sample_id {twice!r} more than once")
    return frame.set_index("sample_id")

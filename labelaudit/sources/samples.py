"""From what a user points at to samples, their labels, and features where they come along.

This is the one place that decides which reader a source, labels and features go to.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from labelaudit.errors import OptionError, SourceError
from labelaudit.files import suffix_of
from labelaudit.images.containers import ImageFiles
from labelaudit.sources.arrays import source_from_arrays
from labelaudit.sources.classes import text_array
from labelaudit.sources.feature_tables import (
    FeatureSource,
    TableSource,
    features_of_rows,
    join_features,
    read_labels_with_features,
)
from labelaudit.sources.file_tree import IMAGE_SUFFIXES
from labelaudit.sources.folders import read_source
from labelaudit.sources.manifest import Source
from labelaudit.sources.prediction_files import are_by_row, read_labels_alone
from labelaudit.sources.tabular import read_tabular


def read_samples(
    source: str | Path | np.ndarray | Source | FeatureSource,
    labels: str | Path | np.ndarray | Sequence[Any] | None = None,
    *,
    features: str | Path | np.ndarray | None = None,
    tabular: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    verified_column: str | None = None,
    predictions: Sequence[Any] | None = None,
) -> Source | FeatureSource | TableSource:
    """Find samples and labels, and features where they come along; no image is opened.

    Parameters
    ----------
    source, labels, features, tabular
        See `labelaudit.scan`.
    image_column, label_column, id_column, split, clean_label_column, verified_column
        How to read a table.
    predictions
        Predictions that will be joined, so that a table may name labels alone, without images or
        features: a `TableSource` then.

    Raises
    ------
    SourceError, OptionError
        If the source cannot be read, or not in this way.
    """
    if isinstance(source, np.ndarray | Source | FeatureSource):
        if tabular:
            raise OptionError("--tabular reads a table from a file; give its path as the source")
        if verified_column is not None:
            raise OptionError(
                "verified_column names a column of a table; give an array of verified labels to"
                " labelaudit.source_from_arrays"
            )
        return _in_memory(source, labels, features)
    if labels is not None and not isinstance(labels, str | Path):
        raise OptionError("labels for a source on disk must be the path of a table")
    path = Path(source)
    if tabular:
        if labels is not None or image_column is not None:
            raise OptionError(
                "--tabular reads one table, labels and features; leave the labels' file and"
                " --image-column out, and name the column of labels with --label-column"
            )
        return read_tabular(
            path,
            label_column=label_column,
            id_column=id_column,
            split=split,
            clean_label_column=clean_label_column,
            verified_column=verified_column,
        )
    read_images = partial(
        read_source,
        path,
        labels,
        image_column=image_column,
        label_column=label_column,
        split=split,
        clean_label_column=clean_label_column,
        verified_column=verified_column,
    )
    if features is None:
        if predictions and not path.is_dir() and labels is None and image_column is None:
            alone = read_labels_alone(
                path,
                by_row=are_by_row(predictions),
                label_column=label_column,
                id_column=id_column,
                split=split,
                clean_label_column=clean_label_column,
                verified_column=verified_column,
            )
            return replace(alone, source=_pictured(alone.source, path.parent))
        return read_images()
    if path.is_dir() or labels is not None or image_column is not None:
        if id_column is not None:
            raise OptionError(
                "--id-column names the ids of a table's rows; images are called by their paths"
            )
        if isinstance(features, np.ndarray):
            raise OptionError(
                "features of images are found by their ids; give a parquet file with the columns"
                " sample_id and features, or labelaudit.read_source(...) and features in its order"
            )
        return join_features(read_images(), features)
    if is_parquet(features) and id_column is None:
        embedded = _embedded_images(read_images, Path(str(features)))
        if embedded is not None:
            return embedded
    found = read_labels_with_features(
        path,
        features,
        label_column=label_column,
        id_column=id_column,
        split=split,
        clean_label_column=clean_label_column,
        verified_column=verified_column,
    )
    return _with_pictures(found, path.parent)


def _in_memory(
    source: np.ndarray | Source | FeatureSource,
    labels: str | Path | np.ndarray | Sequence[Any] | None,
    features: str | Path | np.ndarray | None,
) -> Source | FeatureSource:
    if isinstance(source, np.ndarray):
        if labels is None or isinstance(labels, str | Path):
            what = "features" if source.ndim == 2 else "images"
            raise OptionError(f"an array of {what} needs an array of as many labels")
        if source.ndim != 2:
            source = source_from_arrays(source, labels)
        elif features is not None:
            raise OptionError("an array (N, D) is features already; leave the other features out")
        else:
            return features_of_rows(source_from_arrays(None, labels), source)
    elif labels is not None:
        raise OptionError("a Source has its labels already; leave them out")
    if features is None:
        return source
    if isinstance(source, FeatureSource):
        raise OptionError("a FeatureSource has its features already; leave the others out")
    if isinstance(features, np.ndarray):
        return features_of_rows(source, features)
    return join_features(source, features)


def is_parquet(features: str | Path | np.ndarray) -> bool:
    """Whether features lie in a parquet file, and so belong to samples by their ids."""
    return isinstance(features, str | Path) and suffix_of(str(features)) == "parquet"


def _embedded_images(read_images: Callable[[], Source], features: Path) -> FeatureSource | None:
    """Read a table of images with the features that `labelaudit embed` wrote, or give None.

    A table of something else, or features of something else, may still be read by its rows' ids.
    """
    try:
        return join_features(read_images(), features)
    except SourceError:
        return None


def _with_pictures(found: FeatureSource, folder: Path) -> FeatureSource:
    """Add the images that the ids name, if they all name files in the table's folder."""
    return replace(found, source=_pictured(found.source, folder))


def _pictured(source: Source, folder: Path) -> Source:
    """Give the source with the images that its ids name, if they all name files in a folder."""
    names = [posixpath.normpath(str(name)) for name in source.manifest.sample_ids]
    if not all(suffix_of(name) in IMAGE_SUFFIXES for name in names):
        return source
    paths = [folder / name for name in names]
    inside = not any(posixpath.isabs(name) or name.startswith("../") for name in names)
    if not inside or not all(path.is_file() for path in paths):
        return source
    texts = text_array([str(path) for path in paths])
    manifest = replace(source.manifest, paths=texts, images=ImageFiles(texts))
    return replace(source, manifest=manifest)

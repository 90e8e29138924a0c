"""Samples and labels of a source on disk or in memory, and their features if given.

This module chooses the reader for a source, its labels and its features.
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
from labelaudit.files import is_file, suffix_of
from labelaudit.images.containers import ImageFiles
from labelaudit.sources.annotators import annotator_columns
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
from labelaudit.sources.python_data import Asked, read_python_data, type_name
from labelaudit.sources.table_kinds import advice_for_features, is_feature_file
from labelaudit.sources.tabular import read_tabular
from labelaudit.sources.texts import TextSource, are_texts, read_texts, texts_of_list
from labelaudit.sources.values import as_features, is_frame, is_list


def read_samples(
    source: Any,
    labels: Any = None,
    *,
    features: Any = None,
    tabular: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    verified_column: str | None = None,
    label_columns: Any = None,
    text_column: str | None = None,
    predictions: Sequence[Any] | None = None,
) -> Source | FeatureSource | TableSource | TextSource:
    """Read samples and labels, and features if they are given, without opening an image file.

    Parameters
    ----------
    source : str, Path, Source, FeatureSource, a list of texts, or what `read_python_data` takes
        The samples; see `labelaudit.scan`.
    labels
        For a folder of images the path of a table; for data in memory N labels.
    features
        A path, the name of a column, or an array, tensor, DataFrame or list (N, D).
    tabular
        Whether the source is a table whose other columns are the features: a path or a DataFrame.
    image_column, label_column, id_column, split, clean_label_column, verified_column
        How to read a table or a data set.
    label_columns
        Columns of several annotators: a list, or names separated by commas.
    text_column
        The column of texts to audit, if the samples are texts.
    predictions
        Predictions that will be joined. A table may then name labels alone, without images or
        features, and is returned as a `TableSource`.

    Raises
    ------
    SourceError, OptionError
        If the source cannot be read, or not in this way.
    """
    features = _checked_features(features)
    annotators, label_column = annotator_columns(label_columns, label_column, verified_column)
    columns: dict[str, Any] = {
        "label_column": label_column,
        "id_column": id_column,
        "split": split,
        "clean_label_column": clean_label_column,
        "verified_column": verified_column,
        "label_columns": annotators,
    }
    if tabular:
        if not (isinstance(source, str | Path) or is_frame(source)):
            raise OptionError("`tabular` reads a table; give the path of a file, or a DataFrame")
        if labels is not None or image_column is not None:
            raise OptionError(
                "`tabular` reads labels and features from one table; leave out the labels and"
                " `image_column`, and name the column of labels with `label_column`"
            )
        return read_tabular(source, **columns)
    if text_column is not None:
        return read_texts(source, text_column, labels, **columns)
    if isinstance(source, str | Path):
        return _on_disk(Path(source), labels, features, image_column, columns, predictions)
    if verified_column is not None:
        raise OptionError(
            "verified_column names a column of a table; give an array of verified labels to"
            " labelaudit.source_from_arrays"
        )
    if annotators:
        raise OptionError(
            "`label_columns` names columns of a table; give data in memory the labels of all annotators"
            " as an array or a DataFrame (N, A) in `labels`"
        )
    if features is None and predictions is None and are_texts(source):
        return texts_of_list(source, labels)
    asked = Asked(labels, image_column, label_column, split, features is not None)
    return _in_memory(source, asked, features)


def _checked_features(features: Any) -> str | Path | np.ndarray | None:
    """Return features as a path, the name of a column, or an array (N, D)."""
    if features is None:
        return None
    if not isinstance(features, str | Path):
        if not (is_frame(features) or is_list(features) or hasattr(features, "__array__")):
            raise OptionError(
                f"features= is {type_name(features)}; give a path, the name of a column, or an array,"
                " torch tensor, DataFrame or list of rows (N, D)"
            )
        return as_features(features, "features=")
    if suffix_of(str(features)) == "npz":
        raise OptionError(
            f"{features} may hold several arrays; save the one of the features with numpy.save as"
            " .npy, and give that file"
        )
    return features


def _on_disk(
    path: Path,
    labels: Any,
    features: str | Path | np.ndarray | None,
    image_column: str | None,
    columns: dict[str, Any],
    predictions: Sequence[Any] | None,
) -> Source | FeatureSource | TableSource:
    """Read a source on disk; `columns` are the options that every reader of a table takes."""
    if labels is not None and not isinstance(labels, str | Path):
        raise OptionError(
            f"labels= is {type_name(labels)}; for a source on disk give the path of a table of labels"
        )
    if features is None:
        _refuse_features_as_source(path, labels, columns["label_column"])
    ids = columns["id_column"]
    read_images = partial(
        read_source,
        path,
        labels,
        image_column=image_column,
        label_column=columns["label_column"],
        split=columns["split"],
        clean_label_column=columns["clean_label_column"],
        verified_column=columns["verified_column"],
        label_columns=columns["label_columns"],
    )
    in_folder = path.is_dir() or suffix_of(path.name) == "tar"
    are_images = in_folder or labels is not None or image_column is not None
    if features is None:
        if predictions and not are_images:
            alone = read_labels_alone(path, by_row=are_by_row(predictions), **columns)
            return replace(alone, source=_pictured(alone.source, path.parent))
        return read_images()
    if are_images:
        if ids is not None:
            raise OptionError(
                "`id_column` names the ids of a table's rows, but the ids of images are their paths;"
                " leave it out"
            )
        if isinstance(features, np.ndarray):
            raise OptionError(
                "features of images are found by their ids; give a parquet file with the columns"
                " sample_id and features, or labelaudit.read_source(...) and features in its order"
            )
        return join_features(read_images(), features)
    if is_parquet(features) and ids is None:
        embedded = _embedded_images(read_images, Path(str(features)))
        if embedded is not None:
            return embedded
    found = read_labels_with_features(path, features, **columns)
    return replace(found, source=_pictured(found.source, path.parent))


def _refuse_features_as_source(path: Path, labels: str | Path | None, column: str | None) -> None:
    """Raise OptionError if features are given as the source, or as the labels."""
    if not is_file(path):
        return
    if (
        labels is not None
        and is_file(Path(labels))
        and (advice := advice_for_features(Path(labels), str(path)))
    ):
        raise OptionError(f"{labels} is no table of labels; {advice}")
    by_row = suffix_of(path.name) in ("npy", "npz")
    if by_row or (column is None and is_parquet(path) and is_feature_file(path)):
        advice = advice_for_features(path, "LABELS" if labels is None else str(labels))
        in_python = "; from Python, give the loaded array with labels=" if by_row else ""
        raise OptionError(f"{path} holds arrays without labels; {advice}{in_python}")


def _in_memory(
    source: Any, asked: Asked, features: str | Path | np.ndarray | None
) -> Source | FeatureSource:
    if not isinstance(source, Source | FeatureSource):
        found = read_python_data(source, asked)
    elif asked.labels is None:
        found = source
    else:
        raise OptionError("a Source already has labels; leave labels= out")
    if features is None:
        return found
    if isinstance(found, FeatureSource):
        raise OptionError("the source already has features; leave features= out")
    if isinstance(features, np.ndarray):
        return features_of_rows(found, features)
    return join_features(found, features)


def is_parquet(features: str | Path | np.ndarray) -> bool:
    """Return whether features are in a parquet file, and so belong to samples by id."""
    return isinstance(features, str | Path) and suffix_of(str(features)) == "parquet"


def _embedded_images(read_images: Callable[[], Source], features: Path) -> FeatureSource | None:
    """Read a table of images with the features that `labelaudit embed` wrote; None if it is not that.

    A table or features of something else may still be read by the ids of the rows.
    """
    try:
        return join_features(read_images(), features)
    except SourceError:
        return None


def _pictured(source: Source, folder: Path) -> Source:
    """Return the source with the images that its ids name, if all of them are files in the folder."""
    names = [posixpath.normpath(str(name)) for name in source.manifest.sample_ids]
    if not all(suffix_of(name) in IMAGE_SUFFIXES for name in names):
        return source
    paths = [folder / name for name in names]
    inside = not any(posixpath.isabs(name) or name.startswith("../") for name in names)
    if not inside or not all(is_file(path) for path in paths):
        return source
    texts = text_array([str(path) for path in paths])
    manifest = replace(source.manifest, paths=texts, images=ImageFiles(texts))
    return replace(source, manifest=manifest)

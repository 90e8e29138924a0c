"""Samples from arrays, tensors, DataFrames, lists, and data sets in memory.

Data sets are recognized by their attributes, so that neither torch nor torchvision nor Hugging Face's
`datasets` is imported here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelaudit.errors import OptionError, SourceError
from labelaudit.files import suffix_of, well_formed
from labelaudit.images.containers import CellImages, ImageFiles, NoImages
from labelaudit.sources.annotators import separate_annotators
from labelaudit.sources.arrays import source_of_images
from labelaudit.sources.cells import LABEL_COLUMNS
from labelaudit.sources.classes import text_array
from labelaudit.sources.feature_tables import FeatureSource, features_of_rows
from labelaudit.sources.file_tree import IMAGE_SUFFIXES
from labelaudit.sources.manifest import Source
from labelaudit.sources.splits import choose_split
from labelaudit.sources.values import (
    as_array,
    as_features,
    as_images,
    as_labels,
    as_pixels,
    is_frame,
    is_list,
    is_tensor,
    narrow_together,
)

TAKEN = (
    "a path, an array, a torch tensor, a DataFrame, a list of arrays or PIL images, or a data set of"
    " torch, torchvision or Hugging Face"
)
IMAGE_NAMES = ("image", "images", "img", "pixel_values")


@dataclass(frozen=True)
class Asked:
    """Labels and options that the user gave with the source.

    Attributes
    ----------
    labels : array, tensor, Series or sequence (N,), or None
        None if the source has labels itself.
    image_column, label_column : str, or None
        Names of the columns, or of the keys of each item, in a data set.
    split : str, or None
        Which of several splits to read.
    with_features : bool
        Whether features are given as well, so that images are not needed.
    """

    labels: Any = None
    image_column: str | None = None
    label_column: str | None = None
    split: str | None = None
    with_features: bool = False


def read_python_data(source: Any, asked: Asked) -> Source | FeatureSource:
    """Convert data in memory to samples and labels.

    Parameters
    ----------
    source
        One of these, with N samples:

        - Images: an array or tensor (N, H, W), (N, H, W, C) or (N, C, H, W), or a list of arrays,
          tensors or PIL images, which may differ in size.
        - Features: an array or tensor (N, D), a DataFrame, or a list of N rows of numbers.
        - A data set of torchvision, any torch `Dataset` of (image, label), or a `Dataset` of
          Hugging Face. Its items are read once. Its transforms are not changed. If it provides images
          without transforms, these are read.
    asked : Asked
        Labels, and how to read a data set.

    Raises
    ------
    OptionError
        There are no labels, or the source is none of the above. The message names its type.
    SourceError
        Samples and labels do not fit together.
    """
    if isinstance(asked.labels, str | Path):
        raise OptionError(
            "labels= is a path, but the source is not; give an array with one label per sample"
        )
    if hasattr(source, "toarray"):
        raise OptionError(
            f"the source is {type_name(source)}, which is sparse; give source.toarray()"
        )
    if isinstance(source, memoryview):
        source = np.asarray(source)
    for is_such, read in _READERS:
        if is_such(source):
            return read(source, asked)
    raise OptionError(f"the source is {type_name(source)}; give {TAKEN}")


def is_data_set(source: Any) -> bool:
    """Return whether a source is a data set or a list of images, not an array or table of features."""
    if any(hasattr(source, name) for name in ("__array__", "toarray")) or is_frame(source):
        return False
    if is_list(source):
        return len(source) > 0 and as_array(source[0]).ndim > 1
    return _is_hugging_face(source) or _is_splits(source) or _is_pairs(source)


def type_name(value: object) -> str:
    """Return the type of a value for a message: "a dict", "a scipy csr_matrix"."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    name = kind.__name__ if package in ("builtins", "__main__") else f"{package} {kind.__name__}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


# --- arrays and lists --------------------------------------------------------------------------


def _is_array(source: object) -> bool:
    return (isinstance(source, np.ndarray) and not is_list(source)) or is_tensor(source)


def _read_array(source: Any, asked: Asked) -> Source | FeatureSource:
    array = as_array(source)
    if array.ndim == 2:
        return _of_features(array, asked.labels)
    return source_of_images(as_images(array), _needed(asked.labels, "an array of images"))


def _read_frame(source: Any, asked: Asked) -> FeatureSource:
    if asked.labels is None:
        raise OptionError(
            "a DataFrame of features needs labels=, one per row; its own column of labels is read with"
            " tabular=True, or with text_column= if it holds texts"
        )
    return _of_features(as_features(source, "the DataFrame"), asked.labels)


def _read_list(source: Sequence[Any], asked: Asked) -> Source | FeatureSource:
    _needed(asked.labels, "a list")
    return _of_items(source, asked.labels)


def _needed(labels: Any, what: str) -> Any:
    if labels is None:
        raise OptionError(f"{what} needs labels=, an array with one label per sample")
    return labels


def _of_features(features: np.ndarray, labels: Any) -> FeatureSource:
    labels = _needed(labels, "an array of features")
    if separate_annotators(labels) is None:
        labels = as_labels(labels)
    return features_of_rows(source_of_images(NoImages(len(labels)), labels), features)


def _of_items(items: Iterable[Any], labels: Any) -> Source | FeatureSource:
    """Make a source of images, or of rows of features, that come one by one."""
    arrays = []
    for row, item in enumerate(narrow_together(list(items))):
        array = as_array(item)
        if array.dtype == object and array.ndim == 1:  # a row of a table with several types
            array = as_array(array.tolist())
        if array.dtype.kind not in "fiub" or array.ndim == 0:
            raise OptionError(
                f"item {row} of the source is {type_name(item)}; give images or rows of numbers."
                " Images in files are read from a folder, or from a table of their paths"
            )
        # Pixels are converted at once, because floats take four times their memory.
        arrays.append(array if array.ndim == 1 else as_pixels(array, f"image {row}"))
    if not arrays:
        raise SourceError("no sample found: the source is empty")
    if all(array.ndim == 1 for array in arrays):
        return _of_features(as_features(arrays, "the source"), labels)
    return source_of_images(as_images(arrays), labels)


# --- data sets of torch and torchvision --------------------------------------------------------


def _is_pairs(source: object) -> bool:
    text = isinstance(source, str | bytes | Mapping | range)
    return hasattr(source, "__getitem__") and hasattr(source, "__len__") and not text


def _read_pairs(source: Any, asked: Asked) -> Source | FeatureSource:
    """Read a map-style data set; for one of torchvision, the images before any transform."""
    labels = asked.labels
    if labels is None:
        labels = getattr(source, "targets", getattr(source, "labels", None))
        labels = labels if _has_length(labels, len(source)) else None
    if labels is not None:
        labels = as_labels(labels)
        names = _class_names(getattr(source, "classes", None), labels)
        if (files := _files(source)) is not None:
            paths, ids = files
            return source_of_images(
                ImageFiles(paths), labels, class_names=names, sample_ids=ids, paths=paths
            )
        data = getattr(source, "data", None)
        if _is_array(data) and _has_length(data, len(source)) and as_array(data).ndim > 2:
            return source_of_images(as_images(data), labels, class_names=names)
    items = [_pair(source[row], asked) for row in range(len(source))]
    if asked.labels is None:
        labels = [label for _, label in items]
    return _of_items((sample for sample, _ in items), labels)


def _has_length(values: Any, length: int) -> bool:
    return hasattr(values, "__len__") and len(values) == length


def _class_names(names: Any, labels: Sequence[Any]) -> list[str] | None:
    """Return the names of a data set's classes, if its labels are numbers that these name."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    fit = all(isinstance(label, int) and label < len(names) for label in labels)
    return list(names) if fit and len(set(names)) == len(names) else None


def _files(source: Any) -> tuple[Any, list[str]] | None:
    """Return the paths and ids of a torchvision folder of images; None for another data set."""
    samples = getattr(source, "samples", None)
    if not isinstance(samples, list) or not _has_length(samples, len(source)):
        return None
    paths = [str(sample[0]) if isinstance(sample, tuple) and sample else "" for sample in samples]
    if not all(suffix_of(path) in IMAGE_SUFFIXES for path in paths):
        return None
    root = Path(getattr(source, "root", ""))
    ids = [well_formed(posixpath.relpath(Path(path).as_posix(), root.as_posix())) for path in paths]
    return text_array(paths), ids


def _pair(item: Any, asked: Asked) -> tuple[Any, Any]:
    """Return the sample and the label of a data set's item."""
    if isinstance(item, Mapping):
        image = _name_of(item, asked.image_column, IMAGE_NAMES, "image")
        if asked.labels is not None:
            return item[image], None
        return item[image], item[_name_of(item, asked.label_column, LABEL_COLUMNS, "label")]
    if isinstance(item, list | tuple) and len(item) >= 2:
        return item[0], item[1]
    if asked.labels is not None:
        return item, None
    raise OptionError(
        f"an item of the source is {type_name(item)} and not a pair (image, label); give a data set of"
        " such pairs, or labels= as well"
    )


def _name_of(names: Iterable[str], asked: str | None, known: Sequence[str], what: str) -> str:
    """Return the requested column, or the first that is known."""
    there = [str(name) for name in names]
    lowered = {name.lower(): name for name in reversed(there)}
    found = next((lowered[name] for name in known if name in lowered), None)
    if asked is not None:
        found = asked if asked in there else None
    if found is None:
        texts = ", or the column of texts with text_column=" if what == "image" else ""
        raise OptionError(
            f"the data set has no column {asked or f'for the {what}s'}; its columns:"
            f" {', '.join(there)}; name one of them with {what}_column={texts}"
        )
    return found


# --- data sets of Hugging Face -----------------------------------------------------------------


def _is_hugging_face(source: object) -> bool:
    return hasattr(source, "column_names") and hasattr(source, "features")


def _is_splits(source: object) -> bool:
    return isinstance(source, Mapping) and all(_is_hugging_face(one) for one in source.values())


def _read_splits(source: Mapping[str, Any], asked: Asked) -> Source | FeatureSource:
    warnings: list[str] = []
    chosen = choose_split(list(source), asked.split, "the data set", warnings)
    found = _read_hugging_face(source[chosen], asked)
    if isinstance(found, FeatureSource):
        return found
    return replace(found, warnings=(*warnings, *found.warnings))


def _read_hugging_face(source: Any, asked: Asked) -> Source | FeatureSource:
    if not hasattr(source, "__len__"):
        raise OptionError("the data set is streamed; load it without streaming=True")
    source = source.with_format(None)  # the stored cells, without conversion
    labels, names = asked.labels, None
    if labels is None:
        column = _name_of(source.column_names, asked.label_column, LABEL_COLUMNS, "label")
        labels = as_labels(list(source[column]))
        names = _class_names(getattr(source.features[column], "names", None), labels)
    return _of_column(source, labels, names, asked)


def _of_column(
    source: Any, labels: Any, names: list[str] | None, asked: Asked
) -> Source | FeatureSource:
    """Make a source of a data set's column of images, or one without images if none are needed."""
    encoded = [name for name, kind in source.features.items() if type(kind).__name__ == "Image"]
    column = asked.image_column
    if column is None and len(encoded) == 1:
        column = encoded[0]
    named = any(name.lower() in IMAGE_NAMES for name in source.column_names)
    if column is None and not named and asked.with_features:
        return source_of_images(NoImages(len(source)), labels, class_names=names)
    column = _name_of(source.column_names, column, IMAGE_NAMES, "image")
    if column not in encoded:
        return _of_items(source[column], labels)
    undecoded = type(source.features[column])(decode=False)
    images = CellImages(source.cast_column(column, undecoded), column)
    return source_of_images(images, labels, class_names=names)


# Pairs of a test and a reader. The first test that a source passes decides.
_READERS: tuple[
    tuple[Callable[[object], bool], Callable[[Any, Asked], Source | FeatureSource]], ...
] = (
    (_is_array, _read_array),
    (_is_hugging_face, _read_hugging_face),
    (_is_splits, _read_splits),
    (is_frame, _read_frame),
    (is_list, _read_list),
    (_is_pairs, _read_pairs),
)

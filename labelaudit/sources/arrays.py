"""Sources made of arrays in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError
from labelaudit.images.containers import Images, NoImages
from labelaudit.sources.annotators import VoteTexts, separate_annotators
from labelaudit.sources.classes import as_text, make_source, text_array
from labelaudit.sources.manifest import UNLABELED, VERIFIED, Source, Texts
from labelaudit.sources.values import as_images, as_labels
from labelaudit.sources.wording import repeated, some


def source_from_arrays(
    images: Any | None,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    sample_ids: Sequence[str] | None = None,
    clean_labels: Any = None,
    verified: npt.ArrayLike | None = None,
    name: str = "arrays",
) -> Source:
    """Make a source of images in memory, or of labels without images.

    Parameters
    ----------
    images : array or tensor (N, H, W), (N, H, W, C) or (N, C, H, W), list of images, or None
        uint8, or floats in [0, 1], which are rounded to uint8. C is 1 or 3, or 4 (with alpha) where
        the channels are last. The images of a list are arrays, tensors or PIL images, and may
        differ in size. An array of uint8 is not copied. None if the samples have no images, but
        features.
    labels : array, tensor, Series or sequence (N,)
        Integers, -1 where unlabeled; or strings, "" or None where unlabeled. Or a DataFrame or array
        (N, A) of the labels by A annotators; the label is then what most of them chose.
    class_names : sequence of str, optional
        For integer labels the name of each class, in order. For strings the allowed names, in the
        wanted order. By default the labels themselves, sorted.
    sample_ids : sequence of str, optional
        Unique names of the images. By default their row numbers.
    clean_labels : array or sequence (N,), optional
        True labels, in the form of `labels`.
    verified : array (N,) bool, optional
        Labels that a person has verified. They are taken as right.
    name : str
        What to call the source.

    Raises
    ------
    SourceError
        Shapes, types or ranges do not fit, ids repeat, or fewer than two classes have labels.
    """
    return source_of_images(
        NoImages(len(labels)) if images is None else as_images(images),
        labels,
        class_names=class_names,
        sample_ids=sample_ids,
        clean_labels=clean_labels,
        verified=verified,
        name=name,
    )


def source_of_images(
    images: Images,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    sample_ids: Sequence[str] | None = None,
    clean_labels: Any = None,
    verified: npt.ArrayLike | None = None,
    name: str = "arrays",
    paths: Texts | None = None,
) -> Source:
    """Make a source of images in any container.

    Parameters
    ----------
    images : Images
        N images.
    labels, class_names, sample_ids, clean_labels, verified, name
        See `source_from_arrays`.
    paths : array (N,) object of str, optional
        Paths of the images, if they are files.

    Raises
    ------
    SourceError
        Numbers or types do not fit, ids repeat, or fewer than two classes have labels.
    """
    total = len(images)
    declared = tuple(class_names or ())
    if len(set(declared)) < len(declared):
        raise SourceError(f"class_names repeat: {some(repeated(declared))}; make them unique")
    votes = None
    if (columns := separate_annotators(labels)) is not None:
        votes = VoteTexts.of(
            {
                annotator: _label_texts(column, total, declared, f"labels of {annotator}")
                for annotator, column in columns.items()
            },
            name,
        )
    texts = votes.labels if votes else _label_texts(labels, total, declared, "labels")
    clean = None
    if clean_labels is not None:
        clean = _label_texts(clean_labels, total, declared, "clean_labels")
    ids = [str(i) for i in (range(total) if sample_ids is None else sample_ids)]
    if len(ids) != total:
        raise SourceError(f"there are {len(ids)} sample_ids and {total} images; give one for each")
    if len(set(ids)) < total:
        raise SourceError(f"sample_ids repeat: {some(repeated(ids))}; make them unique")
    return make_source(
        name=name,
        where=name,
        ids=ids,
        paths=text_array([""] * total) if paths is None else paths,
        images=images,
        labels=texts,
        clean=clean,
        declared=declared,
        votes=votes,
        marks=None if verified is None else _array_marks(verified, total),
    )


def _label_texts(labels: Any, total: int, declared: tuple[str, ...], what: str) -> list[str]:
    """Return labels given from Python as text. Integers index `declared`, if that is not empty."""
    values = as_labels(labels, what)
    if len(values) != total:
        raise SourceError(f"there are {len(values)} {what} and {total} images; give one for each")
    known = set(declared)
    texts = []
    for row, value in enumerate(values):
        try:
            text = as_text(value)
        except TypeError as error:
            raise SourceError(f"{what}[{row}] is {error}") from error
        if not isinstance(value, str) and text.startswith("-"):
            if text != str(UNLABELED):
                raise SourceError(f"{what}[{row}] is {text}; give -1 for samples without a label")
            text = ""
        elif not isinstance(value, str) and text and declared:
            if not (text.isdecimal() and int(text) < len(declared)):
                raise SourceError(
                    f"{what}[{row}] is {text}, and there are {len(declared)} class_names"
                )
            text = declared[int(text)]
        elif text and declared and text not in known:
            raise SourceError(f'{what}[{row}] is "{text}", which is not among class_names')
        texts.append(text)
    return texts


def _array_marks(verified: npt.ArrayLike, total: int) -> list[str]:
    """Return a mask of verified labels as a table's marks."""
    return [VERIFIED if one else "" for one in checked_mask(verified, total).tolist()]


def checked_mask(verified: npt.ArrayLike, total: int) -> npt.NDArray[np.bool_]:
    """Return a mask (N,) bool of verified labels; SourceError if it has another shape or type."""
    mask = np.asarray(verified)
    if mask.shape != (total,) or mask.dtype != np.bool_:
        raise SourceError(
            f"verified has the shape {mask.shape} and holds {mask.dtype}; give one True or False for"
            f" each of the {total:,} labels"
        )
    return mask

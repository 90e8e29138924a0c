"""Sources from arrays in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError
from labelaudit.images.containers import ImageArrays, Images, NoImages
from labelaudit.sources.classes import as_text, make_source, text_array
from labelaudit.sources.manifest import UNLABELED, VERIFIED, Source
from labelaudit.sources.wording import repeated, some


def source_from_arrays(
    images: npt.ArrayLike | None,
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
    images : array (N, H, W) or (N, H, W, C), or None
        uint8, or floats in [0, 1], which are rounded to uint8. C is 1, 3 or 4 (with alpha).
        An array of uint8 is not copied. None where there are none, but features.
    labels : array or sequence (N,)
        Integers, -1 where unlabeled, or strings, "" or None where unlabeled.
    class_names : sequence of str, optional
        With integer labels the name of each class, in order; with strings the names allowed, in
        the order wanted. By default the labels themselves, sorted.
    sample_ids : sequence of str, optional
        Unique names of the images; by default their row numbers.
    clean_labels : array or sequence (N,), optional
        True labels, in the form of `labels`.
    verified : array (N,) bool, optional
        Labels that a person has verified; they are taken as right.
    name : str
        What to call the source.

    Raises
    ------
    SourceError
        Shapes, types or ranges do not fit, ids repeat, or fewer than two classes have labels.
    """
    found: Images
    if images is None:
        found = NoImages(len(labels))
    else:
        found = ImageArrays(_checked_pixels(np.asarray(images)))
    total = len(found)
    declared = tuple(class_names or ())
    if len(set(declared)) < len(declared):
        raise SourceError(f"class_names repeat: {some(repeated(declared))}; make them unique")
    texts = _array_labels(labels, total, declared, "labels")
    clean = (
        None
        if clean_labels is None
        else _array_labels(clean_labels, total, declared, "clean_labels")
    )
    ids = [str(i) for i in (range(total) if sample_ids is None else sample_ids)]
    if len(ids) != total:
        raise SourceError(f"there are {len(ids)} sample_ids and {total} images; give one for each")
    if len(set(ids)) < total:
        raise SourceError(f"sample_ids repeat: {some(repeated(ids))}; make them unique")
    return make_source(
        name=name,
        where=name,
        ids=ids,
        paths=text_array([""] * total),
        images=found,
        labels=texts,
        clean=clean,
        declared=declared,
        marks=None if verified is None else _array_marks(verified, total),
    )


def _checked_pixels(images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return images as (N, H, W) or (N, H, W, C) uint8."""
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        raise SourceError(
            f"images have the shape {images.shape}; give (N, H, W), or (N, H, W, C) with channels "
            "last and C in 1, 3, 4"
        )
    if 0 in images.shape:
        raise SourceError(f"no image found in an array of shape {images.shape}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise SourceError(f"images are {images.dtype}; give uint8, or floats in [0, 1]")
    pixels = np.empty(images.shape, np.uint8)
    # In blocks, for in one go the intermediate floats would take several times the images' memory.
    for start in range(0, len(images), 1024):
        block = images[start : start + 1024]
        if not ((block >= 0) & (block <= 1)).all():  # NaN fails too
            raise SourceError(
                f"images are floats from {block.min():g} to {block.max():g}; scale them to "
                "[0, 1], or give uint8"
            )
        pixels[start : start + 1024] = np.rint(block * 255)
    return pixels


def _array_labels(labels: Any, total: int, declared: tuple[str, ...], what: str) -> list[str]:
    """Return labels given from Python as text: numbers index `declared` where there is one."""
    # Lists are not made arrays: in ["cat", nan] NumPy would turn the NaN into the text "nan".
    values = list(labels) if isinstance(labels, list | tuple) else np.asarray(labels).tolist()
    if not isinstance(values, list) or len(values) != total:
        size = len(values) if isinstance(values, list) else 1
        raise SourceError(f"there are {size} {what} and {total} images; give one for each")
    known = set(declared)
    texts = []
    for row, value in enumerate(values):
        try:
            text = as_text(value)
        except TypeError as error:
            raise SourceError(f"{what}[{row}] is {error}") from error
        if not isinstance(value, str) and text.startswith("-"):
            if text != str(UNLABELED):
                raise SourceError(f"{what}[{row}] is {text}; give -1 where there is no label")
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
    """Return a mask (N,) bool of verified labels; SourceError where it is none."""
    mask = np.asarray(verified)
    if mask.shape != (total,) or mask.dtype != np.bool_:
        raise SourceError(
            f"verified has the shape {mask.shape} and holds {mask.dtype}; give one True or False for"
            f" each of the {total:,} labels"
        )
    return mask

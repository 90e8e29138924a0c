"""Values in memory (arrays, tensors, DataFrames, lists, PIL images) as NumPy arrays.

This imports neither torch nor Pillow, because a caller with such a value has imported them already.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError
from labelaudit.images.containers import ImageArrays, Pixels

CHANNELS_LAST = (1, 3, 4)
CHANNELS_FIRST = (1, 3)


def is_tensor(value: object) -> bool:
    """Return whether a value is a torch tensor, without importing torch."""
    return hasattr(value, "detach") and hasattr(value, "cpu")


def is_frame(value: object) -> bool:
    """Return whether a value is a table in memory: of pandas, polars or pyarrow."""
    pandas = hasattr(value, "columns") and hasattr(value, "iloc")
    return pandas or (hasattr(value, "to_pandas") and hasattr(value, "columns"))


def is_list(value: object) -> bool:
    """Return whether a value lists its samples one by one: a list, a tuple, or an array of objects."""
    objects = getattr(value, "dtype", None) == np.dtype(object)
    return isinstance(value, list | tuple) or objects


def as_frame(value: Any) -> Any:
    """Return a table of pandas, polars or pyarrow as a pandas DataFrame."""
    return value if hasattr(value, "iloc") else value.to_pandas()


def as_array(value: Any) -> npt.NDArray[Any]:
    """Return an array, tensor, PIL image or nested list as a NumPy array; copied only if needed.

    A tensor may be on any device. A PIL image becomes (H, W) or (H, W, 3) uint8. Its EXIF orientation
    is applied, and transparent pixels become white. Raises SourceError if rows of a list differ in
    length.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise SourceError(
            "an array has masked values; give one without them, such as array.filled(0)"
        )
    if isinstance(value, np.ndarray):
        return value
    if is_tensor(value):
        return _of_tensor(value)
    if _is_pil_image(value):
        from labelaudit.images.pillow import as_seen

        value.load()
        return np.asarray(as_seen(value))
    try:
        return np.asarray(value)
    except ValueError as error:
        raise SourceError(f"a list of unequal lengths is no array: {error}") from error


def _of_tensor(tensor: Any) -> npt.NDArray[Any]:
    try:
        plain = tensor.detach().cpu()
        # NumPy has no bfloat16.
        array: npt.NDArray[Any] = (
            plain.float() if str(plain.dtype) == "torch.bfloat16" else plain
        ).numpy()
        return array
    # Which of these torch raises depends on the kind of tensor: sparse, quantized, nested, meta.
    except (TypeError, RuntimeError) as error:
        kind = f"{getattr(tensor, 'layout', '')} {getattr(tensor, 'dtype', '')}".strip()
        raise SourceError(
            f"a tensor ({kind}) cannot be made an array; give a dense one on a device, such as"
            " tensor.to_dense() or tensor.dequantize()"
        ) from error


def _is_pil_image(value: object) -> bool:
    # A caller with such an image has imported Pillow.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def narrow_together(items: Sequence[Any]) -> Sequence[Any]:
    """Return items whose PIL images with more than 8 bits are scaled to 8, all by one range."""
    modes = [item.mode if _is_pil_image(item) else "" for item in items]
    if not any(mode.startswith("I") or mode == "F" for mode in modes):
        return items
    from labelaudit.images.gray_range import GrayRanges, is_wide
    from labelaudit.images.pillow import as_seen

    wide = [item for item, mode in zip(items, modes, strict=True) if is_wide(mode)]
    for image in wide:
        image.load()
    ranges = GrayRanges.of_loaded(wide)
    return [
        as_seen(item, ranges) if is_wide(mode) else item
        for item, mode in zip(items, modes, strict=True)
    ]


def as_features(values: Any, what: str) -> npt.NDArray[Any]:
    """Return features from an array, tensor, DataFrame or list of rows as an array (N, D).

    Raises SourceError if a column of the DataFrame is not of numbers, or rows differ in length.
    """
    if is_frame(values):
        return _numbers_of_frame(as_frame(values), what)
    if is_list(values):
        return _stacked([as_array(row) for row in values], what)
    return as_array(values)


def _numbers_of_frame(frame: Any, what: str) -> npt.NDArray[Any]:
    for name, kind in frame.dtypes.items():
        if getattr(kind, "kind", "O") not in "fiub":
            raise SourceError(
                f'the column "{name}" of {what} holds {kind} and not numbers; leave it out, or audit'
                " the table itself with tabular=True"
                f", or its texts with text_column={str(name)!r}"
            )
    values: npt.NDArray[Any] = frame.to_numpy()
    if values.dtype.kind not in "fiu":  # columns of several types, or with missing values
        values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _stacked(rows: Sequence[npt.NDArray[Any]], what: str) -> npt.NDArray[Any]:
    """Return rows (D,) as (N, D)."""
    for number, row in enumerate(rows):
        if row.shape != rows[0].shape:
            raise SourceError(
                f"row {number} of {what} has the shape {row.shape} and row 0 has {rows[0].shape};"
                " all rows need the same number of values"
            )
    return np.stack(rows) if rows else np.empty((0, 0))


# --- images ------------------------------------------------------------------------------------


def as_images(images: Any) -> ImageArrays:
    """Return images from an array, a tensor or a list; see `source_from_arrays`.

    Raises SourceError if shapes, types or ranges do not fit.
    """
    if is_list(images):
        if not len(images):
            raise SourceError("no image found in an empty list")
        images = narrow_together(images)
        return ImageArrays([as_pixels(one, f"image {row}") for row, one in enumerate(images)])
    return ImageArrays(_checked_pixels(as_array(images), "images"))


def as_pixels(image: Any, what: str) -> Pixels:
    """Return one image, (H, W), (H, W, C) or (C, H, W), as (H, W) or (H, W, C) uint8.

    Parameters
    ----------
    image : array, tensor or PIL image
        uint8, or floats in [0, 1].
    what : str
        Name of the image in messages.

    Raises
    ------
    SourceError
        The shape, the type or the range does not fit.
    """
    pixels: Pixels = _checked_pixels(as_array(image)[None], what)[0]
    return pixels


def _checked_pixels(images: npt.NDArray[Any], what: str) -> Pixels:
    """Return images (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, H, W) or (N, H, W, C) uint8."""
    given = images.shape
    if images.ndim == 4 and given[3] not in CHANNELS_LAST and given[1] in CHANNELS_FIRST:
        images = images.transpose(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in CHANNELS_LAST):
        wanted = "(N, H, W), (N, H, W, C) or (N, C, H, W)"
        if what != "images":
            given, wanted = given[1:], "(H, W), (H, W, C) or (C, H, W)"
        raise SourceError(
            f"{what}: the shape is {given}; give {wanted} with C = 1 or 3, or 4 where the channels"
            " are last"
        )
    if 0 in images.shape:
        raise SourceError(f"no image found in an array of shape {given}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise SourceError(f"{what}: the type is {images.dtype}; give uint8, or floats in [0, 1]")
    pixels = np.empty(images.shape, np.uint8)
    # In blocks, because the intermediate floats would take several times the memory of the images.
    for start in range(0, len(images), 1024):
        block = images[start : start + 1024]
        if not ((block >= 0) & (block <= 1)).all():  # NaN fails too
            raise SourceError(
                f"{what}: the floats go from {block.min():g} to {block.max():g}; scale them to"
                " [0, 1], without a transform that standardizes, or give uint8"
            )
        pixels[start : start + 1024] = np.rint(block * 255)
    return pixels


# --- labels ------------------------------------------------------------------------------------


def as_labels(labels: Any, what: str = "labels") -> list[Any]:
    """Return labels from a list, array, tensor or Series as a list of Python values.

    Raises SourceError if they are a matrix, such as one-hot rows, or no sequence.
    """
    if isinstance(labels, Iterator):
        labels = list(labels)
    if isinstance(labels, str | bytes | Mapping | Set) or not hasattr(labels, "__len__"):
        raise SourceError(
            f"{what} is of the type {type(labels).__name__}; give one label per sample"
        )
    if isinstance(labels, list | tuple):
        # Lists are not made arrays: in ["cat", nan] NumPy would turn the NaN into the text "nan".
        values = [value.item() if getattr(value, "ndim", None) == 0 else value for value in labels]
        if not _are_rows(values):
            return values
        labels = [as_array(row) for row in values]
    array = labels if isinstance(labels, np.ndarray) else as_array(labels)  # masked: unlabeled
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim > 1:
        raise SourceError(
            f"{what} have the shape {array.shape}; give one label per sample, such as"
            f" {what}.argmax(1) of one-hot rows"
        )
    listed = array.tolist()
    return listed if isinstance(listed, list) else [listed]


def _are_rows(values: Iterable[Any]) -> bool:
    """Return whether all values are rows of numbers, as in a one-hot matrix."""
    return all(isinstance(value, list | tuple) or getattr(value, "ndim", 0) for value in values)

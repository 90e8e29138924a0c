"""Class probabilities of a user's own models: read as arrays, and checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from labelaudit.errors import SourceError
from labelaudit.sources.values import as_array
from labelaudit.sources.wording import some
from labelaudit.suspects.calibration import calibrating_exponent, log_of
from labelaudit.suspects.label_model import blocks

# Sums of rows may differ from 1 by this much, as for 16-bit floats. Above the second number, a warning
# says that the rows were normalized.
SUM_TOLERANCE = 1e-3
SUM_ROUNDING = 1e-5
# A model was most likely trained on the labels that it predicts if it agrees with all but this share of
# them, or if its calibrating exponent is at least this.
DISAGREES_TOO_RARELY, TOO_UNCERTAIN = 0.001, 4.0
LEAST_TO_NOTICE = 200
# A class with this many labels should be predicted at least once.
NEVER_LABELS = 20


def read_models(pred_probs: Any) -> tuple[npt.NDArray[Any], ...]:
    """Convert predictions to arrays.

    Parameters
    ----------
    pred_probs
        An array, DataFrame or Tensor ``(N, C)``, or a list or an array ``(M, N, C)`` of several.

    Returns
    -------
    tuple of np.ndarray
        One array of floats ``(N, C)`` per model, maybe memory-mapped.

    Raises
    ------
    SourceError
        If they are not numbers, do not have such a shape, or differ in shape.
    """
    models = [_as_probs(one) for one in separate_models(pred_probs)]
    if any(model.shape != models[0].shape for model in models):
        shapes = ", ".join(str(model.shape) for model in models)
        raise SourceError(
            f"the models' predictions have different shapes: {shapes}; give the same rows and columns"
        )
    return tuple(models)


def separate_models(pred_probs: Any) -> list[Any]:
    """Return the predictions of each model, one by one, in the form in which they were given.

    Parameters
    ----------
    pred_probs
        See `read_models`; also a path, or a list of paths.
    """
    if isinstance(pred_probs, list | tuple) and len(pred_probs):
        first = pred_probs[0]
        several = isinstance(first, str | Path) or np.ndim(as_array(first)) == 2
    else:
        several = getattr(pred_probs, "ndim", 0) == 3
    return list(pred_probs) if several else [pred_probs]


def _as_probs(given: Any) -> npt.NDArray[Any]:
    """Return the predictions of one model as an array of floats ``(N, C)``."""
    if np.ma.is_masked(given):
        raise SourceError("pred_probs have masked values; leave those samples out")
    try:
        values = as_array(given)
        if not np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise SourceError(
            "pred_probs are no table of numbers; give an array (N, C) with one row per label and one"
            " column per class"
        ) from error
    if values.ndim != 2 or 0 in values.shape or values.shape[1] < 2:
        raise SourceError(
            f"pred_probs have the shape {values.shape}; give (N, C): one row per label, and one"
            " column per class for at least two classes"
        )
    if str(getattr(given, "dtype", "")) == "torch.bfloat16":
        # bfloat16 has eight bits: sums are off by more than `SUM_TOLERANCE`.
        values = values / values.sum(axis=-1, keepdims=True)
    return values


def check_index(labels: Any, others: Iterable[Any]) -> None:
    """Raise `SourceError` where pandas objects as long as the labels have another index."""
    if not isinstance(labels, pd.Series):
        return
    for frame in others:
        if not isinstance(frame, pd.DataFrame | pd.Series) or len(frame) != len(labels):
            continue
        if not frame.index.equals(labels.index):
            raise SourceError(
                "labels have another index than pred_probs, features or verified, so their rows may"
                " belong to different samples; give pred_probs.loc[labels.index], or arrays without an"
                " index"
            )


def check_labels(given: npt.NDArray[np.int64]) -> None:
    """Raise `SourceError` if labels ``(N,)``, -1 where unlabeled, have fewer than two classes."""
    labels = given[given >= 0]
    if not len(labels):
        raise SourceError("none of the labels is one of the predictions' classes")
    if (labels == labels[0]).all():
        raise SourceError("all labels are of one class; at least two are needed")


def check_probs(models: tuple[npt.NDArray[Any], ...], names: Sequence[str] = ()) -> list[str]:
    """Check that predictions are probabilities, a block at a time; return warnings, one line each.

    Raises SourceError if they are no probabilities; the message says what they seem to be.
    """
    warnings = []
    for number, model in enumerate(models):
        usual = "pred_probs" if len(models) == 1 else f"pred_probs[{number}]"
        name = names[number] if number < len(names) else usual
        off = max(_check_block(model, part, name) for part in blocks(*model.shape))
        if off > SUM_ROUNDING:
            warnings.append(f"rows of {name} sum to 1 only within {off:.1g}; they were normalized")
    return warnings


def _check_block(model: npt.NDArray[Any], part: slice, name: str) -> float:
    """Raise if rows are no probabilities; otherwise return the largest distance of a sum from 1."""
    block = np.asarray(model[part])
    sums = block.sum(axis=1, dtype=np.float64)
    off = np.abs(sums - 1.0)
    wrong = ~(off <= SUM_TOLERANCE) | (block.min(axis=1) < 0.0)  # NaN is wrong too
    if not wrong.any():
        return float(off.max())
    row = int(np.flatnonzero(wrong)[0])
    values, place = block[row].astype(np.float64), part.start + row
    if not np.isfinite(values).all():
        raise SourceError(
            f"row {place} of {name} holds {values[~np.isfinite(values)][0]}; predictions must be finite"
        )
    if (values <= 0).all() and abs(np.exp(values).sum() - 1.0) <= 10 * SUM_TOLERANCE:
        raise SourceError(f"{name} holds logarithms of probabilities; give numpy.exp of them")
    if values.min() >= 0 and abs(values.sum() - 100.0) < 1.0:
        raise SourceError(f"{name} holds percentages; divide them by 100")
    if values.min() < 0 or values.max() > 1.0 + SUM_TOLERANCE:
        worst = values.min() if values.min() < 0 else values.max()
        raise SourceError(
            f"row {place} of {name} holds {worst:.3g}, which is no probability; if these are logits,"
            " give scipy.special.softmax(logits, axis=1)"
        )
    raise SourceError(
        f"row {place} of {name} sums to {values.sum():.4g}, not to 1; give the probability of each"
        " class, one column per class"
    )


OUT_OF_SAMPLE = "Give out-of-sample predictions, for example by scikit-learn's cross_val_predict"


def in_sample_warnings(
    models: tuple[npt.NDArray[Any], ...],
    labels: npt.NDArray[np.int64],
    sample: npt.NDArray[np.int64],
) -> list[str]:
    """Warn of models ``(N, C)`` that look as if they were trained on the labels.

    Rows `sample` ``(n,)`` are tested, whose given labels are `labels` ``(n,)``.
    """
    if len(sample) < LEAST_TO_NOTICE:
        return []
    which = "the predictions" if len(models) == 1 else "predictions of one of the models"
    warnings = []
    for model in models:
        log_probs = log_of(np.asarray(model[sample], dtype=np.float64))
        agreement = float((log_probs.argmax(axis=1) == labels).mean())
        uncertain = calibrating_exponent(log_probs, labels) >= TOO_UNCERTAIN
        if agreement >= 1.0 - DISAGREES_TOO_RARELY:
            warnings.append(
                f"{which} agree with {agreement:.1%} of the labels, more than a model could that has"
                " not seen them. It was most likely trained on these labels, and then misses their"
                f" mistakes. {OUT_OF_SAMPLE}"
            )
        elif uncertain:
            warnings.append(
                f"{which} agree with {agreement:.1%} of the labels, and are far less sure than that. If"
                f" the model was trained on these labels, it misses their mistakes. {OUT_OF_SAMPLE}."
                " Otherwise give probabilities without a high temperature, which hides what is known"
            )
    return warnings


def never_predicted_warnings(
    predicted: npt.NDArray[np.int64], given: npt.NDArray[np.int64], class_names: tuple[str, ...]
) -> list[str]:
    """Warn of classes that have labels, `given` ``(N,)``, but are not among `predicted` ``(N,)``."""
    size = len(class_names)
    labels = np.bincount(given[given >= 0], minlength=size)
    never = np.flatnonzero((labels >= NEVER_LABELS) & (np.bincount(predicted, minlength=size) == 0))
    if not len(never):
        return []
    classes, count = some([class_names[number] for number in never]), labels[never].sum()
    return [
        f"no sample is predicted as {classes}, but {count:,} samples have this label; check that the"
        " columns of the predictions are in the order of the classes"
    ]

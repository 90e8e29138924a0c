"""Labels scored by class probabilities of a user's own models; nothing is trained.

`labelaudit.find_label_issues` takes arrays, and ``labelaudit scan --pred-probs`` takes files. Both call
`check_predictions` and `assess_labels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from labelaudit.errors import OptionError, SourceError
from labelaudit.images.store import make_store
from labelaudit.sources.manifest import Verified
from labelaudit.sources.values import as_array
from labelaudit.suspects.calibration import calibrating_exponent, log_of
from labelaudit.suspects.cross_fitting import cross_fit_classifiers
from labelaudit.suspects.decision import Decision, decide
from labelaudit.suspects.feature_classifiers import enough_labels
from labelaudit.suspects.feature_range import in_range
from labelaudit.suspects.label_model import blocks, fit_rows
from labelaudit.suspects.prediction_checks import (
    check_labels,
    check_probs,
    in_sample_warnings,
    never_predicted_warnings,
)
from labelaudit.suspects.scores import Scores, score_out_of_sample
from labelaudit.suspects.table import Predicted
from labelaudit.suspects.trust import Trust, assess_trust, few_labels_warning
from labelaudit.suspects.votes import trust_votes

# Each of several models is weighted by this power of its gain in log-likelihood over class frequencies.
POOLING_POWER = 4
ADVICE = (
    "Predictions of a better model may help. Also check that the rows and columns of the predictions"
    " are in the order of the labels and classes."
)
# Classifiers of features need several arrays with this many probabilities in memory, 512 MiB each.
MOST_VALUES_BESIDE_FEATURES = 1 << 27


@dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of one or more models for the same N samples, read a block at a time.

    Attributes
    ----------
    models
        M arrays ``(N, C)`` of floats, maybe memory-mapped; checked.
    predicted
        The likeliest class of each sample, and its probability.
    exponents
        ``(M,)``, factors of each model's log P in their sum.
    warnings
        One line each.
    """

    models: tuple[npt.NDArray[Any], ...]
    predicted: Predicted
    exponents: npt.NDArray[np.float64]
    warnings: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return int(self.models[0].shape[1])

    def log_probs(self, rows: Any) -> npt.NDArray[np.floating]:
        """Return log P of some samples, pooled over models: ``(B, C)``, rows of exp sum to 1."""
        if len(self.models) == 1:
            return log_of(np.asarray(self.models[0][rows]))
        return _pool(self.models, self.exponents, rows)

    def probs(self) -> npt.NDArray[Any]:
        """Return P of all samples, ``(N, C)``: the array of a single model itself, or the pooled P."""
        if len(self.models) == 1:
            return self.models[0]
        pooled = make_store(self.models[0].shape, np.float32)
        for part in blocks(len(pooled), self.num_classes):
            pooled[part] = np.exp(self.log_probs(part))
        return pooled


def _pool(
    models: tuple[npt.NDArray[Any], ...], exponents: npt.NDArray[np.float64], rows: Any
) -> npt.NDArray[np.floating]:
    """Sum several models' log P with weights, and normalize: ``(B, C)`` float32."""
    total = sum(
        np.float32(exponent) * log_of(np.asarray(model[rows], dtype=np.float32))
        for model, exponent in zip(models, exponents, strict=True)
    )
    assert isinstance(total, np.ndarray)
    total -= logsumexp(total, axis=1, keepdims=True)
    return total


def _pooling_exponents(
    models: tuple[npt.NDArray[Any], ...],
    labels: npt.NDArray[np.int64],
    sample: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Calibrate each model to the given labels, and weigh it by its gain in log-likelihood."""
    rows = np.arange(len(sample))
    shares = np.bincount(labels) / len(labels)
    chance = float(np.log(shares[labels]).mean())
    exponents, gains = np.empty(len(models)), np.empty(len(models))
    for number, model in enumerate(models):
        log_probs = log_of(np.asarray(model[sample], dtype=np.float64))
        exponents[number] = calibrating_exponent(log_probs, labels)
        calibrated = exponents[number] * log_probs
        calibrated -= logsumexp(calibrated, axis=1, keepdims=True)
        gains[number] = max(float(calibrated[rows, labels].mean()) - chance, 1e-6)
    weights = (gains / gains.max()) ** POOLING_POWER
    return np.asarray(exponents * weights / weights.sum())


def check_predictions(
    models: tuple[npt.NDArray[Any], ...],
    given: npt.NDArray[np.int64],
    class_names: tuple[str, ...],
    names: Sequence[str] = (),
) -> Predictions:
    """Check class probabilities a block at a time, and find the class that each sample is predicted as.

    Parameters
    ----------
    models
        From `read_models`.
    given
        ``(N,)`` int64 in 0..C-1, -1 where unlabeled.
    class_names
        Names of the C columns.
    names
        What to call each model's predictions in messages.

    Raises
    ------
    SourceError
        If they are no probabilities, or fewer than two classes have labels.
    """
    check_labels(given)
    warnings = check_probs(models, names)
    size, classes = models[0].shape
    labeled = np.flatnonzero(given >= 0)
    sample = labeled[fit_rows(len(labeled), classes, 0)]
    warnings += in_sample_warnings(models, given[sample], sample)
    exponents = np.ones(len(models))
    if len(models) > 1:
        exponents = _pooling_exponents(models, given[sample], sample)
    predictions = Predictions(models, Predicted(np.empty(0), np.empty(0)), exponents)
    predicted = np.empty(size, dtype=np.int64)
    probs = np.empty(size, dtype=np.float32)
    for part in blocks(size, classes):
        block = (
            np.asarray(models[0][part]) if len(models) == 1 else np.exp(predictions.log_probs(part))
        )
        predicted[part] = block.argmax(axis=1)
        probs[part] = block.max(axis=1)
    warnings += never_predicted_warnings(predicted, given, class_names)
    return replace(predictions, predicted=Predicted(predicted, probs), warnings=tuple(warnings))


def add_features(
    predictions: Predictions,
    features: Any,
    given: npt.NDArray[np.int64],
    class_names: tuple[str, ...],
    *,
    seed: int,
    verified: Verified | None = None,
) -> Predictions:
    """Cross-fit classifiers on features, and pool them with the predictions as one more model.

    Parameters
    ----------
    predictions
        From `check_predictions`.
    features
        ``(N, D)`` floats.
    given
        ``(N,)`` int64 in 0..C-1, -1 where unlabeled.
    class_names
        Names of the C columns.
    seed
        Seed of the folds.
    verified
        Which of the labels that are not -1 are verified.

    Raises
    ------
    SourceError, OptionError
        If the features cannot be used, or would need too much memory.
    """
    size, classes = predictions.models[0].shape
    try:
        values = np.ascontiguousarray(as_array(features), dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise SourceError("features are no table of numbers; give an array (N, D)") from error
    if values.ndim != 2 or len(values) != size or not values.shape[1]:
        raise SourceError(
            f"features have the shape {values.shape} and there are {size:,} labels; give (N, D)"
        )
    if size * classes > MOST_VALUES_BESIDE_FEATURES:
        raise OptionError(
            f"{size:,} samples of {classes:,} classes are too many for classifiers of features; leave"
            " features out"
        )
    rows = np.flatnonzero(given >= 0)
    if not enough_labels(len(rows)):
        note = (
            f"features were left out, because {len(rows)} labels are too few to train classifiers"
        )
        return replace(predictions, warnings=(*predictions.warnings, note))
    if not np.isfinite(values[rows]).all():
        raise SourceError("features hold NaN or infinite numbers; leave those samples out")
    values = in_range(values, rows)
    probs = np.exp(predictions.log_probs(rows)).astype(np.float32)
    added = np.array(predictions.probs(), dtype=np.float32)  # kept where unlabeled
    added[rows] = cross_fit_classifiers(values, given, probs, seed=seed, verified=verified).probs
    checked = check_predictions((*predictions.models, added), given, class_names)
    return replace(checked, warnings=predictions.warnings)


@dataclass(frozen=True, eq=False)
class Assessment:
    """Scores and flags of the L labels, in order, and whether to trust them."""

    scores: Scores
    decision: Decision
    trust: Trust


def assess_labels(
    predictions: Predictions,
    given: npt.NDArray[np.int64],
    class_names: tuple[str, ...],
    *,
    threshold: str,
    seed: int,
    verified: Verified | None = None,
    votes: npt.NDArray[np.int64] | None = None,
) -> Assessment:
    """Score and flag labels by a user's own predictions.

    Parameters
    ----------
    predictions
        From `check_predictions`.
    given
        ``(N,)`` int64 in 0..C-1, -1 where unlabeled.
    class_names
        Names of the C columns.
    threshold, seed
        See `labelaudit.find_label_issues`.
    verified
        Which of the labels that are not -1 are verified.
    votes
        ``(N, A)`` int64, the labels of A annotators, -1 where there is none, if `given` are their
        majority.
    """
    rows = np.flatnonzero(given >= 0)
    every = len(rows) == len(given)

    def read(part: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        return predictions.log_probs(part if every else rows[part])

    several = len(predictions.models) > 1
    scores = score_out_of_sample(
        read,
        given[rows],
        predictions.num_classes,
        None,
        seed=seed,
        name="predictions and label model",
        explanation=(
            "Each label is compared with your predictions"
            + (f", averaged over {len(predictions.models)} models" if several else "")
            + ". A model of the mistakes is estimated from all labels together. It separates samples"
            " that are hard to label from labels that are wrong. The score is the resulting probability"
            " that the label is wrong."
        ),
        verified=verified,
        votes=None if votes is None else votes[rows],
    )
    trust = assess_trust(
        predictions.predicted.classes[rows],
        given[rows],
        class_names,
        class_uncertainty=float(scores.class_uncertainty.mean()),
        advice=ADVICE,
    )
    return Assessment(scores, decide(scores, threshold), trust_votes(trust, votes))


def sparse_warnings(given: npt.NDArray[np.int64], class_names: tuple[str, ...]) -> list[str]:
    """Warn of classes that have labels in `given` ``(N,)``, -1 where unlabeled, but too few."""
    labels = given[given >= 0]
    used = np.flatnonzero(np.bincount(labels, minlength=len(class_names)))
    warning = few_labels_warning(
        np.searchsorted(used, labels), tuple(class_names[number] for number in used)
    )
    return [] if warning is None else [warning]

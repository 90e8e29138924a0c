"""Labels judged by predictions that somebody brings along: nothing is trained.

`find_label_issues` takes arrays and gives a data frame; `labelaudit scan --pred-probs` writes a run
folder (`labelaudit.prediction_scan`). Both go through `assess_labels`.
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logsumexp

from labelaudit.errors import (
    LabelauditWarning,
    OptionError,
    SourceError,
    UntrustedResultWarning,
)
from labelaudit.images.decode import NoImages
from labelaudit.images.store import make_store
from labelaudit.sources.manifest import (
    UNLABELED,
    Manifest,
    Verified,
    as_text,
    checked_mask,
    some,
    text_array,
)
from labelaudit.suspects.cross_fitting import cross_fit_classifiers, enough_labels
from labelaudit.suspects.decision import (
    Decision,
    Trust,
    assess_trust,
    decide,
    few_labels_warning,
)
from labelaudit.suspects.label_model import (
    blocks,
    calibrating_exponent,
    fit_rows,
    log_of,
)
from labelaudit.suspects.scores import Scores, score_out_of_sample
from labelaudit.suspects.summary import summarize
from labelaudit.suspects.table import Predicted, samples_table

# Rows may miss a sum of 1 by so much, as those of 16-bit floats do; they are normalized then.
SUM_TOLERANCE = 1e-3
SUM_ROUNDING = 1e-5
# Several models are averaged in the logarithm. Each weighs as this power of how much better than chance
# it predicts the given labels.
POOLING_POWER = 4
# A model has most likely been trained on the very labels that it predicts if it agrees with all but
# this share of them, or if it would have to be this much surer to be as right about them as it is.
AGREES_TOO_OFTEN, TOO_SHY = 0.001, 4.0
LEAST_TO_TELL = 200
# A class of so many labels should be predicted at least once.
NEVER_LABELS = 20
NO_CODE = -(2**62)  # what no label can be
ADVICE = (
    "Predictions of a better model may help. Check as well that their rows and columns are those of the"
    " labels."
)
# Classifiers of features hold several arrays of so many probabilities in memory, 512 MiB each.
MOST_VALUES_BESIDE_FEATURES = 1 << 27


class LabelIssues(pd.DataFrame):
    """What `find_label_issues` gives: a data frame in the order of the samples, with a summary.

    Attributes
    ----------
    summary : dict
        Counts, the expected number of wrong labels and its interval, what the mistakes are like,
        what was assumed, and whether it can be trusted; keys as in summary.json (docs/run-folder.md).
    """

    _metadata = ["summary"]  # noqa: RUF012 - pandas' own way to carry attributes along

    summary: dict[str, Any]

    @property
    def _constructor(self) -> type[LabelIssues]:
        return LabelIssues

    def __repr__(self) -> str:
        return self._headline() + super().__repr__()

    def _repr_html_(self) -> str | None:
        table: str | None = super()._repr_html_()  # type: ignore[misc]
        return None if table is None else f"<p>{html.escape(self._headline())}</p>{table}"

    def _headline(self) -> str:
        summary = getattr(self, "summary", None)
        if not summary:
            return ""
        found = f"{summary['num_suspects']:,} of {summary['num_labeled']:,} labels look wrong"
        if not summary["trust"]["trustworthy"]:
            found += f". DO NOT TRUST THIS: {summary['trust']['reasons'][0]}"
        return found + "\n"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of one or more models for the same N samples, read a block at a time.

    Attributes
    ----------
    models
        Each ``(N, C)`` floats, maybe memory-mapped; checked.
    predicted
        The likeliest class by all of them together, and its probability.
    exponents
        ``(M,)``, what each model's logarithms are multiplied with before they are added.
    warnings
        One line each.
    """

    models: tuple[npt.NDArray[Any], ...]
    predicted: Predicted
    exponents: npt.NDArray[np.float64]
    warnings: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.models[0].shape[1])

    def log_probs(self, rows: Any) -> npt.NDArray[np.floating]:
        """Give log P of some samples by all models together, ``(B, C)``, rows of exp sum to 1."""
        if len(self.models) == 1:
            return log_of(np.asarray(self.models[0][rows]))
        return _pool(self.models, self.exponents, rows)

    def probs(self) -> npt.NDArray[Any]:
        """Give P of all samples, ``(N, C)``: the model's own array, or the average of several."""
        if len(self.models) == 1:
            return self.models[0]
        averaged = make_store(self.models[0].shape, np.float32)
        for part in blocks(len(averaged), self.num_classes):
            averaged[part] = np.exp(self.log_probs(part))
        return averaged


@dataclass(frozen=True, eq=False)
class Assessment:
    """What is said of brought-along predictions' labels: of the L labeled samples, in order."""

    scores: Scores
    decision: Decision
    trust: Trust


def find_label_issues(
    labels: Any,
    pred_probs: Any,
    *,
    features: npt.ArrayLike | None = None,
    classes: Sequence[Any] | None = None,
    verified: npt.ArrayLike | None = None,
    threshold: str = "auto",
    seed: int = 0,
) -> LabelIssues:
    """Find the labels that look wrong to predictions of your own.

    The predictions must be out of sample: of a model that was not trained on the label that it
    predicts, for example by cross-validation (`sklearn.model_selection.cross_val_predict`).

    Parameters
    ----------
    labels : array, list or Series (N,)
        Given labels: class numbers 0..C-1, or names. -1, None, NaN and "" are unlabeled.
    pred_probs : array, DataFrame or Tensor (N, C), or a list of several
        Class probabilities, rows sum to 1; float16, float32 or float64, maybe memory-mapped.
        Several models' predictions are averaged, which mostly finds more than the best of them.
    features : array (N, D), optional
        Embeddings of the samples. A linear classifier and a vote of the nearest samples are then
        cross-fitted on them, and averaged with the predictions.
    classes : sequence of C, optional
        What the columns of `pred_probs` are called. By default a DataFrame's columns; else the class
        numbers; for labels that are names, the names in sorted order.
    verified : array (N,) of bool, optional
        Labels that a person has verified. They are taken as right: never flagged, and not expected
        to be wrong. Where many suspects were corrected, fewer of the other wrong labels are found:
        `labelaudit.scan` with ``reviewed`` knows what was given at first.
    threshold : str
        Which labels are flagged: "auto" for those more likely wrong than right, a score from 0 to 1,
        "top:K", or "rate:R" with a share R.
    seed : int
        Decides which samples the model of the labels is fitted to where there are very many.

    Returns
    -------
    LabelIssues
        A data frame with one row per sample, in their order (and with the index of `labels` if that
        is a Series): ``sample_id, given_label, predicted_label, predicted_prob, suggested_label,
        suggested_prob, suspect_score, label_score, is_label_issue, rank, ambiguity, trusted``, with
        `verified` the column ``verified``; and ``.summary``.

    Raises
    ------
    SourceError
        The predictions or labels cannot be used, or do not fit together; the message says how to
        mend it.
    OptionError
        The threshold is not understood.

    Warns
    -----
    UntrustedResultWarning
        The result should not be trusted.
    LabelauditWarning
        Predictions were normalized, or look as if the model had been trained on the labels.
    """
    models = read_models(pred_probs)
    _check_index(labels, [*_listed(pred_probs), features, verified])
    class_names, columns_named = _class_names(classes, pred_probs, models[0].shape[1])
    given, class_names, notes = encode_labels(
        labels, class_names, models[0].shape[1], columns_named=columns_named
    )
    if len(given) != len(models[0]):
        raise SourceError(
            f"there are {len(given):,} labels and {len(models[0]):,} rows of predictions; give one row"
            " for each label"
        )
    known = None
    if verified is not None:
        known = Verified.of_mask(checked_mask(verified, len(given))[given >= 0])
    predictions = check_predictions(models, given, class_names)
    if features is not None:
        predictions = add_features(
            predictions, features, given, class_names, seed=seed, verified=known
        )
    told = [*notes, *predictions.warnings, *sparse_warnings(given, class_names)]
    judged = assess_labels(
        predictions, given, class_names, threshold=threshold, seed=seed, verified=known
    )
    index = labels.index if isinstance(labels, pd.Series) else pd.RangeIndex(len(given))
    manifest = Manifest(
        name="predictions",
        sample_ids=text_array([str(value) for value in index]),
        paths=text_array([""] * len(given)),
        noisy_labels=given,
        class_names=class_names,
        images=NoImages(len(given)),
    )
    table = LabelIssues(
        samples_table(
            manifest,
            judged.scores,
            judged.decision,
            predictions.predicted,
            trusted=judged.trust.trustworthy,
        ).drop(columns=["path", "first_label"], errors="ignore")
    )
    table.index = index
    table.summary = summarize(manifest, judged.scores, judged.decision, judged.trust)
    table.summary["warnings"] = told
    for line in told:
        warnings.warn(line, LabelauditWarning, stacklevel=2)
    warn_of_distrust(table.summary["trust"], stacklevel=3)
    return table


def sparse_warnings(given: npt.NDArray[np.int64], class_names: tuple[str, ...]) -> list[str]:
    """Say which classes have too few labels to be judged well."""
    labels = given[given >= 0]
    used = np.flatnonzero(np.bincount(labels, minlength=len(class_names)))
    told = few_labels_warning(
        np.searchsorted(used, labels), tuple(class_names[number] for number in used)
    )
    return [] if told is None else [told]


def warn_of_distrust(trust: Mapping[str, Any], *, stacklevel: int) -> None:
    """Warn a Python user of a result that should not be trusted; `trust` is that of its summary."""
    if not trust["trustworthy"]:
        warnings.warn(
            f"do not trust this result. {trust['reasons'][0]}",
            UntrustedResultWarning,
            stacklevel=stacklevel,
        )


def assess_labels(
    predictions: Predictions,
    given: npt.NDArray[np.int64],
    class_names: tuple[str, ...],
    *,
    threshold: str,
    seed: int,
    verified: Verified | None = None,
) -> Assessment:
    """Judge labels by predictions that were brought along.

    Parameters
    ----------
    predictions
        Checked.
    given
        ``(N,)`` int64 in 0..C-1, -1 where unlabeled.
    class_names
        Of the C columns.
    threshold, seed
        See `find_label_issues`.
    verified
        Of the labels that are not -1.
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
            "A label is judged by predictions that were brought along"
            + (f", of {len(predictions.models)} models averaged" if several else "")
            + ". What a sample is, and what people say of it, are told apart. Which mistakes the labels"
            " contain is estimated from all of them together; the score is the probability that follows"
            " that this label is wrong."
        ),
        verified=verified,
    )
    decision = decide(scores, threshold)
    trust = assess_trust(
        predictions.predicted.classes[rows],
        given[rows],
        class_names,
        class_uncertainty=float(scores.class_uncertainty.mean()),
        advice=ADVICE,
    )
    return Assessment(scores, decision, trust)


# --- labels --------------------------------------------------------------------------------------


def _class_names(
    classes: Sequence[Any] | None, pred_probs: Any, num_classes: int
) -> tuple[tuple[str, ...] | None, bool]:
    """Give the columns' names if they were given, and whether a data frame gave them."""
    frames = [one for one in _listed(pred_probs) if isinstance(one, pd.DataFrame)]
    if any(list(one.columns) != list(frames[0].columns) for one in frames):
        raise SourceError(
            "the data frames of predictions have different columns; give them the same, in the"
            " same order"
        )
    told = None if classes is None else _names(classes, "classes")
    columns = None
    if frames and not frames[0].columns.equals(pd.RangeIndex(num_classes)):
        columns = _names(frames[0].columns, "columns of pred_probs")
    if told is not None and columns is not None and told != columns and set(told) & set(columns):
        raise SourceError(
            "classes are in another order than the columns of pred_probs, or not the same; leave"
            " classes"
            " out, for the columns have names"
        )
    names = columns if told is None else told
    if names is None:
        return None, False
    if len(names) != num_classes:
        raise SourceError(
            f"there are {len(names)} classes and {num_classes} columns of predictions; name each column"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SourceError(f"classes repeat: {some(repeated)}; make them unique")
    return names, told is None


def _names(values: Any, what: str) -> tuple[str, ...]:
    if isinstance(values, str | set | frozenset) or not np.iterable(values):
        raise SourceError(f"{what} are a {type(values).__name__}; give a list of names in order")
    try:
        return tuple(as_text(name) for name in values)
    except TypeError as error:
        raise SourceError(f"one of the {what} is {error}; give names") from error


def _listed(pred_probs: Any) -> list[Any]:
    return list(pred_probs) if isinstance(pred_probs, list | tuple) else [pred_probs]


def encode_labels(
    labels: Any,
    class_names: tuple[str, ...] | None,
    num_classes: int,
    *,
    columns_named: bool = False,
) -> tuple[npt.NDArray[np.int64], tuple[str, ...], list[str]]:
    """Turn labels into columns of predictions.

    Parameters
    ----------
    labels
        ``(N,)``, numbers or names; see `find_label_issues`.
    class_names
        Of the columns, if they have names.
    num_classes
        C.
    columns_named
        Whether a data frame gave the names, for messages.

    Returns
    -------
    tuple
        ``(N,)`` int64 with -1 where unlabeled, the C names, and lines to tell.

    Raises
    ------
    SourceError
        A label is no column.
    """
    if class_names is None and isinstance(getattr(labels, "dtype", None), pd.CategoricalDtype):
        categories = _names(labels.dtype.categories, "categories")
        if len(categories) == num_classes:
            class_names = categories
    values = labels.to_numpy() if isinstance(labels, pd.Series | pd.Index) else labels
    if not isinstance(values, list | tuple):
        values = _on_cpu(values)
        masked = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
        values = np.asarray(values)
        if values.ndim != 1:
            raise SourceError(
                f"labels have the shape {values.shape}; give one label per sample, (N,)"
            )
        if masked is not None:
            values = [None if gone else v for v, gone in zip(values.tolist(), masked, strict=True)]
        elif class_names is None and np.issubdtype(values.dtype, np.integer):
            return _checked_codes(values.astype(np.int64), num_classes)
    texts, numbers = _label_texts(values)
    codes, inverse = np.unique(texts, return_inverse=True)
    known = [str(text) for text in codes]
    if class_names is None and numbers:
        whole = np.array([_code_of(text) for text in known], dtype=np.int64)
        if (whole == NO_CODE).any():
            row = int(np.flatnonzero(whole[inverse] == NO_CODE)[0])
            raise SourceError(f"labels[{row}] is {texts[row]}, which is no class number")
        return _checked_codes(whole[inverse], num_classes)
    used = [text for text in known if text not in ("", "-1")]
    notes: list[str] = []
    if class_names is None:
        if len(used) != num_classes:
            raise SourceError(
                f"the labels name {len(used)} classes ({some(used)}) and the predictions have"
                f" {num_classes} columns; say with classes=[...] which column is which"
            )
        if all(_code_of(text) != NO_CODE for text in used) and used != sorted(used, key=int):
            raise SourceError(
                "the labels are numbers as text, whose order as text and as numbers differ; say with"
                " classes=[...] which column is which"
            )
        class_names = tuple(used)
        notes.append(
            "the columns of the predictions were taken for the classes in sorted order, as scikit-learn"
            " has them; classes=[...] says another order"
        )
    place = {name: column for column, name in enumerate(class_names)} | {"": UNLABELED}
    if "-1" not in place:
        place["-1"] = UNLABELED
    missing = [text for text in used if text not in place]
    if len(missing) == len(used) and numbers and all(0 <= _code_of(t) < num_classes for t in used):
        place = {text: _code_of(text) for text in known}  # numbers of columns that have names
    elif missing:
        where = "columns of the predictions" if columns_named else "classes"
        raise SourceError(
            f"{len(missing)} of the labels' classes are not among the {where}: {some(missing)}; the"
            f" {where} are {some(list(class_names))}"
        )
    return np.array([place[text] for text in known], dtype=np.int64)[inverse], class_names, notes


def _label_texts(values: Any) -> tuple[npt.NDArray[Any], bool]:
    """Give labels as text, "" where there is none, and whether all of them are numbers."""
    texts = []
    numbers = True
    for row, value in enumerate(values):
        try:
            text = as_text(value)
        except TypeError as error:
            raise SourceError(f"labels[{row}] is {error}; give names or class numbers") from error
        numbers = numbers and (text == "" or not isinstance(value, str | bool | np.bool_))
        texts.append(text)
    return np.asarray(texts, dtype=object if not texts else str), numbers


def _code_of(text: str) -> int:
    """Give the number that a text is, -1 for "", or `NO_CODE`."""
    try:
        return int(text) if text else UNLABELED
    except ValueError:
        return NO_CODE


def _checked_codes(
    codes: npt.NDArray[np.int64], num_classes: int
) -> tuple[npt.NDArray[np.int64], tuple[str, ...], list[str]]:
    outside = np.flatnonzero((codes < UNLABELED) | (codes >= num_classes))
    if len(outside):
        row = int(outside[0])
        raise SourceError(
            f"labels[{row}] is {codes[row]}, and the predictions have the columns 0 to"
            f" {num_classes - 1}; say with classes=[...] what the columns are called, or give -1 where"
            " there is no label"
        )
    return codes, tuple(str(code) for code in range(num_classes)), []


def _check_index(labels: Any, others: list[Any]) -> None:
    """Raise where labels and what belongs to them, of pandas, are not in the same order."""
    if not isinstance(labels, pd.Series):
        return
    for frame in others:
        if not isinstance(frame, pd.DataFrame | pd.Series) or len(frame) != len(labels):
            continue
        if not frame.index.equals(labels.index):
            raise SourceError(
                "labels have another index than pred_probs, features or verified, so that rows may"
                " belong to different samples; give pred_probs.loc[labels.index], or arrays without an"
                " index"
            )


# --- predictions ---------------------------------------------------------------------------------


def read_models(pred_probs: Any) -> tuple[npt.NDArray[Any], ...]:
    """Take predictions as they come: one array or several, all of one shape.

    Raises
    ------
    SourceError
        If they are no arrays ``(N, C)`` of numbers.
    """
    if isinstance(pred_probs, list | tuple) and len(pred_probs):
        shapes = [np.ndim(_on_cpu(one)) for one in pred_probs[:1]]
        several = list(pred_probs) if shapes[0] == 2 else [pred_probs]
    else:
        array = pred_probs if isinstance(pred_probs, pd.DataFrame) else _on_cpu(pred_probs)
        several = list(array) if np.ndim(array) == 3 else [array]
    models = []
    for one in several:
        if np.ma.is_masked(one):
            raise SourceError("pred_probs are masked in places; leave those samples out")
        try:
            values = np.asanyarray(_on_cpu(one))
            if not np.issubdtype(values.dtype, np.floating):
                values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise SourceError(
                "pred_probs are no table of numbers; give an array (N, C) with a row for each label and"
                " a column for each class"
            ) from error
        if values.ndim != 2 or 0 in values.shape or values.shape[1] < 2:
            raise SourceError(
                f"pred_probs have the shape {values.shape}; give (N, C): a row for each label and a"
                " column for each of at least two classes"
            )
        models.append(values)
    if any(model.shape != models[0].shape for model in models):
        told = ", ".join(str(model.shape) for model in models)
        raise SourceError(
            f"the models' predictions have different shapes: {told}; give the same rows"
        )
    return tuple(models)


def _on_cpu(values: Any) -> Any:
    """Give a tensor as an array; anything else as it is."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) != "torch.bfloat16":
            return values.numpy()
        # Of eight bits: sums are off by more than is taken for rounding.
        values = values.float().numpy()
        return values / values.sum(axis=-1, keepdims=True)
    return values


def check_predictions(
    models: tuple[npt.NDArray[Any], ...],
    given: npt.NDArray[np.int64],
    class_names: tuple[str, ...],
    names: Sequence[str] = (),
) -> Predictions:
    """Check probabilities a block at a time, and see what they predict.

    Parameters
    ----------
    models
        From `read_models`.
    given
        ``(N,)`` int64, -1 where unlabeled: as many as the predictions have rows.
    class_names
        Of the C columns.
    names
        What to call each model's predictions in messages.

    Raises
    ------
    SourceError
        If they are no probabilities, or fewer than two classes have labels.
    """
    labeled = np.flatnonzero(given >= 0)
    if len(np.unique(given[labeled])) < 2:
        raise SourceError(
            "none of the labels is one of the predictions' classes"
            if not len(labeled)
            else "all labels are of one class; at least two are needed"
        )
    told: list[str] = []
    size, classes = models[0].shape
    for number, model in enumerate(models):
        usual = "pred_probs" if len(models) == 1 else f"pred_probs[{number}]"
        name = names[number] if number < len(names) else usual
        off = max(_checked_block(model, part, name) for part in blocks(size, classes))
        if off > SUM_ROUNDING:
            told.append(f"rows of {name} sum to 1 only within {off:.1g}; they were normalized")
    sample = labeled[fit_rows(len(labeled), classes, 0)]
    exponents = np.ones(len(models))
    told += filter(None, (_seen(model, given, sample, models) for model in models))
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
    never = _never_predicted(predicted, given, class_names)
    told += [] if never is None else [never]
    return Predictions(models, Predicted(predicted, probs), exponents, tuple(told))


def _never_predicted(
    predicted: npt.NDArray[np.int64], given: npt.NDArray[np.int64], class_names: tuple[str, ...]
) -> str | None:
    """Name classes that labels use and no prediction chooses, or give None."""
    size = len(class_names)
    labels = np.bincount(given[given >= 0], minlength=size)
    never = np.flatnonzero((labels >= NEVER_LABELS) & (np.bincount(predicted, minlength=size) == 0))
    if not len(never):
        return None
    return (
        f"{some([class_names[number] for number in never])}: {labels[never].sum():,} labels, and"
        " not one sample is predicted so; check that the columns of the predictions are the classes'"
        " own"
    )


def _checked_block(model: npt.NDArray[Any], part: slice, name: str) -> float:
    """Raise where rows are no probabilities; give how far the worst sum is from 1."""
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
        " class, every class a column of its own"
    )


def _seen(
    model: npt.NDArray[Any],
    given: npt.NDArray[np.int64],
    sample: npt.NDArray[np.int64],
    models: tuple[npt.NDArray[Any], ...],
) -> str | None:
    """Say that a model looks as if it had been trained on the labels, or give None."""
    if len(sample) < LEAST_TO_TELL:
        return None
    log_probs = log_of(np.asarray(model[sample], dtype=np.float64))
    labels = given[sample]
    agrees = float((log_probs.argmax(axis=1) == labels).mean())
    shy = calibrating_exponent(log_probs, labels) >= TOO_SHY
    if agrees < 1.0 - AGREES_TOO_OFTEN and not shy:
        return None
    which = "the predictions" if len(models) == 1 else "predictions of one of the models"
    return (
        f"{which} agree with {agrees:.1%} of the labels, more than a model could that has not seen"
        " them. It was most likely trained on these labels, and excuses their mistakes. Give"
        " out-of-sample predictions, as scikit-learn's cross_val_predict makes them"
    )


def _pooling_exponents(
    models: tuple[npt.NDArray[Any], ...],
    labels: npt.NDArray[np.int64],
    sample: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Weigh models by what they know about the given labels; each is calibrated to them first."""
    rows = np.arange(len(sample))
    shares = np.bincount(labels) / len(labels)
    chance = float(np.log(shares[labels]).mean())
    exponents, gains = np.empty(len(models)), np.empty(len(models))
    for number, model in enumerate(models):
        log_probs = log_of(np.asarray(model[sample], dtype=np.float64))
        exponents[number] = calibrating_exponent(log_probs, labels)
        said = exponents[number] * log_probs
        said -= logsumexp(said, axis=1, keepdims=True)
        gains[number] = max(float(said[rows, labels].mean()) - chance, 1e-6)
    weights = (gains / gains.max()) ** POOLING_POWER
    return np.asarray(exponents * weights / weights.sum())


def _pool(
    models: tuple[npt.NDArray[Any], ...], exponents: npt.NDArray[np.float64], rows: Any
) -> npt.NDArray[np.floating]:
    """Give the normalized weighted sum of several models' log P, ``(B, C)`` float32."""
    total = sum(
        np.float32(exponent) * log_of(np.asarray(model[rows], dtype=np.float32))
        for model, exponent in zip(models, exponents, strict=True)
    )
    assert isinstance(total, np.ndarray)
    total -= logsumexp(total, axis=1, keepdims=True)
    return total


def add_features(
    predictions: Predictions,
    features: Any,
    given: npt.NDArray[np.int64],
    class_names: tuple[str, ...],
    *,
    seed: int,
    verified: Verified | None = None,
) -> Predictions:
    """Cross-fit a linear classifier and a vote on features, and average them with the predictions.

    Parameters
    ----------
    predictions
        Checked.
    features
        ``(N, D)`` floats.
    given
        ``(N,)`` int64, -1 where unlabeled.
    class_names
        Of the C columns.
    seed
        Decides the folds.
    verified
        Of the labels that are not -1.

    Raises
    ------
    SourceError, OptionError
        If the features do not fit, or would take too much memory.
    """
    size, classes = predictions.models[0].shape
    try:
        values = np.ascontiguousarray(_on_cpu(features), dtype=np.float32)
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
            f"{len(rows)} labels are too few for classifiers of the features, which were left out"
        )
        return replace(predictions, warnings=(*predictions.warnings, note))
    if not np.isfinite(values[rows]).all():
        raise SourceError("features hold NaN or infinite numbers; leave those samples out")
    opinion = np.exp(predictions.log_probs(rows)).astype(np.float32)
    # Unlabeled samples keep what the models say of them.
    added = np.array(predictions.probs(), dtype=np.float32)
    added[rows] = cross_fit_classifiers(values, given, opinion, seed=seed, verified=verified).probs
    checked = check_predictions((*predictions.models, added), given, class_names)
    return replace(checked, warnings=predictions.warnings)

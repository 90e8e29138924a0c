"""find_label_issues(): find wrong labels with the class probabilities of your own model."""

from __future__ import annotations

import html
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from labelaudit.errors import LabelauditWarning, OptionError, SourceError
from labelaudit.images.containers import NoImages
from labelaudit.sources.annotators import Votes, majority, separate_annotators, vote_warnings
from labelaudit.sources.arrays import checked_mask
from labelaudit.sources.classes import as_text, text_array
from labelaudit.sources.manifest import UNLABELED, Manifest, Verified
from labelaudit.sources.values import as_array
from labelaudit.sources.wording import some
from labelaudit.suspects.prediction_checks import check_index, read_models, separate_models
from labelaudit.suspects.predictions import (
    add_features,
    assess_labels,
    check_predictions,
    sparse_warnings,
)
from labelaudit.suspects.summarize import summarize
from labelaudit.suspects.summary import AuditSummary
from labelaudit.suspects.table import samples_table
from labelaudit.suspects.trust import warn_of_distrust

NO_CODE = -(2**62)  # represents a text that is no class number


class LabelIssues(pd.DataFrame):
    """The result of `find_label_issues`: a data frame with one row per sample, and a summary.

    Attributes
    ----------
    summary : AuditSummary
        Counts, the expected number of wrong labels and its interval, kinds of mistakes, assumptions,
        and whether to trust the result. docs/reference/run-folder.md describes the keys.
    """

    _metadata = ["summary"]  # noqa: RUF012 - pandas' own way to carry attributes along

    summary: AuditSummary

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
        found = f"{summary.num_suspects:,} of {summary.num_labeled:,} labels look wrong"
        if not summary.trust.trustworthy:
            found += f". DO NOT TRUST THIS: {summary.trust.reasons[0]}"
        return found + "\n"


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
    """Find labels that look wrong to predictions of your own model.

    The predictions must be out of sample: each sample is predicted by a model that was not trained on
    its label, for example by cross-validation (`sklearn.model_selection.cross_val_predict`).

    Parameters
    ----------
    labels : array, list or Series (N,)
        Given labels: class numbers 0..C-1, or names. -1, None, NaN and "" mean unlabeled. A DataFrame
        or array (N, A) holds the labels by A annotators. The given label is then what most of them
        chose, and all of their labels count in the score.
    pred_probs : array, DataFrame or Tensor (N, C), or a list of several
        Class probabilities; rows sum to 1. float16, float32 or float64; memory-mapped arrays are
        accepted. Predictions of several models are averaged, which usually finds more than the best of
        them alone.
    features : array (N, D), optional
        Embeddings of the samples. A logistic regression and a nearest-neighbor vote are cross-fitted on
        them and averaged with the predictions.
    classes : sequence of C, optional
        Names of the columns of `pred_probs`. The default for a DataFrame is its columns. Otherwise it
        is the class numbers, or the sorted names if labels are names. Categorical labels whose order
        is another one need it.
    verified : array (N,) of bool, optional
        Labels that a person has verified. They are taken as right and never flagged. If many suspects
        were corrected, fewer of the other wrong labels are found. In that case use `labelaudit.scan`
        with ``reviewed``, which knows the labels before correction.
    threshold : str
        Which labels are flagged: "auto" for those more likely wrong than right, a score from 0 to 1,
        "top:K" for the K most suspect labels, or "rate:R" for the most suspect share R.
    seed : int
        Seed of the subset of samples that the label model is fitted to, if there are very many.

    Returns
    -------
    LabelIssues
        A data frame with one row per sample, in their order. It has the index of `labels` if that is a
        Series. The columns are ``sample_id, given_label, predicted_label, predicted_prob,
        suggested_label, suggested_prob, suspect_score, label_score, is_label_issue, rank, ambiguity,
        trusted``, and ``verified`` if `verified` is given, and ``votes, agreement`` if there are
        several annotators. Its attribute ``summary`` is the summary.

    Raises
    ------
    SourceError
        The predictions or labels cannot be used, or do not fit together. The message says what to do.
    OptionError
        The threshold or the seed cannot be used.

    Warns
    -----
    UntrustedResultWarning
        The result should not be trusted.
    LabelauditWarning
        Predictions were normalized, or look as if the model was trained on the labels.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise OptionError(f"`seed` must be a whole number, 0 or more, and not {seed!r}")
    if isinstance(labels, pd.DataFrame) and labels.shape[1] == 1:
        labels = labels.iloc[:, 0]
    models = read_models(pred_probs)
    check_index(
        labels.iloc[:, 0] if isinstance(labels, pd.DataFrame) else labels,
        [*separate_models(pred_probs), features, verified],
    )
    class_names, columns_named = _class_names(classes, pred_probs, models[0].shape[1])
    votes = None
    if (annotators := separate_annotators(labels)) is None:
        given, class_names, notes = encode_labels(
            labels, class_names, models[0].shape[1], columns_named=columns_named
        )
    else:
        every = [label for column in annotators.values() for label in column]
        codes, class_names, notes = encode_labels(
            every, class_names, models[0].shape[1], columns_named=columns_named
        )
        codes = codes.reshape(len(annotators), -1).T
        given, tied = majority(codes)
        votes = Votes(tuple(annotators), codes, tied)
        notes += vote_warnings(codes, tied, votes.annotators)
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
    notes += [*predictions.warnings, *sparse_warnings(given, class_names)]
    found = assess_labels(
        predictions,
        given,
        class_names,
        threshold=threshold,
        seed=seed,
        verified=known,
        votes=None if votes is None else votes.labels,
    )
    index = (
        labels.index if isinstance(labels, pd.Series | pd.DataFrame) else pd.RangeIndex(len(given))
    )
    manifest = Manifest(
        name="predictions",
        sample_ids=text_array([str(value) for value in index]),
        paths=text_array([""] * len(given)),
        noisy_labels=given,
        class_names=class_names,
        images=NoImages(len(given)),
    )
    samples = samples_table(
        manifest,
        found.scores,
        found.decision,
        predictions.predicted,
        trusted=found.trust.trustworthy,
        votes=votes,
    )
    table = LabelIssues(samples.drop(columns=["path", "first_label"], errors="ignore"))
    table.index = index
    table.summary = summarize(
        manifest, found.scores, found.decision, found.trust, warnings=notes, votes=votes
    )
    for line in notes:
        warnings.warn(line, LabelauditWarning, stacklevel=2)
    warn_of_distrust(table.summary.trust, stacklevel=3)
    return table


def _class_names(
    classes: Sequence[Any] | None, pred_probs: Any, num_classes: int
) -> tuple[tuple[str, ...] | None, bool]:
    """Return the names of the columns, if there are any, and whether a data frame gave them."""
    frames = [one for one in separate_models(pred_probs) if isinstance(one, pd.DataFrame)]
    if any(list(one.columns) != list(frames[0].columns) for one in frames):
        raise SourceError(
            "the data frames of predictions have different columns; give them the same columns in the"
            " same order"
        )
    declared = None if classes is None else _names(classes, "classes")
    columns = None
    if frames and not frames[0].columns.equals(pd.RangeIndex(num_classes)):
        columns = _names(frames[0].columns, "columns of pred_probs")
    if declared and columns and declared != columns and set(declared) & set(columns):
        raise SourceError(
            "classes and the columns of pred_probs differ, or are in another order; leave classes out,"
            " because the columns have names"
        )
    names = columns if declared is None else declared
    if names is None:
        return None, False
    if len(names) != num_classes:
        raise SourceError(
            f"there are {len(names)} classes and {num_classes} columns of predictions; name each column"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SourceError(f"classes repeat: {some(repeated)}; make them unique")
    return names, declared is None


def _names(values: Any, what: str) -> tuple[str, ...]:
    if isinstance(values, str | set | frozenset) or not np.iterable(values):
        raise SourceError(f"{what} are a {type(values).__name__}; give a list of names in order")
    try:
        return tuple(as_text(name) for name in values)
    except TypeError as error:
        raise SourceError(f"one of the {what} is {error}; give names") from error


def encode_labels(
    labels: Any,
    class_names: tuple[str, ...] | None,
    num_classes: int,
    *,
    columns_named: bool = False,
) -> tuple[npt.NDArray[np.int64], tuple[str, ...], list[str]]:
    """Convert labels to columns of the predictions.

    Parameters
    ----------
    labels
        ``(N,)``, numbers or names; see `find_label_issues`.
    class_names
        Names of the columns, if they have any.
    num_classes
        C.
    columns_named
        Whether the names are those of a data frame; only messages depend on it.

    Returns
    -------
    tuple
        ``(N,)`` int64 in 0..C-1 with -1 where unlabeled, the C names, and notes for the user.

    Raises
    ------
    SourceError
        A label belongs to no column.
    """
    if class_names is None and isinstance(getattr(labels, "dtype", None), pd.CategoricalDtype):
        categories = _names(labels.dtype.categories, "categories")
        if not labels.dtype.categories.is_monotonic_increasing:
            raise SourceError(
                f"the labels are categorical, and their order ({some(list(categories))}) is not the"
                " sorted one, which scikit-learn uses for the columns of predictions; give the class of"
                " each column with classes=[...]"
            )
        if len(categories) == num_classes:
            class_names = categories
    values = _label_values(labels)
    are_integers = isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.integer)
    if class_names is None and are_integers:
        return *_number_codes(values.astype(np.int64), num_classes), []
    texts, numbers = _label_texts(values)
    codes, inverse = np.unique(texts, return_inverse=True)
    known = [str(text) for text in codes]
    if class_names is None and numbers:
        whole = np.array([_code_of(text) for text in known], dtype=np.int64)
        if (whole == NO_CODE).any():
            row = int(np.flatnonzero(whole[inverse] == NO_CODE)[0])
            raise SourceError(f"labels[{row}] is {texts[row]}, which is no class number")
        return *_number_codes(whole[inverse], num_classes), []
    used = [text for text in known if text not in ("", "-1")]
    notes = []
    if class_names is None:
        class_names = _sorted_classes(used, num_classes)
        notes.append(
            "the columns of the predictions were taken for the classes in sorted order, as in"
            " scikit-learn; give classes=[...] if the order is another"
        )
    place = {name: column for column, name in enumerate(class_names)} | {"": UNLABELED}
    place.setdefault("-1", UNLABELED)
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


def _label_values(labels: Any) -> Any:
    """Return labels as a sequence or as an array ``(N,)``; masked ones become None."""
    values = labels.to_numpy() if isinstance(labels, pd.Series | pd.Index) else labels
    if isinstance(values, list | tuple):
        return values
    # Masked values are unlabeled; other arrays may have none.
    values = values if isinstance(values, np.ndarray) else as_array(values)
    if values.ndim == 2 and values.shape[1] == 1:  # a single annotator
        values = values[:, 0]
    masked = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    if values.ndim != 1:
        raise SourceError(f"labels have the shape {values.shape}; give one label per sample, (N,)")
    if masked is not None:
        return [None if gone else v for v, gone in zip(values.tolist(), masked, strict=True)]
    return values


def _sorted_classes(used: list[str], num_classes: int) -> tuple[str, ...]:
    """Return the sorted names of the labels as those of the columns; raise if that is doubtful."""
    if len(used) != num_classes:
        raise SourceError(
            f"the labels name {len(used)} classes ({some(used)}) and the predictions have"
            f" {num_classes} columns; give the class of each column with classes=[...]"
        )
    if all(_code_of(text) != NO_CODE for text in used) and used != sorted(used, key=int):
        raise SourceError(
            "the labels are numbers as text, which sort differently as text and as numbers; give the"
            " class of each column with classes=[...]"
        )
    return tuple(used)


def _label_texts(values: Any) -> tuple[npt.NDArray[Any], bool]:
    """Return labels as text, "" where unlabeled, and whether all of them are numbers."""
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
    """Return the whole number that a text holds, -1 for "", or `NO_CODE`."""
    try:
        return int(text) if text else UNLABELED
    except ValueError:
        return NO_CODE


def _number_codes(
    codes: npt.NDArray[np.int64], num_classes: int
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Check that class numbers are columns, and name the columns by their numbers."""
    outside = np.flatnonzero((codes < UNLABELED) | (codes >= num_classes))
    if len(outside):
        row = int(outside[0])
        raise SourceError(
            f"labels[{row}] is {codes[row]}, but the predictions have the columns 0 to"
            f" {num_classes - 1}; name the columns with classes=[...], or give -1 for samples"
            " without a label"
        )
    return codes, tuple(str(code) for code in range(num_classes))

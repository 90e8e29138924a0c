"""LabelAuditor: the audit of arrays, with scikit-learn's interface.

`labelaudit.scan` reads files, fits a `LabelAuditor` and writes its results. `labelaudit eval` fits the
same object to labels that were corrupted on purpose, so every published figure comes from this code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from labelaudit.audit.assessment import Audited, assess, result_of
from labelaudit.audit.fitting import RunFiles, fit_plan
from labelaudit.audit.plan import AuditPlan, prepare
from labelaudit.errors import OptionError, OutputError, SourceError
from labelaudit.methods.umn import UMN
from labelaudit.options import AuditOptions, check_audit_options, plain_value
from labelaudit.progress import Reporter, choose_reporter
from labelaudit.scan_result import ScanResult
from labelaudit.sources.annotators import separate_annotators
from labelaudit.sources.arrays import source_from_arrays
from labelaudit.sources.classes import as_text
from labelaudit.sources.feature_tables import FeatureSource, features_of_rows
from labelaudit.sources.manifest import Source
from labelaudit.sources.python_data import Asked, is_data_set, read_python_data
from labelaudit.sources.texts import TextSource, are_texts, texts_of_list
from labelaudit.sources.values import as_array, as_labels, is_tensor
from labelaudit.suspects.trust import warn_of_distrust
from labelaudit.training.recorder import EpsilonHistory


@dataclass(kw_only=True, eq=False, repr=False)
class LabelAuditor(AuditOptions, BaseEstimator):  # type: ignore[misc]
    """Train Uncertainty Mining Net (UMN) on samples and their labels, and score every label.

    Parameters
    ----------
    **options
        The options of `labelaudit.options.AuditOptions`, by keyword: ``encoder``, ``epochs``,
        ``device``, ``seed``, ``score``, ``threshold`` and so on.

    Attributes
    ----------
    classes_ : array (C,)
        The classes, in the order of all columns below. They have the type of the labels.
    suspect_score_ : array (N,) of float64
        How suspect each label is, in [0, 1]. With the default score it is the probability that the
        label is wrong. NaN for unlabeled samples.
    is_label_issue_ : array (N,) of bool
        Whether the label is flagged.
    suggested_label_ : array (N,)
        The most probable class other than the given one. Unlabeled samples have -1, or None where
        labels are text.
    ranking_ : array (L,) of int64
        Rows of the L labeled samples, the most suspect first. It also orders scores that round to 1.
    pred_probs_ : array (N, C) of float32
        Class probabilities predicted by the guider, which was trained on the given labels.
    oos_probs_ : array (N, C) of float32
        Out-of-sample class probabilities, from which the scores are computed. No row depends on its own
        label. NaN for unlabeled samples.
    ambiguity_ : array (N,) of float64
        Probability that two people label the sample differently, in [0, 1]. NaN for unlabeled
        samples.
    epsilon_, epsilon_mean_ : array (N,) of float64
        Label uncertainty ε of the last epoch, and its mean over all epochs. NaN for unlabeled
        samples.
    transition_matrix_ : array (C, C) of float64, or None
        ``T[i, j] = P(given j | right i)``; rows sum to 1. None for scores without a label model, and
        with more than 1,000 classes.
    expected_wrong_ : float
        Expected number of wrong labels.
    expected_wrong_interval_ : tuple of two floats, or None
        90% interval of the number of wrong labels; None if the score is no probability.
    trust_ : Trust
        Whether the result can be trusted, and the reasons if it cannot.
    embeddings_ : array (N, d) of float32
        The guider's embedding of every sample.
    n_iter_ : int
        Number of epochs that were trained.
    status_ : str
        "complete", "interrupted", "out of time" or "diverged".
    method_ : UMN
        The trained networks.
    audited_ : Audited
        The complete result, for other modules of labelaudit.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> images, labels = load_digits(return_X_y=True)
    >>> auditor = LabelAuditor(epochs=10, seed=0).fit(images, labels)
    >>> suspects = auditor.ranking_[:10]

    References
    ----------
    "Is the Label Trustful: Training Better Deep Learning Model via Uncertainty Mining Net", ICLR
    2020 submission.
    """

    verbose: bool | None = None

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        verified: npt.ArrayLike | None = None,
        record_to: str | Path | None = None,
        on_epoch: Callable[[Self, int], object] | None = None,
        reporter: Reporter | None = None,
    ) -> Self:
        """Train on all samples, and score every given label.

        Parameters
        ----------
        X : array (N, D), array (N, H, W) or (N, H, W, C), or what `labelaudit.scan` takes
            Features, or images (uint8, or floats in [0, 1]). A `Source` already has labels.
        y : array (N,)
            Given labels: integers or text. -1, None, NaN and "" are unlabeled. A DataFrame or array
            (N, A) holds the labels by A annotators; the label is then what most of them chose.
        verified : array (N,) of bool, optional
            Labels that a person has verified. They are taken as right and never flagged.
        record_to : path, optional
            Folder for ε of every label, one parquet file per epoch. It must be new or empty.
        on_epoch : callable, optional
            Called after each epoch with the auditor and the epoch's number, from 1. At that time only
            `method_` is set.
        reporter : Reporter, optional
            Receives progress and warnings.

        Returns
        -------
        LabelAuditor
            The fitted auditor itself.

        Raises
        ------
        SourceError, OptionError
            If samples, labels or options cannot be used. Both are subclasses of ValueError.
        KeyboardInterrupt
            If interrupted before the end of the first epoch. Later, the ranking so far is kept, and
            `status_` is "interrupted".

        Warns
        -----
        UntrustedResultWarning
            If the result should not be trusted. `trust_` has the reasons.
        """
        started = time.monotonic()
        self.options()  # raises for options that cannot be used, before anything is read
        reporter = choose_reporter(reporter, self.verbose)
        data, classes = self._read(X, y, verified)
        plan = self.prepare(data, reporter)
        files = RunFiles(history=None if record_to is None else _new_folder(record_to))
        self.fit_plan(plan, files, reporter, started=started, on_epoch=on_epoch, classes=classes)
        warn_of_distrust(self.trust_, stacklevel=3)
        return self

    def options(self) -> AuditOptions:
        """Return the options, checked.

        Raises
        ------
        OptionError
            If an option's value cannot be used.
        """
        options = AuditOptions(
            **{one.name: plain_value(getattr(self, one.name)) for one in fields(AuditOptions)}
        )
        if options.weights is not None:
            options.weights = str(options.weights)
        if options.device:  # may be a torch.device
            options.device = str(options.device)
        check_audit_options(options)
        return options

    def prepare(
        self,
        data: Source | FeatureSource | TextSource,
        reporter: Reporter,
        scratch: Path | None = None,
        before: Mapping[str, Any] | None = None,
    ) -> AuditPlan:
        """Return the plan of the training; see `labelaudit.audit.plan.prepare`."""
        with _memory_in_words():
            return prepare(data, self.options(), reporter, scratch, before)

    def fit_plan(
        self,
        plan: AuditPlan,
        files: RunFiles,
        reporter: Reporter,
        *,
        started: float | None = None,
        on_epoch: Callable[[Self, int], object] | None = None,
        classes: np.ndarray | None = None,
    ) -> Self:
        """Train by a plan and score the labels. `fit` calls `prepare` and then this method.

        Parameters
        ----------
        plan
            From `prepare`.
        files
            Files of the recorded epochs and of the checkpoint.
        reporter
            Receives progress and warnings.
        started
            Start of the audit, from `time.monotonic`. By default now.
        on_epoch
            See `fit`.
        classes
            ``(C,)``, the classes in the type of the caller's labels. By default their names.
        """
        started = time.monotonic() if started is None else started

        def after(method: UMN, epoch: int) -> None:
            self.method_ = method
            if on_epoch is not None:
                on_epoch(self, epoch)

        with _memory_in_words():
            fitted = fit_plan(plan, files, reporter, started=started, on_epoch=after)
            plan = fitted.plan  # its batches are smaller if the GPU was full
            reporter.say("Ranking the labels.")
            assessment = assess(plan, fitted, reporter)
        history = None
        if files.history is not None:
            history = EpsilonHistory(files.history, fitted.training.epochs, owner=files.owner)
        self.audited_ = Audited(plan, fitted, assessment, history, time.monotonic() - started)
        names = np.array(plan.manifest.class_names, dtype=object)
        self._set_results(self.audited_, names if classes is None else classes)
        return self

    def _read(
        self, X: Any, y: Any, verified: npt.ArrayLike | None
    ) -> tuple[Source | FeatureSource | TextSource, np.ndarray | None]:
        """Return samples with labels, and the classes in the type of the labels, if known."""
        if isinstance(X, Source | FeatureSource):
            if y is not None or verified is not None:
                raise OptionError("a Source already has labels; leave y and verified out")
            return X, None
        if are_texts(X):
            if verified is not None:
                raise OptionError("verified can only be used with arrays; leave it out with texts")
            return texts_of_list(X, y), None
        if is_data_set(X):
            if verified is not None:
                raise OptionError(
                    "verified can only be used with arrays; leave it out with a data set or a list"
                )
            return read_python_data(X, Asked(y)), None
        if y is None:
            raise OptionError(
                "LabelAuditor requires y to be passed, but the target y is None; give one label for"
                " each sample"
            )
        annotators = separate_annotators(y, "y")
        labels = as_labels(y) if annotators is None else y
        X = as_array(X) if is_tensor(X) else X
        try:
            images = np.ndim(X) > 2
        except ValueError as error:
            raise SourceError(f"the rows of X have different lengths ({error})") from error
        if not images:
            X = self._checked_features(X)
        source = source_from_arrays(X if images else None, labels, verified=verified)
        columns = [labels] if annotators is None else annotators.values()
        known = {as_text(value): value for column in columns for value in column}
        classes = np.array([known[name] for name in source.manifest.class_names])
        if classes.dtype.kind not in "if":  # -1 and NaN are possible only among numbers
            classes = classes.astype(object)
        return (source if images else features_of_rows(source, X)), classes

    def _checked_features(self, X: Any) -> np.ndarray:
        """Return features ``(N, D)`` as scikit-learn checks them; raise SourceError in one line."""
        if np.ndim(X) == 1:
            raise SourceError(
                f"X has the shape {np.shape(X)}. Expected 2D array: give features (N, D), or images"
            )
        try:
            return np.asarray(validate_data(self, X, dtype="numeric"))
        except ValueError as error:
            raise SourceError(str(error).partition("\n")[0]) from error

    def _set_results(self, audited: Audited, classes: np.ndarray) -> None:
        """Set the attributes, with values of the L labeled samples extended to all N samples."""
        plan, fitted, assessment = audited.plan, audited.fitted, audited.assessment
        manifest, scores, evidence = plan.manifest, assessment.scores, assessment.evidence
        rows = np.flatnonzero(manifest.labeled)

        def spread(values: np.ndarray, absent: Any = np.nan) -> np.ndarray:
            whole = np.full((manifest.num_samples, *values.shape[1:]), absent, values.dtype)
            whole[rows] = values
            return whole

        self.classes_ = classes
        self.suspect_score_ = spread(scores.suspect_score)
        self.is_label_issue_ = spread(assessment.decision.is_label_issue, False)
        self.suggested_label_ = spread(
            classes[scores.suggested], -1 if classes.dtype.kind in "if" else None
        )
        self.ranking_ = rows[scores.order]
        self.pred_probs_ = fitted.pred_probs
        every = len(rows) == manifest.num_samples  # then a copy would only need memory
        self.oos_probs_ = evidence.oos_probs if every else spread(evidence.oos_probs)
        self.ambiguity_ = spread(scores.ambiguity)
        self.epsilon_ = spread(evidence.epsilon)
        self.epsilon_mean_ = spread(evidence.epsilon_mean)
        self.transition_matrix_ = scores.transition_matrix
        self.expected_wrong_ = assessment.decision.expected_wrong
        self.expected_wrong_interval_ = assessment.decision.expected_wrong_interval
        self.trust_ = assessment.trust
        self.embeddings_ = fitted.embeddings
        self.n_iter_ = fitted.training.epochs
        self.status_ = fitted.training.status

    def result(self) -> ScanResult:
        """Return the tables, the summary and the report of the audit, as `labelaudit.scan` does.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        """
        check_is_fitted(self)
        return result_of(self.audited_)


@contextmanager
def _memory_in_words() -> Iterator[None]:
    """Raise an error in one line if the GPU or the machine does not have enough memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OptionError(
            "the GPU does not have enough free memory; use a smaller `batch_size` or `image_size`, or"
            " `device='cpu'`"
        ) from error
    except (MemoryError, RuntimeError) as error:
        # torch raises a RuntimeError if the memory of the machine is full.
        if isinstance(error, RuntimeError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise SourceError(
            "this machine does not have enough free memory; use fewer samples, a smaller `batch_size`"
            " or `image_size`, or features with fewer columns"
        ) from error


def _new_folder(path: str | Path) -> Path:
    """Return a folder that is new or empty."""
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} already exists and is not empty; choose another record_to")
    return folder

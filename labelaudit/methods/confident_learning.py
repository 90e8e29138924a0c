"""Confident learning, by its authors' library cleanlab.

Paper: Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"
(https://arxiv.org/abs/1911.00068). p(k|x) are the out-of-sample probabilities of cross-validated
networks, and t_k is the mean of p(k|x) over the samples labeled k. Then

    C[i, j] = |{x labeled i : j = argmax over {k : p(k|x) ≥ t_k} of p(k|x)}|

counts the samples labeled i that seem to belong to class j. The sum outside the diagonal estimates the
number of wrong labels, and a filter chooses which labels they are. labelaudit trains the networks.
Everything after their probabilities is done by cleanlab (`pip install 'labelaudit[peers]'`).

Deviations: docs/methods/confident_learning.md.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from sklearn.model_selection import StratifiedKFold

from labelaudit.errors import OptionError
from labelaudit.methods.supervised import CrossEntropy, SupervisedConfig, train_classifier
from labelaudit.methods.system import System
from labelaudit.methods.task import AuditResult, Task, predict_probs, predict_test
from labelaudit.training.method import Method

# All that `cleanlab.filter.find_label_issues` offers.
FILTERS = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
)
DEFAULT_FILTER = "prune_by_noise_rate"


@dataclass(frozen=True)
class ConfidentLearningConfig(SupervisedConfig):
    """Settings of confident learning.

    Attributes
    ----------
    epoch_range
        As in `SupervisedConfig`. Chosen on digits, seeds 0-4.
    folds
        Number of folds of the cross-validation; cleanlab's default.
    """

    epoch_range: tuple[int, int] = (5, 10)
    folds: int = 5


def confident_learning(
    pred_probs: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Score and flag labels with cleanlab.

    Parameters
    ----------
    pred_probs
        ``(L, C)``, out of sample.
    labels
        ``(L,)`` int64 in 0..C-1.

    Returns
    -------
    scores, flagged, variants
        1 - cleanlab's label quality score by self-confidence, ``(L,)`` in [0, 1]; the labels that its
        default filter flags, ``(L,)`` bool; and the same for each of `FILTERS`.

    Raises
    ------
    OptionError
        If cleanlab is not installed.
    """
    cleanlab = import_cleanlab()
    with warnings.catch_warnings():
        # cleanlab repeats it for each rare class and each filter; `num_folds` warns once.
        warnings.filterwarnings("ignore", message="May not flag all label issues")
        variants = {
            # n_jobs=1, because a fork after torch has started its threads may hang.
            name: np.asarray(
                cleanlab.filter.find_label_issues(labels, pred_probs, filter_by=name, n_jobs=1)
            )
            for name in FILTERS
        }
    quality = cleanlab.rank.get_label_quality_scores(labels, pred_probs, method="self_confidence")
    return 1.0 - np.asarray(quality), variants[DEFAULT_FILTER], variants


def import_cleanlab() -> ModuleType:
    """Import cleanlab, which labelaudit installs only as an extra.

    Raises OptionError if it cannot be imported.
    """
    try:
        import cleanlab.filter
        import cleanlab.rank
    except ImportError as error:
        raise OptionError(
            "confident learning needs cleanlab, which cannot be imported here"
            f" ({error}); install it with: pip install 'labelaudit[peers]'"
        ) from error
    module: ModuleType = cleanlab
    return module


@dataclass
class ConfidentLearning(System):
    """Confident learning on the encoder that all systems share."""

    best_variant = "best filter"
    library = "cleanlab"

    config: ConfidentLearningConfig = ConfidentLearningConfig()

    def audit(self, task: Task) -> AuditResult:
        """Cross-validate a classifier and pass its out-of-sample probabilities to cleanlab.

        Raises OptionError if cleanlab is not installed, or if no class has two labeled samples.
        """
        import_cleanlab()  # before training, not after it
        scores, flagged, variants = confident_learning(self.pred_probs(task), task.given)
        return AuditResult(
            suspect_score=scores,
            flagged=flagged,
            epochs=self.epochs(task),
            test_probs=self.test_probs(task),
            variants=variants,
        )

    def epochs(self, task: Task) -> int:
        """Return the number of epochs of each training."""
        return self.config.epochs_on(task.only_labeled())

    def pred_probs(self, task: Task) -> np.ndarray:
        """Return out-of-sample probabilities of the labeled samples, ``(L, C)``.

        Each sample is predicted by a classifier that was not trained on it.
        """
        probs = np.empty((len(task.given), task.num_classes), dtype=np.float32)
        quiet = replace(task, test_inputs=None, watch=None)
        splitter = StratifiedKFold(
            self.num_folds(task), shuffle=True, random_state=task.seed % 2**32
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            folds = list(splitter.split(task.given, task.given))
        for train, held_out in folds:
            method = self._train(quiet, train)
            probs[held_out] = predict_probs(method, task.inputs[task.labeled[held_out]], task)
        return probs

    def test_probs(self, task: Task) -> np.ndarray | None:
        """Predict the test samples by a classifier of all labeled samples; None without them."""
        return None if task.test_inputs is None else predict_test(self._train(task), task)

    def num_folds(self, task: Task) -> int:
        """Return the number of folds, and warn where a class has fewer labeled samples.

        Raises OptionError if no class has two labeled samples.
        """
        counts = np.bincount(task.given, minlength=task.num_classes)
        folds = min(self.config.folds, int(counts.max()))
        if folds < 2:
            raise OptionError(
                "confident learning trains on some samples of a class to predict the others, and"
                " no class has two labeled samples; label more, or choose another method"
            )
        rare = int(((counts > 0) & (counts < folds)).sum())
        if rare:
            task.reporter.warn(
                f"{rare} of {task.num_classes} classes have fewer than {folds} labeled samples."
                " Some folds contain none of them, and the only sample of a class is predicted by"
                " a classifier that was trained without the class"
            )
        return folds

    def _train(self, task: Task, rows: np.ndarray | None = None) -> Method:
        """Train on the labeled samples, or on those at `rows`."""
        labeled = task.only_labeled(rows)
        method, _ = train_classifier(
            labeled, self.config, lambda _: CrossEntropy(labeled, self.config)
        )
        return method

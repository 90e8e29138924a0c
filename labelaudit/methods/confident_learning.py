"""Confident learning, by its authors' library cleanlab.

Paper: Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"
(https://arxiv.org/abs/1911.00068). From the probabilities p(k|x) that cross-validated networks give
held-out images, and a threshold t_k for each class, the mean p(k|x) over the images labeled k, count

    C[i, j] = |{x labeled i : j = argmax over {k : p(k|x) ≥ t_k} of p(k|x)}|

What lies off the diagonal estimates how many labels are wrong, and filters choose which. labelaudit
trains the networks; all that follows from their probabilities is cleanlab (`pip install
labelaudit[peers]`).

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
        Chosen on digits, seeds 0-4.
    folds
        Of the cross-validation, cleanlab's default.
    """

    epoch_range: tuple[int, int] = (5, 10)
    folds: int = 5


def confident_learning(
    pred_probs: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Ask cleanlab about labels.

    Parameters
    ----------
    pred_probs
        ``(L, C)``, out of sample.
    labels
        ``(L,)`` int64 in 0..C-1.

    Returns
    -------
    scores, flagged, variants
        1 - cleanlab's label quality score by self-confidence, ``(L,)`` in [0, 1]; what its default
        filter flags, ``(L,)`` bool; and the same for each of `FILTERS`.

    Raises
    ------
    OptionError
        If cleanlab is not installed.
    """
    cleanlab = import_cleanlab()
    with warnings.catch_warnings():
        # For each class of a single label and each filter; `ConfidentLearning` says it once.
        warnings.filterwarnings("ignore", message="May not flag all label issues")
        variants = {
            # In this process: forking after torch has started its threads may hang.
            name: np.asarray(
                cleanlab.filter.find_label_issues(labels, pred_probs, filter_by=name, n_jobs=1)
            )
            for name in FILTERS
        }
    quality = cleanlab.rank.get_label_quality_scores(labels, pred_probs, method="self_confidence")
    return 1.0 - np.asarray(quality), variants[DEFAULT_FILTER], variants


def import_cleanlab() -> ModuleType:
    """Import cleanlab, which is not installed with labelaudit by itself.

    Raises
    ------
    OptionError
        If it is not there.
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


class ConfidentLearning(System):
    """Confident learning on the encoder that all systems share."""

    best_variant = "best filter"
    library = "cleanlab"

    def __init__(self, config: ConfidentLearningConfig | None = None) -> None:
        self.config = config or ConfidentLearningConfig()

    def audit(self, task: Task) -> AuditResult:
        """Cross-validate and ask cleanlab; train on all labeled images to predict the test images.

        The last training is left out where the task has no test images.

        Raises
        ------
        OptionError
            If cleanlab is not installed, or no class has two labeled images.
        """
        import_cleanlab()  # before training, not after
        scores, flagged, variants = confident_learning(self.pred_probs(task), task.given)
        return AuditResult(
            suspect_score=scores,
            flagged=flagged,
            epochs=self.config.epochs_on(task.only_labeled()),
            test_probs=(
                None if task.test_inputs is None else predict_test(self._train(task), task)
            ),
            variants=variants,
        )

    def pred_probs(self, task: Task) -> np.ndarray:
        """Give each labeled image's probabilities by a network that never saw it, ``(L, C)``."""
        probs = np.empty((len(task.given), task.num_classes), dtype=np.float32)
        quiet = replace(task, test_inputs=None, watch=None)
        for seen, held_out in self._folds(task):
            method = self._train(quiet, seen)
            probs[held_out] = predict_probs(method, task.inputs[task.labeled[held_out]], task)
        return probs

    def _train(self, task: Task, rows: np.ndarray | None = None) -> Method:
        """Train on the labeled images, or those of `rows`."""
        labeled = task.only_labeled(rows)
        method, _ = train_classifier(
            labeled, self.config, lambda _: CrossEntropy(labeled, self.config)
        )
        return method

    def _folds(self, task: Task) -> list[tuple[np.ndarray, np.ndarray]]:
        """Give the rows to train on and those held out, of the labeled images, for each fold."""
        counts = np.bincount(task.given, minlength=task.num_classes)
        folds = min(self.config.folds, int(counts.max()))
        if folds < 2:
            raise OptionError(
                "confident learning trains on some images of a class to judge others, and here no"
                " class has two labeled images; label more, or choose another method"
            )
        rare = int(((counts > 0) & (counts < folds)).sum())
        if rare:
            task.reporter.warn(
                f"{rare} of {task.num_classes} classes have fewer than {folds} labeled images:"
                " some folds hold none of them, and a class's only image is judged by a network"
                " that never saw its class"
            )
        splitter = StratifiedKFold(folds, shuffle=True, random_state=task.seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            return list(splitter.split(task.given, task.given))

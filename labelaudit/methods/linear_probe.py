"""Confident learning on a linear classifier of features: the usual audit of embeddings.

A logistic regression on frozen features is called a linear probe (Alain & Bengio 2016,
https://arxiv.org/abs/1610.01644). Five-fold cross-validation gives its probabilities for samples that
it was not trained on, and cleanlab finds the wrong labels from them, see `confident_learning`.

Deviations: docs/methods/linear_probe.md.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from labelaudit.methods.confident_learning import ConfidentLearning
from labelaudit.methods.task import Task

MAX_ITERATIONS = 200


class LinearProbe(ConfidentLearning):
    """Confident learning with a logistic regression on standardized features.

    Attributes
    ----------
    inverse_regularization
        scikit-learn's C > 0; smaller regularizes more.
    """

    reads = frozenset({"features"})
    inverse_regularization = 0.01

    def epochs(self, task: Task) -> int:
        """No network is trained."""
        return 0

    def pred_probs(self, task: Task) -> np.ndarray:
        """See `ConfidentLearning.pred_probs`."""
        # Folds without shuffling, as scikit-learn's `cross_val_predict` makes them by default.
        folds = StratifiedKFold(self.num_folds(task))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            # A class that is missing from a fold has probability 0 there; `num_folds` warns of it.
            warnings.filterwarnings("ignore", message="The least populated class")
            warnings.filterwarnings("ignore", message="Number of classes in training fold")
            probs = cross_val_predict(
                self.model(),
                task.features[task.labeled],
                task.given,
                cv=folds,
                method="predict_proba",
            )
        return spread(probs, np.unique(task.given), task.num_classes)

    def test_probs(self, task: Task) -> np.ndarray | None:
        """See `ConfidentLearning.test_probs`."""
        if task.test_inputs is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = self.model().fit(task.features[task.labeled], task.given)
        probs = model.predict_proba(task.test_inputs[:, :, 0, 0])
        return spread(probs, model.classes_, task.num_classes)

    def model(self) -> Pipeline:
        """Return a probe that has not been fitted."""
        probe = LogisticRegression(C=self.inverse_regularization, max_iter=MAX_ITERATIONS)
        return make_pipeline(StandardScaler(), probe)


class StrongLinearProbe(LinearProbe):
    """The same with ten times the regularization, which is often better on noisy labels."""

    inverse_regularization = 0.001


def spread(probs: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Return probabilities ``(M, K)`` of K classes as columns of ``(M, num_classes)``, else 0."""
    wide = np.zeros((len(probs), num_classes), dtype=probs.dtype)
    wide[:, classes] = probs
    return wide

"""Logistic regressions of features, one for each fold, fitted together.

Most of the time goes into reading the features from memory. So all folds are fitted at once: a product
of the features with the weights of five classifiers takes little longer than with those of one. The
problem is that of `sklearn.linear_model.LogisticRegression` with an L2 penalty. With fewer samples than
features, the samples' own coordinates stand for the features, which gives the same classifiers: their
weights are linear combinations of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits
from torch import Tensor

from labelaudit.memory import row_blocks
from labelaudit.suspects.nearest import BLOCK_VALUES

# The inverse strength of the penalty falls with the number of training samples, to the first number at
# least, and is the second one at most. The data that these numbers and those of iterations were chosen
# on are in docs/explanation/research-log.md.
LEAST_STRENGTH, MOST_STRENGTH, STRENGTH_TIMES_SAMPLES = 0.003, 0.1, 30.0
FIRST_ITERATIONS, ITERATIONS = 6, 12
LEAST_VARIANCE = 1e-6  # share of the largest; smaller ones are rounding errors
# Number of predicted probabilities, of all folds, in memory at a time while classifiers are fitted.
FITTED_VALUES = 1 << 20
# Log-probability of a class that a fold's training samples lack, in fitting. It is finite, so that the
# other folds' samples of that class add 0 to the loss of this fold.
IMPOSSIBLE = -1e4


class CrossFittedLinear:
    """Cross-fitted logistic regressions, which can be fitted again with other weights of the labels.

    Parameters
    ----------
    features
        ``(N, D)`` floats, maybe memory-mapped.
    rows
        ``(L,)`` int64, the labeled samples.
    num_classes
        C.
    seed
        Seed of the folds.
    folds
        Number of folds F, at most L.
    most
        Largest number of training samples of a fold.

    Attributes
    ----------
    fold_of
        ``(L,)`` int64 in 0..F-1, the fold of each labeled sample.
    training_samples
        ``(M,)`` int64 in 0..L-1, sorted: the samples that classifiers of other folds are trained on.
    """

    def __init__(
        self,
        features: np.ndarray,
        rows: np.ndarray,
        num_classes: int,
        *,
        seed: int,
        folds: int,
        most: int,
    ) -> None:
        self._features, self._rows, self._num_classes = features, rows, num_classes
        shuffled = np.random.default_rng(seed).permutation(len(rows))
        self.fold_of = np.empty(len(rows), dtype=np.int64)
        drawn_rows = []
        for number, (_, fold) in enumerate(KFold(folds).split(shuffled)):
            self.fold_of[shuffled[fold]] = number
            drawn_rows.append(shuffled[fold][: max(1, most // (folds - 1))])
        self.training_samples = np.sort(np.concatenate(drawn_rows))
        self._trains = self.fold_of[self.training_samples] != np.arange(folds)[:, None]  # (F, M)
        drawn = torch.empty(len(self.training_samples), features.shape[1])
        for part in self._parts(len(drawn)):
            drawn[part] = self._read(self.training_samples[part])
        # As scikit-learn's StandardScaler, which takes seconds for so many features.
        variance, self._mean = torch.var_mean(drawn, dim=0, correction=0)
        self._deviation = torch.where(variance > 0, variance.sqrt(), 1.0)
        self._scaled = drawn.sub_(self._mean).div_(self._deviation)
        self._points, self._basis = _coordinates(self._scaled)
        self._fitted: tuple[np.ndarray, np.ndarray] | None = None  # folds, and their values

    def predict(self, given_labels: np.ndarray, right_prob: np.ndarray) -> np.ndarray:
        """Fit the classifiers, and predict each sample by the one that did not see it.

        The first call ends early, because its predictions only decide the weights of the next one. That
        one begins where the first has ended.

        Parameters
        ----------
        given_labels
            ``(L,)`` int64 in 0..C-1.
        right_prob
            ``(L,)`` in [0, 1], weight of each label in training.

        Returns
        -------
        np.ndarray
            ``(L, C)`` float32, rows sum to 1; 0 for a class that the training folds lack. Uniform where
            the other folds have only one class.
        """
        labels, weight = given_labels[self.training_samples], right_prob[self.training_samples]
        usable = np.array([len(np.unique(labels[t & (weight > 0)])) > 1 for t in self._trains])
        probs = np.full((len(self._rows), self._num_classes), 1.0 / self._num_classes, np.float32)
        if not usable.any():
            return probs
        start = None
        if self._fitted is not None and np.array_equal(self._fitted[0], usable):
            start = self._fitted[1]
        problem = FoldedProblem(
            self._points,
            torch.from_numpy(labels),
            torch.from_numpy(weight.astype(np.float32)),
            torch.from_numpy(self._trains[usable]),
            self._num_classes,
            penalty_strength(len(self.training_samples)),
        )
        values = problem.solve(FIRST_ITERATIONS if start is None else ITERATIONS, start)
        self._fitted = (usable, values)
        weights, intercepts = problem.split(values)
        intercepts = torch.where(problem.present, intercepts, -torch.inf)
        if self._basis is not None:
            weights = (weights @ self._basis.T) @ self._scaled
        for place, fold in enumerate(np.flatnonzero(usable)):
            self._fill(probs, int(fold), weights[place], intercepts[place])
        return probs

    def _fill(self, probs: np.ndarray, fold: int, weights: Tensor, intercepts: Tensor) -> None:
        """Predict the samples of a fold by ``(C, D)`` weights and ``(C,)`` intercepts."""
        here = np.flatnonzero(~self._trains[fold])  # (M,), drawn samples of this fold
        logits = self._scaled[here] @ weights.T + intercepts
        probs[self.training_samples[here]] = logits.softmax(1).numpy()
        others = np.setdiff1d(np.flatnonzero(self.fold_of == fold), self.training_samples[here])
        for part in self._parts(len(others)):
            block = (self._read(others[part]) - self._mean) / self._deviation
            probs[others[part]] = (block @ weights.T + intercepts).softmax(1).numpy()

    def _parts(self, size: int) -> Iterator[slice]:
        """Cut samples into slices, because features may lie in a file that is larger than memory."""
        return row_blocks(size, self._features.shape[1], BLOCK_VALUES)

    def _read(self, samples: np.ndarray) -> Tensor:
        """Return features of some of the L samples, ``(B, D)`` float32."""
        return torch.from_numpy(self._features[self._rows[samples]].astype(np.float32, copy=False))


@dataclass(frozen=True)
class FoldedProblem:
    """The loss of a multinomial logistic regression for each fold.

    Each fold's is the weighted mean cross-entropy of its training samples plus
    ``|W|² / (2 · strength · sum of their weights)``, as scikit-learn has it, up to a factor.

    Attributes
    ----------
    points
        ``(M, D)`` float32, standardized features.
    labels
        ``(M,)`` int64 in 0..C-1.
    sample_weight
        ``(M,)`` float32 in [0, 1].
    trains
        ``(F, M)`` bool, the training samples of each fold; at least one has a positive weight.
    num_classes
        C.
    strength
        Inverse strength of the penalty.
    """

    points: Tensor
    labels: Tensor
    sample_weight: Tensor
    trains: Tensor
    num_classes: int
    strength: float

    @property
    def present(self) -> Tensor:
        """``(F, C)`` bool, whether a class is among the training samples of a fold."""
        present = torch.zeros(len(self.trains), self.num_classes, dtype=torch.bool)
        for fold, trains in enumerate(self.trains):
            present[fold, self.labels[trains]] = True
        return present

    def split(self, values: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the weights ``(F, C, D)`` and intercepts ``(F, C)``, float32, in a solution."""
        every = torch.from_numpy(values).float()
        folds, size = len(self.trains), self.points.shape[1]
        rows = folds * self.num_classes
        weights = every[: rows * size].view(folds, self.num_classes, size)
        return weights, every[rows * size :].view(folds, self.num_classes)

    def solve(self, iterations: int, start: np.ndarray | None = None) -> np.ndarray:
        """Minimize the sum over folds by L-BFGS, from an earlier solution or from zeros."""
        folds, size = len(self.trains), self.points.shape[1]
        first = np.zeros(folds * self.num_classes * (size + 1)) if start is None else start
        weight = self.sample_weight * self.trains  # (F, M)
        share = (weight / weight.sum(1, keepdim=True)).T.contiguous()  # (M, F)
        penalty = (1.0 / (self.strength * weight.sum(1)))[:, None, None]  # (F, 1, 1)
        absent = torch.where(self.present, 0.0, IMPOSSIBLE)

        def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
            weights, intercepts = self.split(values)
            pull = penalty * weights
            value = 0.5 * float((pull * weights).sum())
            slope = torch.zeros_like(weights)
            slope_of_intercepts = torch.zeros_like(intercepts)
            for part in row_blocks(len(self.points), folds * self.num_classes, FITTED_VALUES):
                entropy, residual = self._residual(part, weights, intercepts + absent, share[part])
                value += entropy
                slope += (residual.flatten(1).T @ self.points[part]).view_as(slope)
                slope_of_intercepts += residual.sum(0)
            gradient = torch.cat([(slope + pull).flatten(), slope_of_intercepts.flatten()])
            return value, gradient.double().numpy()

        # The threads of SciPy's own products would keep those of torch waiting.
        with threadpool_limits(1, user_api="blas"):
            found = minimize(
                loss,
                first,
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": iterations, "gtol": 1e-4, "maxls": 50},
            )
        return np.asarray(found.x)

    def _residual(
        self, part: slice, weights: Tensor, intercepts: Tensor, share: Tensor
    ) -> tuple[float, Tensor]:
        """Return the cross-entropy of some samples, and its gradient by the logits, ``(B, F, C)``."""
        folds, classes = intercepts.shape
        logits = torch.addmm(intercepts.flatten(), self.points[part], weights.flatten(0, 1).T)
        log_probs = logits.view(-1, folds, classes).log_softmax(2)
        own = self.labels[part, None, None].expand(-1, folds, 1)
        entropy = -float((log_probs.gather(2, own).squeeze(2) * share).sum())
        residual = log_probs.exp_().mul_(share[:, :, None])
        residual.scatter_add_(2, own, -share[:, :, None])
        return entropy, residual


def penalty_strength(samples: int) -> float:
    """Return the inverse strength of the penalty for this number of training samples in all folds."""
    return min(MOST_STRENGTH, max(LEAST_STRENGTH, STRENGTH_TIMES_SAMPLES / samples))


def _coordinates(features: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return coordinates of M samples, and B ``(M, r)`` so that they are X Xᵀ B.

    They are X itself, and B is None, unless M is below D.
    """
    if len(features) >= features.shape[1]:
        return features, None
    products = features @ features.T
    variances, directions = torch.linalg.eigh(products.double())
    kept = variances > LEAST_VARIANCE * variances[-1].clamp_min(1e-30)
    basis = (directions[:, kept] / variances[kept].sqrt()).float()
    return products @ basis, basis

"""Logistic regressions of wide features, one for each fold, fitted together.

With thousands of features, time goes into reading the features from memory. So all folds are fitted at
once: a product of the features with the weights of five classifiers takes little longer than with those
of one. The problem is that of `sklearn.linear_model.LogisticRegression` with an L2 penalty. With fewer
samples than features, the samples' own coordinates stand for the features, which gives the same
classifiers: their weights are linear combinations of the samples.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits
from torch import Tensor

from labelaudit.suspects.nearest import BLOCK_VALUES

FIRST_ITERATIONS, ITERATIONS = 12, 25
LEAST_VARIANCE = 1e-6  # share of the largest; smaller ones are rounding errors


class WideLinear:
    """Cross-fitted logistic regressions of very many features, fitted again with other weights.

    Parameters
    ----------
    features
        ``(N, D)`` float32, maybe memory-mapped.
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
    strength
        Inverse strength of the penalty.

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
        strength: float,
    ) -> None:
        self._features, self._rows, self._num_classes = features, rows, num_classes
        self._strength = strength
        shuffled = np.random.default_rng(seed).permutation(len(rows))
        self.fold_of = np.empty(len(rows), dtype=np.int64)
        drawn_rows = []
        for number, (_, fold) in enumerate(KFold(folds).split(shuffled)):
            self.fold_of[shuffled[fold]] = number
            drawn_rows.append(shuffled[fold][: max(1, most // (folds - 1))])
        self.training_samples = np.sort(np.concatenate(drawn_rows))
        self._trains = self.fold_of[self.training_samples] != np.arange(folds)[:, None]  # (F, M)
        drawn = torch.from_numpy(features[rows[self.training_samples]])
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
        weights, intercepts, values = fit_folds(
            self._points,
            torch.from_numpy(labels),
            torch.from_numpy(weight.astype(np.float32)),
            torch.from_numpy(self._trains[usable]),
            self._num_classes,
            strength=self._strength,
            iterations=FIRST_ITERATIONS if start is None else ITERATIONS,
            start=start,
        )
        self._fitted = (usable, values)
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
        # Features may lie in a file that is larger than memory.
        step = max(1, BLOCK_VALUES // self._features.shape[1])
        for start in range(0, len(others), step):
            part = others[start : start + step]
            block = torch.from_numpy(self._features[self._rows[part]])
            logits = (block - self._mean) / self._deviation @ weights.T + intercepts
            probs[part] = logits.softmax(1).numpy()


def fit_folds(
    points: Tensor,
    labels: Tensor,
    sample_weight: Tensor,
    trains: Tensor,
    num_classes: int,
    *,
    strength: float,
    iterations: int,
    start: np.ndarray | None = None,
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Fit a multinomial logistic regression for each fold.

    Each minimizes the weighted mean cross-entropy of its training samples plus
    ``|W|² / (2 · strength · sum of their weights)``, as scikit-learn does.

    Parameters
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
    iterations
        Largest number of iterations of L-BFGS.
    start
        The values of an earlier fit to begin with.

    Returns
    -------
    tuple
        Weights ``(F, C, D)`` and intercepts ``(F, C)``, float32, and the values to begin another fit
        with. The intercept is minus infinity for a class that the training samples of a fold lack.
    """
    folds = len(trains)
    weight = sample_weight * trains  # (F, M)
    penalty = 1.0 / (strength * weight.sum(1))  # (F,)
    share = (weight / weight.sum(1, keepdim=True)).T[:, :, None]  # (M, F, 1)
    target = torch.nn.functional.one_hot(labels, num_classes).float()[:, None]  # (M, 1, C)
    present = torch.zeros(folds, num_classes, dtype=torch.bool)
    for fold in range(folds):
        present[fold, labels[trains[fold]]] = True
    absent = torch.where(present, 0.0, -torch.inf)
    size = points.shape[1]

    def split(values: np.ndarray) -> tuple[Tensor, Tensor]:
        every = torch.from_numpy(values).float()
        rows = folds * num_classes
        return every[: rows * size].view(rows, size), every[rows * size :]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients, intercepts = split(values)
        logits = points @ coefficients.T + intercepts
        log_probs = (logits.view(-1, folds, num_classes) + absent).log_softmax(2)
        entropy = -(log_probs.gather(2, labels[:, None, None].expand(-1, folds, 1)) * share)
        # A sample outside of a fold may have a class that the fold lacks.
        value = torch.where(share > 0, entropy, 0.0).sum()
        residual = torch.where(share > 0, (log_probs.exp() - target) * share, 0.0).flatten(1)
        pull = penalty.repeat_interleave(num_classes)[:, None] * coefficients
        slope = torch.cat([(residual.T.contiguous() @ points + pull).flatten(), residual.sum(0)])
        value = value + 0.5 * (pull * coefficients).sum()
        return float(value), slope.double().numpy()

    # The threads of SciPy's own products would keep those of torch waiting.
    with threadpool_limits(1, user_api="blas"):
        found = minimize(
            loss,
            np.zeros(folds * num_classes * (size + 1)) if start is None else start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": iterations, "gtol": 1e-4, "maxls": 50},
        )
    weights, intercepts = split(found.x)
    shaped = weights.view(folds, num_classes, size)
    return shaped, intercepts.view(folds, num_classes) + absent, found.x


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

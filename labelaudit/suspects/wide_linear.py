"""Logistic regressions of wide features, one for each fold, fitted together.

With thousands of features, time goes into reading the features from memory. So all folds are fitted at
once: a product of the features with the weights of five classifiers takes little longer than with those
of one. The problem is that of `sklearn.linear_model.LogisticRegression` with an L2 penalty. With fewer
samples than features, the samples' own coordinates stand for the features, which gives the same
classifiers: their weights are linear combinations of the samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

LEAST_VARIANCE = 1e-6  # share of the largest; smaller ones are rounding errors


@dataclass(frozen=True)
class FoldClassifiers:
    """One multinomial logistic regression for each of F folds.

    Attributes
    ----------
    weights
        ``(F, C, D)`` float32.
    intercepts
        ``(F, C)`` float32, minus infinity for classes that a fold's training samples lack.
    """

    weights: Tensor
    intercepts: Tensor

    def predict(self, features: Tensor, fold: int) -> np.ndarray:
        """Return class probabilities of samples by the classifier of a fold.

        Parameters
        ----------
        features
            ``(B, D)`` float32, standardized like the training samples.
        fold
            Number of the fold, from 0.

        Returns
        -------
        np.ndarray
            ``(B, C)`` float32, rows sum to 1.
        """
        logits = features @ self.weights[fold].T + self.intercepts[fold]
        return logits.softmax(1).numpy()


def fit_folds(
    features: Tensor,
    labels: Tensor,
    sample_weight: Tensor,
    trains: Tensor,
    num_classes: int,
    *,
    strength: float,
    iterations: int,
) -> FoldClassifiers:
    """Fit a multinomial logistic regression for each fold.

    Each minimizes the weighted mean cross-entropy of its training samples plus
    ``|W|² / (2 · strength · sum of their weights)``, as scikit-learn does.

    Parameters
    ----------
    features
        ``(M, D)`` float32, standardized.
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
    """
    folds = len(trains)
    basis = _coordinates(features)
    points = features if basis is None else features @ (features.T @ basis)
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
            np.zeros(folds * num_classes * (size + 1)),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": iterations, "gtol": 1e-4, "maxls": 50},
        )
    weights, intercepts = split(found.x)
    if basis is not None:
        weights = (weights @ basis.T) @ features
    return FoldClassifiers(
        weights.view(folds, num_classes, -1), intercepts.view(folds, num_classes) + absent
    )


def _coordinates(features: Tensor) -> Tensor | None:
    """Return B ``(M, r)`` so that X Xᵀ B are coordinates of the M samples; None if M is not below D."""
    if len(features) >= features.shape[1]:
        return None
    variances, directions = torch.linalg.eigh((features @ features.T).double())
    kept = variances > LEAST_VARIANCE * variances[-1].clamp_min(1e-30)
    basis: Tensor = (directions[:, kept] / variances[kept].sqrt()).float()
    return basis

"""Means over epochs of what training records about each label.

Only sums and the last epoch are kept, so that memory does not grow with the number of epochs.
"""

from __future__ import annotations

import numpy as np

MIN_PROB = 1e-12  # keeps the quotient of `posterior_wrong` finite


class EpochMeans:
    """Means over epochs of ε and of the probability that a label is wrong.

    Parameters
    ----------
    num_labels
        L, number of labeled samples.
    num_classes
        C, at least 2.
    min_epsilon
        ε_min, see `posterior_wrong`.

    Attributes
    ----------
    epsilon, guider_prob, learner_prob
        ``(L,)`` float32 in [0, 1], values of the last epoch; not set before the first.
    num_epochs
        Number of epochs that were added.
    """

    epsilon: np.ndarray
    guider_prob: np.ndarray
    learner_prob: np.ndarray

    def __init__(self, num_labels: int, num_classes: int, min_epsilon: float) -> None:
        self.num_classes = num_classes
        self.min_epsilon = min_epsilon
        self.num_epochs = 0
        self._posterior_sum = np.zeros(num_labels)
        self._epsilon_sum = np.zeros(num_labels)

    def add(self, epsilon: np.ndarray, guider_prob: np.ndarray, learner_prob: np.ndarray) -> None:
        """Add one epoch. The order of the epochs decides which is the last.

        Parameters
        ----------
        epsilon
            ``(L,)`` float32 in [0, 1]: the distance between the two probabilities (Eq. 11).
        guider_prob, learner_prob
            ``(L,)`` float32 in [0, 1]: probability of the given label.
        """
        self._posterior_sum += posterior_wrong(
            epsilon, guider_prob, self.num_classes, self.min_epsilon
        )
        self._epsilon_sum += epsilon
        self.epsilon, self.guider_prob, self.learner_prob = epsilon, guider_prob, learner_prob
        self.num_epochs += 1

    @property
    def posterior(self) -> np.ndarray:
        """``(L,)`` float64 in [0, 1]: mean of `posterior_wrong` over all epochs."""
        return self._posterior_sum / self.num_epochs

    @property
    def epsilon_mean(self) -> np.ndarray:
        """``(L,)`` float64 in [0, 1]: mean of ε over all epochs."""
        return self._epsilon_sum / self.num_epochs


def posterior_wrong(
    epsilon: np.ndarray, guider_prob: np.ndarray, num_classes: int, min_epsilon: float
) -> np.ndarray:
    """Compute the probability that the given label is wrong, by Bayes' rule with the channel of Eq. 9.

    ::

        P(y ≠ ỹ | x, ỹ) = ε/(C-1) (1 - q'(ỹ)) / [(1-ε) q'(ỹ) + ε/(C-1) (1 - q'(ỹ))]

    Parameters
    ----------
    epsilon
        ``(L,)`` in [0, 1]; clamped to [ε_min, 1 - 1/C - ε_min] first.
    guider_prob
        ``(L,)`` in [0, 1], q'(ỹ).
    num_classes
        C, at least 2.
    min_epsilon
        ε_min.

    Returns
    -------
    np.ndarray
        ``(L,)`` float64 in [0, 1].
    """
    epsilon = np.asarray(epsilon, dtype=np.float64)
    guider_prob = np.asarray(guider_prob, dtype=np.float64)
    epsilon = np.clip(epsilon, min_epsilon, 1.0 - 1.0 / num_classes - min_epsilon)
    wrong = epsilon / (num_classes - 1) * (1.0 - guider_prob)
    right = (1.0 - epsilon) * guider_prob
    return np.asarray(wrong / np.maximum(wrong + right, MIN_PROB))

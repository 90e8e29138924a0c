"""A noise transition matrix and a calibration, fitted to the given labels alone.

Out-of-sample class probabilities are rarely calibrated: networks are too certain, averages over
neighbors too uncertain. And wrong labels are rarely spread evenly over the classes. Both can be
estimated from the given labels, without the truth, because these follow

    P(ỹ = j | x) = Σ_k p_k(x) T[k, j],      p(x) = softmax(a log n(x) + b)

where n are the out-of-sample probabilities, a is their sharpness, b corrects the class shares and T is
the noise transition matrix. a, b and T are chosen by the likelihood of the given labels. Bayes' rule
then gives

    P(y = k | x, ỹ) = p_k(x) T[k, ỹ] / Σ_l p_l(x) T[l, ỹ].

The channel of Eq. 9 is the special case of a T with equal entries beside its diagonal. To learn T and
a calibrated classifier by expectation maximization is not new: Dawid and Skene 1979
(https://doi.org/10.2307/2346806), with classifiers Mnih and Hinton 2012
(https://icml.cc/2012/papers/318.pdf) and, for the noise that depends on the class, Patrini et al. 2017
(https://arxiv.org/abs/1609.03683).

The probabilities must be out of sample. A classifier that has memorized a sample's label agrees with
it, and nothing in the labels shows that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import logsumexp

from labelaudit.memory import row_blocks
from labelaudit.suspects.calibration import log_of
from labelaudit.suspects.class_probs import ClassProbs, whole
from labelaudit.suspects.nearest import draw
from labelaudit.suspects.sparse_noise import SparseNoiseModel, fit_sparse_noise_model

# Number of probabilities in a fit, and the smallest number of samples per class. Where these would be
# more probabilities, a sparse transition matrix is fitted to the last number of condensed ones.
FIT_VALUES, FIT_SAMPLES_PER_CLASS, SPARSE_FIT_VALUES = 2_000_000, 20, 500_000
# Largest number of samples in a fit; with many classes there are fewer.
FIT_SAMPLES = 20_000
ROUNDS, STEPS_PER_ROUND = 24, 5
TOLERANCE = 1e-5  # of the noise rate between rounds
# Pseudo-counts, in labels: a class's share of wrong labels is drawn towards that of all classes, and
# each cell of T towards the average cell of its class.
RATE_PSEUDO_COUNT = 20.0
CELL_PSEUDO_COUNT = 1.0
FIRST_RATE = 0.2


@dataclass(frozen=True)
class LabelPosterior:
    """The model's posterior of L labels.

    Attributes
    ----------
    wrong_prob
        ``(L,)`` float64 in [0, 1], P(y ≠ ỹ | x, ỹ).
    log_odds
        ``(L,)`` float64, log-odds of `wrong_prob`; they differ where that rounds to 1.
    clean_probs
        ``(L, C)`` float32, P(y | x, ỹ), rows sum to 1.
    class_uncertainty
        ``(L,)`` float64 in [0, 1], 1 - max_k p_k(x): probability that the likeliest class without the
        label is not the right one.
    """

    wrong_prob: np.ndarray
    log_odds: np.ndarray
    clean_probs: np.ndarray
    class_uncertainty: np.ndarray

    @property
    def class_shares(self) -> np.ndarray:
        """``(C,)`` float32, mean of `clean_probs` over the labels."""
        return np.asarray(self.clean_probs.mean(axis=0))


@dataclass(frozen=True)
class NoiseModel:
    """Fitted parameters; see the module.

    Attributes
    ----------
    sharpness
        a > 0; above 1 where the probabilities are too uncertain.
    class_bias
        b, ``(C,)``.
    transition_matrix
        T, ``(C, C)``, T[k, j] = P(given j | right k); rows sum to 1.
    """

    sharpness: float
    class_bias: np.ndarray
    transition_matrix: np.ndarray

    def infer(self, oos_probs: ClassProbs, given_labels: np.ndarray) -> LabelPosterior:
        """Apply Bayes' rule to labels.

        Parameters
        ----------
        oos_probs
            ``(L, C)``, rows sum to 1.
        given_labels
            ``(L,)`` int64 in 0..C-1.
        """
        total, classes = oos_probs.shape
        log_channel = np.log(self.transition_matrix)
        log_odds, class_uncertainty = np.empty(total), np.empty(total)
        clean_probs = np.empty((total, classes), dtype=np.float32)
        for part in row_blocks(total, classes, FIT_VALUES):
            given = given_labels[part]
            rows = np.arange(len(given))
            joint = self.sharpness * log_of(oos_probs[part].astype(np.float64)) + self.class_bias
            class_uncertainty[part] = 1.0 - np.exp(joint.max(axis=1) - logsumexp(joint, axis=1))
            joint += log_channel[:, given].T  # (B, C), not normalized
            right = joint[rows, given].copy()
            clean_probs[part] = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
            joint[rows, given] = -np.inf
            log_odds[part] = logsumexp(joint, axis=1) - right
        wrong_prob = np.exp(-np.logaddexp(0.0, -log_odds))  # without overflow
        return LabelPosterior(wrong_prob, log_odds, clean_probs, class_uncertainty)

    def log_likelihood(self, oos_probs: np.ndarray, given_labels: np.ndarray) -> float:
        """Return the mean of log P(ỹ | x), in nats.

        Parameters
        ----------
        oos_probs
            ``(L, C)``, rows sum to 1.
        given_labels
            ``(L,)`` int64 in 0..C-1.
        """
        probs = _soft(
            np.r_[np.log(self.sharpness), self.class_bias], log_of(oos_probs.astype(np.float64))
        )
        given_prob = (probs * self.transition_matrix[:, given_labels].T).sum(axis=1)
        return float(np.log(given_prob).mean())

    def best_log_likelihood(self, class_shares: np.ndarray) -> float:
        """Return the mean of log P(ỹ | y), in nats: that of a classifier which knows the right class.

        Parameters
        ----------
        class_shares
            ``(C,)``, shares of the right classes; they sum to 1.
        """
        channel = self.transition_matrix
        return float((class_shares[:, None] * channel * np.log(channel)).sum())


def has_many_classes(num_classes: int) -> bool:
    """Whether there are too many classes to fit all cells of a transition matrix."""
    return FIT_SAMPLES_PER_CLASS * num_classes**2 > FIT_VALUES


def fit_noise_model(
    oos_probs: ClassProbs, given_labels: np.ndarray, *, seed: int = 0
) -> NoiseModel | SparseNoiseModel:
    """Fit the noise model that suits the number of classes.

    Parameters
    ----------
    oos_probs
        ``(L, C)``, rows sum to 1: class probabilities by a model that has not seen the label.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    seed
        Seed of the draw of samples that the model is fitted to, where there are very many.
    """
    if has_many_classes(oos_probs.shape[1]):
        return fit_sparse_noise_model(oos_probs, given_labels, most=SPARSE_FIT_VALUES, seed=seed)
    return fit_transition_matrix(oos_probs, given_labels, seed=seed)


def fit_transition_matrix(
    oos_probs: ClassProbs, given_labels: np.ndarray, *, seed: int = 0
) -> NoiseModel:
    """Fit the model by expectation maximization.

    The transition matrix is updated in closed form, with the pseudo-counts above. After every few of
    these updates, sharpness and class bias are updated by L-BFGS, with a standard normal prior on log a
    and b.

    Parameters
    ----------
    oos_probs
        ``(L, C)``, rows sum to 1: class probabilities by a model that has not seen the label.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    seed
        Seed of the draw of samples that the model is fitted to, where there are very many.
    """
    total, classes = oos_probs.shape
    most = min(FIT_SAMPLES, FIT_VALUES // classes)
    if total > most:
        rows = draw(np.arange(total), most, seed)
        oos_probs, given_labels = oos_probs[rows], given_labels[rows]
    log_probs = log_of(whole(oos_probs).astype(np.float64))
    rows = np.arange(len(given_labels))
    by_given = csr_array((np.ones(len(rows)), (given_labels, rows)), shape=(classes, len(rows)))
    channel = _channel(np.zeros((classes, classes)), FIRST_RATE)
    parameters = np.zeros(1 + classes)  # log a, b
    rate = FIRST_RATE
    for _ in range(ROUNDS):
        probs = _soft(parameters, log_probs)
        before = rate
        for _ in range(STEPS_PER_ROUND):
            counts = _expected_counts(probs, channel, given_labels, by_given)
            rate = (counts.sum() - np.trace(counts) + 1.0) / (counts.sum() + 2.0)
            channel = _channel(counts, rate)
        parameters = minimize(
            _loss,
            parameters,
            args=(log_probs, channel[:, given_labels].T),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 15},
        ).x
        if abs(rate - before) < TOLERANCE:
            break
    return NoiseModel(float(np.exp(parameters[0])), parameters[1:], channel)


def _soft(parameters: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    logits = np.exp(parameters[0]) * log_probs + parameters[1:]
    logits -= logits.max(axis=1, keepdims=True)
    probs = np.exp(logits)
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def _expected_counts(
    probs: np.ndarray, channel: np.ndarray, given: np.ndarray, by_given: csr_array
) -> np.ndarray:
    """Return the expected number of samples of each right and given class, ``(C, C)``."""
    joint = probs * channel[:, given].T
    joint /= joint.sum(axis=1, keepdims=True)
    return np.asarray((by_given @ joint).T)


def _channel(counts: np.ndarray, rate: float) -> np.ndarray:
    """Estimate T from expected counts and from the share of wrong labels among all."""
    classes = len(counts)
    beside = ~np.eye(classes, dtype=bool)
    wrong = np.where(beside, counts, 0.0)
    class_rate = wrong.sum(axis=1) + RATE_PSEUDO_COUNT * rate
    class_rate /= counts.sum(axis=1) + RATE_PSEUDO_COUNT
    kinds = np.where(beside, counts + CELL_PSEUDO_COUNT, 0.0)
    kinds /= kinds.sum(axis=1, keepdims=True)
    channel = np.where(beside, kinds * class_rate[:, None], (1.0 - class_rate)[:, None])
    return np.asarray(channel)


def _loss(
    parameters: np.ndarray, log_probs: np.ndarray, likelihood: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the negative log-posterior of log a and b, and its gradient; likelihood is T[k, ỹ]."""
    probs = _soft(parameters, log_probs)
    joint = probs * likelihood
    evidence = joint.sum(axis=1, keepdims=True)
    surplus = joint / evidence - probs  # gradient of the log-likelihood by the logits
    gradient = np.empty_like(parameters)
    gradient[0] = -np.exp(parameters[0]) * (surplus * log_probs).sum()
    gradient[1:] = -surplus.sum(axis=0)
    loss = -np.log(evidence).sum() + 0.5 * np.square(parameters).sum()
    return float(loss), gradient + parameters

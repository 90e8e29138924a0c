"""The noise model of very many classes, whose transition matrix is sparse.

`labelaudit.suspects.noise_model` estimates a transition matrix. With many classes nearly all of its
cells hold no label and have the same value in a row. Here only the pairs of classes that occur are
kept: of a sample's given class and one of its likeliest classes. The model is fitted to condensed
probabilities (`labelaudit.suspects.condensed`), so that neither time nor memory of a fit grows with the
number of classes. Bayes' rule is applied to all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_array

from labelaudit.memory import row_blocks
from labelaudit.suspects.calibration import log_of
from labelaudit.suspects.class_probs import ClassProbs
from labelaudit.suspects.condensed import Condensed, Pairs, condense, num_columns
from labelaudit.suspects.nearest import draw

Floats = npt.NDArray[np.floating]

BLOCK_VALUES = 1 << 22
ROUNDS, STEPS_PER_ROUND = 24, 5
TOLERANCE = 1e-5  # of the noise rate between rounds
# In labels, as in the model with a whole transition matrix.
RATE_PSEUDO_COUNT, CELL_PSEUDO_COUNT = 20.0, 1.0
FIRST_RATE = 0.2


@dataclass(frozen=True)
class SparseChannel:
    """A transition matrix T[k, j] = P(given j | right k) with one value for most cells of a row.

    Attributes
    ----------
    wrong_shares
        ``(C,)`` in (0, 1), share of wrong labels of each class.
    beside
        ``(C,)``, T[k, j] for most j ≠ k.
    right, given, cells
        ``(P,)`` each: the other pairs k and j, and T[k, j].
    """

    wrong_shares: Floats
    beside: Floats
    right: npt.NDArray[np.int64]
    given: npt.NDArray[np.int64]
    cells: Floats

    @cached_property
    def surplus(self) -> csr_array:
        """``(C, C)`` float32, T[k, j] - beside[k] at row j and column k."""
        values = (self.cells - self.beside[self.right]).astype(np.float32)
        size = len(self.beside)
        return csr_array((values, (self.given, self.right)), shape=(size, size))

    def negative_entropy(self) -> Floats:
        """Return Σ_j T[k, j] log T[k, j], ``(C,)``, in nats."""
        classes, wrong = len(self.beside), self.wrong_shares
        paired = np.bincount(self.right, self.cells * np.log(self.cells), minlength=classes)
        number = classes - 1 - np.bincount(self.right, minlength=classes)
        return np.asarray(
            (1.0 - wrong) * np.log(1.0 - wrong)
            + paired
            + number * self.beside * np.log(self.beside)
        )


@dataclass(frozen=True)
class SparsePosterior:
    """The model's posterior of L labels.

    Attributes
    ----------
    wrong_prob
        ``(L,)`` float64 in [0, 1], P(y ≠ ỹ | x, ỹ).
    class_shares
        ``(C,)``, mean of P(y | x, ỹ) over the labels.
    """

    wrong_prob: Floats
    class_shares: Floats


@dataclass(frozen=True)
class SparseNoiseModel:
    """Fitted parameters; see the module.

    Attributes
    ----------
    sharpness
        a > 0; above 1 where the probabilities are too uncertain.
    class_bias
        b, ``(C,)``.
    channel
        The transition matrix.
    """

    sharpness: float
    class_bias: Floats
    channel: SparseChannel

    def infer(self, oos_probs: ClassProbs, given_labels: npt.NDArray[np.int64]) -> SparsePosterior:
        """Apply Bayes' rule to labels.

        Parameters
        ----------
        oos_probs
            ``(L, C)``, rows sum to 1.
        given_labels
            ``(L,)`` int64 in 0..C-1.
        """
        total, classes = oos_probs.shape
        wrong_prob, shares = np.empty(total), np.zeros(classes)
        for part in row_blocks(total, classes, BLOCK_VALUES):
            given = given_labels[part]
            right, beside, wrong = self._joint(oos_probs[part], given)
            evidence = right + wrong
            wrong_prob[part] = wrong / evidence
            shares += (1.0 / evidence).astype(np.float32) @ beside
            shares += np.bincount(given, weights=right / evidence, minlength=classes)
        return SparsePosterior(wrong_prob, shares / total)

    def log_likelihood(self, oos_probs: ClassProbs, given_labels: npt.NDArray[np.int64]) -> float:
        """Return the mean of log P(ỹ | x), in nats; parameters as for `infer`."""
        total = 0.0
        for part in row_blocks(len(given_labels), len(self.class_bias), BLOCK_VALUES):
            right, _, wrong = self._joint(oos_probs[part], given_labels[part])
            total += float(np.log(right + wrong).sum())
        return total / len(given_labels)

    def best_log_likelihood(self, class_shares: Floats) -> float:
        """Return the mean of log P(ỹ | y), in nats, for shares ``(C,)`` of the right classes."""
        return float((class_shares * self.channel.negative_entropy()).sum())

    def _joint(self, probs: Floats, given: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """Return P(y = ỹ, ỹ | x) ``(B,)``, P(y = k, ỹ | x) of the others ``(B, C)``, and its sum."""
        rows, channel = np.arange(len(given)), self.channel
        joint = np.float32(self.sharpness) * log_of(np.asarray(probs, dtype=np.float32))
        joint += self.class_bias.astype(np.float32)
        joint -= joint.max(axis=1, keepdims=True)
        np.exp(joint, out=joint)
        joint /= joint.sum(axis=1, keepdims=True)
        right = joint[rows, given].astype(np.float64) * (1.0 - channel.wrong_shares[given])
        joint[rows, given] = 0.0  # Otherwise rounding loses a small probability of "wrong".
        surplus = channel.surplus[given].tocoo()
        places = surplus.coords
        added = joint[places] * surplus.data
        joint *= channel.beside.astype(np.float32)
        joint[places] += added
        wrong = joint.sum(axis=1).astype(np.float64)
        return right, joint, np.maximum(wrong, np.finfo(np.float32).tiny)


def fit_sparse_noise_model(
    oos_probs: ClassProbs, given_labels: npt.NDArray[np.int64], *, most: int, seed: int
) -> SparseNoiseModel:
    """Fit the model by expectation maximization.

    Parameters
    ----------
    oos_probs
        ``(L, C)``, rows sum to 1: class probabilities by a model that has not seen the label.
    given_labels
        ``(L,)`` int64 in 0..C-1.
    most
        Largest number of condensed probabilities in the fit.
    seed
        Seed of the draw of samples that the model is fitted to, where there are very many.
    """
    total, classes = oos_probs.shape
    rows = draw(np.arange(total), most // num_columns(classes), seed)
    sample = condense(
        lambda some: log_of(np.asarray(oos_probs[some])), rows, given_labels[rows], classes
    )
    pairs = sample.pairs()
    parameters = np.zeros(1 + classes)  # log a, b
    rate = FIRST_RATE
    none = np.zeros(classes)
    channel = _channel(none, np.zeros(len(pairs.right)), pairs, rate)
    for _ in range(ROUNDS):
        probs = _soft(parameters, sample)
        before = rate
        for _ in range(STEPS_PER_ROUND):
            joint = probs * _likelihood(channel, rate, sample, pairs)
            joint /= joint.sum(axis=1, keepdims=True)
            right = np.bincount(sample.given, joint[:, 0], classes).astype(np.float64)
            rate = (len(sample) - right.sum() + 1.0) / (len(sample) + 2.0)
            channel = _channel(right, pairs.total(joint), pairs, rate)
        parameters = minimize(
            _loss,
            parameters,
            args=(sample, _likelihood(channel, rate, sample, pairs)),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 15},
        ).x
        if abs(rate - before) < TOLERANCE:
            break
    return SparseNoiseModel(math.exp(parameters[0]), parameters[1:], channel)


def _channel(right: Floats, wrong: Floats, pairs: Pairs, rate: float) -> SparseChannel:
    """Estimate T from expected counts of right labels ``(C,)`` and of pairs ``(P,)``.

    `rate` is the share of wrong labels among all.
    """
    classes = len(right)
    of_class = np.bincount(pairs.right, weights=wrong, minlength=classes)
    shares = of_class + RATE_PSEUDO_COUNT * rate
    shares /= right + of_class + RATE_PSEUDO_COUNT
    beside = CELL_PSEUDO_COUNT * shares / (of_class + CELL_PSEUDO_COUNT * (classes - 1))
    cells = beside[pairs.right] * (wrong / CELL_PSEUDO_COUNT + 1.0)
    return SparseChannel(shares, beside, pairs.right, pairs.given, cells)


def _likelihood(channel: SparseChannel, rate: float, sample: Condensed, pairs: Pairs) -> Floats:
    """Return P(ỹ | y) for the classes of each column, ``(n, K)``."""
    # The classes of a band are any classes.
    likelihood = np.full(sample.classes.shape, rate / (sample.num_classes - 1))
    likelihood[:, 0] = 1.0 - channel.wrong_shares[sample.given]
    likelihood[:, 1 : 1 + pairs.index.shape[1]] = channel.cells[pairs.index]
    return likelihood


def _soft(parameters: Floats, sample: Condensed) -> Floats:
    """Return p, ``(n, K)``, by log a and b."""
    bias = np.append(parameters[1:], 0.0)
    logits = math.exp(parameters[0]) * sample.log_probs + sample.log_sizes
    logits += bias[sample.classes]
    logits -= logits.max(axis=1, keepdims=True)
    probs = np.exp(logits, out=logits)
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def _loss(parameters: Floats, sample: Condensed, likelihood: Floats) -> tuple[float, Floats]:
    """Return the negative log-posterior of log a and b, and its gradient."""
    probs = _soft(parameters, sample)
    joint = probs * likelihood
    evidence = joint.sum(axis=1, keepdims=True)
    surplus = joint / evidence - probs  # gradient of the log-likelihood by the logits
    gradient = np.empty_like(parameters)
    gradient[0] = -math.exp(parameters[0]) * (surplus * sample.log_probs).sum()
    gradient[1:] = -sample.total(surplus)[:-1]
    loss = -np.log(evidence).sum() + 0.5 * np.square(parameters).sum()
    return float(loss), gradient + parameters

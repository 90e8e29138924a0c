"""Explanations of how the given labels arose, and their average for a block of labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Floats = npt.NDArray[np.floating]

# With more classes than this, cells of W beside the diagonal are all 1 where t > 0.
MANY_CLASSES = 200


@dataclass(frozen=True)
class SparseConfusion:
    """W of very many classes, with one value for most cells of a row.

    Attributes
    ----------
    diagonal, beside
        ``(C,)`` each, W_kk, and W_kj of most j ≠ k.
    right, given, cells
        ``(P,)`` each: the other pairs k and j, and W_kj.
    """

    diagonal: Floats
    beside: Floats
    right: npt.NDArray[np.int64]
    given: npt.NDArray[np.int64]
    cells: Floats

    @cached_property
    def surplus(self) -> csr_array:
        """``(C, C)``, W_kj - beside_k at row j and column k."""
        size = len(self.beside)
        values = self.cells - self.beside[self.right]
        return csr_array((values, (self.given, self.right)), shape=(size, size))

    def total(self) -> Floats:
        """Return the sums of the rows, ``(C,)``."""
        size = len(self.beside)
        values = self.cells - self.beside[self.right]
        paired = np.bincount(self.right, weights=values, minlength=size)
        return np.asarray(self.diagonal + (size - 1) * self.beside + paired)


@dataclass(frozen=True)
class Explanation:
    """One way in which the given labels may have arisen; see `labelaudit.suspects.label_model`.

    Attributes
    ----------
    weight
        In [0, 1]; the weights of all explanations sum to 1.
    sharpness, follow
        s and t, both exponents of P.
    class_bias
        b, ``(C,)``.
    confusion
        W, ``(C, C)``, positive; only ratios within a row matter. It is sparse with very many classes.
    log_likelihood
        Mean of log P(ỹ | x) over the samples of the fit, in nats.
    wrong_share, variance_share, uncertainty_share
        Averages over the samples of the fit whose labels are not verified: the probability that the
        label is wrong, the variance of "is wrong", and the probability that the likeliest class of P^s
        is not the right one.
    transition_matrix
        T, ``(C, C)`` float32, T[i, j] = P(given j | right i) on average over the samples; rows sum
        to 1. None for an explanation that was not fitted, or of very many classes.
    """

    weight: float
    sharpness: float
    follow: float
    class_bias: Floats
    confusion: Floats | SparseConfusion
    log_likelihood: float
    wrong_share: float = math.nan
    variance_share: float = math.nan
    uncertainty_share: float = math.nan
    transition_matrix: npt.NDArray[np.float32] | None = None

    @property
    def has_pairs(self) -> bool:
        """Whether W has fitted cells beside the diagonal; otherwise they are 1."""
        return self.follow == 0.0 or len(self.class_bias) <= MANY_CLASSES


@dataclass(frozen=True)
class AveragedPosterior:
    """The posterior of B labels, averaged over explanations.

    Attributes
    ----------
    log_wrong, log_right
        ``(B,)`` float64, log-probability that the label is wrong, and that it is right.
    clean_probs
        ``(B, C)``, P(y = k | x, ỹ), rows sum to 1.
    class_uncertainty
        ``(B,)`` float64 in [0, 1], probability that the likeliest class of P^s is not the right one.
    """

    log_wrong: Floats
    log_right: Floats
    clean_probs: Floats
    class_uncertainty: Floats


def average_explanations(
    explanations: tuple[Explanation, ...], log_probs: Floats, given: npt.NDArray[np.int64]
) -> AveragedPosterior:
    """Average the posterior of some labels over explanations.

    Parameters
    ----------
    explanations
        Their weights sum to 1.
    log_probs
        ``(B, C)`` floats, log P.
    given
        ``(B,)`` int64 in 0..C-1, given labels.
    """
    kind = log_probs.dtype
    rows = np.arange(len(given))
    log_wrong = np.full(len(given), -np.inf)
    log_right = np.full(len(given), -np.inf)
    clean_probs = np.zeros(log_probs.shape, dtype=kind)
    class_uncertainty = np.zeros(len(given))
    # Only ratios within a row matter. Several explanations share s or t, and with it an exponential.
    centered = log_probs - log_probs.max(axis=1, keepdims=True)
    own = centered[rows, given].astype(np.float64)
    sharp: dict[float, Floats] = {}
    soft: dict[float, Floats] = {}
    for one in explanations:
        if one.weight == 0.0:  # too small for a float
            continue
        if one.sharpness not in sharp:
            bias = one.class_bias.astype(kind)
            sharp[one.sharpness] = np.exp(kind.type(one.sharpness) * centered + bias)
        truth = sharp[one.sharpness]  # (B, C)
        confidence = truth.max(axis=1) / truth.sum(axis=1)
        class_uncertainty += one.weight * (1.0 - confidence.astype(np.float64))
        joint, log_kept = _cells_of(one, given, kind)
        log_own = log_kept + one.sharpness * own + one.class_bias[given]
        if one.follow:
            if one.follow not in soft:
                soft[one.follow] = np.exp(kind.type(one.follow) * centered)
            total = channel_total(soft[one.follow], one.confusion, one.has_pairs)  # (B, C)
            joint /= total
            log_own -= np.log(total[rows, given].astype(np.float64))
        joint *= truth
        # The given class is added separately. Otherwise rounding loses a small probability of "wrong".
        joint[rows, given] = 0.0
        with np.errstate(divide="ignore"):
            log_others = np.log(joint.sum(axis=1).astype(np.float64))
        whole = np.logaddexp(log_own, log_others)
        joint *= (one.weight * np.exp(-whole)).astype(kind)[:, None]
        clean_probs += joint
        clean_probs[rows, given] += (one.weight * np.exp(log_own - whole)).astype(kind)
        log_right = np.logaddexp(log_right, math.log(one.weight) + log_own - whole)
        log_wrong = np.logaddexp(log_wrong, math.log(one.weight) + log_others - whole)
    return AveragedPosterior(log_wrong, log_right, clean_probs, class_uncertainty)


def _cells_of(
    one: Explanation, given: npt.NDArray[np.int64], kind: np.dtype[np.floating]
) -> tuple[Floats, Floats]:
    """Return W_kỹ, ``(B, C)``, and the logarithms of W_ỹỹ, ``(B,)``.

    Where the channel does not follow the image, rows of W are normalized first.
    """
    confusion = one.confusion
    if not isinstance(confusion, SparseConfusion):
        if not one.follow:
            confusion = np.asarray(confusion / confusion.sum(axis=1, keepdims=True))
        return confusion.T.astype(kind)[given], np.log(confusion[given, given])
    total = np.ones(len(confusion.beside)) if one.follow else confusion.total()
    cells = np.tile((confusion.beside / total).astype(kind), (len(given), 1))
    surplus = confusion.surplus[given].tocoo()
    row, right = surplus.coords
    cells[row, right] += (surplus.data / total[right]).astype(kind)
    return cells, np.log(confusion.diagonal[given] / total[given])


def channel_total(soft: Floats, confusion: Floats | SparseConfusion, has_pairs: bool) -> Floats:
    """Sum P_j^t W_kj over given classes j, for each sample and right class k.

    Parameters
    ----------
    soft
        ``(B, C)``, P^t up to a factor for each row.
    confusion
        W, ``(C, C)`` or sparse. Where it is sparse, it has no pairs.
    has_pairs
        Whether W differs from 1 beside its diagonal.

    Returns
    -------
    np.ndarray
        ``(B, C)``.
    """
    if isinstance(confusion, SparseConfusion):
        diagonal = confusion.diagonal
    elif has_pairs:
        return np.asarray(soft @ confusion.T.astype(soft.dtype))
    else:
        diagonal = np.diag(confusion)
    own = diagonal.astype(soft.dtype) - 1
    return np.asarray(soft * own + soft.sum(axis=1, keepdims=True))

"""From what was recorded to how suspect each label is.

Two witnesses speak of a label ỹ. The guider, over all epochs, through Bayes' rule and the channel of
Eq. 9; and the sample's neighbors in the embedding, whose classes the guider tells without having
been taught this sample's label. docs/method.md says why, and where each fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from sklearn.neighbors import NearestNeighbors

from labelaudit.errors import OptionError
from labelaudit.training.recorder import EpsilonHistory

MIN_PROB = 1e-12
# Neighbors are looked for among at most so many images, drawn with the seed.
MAX_REFERENCE = 50_000
MAX_NEIGHBORS = 30
MIN_NEIGHBORS = 5
# Below this share of labeled images the guider's in-sample opinion is left out (method.md, point 6).
FEW_LABELED_SHARE = 0.5

ScoreName = Literal["auto", "epsilon"]
SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)


@dataclass(frozen=True)
class Witnesses:
    """What speaks of each label.

    Attributes
    ----------
    posterior
        ``(L,)`` float64 in [0, 1]: mean over epochs of `posterior_wrong`.
    neighbor_probs
        ``(L, C)`` float32, rows sum to 1: the guider's mean class probabilities over the
        neighbors of each labeled sample.
    epsilon, epsilon_mean
        ``(L,)`` in [0, 1]: the last epoch's ε and its mean over epochs.
    learner_prob, guider_prob
        ``(L,)`` in [0, 1]: the last epoch's probability of the given label.
    """

    posterior: np.ndarray
    neighbor_probs: np.ndarray
    epsilon: np.ndarray
    epsilon_mean: np.ndarray
    learner_prob: np.ndarray
    guider_prob: np.ndarray


@dataclass(frozen=True)
class Scores:
    """How suspect each labeled sample is.

    Attributes
    ----------
    suspect_score
        ``(L,)`` float64 in [0, 1], high = suspect.
    order
        ``(L,)`` int64: samples from the most to the least suspect. Finer than the score where that
        rounds to 1.
    suggestion_probs
        ``(L, C)`` float32: the class probabilities that suggestions are read from.
    name, explanation
        The rule, as a name and in words.
    default_threshold
        A label is an issue when its score is strictly above.
    is_probability
        Whether the score is used as the probability that the label is wrong.
    """

    suspect_score: np.ndarray
    order: np.ndarray
    suggestion_probs: np.ndarray
    name: str
    explanation: str
    default_threshold: float
    is_probability: bool


def posterior_wrong(
    epsilon: np.ndarray, guider_prob: np.ndarray, num_classes: int, min_epsilon: float
) -> np.ndarray:
    """Probability that the given label is wrong, by Bayes with the channel of Eq. 9.

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


def neighbor_probs(
    embeddings: np.ndarray,
    pred_probs: np.ndarray,
    queries: np.ndarray,
    reference: np.ndarray,
    *,
    seed: int,
    num_neighbors: int | None = None,
) -> np.ndarray:
    """Mean class probabilities over each query's nearest other images.

    Parameters
    ----------
    embeddings
        ``(N, d)`` float32; distances are Euclidean.
    pred_probs
        ``(N, C)`` float32, the guider's.
    queries, reference
        Rows to ask for, ``(M,)``, and rows to look among, ``(R,)``, int64. A query is never its own
        neighbor. At most `MAX_REFERENCE` rows of the reference are used, drawn with the seed.
    seed
        Decides that draw.
    num_neighbors
        By default 30, and fewer in small data sets: a third of the images that a class has on
        average, at least 5.

    Returns
    -------
    np.ndarray
        ``(M, C)`` float32; uniform where there is no other image.
    """
    num_classes = pred_probs.shape[1]
    if len(reference) > MAX_REFERENCE:
        rng = np.random.default_rng(seed)
        reference = np.sort(rng.choice(reference, MAX_REFERENCE, replace=False))
    if num_neighbors is None:
        third_of_class = len(reference) // (3 * num_classes)
        num_neighbors = min(MAX_NEIGHBORS, max(MIN_NEIGHBORS, third_of_class))
    index = NearestNeighbors(n_neighbors=min(num_neighbors + 1, len(reference)))
    index.fit(embeddings[reference])
    result = np.empty((len(queries), num_classes), dtype=np.float32)
    for start in range(0, len(queries), 4096):  # bounds the (B, k, C) block below
        rows = queries[start : start + 4096]
        found = reference[index.kneighbors(embeddings[rows], return_distance=False)]  # (B, k+1)
        other = found != rows[:, None]
        other[other.all(axis=1), num_neighbors:] = False  # not its own neighbor: drop the farthest
        count = other.sum(axis=1, keepdims=True)
        total = (pred_probs[found] * other[:, :, None]).sum(axis=1)  # (B, C)
        result[start : start + len(rows)] = np.where(
            count > 0, total / np.maximum(count, 1), 1.0 / num_classes
        )
    return result


def hear_witnesses(
    history: EpsilonHistory,
    pred_probs: np.ndarray,
    embeddings: np.ndarray,
    noisy_labels: np.ndarray,
    *,
    min_epsilon: float,
    seed: int,
) -> Witnesses:
    """Sum up the history and ask the neighbors.

    Parameters
    ----------
    history
        Recorded epochs, rows in the order of the labeled samples.
    pred_probs, embeddings
        The guider's last word on every image, ``(N, C)`` and ``(N, d)``.
    noisy_labels
        ``(N,)`` int64, -1 where unlabeled.
    min_epsilon
        ε_min of the posterior.
    seed
        Decides which images are looked among where there are very many.
    """
    labeled = np.flatnonzero(noisy_labels >= 0)
    num_classes = pred_probs.shape[1]
    posterior = np.zeros(len(labeled))
    epsilon_mean = np.zeros(len(labeled))
    last: dict[str, np.ndarray] = {}
    for _, last in history:
        posterior += posterior_wrong(last["epsilon"], last["guider_prob"], num_classes, min_epsilon)
        epsilon_mean += last["epsilon"]
    few = len(labeled) < FEW_LABELED_SHARE * len(noisy_labels)
    reference = np.flatnonzero(noisy_labels < 0) if few else np.arange(len(noisy_labels))
    return Witnesses(
        posterior=posterior / len(history.epochs),
        neighbor_probs=neighbor_probs(embeddings, pred_probs, labeled, reference, seed=seed),
        epsilon=last["epsilon"],
        epsilon_mean=epsilon_mean / len(history.epochs),
        learner_prob=last["learner_prob"],
        guider_prob=last["guider_prob"],
    )


def score_labels(
    witnesses: Witnesses,
    pred_probs: np.ndarray,
    noisy_labels: np.ndarray,
    score: str = "auto",
) -> Scores:
    """Rank the labeled samples.

    Parameters
    ----------
    witnesses
        From `hear_witnesses`.
    pred_probs
        ``(N, C)``, the guider's.
    noisy_labels
        ``(N,)`` int64, -1 where unlabeled.
    score
        "auto": neighbors alone where fewer than half of the images are labeled, else the product
        of both witnesses' odds. "epsilon": the paper's rule (section 4.3), the last epoch's ε.

    Raises
    ------
    OptionError
        If there is no such score.
    """
    labeled = np.flatnonzero(noisy_labels >= 0)
    given = noisy_labels[labeled]
    num_classes = pred_probs.shape[1]
    if score == "epsilon":
        return Scores(
            suspect_score=witnesses.epsilon.astype(np.float64),
            order=np.argsort(-witnesses.epsilon, kind="stable"),
            suggestion_probs=pred_probs[labeled],
            name="epsilon",
            explanation=(
                "Labels are ranked by the paper's rule: the distance ε between the learner's and"
                " the guider's probability of the given label in the last epoch. It is not a"
                " probability, and it ranks well only where few images are labeled."
            ),
            default_threshold=0.0,
            is_probability=False,
        )
    if score != "auto":
        raise OptionError(f"unknown score {score!r}: choose one of {', '.join(SCORE_NAMES)}")

    rows = np.arange(len(labeled))
    by_neighbors = witnesses.neighbor_probs[rows, given].astype(np.float64)
    if len(labeled) < FEW_LABELED_SHARE * len(noisy_labels):
        suspect_score = 1.0 - by_neighbors
        return Scores(
            suspect_score=suspect_score,
            order=np.argsort(-suspect_score, kind="stable"),
            suggestion_probs=witnesses.neighbor_probs,
            name="neighbors",
            explanation=(
                "Fewer than half of the images are labeled, so the model could learn each label by"
                " heart. A label is therefore judged by the unlabeled images that look most alike:"
                " the score is the share of the model's belief about them that goes to other"
                " classes."
            ),
            default_threshold=0.5,
            is_probability=True,
        )
    # The product of the two witnesses' odds, in logarithms.
    log_odds = (
        np.log(np.maximum(witnesses.posterior, MIN_PROB))
        - np.log(np.maximum(1.0 - witnesses.posterior, MIN_PROB))
        + np.log(np.maximum(1.0 - by_neighbors, MIN_PROB))
        - np.log(np.maximum(by_neighbors, MIN_PROB))
        - np.log(num_classes - 1)
    )
    joint = pred_probs[labeled] * witnesses.neighbor_probs
    joint /= np.maximum(joint.sum(axis=1, keepdims=True), MIN_PROB)
    return Scores(
        suspect_score=1.0 / (1.0 + np.exp(-log_odds)),
        order=np.argsort(-log_odds, kind="stable"),
        suggestion_probs=joint,
        name="posterior and neighbors",
        explanation=(
            "Two witnesses are heard on each label: the model itself, averaged over all epochs, and"
            " its opinion of the images that look most alike. The score multiplies their odds that the"
            " label is wrong: it ranks well and 0.5 is a good place to cut, but a score of 0.9 does"
            " not promise that nine in ten are wrong."
        ),
        default_threshold=0.5,
        is_probability=True,
    )

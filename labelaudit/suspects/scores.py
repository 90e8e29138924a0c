"""From what was recorded to how suspect each label is.

The guider has been taught the label that it is to judge. What it says of the sample's neighbors in the
embedding it says without having been taught that label: they are the witness. A model of the labels
(`labelaudit.suspects.label_model`), fitted to all of them, turns their opinion into a probability.
docs/method.md says why, and where it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from labelaudit.errors import OptionError
from labelaudit.sources.manifest import Verified, are_few
from labelaudit.suspects.cross_fitting import OutOfSample, cross_fit_classifiers, enough_labels
from labelaudit.suspects.epoch_means import EpochMeans
from labelaudit.suspects.label_model import (
    FIT_SAMPLES,
    THOROUGH_SAMPLES,
    MistakeKinds,
    SharpnessPrior,
    fit_label_model,
    fit_rows,
    log_of,
)
from labelaudit.suspects.nearest import MAX_REFERENCE, default_neighbors, draw, nearest
from labelaudit.suspects.noise_model import fit_noise_model

MAX_NEIGHBORS = 30
# Where fewer images are labeled than this share, neighbors are looked for among the unlabeled ones.
MOST_UNLABELED_SHARE = 0.5
# Beliefs averaged over neighbors that few labels have taught are too mild by about this power: chosen
# on MNIST with 100 labels, seeds 0-3, see docs/method.md.
FEW_LABELS_SHARPNESS = 2.0

ScoreName = Literal["auto", "posterior", "epsilon"]
SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)


@dataclass(frozen=True)
class LabelEvidence:
    """What speaks of each label.

    Attributes
    ----------
    posterior
        ``(L,)`` float64 in [0, 1]: mean over epochs of `posterior_wrong`.
    neighbor_probs
        ``(L, C)`` float32, rows sum to 1: the guider's mean class probabilities over the
        neighbors of each labeled sample; where `held_out`, together with what classifiers of the
        features say that have not seen the sample's label.
    epsilon, epsilon_mean
        ``(L,)`` in [0, 1]: the last epoch's ε and its mean over epochs.
    learner_prob, guider_prob
        ``(L,)`` in [0, 1]: the last epoch's probability of the given label.
    held_out
        In [0, 1], the weight of such classifiers in them.
    sharpness
        How sharp `neighbor_probs` are about the right class, where those classifiers have shown it; see
        `labelaudit.suspects.cross_fitting.OutOfSample`.
    """

    posterior: np.ndarray
    neighbor_probs: np.ndarray
    epsilon: np.ndarray
    epsilon_mean: np.ndarray
    learner_prob: np.ndarray
    guider_prob: np.ndarray
    held_out: float = 0.0
    sharpness: float | None = None


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
    suggested
        ``(L,)`` int64: the likeliest class other than the given one.
    suggested_prob
        ``(L,)`` float64 in [0, 1]: its probability.
    name, explanation
        The rule, as a name and in words.
    default_threshold
        A label is an issue when its score is strictly above.
    is_probability
        Whether the score is used as the probability that the label is wrong.
    class_uncertainty
        ``(L,)`` float64 in [0, 1]: how probably what the label is held against is itself mistaken.
    ambiguity
        ``(L,)`` float64 in [0, 1]: how probably two people would label the sample differently.
    interval
        Where the number of wrong labels lies in nine of ten cases; None where only the scores tell.
    kinds
        What the wrong labels are like; None where that is not known.
    assumption
        In words, what the scores take for granted and labels cannot check.
    verified
        Which labels a person has verified; None where none is. Their score is 0, and they come last.
    """

    suspect_score: np.ndarray
    order: np.ndarray
    suggested: np.ndarray
    suggested_prob: np.ndarray
    name: str
    explanation: str
    default_threshold: float
    is_probability: bool
    class_uncertainty: np.ndarray
    ambiguity: np.ndarray
    interval: tuple[float, float] | None = None
    kinds: MistakeKinds | None = None
    assumption: str = ""
    verified: Verified | None = None

    @property
    def unverified(self) -> np.ndarray:
        """``(L,)`` bool: whether a label may be wrong, as nobody has verified it."""
        if self.verified is None:
            return np.ones(len(self.suspect_score), dtype=bool)
        return ~self.verified.labels

    @property
    def unverified_order(self) -> np.ndarray:
        """``(U,)`` int64: `order` without the verified labels."""
        return np.asarray(self.order[self.unverified[self.order]])


def trust_verified(scores: Scores, verified: Verified | None) -> Scores:
    """Take verified labels as right: their score is 0, and they come last.

    Parameters
    ----------
    scores
        Of L labels.
    verified
        Of the same; None where none is.
    """
    if verified is None:
        return scores
    trusted = verified.labels
    order = scores.order
    return replace(
        scores,
        suspect_score=np.where(trusted, 0.0, scores.suspect_score),
        order=np.concatenate([order[~trusted[order]], order[trusted[order]]]),
        verified=verified,
    )


def neighbor_probs(
    embeddings: np.ndarray,
    pred_probs: np.ndarray,
    queries: np.ndarray,
    reference: np.ndarray,
    *,
    seed: int,
    num_neighbors: int | None = None,
    device: torch.device | None = None,
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
    device
        Where they are looked for; by default the CPU.

    Returns
    -------
    np.ndarray
        ``(M, C)`` float32; uniform where there is no other image.
    """
    num_classes = pred_probs.shape[1]
    reference = draw(reference, MAX_REFERENCE, seed)
    if num_neighbors is None:
        num_neighbors = default_neighbors(len(reference), num_classes, MAX_NEIGHBORS)
    most = min(num_neighbors + 1, len(reference))
    points = embeddings[reference]
    look: Callable[[np.ndarray], np.ndarray]
    if device is None or device.type == "cpu":
        index = NearestNeighbors(n_neighbors=most).fit(points)
        look = partial(index.kneighbors, return_distance=False)
    else:
        look = search_on(points, most, device)
    result = np.empty((len(queries), num_classes), dtype=np.float32)
    for start in range(0, len(queries), 4096):  # bounds the (B, k, C) block below
        rows = queries[start : start + 4096]
        found = reference[look(embeddings[rows])]  # (B, k+1)
        other = found != rows[:, None]
        other[other.all(axis=1), num_neighbors:] = False  # not its own neighbor: drop the farthest
        count = other.sum(axis=1, keepdims=True)
        total = (pred_probs[found] * other[:, :, None]).sum(axis=1)  # (B, C)
        result[start : start + len(rows)] = np.where(
            count > 0, total / np.maximum(count, 1), 1.0 / num_classes
        )
    return result


def search_on(
    points: np.ndarray, most: int, device: torch.device
) -> Callable[[np.ndarray], np.ndarray]:
    """Take points to a device, and give a function that finds the nearest of them there.

    Parameters
    ----------
    points
        ``(R, d)`` float32.
    most
        k, at most R.
    device
        Where to look.

    Returns
    -------
    callable
        From queries ``(Q, d)`` float32 to ``(Q, k)`` int64, which of the points, nearest first.
    """
    center = points.mean(axis=0)  # products of large numbers would hide small distances
    known = torch.from_numpy(points - center).to(device)

    def look(queries: np.ndarray) -> np.ndarray:
        asked = torch.from_numpy(queries - center).to(device)
        own = np.full(len(queries), -1)
        return np.concatenate([rows for _, rows in nearest(asked, known, own, most)])

    return look


def collect_evidence(
    means: EpochMeans,
    pred_probs: np.ndarray,
    embeddings: np.ndarray,
    noisy_labels: np.ndarray,
    *,
    seed: int,
    features: np.ndarray | None = None,
    device: torch.device | None = None,
    verified: Verified | None = None,
) -> LabelEvidence:
    """Ask the neighbors, and put what they say beside what was recorded.

    Parameters
    ----------
    means
        What was recorded, rows in the order of the labeled samples; at least one epoch.
    pred_probs, embeddings
        The guider's last word on every image, ``(N, C)`` and ``(N, d)``.
    noisy_labels
        ``(N,)`` int64, -1 where unlabeled.
    seed
        Decides which images are looked among where there are very many.
    features
        ``(N, D)``, where these were trained on: classifiers of them are heard as well
        (`labelaudit.suspects.cross_fitting`), unless few are labeled.
    device
        Where neighbors are looked for; by default the CPU.
    verified
        Of the labeled samples' labels; see `labelaudit.suspects.cross_fitting.cross_fit_classifiers`.
    """
    labeled = np.flatnonzero(noisy_labels >= 0)
    mostly_unlabeled = len(labeled) < MOST_UNLABELED_SHARE * len(noisy_labels)
    reference = (
        np.flatnonzero(noisy_labels < 0) if mostly_unlabeled else np.arange(len(noisy_labels))
    )
    opinion = neighbor_probs(embeddings, pred_probs, labeled, reference, seed=seed, device=device)
    if are_few(len(labeled), len(noisy_labels)) or not enough_labels(len(labeled)):
        features = None  # nobody to ask
    heard = OutOfSample(opinion)
    if features is not None:
        heard = cross_fit_classifiers(
            features, noisy_labels, opinion, seed=seed, device=device, verified=verified
        )
    return LabelEvidence(
        posterior=means.posterior,
        neighbor_probs=heard.probs,
        held_out=heard.weight,
        sharpness=heard.sharpness,
        epsilon=means.epsilon,
        epsilon_mean=means.epsilon_mean,
        learner_prob=means.learner_prob,
        guider_prob=means.guider_prob,
    )


def score_labels(
    evidence: LabelEvidence,
    pred_probs: np.ndarray,
    noisy_labels: np.ndarray,
    score: str = "auto",
    *,
    seed: int = 0,
    verified: Verified | None = None,
) -> Scores:
    """Rank the labeled samples.

    Parameters
    ----------
    evidence
        From `collect_evidence`.
    pred_probs
        ``(N, C)``, the guider's.
    noisy_labels
        ``(N,)`` int64, -1 where unlabeled.
    score
        "auto": the neighbors through `labelaudit.suspects.label_model`, or, their
        belief sharpened, taken at their word where very few images are labeled. "posterior": the
        guider's own opinion of the label through Eq. 9, averaged over epochs. "epsilon": the paper's
        rule (section 4.3), the last epoch's ε.
    seed
        Decides which samples the model is fitted to where there are very many.
    verified
        Of the labeled samples' labels; see `trust_verified`.

    Raises
    ------
    OptionError
        If there is no such score.
    """
    labeled = np.flatnonzero(noisy_labels >= 0)
    given = noisy_labels[labeled]
    opinion = evidence.neighbor_probs
    if score == "epsilon":
        return _rank(
            evidence.epsilon.astype(np.float64),
            evidence.epsilon,
            pred_probs[labeled],
            given,
            verified,
            ambiguity=disagreement(opinion),
            name="epsilon",
            explanation=(
                "Labels are ranked by the paper's rule: the distance ε between the learner's and"
                " the guider's probability of the given label in the last epoch. It is not a"
                " probability, and it ranks well only where few samples are labeled."
            ),
            default_threshold=0.0,
            is_probability=False,
        )
    if score == "posterior":
        return _rank(
            evidence.posterior,
            evidence.posterior,
            pred_probs[labeled],
            given,
            verified,
            ambiguity=disagreement(opinion),
            name="posterior",
            explanation=(
                "The score is the model's own opinion of each label, through Bayes' rule and ε,"
                " averaged over all epochs. The model was taught these labels, so that it excuses what"
                " it has learned by heart."
            ),
        )
    if score != "auto":
        raise OptionError(f"unknown score {score!r}: choose one of {', '.join(SCORE_NAMES)}")

    if are_few(len(labeled), len(noisy_labels)):
        sharpened = opinion.astype(np.float64) ** FEW_LABELS_SHARPNESS
        sharpened /= sharpened.sum(axis=1, keepdims=True)
        given_prob = sharpened[np.arange(len(labeled)), given]
        return _rank(
            1.0 - given_prob,
            -given_prob,
            sharpened.astype(np.float32),
            given,
            verified,
            # How far neighbors are at odds, which sharpening hides.
            class_uncertainty=1.0 - opinion.max(axis=1).astype(np.float64),
            ambiguity=disagreement(opinion),
            name="neighbors",
            explanation=(
                "So few samples are labeled that each label teaches the model what to think of the"
                " samples around it. A label is judged by the unlabeled samples that look most alike:"
                " what the model believes of them on average is sharpened, for averages are too mild,"
                " and the score is the share of it that goes to other classes."
            ),
        )
    first_given = given if verified is None else verified.as_given(given)
    prior = (
        SharpnessPrior.of_cross_fitting(evidence.sharpness)
        if evidence.held_out > 0.5
        else SharpnessPrior.of_neighbors(fit_noise_model(opinion, first_given, seed=seed).sharpness)
    )
    return score_out_of_sample(
        lambda part: log_of(opinion[part]),
        given,
        opinion.shape[1],
        prior,
        seed=seed,
        name="neighbors and label model",
        explanation=(
            "A label is judged by the samples that look most alike, which the model has classified"
            " without having been taught this label"
            + (
                ", and by classifiers of the features that have not seen it either"
                if evidence.held_out > 0
                else ""
            )
            + ". Which mistakes the labels contain is estimated from all labels together; the score is"
            " the probability that follows that this label is wrong."
        ),
        samples=THOROUGH_SAMPLES,
        verified=verified,
    )


def score_out_of_sample(
    read: Callable[[slice | np.ndarray], np.ndarray],
    given: np.ndarray,
    num_classes: int,
    prior: SharpnessPrior | None,
    *,
    seed: int,
    name: str,
    explanation: str,
    samples: int = FIT_SAMPLES,
    verified: Verified | None = None,
) -> Scores:
    """Score labels against out-of-sample class probabilities, by `labelaudit.suspects.label_model`.

    Parameters
    ----------
    read
        Gives log P of some of the L samples, ``(B, C)`` floats: natural logarithms.
    given
        ``(L,)`` int64 in 0..C-1.
    num_classes
        C.
    prior
        What is assumed of the sharpness of P; by default `SharpnessPrior.of_predictions`.
    seed
        Decides which samples the model is fitted to where there are very many.
    name, explanation
        See `Scores`.
    samples
        How many samples the model is fitted to at most.
    verified
        Of the L labels; see `trust_verified`.
    """
    rows = fit_rows(len(given), num_classes, seed, samples)
    known = None if verified is None else verified.subset(rows)
    model = fit_label_model(read(rows), given[rows], prior, known)
    quality = model.infer(read, given, verified)
    scores = Scores(
        suspect_score=quality.wrong_prob,
        order=np.argsort(-quality.log_odds, kind="stable"),
        suggested=quality.suggested,
        suggested_prob=quality.suggested_prob,
        name=name,
        explanation=explanation,
        default_threshold=0.5,
        is_probability=True,
        class_uncertainty=quality.class_uncertainty,
        ambiguity=quality.ambiguity,
        interval=quality.interval,
        kinds=model.kinds,
        assumption=model.prior.basis,
    )
    return trust_verified(scores, verified)


def disagreement(probs: np.ndarray) -> np.ndarray:
    """Say how probably two draws from class probabilities ``(L, C)`` differ, ``(L,)`` in [0, 1]."""
    return np.asarray(1.0 - np.square(probs.astype(np.float64)).sum(axis=1)).clip(0.0, 1.0)


def _rank(
    suspect_score: np.ndarray,
    key: np.ndarray,
    class_probs: np.ndarray,
    given: np.ndarray,
    verified: Verified | None,
    *,
    ambiguity: np.ndarray,
    class_uncertainty: np.ndarray | None = None,
    name: str,
    explanation: str,
    default_threshold: float = 0.5,
    is_probability: bool = True,
) -> Scores:
    """Order samples by a key that is finer than the score, high first; suggest by `class_probs`."""
    others = class_probs.copy()
    others[np.arange(len(given)), given] = -1.0
    scores = Scores(
        suspect_score=suspect_score,
        order=np.argsort(-key, kind="stable"),
        suggested=others.argmax(axis=1),
        suggested_prob=others.max(axis=1).astype(np.float64),
        name=name,
        explanation=explanation,
        default_threshold=default_threshold,
        is_probability=is_probability,
        class_uncertainty=1.0 - class_probs.max(axis=1).astype(np.float64)
        if class_uncertainty is None
        else class_uncertainty,
        ambiguity=ambiguity,
    )
    return trust_verified(scores, verified)

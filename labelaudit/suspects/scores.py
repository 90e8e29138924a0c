"""Suspect scores of the labels.

The default score is the probability that the label is wrong. A model of the labels
(`labelaudit.suspects.label_model`), fitted to all of them, derives it from out-of-sample probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from labelaudit.errors import OptionError
from labelaudit.sources.manifest import Verified, are_few
from labelaudit.suspects.annotators import VOTES_ASSUMPTION, VOTES_EXPLANATION, VoteEvidence
from labelaudit.suspects.calibration import log_of
from labelaudit.suspects.condensed import Condensed
from labelaudit.suspects.label_evidence import LabelEvidence
from labelaudit.suspects.label_model import (
    FIT_SAMPLES,
    MOST_PAIRED_CLASSES,
    THOROUGH_SAMPLES,
    condense_labels,
    fit_label_model,
    fit_rows,
)
from labelaudit.suspects.mistake_kinds import MistakeKinds
from labelaudit.suspects.noise_model import fit_noise_model
from labelaudit.suspects.sharpness_prior import SharpnessPrior

# Probabilities averaged over neighbors are too uncertain by about this power where few samples are
# labeled: chosen on MNIST with 100 labels, seeds 0-3, see docs/explanation/research-log.md.
FEW_LABELS_SHARPNESS = 2.0

ScoreName = Literal["auto", "posterior", "epsilon"]
SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)


@dataclass(frozen=True)
class Scores:
    """How suspect each of the L labels is.

    Attributes
    ----------
    suspect_score
        ``(L,)`` float64 in [0, 1], high = suspect.
    order
        ``(L,)`` int64, samples from the most to the least suspect. It also orders scores that round
        to 1.
    suggested
        ``(L,)`` int64, the likeliest class other than the given one.
    suggested_prob
        ``(L,)`` float64 in [0, 1], the probability of `suggested`.
    name, explanation
        The rule, as a name and as sentences for the user.
    default_threshold
        Labels with a score strictly above it are flagged.
    is_probability
        Whether the score is the probability that the label is wrong.
    class_uncertainty
        ``(L,)`` float64 in [0, 1], probability that the class predicted without the label is itself
        wrong.
    ambiguity
        ``(L,)`` float64 in [0, 1], probability that two people would label the sample differently.
    interval
        Range of the number of wrong labels in nine of ten cases; None where no label model was fitted.
    kinds
        Kinds of wrong labels; None if they cannot be estimated.
    assumption
        The assumption that the labels cannot confirm, as a sentence for the user.
    verified
        Which labels a person has verified; None where none is. Their score is 0, and they come last.
    transition_matrix
        T, ``(C, C)`` float64, T[i, j] = P(given j | right i), rows sum to 1; None where no label model
        was fitted, and with more than 1,000 classes.
    vote_probs
        ``(L, A)`` float64 in [0, 1], probability that each annotator's label is right, NaN where there
        is none; None where votes are no part of the score.
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
    transition_matrix: np.ndarray | None = None
    vote_probs: np.ndarray | None = None

    @property
    def unverified(self) -> np.ndarray:
        """``(L,)`` bool, whether the label has not been verified, so that it may be wrong."""
        if self.verified is None:
            return np.ones(len(self.suspect_score), dtype=bool)
        return ~self.verified.labels

    @property
    def unverified_order(self) -> np.ndarray:
        """``(U,)`` int64, `order` without the verified labels."""
        return np.asarray(self.order[self.unverified[self.order]])


def trust_verified(scores: Scores, verified: Verified | None) -> Scores:
    """Set the score of verified labels to 0, and order them last."""
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


def score_labels(
    evidence: LabelEvidence,
    pred_probs: np.ndarray,
    noisy_labels: np.ndarray,
    score: str = "auto",
    *,
    seed: int = 0,
    verified: Verified | None = None,
    votes: np.ndarray | None = None,
    advance: Callable[[int], object] = lambda labels: None,
) -> Scores:
    """Score the labels after training.

    Parameters
    ----------
    evidence
        From `collect_evidence`, about the L labeled samples.
    pred_probs
        ``(N, C)``, the guider's class probabilities.
    noisy_labels
        ``(N,)`` int64 in 0..C-1, -1 where unlabeled.
    score
        - "auto": the out-of-sample probabilities and the label model. Where very few samples are
          labeled, the sharpened out-of-sample probabilities alone.
        - "posterior": the guider's probability that the label is wrong (Eq. 9), averaged over epochs.
        - "epsilon": the paper's rule (section 4.3), ε of the last epoch.
    seed
        Seed of the draw of samples that the label model is fitted to, where there are very many.
    verified
        Which of the L labels are verified; see `trust_verified`.
    votes
        ``(L, A)``, labels of several annotators; see `score_out_of_sample`. Only "auto" uses them.
    advance
        Called with numbers of labels that were scored by the label model.

    Raises
    ------
    OptionError
        If `score` is none of these.
    """
    labeled = np.flatnonzero(noisy_labels >= 0)
    given = noisy_labels[labeled]
    if score == "epsilon":
        return _score_by_epsilon(evidence, pred_probs[labeled], given, verified)
    if score == "posterior":
        return _score_by_posterior(evidence, pred_probs[labeled], given, verified)
    if score != "auto":
        raise OptionError(f"unknown score {score!r}: choose one of {', '.join(SCORE_NAMES)}")
    if are_few(len(labeled), len(noisy_labels)):
        return _score_few_labels(evidence, given, verified)
    return _score_by_label_model(evidence, given, seed, verified, votes, advance)


def _score_by_epsilon(
    evidence: LabelEvidence, pred_probs: np.ndarray, given: np.ndarray, verified: Verified | None
) -> Scores:
    return _rank(
        evidence.epsilon.astype(np.float64),
        evidence.epsilon,
        pred_probs,
        given,
        verified,
        ambiguity=disagreement(evidence.oos_probs),
        name="epsilon",
        explanation=(
            "The score is the paper's ε: the distance between the learner's and the guider's"
            " probability of the given label after the last epoch. It is not the probability that the"
            " label is wrong, and it ranks labels well only where few samples are labeled."
        ),
        default_threshold=0.0,
        is_probability=False,
    )


def _score_by_posterior(
    evidence: LabelEvidence, pred_probs: np.ndarray, given: np.ndarray, verified: Verified | None
) -> Scores:
    return _rank(
        evidence.posterior,
        evidence.posterior,
        pred_probs,
        given,
        verified,
        ambiguity=disagreement(evidence.oos_probs),
        name="posterior",
        explanation=(
            "The score is the model's own probability that the label is wrong, by Bayes' rule with ε,"
            " averaged over all epochs. The model was trained on these labels. It finds no mistake in"
            " a label that it has memorized."
        ),
    )


def _score_few_labels(
    evidence: LabelEvidence, given: np.ndarray, verified: Verified | None
) -> Scores:
    oos_probs = evidence.oos_probs
    sharpened = oos_probs.astype(np.float64) ** FEW_LABELS_SHARPNESS
    sharpened /= sharpened.sum(axis=1, keepdims=True)
    given_prob = sharpened[np.arange(len(given)), given]
    return _rank(
        1.0 - given_prob,
        -given_prob,
        sharpened.astype(np.float32),
        given,
        verified,
        # Before sharpening, which hides how far the neighbors disagree.
        class_uncertainty=1.0 - oos_probs.max(axis=1).astype(np.float64),
        ambiguity=disagreement(oos_probs),
        name="neighbors",
        explanation=(
            "Few samples are labeled, so each label strongly affects what the model predicts around it."
            " Each label is therefore compared with the predictions for the most similar unlabeled"
            " samples. Their average is sharpened, because averages are too uncertain. The score is the"
            " probability of all other classes."
        ),
    )


def _score_by_label_model(
    evidence: LabelEvidence,
    given: np.ndarray,
    seed: int,
    verified: Verified | None,
    votes: np.ndarray | None,
    advance: Callable[[int], object],
) -> Scores:
    oos_probs = evidence.oos_probs
    if evidence.mixing_weight > 0.5:
        prior = SharpnessPrior.of_cross_fitting(evidence.sharpness)
    else:
        first_given = given if verified is None else verified.as_given(given)
        fitted = fit_noise_model(oos_probs, first_given, seed=seed)
        prior = SharpnessPrior.of_neighbors(fitted.sharpness)
    classifiers = (
        ", and with classifiers of the features that were not trained on this label"
        if evidence.mixing_weight > 0
        else ", and with a classifier of the pixels that was not trained on this label"
        if evidence.pixel_weight > 0
        else ""
    )
    return score_out_of_sample(
        lambda part: log_of(oos_probs[part]),
        given,
        oos_probs.shape[1],
        prior,
        seed=seed,
        name="neighbors and label model",
        explanation=(
            "Each label is compared with the model's predictions for the most similar other samples,"
            f" which do not depend on this label{classifiers}. A model of the mistakes is estimated"
            " from all labels together. The score is the resulting probability that the label is wrong."
        ),
        samples=THOROUGH_SAMPLES,
        verified=verified,
        votes=votes,
        advance=advance,
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
    votes: np.ndarray | None = None,
    advance: Callable[[int], object] = lambda labels: None,
) -> Scores:
    """Score labels by out-of-sample class probabilities and `labelaudit.suspects.label_model`.

    Parameters
    ----------
    read
        Returns log P of some of the L samples, ``(B, C)`` floats: natural logarithms.
    given
        ``(L,)`` int64 in 0..C-1.
    num_classes
        C.
    prior
        Prior of the sharpness of P; by default `SharpnessPrior.of_predictions`.
    seed
        Seed of the draw of samples that the model is fitted to, where there are very many.
    name, explanation
        See `Scores`.
    samples
        Largest number of samples that the model is fitted to.
    verified
        Which of the L labels are verified; see `trust_verified`.
    votes
        ``(L, A)`` int64, the labels of A annotators, -1 where there is none; see
        `labelaudit.suspects.annotators`.
    advance
        Called with numbers of labels that were scored.
    """
    fitted: np.ndarray | Condensed
    if num_classes > MOST_PAIRED_CLASSES:
        fitted, rows = condense_labels(read, given, num_classes, seed, verified)
    else:
        rows = fit_rows(len(given), num_classes, seed, samples)
        fitted = read(rows)
    known = None if verified is None else verified.subset(rows)
    model = fit_label_model(fitted, given[rows], prior, known)
    evidence = None
    if votes is not None:
        evidence = VoteEvidence.fit(model.explanations, read, given, votes, rows, verified)
        model = replace(model, explanations=evidence.explanations)
        explanation = f"{explanation} {VOTES_EXPLANATION}"
    quality = model.infer(read, given, verified, evidence, advance)
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
        assumption=model.prior.assumption
        if evidence is None
        else f"{model.prior.assumption} {VOTES_ASSUMPTION}",
        transition_matrix=model.transition_matrix,
        vote_probs=None if evidence is None else evidence.vote_probs,
    )
    return trust_verified(scores, verified)


def disagreement(probs: np.ndarray) -> np.ndarray:
    """Return the probability that two draws from class probabilities ``(L, C)`` differ, ``(L,)``."""
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
    """Order samples by `key`, high first, and suggest the likeliest other class of `class_probs`."""
    if class_uncertainty is None:
        class_uncertainty = 1.0 - class_probs.max(axis=1).astype(np.float64)
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
        class_uncertainty=class_uncertainty,
        ambiguity=ambiguity,
    )
    return trust_verified(scores, verified)

"""The votes of several annotators as evidence about the right class.

The given label of a sample is what most of its annotators chose. The label model
(`labelaudit.suspects.label_model`) knows only this label ỹ and gives P(y = k | x, ỹ). The single votes
v_1 … v_A say more: a majority of five to none is better evidence than one of two to one, and some
annotators are right more often than others. With the *channel* of each annotator,
W^a_kj = P(v_a = j | y = k), and that of the majority, M_kj = P(ỹ = j | y = k), Bayes' rule gives

    P(y = k | x, v_1 … v_A)  ∝  P(y = k | x, ỹ) · (Π_a W^a_{k, v_a})^w / M_{k, ỹ}.

The product is over the n annotators who labeled the sample. Annotators share mistakes: what misled one
often misleads the next. So n votes count as fewer independent ones, w = 1 / (1 + ρ (n - 1)), as in
surveys with clusters (Kish 1965). ρ is the correlation of mistakes that is left, given P. The
division removes what the label model already learned from the majority, so that no vote counts twice.
A single vote by an annotator who is as good as the majority changes nothing. With one annotator,
W = M, and the result is that of the label alone.

Votes also tell what labels alone cannot: how certain the predictions are about the right class. So the
weights of the label model's explanations (pairs of s and t) are multiplied by the likelihood of the
votes under each of them.

The channels are estimated by expectation maximization (Dawid and Skene 1979,
https://doi.org/10.2307/2346806), with the label model's posterior in place of the class frequencies.
Each is drawn towards what all annotators have in common, so that one with few votes is judged by them
mostly. CROWDLAB (Goh, Tkachenko and Mueller 2022,
https://arxiv.org/abs/2210.06812) has the same purpose; it averages votes and predictions with weights
instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, logsumexp, softmax

from labelaudit.sources.manifest import Verified
from labelaudit.suspects.explanations import (
    MANY_CLASSES,
    AveragedPosterior,
    Explanation,
    average_explanations,
)

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]

# Pseudo-counts, in votes: a class's accuracy is drawn towards the overall accuracy, each row of an
# annotator's channel towards that of all annotators, and an annotator's accuracy towards theirs.
CLASS_PSEUDO_COUNT = 20.0
ROW_PSEUDO_COUNT = 20.0
ANNOTATOR_PSEUDO_COUNT = 10.0
CELL_PSEUDO_COUNT = 1.0
ROUNDS = 30
VOTES_EXPLANATION = (
    "The label is what most annotators chose. How often each of them is right is estimated as well, and"
    " the votes of all of them count in the score."
)
TOLERANCE = 1e-4  # of the mean change of a posterior between rounds
# Number of samples that the likelihood of the votes counts as, when explanations are weighed by it.
# Every model is wrong in its details, and with many samples these would decide.
VOTES_EVIDENCE = 200.0
# Correlation ρ of the mistakes of two annotators about one sample. For the two people of
# benchmarks/annotators.py it is 0.13, and less where the predictions explain part of it.
SHARED_MISTAKES = 0.1
# Probabilities of the samples that channels are fitted to.
MOST_FITTED_VALUES = 1 << 22
MOST_WEIGHED_VALUES = 400_000  # probabilities that explanations are weighed with
WEIGHING_ROUNDS = 3
LEAST_ACCURACY, MOST_ACCURACY = 1e-3, 1.0 - 1e-3

VOTES_ASSUMPTION = (
    "Annotators are taken to share few mistakes beyond those that the predictions show."
)


@dataclass(frozen=True)
class Channels:
    """How A annotators, and the majority, label samples of each right class.

    Attributes
    ----------
    right
        ``(A + 1, C)`` float64, log P(vote k | right k). The last row is the majority's.
    wrong
        ``(A + 1, C, C)`` float64, log P(vote j | right k) at [a, k, j], diagonals included. With more
        than `MANY_CLASSES` classes ``(A + 1, C, 1)``: the same for each wrong class j.
    """

    right: Floats
    wrong: Floats

    def log_ratio(self, votes: Indices, given: Indices) -> Floats:
        """Return log (Π_a W^a_{k, v_a})^w / M_{k, ỹ} of B samples, ``(B, C)``.

        Parameters
        ----------
        votes
            ``(B, A)`` int64 in 0..C-1, -1 where an annotator did not label the sample.
        given
            ``(B,)`` int64 in 0..C-1, the majority; -1 where it is not known.
        """
        total = np.zeros((len(votes), self.right.shape[1]))
        for annotator in range(votes.shape[1]):
            there = np.flatnonzero(votes[:, annotator] >= 0)
            total[there] += self._log_channel(annotator, votes[there, annotator])
        number = (votes >= 0).sum(axis=1, keepdims=True)
        total /= 1.0 + SHARED_MISTAKES * np.maximum(number - 1, 0)
        there = np.flatnonzero(given >= 0)
        total[there] -= self._log_channel(-1, given[there])
        return total

    def _log_channel(self, annotator: int, labels: Indices) -> Floats:
        """Return log P(label | right k) of one annotator's B labels, ``(B, C)``."""
        if self.wrong.shape[2] > 1:
            return np.asarray(self.wrong[annotator].T[labels])
        log_probs = np.tile(self.wrong[annotator, :, 0], (len(labels), 1))
        log_probs[np.arange(len(labels)), labels] = self.right[annotator, labels]
        return log_probs


def fit_channels(posterior: Floats, given: Indices, votes: Indices) -> Channels:
    """Estimate the channels of annotators and of their majority.

    Parameters
    ----------
    posterior
        ``(n, C)`` floats, P(y = k | x, ỹ) of the label model; rows sum to 1.
    given
        ``(n,)`` int64 in 0..C-1, the majority.
    votes
        ``(n, A)`` int64 in 0..C-1, -1 where an annotator did not label the sample.
    """
    with np.errstate(divide="ignore"):
        log_prior = np.log(posterior.astype(np.float64))
    current = posterior.astype(np.float64)
    for _ in range(ROUNDS):
        channels = _estimate(current, given, votes)
        before, current = current, softmax(log_prior + channels.log_ratio(votes, given), axis=1)
        if np.abs(current - before).sum() < 2 * TOLERANCE * len(given):
            break
    return channels


def _estimate(posterior: Floats, given: Indices, votes: Indices) -> Channels:
    """Estimate channels from the posterior of the right classes, ``(n, C)``."""
    classes = posterior.shape[1]
    labels = np.column_stack([votes, given])  # (n, A + 1)
    size = labels.shape[1]
    full = classes <= MANY_CLASSES
    hits = np.zeros((size, classes))  # expected votes k of right class k
    totals = np.zeros((size, classes))  # expected votes of right class k
    cells = np.zeros((size, classes, classes)) if full else None
    for annotator in range(size):
        there = np.flatnonzero(labels[:, annotator] >= 0)
        own, voted = posterior[there], labels[there, annotator]
        totals[annotator] = own.sum(axis=0)
        if cells is not None:
            for name in range(classes):
                cells[annotator, :, name] = own[voted == name].sum(axis=0)
            hits[annotator] = np.diag(cells[annotator])
        else:
            weight = own[np.arange(len(there)), voted]
            hits[annotator] = np.bincount(voted, weights=weight, minlength=classes)
    prior = _shared_accuracy(hits, totals)  # (A + 1, C)
    right = (hits + ROW_PSEUDO_COUNT * prior) / (totals + ROW_PSEUDO_COUNT)
    if cells is None:
        wrong = np.log((1.0 - right) / (classes - 1))[:, :, None]
        return Channels(np.log(right), wrong)
    beside = ~np.eye(classes, dtype=bool)
    shared = np.where(beside, cells[:-1].sum(axis=0) + CELL_PSEUDO_COUNT, 0.0)
    shared /= shared.sum(axis=1, keepdims=True)
    rows = ROW_PSEUDO_COUNT * (1.0 - prior)[:, :, None] * shared
    rows = np.where(beside, (cells + rows) / (totals + ROW_PSEUDO_COUNT)[:, :, None], 0.0)
    rows += np.where(beside, 0.0, right[:, :, None])
    return Channels(np.log(right), np.log(rows))


def _shared_accuracy(hits: Floats, totals: Floats) -> Floats:
    """Return the accuracy expected of each annotator in each class, ``(A + 1, C)``.

    Its log-odds are those of all annotators in this class, plus what this annotator is better overall.
    """
    all_hits, all_totals = hits[:-1].sum(axis=0), totals[:-1].sum(axis=0)
    overall = _clip(all_hits.sum() / all_totals.sum())
    by_class = _clip((all_hits + CLASS_PSEUDO_COUNT * overall) / (all_totals + CLASS_PSEUDO_COUNT))
    expected = (totals * by_class).sum(axis=1)  # hits of an average annotator in these classes
    pseudo = ANNOTATOR_PSEUDO_COUNT
    reached = _clip((hits.sum(axis=1) + pseudo * overall) / (totals.sum(axis=1) + pseudo))
    usual = _clip((expected + pseudo * overall) / (totals.sum(axis=1) + pseudo))
    shift = logit(reached) - logit(usual)
    return _clip(expit(logit(by_class) + shift[:, None]))


def _clip(values: Floats) -> Floats:
    return np.asarray(np.clip(values, LEAST_ACCURACY, MOST_ACCURACY))


@dataclass(frozen=True, eq=False)
class VoteEvidence:
    """The votes for L labeled samples, and the channels that weigh them.

    Attributes
    ----------
    votes
        ``(L, A)`` int64 in 0..C-1, -1 where an annotator did not label the sample.
    channels
        From `fit_channels`.
    explanations
        Those of the label model, with weights that the votes decide as well.
    vote_probs
        ``(L, A)`` float64 in [0, 1], the probability that each vote is right, NaN where there is none.
        `weigh` fills it.
    known
        ``(L,)`` bool, whether the label is verified, so that it is known which votes are right.
    """

    votes: Indices
    channels: Channels
    explanations: tuple[Explanation, ...]
    vote_probs: Floats
    known: npt.NDArray[np.bool_]

    @classmethod
    def fit(
        cls,
        explanations: tuple[Explanation, ...],
        read: Callable[[Indices], Floats],
        given: Indices,
        votes: Indices,
        rows: Indices,
        verified: Verified | None = None,
    ) -> VoteEvidence:
        """Fit the channels, and weigh the explanations anew, with some of the samples.

        Parameters
        ----------
        explanations
            Those of the label model; their weights sum to 1.
        read
            Returns log P of some of the L samples, ``(B, C)`` floats.
        given
            ``(L,)`` int64 in 0..C-1.
        votes
            ``(L, A)`` int64 in 0..C-1, -1 where an annotator did not label the sample.
        rows
            ``(n,)`` int64, the samples to fit to.
        verified
            Which of the L labels are verified. Their right class is known, so they show best how good
            each annotator is.
        """
        num_classes = len(explanations[0].class_bias)
        rows = rows[:: -(-len(rows) * num_classes // MOST_FITTED_VALUES)]
        log_probs = np.asarray(read(rows), dtype=np.float32)
        labels, voted = given[rows], votes[rows]
        known = np.zeros(len(rows), dtype=bool)
        first = labels
        if verified is not None:
            part = verified.subset(rows)
            known, first = part.labels, np.where(part.labels, part.first_given, labels)
        step = max(1, log_probs.size // MOST_WEIGHED_VALUES)
        some = np.flatnonzero(~known)[::step]
        weighed = explanations
        for _ in range(WEIGHING_ROUNDS):
            posterior = average_explanations(weighed, log_probs, labels).clean_probs
            posterior[known] = 0.0
            posterior[known, labels[known]] = 1.0
            channels = fit_channels(posterior, first, voted)
            log_ratio = channels.log_ratio(voted[some], first[some])
            weighed = _weigh(explanations, log_probs[some], labels[some], log_ratio)
        whole = np.zeros(len(given), dtype=bool) if verified is None else verified.labels
        return cls(votes, channels, weighed, np.full(votes.shape, np.nan), whole)

    def weigh(self, found: AveragedPosterior, part: slice, given: Indices) -> AveragedPosterior:
        """Return the posterior of some samples with their votes; see `weigh_votes`."""
        votes = self.votes[part]
        weighed = weigh_votes(found, self.channels.log_ratio(votes, given), given)
        probs = np.take_along_axis(weighed.clean_probs, np.maximum(votes, 0), axis=1)
        probs = np.where(self.known[part, None], votes == given[:, None], probs)
        self.vote_probs[part] = np.where(votes >= 0, probs, np.nan)
        return weighed


def _weigh(
    explanations: tuple[Explanation, ...], log_probs: Floats, given: Indices, log_ratio: Floats
) -> tuple[Explanation, ...]:
    """Multiply the weights of explanations by the likelihood of the votes under each.

    Its logarithm is the mean over samples of log Σ_k P(y = k | x, ỹ) · ratio_k, times the number of
    samples that it counts as.
    """
    if not len(given):
        return explanations
    log_weights = np.empty(len(explanations))
    for number, one in enumerate(explanations):
        alone = average_explanations((replace(one, weight=1.0),), log_probs, given).clean_probs
        with np.errstate(divide="ignore"):
            evidence = logsumexp(np.log(alone.astype(np.float64)) + log_ratio, axis=1)
        log_weights[number] = math.log(max(one.weight, 1e-300)) + VOTES_EVIDENCE * evidence.mean()
    return tuple(
        replace(one, weight=float(weight))
        for one, weight in zip(explanations, softmax(log_weights), strict=True)
    )


def weigh_votes(found: AveragedPosterior, log_ratio: Floats, given: Indices) -> AveragedPosterior:
    """Return the posterior of B labels with the votes as further evidence; see the module.

    Parameters
    ----------
    found
        The posterior without them.
    log_ratio
        ``(B, C)``, from `Channels.log_ratio`.
    given
        ``(B,)`` int64 in 0..C-1.
    """
    rows = np.arange(len(given))
    # P(wrong) is summed apart, because rounding loses it where the label is almost certainly right.
    with np.errstate(divide="ignore"):
        log_others = np.log(found.clean_probs.astype(np.float64)) + log_ratio
    log_others[rows, given] = -np.inf
    own = found.log_right - np.logaddexp(found.log_right, found.log_wrong) + log_ratio[rows, given]
    top = np.maximum(log_others.max(axis=1), own)
    others = np.exp(log_others - top[:, None])
    with np.errstate(divide="ignore"):
        log_wrong = np.log(others.sum(axis=1)) + top
    whole = np.logaddexp(own, log_wrong)
    clean = others * np.exp(top - whole)[:, None]
    clean[rows, given] = np.exp(own - whole)
    return AveragedPosterior(
        log_wrong=log_wrong - whole,
        log_right=own - whole,
        clean_probs=clean.astype(found.clean_probs.dtype),
        class_uncertainty=found.class_uncertainty,
    )

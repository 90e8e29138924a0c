import numpy as np
import pandas as pd
import pytest

import labelaudit
from labelaudit.sources.annotators import majority
from labelaudit.sources.manifest import Verified
from labelaudit.suspects.annotators import fit_channels
from labelaudit.suspects.metrics import detection_metrics
from labelaudit.suspects.predictions import assess_labels, check_predictions

CLASSES = ("cat", "dog", "owl", "yak")


def simulate(right=(0.9, 0.75, 0.6), size=1500, cover=1.0, seed=0):
    """Return true classes, labels by annotators and predictions that are right for 85%."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, size)
    strength = 2.2 * np.eye(4)[truth] + rng.normal(size=(size, 4))
    probs = np.exp(strength)
    votes = np.stack(
        [np.where(rng.random(size) < p, truth, rng.integers(0, 4, size)) for p in right], 1
    )
    votes[rng.random(votes.shape) > cover] = -1
    return truth, votes, (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


def assess(votes, probs, use_votes=True, verified=None):
    given, _ = majority(votes)
    checked = check_predictions((probs,), given, CLASSES)
    found = assess_labels(
        checked,
        given,
        CLASSES,
        threshold="auto",
        seed=0,
        verified=verified,
        votes=votes if use_votes else None,
    )
    return given, found


def test_votes_find_more_wrong_labels_than_the_majority_alone():
    truth, votes, probs = simulate()
    measured = {}
    for use_votes in (False, True):
        given, found = assess(votes, probs, use_votes)
        wrong, scores = given != truth, found.scores
        measured[use_votes] = detection_metrics(
            scores.suspect_score, found.decision.is_label_issue, wrong
        )
    assert measured[True]["auroc"] > measured[False]["auroc"] + 0.02
    assert measured[True]["f1"] > measured[False]["f1"] + 0.1


def test_the_number_of_wrong_labels_and_the_accuracies_are_estimated():
    truth, votes, probs = simulate()
    given, found = assess(votes, probs)
    wrong = int((given != truth).sum())
    _, alone = assess(votes, probs, use_votes=False)
    # These annotators share no mistakes, so there are fewer wrong labels than is assumed.
    assert wrong < found.decision.expected_wrong < 1.4 * wrong < alone.decision.expected_wrong
    low, high = found.decision.expected_wrong_interval
    assert low <= wrong <= high
    estimated = np.nanmean(found.scores.vote_probs, axis=0)
    np.testing.assert_allclose(estimated, (votes == truth[:, None]).mean(axis=0), atol=0.05)


def test_a_minority_vote_may_be_the_suggested_label():
    truth, votes, probs = simulate()
    given, found = assess(votes, probs)
    flagged = found.decision.is_label_issue
    suggested = found.scores.suggested
    among = (votes == suggested[:, None]).any(axis=1) & (suggested != given)
    assert (flagged & among).sum() > 20
    final = np.where(flagged, suggested, given)
    assert (final == truth).mean() > (given == truth).mean() + 0.03


def test_an_annotator_like_the_majority_changes_nothing():
    truth, votes, probs = simulate(right=(0.8,))
    posterior = np.eye(4)[truth] * 0.9 + 0.025
    channels = fit_channels(posterior, votes[:, 0], votes)
    np.testing.assert_array_equal(channels.log_ratio(votes, votes[:, 0]), 0.0)
    _, found = assess(votes, probs)
    _, alone = assess(votes, probs, use_votes=False)
    np.testing.assert_allclose(found.scores.suspect_score, alone.scores.suspect_score, atol=1e-5)


def test_agreement_is_evidence_for_the_label():
    _, votes, probs = simulate(right=(0.8, 0.8, 0.8))
    given, found = assess(votes, probs)
    share = (votes == given[:, None]).mean(axis=1)
    scores = found.scores.suspect_score
    assert scores[share == 1].mean() < scores[share < 0.7].mean() / 3


@pytest.mark.parametrize("classes", [4, 250])
def test_channels_are_probabilities(classes):
    rng = np.random.default_rng(0)
    posterior = rng.dirichlet(np.full(classes, 0.1), 400)
    votes = rng.integers(-1, classes, (400, 3))
    given, _ = majority(votes)
    channels = fit_channels(posterior, np.maximum(given, 0), votes)
    alone = np.full((classes, 3), -1)
    alone[:, 0] = np.arange(classes)
    probs = np.exp(
        channels.log_ratio(alone, np.full(classes, -1))
    )  # P(label j | right k) at [j, k]
    np.testing.assert_allclose(probs.sum(axis=0), 1.0, atol=1e-9)


def test_verified_labels_show_how_good_annotators_are():
    truth, votes, probs = simulate(size=600)
    probs = np.full_like(probs, 0.25) + 1e-3 * probs  # predictions that know nothing
    probs /= probs.sum(axis=1, keepdims=True)
    given, _ = majority(votes)
    known = np.arange(600) < 400
    corrected = np.where(known, truth, given)
    checked = check_predictions((probs,), corrected, CLASSES)
    found = assess_labels(
        checked,
        corrected,
        CLASSES,
        threshold="auto",
        seed=0,
        verified=Verified(known, np.where(known, given, -1)),
        votes=votes,
    )
    estimated = np.nanmean(found.scores.vote_probs, axis=0)
    np.testing.assert_allclose(estimated, (votes == truth[:, None]).mean(axis=0), atol=0.1)


def test_find_label_issues_takes_a_column_per_annotator():
    _, votes, probs = simulate(cover=0.8)
    names = np.array([*CLASSES, None], dtype=object)
    frame = pd.DataFrame(names[votes], columns=["anna", "bob", "carla"], index=np.arange(1500) + 7)
    issues = labelaudit.find_label_issues(frame, probs, classes=CLASSES)
    assert issues.index.equals(frame.index)
    voted = frame.notna().any(axis=1)
    assert issues["agreement"].notna().equals(voted)
    row = frame[frame.notna().all(axis=1)].index[0]
    anna, bob, carla = frame.loc[row]
    assert issues["votes"][row] == f"anna: {anna}, bob: {bob}, carla: {carla}"
    numbers = labelaudit.find_label_issues(votes, probs, classes=CLASSES)
    np.testing.assert_array_equal(numbers["suspect_score"], issues["suspect_score"])
    summary = issues.summary.votes
    assert [one.name for one in summary.annotators] == ["anna", "bob", "carla"]
    best = max(summary.annotators, key=lambda one: one.estimated_accuracy)
    assert best.name == "anna"
    assert sum(one.num_votes for one in summary.annotators) == frame.notna().to_numpy().sum()


def test_annotators_who_agree_by_chance_are_not_trusted():
    _, votes, probs = simulate()
    rng = np.random.default_rng(5)
    votes = np.stack([votes[:, 0], rng.permutation(votes[:, 0])], axis=1)
    _, found = assess(votes, probs)
    assert not found.trust.trustworthy
    assert "Annotators agree with each other on" in " ".join(found.trust.reasons)

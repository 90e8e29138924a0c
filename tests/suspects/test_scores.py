import numpy as np
import pytest
import torch

from labelaudit import OptionError
from labelaudit.sources.manifest import Verified
from labelaudit.suspects import label_evidence
from labelaudit.suspects.epoch_means import EpochMeans
from labelaudit.suspects.label_evidence import (
    LabelEvidence,
    average_neighbors,
    collect_evidence,
    search_among,
)
from labelaudit.suspects.scores import score_labels


def test_neighbors_are_the_nearest_others_by_brute_force():
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(60, 3)).astype(np.float32)
    probs = rng.dirichlet(np.ones(4), 60).astype(np.float32)
    queries, reference = np.arange(0, 60, 3), np.arange(0, 60, 2)
    got = average_neighbors(embeddings, probs, queries, reference, seed=0, num_neighbors=5)
    for row, query in zip(got, queries, strict=True):
        others = reference[reference != query]
        nearest = others[np.argsort(((embeddings[others] - embeddings[query]) ** 2).sum(1))[:5]]
        np.testing.assert_allclose(row, probs[nearest].mean(0), rtol=1e-5)


def test_neighbors_are_the_same_wherever_they_are_looked_for():
    rng = np.random.default_rng(2)
    points = (100 + rng.normal(size=(300, 8))).astype(np.float32)  # far from the origin
    queries = points[:50] + np.float32(0.1)
    found = search_among(points, 6, torch.device("cpu"))(queries)
    distances = ((queries[:, None] - points[None]) ** 2).sum(2)
    np.testing.assert_array_equal(found, distances.argsort(1)[:, :6])


def test_a_sample_is_never_its_own_neighbor_even_among_copies():
    embeddings = np.zeros((8, 2), dtype=np.float32)
    probs = np.tile(np.float32([[0.0, 1.0]]), (8, 1))
    probs[3] = [1.0, 0.0]
    got = average_neighbors(embeddings, probs, np.array([3]), np.arange(8), seed=0, num_neighbors=7)
    np.testing.assert_allclose(got, [[0.0, 1.0]])


def test_neighbors_of_a_single_image_are_unknown():
    got = average_neighbors(
        np.zeros((1, 2), np.float32), np.ones((1, 4), np.float32), np.array([0]), np.array([0]),
        seed=0,
    )  # fmt: skip
    np.testing.assert_allclose(got, np.full((1, 4), 0.25))


def test_large_references_are_sampled_with_the_seed(monkeypatch):
    monkeypatch.setattr(label_evidence, "MAX_REFERENCE", 20)
    rng = np.random.default_rng(2)
    embeddings = rng.normal(size=(200, 3)).astype(np.float32)
    probs = rng.dirichlet(np.ones(3), 200).astype(np.float32)
    rows = np.arange(200)
    first = average_neighbors(embeddings, probs, rows, rows, seed=1)
    np.testing.assert_array_equal(first, average_neighbors(embeddings, probs, rows, rows, seed=1))
    assert not np.array_equal(first, average_neighbors(embeddings, probs, rows, rows, seed=2))


def test_few_labels_are_scored_by_unlabeled_neighbors_alone():
    labels = np.full(60, -1)
    labels[:2] = [0, 1]
    embeddings = np.zeros((60, 1), np.float32)
    embeddings[::2] = 10  # even rows lie together, the odd ones elsewhere
    probs = np.tile(np.float32([[0.9, 0.1]]), (60, 1))
    probs[1::2] = [0.2, 0.8]
    probs[:2] = [[0.0, 1.0], [1.0, 0.0]]  # what the model says of the labeled ones does not count
    means = EpochMeans(2, 2, 0.001)
    means.add(*np.float32([[0.0, 0.0], [0.5, 0.5], [0.5, 0.5]]))
    evidence = collect_evidence(means, probs, embeddings, labels, seed=0)
    scored = score_labels(evidence, probs, labels)
    assert scored.name == "neighbors"
    # What neighbors believe on average is squared; how far they are at odds is not.
    np.testing.assert_allclose(scored.suspect_score, [0.01 / 0.82, 0.04 / 0.68], atol=1e-6)
    np.testing.assert_allclose(scored.suggested_prob, [0.01 / 0.82, 0.04 / 0.68], atol=1e-6)
    np.testing.assert_allclose(scored.class_uncertainty, [0.1, 0.2], atol=1e-6)


def test_where_features_tell_nothing_the_embedding_is_asked():
    # Many labels per class, so that classifiers of useful features would have nearly all the weight.
    rng = np.random.default_rng(6)
    right = rng.integers(0, 2, 1000)
    given = np.where(rng.random(1000) < 0.2, 1 - right, right)
    embeddings = (10 * right[:, None] + rng.normal(size=(1000, 2))).astype(np.float32)
    probs = np.where(np.arange(2) == right[:, None], 0.9, 0.1).astype(np.float32)
    means = EpochMeans(1000, 2, 0.001)
    means.add(*np.zeros((3, 1000), np.float32))
    unrelated = rng.normal(size=(1000, 20)).astype(np.float32)
    evidence = collect_evidence(means, probs, embeddings, given, seed=0, features=unrelated)
    assert evidence.mixing_weight < 0.5
    assert (evidence.oos_probs.argmax(1) == right).mean() > 0.95
    useful = (embeddings @ rng.normal(size=(2, 20)) + rng.normal(size=(1000, 20))).astype(
        np.float32
    )
    evidence = collect_evidence(means, probs, embeddings, given, seed=0, features=useful)
    assert evidence.mixing_weight > 0.9
    assert (evidence.oos_probs.argmax(1) == right).mean() > 0.95


def test_the_network_weighs_more_where_its_neighbors_are_unlabeled() -> None:
    rng = np.random.default_rng(6)
    right = rng.integers(0, 2, 200)
    features = (6 * right[:, None] + rng.normal(size=(200, 8))).astype(np.float32)
    probs = np.where(np.arange(2) == right[:, None], 0.9, 0.1).astype(np.float32)
    weights = []
    for num_labeled in (200, 40):
        given = np.where(np.arange(200) < num_labeled, right, -1)
        means = EpochMeans(num_labeled, 2, 0.001)
        means.add(*np.zeros((3, num_labeled), np.float32))
        evidence = collect_evidence(means, probs, features, given, seed=0, features=features)
        weights.append(evidence.mixing_weight)
    assert weights[0] > 0.9
    assert weights[1] == pytest.approx(20 / (20 + 25), rel=0.1)


def evidence_of(posterior, neighbors, epsilon=None) -> LabelEvidence:
    zero = np.zeros(len(posterior))
    epsilon = zero if epsilon is None else np.asarray(epsilon)
    return LabelEvidence(np.asarray(posterior), np.asarray(neighbors), epsilon, zero, zero, zero)


def test_the_default_score_uses_the_label_model():
    rng = np.random.default_rng(5)
    right = rng.integers(0, 3, 600)
    neighbors = np.full((600, 3), 0.02, np.float32)
    neighbors[np.arange(600), right] = 0.96
    given = right.copy()
    given[:120] = (right[:120] + 1) % 3
    scored = score_labels(evidence_of(np.zeros(600), neighbors), neighbors, given)
    assert scored.name == "neighbors and label model"
    assert scored.is_probability
    assert set(scored.order[:120]) == set(range(120))
    assert ((scored.suspect_score > 0.5) == (given != right)).all()
    assert scored.suspect_score.sum() == pytest.approx(120, abs=5)
    assert (scored.suggested[:120] == right[:120]).all()


def test_ranking_is_finer_than_scores_that_round_to_one():
    given = np.array([1, 1, 1] + [0] * 97)
    neighbors = np.float32([[1 - 1e-3, 1e-3], [1, 0], [1 - 1e-2, 1e-2]] + [[1, 0]] * 97)
    scored = score_labels(evidence_of(np.zeros(100), neighbors), neighbors, given)
    assert scored.order[:3].tolist() == [1, 0, 2]


def test_the_models_own_posterior_can_be_chosen():
    neighbors = np.full((3, 2), 0.5, np.float32)
    scored = score_labels(
        evidence_of([0.1, 0.8, 0.6], neighbors), neighbors, np.zeros(3, int), "posterior"
    )
    assert scored.order.tolist() == [1, 2, 0]
    np.testing.assert_allclose(scored.suspect_score, [0.1, 0.8, 0.6])


def test_epsilon_ranks_by_the_last_epoch():
    neighbors = np.full((3, 2), 0.5, np.float32)
    scored = score_labels(
        evidence_of([0.5] * 3, neighbors, [0.1, 0.0, 0.4]), neighbors, np.zeros(3, int), "epsilon"
    )
    assert scored.order.tolist() == [2, 0, 1]
    assert scored.default_threshold == 0.0
    assert not scored.is_probability


def test_unknown_scores_are_refused():
    neighbors = np.full((1, 2), 0.5, np.float32)
    with pytest.raises(OptionError, match="auto, posterior, epsilon"):
        score_labels(evidence_of([0.5], neighbors), neighbors, np.array([0]), "margin")


@pytest.mark.parametrize("score", ["auto", "posterior", "epsilon"])
@pytest.mark.parametrize("labeled", [600, 20])
def test_verified_labels_come_last_by_every_score(score, labeled):
    rng = np.random.default_rng(5)
    right = rng.integers(0, 3, 600)
    probs = rng.dirichlet(np.ones(3), 600).astype(np.float32)
    probs = (0.1 * probs + 0.9 * np.eye(3)[right]).astype(np.float32)
    given = np.where(np.arange(600) < labeled, right, -1)
    given[:8] = (right[:8] + 1) % 3
    suspect = np.where(np.arange(labeled) < 8, 0.9, 0.1)
    mask = np.isin(np.arange(labeled), [0, 1, 2, 12])
    scored = score_labels(
        evidence_of(suspect, probs[:labeled], suspect),
        probs,
        given,
        score,
        verified=Verified.of_mask(mask),
    )
    assert (scored.suspect_score[mask] == 0).all()
    assert set(scored.order[-4:]) == {0, 1, 2, 12}
    assert set(scored.order[:5]) == {3, 4, 5, 6, 7}
    assert sorted(scored.order) == list(range(labeled))
    if scored.interval:
        assert scored.interval[1] < 10

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from labelaudit.methods.neighbors_vote import NEIGHBORS, NeighborsVote
from labelaudit.methods.task import Task

CPU = torch.device("cpu")


def make_task(features, labels, **settings) -> Task:
    return Task(features[:, :, None, None], labels, 4, "features", CPU, 0, **settings)


def test_the_score_is_the_share_of_other_labels_among_the_nearest_others(gaussians):
    features, noisy, clean = gaussians
    labels = np.where(np.arange(800) < 500, noisy, -1)
    result = NeighborsVote().audit(make_task(features, labels))
    unit = features[:500] / np.linalg.norm(features[:500], axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    near = np.argsort(-similarity, axis=1)[:, :NEIGHBORS]
    other = (noisy[near] != noisy[:500, None]).mean(axis=1)
    np.testing.assert_allclose(result.suspect_score, other, atol=1e-9)
    assert roc_auc_score(noisy[:500] != clean[:500], result.suspect_score) > 0.85


def test_test_samples_are_predicted_by_their_neighbors(gaussians):
    features, noisy, clean = gaussians
    test = features[600:, :, None, None]
    result = NeighborsVote().audit(make_task(features[:600], noisy[:600], test_inputs=test))
    np.testing.assert_allclose(result.test_probs.sum(axis=1), 1)
    assert (result.test_probs.argmax(axis=1) == clean[600:]).mean() > 0.8


def test_repeated_and_empty_rows_do_no_harm():
    features = np.zeros((6, 3), dtype=np.float32)
    features[3:] = 1
    result = NeighborsVote().audit(make_task(features, np.array([0, 0, 1, 2, 2, 2])))
    assert np.isfinite(result.suspect_score).all()


def test_a_label_with_as_many_votes_as_another_is_not_flagged():
    features = np.ones((12, 3), dtype=np.float32)
    labels = np.array([0] * 6 + [1] * 6)
    angles = np.linspace(0, 0.1, 12)
    features = np.stack([np.cos(angles), np.sin(angles), np.zeros(12)], axis=1, dtype=np.float32)
    result = NeighborsVote().audit(make_task(features, labels))
    tied = result.suspect_score == 0.5
    assert tied.sum() >= 2
    assert not result.flagged[tied].any()

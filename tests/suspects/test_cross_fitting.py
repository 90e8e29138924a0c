import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from labelaudit.sources.manifest import Verified
from labelaudit.suspects import (
    class_probs,
    cross_fitting,
    feature_classifiers,
    linear_classifiers,
    nearest,
)
from labelaudit.suspects.cross_fitting import (
    classifiers_suffice,
    cross_fit_classifiers,
    mix_classifiers,
    mix_probs,
    normalized_likelihood,
)
from labelaudit.suspects.feature_classifiers import (
    find_neighbors,
    prepare_linear,
    vote_of_neighbors,
)
from labelaudit.suspects.linear_classifiers import CrossFittedLinear
from labelaudit.suspects.noise_model import fit_noise_model

CPU = torch.device("cpu")


def taught_by_all(features: np.ndarray, noisy: np.ndarray, num_classes: int) -> np.ndarray:
    return taught_by(features, noisy, num_classes, np.ones(len(noisy)))


def taught_by(
    features: np.ndarray, noisy: np.ndarray, num_classes: int, trusted: np.ndarray
) -> np.ndarray:
    linear = prepare_linear(features, np.arange(len(noisy)), num_classes, seed=0)
    assert linear is not None
    linear.predict(noisy, trusted)
    return linear.predict(noisy, trusted)


def auroc(probs: np.ndarray, noisy: np.ndarray, clean: np.ndarray) -> float:
    return float(roc_auc_score(noisy != clean, -probs[np.arange(len(noisy)), noisy]))


# --- the linear classifier ------------------------------------------------------------------------


def test_wrong_labels_are_improbable_out_of_sample(gaussians) -> None:
    features, noisy, clean = gaussians
    probs = taught_by_all(features, noisy, 4)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert auroc(probs, noisy, clean) > 0.95
    np.testing.assert_array_equal(probs, taught_by_all(features, noisy, 4))


def test_no_label_is_used_in_its_own_fold(gaussians) -> None:
    features, noisy, _ = gaussians
    changed = noisy.copy()
    changed[7] = (changed[7] + 1) % 4
    before, after = (taught_by_all(features, labels, 4) for labels in (noisy, changed))
    # The folds are fitted together, so they share the steps of the optimizer, but not its solution.
    moved = np.abs(before - after).max(axis=1)
    assert moved[7] < 1e-3
    assert moved.max() > 10 * moved[7]


def test_labels_of_weight_zero_change_nothing(gaussians) -> None:
    features, noisy, clean = gaussians
    trusted = (noisy == clean).astype(float)
    probs = taught_by(features, noisy, 4, trusted)
    np.testing.assert_allclose(taught_by(features, clean, 4, trusted), probs, atol=1e-6)
    assert auroc(probs, noisy, clean) > auroc(taught_by_all(features, noisy, 4), noisy, clean)


def test_few_samples_and_absent_classes_break_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    assert prepare_linear(features[:3], np.arange(3), 3, seed=0) is None
    alone = taught_by_all(features, np.array([0, 1] * 5 + [0, 4]), 6)
    assert np.isfinite(alone).all()
    assert (alone[:, [2, 3, 5]] == 0).all()
    np.testing.assert_allclose(alone.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(taught_by_all(features, np.zeros(12, int), 2), 0.5)


def test_of_large_data_a_part_teaches(gaussians, monkeypatch: pytest.MonkeyPatch) -> None:
    features, noisy, clean = gaussians
    whole = taught_by_all(features, noisy, 4)
    monkeypatch.setattr(feature_classifiers, "MAX_PRODUCTS", 200 * 24 * 10)
    monkeypatch.setattr(linear_classifiers, "BLOCK_VALUES", 100 * 24)
    linear = prepare_linear(features, np.arange(800), 4, seed=0)
    assert [(linear.fold_of[linear.training_samples] != fold).sum() for fold in range(5)] == [
        200
    ] * 5
    probs = taught_by_all(features, noisy, 4)
    assert (probs != whole).any()
    assert auroc(probs, noisy, clean) > 0.9
    monkeypatch.setattr(feature_classifiers, "MAX_PRODUCTS", 15 * 24 * 10)
    assert prepare_linear(features, np.arange(800), 4, seed=0) is None  # too few per class


# --- the vote -------------------------------------------------------------------------------------


def test_the_nearest_others_are_those_of_the_smallest_angle(gaussians) -> None:
    features, *_ = gaussians
    features = features * np.random.default_rng(1).uniform(0.1, 9, (800, 1)).astype(np.float32)
    rows = np.arange(0, 800, 2)
    found = find_neighbors(features, rows, 4, seed=0, device=CPU)
    exact = NearestNeighbors(n_neighbors=21, metric="cosine").fit(features[rows])
    _, expected = exact.kneighbors(features[rows])
    np.testing.assert_array_equal(np.sort(found), np.sort(expected[:, 1:]))
    assert (found != np.arange(400)[:, None]).all()


def test_of_many_labels_some_drawn_with_the_seed_are_looked_among(
    gaussians, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, *_ = gaussians
    monkeypatch.setattr(feature_classifiers, "MAX_REFERENCE", 100)
    monkeypatch.setattr(nearest, "BLOCK_VALUES", 300 * 24)
    rows = np.arange(800)
    found = find_neighbors(features, rows, 4, seed=0, device=CPU)
    assert found.shape == (800, 8)  # a third of 100 / 4
    assert len(np.unique(found)) <= 100
    assert (found != rows[:, None]).all()
    np.testing.assert_array_equal(found, find_neighbors(features, rows, 4, seed=0, device=CPU))
    assert (found != find_neighbors(features, rows, 4, seed=1, device=CPU)).any()


def test_votes_are_weighted_by_trust() -> None:
    neighbors = np.array([[1, 2, 3]] * 4)
    votes = vote_of_neighbors(neighbors, np.array([0, 1, 1, 2]), 3, np.array([1.0, 0.5, 1.0, 0.2]))
    np.testing.assert_allclose(votes, np.tile([[0.1 / 2, 1.6 / 2, 0.3 / 2]], (4, 1)), rtol=1e-6)


# --- both ------------------------------------------------------------------------------------------


def test_the_better_classifier_weighs_more(gaussians) -> None:
    features, noisy, clean = gaussians
    knows = taught_by_all(features, noisy, 4)
    guesses = np.random.default_rng(0).dirichlet(np.ones(4), 800).astype(np.float32)
    for pair in ((knows, guesses), (guesses, knows)):
        both, likelihood = mix_classifiers(*pair, noisy, seed=0)
        np.testing.assert_allclose(both.sum(axis=1), 1, atol=1e-5)
        assert auroc(both, noisy, clean) > auroc(knows, noisy, clean) - 0.02
        assert likelihood >= fit_noise_model(knows, noisy).log_likelihood(knows, noisy) - 0.01


def test_the_normalized_likelihood_is_0_for_frequencies_and_1_for_the_truth(gaussians) -> None:
    _, noisy, clean = gaussians
    truth = np.eye(4)[clean]
    model = fit_noise_model(truth, noisy)
    most = model.best_log_likelihood(truth.mean(axis=0))
    assert most == pytest.approx(model.log_likelihood(truth, noisy), abs=0.02)
    assert normalized_likelihood(model.log_likelihood(truth, noisy), most, noisy) == pytest.approx(
        1, abs=0.03
    )
    flat = np.full((800, 4), 0.25)
    told = fit_noise_model(flat, noisy).log_likelihood(flat, noisy)
    assert normalized_likelihood(told, most, noisy) == pytest.approx(0, abs=0.03)
    assert (
        normalized_likelihood(told, -2.0, noisy) == 1.0
    )  # the truth is no better than the frequencies


def test_probabilities_are_mixed_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(0).dirichlet(np.ones(3), (2, 50))
    whole = mix_probs(first, second, 0.25)
    expected = first**0.75 * second**0.25
    np.testing.assert_allclose(whole, expected / expected.sum(1, keepdims=True), rtol=1e-5)
    monkeypatch.setattr(class_probs, "BLOCK_VALUES", 21)
    np.testing.assert_array_equal(mix_probs(first, second, 0.25), whole)


def test_the_likelihood_is_that_of_the_given_labels(gaussians) -> None:
    features, noisy, _ = gaussians
    probs = taught_by_all(features, noisy, 4)
    model = fit_noise_model(probs, noisy)
    logits = model.sharpness * np.log(np.maximum(probs, 1e-9)) + model.class_bias
    clean_probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given_probs = (clean_probs @ model.transition_matrix)[np.arange(800), noisy]
    assert model.log_likelihood(probs, noisy) == pytest.approx(np.log(given_probs).mean(), rel=1e-4)


def test_memorized_labels_are_found_with_features(gaussians) -> None:
    features, noisy, clean = gaussians
    # It excuses a wrong label in two of three cases.
    by_heart = np.random.default_rng(3).random(800) < 0.67
    said = np.where(by_heart, noisy, clean)
    base_probs = np.full((800, 4), 0.02, np.float32)
    base_probs[np.arange(800), said] = 0.94
    mixed = cross_fit_classifiers(features, noisy, base_probs, seed=0).probs
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-5)
    assert auroc(base_probs, noisy, clean) < 0.75
    assert auroc(mixed, noisy, clean) > 0.93
    np.testing.assert_array_equal(
        mixed, cross_fit_classifiers(features, noisy, base_probs, seed=0).probs
    )


def test_with_few_labels_per_class_memorized_ones_are_still_found(gaussians) -> None:
    features, noisy, clean = (values[::10] for values in gaussians)  # 20 per class
    base_probs = np.full((80, 4), 0.02, np.float32)
    base_probs[np.arange(80), noisy] = 0.94
    blind, mixed = (
        cross_fit_classifiers(features, noisy, base_probs, seed=0, memorized=memorized)
        for memorized in (False, True)
    )
    assert blind.mixing_weight < 0.5 < mixed.mixing_weight
    assert auroc(mixed.probs, noisy, clean) > max(0.9, auroc(blind.probs, noisy, clean))


def test_with_fewer_labels_than_folds_nothing_is_mixed_in(gaussians) -> None:
    features, noisy, _ = gaussians
    base_probs = np.tile(np.float32([[0.7, 0.1, 0.1, 0.1]]), (4, 1))
    few = np.where(np.arange(800) < 4, noisy, -1)
    mixed = cross_fit_classifiers(features, few, base_probs, seed=0)
    np.testing.assert_array_equal(mixed.probs, base_probs)
    assert mixed.mixing_weight == 0.0


def test_useless_features_weigh_little_with_few_labels_per_class() -> None:
    rng = np.random.default_rng(0)
    clean = np.repeat(np.arange(20), 10)
    noisy = np.where(rng.random(200) < 0.2, rng.integers(0, 20, 200), clean)
    base_probs = np.full((200, 20), 0.01, np.float32)
    base_probs[np.arange(200), clean] = 0.81
    noise = rng.normal(size=(200, 16)).astype(np.float32)
    assert auroc(cross_fit_classifiers(noise, noisy, base_probs, seed=0).probs, noisy, clean) > 0.95


@pytest.mark.parametrize(("per_class", "least"), [(10, 0.95), (100, 0.5), (500, 1 / 26)])
def test_memorized_labels_weigh_less_the_fewer_there_are(per_class, least) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), per_class)
    noise = rng.normal(size=(3 * per_class, 4)).astype(np.float32)  # tells nothing
    base_probs = np.full((3 * per_class, 3), 0.1, np.float32)
    base_probs[np.arange(3 * per_class), labels] = 0.8
    mixed = cross_fit_classifiers(noise, labels, base_probs, seed=0, memorized=True)
    assert mixed.mixing_weight == pytest.approx(least)


def test_useless_features_weigh_little_with_many_labels_either() -> None:
    """Two shells: no half-space and no angle tells them apart."""
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 2, 800)
    noisy = np.where(rng.random(800) < 0.2, 1 - clean, clean)
    points = rng.normal(size=(800, 6))
    points *= ((1 + clean) / np.linalg.norm(points, axis=1))[:, None]
    base_probs = np.full((800, 2), 0.05, np.float32)
    base_probs[np.arange(800), np.where(rng.random(800) < 0.97, clean, noisy)] = 0.95
    mixed = cross_fit_classifiers(points.astype(np.float32), noisy, base_probs, seed=0).probs
    assert auroc(mixed, noisy, clean) > auroc(base_probs, noisy, clean) - 0.001


def test_a_label_hardly_affects_its_own_prediction(gaussians) -> None:
    """It trains the others, which are trusted more or less because of it."""
    features, noisy, clean = gaussians
    base_probs = np.full((800, 4), 0.1, np.float32)
    base_probs[np.arange(800), clean] = 0.7
    for row in range(0, 800, 160):
        given, other = noisy[row], (noisy[row] + 1) % 4
        changed = noisy.copy()
        changed[row] = other
        for_given, for_other = (
            np.log(cross_fit_classifiers(features, labels, base_probs, seed=0).probs[row])
            for labels in (noisy, changed)
        )
        excused = (for_given[given] - for_given[other]) - (for_other[given] - for_other[other])
        assert abs(excused) < 0.1


def test_verified_labels_have_full_weight(gaussians, monkeypatch: pytest.MonkeyPatch) -> None:
    features, given, right = gaussians
    base_probs = np.full((len(given), 4), 0.25, np.float32)
    mask = np.arange(len(given)) < 100
    weights = []
    predict = CrossFittedLinear.predict

    def spy(self, labels, right_prob):
        weights.append(right_prob.copy())
        return predict(self, labels, right_prob)

    monkeypatch.setattr(CrossFittedLinear, "predict", spy)
    labels = np.where(mask, right, given)
    verified = Verified(mask, np.where(mask, given, -1))
    mixed = cross_fit_classifiers(features, labels, base_probs, seed=0, verified=verified)
    assert len(weights) == cross_fitting.ROUNDS
    assert all((one[mask] == 1).all() and (one[~mask] < 1).all() for one in weights)
    plain = cross_fit_classifiers(features, given, base_probs, seed=0)
    rows = np.flatnonzero(~mask)
    gains = np.log(mixed.probs[rows, right[rows]]) - np.log(plain.probs[rows, right[rows]])
    assert gains.mean() > 0


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_classifiers_suffice_where_they_know_the_classes_whatever_is_wrong(rate: float) -> None:
    rng = np.random.default_rng(5)
    clean = rng.integers(0, 4, 2400)
    features = (rng.normal(size=(2400, 20)) + 4 * np.eye(20)[clean]).astype(np.float32)
    wrong = rng.random(2400) < rate
    noisy = np.where(wrong, (clean + rng.integers(1, 4, 2400)) % 4, clean)
    assert classifiers_suffice(features, noisy, 4, seed=0)
    few = np.where(np.arange(2400) < 1000, noisy, -1)
    assert not classifiers_suffice(features, few, 4, seed=0)
    unrelated = rng.normal(size=(2400, 20)).astype(np.float32)
    assert not classifiers_suffice(unrelated, noisy, 4, seed=0)

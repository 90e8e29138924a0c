import numpy as np
import pytest
from scipy.optimize import check_grad

from labelaudit.suspects import noise_model
from labelaudit.suspects.noise_model import NoiseModel, fit_noise_model


def draw(total=6000, classes=5, pair=0.0, symmetric=0.0, confidence=3.0, seed=0):
    """Draw honest class probabilities, right labels from them, and given labels from T."""
    rng = np.random.default_rng(seed)
    logits = confidence * rng.normal(size=(total, classes))
    probs = np.exp(logits)
    probs /= probs.sum(1, keepdims=True)
    right = (probs.cumsum(1) > rng.uniform(size=(total, 1))).argmax(1)
    matrix = np.full((classes, classes), symmetric / (classes - 1))
    np.fill_diagonal(matrix, 1 - symmetric - pair)
    matrix[np.arange(classes), (np.arange(classes) + 1) % classes] += pair
    given = (matrix[right].cumsum(1) > rng.uniform(size=(total, 1))).argmax(1)
    return probs, right, given, matrix


@pytest.mark.parametrize("noise", [{"symmetric": 0.3}, {"pair": 0.25}, {"symmetric": 0.05}])
def test_the_transition_matrix_is_recovered(noise):
    probs, _, given, matrix = draw(**noise)
    model = fit_noise_model(probs, given)
    np.testing.assert_allclose(model.transition_matrix.sum(1), 1)
    np.testing.assert_allclose(model.transition_matrix, matrix, atol=0.05)
    assert model.sharpness == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("distortion", [0.4, 2.0])
def test_the_sharpness_undoes_a_distortion_of_the_probabilities(distortion):
    probs, _, given, _ = draw(symmetric=0.3)
    distorted = probs**distortion
    distorted /= distorted.sum(1, keepdims=True)
    model = fit_noise_model(distorted, given)
    assert model.sharpness == pytest.approx(1 / distortion, rel=0.15)


def test_scores_mean_what_they_say():
    probs, right, given, _ = draw(total=20_000, symmetric=0.2, pair=0.1, confidence=2.0)
    score = fit_noise_model(probs**2 / (probs**2).sum(1, keepdims=True), given)
    posterior = score.infer(probs**2 / (probs**2).sum(1, keepdims=True), given)
    wrong = given != right
    assert posterior.wrong_prob.sum() == pytest.approx(wrong.sum(), rel=0.05)
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (posterior.wrong_prob >= low) & (posterior.wrong_prob < low + 0.2)
        assert wrong[inside].mean() == pytest.approx(posterior.wrong_prob[inside].mean(), abs=0.06)


def test_the_posterior_is_bayes_rule():
    matrix = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0001, 0.3, 0.6999]])
    model = NoiseModel(2.0, np.array([0.1, 0.0, -0.2]), matrix)
    probs = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    given = np.array([1, 2])
    seen = probs**2 * np.exp(model.class_bias)
    expected = seen * matrix[:, given].T
    expected /= expected.sum(1, keepdims=True)
    posterior = model.infer(probs, given)
    np.testing.assert_allclose(posterior.clean_probs, expected, rtol=1e-5)
    np.testing.assert_allclose(posterior.wrong_prob, 1 - expected[[0, 1], given], rtol=1e-6)
    np.testing.assert_allclose(
        posterior.log_odds, np.log(posterior.wrong_prob / (1 - posterior.wrong_prob)), rtol=1e-6
    )


def test_the_gradient_is_that_of_the_loss():
    probs, _, given, matrix = draw(total=50, symmetric=0.2)
    args = (np.log(probs), matrix[:, given].T)
    start = np.random.default_rng(1).normal(size=6) * 0.3
    error = check_grad(
        lambda x: noise_model._loss(x, *args)[0], lambda x: noise_model._loss(x, *args)[1], start
    )
    assert error < 1e-3


def test_certain_probabilities_rank_and_stay_finite():
    probs = np.eye(3)[np.zeros(30, int)]
    given = np.zeros(30, int)
    given[:3] = 1
    posterior = fit_noise_model(probs, given).infer(probs, given)
    assert np.isfinite(posterior.log_odds).all()
    assert posterior.wrong_prob[:3].min() > 0.5 > posterior.wrong_prob[3:].max()


def test_large_data_is_fitted_on_a_seeded_part(monkeypatch):
    probs, _, given, matrix = draw(symmetric=0.3)
    monkeypatch.setattr(noise_model, "FIT_VALUES", 10_000)  # 2,000 of 6,000 samples
    first, again, other = (fit_noise_model(probs, given, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.transition_matrix, again.transition_matrix)
    assert not np.array_equal(first.transition_matrix, other.transition_matrix)
    np.testing.assert_allclose(other.transition_matrix, matrix, atol=0.08)
    whole = first.infer(probs, given)
    monkeypatch.undo()
    np.testing.assert_allclose(first.infer(probs, given).wrong_prob, whole.wrong_prob)

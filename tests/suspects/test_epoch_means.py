import numpy as np
import pytest

from labelaudit import EpsilonHistory
from labelaudit.suspects.epoch_means import EpochMeans, posterior_wrong
from labelaudit.training.recorder import write_part


@pytest.mark.parametrize("classes", [2, 10])
def test_posterior_is_bayes_rule_over_the_two_explanations(classes):
    rng = np.random.default_rng(0)
    epsilon, q = rng.uniform(0.01, 0.4, 50), rng.uniform(0, 1, 50)
    # p(ỹ|y) summed over y: the given class with q, each of the others with (1-q)/(C-1).
    right = (1 - epsilon) * q
    wrong = (classes - 1) * (epsilon / (classes - 1)) * ((1 - q) / (classes - 1))
    expected = wrong / (right + wrong)
    np.testing.assert_allclose(posterior_wrong(epsilon, q, classes, 0.001), expected, rtol=1e-9)


def test_posterior_stays_finite_at_the_edges():
    epsilon, q = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    values = posterior_wrong(epsilon, q, 10, 0.001)
    np.testing.assert_allclose(values, [1, 0, 1, 0], atol=1e-6)


def recorded(epochs=3, labels=5):
    """Give ε, guider's and learner's probabilities, each (epochs, labels) float32."""
    learner, guider = np.random.default_rng(3).uniform(size=(2, epochs, labels)).astype(np.float32)
    return np.abs(guider - learner), guider, learner


def test_epochs_are_averaged_and_the_last_one_is_kept():
    epsilon, guider, learner = recorded()
    means = EpochMeans(5, 2, 0.001)
    for one in zip(epsilon, guider, learner, strict=True):
        means.add(*one)
    each = [posterior_wrong(e, g, 2, 0.001) for e, g in zip(epsilon, guider, strict=True)]
    np.testing.assert_allclose(means.posterior, np.mean(each, 0))
    np.testing.assert_allclose(means.epsilon_mean, epsilon.mean(0), rtol=1e-6)
    np.testing.assert_array_equal(means.epsilon, epsilon[-1])
    np.testing.assert_array_equal(means.guider_prob, guider[-1])
    np.testing.assert_array_equal(means.learner_prob, learner[-1])


def test_the_recorded_history_gives_the_same_means_to_the_last_digit(tmp_path):
    epsilon, guider, learner = recorded()
    means = EpochMeans(5, 2, 0.001)
    for epoch, one in enumerate(zip(epsilon, guider, learner, strict=True), start=1):
        means.add(*one)
        write_part(tmp_path, epoch, list("abcde"), one[2], one[1])
    again = EpochMeans(5, 2, 0.001)
    for _, arrays in EpsilonHistory(tmp_path):
        again.add(arrays["epsilon"], arrays["guider_prob"], arrays["learner_prob"])
    for name in ("posterior", "epsilon_mean", "epsilon", "guider_prob", "learner_prob"):
        np.testing.assert_array_equal(getattr(again, name), getattr(means, name))

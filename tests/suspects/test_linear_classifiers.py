import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from labelaudit.suspects import linear_classifiers
from labelaudit.suspects.linear_classifiers import CrossFittedLinear, penalty_strength

CLASSES = 4


def samples(size: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, size)
    features = rng.normal(size=(size, width)) + 2 * np.eye(width)[labels]
    return features.astype(np.float32), labels, rng.uniform(0.2, 1.0, size)


@pytest.mark.parametrize(
    ("size", "width", "most"),
    [(400, 60, 1000), (60, 400, 1000), (300, 60, 100), (300, 400, 100)],
    ids=["more samples", "more features", "some samples", "some samples, more features"],
)
def test_each_fold_is_predicted_as_by_scikit_learn(size, width, most):
    features, labels, weight = samples(size, width)
    kept = features.copy()
    linear = CrossFittedLinear(features, np.arange(size), CLASSES, seed=0, folds=5, most=most)
    for _ in range(4):  # each fit continues the one before
        probs = linear.predict(labels, weight)
    assert np.array_equal(features, kept)
    drawn = linear.training_samples
    scaled = StandardScaler().fit(features[drawn]).transform(features).astype(np.float64)
    for fold in range(5):
        train = drawn[linear.fold_of[drawn] != fold]
        assert len(train) <= most
        here = linear.fold_of == fold
        classifier = LogisticRegression(C=penalty_strength(len(drawn)), max_iter=2000, tol=1e-8)
        classifier.fit(scaled[train], labels[train], sample_weight=weight[train])
        wanted = classifier.predict_proba(scaled[here])
        assert np.abs(probs[here] - wanted).max() < 2e-3


def test_a_class_that_training_folds_lack_has_probability_zero():
    features, labels, weight = samples(60, 80)
    labels = np.where(labels == 3, 0, labels)
    labels[7] = 3
    linear = CrossFittedLinear(features, np.arange(60), CLASSES, seed=0, folds=5, most=99)
    probs = linear.predict(labels, weight)
    assert probs.sum(1) == pytest.approx(1, abs=1e-5)
    same_fold = linear.fold_of == linear.fold_of[7]
    assert (probs[same_fold, 3] == 0).all()
    assert (probs[~same_fold, 3] > 0).all()


def test_blocks_and_half_precision_change_nothing_that_matters(monkeypatch):
    features, labels, weight = samples(400, 60)
    rows = np.arange(400)
    usual = CrossFittedLinear(features, rows, CLASSES, seed=0, folds=5, most=200)
    probs = usual.predict(labels, weight)
    monkeypatch.setattr(linear_classifiers, "FITTED_VALUES", 5 * CLASSES * 7)
    monkeypatch.setattr(linear_classifiers, "BLOCK_VALUES", 60 * 9)
    half = features.astype(np.float16)
    for given in (features, half):
        linear = CrossFittedLinear(given, rows, CLASSES, seed=0, folds=5, most=200)
        np.testing.assert_allclose(linear.predict(labels, weight), probs, atol=2e-3)


def test_few_samples_are_penalized_less():
    assert [penalty_strength(n) for n in (100, 1000, 50_000)] == [0.1, 0.03, 0.003]

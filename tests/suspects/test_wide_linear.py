import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from labelaudit.suspects import nearest
from labelaudit.suspects.feature_classifiers import cross_fit_linear, prepare_wide
from labelaudit.suspects.wide_linear import WideLinear

CLASSES, STRENGTH = 4, 0.003


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
    wide = WideLinear(
        features, np.arange(size), CLASSES, seed=0, folds=5, most=most, strength=STRENGTH
    )
    for _ in range(4):  # each fit continues the one before
        probs = wide.predict(labels, weight)
    assert np.array_equal(features, kept)
    drawn = wide.training_samples
    scaled = StandardScaler().fit(features[drawn]).transform(features).astype(np.float64)
    for fold in range(5):
        train = drawn[wide.fold_of[drawn] != fold]
        assert len(train) <= most
        here = wide.fold_of == fold
        classifier = LogisticRegression(C=STRENGTH, max_iter=2000, tol=1e-8)
        classifier.fit(scaled[train], labels[train], sample_weight=weight[train])
        wanted = classifier.predict_proba(scaled[here])
        assert np.abs(probs[here] - wanted).max() < 2e-3


def test_a_class_that_training_folds_lack_has_probability_zero():
    features, labels, weight = samples(60, 80)
    labels = np.where(labels == 3, 0, labels)
    labels[7] = 3
    wide = WideLinear(features, np.arange(60), CLASSES, seed=0, folds=5, most=99, strength=STRENGTH)
    probs = wide.predict(labels, weight)
    assert probs.sum(1) == pytest.approx(1, abs=1e-5)
    same_fold = wide.fold_of == wide.fold_of[7]
    assert (probs[same_fold, 3] == 0).all()
    assert (probs[~same_fold, 3] > 0).all()


def test_very_many_features_are_judged_as_well(monkeypatch):
    # Both ways at a size where both work: the same order of labels, up to the smaller number of steps.
    features, labels, weight = samples(500, 300)
    given = labels.copy()
    given[:50] = (given[:50] + 1) % CLASSES
    rows = np.arange(500)
    usual = cross_fit_linear(features, rows, given, CLASSES, weight, seed=0)
    assert prepare_wide(features, rows, CLASSES, seed=0) is None
    monkeypatch.setattr("labelaudit.suspects.feature_classifiers.EXACT_FEATURES", 200)
    wide = prepare_wide(features, rows, CLASSES, seed=0)
    wide.predict(given, weight)
    together = wide.predict(given, weight)
    assert nearest.EXACT_FEATURES > 1000
    assert np.corrcoef(usual[rows, given], together[rows, given])[0, 1] > 0.98
    right = [(probs.argmax(1) == labels).mean() for probs in (usual, together)]
    assert right[1] >= right[0] - 0.01

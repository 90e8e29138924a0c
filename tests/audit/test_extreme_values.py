"""Data at the limits: huge and tiny numbers, constants, copies, few samples."""

import warnings

import numpy as np
import pytest

from labelaudit import LabelAuditor, SourceError
from labelaudit.suspects.feature_range import in_range

SETTINGS = {"epochs": 5, "device": "cpu", "verbose": False, "batch_size": 30}
WRONG = np.arange(0, 120, 20)


def blobs():
    """Separable classes with six wrong labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    features = rng.normal(size=(120, 4)) + 8 * np.eye(4)[labels]
    given = labels.copy()
    given[WRONG] = (given[WRONG] + 1) % 3
    return features, given


def fit(features, labels, **settings):
    """Fit, where warnings of NumPy and others are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UserWarning)
        return LabelAuditor(**SETTINGS | settings).fit(features, labels)


def with_values(change):
    features, labels = blobs()
    return change(features.astype(np.float64)), labels


UNUSUAL = {
    "huge": lambda x: x * 1e30,
    "the largest of 32 bits": lambda x: x / np.abs(x).max() * 3.4e38,
    "tiny": lambda x: x * 1e-30,
    "denormal": lambda x: x * 1e-40,
    "columns of all sizes": lambda x: x * np.array([1e37, 1e-37, 1, 1e15]),
    "far from zero": lambda x: x + 1e5,
    "a constant column": lambda x: np.c_[x, np.full(len(x), 7.0)],
    "a column of zeros": lambda x: np.c_[x, np.zeros(len(x))],
    "a repeated column": lambda x: np.c_[x, x[:, 0]],
    "whole numbers": lambda x: (x * 100).astype(np.int64),
    "half precision": lambda x: x.astype(np.float16),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_wrong_labels_are_found_whatever_the_numbers(name):
    auditor = fit(*with_values(UNUSUAL[name]))
    assert set(auditor.ranking_[:6]) == set(WRONG)
    assert np.isfinite(auditor.suspect_score_).all()


def test_one_huge_value_leaves_the_other_columns_useful():
    features, labels = blobs()
    features[5, 3] = 1e35
    assert set(fit(features, labels).ranking_[:6]) == set(WRONG)


@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: (np.ones_like(x), y),
        lambda x, y: (np.repeat(x[:3], 40, axis=0), y),
        lambda x, y: (x[:, :1], y),
        lambda x, y: (x[:2], [0, 1]),
        lambda x, y: (x[:3], [0, 1, 2]),
        lambda x, y: (x[:5], [0, 0, 0, 0, 1]),
        lambda x, y: (x[:20], np.arange(20)),
        lambda x, y: (x, np.r_[[1, 0], np.full(118, -1)]),
        lambda x, y: (np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2),
        lambda x, y: (np.arange(20, dtype=np.uint8).reshape(20, 1, 1), np.arange(20) % 2),
    ],
    ids=[
        "constant", "copies", "one column", "two samples", "three classes of one sample",
        "a class of one sample", "every label its own class", "two labels", "black images",
        "1x1 images",
    ],
)  # fmt: skip
def test_data_from_which_little_can_be_learned_have_finite_results(make):
    features, labels = make(*blobs())
    auditor = fit(features.astype(np.float32) if features.ndim == 2 else features, labels, epochs=1)
    labeled = np.asarray(labels) >= 0
    assert np.isfinite(auditor.suspect_score_[labeled]).all()
    assert np.isfinite(auditor.oos_probs_[labeled]).all()


def test_constant_features_are_not_to_be_trusted():
    features, labels = blobs()
    assert not fit(np.ones_like(features), labels, epochs=1).trust_.trustworthy


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite_are_refused_in_one_line(value):
    features, labels = blobs()
    features[3, 1] = value
    with pytest.raises(SourceError) as raised:
        fit(features, labels)
    assert "\n" not in str(raised.value)


def test_usual_features_are_not_copied():
    features = np.array([[1e14, 1e-14, 0.0]], np.float32)
    assert in_range(features) is features


def test_seeds_of_any_size():
    features, labels = blobs()
    scores = [fit(features, labels, seed=seed).suspect_score_ for seed in (2**32, 2**63, 2**200)]
    assert not np.array_equal(scores[0], scores[2])

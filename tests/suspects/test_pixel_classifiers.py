import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from labelaudit.benchmark.corruptions import corrupt_pair, corrupt_symmetric
from labelaudit.sources.manifest import Verified
from labelaudit.suspects import pixel_classifiers
from labelaudit.suspects.epoch_means import EpochMeans
from labelaudit.suspects.label_evidence import collect_evidence
from labelaudit.suspects.pixel_classifiers import (
    cross_fit_mlp,
    mix_pixel_classifier,
    mixing_weight,
    suits_pixels,
)
from labelaudit.suspects.scores import score_labels

CPU = torch.device("cpu")
CLASSES, SIZE = 4, 800


def images(seed: int, contrast: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """Images of four classes that overlap, and their right labels."""
    rng = np.random.default_rng(seed)
    right = rng.permutation(np.arange(SIZE) % CLASSES)
    templates = rng.normal(128, contrast, (CLASSES, 1, 6, 6))
    pixels = templates[right] + rng.normal(0, 80, (SIZE, 1, 6, 6))
    return pixels.clip(0, 255).astype(np.uint8), right


def too_sure(right: np.ndarray, seed: int) -> np.ndarray:
    """Opinions that are right about 80% of the samples, and always sure of themselves."""
    rng = np.random.default_rng(seed)
    predicted = np.where(rng.random(SIZE) < 0.8, right, rng.integers(0, CLASSES, SIZE))
    probs = np.full((SIZE, CLASSES), 0.01, np.float32)
    probs[np.arange(SIZE), predicted] = 0.97
    return probs


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(pixel_classifiers, "MIN_STEPS", 60)
    monkeypatch.setattr(pixel_classifiers, "HIDDEN", 32)


def fit(pixels, labels, weights=None, seed=0):
    weights = np.ones(len(labels)) if weights is None else weights
    rows = np.arange(len(labels))
    return cross_fit_mlp(pixels, rows, labels, CLASSES, weights, seed=seed, device=CPU)


@pytest.mark.usefixtures("quick")
def test_a_label_has_no_influence_on_its_own_prediction():
    pixels, right = images(0)
    first = fit(pixels, right)
    assert (first.argmax(1) == right).mean() > 0.7
    np.testing.assert_allclose(first.sum(1), 1.0, rtol=1e-5)
    assert fit(pixels, right, seed=2**200).shape == first.shape  # as large as options allow
    changed = right.copy()
    changed[17] = (right[17] + 1) % CLASSES
    second = fit(pixels, changed)
    np.testing.assert_array_equal(first[17], second[17])
    assert not np.array_equal(first, second)


@pytest.mark.usefixtures("quick")
def test_predictions_follow_the_seed_and_ignore_labels_without_weight():
    pixels, right = images(1)
    np.testing.assert_array_equal(fit(pixels, right, seed=3), fit(pixels, right, seed=3))
    assert not np.array_equal(fit(pixels, right, seed=3), fit(pixels, right, seed=4))
    weights = np.ones(SIZE)
    weights[:100] = 0.0
    wrong = right.copy()
    wrong[:100] = (right[:100] + 1) % CLASSES
    np.testing.assert_array_equal(fit(pixels, right, weights), fit(pixels, wrong, weights))


@pytest.mark.usefixtures("quick")
def test_of_many_labels_some_are_trained_on_and_all_are_predicted(monkeypatch):
    pixels, right = images(2)
    monkeypatch.setattr(pixel_classifiers, "MAX_TRAINED", 300)
    monkeypatch.setattr(pixel_classifiers, "BLOCK_VALUES", 36 * 50)
    rows = np.arange(0, SIZE, 2)
    labels = right[rows]
    probs = cross_fit_mlp(pixels, rows, labels, CLASSES, np.ones(len(rows)), seed=0, device=CPU)
    assert probs.shape == (len(rows), CLASSES)
    assert (probs.argmax(1) == labels).mean() > 0.6


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("noise", ["symmetric", "pair", "none"])
def test_doubtful_neighbors_gain_from_pixels(noise):
    pixels, right = images(3)
    given = {
        "symmetric": corrupt_symmetric(right, 0.2, CLASSES, 0),
        "pair": corrupt_pair(right, 0.3, CLASSES, 0),
        "none": right,
    }[noise]
    neighbors = too_sure(right, 5)
    means = EpochMeans(SIZE, CLASSES, 0.001)
    means.add(*np.full((3, SIZE), 0.5, np.float32))
    embeddings = np.arange(SIZE, dtype=np.float32)[:, None]
    scores = []
    for known in (None, pixels):
        evidence = collect_evidence(means, neighbors, embeddings, given, seed=0, pixels=known)
        scores.append(score_labels(evidence, neighbors, given).suspect_score)
    assert evidence.pixel_weight > 0.0
    before, after = scores
    if noise == "none":
        assert (after > 0.5).sum() <= (before > 0.5).sum()
    else:
        wrong = given != right
        assert roc_auc_score(wrong, after) > roc_auc_score(wrong, before)


@pytest.mark.usefixtures("quick")
def test_pixels_that_tell_nothing_change_nothing():
    pixels, _ = images(4, contrast=0.0)
    right = np.arange(SIZE) % CLASSES
    neighbors = too_sure(right, 6)
    found = mix_pixel_classifier(pixels, np.arange(SIZE), right, neighbors, seed=0)
    assert found.weight == 0.0
    assert found.probs is neighbors


@pytest.mark.usefixtures("quick")
def test_verified_labels_teach_fully(monkeypatch):
    pixels, right = images(5)
    seen = []

    def remember(pixels, rows, labels, classes, weights, **options):
        seen.append(weights)
        return np.full((len(rows), classes), 1 / classes, np.float32)

    monkeypatch.setattr(pixel_classifiers, "cross_fit_mlp", remember)
    verified = Verified.of_mask(np.arange(SIZE) < 200)
    given = (right + (np.arange(SIZE) < 300)) % CLASSES
    mix_pixel_classifier(
        pixels, np.arange(SIZE), given, too_sure(right, 7), seed=0, verified=verified
    )
    assert (seen[0][:200] == 1.0).all()
    assert seen[0][200:300].mean() < 0.5


@pytest.mark.parametrize(
    ("quality", "base", "weight"),
    [
        (0.95, 0.98, 0.6), (0.8, 1.0, 0.3), (0.3, 0.9, 0.0), (0.5, 0.4, 0.6), (0.1, -0.2, 0.6),
        (-0.1, -0.2, 0.0),
    ],
)  # fmt: skip
def test_weight_follows_what_the_classifier_knows(quality, base, weight):
    assert mixing_weight(quality, base) == pytest.approx(weight)


def test_where_pixels_are_not_classified():
    labels = np.repeat([0, 1], 150)
    small = np.zeros((300, 1, 28, 28), np.uint8)
    assert suits_pixels(small, labels, 2)
    assert not suits_pixels(np.zeros((300, 3, 64, 64), np.uint8), labels, 2)  # large images
    assert not suits_pixels(np.zeros((1000, 1, 28, 28), np.uint8), labels, 2)  # few labels
    assert not suits_pixels(small, np.repeat([0, 1], [50, 250]), 2)  # a rare class
    assert not suits_pixels(small, labels, 3)  # a class without any label

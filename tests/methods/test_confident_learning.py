import re
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.errors import OptionError
from labelaudit.methods.confident_learning import (
    DEFAULT_FILTER,
    FILTERS,
    ConfidentLearning,
    ConfidentLearningConfig,
    confident_learning,
)
from labelaudit.methods.task import Task
from labelaudit.progress import Reporter

CPU = torch.device("cpu")


@pytest.fixture
def cleanlab():
    """The library, where the extra labelaudit[peers] is installed."""
    return pytest.importorskip("cleanlab")


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 300 samples in 4 classes, and labels of which a quarter is wrong."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 300)
    logits = rng.normal(size=(300, 4)) + 3 * np.eye(4)[truth]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs.astype(np.float32), corrupt_symmetric(truth, 0.25, 4, seed=1)


class Warnings(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, text: str) -> None:
        self.lines.append(text)


def test_the_numbers_are_cleanlab_s(cleanlab, predictions):
    probs, labels = predictions
    scores, flagged, variants = confident_learning(probs, labels)
    quality = cleanlab.rank.get_label_quality_scores(labels, probs)
    np.testing.assert_array_equal(scores, 1 - quality)
    np.testing.assert_array_equal(
        flagged, cleanlab.filter.find_label_issues(labels=labels, pred_probs=probs)
    )
    assert 0 < flagged.sum() < 150
    assert set(variants) == set(FILTERS)
    for name, mask in variants.items():
        assert mask.dtype == bool
        by_hand = cleanlab.filter.find_label_issues(labels, probs, filter_by=name)
        np.testing.assert_array_equal(mask, by_hand)
    np.testing.assert_array_equal(variants[DEFAULT_FILTER], flagged)


def test_every_filter_that_cleanlab_offers_is_there(cleanlab):
    offered = re.search(
        r"filter_by : \{(.*?)\}, default='(\w+)'", cleanlab.filter.find_label_issues.__doc__
    )
    assert {name.strip(" '") for name in offered[1].split(",")} == set(FILTERS)
    assert offered[2] == DEFAULT_FILTER


def test_classes_that_no_label_names_do_no_harm(cleanlab, predictions):
    probs, labels = predictions
    wider = np.concatenate([probs, np.zeros((300, 2), np.float32)], axis=1)
    scores, flagged, _ = confident_learning(wider, labels)
    np.testing.assert_array_equal(scores, confident_learning(probs, labels)[0])
    assert flagged.shape == (300,)


@pytest.mark.parametrize("rate", [0.2, 0.4])
def test_it_finds_wrong_digits(rate, cleanlab, noisy_digits):
    images, _, clean = noisy_digits
    noisy = corrupt_symmetric(clean, rate, 10, seed=2)
    wrong = noisy != clean
    verdict = ConfidentLearning().audit(Task(images[:, None], noisy, 10, "mlp", CPU, 0))
    assert roc_auc_score(wrong, verdict.suspect_score) > 0.95
    assert verdict.flagged[wrong].mean() > 0.75
    assert verdict.flagged[~wrong].mean() < 0.1
    assert verdict.test_probs is None
    assert all(mask.any() for mask in verdict.variants.values())


def test_each_image_is_judged_by_a_network_that_never_saw_it(noisy_digits, monkeypatch):
    images, noisy, _ = noisy_digits
    seen: list[set[int]] = []
    judged: list[set[int]] = []
    pixels = images[:, None].copy()
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.divmod(np.arange(600), 256)  # each its number

    def numbers(pixels) -> set[int]:
        return set((pixels[:, 0, 0, 0].astype(int) * 256 + pixels[:, 0, 0, 1]).tolist())

    def train(task, build, plan, epochs, on_epoch):
        seen.append(numbers(task.inputs))
        assert task.test_inputs is None
        assert task.watch is None
        counts = np.bincount(task.noisy_labels)
        np.testing.assert_allclose(counts, np.bincount(noisy) * 0.8, atol=1)  # stratified
        return build()

    def predict(method, pixels, task):
        judged.append(numbers(pixels))
        return np.full((len(pixels), 10), 0.1, np.float32)

    monkeypatch.setattr("labelaudit.methods.supervised.train_on", train)
    monkeypatch.setattr("labelaudit.methods.confident_learning.predict_probs", predict)
    task = Task(pixels, noisy, 10, "mlp", CPU, 0, pixels[:5], watch=print)
    ConfidentLearning().pred_probs(task)
    assert len(seen) == len(judged) == 5
    assert sum(len(part) for part in judged) == 600
    assert set().union(*judged) == set(range(600))
    for trained, held_out in zip(seen, judged, strict=True):
        assert not trained & held_out
        assert len(trained) == 480


def test_test_images_are_predicted_by_one_more_training_on_all(cleanlab, noisy_digits):
    images, noisy, clean = noisy_digits
    pixels, told = images[:, None], []
    few = np.where(np.arange(600) < 300, noisy, -1)
    task = Task(
        pixels, few, 10, "mlp", CPU, 0, test_inputs=pixels[300:350],
        watch=lambda epoch, predict: told.append((epoch, predict().shape)),
    )  # fmt: skip
    verdict = ConfidentLearning().audit(task)
    assert verdict.suspect_score.shape == (300,)
    assert (verdict.test_probs.argmax(axis=1) == clean[300:350]).mean() > 0.7
    assert told == [(epoch, (50, 10)) for epoch in range(1, verdict.epochs + 1)]


def test_the_seed_decides(cleanlab, noisy_digits):
    images, noisy, _ = noisy_digits
    pixels = images[:100, None]
    one, again, other = (
        ConfidentLearning().audit(Task(pixels, noisy[:100], 10, "mlp", CPU, seed, epochs=2))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.suspect_score, again.suspect_score)
    assert (one.suspect_score != other.suspect_score).any()


def test_rare_classes_are_judged_with_a_warning(cleanlab, noisy_digits):
    images, _, clean = noisy_digits
    rows = np.concatenate([np.flatnonzero(clean < 2)[:60], np.flatnonzero(clean == 2)[:1]])
    reporter = Warnings()
    task = Task(images[rows, None], clean[rows], 4, "mlp", CPU, 0, epochs=2, reporter=reporter)
    verdict = ConfidentLearning().audit(task)
    assert np.isfinite(verdict.suspect_score).all()
    assert len(reporter.lines) == 1
    assert reporter.lines[0].startswith("1 of 4 classes have fewer than 5 labeled samples")


def test_there_are_no_more_folds_than_the_largest_class_has_images(cleanlab, noisy_digits):
    images = noisy_digits[0][:6, None]
    labels = np.array([0, 0, 0, 1, 1, 2])
    reporter = Warnings()
    config = ConfidentLearningConfig(epoch_range=(1, 1), batch_size=2)
    task = Task(images, labels, 3, "mlp", CPU, 0, reporter=reporter)
    assert ConfidentLearning(config).pred_probs(task).shape == (6, 3)
    assert "fewer than 3" in reporter.lines[0]


def test_without_two_images_of_any_class_it_says_so(cleanlab, noisy_digits):
    task = Task(noisy_digits[0][:3, None], np.arange(3), 3, "mlp", CPU, 0)
    with pytest.raises(OptionError, match="no class has two labeled samples"):
        ConfidentLearning().audit(task)


def test_without_cleanlab_it_says_how_to_install_it(noisy_digits, monkeypatch):
    def never(*_):
        raise AssertionError("it trained before it looked")

    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setattr("labelaudit.methods.supervised.train_on", never)
    task = Task(noisy_digits[0][:, None], noisy_digits[1], 10, "mlp", CPU, 0)
    with pytest.raises(OptionError, match=r"pip install 'labelaudit\[peers\]'") as caught:
        ConfidentLearning().audit(task)
    assert "\n" not in str(caught.value)

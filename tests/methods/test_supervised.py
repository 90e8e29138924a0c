import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from labelaudit.methods.supervised import (
    CrossEntropy,
    SmallLoss,
    Supervised,
    SupervisedConfig,
    SupervisedResNet101,
    larger_losses,
)
from labelaudit.methods.task import Task
from labelaudit.networks.classifier import PlainClassifier
from labelaudit.training.method import Batch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def noisy_task(noisy_digits) -> tuple[Task, np.ndarray]:
    """600 digits, a fifth of their labels wrong, and which; the first hundred as test images."""
    images, noisy, clean = noisy_digits
    pixels = images[:, None]
    return Task(pixels, noisy, 10, "mlp", CPU, 0, test_inputs=pixels[:100]), noisy != clean


def colored(side: int, count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 3, side, side)).astype(np.uint8)


def test_a_step_is_cross_entropy_of_the_labeled_images_alone():
    task = Task(colored(4), np.array([0, 1, 2, 0, 1, -1]), 3, "mlp", CPU, 0)
    torch.manual_seed(0)
    method = CrossEntropy(task, SupervisedConfig())
    images = torch.from_numpy(task.inputs).float() / 255
    logits = method.model(images)
    by_hand = F.cross_entropy(logits[:5], torch.tensor([0, 1, 2, 0, 1]))
    expected = torch.autograd.grad(by_hand, list(method.model.classifier.parameters()))
    told = method.step(Batch(images, torch.tensor([0, 1, 2, 0, 1, -1]), torch.arange(6), 5))
    assert told["loss"].item() == pytest.approx(by_hand.item())
    for parameter, gradient in zip(method.model.classifier.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_supervised_finds_wrong_digits_and_predicts_the_right_ones(noisy_task, noisy_digits):
    task, wrong = noisy_task
    verdict = Supervised().audit(task)
    assert roc_auc_score(wrong, verdict.suspect_score) > 0.97
    assert verdict.flagged[wrong].mean() > 0.8
    assert verdict.flagged[~wrong].mean() < 0.05
    assert verdict.epochs == 15
    clean = noisy_digits[2]
    assert (verdict.test_probs.argmax(axis=1) == clean[:100]).mean() > 0.95


def test_unlabeled_images_are_neither_trained_on_nor_judged(noisy_task):
    task, _ = noisy_task
    few = np.where(np.arange(600) < 200, task.noisy_labels, -1)
    told = []
    part = Task(
        task.inputs, few, 10, "mlp", CPU, 0, test_inputs=task.test_inputs, epochs=2,
        watch=lambda epoch, predict: told.append((epoch, predict().shape)),
    )  # fmt: skip
    alone = Task(task.inputs[:200], few[:200], 10, "mlp", CPU, 0, epochs=2)
    verdict = Supervised().audit(part)
    assert verdict.suspect_score.shape == verdict.flagged.shape == (200,)
    assert verdict.epochs == 2
    assert told == [(1, (100, 10)), (2, (100, 10))]
    np.testing.assert_array_equal(verdict.suspect_score, Supervised().audit(alone).suspect_score)
    assert Supervised().audit(alone).test_probs is None


@pytest.mark.parametrize(
    ("shape", "encoder"),
    [((1, 28, 28), "mlp"), ((3, 32, 32), "conv13"), ((3, 8, 8), "mlp"), ((1, 64, 64), "conv13")],
)
def test_s1_is_an_mlp_on_small_gray_images_and_on_tiny_ones(shape, encoder):
    task = Task(np.zeros((2, *shape), np.uint8), np.array([0, 1]), 2, "resnet18", CPU, 0)
    assert Supervised().encoder(task) == encoder


@pytest.mark.parametrize(("side", "read_at"), [(8, 32), (28, 32), (40, 40)])
def test_s2_enlarges_images_under_32_pixels(side, read_at):
    task = Task(colored(side), np.array([0, 1] * 3), 2, "mlp", CPU, 0)
    system = SupervisedResNet101()
    with torch.device("meta"):  # a ResNet-101 without its weights
        model = PlainClassifier(system.encoder(task), task.image_shape, 2, task.statistics)
        sizes = []
        model.encoder.register_forward_pre_hook(lambda _, seen: sizes.append(seen[0].shape))
        logits = model(torch.zeros(2, 3, side, side))
    assert sizes == [(2, 3, read_at, read_at)]
    assert logits.shape == (2, 2)


def test_s2_trains_and_judges_tiny_images():
    task = Task(colored(8), np.array([0, 1] * 3), 2, "mlp", CPU, 0, colored(8, 2), epochs=1)
    verdict = SupervisedResNet101().audit(task)
    assert verdict.suspect_score.shape == (6,)
    np.testing.assert_allclose(verdict.test_probs.sum(axis=1), 1, rtol=1e-5)


def test_small_loss_ranks_by_the_mean_loss_over_epochs(noisy_task, monkeypatch):
    task, wrong = noisy_task
    seen = []

    def spy(method, pixels, task):
        images = torch.from_numpy(pixels).float() / 255
        probs = method.predict(images).guider_probs.numpy()
        seen.append(probs)
        return probs

    monkeypatch.setattr("labelaudit.methods.supervised.predict_probs", spy)
    verdict = SmallLoss().audit(task)
    assert len(seen) == verdict.epochs == 15
    by_hand = -np.log(np.stack(seen)[:, np.arange(600), task.noisy_labels]).mean(axis=0)
    np.testing.assert_allclose(verdict.suspect_score, by_hand, rtol=1e-4)
    assert roc_auc_score(wrong, verdict.suspect_score) > 0.97
    assert verdict.flagged[wrong].mean() > 0.8
    assert verdict.flagged[~wrong].mean() < 0.1
    assert verdict.test_probs.shape == (100, 10)


def test_larger_losses_are_cut_off_between_two_kinds():
    rng = np.random.default_rng(0)
    loss = np.concatenate([rng.normal(0.2, 0.05, 300), rng.normal(2, 0.3, 60)])
    np.testing.assert_array_equal(larger_losses(loss, 0), np.arange(360) >= 300)


def test_the_smallest_losses_are_never_the_larger_kind():
    rng = np.random.default_rng(0)
    loss = np.concatenate([[0.0], rng.normal(0.1, 0.005, 300), rng.normal(1, 0.8, 100).clip(0.2)])
    larger = larger_losses(loss, 0)
    assert larger.any()
    assert loss[larger].min() > loss[~larger].max()

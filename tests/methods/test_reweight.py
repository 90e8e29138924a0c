import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from labelaudit import OptionError
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.benchmark.demo import digits
from labelaudit.methods.reweight import Reweight, ReweightAudit, ReweightConfig, example_weights
from labelaudit.methods.task import Task, train_on
from labelaudit.training.batches import TrainingImages
from labelaudit.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from labelaudit.training.method import Batch

CPU = torch.device("cpu")
CLEAN = digits()[1][:600]
TRUSTED = np.arange(0, 600, 12)  # 50 rows


def make_task(rate: float = 0.3, seed: int = 0, **settings) -> Task:
    noisy = corrupt_symmetric(CLEAN, rate, 10, seed)
    return Task(digits()[0][:600, None], noisy, 10, "mlp", CPU, seed, **settings)


def make_method(task: Task | None = None, seed: int = 0) -> Reweight:
    task = task or make_task()
    trusted = TrainingImages(task.inputs[TRUSTED], CLEAN[TRUSTED], CPU)
    torch.manual_seed(seed)
    return Reweight(task, trusted, ReweightConfig())


def make_batch(seed: int = 1, size: int = 8) -> Batch:
    torch.manual_seed(seed)
    rows = torch.arange(size)
    return Batch(torch.rand(size, 1, 8, 8), rows % 3, rows, size)


def make_linear() -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A softmax regression in float64, six samples to weigh and three trusted ones."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    images, labels = torch.randn(6, 1, 2, 2).double(), torch.tensor([0, 1, 2, 0, 1, 2])
    trusted, truth = torch.randn(3, 1, 2, 2).double(), torch.tensor([0, 1, 2])
    return model, images, labels, trusted, truth


def test_the_weights_of_a_softmax_regression_are_those_worked_out_by_hand():
    """∇ℓ_i = (p_i - onehot(ỹ_i)) [x_i, 1]ᵀ; u_i is its dot product with the trusted mean's."""
    model, images, labels, trusted, truth = make_linear()

    def slopes(x, y):
        residual = model(x).softmax(1).detach() - F.one_hot(y, 3)
        return torch.einsum("ik,id->ikd", residual, F.pad(x.flatten(1), (0, 1), value=1.0))

    products = torch.einsum("ikd,kd->i", slopes(images, labels), slopes(trusted, truth).mean(0))
    expected = products.clamp(min=0) / products.clamp(min=0).sum()
    assert (expected == 0).any()
    assert (expected > 0).sum() > 1
    losses = F.cross_entropy(model(images), labels, reduction="none")
    torch.testing.assert_close(example_weights(model, losses, trusted, truth), expected)


def test_the_weights_are_what_small_virtual_steps_gain():
    """Finite differences: step down each sample's loss alone, and see the trusted loss fall."""
    model, images, labels, trusted, truth = make_linear()
    model = nn.Sequential(model, nn.Tanh(), nn.Linear(3, 3).double())
    losses = F.cross_entropy(model(images), labels, reduction="none")
    gains = []
    for loss in losses:
        slopes = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        trial, size = copy.deepcopy(model), 1e-6
        with torch.no_grad():
            for parameter, slope in zip(trial.parameters(), slopes, strict=True):
                parameter -= size * slope
        before, after = (F.cross_entropy(net(trusted), truth).item() for net in (model, trial))
        gains.append(max(0.0, (before - after) / size))
    expected = torch.tensor(gains, dtype=torch.float64) / sum(gains)
    weights = example_weights(model, losses, trusted, truth)
    torch.testing.assert_close(weights, expected, rtol=1e-3, atol=1e-5)


def test_a_batch_that_can_only_harm_weighs_nothing():
    model, images, *_ = make_linear()
    image = images[:1]
    losses = F.cross_entropy(model(image), torch.tensor([0]), reduction="none")
    assert example_weights(model, losses, image, torch.tensor([0])).tolist() == [1.0]
    losses = F.cross_entropy(model(image), torch.tensor([1]), reduction="none")
    assert example_weights(model, losses, image, torch.tensor([0])).tolist() == [0.0]


def test_the_losses_keep_the_graph_for_the_real_step():
    model, images, labels, trusted, truth = make_linear()
    fresh = copy.deepcopy(model)
    losses = F.cross_entropy(model(images), labels, reduction="none")
    weights = example_weights(model, losses, trusted, truth)
    assert not weights.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    (weights * losses).sum().backward()
    (weights * F.cross_entropy(fresh(images), labels, reduction="none")).sum().backward()
    for ours, theirs in zip(model.parameters(), fresh.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_running_statistics_move_once_a_step_and_know_nothing_of_the_trusted_images():
    _, images, labels, trusted, truth = make_linear()
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3)).double()
    losses = F.cross_entropy(model(images), labels, reduction="none")
    before = {name: value.clone() for name, value in model.named_buffers()}
    example_weights(model, losses, trusted + 100, truth)
    for name, value in model.named_buffers():
        assert torch.equal(value, before[name]), name
    assert model[0].num_batches_tracked == 1


def test_planted_errors_weigh_less_than_clean_labels():
    task = make_task(rate=0.4)
    method = make_method(task)
    train_on(task, lambda: method, task.plan(100), 10)
    wrong = task.noisy_labels != CLEAN
    others = np.setdiff1d(np.arange(600), TRUSTED)
    weights, wrong = method.sample_means()[others], wrong[others]
    assert weights[wrong].mean() < 0.5 * weights[~wrong].mean()
    # In units of an even share: the mean is 1 unless a batch weighed nothing.
    assert method.sample_means().mean() == pytest.approx(1.0, abs=0.02)


def test_a_resumed_training_takes_the_next_step_exactly(tmp_path):
    method, other = make_method(), make_method(seed=9)
    for _ in range(3):
        method.step(make_batch())
    save_checkpoint(tmp_path / "state.pt", Checkpoint(1, 0.0, method.state_dict()))
    other.load_state_dict(load_checkpoint(tmp_path / "state.pt").state)
    for each in (method, other):
        batch = make_batch(seed=6)  # seeds the draw of trusted images as well
        each.step(batch)
    assert torch.equal(
        method.predict(batch.images).guider_probs, other.predict(batch.images).guider_probs
    )
    assert torch.equal(method.total, other.total)


def test_without_labels_known_to_be_right_it_says_what_it_needs():
    with pytest.raises(OptionError, match="known to be right"):
        ReweightAudit().audit(make_task())
    nothing = np.array([], dtype=np.int64)
    with pytest.raises(OptionError, match="known to be right"):
        ReweightAudit().audit(make_task(trusted=(nothing, nothing)))


@pytest.mark.parametrize("rate", [0.2, 0.4])
def test_the_audit_finds_planted_errors(rate):
    task = make_task(rate, trusted=(TRUSTED, CLEAN[TRUSTED]))
    verdict = ReweightAudit().audit(task)
    wrong = task.noisy_labels != CLEAN
    assert verdict.suspect_score.shape == verdict.flagged.shape == (600,)
    assert roc_auc_score(wrong, verdict.suspect_score) > 0.9
    assert (verdict.flagged == wrong).mean() > 0.8
    assert verdict.num_trusted == 50


def test_few_labels_are_not_trained_on_until_the_trusted_ones_are_known_by_heart():
    few, all_of_them = (make_task(epochs=None).only_labeled(np.arange(n)) for n in (100, 600))
    assert [ReweightConfig().epochs_on(task) for task in (few, all_of_them)] == [30, 30]


def test_trusted_images_may_be_unlabeled():
    task = make_task(epochs=1)
    task.noisy_labels[TRUSTED] = -1
    verdict = ReweightAudit().audit(replace(task, trusted=(TRUSTED, CLEAN[TRUSTED])))
    assert verdict.flagged.shape == (550,)


def check_convolutional(device: torch.device) -> None:
    pixels = np.repeat(make_task().inputs[:40], 3, axis=1)
    task = replace(make_task(), inputs=pixels, noisy_labels=make_task().noisy_labels[:40])
    task = replace(task, encoder="resnet18", device=device, epochs=1, batch_size=20)
    rows = np.arange(10)
    verdict = ReweightAudit().audit(replace(task, trusted=(rows, CLEAN[rows])))
    assert np.isfinite(verdict.suspect_score).all()


def test_convolutional_encoders_run_with_batch_norm():
    check_convolutional(CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_convolutional_encoders_run_on_a_gpu():
    check_convolutional(torch.device("cuda"))

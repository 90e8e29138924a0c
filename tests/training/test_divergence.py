"""Training that diverges, or does not fit into the memory of the GPU."""

import numpy as np
import pytest
import torch

from labelaudit import OptionError, SourceError
from labelaudit.progress import Reporter
from labelaudit.training.batches import TrainingImages, halve_batches, plan_batches
from labelaudit.training.checkpoint import Checkpoints
from labelaudit.training.divergence import LossWatch
from labelaudit.training.loop import fit, predict_all
from labelaudit.training.method import Predictions

CPU = torch.device("cpu")


class Warnings(Reporter):
    def __init__(self):
        self.texts = []

    def warn(self, text):
        self.texts.append(text)


class Descent:
    """Gradient descent on a parabola, of which chosen epochs are spoiled."""

    images_at_once = 8

    def __init__(self, spoil=lambda step, rate: False, full=lambda images: False):
        self.weight = torch.nn.Parameter(torch.tensor(8.0))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1)
        self.steps, self.sizes = 0, []
        self.spoil, self.full = spoil, full

    def step(self, batch):
        if self.full(batch.images):
            raise torch.OutOfMemoryError("full")
        self.optimizer.zero_grad()
        loss = self.weight**2
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        self.sizes.append(len(batch.images))
        if self.spoil(self.steps, self.optimizer.param_groups[0]["lr"]):
            loss = loss * torch.nan
            self.weight.data *= torch.nan
        return {"loss": loss.detach().clone()}

    def predict(self, images):
        if self.full(images):
            raise torch.OutOfMemoryError("full")
        probs = torch.full((len(images), 2), 0.5)
        return Predictions(probs, probs, images.flatten(1)[:, :3])

    def state_dict(self):
        return {"weight": self.weight.data, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.weight.data.copy_(state["weight"])
        self.optimizer.load_state_dict(state["optimizer"])


def data(unlabeled=0):
    labels = np.array([0, 1] * 10 + [-1] * unlabeled)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 1, 2, 2)).astype(np.uint8)
    return TrainingImages(pixels, labels, CPU), plan_batches(20, unlabeled, 10)


def run(method, reporter=None, **settings):
    images, plan = data(settings.pop("unlabeled", 0))
    settings = {"epochs": 4, "seed": 7, "on_epoch": lambda epoch: None, **settings}
    return fit(method, images, plan, reporter=reporter or Warnings(), **settings)


def test_an_epoch_that_diverges_is_tried_again_from_the_last_good_state_at_a_lower_rate():
    method, reporter, recorded = Descent(lambda step, rate: step == 6), Warnings(), []
    result = run(method, reporter, on_epoch=recorded.append)
    assert (result.epochs, result.status, result.slowed_in) == (4, "complete", 3)
    assert recorded == [1, 2, 3, 4]
    assert method.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    # Four steps at 0.1, two that were undone, four at 0.01.
    assert method.weight.item() == pytest.approx(8 * 0.8**4 * 0.98**4)
    (text,) = reporter.texts
    assert "diverged in epoch 3: the loss is not finite" in text
    assert "continues after epoch 2 with a tenth of the learning rate" in text


def test_training_that_diverges_again_keeps_the_good_epochs(tmp_path):
    files = Checkpoints(tmp_path / "state.pt")
    method, reporter = Descent(lambda step, rate: step >= 5), Warnings()
    result = run(method, reporter, checkpoints=files)
    assert (result.epochs, result.status, result.slowed_in) == (2, "diverged", 3)
    assert method.weight.item() == pytest.approx(8 * 0.8**4)
    assert "The ranking uses the 2 epochs before" in reporter.texts[-1]
    # A run that is resumed starts from the good state, at the lower rate.
    resumed = Descent()
    assert run(resumed, checkpoints=files).slowed_in == 3
    assert resumed.weight.item() == pytest.approx(8 * 0.8**4 * 0.98**4)


def test_training_that_never_works_is_refused_with_the_epoch():
    with pytest.raises(SourceError, match=r"diverged in epoch 1.*extreme values"):
        run(Descent(lambda step, rate: True))


def test_a_loss_that_explodes_is_noticed_and_a_usual_one_is_not():
    watch = LossWatch()
    assert not any(watch.check(loss) for loss in (700.0, 20.0, -300.0, 900.0, -2000.0, 90_000.0))
    assert "rose from -2e+03" in watch.check(1e9)
    assert "not finite" in watch.check(float("inf"))


def test_a_resumed_run_remembers_the_losses_before(tmp_path):
    files = Checkpoints(tmp_path / "state.pt")
    run(Descent(), epochs=2, checkpoints=files)

    class Explodes(Descent):
        def step(self, batch):
            return {"loss": super().step(batch)["loss"] + 1e9}

    reporter = Warnings()
    result = run(Explodes(), reporter, checkpoints=files)
    assert (result.epochs, result.status) == (2, "diverged")
    assert "diverged in epoch 3: the loss rose from" in reporter.texts[0]


def test_a_full_gpu_halves_the_batch_and_says_so():
    method, reporter, recorded = Descent(full=lambda images: len(images) > 3), Warnings(), []
    result = run(method, reporter, on_epoch=recorded.append, epochs=2)
    assert recorded == [1, 2]
    assert set(method.sizes) == {2, 3}
    assert result.batches.steps == 8
    assert ["batches of 5" in reporter.texts[0], "batches of 3" in reporter.texts[1]] == [
        True,
        True,
    ]


def test_a_resumed_run_keeps_the_smaller_batches(tmp_path):
    files = Checkpoints(tmp_path / "state.pt")
    run(Descent(full=lambda images: len(images) > 5), epochs=1, checkpoints=files)
    method = Descent()
    assert run(method, epochs=2, checkpoints=files).batches.steps == 4
    assert set(method.sizes) == {5}


def test_a_gpu_that_is_full_for_any_batch_is_told_in_words():
    with pytest.raises(OptionError, match=r"not have enough free memory.*`device='cpu'`"):
        run(Descent(full=lambda images: True), unlabeled=20)


def test_half_the_batches_hold_the_same_samples():
    plan = plan_batches(20, 300, 32)
    half = halve_batches(plan)
    assert half.steps == 2 * plan.steps
    assert half.unlabeled_draws == 300
    assert half.labeled_draws >= half.steps


def test_predictions_on_a_full_gpu_come_in_smaller_parts():
    images, _ = data()
    probs, embeddings = predict_all(Descent(full=lambda images: len(images) > 2), images)
    assert probs.shape == (20, 2)
    expected = images.images(np.arange(20)).flatten(1)[:, :3]
    np.testing.assert_array_equal(embeddings, expected.numpy())

import itertools

import numpy as np
import pytest
import torch

from labelaudit import OptionError
from labelaudit.progress import Reporter
from labelaudit.training import loop
from labelaudit.training.batches import TrainingImages, plan_batches
from labelaudit.training.checkpoint import Checkpoints, copied
from labelaudit.training.device import choose_device, load_adam, seeded
from labelaudit.training.loop import fit, measure_step, predict
from labelaudit.training.method import Predictions

CPU = torch.device("cpu")
LABELS = np.array([0, 1] * 10)


class Walk:
    """A method whose state is a random walk, so that any change of order or of draws shows."""

    images_at_once = 8

    def __init__(self):
        self.position = torch.zeros(3)
        self.steps = 0

    def step(self, batch):
        self.position = self.position * 0.9 + torch.randn(3) + batch.images.mean()
        self.steps += 1
        return {"loss": self.position.sum()}

    def predict(self, images):
        probs = torch.full((len(images), 2), 0.5)
        return Predictions(probs, probs, images.flatten(1)[:, :3])

    def state_dict(self):
        return {"position": self.position, "steps": self.steps}

    def load_state_dict(self, state):
        self.position, self.steps = state["position"], state["steps"]


def data():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 2, 2)).astype(np.uint8)
    return TrainingImages(pixels, LABELS, CPU), plan_batches(20, 0, 5)


def run(method, on_epoch=lambda epoch: None, **settings):
    images, plan = data()
    settings = {"epochs": 4, "seed": 7, **settings}
    return fit(method, images, plan, on_epoch=on_epoch, reporter=Reporter(), **settings)


def test_predictions_come_in_parts_of_what_the_method_looks_at_together():
    images, _ = data()
    seen, embeddings = [], np.zeros((20, 3), np.float32)

    def take(learner_probs, guider_probs, embedding, part):
        seen.append(len(learner_probs))
        embeddings[part] = embedding

    predict(Walk(), images, np.arange(20), take)
    assert seen == [8, 8, 4]
    expected = images.images(np.arange(20)).flatten(1)[:, :3]
    np.testing.assert_array_equal(embeddings, expected.numpy())


def test_epochs_are_recorded_in_order():
    seen, walk = [], Walk()
    result = run(walk, seen.append)
    assert seen == [1, 2, 3, 4]
    assert walk.steps == 16
    assert (result.epochs, result.status) == (4, "complete")


def test_a_killed_run_resumes_to_what_its_twin_reaches(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    whole = Walk()
    run(whole, checkpoints=Checkpoints(tmp_path / "whole.pt"))

    class Killed(BaseException):
        pass

    def die(epoch):
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        run(Walk(), die, checkpoints=Checkpoints(tmp_path / "cut.pt"))
    resumed, seen = Walk(), []
    result = run(resumed, seen.append, checkpoints=Checkpoints(tmp_path / "cut.pt"))
    assert seen == [3, 4]
    assert resumed.steps == whole.steps
    assert torch.equal(resumed.position, whole.position)
    assert result.epochs == 4


def test_ctrl_c_keeps_what_was_recorded(tmp_path):
    class Impatient(Walk):
        def step(self, batch):
            if self.steps == 9:
                raise KeyboardInterrupt
            return super().step(batch)

    whole, walk = Walk(), Impatient()
    run(whole)
    seen: list[int] = []
    result = run(walk, seen.append, checkpoints=Checkpoints(tmp_path / "cut.pt"))
    assert seen == [1, 2]
    assert (result.epochs, result.status) == (2, "interrupted")
    assert walk.steps == 8  # the weights are those of the last epoch that was recorded
    resumed = Walk()
    assert run(resumed, seen.append, checkpoints=Checkpoints(tmp_path / "cut.pt")).epochs == 4
    assert seen == [1, 2, 3, 4]  # no finished epoch is trained again
    assert torch.equal(resumed.position, whole.position)


def test_ctrl_c_before_the_first_epoch_ends_is_raised():
    class Impatient(Walk):
        def step(self, batch):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Impatient())


def test_time_budget_stops_before_the_epoch_that_would_exceed_it(monkeypatch):
    clock = itertools.count(step=1.0)  # every look at the clock is a second later
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    result = run(Walk(), epochs=100, seconds_left=20.0)
    assert result.status == "out of time"
    assert 1 < result.epochs < 20
    assert run(Walk(), epochs=3, seconds_left=-5.0).epochs == 1


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    run(Walk())
    assert torch.equal(torch.rand(3), expected)


def test_seeded_draws_depend_on_seed_and_epoch():
    def draw(seed, epoch):
        with seeded(CPU, seed, epoch):
            return torch.rand(2).tolist()

    assert draw(1, 1) == draw(1, 1)
    assert len({tuple(draw(s, e)) for s in (1, 2) for e in (1, 2)}) == 4


def test_predict_covers_every_row_once_in_order(monkeypatch):
    monkeypatch.setattr(loop, "PREDICT_VALUES", 4 * 3)  # three images a batch
    images, _ = data()
    rows = np.array([5, 3, 19, 0, 1, 2, 7])
    got = np.full((7, 3), np.nan)

    def take(learner_probs, guider_probs, embedding, part):
        got[part] = embedding

    predict(Walk(), images, rows, take)
    np.testing.assert_allclose(got, images.images(rows).flatten(1)[:, :3].numpy())


def test_measure_step_gives_seconds():
    images, plan = data()
    assert 0 < measure_step(Walk(), images, plan, seed=0) < 1


def test_moments_of_adam_take_the_order_of_the_weights():
    def layer(order):
        torch.manual_seed(0)
        return torch.nn.Conv2d(3, 4, 3).to(memory_format=order)

    def steps(module, optimizer, count):
        for seed in range(count):
            images = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            module(images).square().mean().backward()
            optimizer.step()

    def adam(module):
        return torch.optim.Adam(module.parameters(), lr=0.1, fused=True)

    one, other = layer(torch.contiguous_format), layer(torch.channels_last)
    first, second = adam(one), adam(other)
    steps(one, first, 3)
    other.load_state_dict(one.state_dict())
    saved = copied(first.state_dict())
    load_adam(second, saved)
    steps(one, first, 3)
    steps(other, second, 3)
    torch.testing.assert_close(other.weight, one.weight)
    assert saved["state"][0]["step"] == 3  # later steps do not change what was saved


def test_unknown_devices_are_refused():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(OptionError, match="`device='auto'`"):
        choose_device("gpu")

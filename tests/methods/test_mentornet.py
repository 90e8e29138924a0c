from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from labelaudit import OptionError
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.benchmark.demo import digits
from labelaudit.methods import mentornet
from labelaudit.methods.mentornet import (
    LearnedMentorNet,
    LearnedMentorNetAudit,
    LearnedMentorNetConfig,
    MentorNet,
    MentorNetAudit,
    MentorNetConfig,
    leave_out,
    predefined_weights,
)
from labelaudit.methods.task import Task, train_on
from labelaudit.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from labelaudit.training.method import Batch

CPU = torch.device("cpu")
CLEAN = digits()[1][:600]


def make_task(rate: float = 0.3, seed: int = 0, **settings) -> Task:
    noisy = corrupt_symmetric(CLEAN, rate, 10, seed)
    return Task(digits()[0][:600, None], noisy, 10, "mlp", CPU, seed, **settings)


def make_batch(seed: int = 1, size: int = 8) -> Batch:
    torch.manual_seed(seed)
    rows = torch.arange(size)
    return Batch(torch.rand(size, 1, 8, 8), rows % 3, rows, size)


def make_method(total_steps: int = 10, seed: int = 0, **settings) -> MentorNet:
    torch.manual_seed(seed)
    return MentorNet(make_task(), MentorNetConfig(**settings), total_steps)


def make_learned(total_steps: int = 10, seed: int = 0) -> LearnedMentorNet:
    torch.manual_seed(seed)
    task, trusted = make_task(), np.arange(0, 600, 2)
    right = task.noisy_labels[trusted] == CLEAN[trusted]
    return LearnedMentorNet(task, LearnedMentorNetConfig(), total_steps, trusted, right)


def test_the_predefined_weights_of_each_phase():
    distances, config = torch.tensor([-1.0, 0.0, 0.25, 1.0, 3.0]), MentorNetConfig()
    assert predefined_weights(distances, 0.1, config).tolist() == [1, 1, 1, 1, 1]
    assert predefined_weights(distances, 0.2, config).tolist() == [1, 1, 0, 0, 0]
    assert predefined_weights(distances, 0.95, config).tolist() == [1, 1, 0.75, 0, 0]


@pytest.mark.parametrize(("percentile", "kept"), [(0.75, 6), (0.5, 4), (1.0, 8), (0.0, 1)])
def test_the_hardest_share_of_a_batch_is_dropped(percentile, kept):
    method = make_method(percentile=percentile, burn_in=0.0)
    losses = torch.tensor([5.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0])
    method.move_threshold(losses)
    weights = method.weigh(losses, torch.arange(8))
    assert weights.tolist() == [float(loss <= kept) for loss in losses]


def test_the_threshold_is_a_moving_average_of_the_percentile():
    method = make_method(percentile=0.5, average_decay=0.9)
    method.move_threshold(torch.tensor([1.0, 2.0, 3.0]))
    assert method.threshold.item() == pytest.approx(2.0)
    method.steps = 1
    method.move_threshold(torch.tensor([4.0, 6.0]))
    assert method.threshold.item() == pytest.approx(0.9 * 2.0 + 0.1 * 5.0)


def test_an_exact_share_is_left_out_whatever_it_weighs():
    weights = torch.arange(1.0, 101.0)
    left = leave_out(weights, 0.25)
    assert (left > 0).sum() == 75
    assert (left[left > 0] == weights[left > 0]).all()
    assert not torch.equal(left, leave_out(weights, 0.25))
    assert leave_out(torch.ones(1), 0.9).tolist() == [1]


def test_a_step_learns_from_the_easy_samples_alone():
    """Its gradient is that of the losses at or below the batch's own percentile, over all B."""
    method = make_method(burn_in=0.0, late_dropout=0.0)
    reference, batch = make_method(), make_batch()
    told = method.step(batch)
    losses = -reference.model(batch.images).log_softmax(1)[torch.arange(8), batch.noisy_labels]
    easy = losses.detach().argsort()[:6]
    reference.optimizer.zero_grad()
    (losses[easy].sum() / 8).backward()
    assert told["weight"].item() == 0.75
    for ours, theirs in zip(method.model.parameters(), reference.model.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_share_of_a_batch_is_left_out_in_the_burn_in_and_another_after_it(monkeypatch):
    shares: list[float] = []

    def listen(weights, share):
        shares.append(share)
        return leave_out(weights, share)

    monkeypatch.setattr(mentornet, "leave_out", listen)
    method = make_method(total_steps=10, early_dropout=0.5)
    for _ in range(4):
        method.step(make_batch())
    assert shares == [0.5, 0.5, 0.05, 0.05]


def test_the_learned_mentor_doubts_wrong_labels_that_it_was_not_told_of():
    task = make_task(rate=0.4)
    trusted = np.arange(0, 600, 6)
    right = task.noisy_labels[trusted] == CLEAN[trusted]
    config = LearnedMentorNetConfig()
    plan = task.plan(config.batch_size)
    methods: list[LearnedMentorNet] = []

    def build() -> LearnedMentorNet:
        methods.append(LearnedMentorNet(task, config, 15 * plan.steps, trusted, right))
        return methods[0]

    train_on(task, build, plan, 15)
    method = methods[0]
    assert method.updates == len(config.updates)
    with torch.no_grad():
        weights = method.mentor(method.losses, method.differences, method.epoch)
    others = np.setdiff1d(np.arange(600), trusted)
    wrong = (task.noisy_labels != CLEAN)[others]
    weights = weights.sigmoid().numpy()[others]
    assert weights[wrong].mean() < 0.3 < 0.7 < weights[~wrong].mean()
    assert roc_auc_score(~wrong, weights) > 0.9


def test_the_learned_mentor_says_nothing_before_it_is_trained():
    method = make_learned()
    for step in range(4):
        told = method.step(make_batch())
        assert (told["weight"].item() == 1) == (step < 2)
    assert method.updates == 2  # due at 20% and 30% of ten steps
    assert method.epoch in (20, 30)


def test_a_burn_in_that_saw_no_trusted_image_is_prolonged():
    method = make_learned()
    unseen = replace(make_batch(), indices=2 * torch.arange(8) + 1)
    for _ in range(4):
        assert method.step(unseen)["weight"].item() == 1
    assert method.updates == 0
    method.step(make_batch())
    assert method.updates == 1


@pytest.mark.parametrize("make", [make_method, make_learned])
def test_a_resumed_training_takes_the_next_step_exactly(make, tmp_path):
    """The learned mentor is due in that step, and needs what was seen before the break."""
    method, other = make(), make(seed=9)
    for _ in range(2):
        method.step(make_batch())
    save_checkpoint(tmp_path / "state.pt", Checkpoint(1, 0.0, method.state_dict()))
    other.load_state_dict(load_checkpoint(tmp_path / "state.pt").state)
    for each in (method, other):
        batch = make_batch(seed=6)  # seeds what is left out as well
        each.step(replace(batch, indices=batch.indices + 8))
    assert torch.equal(
        method.predict(batch.images).guider_probs, other.predict(batch.images).guider_probs
    )
    torch.testing.assert_close(
        method.state_dict(), other.state_dict(), rtol=0, atol=0, equal_nan=True
    )
    assert other.steps == 3


def test_without_labels_known_to_be_right_the_learned_mentor_says_what_it_needs():
    with pytest.raises(OptionError, match="known to be right"):
        LearnedMentorNetAudit().audit(make_task())
    task = make_task()
    task.noisy_labels[:5] = -1
    with pytest.raises(OptionError, match="both a given label"):
        LearnedMentorNetAudit().audit(replace(task, trusted=(np.arange(5), CLEAN[:5])))


def test_the_predefined_mentor_finds_planted_errors():
    task = make_task(test_inputs=digits()[0][600:700, None])
    verdict = MentorNetAudit().audit(task)
    wrong = task.noisy_labels != CLEAN
    assert verdict.suspect_score.shape == verdict.flagged.shape == (600,)
    assert roc_auc_score(wrong, verdict.suspect_score) > 0.9
    assert (verdict.flagged == wrong).mean() > 0.8
    assert verdict.test_probs.shape == (100, 10)
    assert verdict.num_trusted == 0


def test_the_learned_mentor_finds_planted_errors_among_labeled_and_unlabeled_images():
    task = make_task()
    task.noisy_labels[::6] = -1
    trusted = np.flatnonzero(task.noisy_labels >= 0)[::10]
    verdict = LearnedMentorNetAudit().audit(replace(task, trusted=(trusted, CLEAN[trusted])))
    wrong = task.given != CLEAN[task.labeled]
    assert verdict.suspect_score.shape == verdict.flagged.shape == (500,)
    assert roc_auc_score(wrong, verdict.suspect_score) > 0.9
    assert verdict.num_trusted == 50

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.benchmark.demo import digits
from labelaudit.methods.mean_teacher import (
    MeanTeacher,
    MeanTeacherAudit,
    MeanTeacherConfig,
    ramp_up,
)
from labelaudit.methods.task import Task, train_on
from labelaudit.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from labelaudit.training.method import Batch

CPU = torch.device("cpu")


def make_task(rate: float = 0.2, size: int = 600, seed: int = 0, **settings) -> Task:
    images, clean = digits()
    noisy = corrupt_symmetric(clean[:size], rate, 10, seed)
    return Task(images[:size, None], noisy, 10, "mlp", CPU, seed, **settings)


def make_batch(labels=(0, 1, 2, 0, -1, -1), seed: int = 1) -> Batch:
    torch.manual_seed(seed)
    rows, num_labeled = torch.arange(len(labels)), sum(label >= 0 for label in labels)
    return Batch(torch.rand(len(labels), 1, 8, 8), torch.tensor(labels), rows, num_labeled)


def make_method(total_steps: int = 100, seed: int = 0, **settings) -> MeanTeacher:
    torch.manual_seed(seed)
    return MeanTeacher(make_task(), MeanTeacherConfig(**settings), total_steps)


def test_the_ramp_is_the_papers():
    assert ramp_up(0, 10) == pytest.approx(math.exp(-5))
    assert ramp_up(5, 10) == pytest.approx(math.exp(-1.25))
    assert [ramp_up(10, 10), ramp_up(99, 10), ramp_up(0, 0)] == [1, 1, 1]


def test_a_step_descends_the_loss_written_out_by_hand():
    """Cross-entropy on the four labeled images, consistency on all six, the teacher held still."""
    method, reference = make_method(), make_method()
    batch = make_batch()
    for each in (method, reference):
        torch.manual_seed(3)
        each.step(batch)  # from here on student and teacher differ
    batch = make_batch(seed=2)
    torch.manual_seed(4)
    told = method.step(batch)

    torch.manual_seed(4)
    logits = reference.model(batch.images + 0.15 * torch.randn_like(batch.images))
    teacher = reference.teacher.module(batch.images + 0.15 * torch.randn_like(batch.images))
    squares = (logits.softmax(1) - teacher.softmax(1).detach()).square()
    consistency = squares.sum() / (6 * 10)
    labeled = [0, 1, 2, 3]
    cross_entropy = -logits.log_softmax(1)[labeled, [0, 1, 2, 0]].mean()
    reference.optimizer.zero_grad()
    (cross_entropy + 100 * math.exp(-5 * (24 / 25) ** 2) * consistency).backward()
    assert told["consistency"].item() == pytest.approx(consistency.item(), rel=1e-4)
    assert told["loss"].item() == pytest.approx(cross_entropy.item(), rel=1e-4)
    for ours, theirs in zip(method.model.parameters(), reference.model.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_the_teacher_is_the_moving_average_first_quick_then_slow():
    method, batch = make_method(100_000, early_decay=0.8, ramp_share=4 / 100_000), make_batch()
    method.step(batch)  # the first update copies the student
    averaged = {name: value.clone() for name, value in method.model.state_dict().items()}
    for step in range(1, 8):
        method.step(batch)
        decay = 0.8 if step < 4 else 0.999
        for name, value in method.model.state_dict().items():
            averaged[name] = decay * averaged[name] + (1 - decay) * value
    teacher = method.teacher.module.state_dict()
    assert teacher.keys() == averaged.keys()
    for name, value in teacher.items():
        torch.testing.assert_close(value, averaged[name], msg=name)


@pytest.mark.parametrize(("steps", "decay"), [(100, 0.99), (5000, 0.998), (10**6, 0.999)])
def test_the_teacher_of_a_short_training_forgets_sooner(steps, decay):
    assert make_method(steps).late_decay == pytest.approx(decay)


def test_student_and_teacher_have_noise_of_their_own():
    method, images = make_method(), make_batch().images
    first, second = method.perturb(images), method.perturb(images)
    assert not torch.equal(first, second)
    assert (first - images).std().item() == pytest.approx(0.15, rel=0.15)
    conv = MeanTeacher(replace(make_task(), encoder="resnet18"), MeanTeacherConfig(), 10)
    assert torch.equal(conv.perturb(images), images)  # its encoder adds noise itself


def test_consistency_falls_while_accuracy_rises():
    task = make_task(rate=0.2, size=400)
    clean = digits()[1][:400]
    accuracy, consistency = [], []

    class Told(MeanTeacher):
        def step(self, batch):
            told = super().step(batch)
            consistency.append(told["consistency"].item())
            return told

    def watch(method, _):
        probs = method.predict(torch.from_numpy(task.inputs).float() / 255).guider_probs
        accuracy.append((probs.argmax(1).numpy() == clean).mean())

    config = MeanTeacherConfig()
    plan = task.plan(50)
    train_on(task, lambda: Told(task, config, 20 * plan.steps), plan, 20, watch)
    per_epoch = np.reshape(consistency, (20, plan.steps)).mean(axis=1)
    assert accuracy[-1] > 0.9 > accuracy[0]
    assert per_epoch[-3:].mean() < 0.5 * per_epoch.max()
    assert per_epoch.argmax() < 10


def test_unlabeled_images_move_the_student():
    """The gradient differs from that of cross-entropy on the one labeled image."""
    alone, method = make_method(consistency_weight=0.0), make_method(ramp_share=0.0)
    for each in (alone, method):
        torch.manual_seed(5)
        each.step(make_batch((3, -1, -1, -1, -1, -1)))
    first, second = (each.model.classifier.net[0].weight.grad for each in (alone, method))
    assert not torch.allclose(first, second, rtol=1e-3)


def test_a_resumed_training_takes_the_next_step_exactly(tmp_path):
    method, other = make_method(), make_method(seed=9)
    for _ in range(3):
        method.step(make_batch())
    save_checkpoint(tmp_path / "state.pt", Checkpoint(1, 0.0, method.state_dict()))
    other.load_state_dict(load_checkpoint(tmp_path / "state.pt", CPU).state)
    for each in (method, other):
        batch = make_batch(seed=6)  # seeds the noise as well
        each.step(batch)
    ours, theirs = method.predict(batch.images), other.predict(batch.images)
    assert torch.equal(ours.learner_probs, theirs.learner_probs)
    assert torch.equal(ours.guider_probs, theirs.guider_probs)
    assert other.steps == 4


def test_convolutional_encoders_run_with_batch_norm():
    images = np.repeat(make_task().inputs[:40], 3, axis=1)
    task = replace(make_task(), inputs=images, noisy_labels=make_task().noisy_labels[:40])
    task = replace(task, encoder="resnet18", epochs=1, batch_size=20)
    verdict = MeanTeacherAudit().audit(task)
    assert np.isfinite(verdict.suspect_score).all()
    assert verdict.epochs == 1


@pytest.mark.parametrize("rate", [0.2, 0.4])
def test_the_audit_finds_planted_errors(rate):
    task = make_task(rate)
    verdict = MeanTeacherAudit().audit(task)
    wrong = task.noisy_labels != digits()[1][:600]
    assert verdict.suspect_score.shape == verdict.flagged.shape == (600,)
    assert roc_auc_score(wrong, verdict.suspect_score) > 0.95
    assert (verdict.flagged == wrong).mean() > 0.85


def test_the_cross_entropy_is_a_mean_over_labeled_images_alone():
    """However few of a batch are labeled, the consistency weighs as much against them."""
    method = make_method()
    batch = make_batch((3, -1, -1, -1, -1, -1))
    torch.manual_seed(0)
    told = method.step(batch)
    fresh = make_method()
    torch.manual_seed(0)
    logits = fresh.model(fresh.perturb(batch.images))
    assert told["loss"].item() == pytest.approx(
        F.cross_entropy(logits[:1], torch.tensor([3])).item(), rel=1e-4
    )

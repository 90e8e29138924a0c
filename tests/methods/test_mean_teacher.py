import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.benchmark.demo import digits
from labelaudit.methods import mean_teacher
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


def make_method(
    total_steps: int = 100, seed: int = 0, task: Task | None = None, **settings
) -> MeanTeacher:
    torch.manual_seed(seed)
    settings = {"dropout": 0.0, **settings}
    return MeanTeacher(task or make_task(), MeanTeacherConfig(**settings), total_steps)


def few_labels(side: int, kept: int = 20) -> Task:
    images, labels = make_task().inputs, make_task().noisy_labels.copy()
    labels[kept:] = -1
    return replace(
        make_task(),
        inputs=np.repeat(images, side // 8, 2).repeat(side // 8, 3),
        noisy_labels=labels,
    )


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


def test_the_hidden_units_of_an_mlp_drop_out_as_the_papers_do_and_those_of_noisy_encoders_as_theirs():
    method, images = make_method(dropout=0.5, input_noise=0.0), make_batch().images
    first, second = (method.predict_teacher(images) for _ in range(2))
    assert not torch.allclose(first, second)
    dropped = [part.p for part in method.model.modules() if isinstance(part, nn.Dropout)]
    assert dropped == [0.5, 0.5]
    method.predict(images)
    assert torch.equal(*(method.predict(images).guider_probs for _ in range(2)))
    conv = replace(make_task(), encoder="resnet18")
    plain, asked = (make_method(task=conv, dropout=share) for share in (0.0, 0.5))
    assert asked.model.state_dict().keys() == plain.model.state_dict().keys()


@pytest.mark.parametrize(("side", "shift"), [(8, 0), (32, 2)])
def test_images_are_shifted_apart_for_student_and_teacher_also_where_few_have_labels(
    monkeypatch, side, shift
):
    seen = []
    monkeypatch.setattr(mean_teacher, "translate", lambda images, by: seen.append(by) or images)
    task = few_labels(side)
    method = make_method(task=task)
    batch = task.training_images().batch(np.arange(20))
    method.step(batch)
    assert (task.max_shift, seen) == (0, [shift, shift] if shift else [])


def test_a_label_is_judged_by_what_the_teacher_said_in_training_and_not_by_what_it_learned_by_heart():
    method, batch = make_method(ramp_share=0.0), make_batch()
    said = iter([[0.9, 0.2], [0.3, 0.4], [0.2, 0.1]])  # of the label, for two labeled images

    def predict_teacher(images):
        probs = torch.zeros(len(images), 10)
        probs[:, 9] = 1.0
        for row, prob in enumerate(next(said)):
            probs[row, [9, row]] = torch.tensor([1 - prob, prob])
        return probs

    method.predict_teacher = predict_teacher
    for _ in range(3):
        method.step(replace(batch, num_labeled=2))
    expected = torch.tensor([[3, 0.1 + 0.7 + 0.8, 2], [3, 0.8 + 0.6 + 0.9, 3]])
    torch.testing.assert_close(method.looks[:2], expected)
    assert not method.looks[2:].any()


@pytest.mark.parametrize(("total_steps", "looks"), [(40, [0, 0, 1, 2]), (6, [1, 2, 3, 4])])
def test_the_teacher_judges_from_the_end_of_the_ramp_if_an_epoch_follows_it(total_steps, looks):
    method, seen = make_method(total_steps, ramp_share=2 / total_steps), []
    for _ in range(4):
        method.step(make_batch())
        seen.append(int(method.looks[0, 0]))
    assert seen == looks


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
    method, other = (make_method(seed=seed, ramp_share=0.02) for seed in (0, 9))
    for _ in range(3):
        method.step(make_batch())
    save_checkpoint(tmp_path / "state.pt", Checkpoint(1, 0.0, method.state_dict()))
    other.load_state_dict(load_checkpoint(tmp_path / "state.pt").state)
    for each in (method, other):
        batch = make_batch(seed=6)  # seeds the noise as well
        each.step(batch)
    ours, theirs = method.predict(batch.images), other.predict(batch.images)
    assert torch.equal(ours.learner_probs, theirs.learner_probs)
    assert torch.equal(ours.guider_probs, theirs.guider_probs)
    assert other.steps == 4
    assert other.looks[0, 0] == 2  # after a ramp of two steps
    assert torch.equal(other.looks, method.looks)


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


def test_consistency_weighs_less_on_an_mlp_where_few_of_a_batch_are_labeled():
    weights = [
        make_method(
            task=replace(few_labels(side), encoder=encoder, batch_size=100)
        ).consistency_weight
        for side, encoder in ((8, "mlp"), (32, "conv13"))
    ]
    plan = few_labels(8).plan(100)
    assert plan.unlabeled_draws == 580
    share = plan.labeled_draws / (plan.labeled_draws + 580)
    assert weights == [pytest.approx(100 * share), 100]
    assert make_method().consistency_weight == 100  # all images have a label


def test_the_cross_entropy_is_a_mean_over_labeled_images_alone():
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

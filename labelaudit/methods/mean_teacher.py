"""Mean Teacher: a student that is trained to agree with the moving average of its own weights.

Paper: Tarvainen & Valpola 2017, "Mean teachers are better role models: Weight-averaged consistency
targets improve semi-supervised deep learning results" (https://arxiv.org/abs/1703.01780). With the
student f(x; θ, η), the teacher f(x; θ', η') and independent noise η, η', each step minimizes

    CE over labeled images + w(t) E_x ‖f(x; θ, η) - f(x; θ', η')‖² / C,    w(t) = w exp(-5 (1 - t/T)²)

and then updates the teacher, θ' ← αθ' + (1-α)θ. t is the step and T the length of the ramp, after which
w(t) = w. f returns class probabilities, and x are labeled and unlabeled samples.

The paper does not look for wrong labels. Here a label is flagged if the teacher predicted another class
in most of the steps that drew the sample, from step T on.

Deviations: docs/methods/mean_teacher.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from labelaudit.methods.supervised import CrossEntropy, SupervisedConfig, train_classifier
from labelaudit.methods.system import System
from labelaudit.methods.task import AuditResult, Task, predict_test
from labelaudit.networks.classifier import PlainClassifier
from labelaudit.networks.encoders import ENCODERS, training_shift
from labelaudit.networks.layers import QuickDropout
from labelaudit.training.batches import mirror, translate
from labelaudit.training.device import autocast
from labelaudit.training.guider import make_guider, noisy_eval
from labelaudit.training.method import Batch, Predictions


@dataclass(frozen=True)
class MeanTeacherConfig(SupervisedConfig):
    """Settings of Mean Teacher.

    Attributes
    ----------
    steps, epoch_range
        As in `SupervisedConfig`. Chosen on digits (seeds 0-4) and 10,000 MNIST images.
    batch_size
        The paper's value.
    consistency_weight
        w, where cross-entropy is averaged over the labeled samples only. From the authors' code. On the
        encoder "mlp" it is multiplied by the share of labeled samples in a batch; chosen on MNIST,
        seed 0.
    ramp_share
        T as a share of all steps. The authors use 40,000 of 150,000 to 180,000 steps.
    early_decay, late_decay
        α before and after step T; the paper's values for SVHN. See `MeanTeacher` for short
        trainings.
    input_noise, dropout
        Standard deviation of the noise on pixels in [0, 1], and share of hidden units that is dropped;
        the paper's values. Only for the encoder "mlp", because the other encoders have noise or
        dropout of their own.
    """

    steps: int = 1000
    epoch_range: tuple[int, int] = (10, 40)
    consistency_weight: float = 100.0
    ramp_share: float = 0.25
    early_decay: float = 0.99
    late_decay: float = 0.999
    input_noise: float = 0.15
    dropout: float = 0.5


def ramp_up(step: int, length: int) -> float:
    """Return exp(-5 (1 - t/T)²), and 1 from step T on.

    Parameters
    ----------
    step
        t, from 0.
    length
        T in steps; 0 for no ramp.
    """
    return 1.0 if step >= length else math.exp(-5.0 * (1.0 - step / length) ** 2)


def add_dropout(model: nn.Module, share: float) -> None:
    """Insert dropout behind every ReLU of a model."""
    for part in list(model.modules()):
        if isinstance(part, nn.Sequential):
            places = [place for place, layer in enumerate(part) if isinstance(layer, nn.ReLU)]
            for place in reversed(places):
                part.insert(place + 1, QuickDropout(share))


class MeanTeacher(CrossEntropy):
    """The student, the teacher and the student's optimizer.

    Parameters
    ----------
    task
        Shape of the inputs, classes, encoder and device.
    config
        Settings.
    total_steps
        Number of training steps. The ramp is a share of them. After the ramp the teacher averages
        over at most the last tenth of all steps, because α = 0.999 forgets nothing within some
        hundred steps. α is never smaller than `early_decay`.
    """

    def __init__(self, task: Task, config: MeanTeacherConfig, total_steps: int) -> None:
        super().__init__(task, config)
        self.config = config
        noisy = ENCODERS[task.encoder].noisy
        self.input_noise = 0.0 if noisy else config.input_noise
        if not noisy and config.dropout:
            add_dropout(self.model, config.dropout)
        self.teacher = make_guider(self.model, config.early_decay)
        plan = task.plan(config.batch_size)
        share = plan.labeled_draws / (plan.labeled_draws + plan.unlabeled_draws)
        self.consistency_weight = config.consistency_weight * (1.0 if noisy else share)
        # Images of a task with few labels come without the shift, which the consistency needs.
        self.shift = training_shift(task.encoder, task.image_shape, few_labels=False)
        self.student_shift = 0 if task.max_shift else self.shift
        self.flip = task.flip
        self.ramp_length = round(config.ramp_share * total_steps)
        self.late_decay = min(config.late_decay, max(config.early_decay, 1 - 10 / total_steps))
        self.steps = 0
        # The teacher judges once it has the full weight, if every label is still drawn then.
        lasts = total_steps >= 2 * plan.steps
        self.judges_from = self.ramp_length if lasts else 0
        # Per sample: its draws, the sum of 1 - f(ỹ|x; θ', η'), and how often f was largest elsewhere.
        self.looks = torch.zeros(len(task.noisy_labels), 3, device=task.device)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Update the student and then the teacher; see `Method.step`."""
        self.model.train()
        images = batch.images
        if self.student_shift:
            images = translate(images, self.student_shift)
        with autocast(self.device):
            logits = self.model(self.perturb(images))
        teacher_probs = self.predict_teacher(batch.images)
        if self.steps >= self.judges_from:
            self.look(batch, teacher_probs)
        consistency = (logits.softmax(1) - teacher_probs).square().mean()
        loss = F.cross_entropy(logits, batch.noisy_labels, ignore_index=-1)
        weight = self.consistency_weight * ramp_up(self.steps, self.ramp_length)
        self.optimizer.zero_grad(set_to_none=True)
        (loss + weight * consistency).backward()
        self.optimizer.step()
        self.move_teacher()
        self.steps += 1
        return {"loss": loss.detach(), "consistency": consistency.detach()}

    def look(self, batch: Batch, teacher_probs: Tensor) -> None:
        """Remember what the teacher, ``(B, C)``, predicts of the labeled images of a batch."""
        labels, probs = batch.noisy_labels[: batch.num_labeled], teacher_probs[: batch.num_labeled]
        doubt = 1.0 - probs.gather(1, labels[:, None]).squeeze(1)
        other = (probs.argmax(1) != labels).float()
        # A row can appear twice in a batch, where labels are few and drawn again and again.
        rows = batch.indices[: batch.num_labeled]
        self.looks.index_add_(0, rows, torch.stack([torch.ones_like(doubt), doubt, other], dim=1))

    @torch.no_grad()
    def predict_teacher(self, images: Tensor) -> Tensor:
        """Return the teacher's probabilities ``(B, C)``, with noise and augmentation of its own."""
        if self.shift:
            images = translate(images, self.shift)
        if self.flip:
            images = mirror(images)
        with autocast(self.device):
            logits: Tensor = noisy_eval(self.teacher)(self.perturb(images))
        return logits.softmax(1)

    def perturb(self, images: Tensor) -> Tensor:
        """Add input noise if the encoder has none of its own."""
        if not self.input_noise:
            return images
        return images + self.input_noise * torch.randn_like(images)

    def move_teacher(self) -> None:
        """Set θ' ← αθ' + (1-α)θ with the α of this step. The first step copies θ."""
        decay = self.config.early_decay if self.steps < self.ramp_length else self.late_decay
        self.teacher.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.teacher.update_parameters(self.model)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Predictions:
        """Predict with both networks, without noise or dropout; see `Method.predict`."""
        self.model.eval()
        self.teacher.eval()
        with autocast(self.device):
            _, logits = self.model.embed_and_classify(images)
            teacher = cast(PlainClassifier, self.teacher.module)
            embedding, teacher_logits = teacher.embed_and_classify(images)
        return Predictions(logits.softmax(1), teacher_logits.softmax(1), embedding)

    def state_dict(self) -> dict[str, Any]:
        """See `Method.state_dict`."""
        return {
            **super().state_dict(),
            "teacher": self.teacher.state_dict(),
            "steps": self.steps,
            "looks": self.looks,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Method.load_state_dict`."""
        super().load_state_dict(state)
        self.teacher.load_state_dict(state["teacher"])
        self.steps = state["steps"]
        self.looks.copy_(state["looks"])


@dataclass
class MeanTeacherAudit(System):
    """Mean Teacher on the encoder that all systems share."""

    resumable = True

    config: MeanTeacherConfig = MeanTeacherConfig()

    def audit(self, task: Task) -> AuditResult:
        """Train on all samples; judge labels by the teacher's predictions during the training."""
        method, epochs = train_classifier(
            task, self.config, lambda steps: MeanTeacher(task, self.config, steps)
        )
        assert isinstance(method, MeanTeacher)
        looks = method.looks.cpu().numpy()[task.labeled].astype(np.float64)
        draws, doubt, other = looks.T
        return AuditResult(
            suspect_score=doubt / draws,
            flagged=other / draws > 0.5,
            epochs=epochs,
            test_probs=predict_test(method, task),
        )

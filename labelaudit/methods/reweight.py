"""Learning to Reweight: samples are weighted by their effect on a few trusted labels.

Paper: Ren et al. 2018, "Learning to Reweight Examples for Robust Deep Learning"
(https://arxiv.org/abs/1803.09050), Algorithm 1. In each step, with losses ℓ_i of a training batch and
a batch of trusted samples of mean loss L:

    θ̂(ε) = θ - a ∇_θ Σ_i ε_i ℓ_i(θ)   at ε = 0            (a virtual step)
    u_i  = max(0, -∂L(θ̂(ε)) / ∂ε_i),    w_i = u_i / Σ_j u_j  (all 0 where Σ_j u_j = 0)
    θ   takes an optimizer step on Σ_i w_i ℓ_i(θ)

a scales all u_i equally and has no effect; it is 1.

Deviations: docs/methods/reweight.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from labelaudit.errors import OptionError
from labelaudit.methods.supervised import SampleMeans, SupervisedConfig, train_classifier
from labelaudit.methods.system import System
from labelaudit.methods.task import AuditResult, Task, flag_by_prediction
from labelaudit.training.batches import TrainingImages
from labelaudit.training.method import Batch


@dataclass(frozen=True)
class ReweightConfig(SupervisedConfig):
    """Settings of Reweight.

    Attributes
    ----------
    steps, epoch_range
        As in `SupervisedConfig`. Chosen on digits (seeds 0-4) and 10,000 MNIST images. With few labels,
        the trusted samples are soon learned by heart, and no longer tell which others are right.
    batch_size, trusted_batch_size
        From the authors' code.
    """

    steps: int = 300
    epoch_range: tuple[int, int] = (5, 30)
    trusted_batch_size: int = 100


def example_weights(
    model: nn.Module, losses: Tensor, trusted_images: Tensor, trusted_labels: Tensor
) -> Tensor:
    """Return the weights of a training batch, ``(B,)`` float32.

    They are at least 0 and sum to 1, or all are 0. Only the pass that computes `losses` updates the
    running statistics of batch norm. The pass over the trusted samples works on copies of them. In
    train mode each pass uses the statistics of its own batch.

    Parameters
    ----------
    model
        Returns logits for a batch.
    losses
        ``(B,)``, with their graph to the parameters of `model`, which is kept.
    trusted_images, trusted_labels
        ``(T, C, H, W)`` and ``(T,)`` int64.
    """
    parameters = dict(model.named_parameters())
    epsilon = torch.zeros_like(losses, requires_grad=True)
    slopes = torch.autograd.grad(
        (epsilon * losses).sum(),
        list(parameters.values()),
        create_graph=True,
        materialize_grads=True,  # the logits do not depend on the encoder's log-variance
    )
    virtual = {
        name: value - slope for (name, value), slope in zip(parameters.items(), slopes, strict=True)
    }
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    logits = functional_call(model, {**virtual, **buffers}, (trusted_images,))
    trusted_loss = F.cross_entropy(logits, trusted_labels)
    (gradient,) = torch.autograd.grad(trusted_loss, epsilon, retain_graph=True)
    useful = (-gradient).clamp(min=0.0)
    total = useful.sum()
    return useful / torch.where(total > 0, total, 1.0)


class Reweight(SampleMeans):
    """A classifier whose sample weights are computed for each batch by a meta-gradient.

    The whole step runs in float32, also on CUDA, because a small dot product of gradients decides
    each weight.

    Parameters
    ----------
    task
        The labeled samples, the encoder and the device.
    trusted
        Samples with labels that are known to be right.
    config
        Settings.
    """

    def __init__(self, task: Task, trusted: TrainingImages, config: ReweightConfig) -> None:
        super().__init__(task, config)
        self.trusted = trusted
        self.trusted_batch_size = config.trusted_batch_size

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.step`."""
        self.model.train()
        trusted = self.draw_trusted()
        losses = F.cross_entropy(self.model(batch.images), batch.noisy_labels, reduction="none")
        weights = example_weights(self.model, losses, trusted.images, trusted.noisy_labels)
        loss = (weights * losses).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.record(batch.indices, len(weights) * weights)
        return {"loss": loss.detach(), "used": (weights > 0).float().mean()}

    def draw_trusted(self) -> Batch:
        """Draw a batch of trusted samples without replacement, augmented like all others."""
        rows = torch.randperm(len(self.trusted))[: self.trusted_batch_size]
        return self.trusted.batch(rows.numpy())


@dataclass
class ReweightAudit(System):
    """Reweight on the encoder that all systems share."""

    resumable = True
    needs_trusted = True
    by_default = False

    config: ReweightConfig = ReweightConfig()

    def audit(self, task: Task) -> AuditResult:
        """Train on labeled samples; rank labels by the probability of other classes.

        Trusted samples are trained on and scored by their given labels, like all others. Their correct
        labels are used only for the weights. Raises OptionError if the task has no trusted labels.
        """
        if task.trusted is None or len(task.trusted[0]) == 0:
            raise OptionError(
                "reweight needs some labels that are known to be right, and the task has none"
            )
        rows, truth = task.trusted
        trusted = TrainingImages(task.inputs[rows], truth, task.device, task.max_shift, task.flip)
        labeled = task.only_labeled()
        method, epochs = train_classifier(
            labeled, self.config, lambda _: Reweight(labeled, trusted, self.config)
        )
        return flag_by_prediction(method, task, epochs, num_trusted=len(rows))

"""Learning to Reweight: each sample weighs what it does for a few labels known to be right.

Paper: Ren et al. 2018, "Learning to Reweight Examples for Robust Deep Learning"
(https://arxiv.org/abs/1803.09050), Algorithm 1. In each step, with losses ℓ_i of a training batch and
a batch of trusted samples of mean loss L:

    θ̂(ε) = θ - a ∇_θ Σ_i ε_i ℓ_i(θ)   at ε = 0            (a virtual step)
    u_i  = max(0, -∂L(θ̂(ε)) / ∂ε_i),    w_i = u_i / Σ_j u_j  (all 0 where Σ_j u_j = 0)
    θ   takes an optimizer step on Σ_i w_i ℓ_i(θ)

a scales all u_i alike, so that it does not matter; it is 1.

Deviations: docs/methods/reweight.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
        As in `SupervisedConfig`; chosen on digits (seeds 0-4) and 10,000 MNIST images.
    batch_size, trusted_batch_size
        The authors' code.
    """

    steps: int = 300
    epoch_range: tuple[int, int] = (5, 100)
    trusted_batch_size: int = 100


def example_weights(
    model: nn.Module, losses: Tensor, trusted_images: Tensor, trusted_labels: Tensor
) -> Tensor:
    """Give the weights of a training batch, ``(B,)`` float32, at least 0 and 1 in sum (or all 0).

    Batch norm: `losses` come from the one pass that moves the running statistics, which the virtual
    and the real step share; the pass over the trusted images works on copies of them. Both use the
    statistics of their own batch where `model` is in train mode.

    Parameters
    ----------
    model
        Gives logits for images.
    losses
        ``(B,)``, with the graph that leads to the parameters of `model`. It is kept.
    trusted_images, trusted_labels
        ``(T, C, H, W)`` and ``(T,)`` int64.
    """
    parameters = dict(model.named_parameters())
    epsilon = torch.zeros_like(losses, requires_grad=True)
    slopes = torch.autograd.grad(
        (epsilon * losses).sum(),
        list(parameters.values()),
        create_graph=True,
        materialize_grads=True,  # the encoder's log-variance is not on the way to the logits
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
    """A classifier trained with weights that a meta-gradient finds anew for each batch.

    All of the step runs in float32, on CUDA too: a small dot product of gradients decides each weight.

    Parameters
    ----------
    task
        What the network must take, and where: the labeled images.
    trusted
        Images with labels known to be right.
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
        """Draw a batch of trusted images without replacement, augmented like the others."""
        rows = torch.randperm(len(self.trusted))[: self.trusted_batch_size]
        return self.trusted.batch(rows.numpy())

    def mean_weights(self) -> np.ndarray:
        """Give the mean weight of each training image so far, ``(N,)`` float64.

        In units of an even share of its batch: 1 where all of a batch weigh the same.
        """
        return self.sample_means()


class ReweightAudit(System):
    """Reweight on the encoder that all systems share."""

    needs_trusted = True
    by_default = False

    def __init__(self, config: ReweightConfig | None = None) -> None:
        self.config = config or ReweightConfig()

    def audit(self, task: Task) -> AuditResult:
        """Train on the labeled images and rank labels by the probability of any other class.

        Trusted images are trained on and judged like the others, by their given labels: what is
        known of them enters through the weights alone.

        Raises
        ------
        OptionError
            If the task has no labels known to be right.
        """
        if task.trusted is None or len(task.trusted[0]) == 0:
            raise OptionError(
                "Reweight needs some labels known to be right, and none are given here"
            )
        rows, truth = task.trusted
        trusted = TrainingImages(task.inputs[rows], truth, task.device, task.max_shift, task.flip)
        labeled = task.only_labeled()
        method, epochs = train_classifier(
            labeled, self.config, lambda _: Reweight(labeled, trusted, self.config)
        )
        return flag_by_prediction(method, task, epochs, num_trusted=len(rows))

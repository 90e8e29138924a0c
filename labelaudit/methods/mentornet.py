"""MentorNet: a curriculum that weights each sample by its loss.

Paper: Jiang et al. 2018, "MentorNet: Learning Data-Driven Curriculum for Very Deep Neural Networks on
Corrupted Labels" (https://arxiv.org/abs/1712.05055). The student minimizes Σ_i v_i ℓ_i. The mentor
computes the weights v_i from the loss ℓ_i and d_i = ℓ_i - λ. λ is a moving average of the p-th
percentile of the batch losses. There are two mentors:

- predefined (`MentorNetAudit`), which needs no trusted labels:

      v_i = 1                                  in the burn-in
      v_i = 1 if d_i <= 0, else 0              after it
      v_i = min(1, max(0, 1 - d_i))            in the last tenth of the training

- learned (`LearnedMentorNetAudit`): v_i = 1 in the burn-in, then a small network's

      v_i = sigmoid(g(BiLSTM(ℓ_i, d_i), embedding of the epoch))

  trained by cross-entropy on trusted labels: v*_i = 1 where the given label is the true one.

With both mentors a random share of each batch is left out.

Deviations: docs/methods/mentornet.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelaudit.errors import OptionError
from labelaudit.methods.supervised import CrossEntropy, SupervisedConfig, train_classifier
from labelaudit.methods.system import System
from labelaudit.methods.task import AuditResult, Task, flag_by_prediction
from labelaudit.training.device import autocast
from labelaudit.training.method import Batch

EPOCH_BINS = 100  # the mentor receives the training's progress in hundredths


@dataclass(frozen=True)
class MentorNetConfig(SupervisedConfig):
    """Settings of MentorNet.

    Attributes
    ----------
    steps, epoch_range
        As in `SupervisedConfig`. Chosen on digits (seeds 0-4) and 10,000 MNIST images.
    percentile
        p in [0, 1]. From the authors' commands for 20% and 40% noise.
    average_decay
        Weight on the old value of the moving average. From the authors' code.
    burn_in
        Share of the training in which all weights are 1. The authors' code uses 18% and 19%.
    early_dropout, late_dropout
        Share of a batch that is left out at random, in the burn-in and after it. The authors leave
        out half in the burn-in. It then teaches too little in a training of some hundred steps.
    linear_from, linear_width
        Share of the training after which the predefined weights decrease linearly, and the
        distance in nats over which they do. From the authors' code.
    """

    steps: int = 200
    epoch_range: tuple[int, int] = (5, 100)
    percentile: float = 0.75
    average_decay: float = 0.5
    burn_in: float = 0.2
    early_dropout: float = 0.05
    late_dropout: float = 0.05
    linear_from: float = 0.9
    linear_width: float = 1.0


def predefined_weights(differences: Tensor, progress: float, config: MentorNetConfig) -> Tensor:
    """Return the predefined weights, ``(B,)`` in [0, 1], for d ``(B,)`` in nats.

    `progress` is the share of the training that is done, in [0, 1).
    """
    if progress < config.burn_in:
        return torch.ones_like(differences)
    if progress < config.linear_from:
        return (differences <= 0).to(differences.dtype)
    return (1.0 - differences / config.linear_width).clamp(0.0, 1.0)


def leave_out(weights: Tensor, share: float) -> Tensor:
    """Set the weights ``(B,)`` of a random share of a batch to 0, but not of all samples."""
    kept = torch.zeros_like(weights)
    stay = max(1, int(len(weights) * (1.0 - share)))
    kept[torch.randperm(len(weights), device=weights.device)[:stay]] = 1.0
    return weights * kept


class MentorNet(CrossEntropy):
    """A student with the predefined mentor. The curriculum is spread over `total_steps` steps."""

    def __init__(self, task: Task, config: MentorNetConfig, total_steps: int) -> None:
        super().__init__(task, config)
        self.config = config
        self.total_steps = total_steps
        self.steps = 0
        self.threshold = torch.zeros((), device=task.device)

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return self.steps / self.total_steps

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.step`."""
        self.model.train()
        with autocast(self.device):
            logits = self.model(batch.images)
        losses = F.cross_entropy(logits, batch.noisy_labels, reduction="none")
        self.move_threshold(losses.detach())
        weights = self.weigh(losses.detach(), batch.indices)
        early = self.progress < self.config.burn_in
        share = self.config.early_dropout if early else self.config.late_dropout
        loss = (leave_out(weights, share) * losses).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.steps += 1
        return {"loss": loss.detach(), "weight": weights.mean()}

    def move_threshold(self, losses: Tensor) -> None:
        """Move λ toward the percentile of a batch's losses ``(B,)``. The first batch sets it."""
        percentile = losses.quantile(self.config.percentile)
        old = self.threshold if self.steps else percentile
        decay = self.config.average_decay
        self.threshold = decay * old + (1.0 - decay) * percentile

    def weigh(self, losses: Tensor, indices: Tensor) -> Tensor:
        """Return the mentor's weights of a batch, ``(B,)`` in [0, 1].

        Parameters
        ----------
        losses
            ``(B,)`` in nats, without gradient.
        indices
            ``(B,)`` int64, their rows among the labeled samples.
        """
        return predefined_weights(losses - self.threshold, self.progress, self.config)

    def state_dict(self) -> dict[str, Any]:
        """See `Method.state_dict`."""
        return {**super().state_dict(), "steps": self.steps, "threshold": self.threshold}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Method.load_state_dict`."""
        super().load_state_dict(state)
        self.steps = state["steps"]
        self.threshold = state["threshold"]


@dataclass(frozen=True)
class LearnedMentorNetConfig(MentorNetConfig):
    """Settings of MentorNet with a learned mentor.

    Attributes
    ----------
    lstm_size, epoch_size, hidden
        Sizes of the mentor's layers. From the authors' code, which has an LSTM of one unit.
    updates
        Shares of the training at which the mentor is trained. The first one ends the burn-in.
    mentor_steps, mentor_learning_rate
        Number of steps and learning rate of Adam at each update, on all trusted samples at once.
        Chosen on digits, seeds 0-4.
    """

    lstm_size: int = 1
    epoch_size: int = 5
    hidden: int = 20
    updates: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    mentor_steps: int = 100
    mentor_learning_rate: float = 0.03


class Mentor(nn.Module):
    """The learned mentor, from loss, distance and epoch to the logit of a weight.

    It does not read the label, as in the authors' code, which gives all labels as 0. With one trusted
    sample per class it would learn whether this one is right, and judge the whole class by it.
    """

    def __init__(self, config: LearnedMentorNetConfig) -> None:
        super().__init__()
        self.epoch_embedding = nn.Embedding(EPOCH_BINS, config.epoch_size)
        self.lstm = nn.LSTM(2, config.lstm_size, batch_first=True, bidirectional=True)
        inputs = 2 * config.lstm_size + config.epoch_size
        self.head = nn.Sequential(
            nn.Linear(inputs, config.hidden), nn.Tanh(), nn.Linear(config.hidden, 1)
        )

    def forward(self, losses: Tensor, differences: Tensor, epoch: int) -> Tensor:
        """Return logits ``(B,)`` from values ``(B,)`` at an epoch in hundredths of the training."""
        features = torch.stack([losses, differences], dim=1)[:, None]  # (B, 1, 2), one time step
        states, _ = self.lstm(features)  # (B, 1, 2 · lstm_size)
        epochs = torch.full_like(losses, min(epoch, EPOCH_BINS - 1), dtype=torch.int64)
        known = [states[:, 0], self.epoch_embedding(epochs)]
        logits: Tensor = self.head(torch.cat(known, dim=1))
        return logits.squeeze(1)


class LearnedMentorNet(MentorNet):
    """A student with the learned mentor.

    Parameters
    ----------
    task, config, total_steps
        As in `MentorNet`.
    trusted
        ``(T,)`` int64, rows of the labeled samples whose true labels are known.
    right
        ``(T,)`` bool, whether their given labels are correct.
    """

    def __init__(
        self,
        task: Task,
        config: LearnedMentorNetConfig,
        total_steps: int,
        trusted: np.ndarray,
        right: np.ndarray,
    ) -> None:
        super().__init__(task, config, total_steps)
        self.settings = config
        self.mentor = Mentor(config).to(task.device)
        self.trusted = torch.from_numpy(trusted).to(task.device)
        self.target = torch.from_numpy(right).float().to(task.device)
        # The student's last values for each sample, in train mode; NaN before the first.
        self.losses = torch.full((len(task.noisy_labels),), torch.nan, device=task.device)
        self.differences = self.losses.clone()
        self.updates = 0
        self.epoch = 0  # of the last update, in hundredths

    def weigh(self, losses: Tensor, indices: Tensor) -> Tensor:
        """See `MentorNet.weigh`."""
        differences = losses - self.threshold
        self.losses[indices] = losses
        self.differences[indices] = differences
        due = self.settings.updates[self.updates :]
        if due and self.progress >= due[0]:
            self.update_mentor()
        if self.updates == 0:
            return torch.ones_like(losses)
        with torch.no_grad():
            logits: Tensor = self.mentor(losses, differences, self.epoch)
            return logits.sigmoid()

    def update_mentor(self) -> None:
        """Train the mentor on the trusted samples, with the student's last losses."""
        losses, differences = self.losses[self.trusted], self.differences[self.trusted]
        seen = losses.isfinite()
        if not seen.any():  # possible if the burn-in is shorter than an epoch
            return
        self.updates += 1
        self.epoch = int(EPOCH_BINS * self.progress)
        optimizer = torch.optim.Adam(
            self.mentor.parameters(), lr=self.settings.mentor_learning_rate
        )
        for _ in range(self.settings.mentor_steps):
            logits = self.mentor(losses[seen], differences[seen], self.epoch)
            loss = F.binary_cross_entropy_with_logits(logits, self.target[seen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """See `Method.state_dict`."""
        return {
            **super().state_dict(),
            "mentor": self.mentor.state_dict(),
            "losses": self.losses,
            "differences": self.differences,
            "updates": self.updates,
            "epoch": self.epoch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Method.load_state_dict`."""
        super().load_state_dict(state)
        self.mentor.load_state_dict(state["mentor"])
        self.losses.copy_(state["losses"])
        self.differences.copy_(state["differences"])
        self.updates = state["updates"]
        self.epoch = state["epoch"]


@dataclass
class MentorNetAudit(System):
    """MentorNet with the predefined mentor, on the encoder that all systems share."""

    resumable = True
    by_default = False

    config: MentorNetConfig = MentorNetConfig()

    def audit(self, task: Task) -> AuditResult:
        """Train on labeled samples; rank labels by the student's probability of other classes."""
        labeled = task.only_labeled()
        method, epochs = train_classifier(
            labeled, self.config, lambda steps: MentorNet(labeled, self.config, steps)
        )
        return flag_by_prediction(method, task, epochs)


@dataclass
class LearnedMentorNetAudit(System):
    """MentorNet with the learned mentor, on the encoder that all systems share."""

    resumable = True
    needs_trusted = True
    by_default = False

    config: LearnedMentorNetConfig = LearnedMentorNetConfig()

    def audit(self, task: Task) -> AuditResult:
        """Train on labeled samples; rank labels by the student's probability of other classes.

        Trusted samples are trained on and scored by their given labels, like all others. Their correct
        labels are used only by the mentor. Raises OptionError if the task has no trusted labels, or
        none on labeled samples.
        """
        if task.trusted is None:
            raise OptionError(
                "mentornet-learned needs some labels that are known to be right, and the task has"
                " none; mentornet, the predefined curriculum, works without them"
            )
        rows, truth = task.trusted
        both = task.noisy_labels[rows] >= 0
        if not both.any():
            raise OptionError(
                "mentornet-learned needs samples with both a given label and a label that is known"
                " to be right, and the task has none"
            )
        trusted = np.searchsorted(task.labeled, rows[both])
        right = task.noisy_labels[rows[both]] == truth[both]
        labeled = task.only_labeled()
        method, epochs = train_classifier(
            labeled,
            self.config,
            lambda steps: LearnedMentorNet(labeled, self.config, steps, trusted, right),
        )
        return flag_by_prediction(method, task, epochs, num_trusted=len(trusted))

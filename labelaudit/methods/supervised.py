"""Supervised training on the given labels: the paper's S-1 and S-2, and the small-loss rule.

S-1 is the 13-layer ConvNet (an MLP on MNIST), and S-2 is a ResNet-101 (section 4.1). Both are trained
with cross-entropy on the labeled samples only, and flag a label if they predict another class.

Small loss ranks labels by their cross-entropy, averaged over the epochs of such a training, because a
network fits correct labels first (Arpit et al. 2017, https://arxiv.org/abs/1706.05394). It flags labels
that more probably belong to the larger component of a mixture of two Gaussians over these losses (Li et
al. 2020, https://arxiv.org/abs/2002.07394).

Deviations: docs/methods/supervised.md and docs/methods/small_loss.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch.nn import functional as F

from labelaudit.methods.system import System
from labelaudit.methods.task import (
    AuditResult,
    Task,
    flag_by_prediction,
    predict_probs,
    predict_test,
    train_on,
)
from labelaudit.networks.classifier import PlainClassifier
from labelaudit.networks.encoders import CONV13_SMALLEST, EncoderName
from labelaudit.training.batches import BatchPlan, memory_format
from labelaudit.training.device import autocast, load_adam
from labelaudit.training.method import Batch, Method, Predictions

MIN_PROB = 1e-12
MIN_VARIANCE = 1e-4  # added to the mixture's variances


@dataclass(frozen=True)
class SupervisedConfig:
    """Settings of supervised training.

    Attributes
    ----------
    learning_rate, betas
        Settings of Adam (section 4.1).
    steps, epoch_range
        The number of epochs is chosen for about `steps` optimizer steps, within the range. A network
        that is trained longer memorizes wrong labels.
    batch_size
        Number of samples in each step. Chosen on digits and MNIST, seeds 0-4.
    """

    learning_rate: float = 0.001
    betas: tuple[float, float] = (0.90, 0.99)
    steps: int = 500
    epoch_range: tuple[int, int] = (5, 15)
    batch_size: int = 100

    def epochs_for(self, plan: BatchPlan) -> int:
        """Return the number of epochs for a data set."""
        low, high = self.epoch_range
        return min(high, max(low, math.ceil(self.steps / plan.steps)))

    def epochs_on(self, task: Task) -> int:
        """Return the number of epochs on a task, which may set it itself."""
        return task.epochs or self.epochs_for(task.plan(self.batch_size))


class CrossEntropy(Method):
    """A classifier trained with cross-entropy.

    Parameters
    ----------
    task
        Shape of the inputs, classes and device.
    config
        Settings.
    encoder
        Name of the encoder; by default the task's.
    num_outputs
        Number of logits; by default the task's number of classes.
    """

    def __init__(
        self,
        task: Task,
        config: SupervisedConfig,
        encoder: EncoderName | None = None,
        num_outputs: int | None = None,
    ) -> None:
        self.device = task.device
        self.model = PlainClassifier(
            encoder or task.encoder,
            task.image_shape,
            num_outputs or task.num_classes,
            task.statistics,
        ).to(task.device)
        self.model.to(memory_format=memory_format(task.device))
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            fused=task.device.type in ("cpu", "cuda"),
        )

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """See `Method.step`."""
        self.model.train()
        with autocast(self.device):
            logits = self.model(batch.images)
        loss = F.cross_entropy(logits, batch.noisy_labels, ignore_index=-1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return {"loss": loss.detach(), "logits": logits.detach()}

    @property
    def images_at_once(self) -> int:
        """See `Method.images_at_once`."""
        return self.model.encoder.images_at_once(self.device)

    @torch.inference_mode()
    def predict(self, images: torch.Tensor) -> Predictions:
        """See `Method.predict`."""
        self.model.eval()
        with autocast(self.device):
            embedding, logits = self.model.embed_and_classify(images)
        probs = logits.softmax(1)
        return Predictions(probs, probs, embedding)

    def state_dict(self) -> dict[str, Any]:
        """See `Method.state_dict`."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Method.load_state_dict`."""
        self.model.load_state_dict(state["model"])
        load_adam(self.optimizer, state["optimizer"])


class SampleMeans(CrossEntropy):
    """A classifier that averages one value of each training sample over the steps that draw it."""

    def __init__(
        self, task: Task, config: SupervisedConfig, num_outputs: int | None = None
    ) -> None:
        super().__init__(task, config, num_outputs=num_outputs)
        self.total = torch.zeros(len(task.noisy_labels), device=task.device)
        self.count = torch.zeros_like(self.total)

    def record(self, rows: torch.Tensor, values: torch.Tensor) -> None:
        """Add the values of a batch, ``(B,)`` each."""
        # No row appears twice in a batch, so that indexed addition is enough.
        self.total[rows] += values
        self.count[rows] += 1

    def sample_means(self) -> np.ndarray:
        """Return the mean of each training sample so far, ``(N,)`` float64."""
        return (self.total / self.count).cpu().numpy().astype(np.float64)

    def state_dict(self) -> dict[str, Any]:
        """See `Method.state_dict`."""
        return {**super().state_dict(), "total": self.total, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Method.load_state_dict`."""
        super().load_state_dict(state)
        self.total.copy_(state["total"])
        self.count.copy_(state["count"])


def train_classifier(
    task: Task,
    config: SupervisedConfig,
    build: Callable[[int], Method],
    on_epoch: Callable[[Method, int], Any] | None = None,
) -> tuple[Method, int]:
    """Train a classifier for the number of epochs that the task or its own settings give.

    `build` makes it, given the total number of training steps. Returns the trained method and the
    number of epochs.
    """
    plan = task.plan(config.batch_size)
    epochs = config.epochs_on(task)
    method = train_on(task, lambda: build(epochs * plan.steps), plan, epochs, on_epoch)
    return method, epochs


@dataclass
class Supervised(System):
    """S-1: the 13-layer ConvNet where images are large enough for it, else an MLP.

    Features are read by their own encoder.
    """

    resumable = True

    config: SupervisedConfig = SupervisedConfig()

    def encoder(self, task: Task) -> EncoderName:
        """Return the name of the network for a task."""
        if task.encoder == "features":
            return "features"
        channels, height, width = task.image_shape
        gray_and_small = channels == 1 and max(height, width) <= 32  # MNIST, section 4.2.1
        too_small = min(height, width) < CONV13_SMALLEST
        return "mlp" if gray_and_small or too_small else "conv13"

    def audit(self, task: Task) -> AuditResult:
        """Train on labeled samples; rank labels by the probability of other classes."""
        labeled = task.only_labeled()
        method, epochs = train_classifier(
            labeled,
            self.config,
            lambda _: CrossEntropy(labeled, self.config, self.encoder(task)),
        )
        return flag_by_prediction(method, task, epochs)


class SupervisedResNet101(Supervised):
    """S-2: a ResNet-101. Images under 32 pixels a side are enlarged to 32."""

    reads = frozenset({"pixels"})
    by_default = False

    def encoder(self, task: Task) -> EncoderName:
        """See `Supervised.encoder`."""
        return "resnet101"


def larger_losses(loss: np.ndarray, seed: int) -> np.ndarray:
    """Return which losses belong to the larger component of a mixture of two Gaussians.

    Losses below both means never do, although a wide component of large losses can have the higher
    density below a narrow component of small ones.

    Parameters
    ----------
    loss
        ``(L,)``.
    seed
        Seed of the mixture's initial values.

    Returns
    -------
    np.ndarray
        ``(L,)`` bool.
    """
    mixture = GaussianMixture(2, random_state=seed % 2**32, reg_covar=MIN_VARIANCE)
    member = mixture.fit_predict(loss[:, None])
    larger = member == int(mixture.means_.argmax())
    return np.asarray(larger & (loss > mixture.means_.min()))


@dataclass
class SmallLoss(System):
    """The small-loss rule on the encoder that all systems share."""

    config: SupervisedConfig = SupervisedConfig()

    def audit(self, task: Task) -> AuditResult:
        """Rank labels by their mean loss over epochs; flag them by a mixture of two Gaussians."""
        labeled = task.only_labeled()
        total = np.zeros(len(task.given))

        def add_losses(method: Method, _: int) -> None:
            probs = predict_probs(method, labeled.inputs, task)
            given = probs[np.arange(len(probs)), task.given].astype(np.float64)
            total[:] -= np.log(np.maximum(given, MIN_PROB))

        method, epochs = train_classifier(
            labeled, self.config, lambda _: CrossEntropy(labeled, self.config), add_losses
        )
        loss = total / epochs
        return AuditResult(
            suspect_score=loss,
            flagged=larger_losses(loss, task.seed),
            epochs=epochs,
            test_probs=predict_test(method, task),
        )

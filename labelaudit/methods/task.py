"""A corrupted data set as a system under test receives it, and the result that it returns.

The true labels are not part of a task, so that a system cannot read them by accident. Some published
systems need a part of the truth. Two fields hold it: `noise_rate` for systems that need the share of
wrong labels, and `trusted` for systems that need some correct labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelaudit.networks.autoencoder import ImageShape
from labelaudit.networks.encoders import EncoderName, training_shift
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.progress import Reporter
from labelaudit.sources.manifest import are_few
from labelaudit.training.batches import BatchPlan, TrainingImages, plan_batches
from labelaudit.training.checkpoint import Checkpoints
from labelaudit.training.device import seeded
from labelaudit.training.loop import fit, predict_all
from labelaudit.training.method import Method

# File of a training's state in `Task.state`.
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Task:
    """The input of a system.

    Attributes
    ----------
    inputs
        Pixels ``(N, C, H, W)`` uint8, or features ``(N, D, 1, 1)`` float32 for the encoder "features".
    noisy_labels
        ``(N,)`` int64, -1 where unlabeled. L samples are labeled.
    num_classes
        C, at least 2.
    encoder
        The encoder that all systems share. Systems that are defined by a network of their own
        ignore it.
    device, seed
        Where to train, and the seed of every random draw.
    test_inputs
        ``(M, ...)``, samples to predict. Their labels stay with the caller.
    epochs, batch_size
        Set by a protocol. None leaves each system its own value.
    flip
        Whether training images are mirrored at random.
    noise_rate
        The true share of wrong labels, only for systems that set `System.needs_noise_rate`.
    trusted
        Rows of `inputs` whose labels are known, and these correct labels, ``(T,)`` int64 each. Only
        for systems that set `System.needs_trusted`.
    watch
        Called after each epoch with its number and a function that returns the test probabilities
        ``(M, C)``, or None where there are no test samples.
    state
        Folder for the state of a training that is not finished. A training that finds one there
        continues it. Only for systems that set `System.resumable`.
    reporter
        Shows progress and warnings.
    """

    inputs: np.ndarray
    noisy_labels: np.ndarray
    num_classes: int
    encoder: EncoderName
    device: torch.device
    seed: int
    test_inputs: np.ndarray | None = None
    epochs: int | None = None
    batch_size: int | None = None
    flip: bool = False
    noise_rate: float | None = None
    trusted: tuple[np.ndarray, np.ndarray] | None = None
    watch: Callable[[int, Callable[[], np.ndarray | None]], None] | None = None
    state: Path | None = None
    reporter: Reporter = field(default_factory=Reporter)

    @property
    def labeled(self) -> np.ndarray:
        """Rows of the labeled samples, ``(L,)`` int64."""
        return np.flatnonzero(self.noisy_labels >= 0)

    @property
    def given(self) -> np.ndarray:
        """The given labels of the labeled samples, ``(L,)`` int64."""
        return np.asarray(self.noisy_labels[self.labeled])

    @property
    def features(self) -> np.ndarray:
        """The features ``(N, D)``, where the inputs are features."""
        assert self.encoder == "features"
        return self.inputs[:, :, 0, 0]

    @property
    def image_shape(self) -> ImageShape:
        """Shape of one input, ``(C, H, W)``; ``(D, 1, 1)`` for features."""
        channels, height, width = self.inputs.shape[1:]
        return (channels, height, width)

    @property
    def statistics(self) -> PixelStatistics:
        """Mean and standard deviation of each channel, which standardize the inputs."""
        return PixelStatistics.of(self.inputs)

    @property
    def max_shift(self) -> int:
        """Largest random translation of training images, in pixels."""
        few = are_few(len(self.labeled), len(self.inputs))
        return training_shift(self.encoder, self.image_shape, few)

    def training_images(self) -> TrainingImages:
        """Return the training samples; images are shifted and mirrored at random."""
        return TrainingImages(
            self.inputs, self.noisy_labels, self.device, self.max_shift, self.flip
        )

    def only_labeled(self, rows: np.ndarray | None = None) -> Task:
        """Return the task restricted to labeled samples: all L of them, or those at `rows`."""
        keep = self.labeled if rows is None else self.labeled[rows]
        return replace(self, inputs=self.inputs[keep], noisy_labels=self.noisy_labels[keep])

    def plan(self, batch_size: int) -> BatchPlan:
        """Plan the batches of an epoch, with the protocol's batch size if it sets one."""
        labeled = len(self.labeled)
        return plan_batches(labeled, len(self.inputs) - labeled, self.batch_size or batch_size)


@dataclass(frozen=True)
class AuditResult:
    """The result of a system for the L given labels.

    Attributes
    ----------
    suspect_score
        ``(L,)`` float, high = suspect. Only the order counts.
    flagged
        ``(L,)`` bool, by the system's own threshold.
    epochs
        Number of passes over the training data, for each network if there are several.
    test_probs
        ``(M, C)``, or None where the task has no test samples.
    variants
        Other thresholds of the same ranking by name, ``(L,)`` bool each.
    num_trusted
        Number of correct labels that the system was given.
    wrong_prob
        ``(L,)`` in [0, 1], the probability that each label is wrong. None if the system has none.
    wrong_interval
        90% interval for the number of wrong labels. None if the system has none.
    trustworthy
        Whether the system itself trusts its result. None if it does not judge that.
    """

    suspect_score: np.ndarray
    flagged: np.ndarray
    epochs: int
    test_probs: np.ndarray | None = None
    variants: dict[str, np.ndarray] = field(default_factory=dict)
    num_trusted: int = 0
    wrong_prob: np.ndarray | None = None
    wrong_interval: tuple[float, float] | None = None
    trustworthy: bool | None = None


def train_on(
    task: Task,
    build: Callable[[], Method],
    plan: BatchPlan,
    epochs: int,
    on_epoch: Callable[[Method, int], Any] | None = None,
) -> Method:
    """Build a method with the task's seed and train it on the task.

    Parameters
    ----------
    task
        The data. `task.watch` is called after every epoch. If `task.state` holds the state of an
        earlier training, it is continued.
    build
        Makes the method with fresh weights.
    plan
        From `task.plan`.
    epochs
        Number of epochs, unless the task sets it.
    on_epoch
        Called after each epoch with the method and the epoch's number, from 1.

    Raises
    ------
    KeyboardInterrupt
        If interrupted, because the result of a part of the training would be that of another system.
    """
    with seeded(task.device, task.seed, 0):
        method = build()

    def after(epoch: int) -> None:
        if on_epoch is not None:
            on_epoch(method, epoch)
        if task.watch is not None:
            task.watch(epoch, lambda: predict_test(method, task))

    training = fit(
        method,
        task.training_images(),
        plan,
        epochs=task.epochs or epochs,
        seed=task.seed,
        on_epoch=after,
        reporter=task.reporter,
        checkpoints=None if task.state is None else Checkpoints(task.state / CHECKPOINT),
    )
    if training.status == "interrupted":
        raise KeyboardInterrupt
    return method


def predict_probs(method: Method, inputs: np.ndarray, task: Task) -> np.ndarray:
    """Return the class probabilities of inputs ``(M, ...)``, ``(M, num_classes)`` float32.

    Where the method has a guider or a teacher, they are the guider's or the teacher's.
    """
    images = TrainingImages(inputs, np.full(len(inputs), -1), task.device)
    return predict_all(method, images)[0]


def predict_test(method: Method, task: Task) -> np.ndarray | None:
    """Return the class probabilities of the test samples, or None where the task has none."""
    return None if task.test_inputs is None else predict_probs(method, task.test_inputs, task)


def flag_by_prediction(
    method: Method, task: Task, epochs: int, *, num_trusted: int = 0
) -> AuditResult:
    """Flag each label that a classifier does not predict.

    The suspect score is the probability of all other classes together.
    """
    probs = predict_probs(method, task.inputs[task.labeled], task)
    return AuditResult(
        suspect_score=1.0 - probs[np.arange(len(probs)), task.given],
        flagged=probs.argmax(axis=1) != task.given,
        epochs=epochs,
        test_probs=predict_test(method, task),
        num_trusted=num_trusted,
    )

"""A corrupted data set as a system under test gets it, and the verdict that it gives.

The truth is not here: a system cannot see it by accident. What some systems of the literature are
given of it by design is explicit: `noise_rate` for those that must be told, `trusted` for those that
need labels known to be right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from labelaudit.networks.autoencoder import ImageShape
from labelaudit.networks.encoders import EncoderName, training_shift
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.progress import Reporter
from labelaudit.sources.manifest import are_few
from labelaudit.training.batches import BatchPlan, TrainingImages, plan_batches
from labelaudit.training.device import seeded
from labelaudit.training.loop import fit, predict_all
from labelaudit.training.method import Method


@dataclass(frozen=True)
class Task:
    """What a system is given.

    Attributes
    ----------
    pixels
        ``(N, C, H, W)`` uint8.
    noisy_labels
        ``(N,)`` int64, -1 where unlabeled; L of them are not.
    num_classes
        C, at least 2.
    encoder
        The encoder that all systems share, except those that are defined by their network.
    device, seed
        Where to train, and what decides every random draw.
    test_pixels
        ``(M, C, H, W)`` uint8, to be predicted; their labels stay with whoever set the task.
    epochs, batch_size
        Set by a protocol; None leaves each system its own.
    flip
        Whether training images are mirrored at random.
    noise_rate
        The true share of wrong labels, for Mislabeled-VAE alone.
    trusted
        Rows of `pixels` whose labels are known to be right, with these labels, for systems that
        need them: ``(T,)`` each.
    watch
        Told the epoch and the test probabilities ``(M, C)`` after each epoch, where somebody wants
        to draw curves.
    reporter
        Told of progress.
    """

    pixels: np.ndarray
    noisy_labels: np.ndarray
    num_classes: int
    encoder: EncoderName
    device: torch.device
    seed: int
    test_pixels: np.ndarray | None = None
    epochs: int | None = None
    batch_size: int | None = None
    flip: bool = False
    noise_rate: float | None = None
    trusted: tuple[np.ndarray, np.ndarray] | None = None
    watch: Callable[[int, np.ndarray], None] | None = None
    reporter: Reporter = field(default_factory=Reporter)

    @property
    def labeled(self) -> np.ndarray:
        """Rows of the L labeled images, int64."""
        return np.flatnonzero(self.noisy_labels >= 0)

    @property
    def given(self) -> np.ndarray:
        """Their labels, ``(L,)`` int64."""
        return np.asarray(self.noisy_labels[self.labeled])

    @property
    def image_shape(self) -> ImageShape:
        """``(C, H, W)``."""
        channels, height, width = self.pixels.shape[1:]
        return (channels, height, width)

    @property
    def statistics(self) -> PixelStatistics:
        """What standardizes the pixels."""
        return PixelStatistics.of(self.pixels)

    @property
    def max_shift(self) -> int:
        """Random translation of training images, in pixels."""
        few = are_few(len(self.labeled), len(self.pixels))
        return training_shift(self.encoder, self.image_shape, few)

    def training_images(self) -> TrainingImages:
        """Give the images as they are trained on, shifted and mirrored."""
        return TrainingImages(
            self.pixels, self.noisy_labels, self.device, self.max_shift, self.flip
        )

    def only_labeled(self, rows: np.ndarray | None = None) -> Task:
        """Give the task without unlabeled images: of the L labeled ones all, or those of `rows`."""
        keep = self.labeled if rows is None else self.labeled[rows]
        return replace(self, pixels=self.pixels[keep], noisy_labels=self.noisy_labels[keep])

    def plan(self, batch_size: int) -> BatchPlan:
        """Lay out an epoch, with the protocol's batch size if there is one."""
        labeled = len(self.labeled)
        return plan_batches(labeled, len(self.pixels) - labeled, self.batch_size or batch_size)


@dataclass(frozen=True)
class Verdict:
    """What a system says of the labels.

    Attributes
    ----------
    suspect_score
        ``(L,)`` float, high = suspect; only its order counts.
    flagged
        ``(L,)`` bool, by the system's own threshold.
    epochs
        Passes over the training data (of each network, where it trains several).
    test_probs
        ``(M, C)``, or None where the system gives no classifier.
    variants
        Other cuts of the same ranking that the system offers, by name.
    num_trusted
        Labels known to be right that it was given.
    wrong_prob
        ``(L,)`` in [0, 1], the probability that each label is wrong, where the system gives one.
    wrong_interval
        Where it says that the number of wrong labels lies in nine of ten cases.
    """

    suspect_score: np.ndarray
    flagged: np.ndarray
    epochs: int
    test_probs: np.ndarray | None = None
    variants: dict[str, np.ndarray] = field(default_factory=dict)
    num_trusted: int = 0
    wrong_prob: np.ndarray | None = None
    wrong_interval: tuple[float, float] | None = None


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
        The data; `task.watch` is told of every epoch.
    build
        Makes the method, with fresh weights.
    plan
        From `task.plan`.
    epochs
        Used unless the protocol sets the number.
    on_epoch
        Called with the method and the epoch, from 1, after each.
    """
    with seeded(task.device, task.seed, 0):
        method = build()
    images = task.training_images()

    def after(epoch: int) -> None:
        if on_epoch is not None:
            on_epoch(method, epoch)
        if task.watch is not None and task.test_pixels is not None:
            task.watch(epoch, predict_probs(method, task.test_pixels, task))

    fit(
        method,
        images,
        plan,
        epochs=task.epochs or epochs,
        seed=task.seed,
        on_epoch=after,
        reporter=task.reporter,
    )
    return method


def predict_probs(method: Method, pixels: np.ndarray, task: Task) -> np.ndarray:
    """Give the class probabilities of images ``(M, C, H, W)`` uint8, ``(M, num_classes)`` float32.

    The guider's (teacher's), where the method has one.
    """
    images = TrainingImages(pixels, np.full(len(pixels), -1), task.device)
    return predict_all(method, images)[0]


def predict_test(method: Method, task: Task) -> np.ndarray | None:
    """Give the probabilities of the test images, or None where the task has none."""
    return None if task.test_pixels is None else predict_probs(method, task.test_pixels, task)


def judge_by_prediction(
    method: Method, task: Task, epochs: int, *, num_trusted: int = 0
) -> Verdict:
    """Judge labels by a classifier: suspect by the probability of any other class, flagged by argmax.

    Parameters
    ----------
    method
        Trained.
    task
        Whose labels are judged; its test images are predicted.
    epochs, num_trusted
        See `Verdict`.
    """
    probs = predict_probs(method, task.pixels[task.labeled], task)
    return Verdict(
        suspect_score=1.0 - probs[np.arange(len(probs)), task.given],
        flagged=probs.argmax(axis=1) != task.given,
        epochs=epochs,
        test_probs=predict_test(method, task),
        num_trusted=num_trusted,
    )

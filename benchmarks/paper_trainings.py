"""The trainings behind Figures 4 and 5 of the paper, each kept in a folder and never repeated.

A stopped training continues from its checkpoint. What a figure needs is kept as arrays, so that a
picture can be drawn again without training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from labelaudit import LabelAuditor
from labelaudit.audit.fitting import RunFiles
from labelaudit.benchmark.datasets import Dataset
from labelaudit.benchmark.noise import Corruption, Noise, corrupt
from labelaudit.benchmark.systems import source_of
from labelaudit.files import atomic_write
from labelaudit.methods.mislabeled_vae import MislabeledVAE
from labelaudit.methods.supervised import CrossEntropy, SupervisedConfig, train_classifier
from labelaudit.methods.task import Task
from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import UMNConfig
from labelaudit.progress import Reporter
from labelaudit.training.batches import TrainingImages
from labelaudit.training.device import choose_device
from labelaudit.training.loop import predict_all
from labelaudit.training.method import Method
from labelaudit.training.recorder import EpsilonHistory

NUM_LABELED, BATCH_SIZE = 100, 100  # the paper's, section 4.2.1
SUPERVISED_EPOCHS = 350  # of the labeled images alone, as in our Table 1

Approach = Literal["supervised", "semi-supervised", "umn"]


@dataclass(frozen=True)
class Training:
    """A training of MNIST's classes with 100 labels.

    Attributes
    ----------
    approach
        "semi-supervised" is UMN with ε = 0 for every label, as in the paper's Figure 5.
    rate
        Share of wrong labels.
    num_images, epochs
        Number of training images and of passes over them. The supervised approach sees the labeled
        images alone, `SUPERVISED_EPOCHS` times.
    seed
        Of the corruption and of every random draw.
    """

    approach: Approach
    rate: float
    num_images: int
    epochs: int
    seed: int

    @property
    def stem(self) -> str:
        """Name of the training's folder."""
        length = f"{self.num_images}x{self.epochs}"
        if self.approach == "supervised":
            length = f"{self.num_images}"
        return f"{self.approach}-{self.rate:g}-{length}-seed{self.seed}"


@dataclass(frozen=True, eq=False)
class Trained:
    """What a trained network makes of the images.

    Attributes
    ----------
    corruption
        The given labels, and which of them are wrong.
    train_embeddings, test_embeddings
        z_a of all images, at its mean, ``(N, d)`` and ``(M, d)``.
    train_probs, test_probs
        Class probabilities, ``(N, C)`` and ``(M, C)``. UMN's are the guider's.
    history
        ε of every label after each epoch; empty for the supervised approach.
    """

    corruption: Corruption
    train_embeddings: np.ndarray
    test_embeddings: np.ndarray
    train_probs: np.ndarray
    test_probs: np.ndarray
    history: EpsilonHistory


class WithoutEpsilon(MislabeledVAE):
    """UMN with ε = 0 for every label. The loss clamps it to ε_min, so that f is finite.

    Everything else is UMN's, and so the guider predicts.
    """

    predict = UMN.predict


def without_epsilon(config: UMNConfig, device: torch.device, _: Mapping[str, Tensor] | None) -> UMN:
    """Build what an audit trains in UMN's place."""
    return WithoutEpsilon(config, 0.0, device)


def train(training: Training, dataset: Dataset, work: Path, reporter: Reporter) -> Trained:
    """Return the result of a training, which is kept in `work`.

    Parameters
    ----------
    training
        What to train.
    dataset
        MNIST's training and test images; `Training.num_images` of the former have been chosen.
    work
        Folder of all kept trainings.
    reporter
        Shows progress.
    """
    folder = work / training.stem
    kept = folder / "arrays.npz"
    corruption = corrupt(dataset, Noise("symmetric", training.rate), NUM_LABELED, training.seed)
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        supervised = training.approach == "supervised"
        task = Task(
            inputs=dataset.inputs,
            noisy_labels=corruption.noisy_labels,
            num_classes=len(dataset.class_names),
            encoder="mlp",
            device=choose_device("auto"),
            seed=training.seed,
            epochs=SUPERVISED_EPOCHS if supervised else training.epochs,
            batch_size=BATCH_SIZE,
            reporter=reporter,
        )
        method = _train_supervised(task) if supervised else _train_umn(training, task, folder)
        arrays = {}
        assert dataset.test_inputs is not None
        for name, inputs in (("train", dataset.inputs), ("test", dataset.test_inputs)):
            images = TrainingImages(inputs, np.full(len(inputs), -1), choose_device("auto"))
            arrays[f"{name}_probs"], arrays[f"{name}_embeddings"] = predict_all(method, images)
        with atomic_write(kept) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
    with np.load(kept) as arrays:
        return Trained(
            corruption, **dict(arrays.items()), history=EpsilonHistory(folder / "history")
        )


def _train_umn(training: Training, task: Task, folder: Path) -> Method:
    """Fit a `LabelAuditor`, which trains UMN or, without ε, its stand-in."""
    auditor = LabelAuditor(
        epochs=training.epochs, batch_size=BATCH_SIZE, seed=training.seed, verbose=False
    )
    plan = auditor.prepare(source_of(task), task.reporter)
    if training.approach == "semi-supervised":
        plan = replace(plan, build=without_epsilon)
    files = RunFiles(history=folder / "history", checkpoint=folder / "checkpoint.pt")
    auditor.fit_plan(plan, files, task.reporter)
    if auditor.status_ == "interrupted":
        raise KeyboardInterrupt  # the checkpoint is kept
    return auditor.method_


def _train_supervised(task: Task) -> Method:
    """Train encoder and classifier on the labeled images alone, as the system "supervised" does."""
    task, config = task.only_labeled(), SupervisedConfig()
    return train_classifier(task, config, lambda _: CrossEntropy(task, config))[0]

"""AUM: area under the margin, with threshold samples.

Paper: Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking"
(https://arxiv.org/abs/2001.10528). In epoch t the margin of sample x with label ỹ is the logit of ỹ
minus the largest other logit. AUM is the mean margin over T epochs:

    M_t(x, ỹ) = z_ỹ(x) - max_{k ≠ ỹ} z_k(x),     AUM(x, ỹ) = (1/T) Σ_t M_t(x, ỹ)

To find a threshold, N/(C+1) threshold samples are given a class C+1 that does not exist. Labels whose
AUM is below the 99th percentile of the threshold samples' AUM are flagged. A second training with
other threshold samples then scores the threshold samples of the first.

Deviations: docs/methods/aum.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from labelaudit.methods.supervised import (
    CrossEntropy,
    SampleMeans,
    SupervisedConfig,
    train_classifier,
)
from labelaudit.methods.system import System
from labelaudit.methods.task import AuditResult, Task, predict_test
from labelaudit.training.method import Batch

RUNS = 2


@dataclass(frozen=True)
class AUMConfig(SupervisedConfig):
    """Settings of AUM.

    Attributes
    ----------
    batch_size
        The authors' value, "intentionally lower", so that the network memorizes less.
    percentile
        Labels below this percentile of the threshold samples' AUM are flagged; the paper's value.
    """

    batch_size: int = 64
    percentile: float = 99.0


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logit of each label minus the largest other logit, ``(B,)``.

    Parameters
    ----------
    logits
        ``(B, K)``.
    labels
        ``(B,)`` int64 in 0..K-1.
    """
    index = labels[:, None]
    others = logits.scatter(1, index, -torch.inf)
    return logits.gather(1, index).squeeze(1) - others.amax(1)


def threshold_samples(num_samples: int, num_classes: int, seed: int) -> np.ndarray:
    """Choose the samples that get the fake class in each run; no sample gets it twice.

    Parameters
    ----------
    num_samples
        N, at least 2.
    num_classes
        C. Each run has N/(C+1) threshold samples, rounded down, but at least one.
    seed
        Decides which samples they are.

    Returns
    -------
    np.ndarray
        ``(RUNS, N)`` bool.
    """
    size = max(1, num_samples // (num_classes + 1))
    order = np.random.default_rng([seed, *b"AUM"]).permutation(num_samples)
    chosen = np.zeros((RUNS, num_samples), dtype=bool)
    for run in range(RUNS):
        chosen[run, order[run * size : (run + 1) * size]] = True
    return chosen


def flag_areas(
    areas: np.ndarray, is_threshold: np.ndarray, percentile: float
) -> tuple[np.ndarray, np.ndarray]:
    """Score each sample by the runs in which it kept its label, as the authors' code does.

    Parameters
    ----------
    areas
        ``(RUNS, N)`` float, the AUM of each sample in each run.
    is_threshold
        ``(RUNS, N)`` bool. No sample may be a threshold sample in every run.
    percentile
        Percentile of the threshold samples' AUM, in [0, 100].

    Returns
    -------
    aum, flagged
        ``(N,)`` each: the mean AUM over those runs, and whether it is below the threshold in all of
        them.
    """
    own = ~is_threshold
    aum = np.where(own, areas, 0.0).sum(axis=0) / own.sum(axis=0)
    thresholds = [
        np.percentile(area[fake], percentile)
        for area, fake in zip(areas, is_threshold, strict=True)
    ]
    below = areas < np.array(thresholds)[:, None]
    return aum, (below | is_threshold).all(axis=0)


class MarginRecorder(SampleMeans):
    """A classifier with one additional class, which averages the margins of its training batches.

    The margins are those of the augmented batch, in train mode, before the update.
    """

    def __init__(self, task: Task, config: AUMConfig) -> None:
        super().__init__(task, config, num_outputs=task.num_classes + 1)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.step`."""
        values = super().step(batch)
        self.record(batch.indices, margins(values["logits"], batch.noisy_labels))
        return values

    def areas(self) -> np.ndarray:
        """Return the AUM of each training sample so far, ``(N,)`` float64."""
        return self.sample_means()


@dataclass
class AUMAudit(System):
    """AUM on the encoder that all systems share."""

    config: AUMConfig = AUMConfig()

    def audit(self, task: Task) -> AuditResult:
        """Train twice with threshold samples and flag labels by their AUM.

        If the task has test samples, a third network is trained without the flagged labels to
        predict them.
        """
        labeled = replace(task.only_labeled(), test_inputs=None, watch=None)
        is_threshold = threshold_samples(len(labeled.given), task.num_classes, task.seed)
        areas = np.stack([self._areas(labeled, chosen) for chosen in is_threshold])
        aum, flagged = flag_areas(areas, is_threshold, self.config.percentile)
        return AuditResult(
            suspect_score=-aum,
            flagged=flagged,
            epochs=self.config.epochs_on(labeled),
            test_probs=None if task.test_inputs is None else self._predict(task, flagged),
        )

    def _areas(self, labeled: Task, is_threshold: np.ndarray) -> np.ndarray:
        """Train with these threshold samples ``(L,)``; return the AUM of each sample, ``(L,)``."""
        labels = np.where(is_threshold, labeled.num_classes, labeled.noisy_labels)
        run = replace(labeled, noisy_labels=labels)
        method, _ = train_classifier(run, self.config, lambda _: MarginRecorder(run, self.config))
        assert isinstance(method, MarginRecorder)
        return method.areas()

    def _predict(self, task: Task, flagged: np.ndarray) -> np.ndarray | None:
        """Train a new network without the flagged samples, or on all if every sample is flagged."""
        kept = task.only_labeled(None if flagged.all() else np.flatnonzero(~flagged))
        method, _ = train_classifier(kept, self.config, lambda _: CrossEntropy(kept, self.config))
        return predict_test(method, task)

"""Train UMN by a plan: compilation, one record per epoch, predictions at the end."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from labelaudit.audit.announcement import tell_duration
from labelaudit.audit.plan import AuditPlan
from labelaudit.checksums import file_digest
from labelaudit.estimates import format_seconds
from labelaudit.methods.umn import UMN
from labelaudit.progress import Reporter
from labelaudit.suspects.epoch_means import EpochMeans
from labelaudit.training import distributed
from labelaudit.training.batches import TrainingImages, halve_batches
from labelaudit.training.checkpoint import Checkpoint, Checkpoints
from labelaudit.training.compiled import first_lines
from labelaudit.training.device import free_memory, seeded
from labelaudit.training.loop import FitResult, fit, measure_step, predict_all
from labelaudit.training.recorder import (
    EpsilonHistory,
    find_part_damage,
    look_at_labels,
    remove_parts,
    write_part,
)


@dataclass(frozen=True, eq=False)
class RunFiles:
    """The files of a training.

    Attributes
    ----------
    history
        Folder of the recorded epochs; None to record none.
    checkpoint
        File of the state from which training can be resumed; None to write none. The state before
        lies beside it.
    owner
        An object to keep as long as the history exists, such as the handle of a temporary folder.
    """

    history: Path | None = None
    checkpoint: Path | None = None
    owner: object = None

    def checkpoints(self) -> Checkpoints | None:
        """Return the checkpoints, which fit the recorded epochs; None to write none."""
        if self.checkpoint is None:
            return None
        folder = self.history

        def find_damage(found: Checkpoint) -> str | None:
            if folder is None:
                return None
            return find_part_damage(folder, found.epoch, found.records)

        return Checkpoints(self.checkpoint, find_damage)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained UMN and its predictions.

    Attributes
    ----------
    plan
        The plan of the training. Its batches are smaller than in `prepare` if the GPU was full.
    method
        The trained learner and guider.
    training
        Number of epochs, time, and how training ended.
    means
        Means over all epochs of ε and of the probabilities of the L given labels.
    pred_probs, embeddings
        The guider's class probabilities ``(N, C)`` and embeddings ``(N, d)``, float32.
    """

    plan: AuditPlan
    method: UMN
    training: FitResult
    means: EpochMeans
    pred_probs: np.ndarray
    embeddings: np.ndarray


def fit_plan(
    plan: AuditPlan,
    files: RunFiles,
    reporter: Reporter,
    *,
    started: float,
    on_epoch: Callable[[UMN, int], object] | None = None,
) -> Fitted:
    """Train UMN, record every epoch, and predict all samples by the trained networks.

    Parameters
    ----------
    plan
        From `prepare`.
    files
        Files of the recorded epochs and of the checkpoint. If the checkpoint exists, training continues
        from it.
    reporter
        Receives a time estimate and progress.
    started
        Start of the audit, from `time.monotonic`. The time budget is counted from here.
    on_epoch
        Called after each epoch with the method and the epoch's number, from 1.

    Raises
    ------
    labelaudit.training.distributed.ProcessDone
        In every process but process 0, when its share of the work is done.
    """
    fine_tuning = plan.inputs.fine_tuning
    pretrained = None if fine_tuning is None else fine_tuning.weights

    def new_method() -> UMN:
        with seeded(plan.device, plan.options.seed, 0):
            return plan.build(plan.config, plan.device, pretrained)

    with reporter.bar("preparing the networks"):
        images = plan.training_images()
        plan, compiled = _choose_step(plan, images, new_method, reporter)
        method = new_method()
        if compiled:
            method.compile()
        method.distribute()
    record = _EpochRecord(plan, images, files.history, reporter)

    def after(epoch: int) -> str | None:
        method.agree()
        digest = record.add(epoch, method)
        if on_epoch is not None:
            on_epoch(method, epoch)
        return digest

    budget = _budget(plan)
    training = fit(
        method,
        images,
        plan.batches,
        epochs=plan.epochs,
        seed=plan.options.seed,
        on_epoch=after,
        reporter=reporter,
        checkpoints=files.checkpoints() if distributed.leads() else None,
        seconds_left=None if budget is None else budget - (time.monotonic() - started),
        on_estimate=lambda duration: tell_duration(plan, duration, reporter),
    )
    pred_probs, embeddings = predict_all(method, images, reporter)
    if not distributed.leads():
        raise distributed.ProcessDone(0)
    record.forget_after(training.epochs)
    record.catch_up(training.epochs)
    record.drop_after(training.epochs)
    plan = plan.with_batches(training.batches)
    return Fitted(plan, method, training, record.means, pred_probs, embeddings)


class _EpochRecord:
    """Records the learner's and guider's probabilities of every label after each epoch."""

    def __init__(
        self, plan: AuditPlan, images: TrainingImages, folder: Path | None, reporter: Reporter
    ) -> None:
        manifest = plan.manifest
        self.images, self.folder, self.reporter = images, folder, reporter
        self.sample_ids = manifest.sample_ids[manifest.labeled]
        self.new_means = partial(
            EpochMeans, manifest.num_labeled, manifest.num_classes, plan.config.min_epsilon
        )
        self.means = self.new_means()

    def add(self, epoch: int, method: UMN) -> str | None:
        """Predict the labels after an epoch, and add the result. Return the checksum of its file."""
        looked = look_at_labels(method, self.images)
        if not distributed.leads():
            return None
        if self.means.num_epochs == 0:
            self.drop_after(epoch - 1)
        self.catch_up(epoch - 1)
        digest = None
        if self.folder is not None:
            path = write_part(
                self.folder, epoch, self.sample_ids, looked.learner_prob, looked.guider_prob
            )
            digest = file_digest(path)
        self.means.add(looked.epsilon, looked.guider_prob, looked.learner_prob)
        return digest

    def catch_up(self, epoch: int) -> None:
        """Add the recorded epochs up to this one, which were trained before an interruption."""
        if self.means.num_epochs >= epoch:
            return
        assert self.folder is not None
        for number, values in EpsilonHistory(self.folder, epoch):
            if number > self.means.num_epochs:
                self.means.add(values["epsilon"], values["guider_prob"], values["learner_prob"])

    def forget_after(self, epoch: int) -> None:
        """Begin the means anew if they hold a later epoch, in which training was interrupted."""
        if self.means.num_epochs > epoch and self.folder is not None:
            self.means = self.new_means()

    def drop_after(self, epoch: int) -> None:
        """Delete the files of later epochs, from which an interrupted run could not continue."""
        dropped = 0 if self.folder is None else remove_parts(self.folder, after=epoch)
        if dropped:
            what = "1 epoch was" if dropped == 1 else f"{dropped} epochs were"
            self.reporter.say(
                f"{what} recorded after the last checkpoint and must be trained again."
            )


def _budget(plan: AuditPlan) -> float | None:
    """Return the time budget in seconds."""
    minutes = plan.options.time_budget
    return None if minutes is None else minutes * 60


def _choose_step(
    plan: AuditPlan, images: TrainingImages, new_method: Callable[[], UMN], reporter: Reporter
) -> tuple[AuditPlan, bool]:
    """Measure which training step is faster, if compiling it is asked for.

    Returns
    -------
    AuditPlan
        The plan, with smaller batches if those of `plan` do not fit into the GPU.
    bool
        Whether a compiled step is faster.
    """
    if not plan.options.compile:
        return plan, False
    plan, step = _measure(plan, images, new_method, reporter)
    return plan, _is_faster_compiled(new_method(), images, plan, step, reporter)


def _measure(
    plan: AuditPlan, images: TrainingImages, new_method: Callable[[], UMN], reporter: Reporter
) -> tuple[AuditPlan, float]:
    """Return the plan and the seconds of a step. As long as the GPU is full, batches are halved."""
    while True:
        method = new_method()
        try:
            return plan, measure_step(method, images, plan.batches, seed=plan.options.seed)
        except torch.OutOfMemoryError:
            if distributed.size() > 1:
                raise
        # The error, which is gone here, held the tensors of the step.
        del method
        free_memory(plan.device)
        plan = plan.with_batches(halve_batches(plan.batches))
        reporter.warn(
            "the GPU does not have enough memory for this batch size. Training uses batches of"
            f" {plan.batches.largest} samples"
        )


def _is_faster_compiled(
    method: UMN, images: TrainingImages, plan: AuditPlan, step: float, reporter: Reporter
) -> bool:
    """Return whether a compiled step takes less than `step` seconds, and report which is faster."""
    torch.compiler.reset()  # The number of compilations of a function per process is limited.
    method.compile()
    assert method.compiled is not None
    reporter.say("Compiling the training step.")
    started = time.monotonic()
    seconds = math.inf
    with warnings.catch_warnings():
        # A failure is reported below, and torch's own warnings would hide it.
        warnings.simplefilter("ignore")
        try:
            seconds = measure_step(method, images, plan.batches, seed=plan.options.seed)
        except RuntimeError as error:  # from the backward pass, which is compiled when first needed
            method.compiled.failure = first_lines(error)
    spent = format_seconds(time.monotonic() - started)
    if method.compiled.failure is not None:
        reporter.warn(f"the step is not compiled: {method.compiled.failure}")
    else:
        reporter.say(
            f"Compiled in {spent}, a step takes {1000 * seconds:.1f} ms instead of {1000 * step:.1f}"
            + (": training uses it." if seconds < step else ": training does not use it.")
        )
        if seconds < step:
            return True
    torch.compiler.reset()  # frees the memory that CUDA graphs have reserved
    return False

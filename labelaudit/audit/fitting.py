"""Training UMN by a plan: time estimate, compilation, one record per epoch, predictions at the end."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from labelaudit.audit.plan import AuditPlan
from labelaudit.methods.umn import UMN
from labelaudit.progress import Reporter
from labelaudit.suspects.epoch_means import EpochMeans
from labelaudit.training import distributed
from labelaudit.training.batches import TrainingImages
from labelaudit.training.compiled import first_lines
from labelaudit.training.device import seeded
from labelaudit.training.loop import FitResult, fit, measure_step, predict_all
from labelaudit.training.recorder import EpsilonHistory, look_at_labels, write_part

# Recording an epoch costs about this share of its steps. It only serves the estimate of time.
RECORDING_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class RunFiles:
    """Where a training that can be resumed keeps its files.

    Attributes
    ----------
    history
        Folder of the recorded epochs; None records none.
    checkpoint
        File with the state to go on from; None keeps none.
    owner
        Kept for as long as the recorded history is, such as the handle of a temporary folder.
    """

    history: Path | None = None
    checkpoint: Path | None = None
    owner: object = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained UMN and what it says of the samples.

    Attributes
    ----------
    method
        The trained learner and guider.
    training
        How training ended.
    means
        ε and probabilities of the L given labels, over all epochs.
    pred_probs, embeddings
        The guider's class probabilities ``(N, C)`` and embeddings ``(N, d)``, float32.
    """

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
    """Train UMN, record every epoch, and let the trained networks look at all samples.

    Parameters
    ----------
    plan
        From `prepare`.
    files
        Where epochs and checkpoints go. A training whose checkpoint is there is gone on with.
    reporter
        Told how long it will take, and of progress.
    started
        When the audit began, by `time.monotonic`; it counts against the time budget.
    on_epoch
        Called with the method and the epoch's number, from 1, after each epoch.

    Raises
    ------
    labelaudit.training.distributed.ProcessDone
        In every process but the first, when its share of the work is done.
    """
    images = plan.training_images()
    fine_tuning = plan.inputs.fine_tuning
    pretrained = None if fine_tuning is None else fine_tuning.weights

    def new_method() -> UMN:
        with seeded(plan.device, plan.options.seed, 0):
            return plan.build(plan.config, plan.device, pretrained)

    compiled = _announce(plan, images, new_method, reporter)
    method = new_method()
    if compiled:
        method.compile()
    method.distribute()
    record = _EpochRecord(plan, images, files.history)

    def after(epoch: int) -> None:
        method.agree()
        record.add(epoch, method)
        if on_epoch is not None:
            on_epoch(method, epoch)

    budget = _budget(plan)
    training = fit(
        method,
        images,
        plan.batches,
        epochs=plan.epochs,
        seed=plan.options.seed,
        on_epoch=after,
        reporter=reporter,
        checkpoint=files.checkpoint if distributed.leads() else None,
        seconds_left=None if budget is None else budget - (time.monotonic() - started),
    )
    pred_probs, embeddings = predict_all(method, images)
    if not distributed.leads():
        raise distributed.ProcessDone(0)
    record.catch_up(training.epochs)
    return Fitted(method, training, record.means, pred_probs, embeddings)


class _EpochRecord:
    """What learner and guider say of every given label after every epoch: summed up, and on disk."""

    def __init__(self, plan: AuditPlan, images: TrainingImages, folder: Path | None) -> None:
        manifest = plan.manifest
        self.images, self.folder = images, folder
        self.sample_ids = manifest.sample_ids[manifest.labeled]
        self.means = EpochMeans(manifest.num_labeled, manifest.num_classes, plan.config.min_epsilon)

    def add(self, epoch: int, method: UMN) -> None:
        """Look at the labels after an epoch."""
        looked = look_at_labels(method, self.images)
        if not distributed.leads():
            return
        self.catch_up(epoch - 1)
        if self.folder is not None:
            write_part(self.folder, epoch, self.sample_ids, looked.learner_prob, looked.guider_prob)
        self.means.add(looked.epsilon, looked.guider_prob, looked.learner_prob)

    def catch_up(self, epoch: int) -> None:
        """Add recorded epochs up to this one, which an earlier process has trained."""
        if self.means.num_epochs >= epoch:
            return
        assert self.folder is not None
        for number, values in EpsilonHistory(self.folder, epoch):
            if number > self.means.num_epochs:
                self.means.add(values["epsilon"], values["guider_prob"], values["learner_prob"])


def _budget(plan: AuditPlan) -> float | None:
    """Return the time budget in seconds."""
    minutes = plan.options.time_budget
    return None if minutes is None else minutes * 60


def _announce(
    plan: AuditPlan, images: TrainingImages, new_method: Callable[[], UMN], reporter: Reporter
) -> bool:
    """Say how long training takes; return whether a compiled step is faster."""
    seed, compiled = plan.options.seed, None
    step = distributed.share(measure_step(new_method(), images, plan.batches, seed=seed))
    if plan.options.compile:
        compiled = _try_compiled(new_method(), images, plan, step, reporter)
    expected = (compiled or step) * plan.batches.steps * plan.epochs * (1 + RECORDING_SHARE)
    budget = _budget(plan)
    if budget is not None and expected > budget:
        rest = f"; it will stop within the {format_seconds(budget)} allowed."
    elif distributed.size() == 1:
        rest = ". Ctrl-C ends it early and keeps the ranking so far."
    else:
        rest = f" in {distributed.size()} processes. After Ctrl-C, `resume=True` continues it."
    reporter.say(f"Training takes about {format_seconds(expected)}{rest}")
    return compiled is not None


def _try_compiled(
    method: UMN, images: TrainingImages, plan: AuditPlan, step: float, reporter: Reporter
) -> float | None:
    """Return the seconds of a compiled step if that is faster than `step`, and say which it is."""
    torch.compiler.reset()  # A process keeps only so many compilations of a function.
    method.compile()
    assert method.compiled is not None
    reporter.say("Compiling the training step.")
    started = time.monotonic()
    seconds = math.inf
    with warnings.catch_warnings():
        # What fails is said below; torch's own warnings would hide it.
        warnings.simplefilter("ignore")
        try:
            seconds = measure_step(method, images, plan.batches, seed=plan.options.seed)
        except RuntimeError as error:  # The backward pass is compiled when it is first needed.
            method.compiled.failure = first_lines(error)
    spent = format_seconds(time.monotonic() - started)
    if method.compiled.failure is not None:
        reporter.warn(f"the step is not compiled: {method.compiled.failure}")
    else:
        reporter.say(
            f"Compiled in {spent}, a step takes {1000 * seconds:.1f} ms instead of {1000 * step:.1f}"
            + (": training with it." if seconds < step else ": training without.")
        )
        if seconds < step:
            return seconds
    torch.compiler.reset()  # Gives back the memory that CUDA graphs have reserved.
    return None


def format_seconds(seconds: float) -> str:
    """Write a duration as a person would: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"

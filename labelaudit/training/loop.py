"""The training loop: epochs, recording, checkpoints, time budget and Ctrl-C.

An epoch that diverges is tried once more, from the state before it and at a lower learning rate. An
epoch that does not fit into the memory of the GPU is tried again with half the batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from labelaudit.errors import OutputError, SourceError
from labelaudit.progress import Reporter
from labelaudit.training import distributed
from labelaudit.training.batches import (
    BatchPlan,
    TrainingImages,
    epoch_batches,
    halve_batches,
    one_of_each_size,
)
from labelaudit.training.checkpoint import Checkpoint, Checkpoints, copied, slowed
from labelaudit.training.device import free_memory, seeded, wait_for
from labelaudit.training.divergence import DivergedError, LossWatch
from labelaudit.training.duration import TrainingProgress, TrainingTime
from labelaudit.training.method import Method

# A checkpoint has about four times the size of the weights, so it is not written after every epoch.
CHECKPOINT_SECONDS = 15.0
WARM_UP_STEPS, TRIAL_STEPS = 2, 5
PREDICT_VALUES = 1 << 24  # input values per prediction batch, 64 MiB as float32
# Factor of the learning rate after an epoch that diverged.
SLOWDOWN = 0.1

Status = Literal["complete", "interrupted", "out of time", "diverged"]


@dataclass(frozen=True)
class FitResult:
    """How training ended.

    Attributes
    ----------
    epochs
        Number of epochs trained and recorded, including those before a run was resumed.
    seconds
        Time for these epochs.
    status
        "complete", "interrupted" or "out of time". It is "diverged" if an epoch diverged twice; then
        the state is the one before this epoch.
    batches
        The batches of the last epoch, which may be smaller than planned.
    slowed_in
        Number of the epoch that diverged first, after which the learning rate was lowered; None if
        none did.
    """

    epochs: int
    seconds: float
    status: Status
    batches: BatchPlan
    slowed_in: int | None = None


def predict(
    method: Method,
    images: TrainingImages,
    rows: np.ndarray,
    take: Callable[[np.ndarray, np.ndarray, np.ndarray, slice], None],
) -> None:
    """Predict this process's part of some rows in large batches, without noise.

    Parameters
    ----------
    method
        Predicts the images.
    images
        The images of the data set.
    rows
        ``(M,)`` int64, rows of the data set.
    take
        Called for each batch with learner_probs ``(B, C)``, guider_probs ``(B, C)``, embedding
        ``(B, d)`` and their slice of this process's part (`distributed.part`).
    """
    rows = rows[distributed.part(len(rows))]
    room = PREDICT_VALUES // int(np.prod(images.image_shape))
    size = max(1, min(method.images_at_once, room))
    start = 0
    while start < len(rows):
        part = slice(start, min(start + size, len(rows)))
        try:
            seen = method.predict(images.images(rows[part]))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            seen = None
        if seen is None:  # tried again here, where the failed batch is no longer held
            size //= 2
            free_memory(images.device)
            continue
        start = part.stop
        take(
            seen.learner_probs.cpu().numpy(),
            seen.guider_probs.cpu().numpy(),
            seen.embedding.cpu().numpy(),
            part,
        )


def predict_all(
    method: Method, images: TrainingImages, reporter: Reporter | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the guider's class probabilities ``(N, C)`` and embeddings ``(N, d)``, float32.

    With several processes, process 0 returns all rows, and each other process its part.
    """
    rows = np.arange(len(images))
    mine = distributed.part(len(images))
    results: list[np.ndarray] = []

    def take(_: np.ndarray, guider_probs: np.ndarray, embedding: np.ndarray, part: slice) -> None:
        if not results:
            results.extend(
                np.empty((mine.stop - mine.start, seen.shape[1]), dtype=np.float32)
                for seen in (guider_probs, embedding)
            )
        results[0][part], results[1][part] = guider_probs, embedding
        bar.reach(part.stop)

    with (reporter or Reporter()).bar("predicting all samples", mine.stop - mine.start) as bar:
        predict(method, images, rows, take)
    guider_probs, embeddings = (distributed.gather_rows(part, len(images)) for part in results)
    return guider_probs, embeddings


def measure_step(method: Method, images: TrainingImages, plan: BatchPlan, *, seed: int) -> float:
    """Return the median time of a training step, in seconds. The method must not be used afterwards.

    Some steps, with each batch size, come first and are not measured, because first steps take longer.
    """
    seconds = []
    with seeded(images.device, seed, 0):
        rows = np.empty(0, dtype=np.int64)
        for rows in one_of_each_size(images.noisy_labels, plan, seed=seed):
            method.step(images.batch(rows))
        for _ in range(WARM_UP_STEPS):
            method.step(images.batch(rows))
        # Several steps together, because a GPU queues the next step while it runs one.
        steps = 1 if images.device.type == "cpu" else TRIAL_STEPS
        for _ in range(TRIAL_STEPS):
            wait_for(images.device)
            started = time.perf_counter()
            for _ in range(steps):
                method.step(images.batch(rows))
            wait_for(images.device)
            seconds.append((time.perf_counter() - started) / steps)
    return float(np.median(seconds))


def fit(
    method: Method,
    images: TrainingImages,
    plan: BatchPlan,
    *,
    epochs: int,
    seed: int,
    on_epoch: Callable[[int], str | None],
    reporter: Reporter,
    checkpoints: Checkpoints | None = None,
    seconds_left: float | None = None,
    on_estimate: Callable[[TrainingTime], object] = lambda time: None,
) -> FitResult:
    """Train for a number of epochs, or until the time is up or the user presses Ctrl-C.

    Parameters
    ----------
    method
        The method, which is trained in place.
    images, plan
        The data and how an epoch is cut into batches.
    epochs
        Total number of epochs, at least 1.
    seed
        Every random draw depends on the seed and the number of the epoch.
    on_epoch
        Called after each epoch with its number, from 1, to record it. Returns a checksum of the record,
        which the checkpoint keeps, or None. It may raise DivergedError instead.
    reporter
        Shows progress.
    checkpoints
        Files for the state of the method. If there is one, training continues from it. With several
        processes, only process 0 has them.
    seconds_left
        Stop before an epoch that would not end within these seconds. One epoch is always trained.
    on_estimate
        Called once, in an early step, when it is known about how long the training takes.

    Raises
    ------
    SourceError
        If the first epoch diverges, also at a lower learning rate.
    KeyboardInterrupt
        If interrupted before the first epoch was recorded. Later, the result has the status
        "interrupted" instead.
    """
    training = _Training(method, images, plan, seed, reporter)
    training.take_up(checkpoints)
    duration = TrainingTime(epochs, seconds_left)
    started = last_saved = time.monotonic()
    before = training.seconds
    status: Status = "complete"
    longest = 0.0

    def save() -> None:
        if checkpoints is not None:
            training.seconds = before + time.monotonic() - started
            checkpoints.save(training.checkpoint())

    try:
        steps = training.plan.steps
        total, done = epochs * steps, training.done * steps
        with reporter.bar("training", total, done, rest=duration.rest) as bar:
            progress = TrainingProgress(bar, total, duration, on_estimate)
            while training.done < epochs:
                epoch_started = time.monotonic()
                if (
                    seconds_left is not None
                    and training.done > 0
                    and distributed.share(epoch_started - started + longest > seconds_left)
                ):
                    status = "out of time"
                    break
                epoch = training.done + 1
                progress.begin_epoch(epoch, training.plan.steps, f"epoch {epoch}/{epochs}")
                if not training.try_epoch(progress, on_epoch):
                    if training.given_up:
                        status = "diverged"
                        break
                    continue
                longest = max(longest, time.monotonic() - epoch_started)
                if training.done < epochs and time.monotonic() - last_saved > CHECKPOINT_SECONDS:
                    save()
                    last_saved = time.monotonic()
    except KeyboardInterrupt:
        # Several processes are interrupted at different steps, so they cannot wait for each other.
        if training.done == 0 or distributed.size() > 1:
            raise
        status = "interrupted"
        training.go_back()  # the results belong to the last epoch that was recorded
    save()
    seconds = before + time.monotonic() - started
    return FitResult(training.done, seconds, status, training.plan, training.slowed_in)


class _Training:
    """A method that is trained epoch by epoch, and its state after the last good epoch.

    Attributes
    ----------
    done, seconds
        Number of epochs trained, and the time for those before the run was resumed.
    plan
        The batches of an epoch. They become smaller if the GPU has too little memory.
    slowed_in
        Number of the epoch that diverged first.
    given_up
        Whether an epoch has diverged again.
    """

    def __init__(
        self,
        method: Method,
        images: TrainingImages,
        plan: BatchPlan,
        seed: int,
        reporter: Reporter,
    ) -> None:
        self.method, self.images, self.plan = method, images, plan
        self.seed, self.reporter = seed, reporter
        self.done, self.seconds = 0, 0.0
        self.slowed_in: int | None = None
        self.given_up = False
        self._records: dict[int, str] | None = {}
        self._watch = LossWatch()
        self._good: Any = None

    def take_up(self, checkpoints: Checkpoints | None) -> None:
        """Continue from the checkpoint, if there is one."""
        saved = None
        with distributed.together():
            if checkpoints is not None:
                saved = checkpoints.load(self.reporter)
        saved = distributed.share(saved)
        if saved is not None:
            path = "the checkpoint" if checkpoints is None else checkpoints.path
            try:
                self.method.load_state_dict(saved.state)
            except (RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise OutputError(
                    f"{path} was written by another version of labelaudit and does not fit"
                    " its networks; delete it, or start again with `force=True`"
                ) from error
            self.done, self.seconds = saved.epoch, saved.seconds
            self.slowed_in = saved.slowed_in
            self._records = None if saved.records is None else dict(saved.records)
            self._watch = LossWatch(saved.losses)
            while saved.steps is not None and self.plan.steps < saved.steps:
                self.plan = halve_batches(self.plan)
        self._good = copied(self.method.state_dict())

    def checkpoint(self) -> Checkpoint:
        """Return the state after the last good epoch."""
        return Checkpoint(
            self.done,
            self.seconds,
            self._good,
            self._records,
            self.plan.steps,
            self.slowed_in,
            self._watch.seen,
        )

    def go_back(self) -> None:
        """Take up the state after the last good epoch again."""
        self.method.load_state_dict(self._good)

    def try_epoch(self, progress: TrainingProgress, on_epoch: Callable[[int], str | None]) -> bool:
        """Train and record an epoch. If that fails, go back to the state before it."""
        epoch = self.done + 1
        diverged = full = None
        try:
            self._take_steps(epoch, progress)
            record = on_epoch(epoch)
        except DivergedError as error:
            diverged = str(error)
        except _GPUIsFullError:
            full = True
        if diverged is not None:
            self._slow_down(epoch, diverged)
            return False
        if full:
            self._halve_batches(epoch)
            return False
        if self._records is not None and record is not None:
            self._records[epoch] = record
        good = copied(self.method.state_dict())
        self._good, self.done = good, epoch  # together, whenever Ctrl-C comes
        return True

    def _take_steps(self, epoch: int, progress: TrainingProgress) -> None:
        """Train an epoch. Raises DivergedError, or _GPUIsFullError in a single process."""
        total = torch.zeros((), device=self.images.device)
        labels = self.images.noisy_labels
        try:
            with seeded(self.images.device, self.seed, epoch):
                for rows in epoch_batches(labels, self.plan, seed=self.seed, epoch=epoch):
                    # The sum stays on the device, so that no step waits for it.
                    total += self.method.step(self.images.batch(rows))["loss"]
                    progress.add_step()
        except torch.OutOfMemoryError as error:
            if distributed.size() > 1:
                raise  # the other processes wait for this one
            raise _GPUIsFullError from error
        problem = self._watch.check(float(total) / self.plan.steps)  # waits for the device
        progress.end_steps()
        problem = next(filter(None, distributed.everyone(problem)), None)
        if problem is not None:
            raise DivergedError(problem)

    def _slow_down(self, epoch: int, problem: str) -> None:
        """Go back to the last good state, with a lower learning rate; the second time, give up."""
        what = f"training diverged in epoch {epoch}: {problem}"
        if self.slowed_in is None:
            self.slowed_in = epoch
            self._good = slowed(self._good, SLOWDOWN)
            where = f"after epoch {self.done}" if self.done else "at the beginning"
            self.reporter.warn(f"{what}. It continues {where} with a tenth of the learning rate")
        elif self.done == 0:
            raise SourceError(
                f"{what}, even with a tenth of the learning rate; look for samples with extreme values"
            )
        else:
            self.given_up = True
            self.reporter.warn(
                f"{what}, even with a tenth of the learning rate. The ranking uses the {self.done}"
                " epochs before"
            )
        self.go_back()

    def _halve_batches(self, epoch: int) -> None:
        """Go back to the last good state, with batches of half the size."""
        self.plan = halve_batches(self.plan)
        free_memory(self.images.device)
        self.reporter.warn(
            f"the memory of the GPU was full in epoch {epoch}. Training continues with batches of"
            f" {self.plan.largest} samples"
        )
        self.go_back()


class _GPUIsFullError(Exception):
    """A training step needs more memory than the GPU has left."""

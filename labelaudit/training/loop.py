"""The training loop: epochs, recording, checkpoints, time budget and Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from labelaudit.progress import Reporter
from labelaudit.training import distributed
from labelaudit.training.batches import BatchPlan, TrainingImages, epoch_batches, one_of_each_size
from labelaudit.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from labelaudit.training.device import seeded, wait_for
from labelaudit.training.method import Method

# A checkpoint has about four times the size of the weights, so it is not written after every epoch.
CHECKPOINT_SECONDS = 15.0
WARM_UP_STEPS, TRIAL_STEPS = 2, 5
PREDICT_VALUES = 1 << 24  # input values per prediction batch, 64 MiB as float32

Status = Literal["complete", "interrupted", "out of time"]


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
        "complete", "interrupted" or "out of time".
    """

    epochs: int
    seconds: float
    status: Status


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
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        seen = method.predict(images.images(rows[part]))
        take(
            seen.learner_probs.cpu().numpy(),
            seen.guider_probs.cpu().numpy(),
            seen.embedding.cpu().numpy(),
            part,
        )


def predict_all(method: Method, images: TrainingImages) -> tuple[np.ndarray, np.ndarray]:
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
    on_epoch: Callable[[int], object],
    reporter: Reporter,
    checkpoint: Path | None = None,
    seconds_left: float | None = None,
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
        Called after each epoch with its number, from 1, to record it.
    reporter
        Shows progress.
    checkpoint
        File for the state of the method. If it exists, training continues from it. With several
        processes, only process 0 has one.
    seconds_left
        Stop before an epoch that would not end within these seconds. One epoch is always trained.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the first epoch was recorded. Later, the result has the status
        "interrupted" instead.
    """
    done, before = 0, 0.0
    saved = None
    with distributed.together():
        if checkpoint is not None and checkpoint.exists():
            # Through the CPU, because the other processes use other GPUs.
            where = images.device if distributed.size() == 1 else torch.device("cpu")
            saved = load_checkpoint(checkpoint, where)
    saved = distributed.share(saved)
    if saved is not None:
        method.load_state_dict(saved.state)
        done, before = saved.epoch, saved.seconds
    started = last_saved = time.monotonic()
    status: Status = "complete"
    longest = 0.0

    def save() -> None:
        if checkpoint is not None:
            spent = before + time.monotonic() - started
            save_checkpoint(checkpoint, Checkpoint(done, spent, method.state_dict()))

    try:
        with reporter.bar("training", total=epochs * plan.steps, done=done * plan.steps) as bar:
            while done < epochs:
                epoch_started = time.monotonic()
                if (
                    seconds_left is not None
                    and done > 0
                    and distributed.share(epoch_started - started + longest > seconds_left)
                ):
                    status = "out of time"
                    break
                epoch = done + 1
                bar.describe(f"epoch {epoch}/{epochs}")
                with seeded(images.device, seed, epoch):
                    for rows in epoch_batches(images.noisy_labels, plan, seed=seed, epoch=epoch):
                        method.step(images.batch(rows))
                        bar.advance()
                on_epoch(epoch)
                done = epoch
                longest = max(longest, time.monotonic() - epoch_started)
                if done < epochs and time.monotonic() - last_saved > CHECKPOINT_SECONDS:
                    save()
                    last_saved = time.monotonic()
    except KeyboardInterrupt:
        # Several processes are interrupted at different steps, so they cannot wait for each other.
        if done == 0 or distributed.size() > 1:
            raise
        status = "interrupted"
    else:
        save()
    return FitResult(done, before + time.monotonic() - started, status)

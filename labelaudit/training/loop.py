"""The one training loop: epochs, recording, checkpoints, the clock and Ctrl-C."""

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

# A checkpoint costs a write of about four times the weights; losing this much work costs less.
CHECKPOINT_SECONDS = 15.0
WARM_UP_STEPS, TRIAL_STEPS = 2, 5
PREDICT_VALUES = 1 << 24  # input values a prediction batch, 64 MiB as float32

Status = Literal["complete", "interrupted", "out of time"]


@dataclass(frozen=True)
class FitResult:
    """How training ended.

    Attributes
    ----------
    epochs
        Epochs trained and recorded, earlier sessions of a resumed run counted in.
    seconds
        Time spent in them.
    status
        Why training ended.
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
    """Run the deterministic pass over this process's part of some rows in large batches.

    Parameters
    ----------
    method, images
        Who looks, at what.
    rows
        ``(M,)`` int64, rows of the data set.
    take
        Called with learner_probs ``(B, C)``, guider_probs ``(B, C)``, embedding ``(B, d)`` and the
        slice of the part, `distributed.part`, that they belong to.
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
    """Give the guider's class probabilities ``(N, C)`` and embeddings ``(N, d)``, float32.

    Of several processes the first has them all, and the others their parts.
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
    """Time a training step, in seconds, on a method that is thrown away afterwards.

    The median of some: on a machine that does other things as well, single steps mislead. Each size of
    batch is stepped on before, for what is new to a device takes longer.
    """
    seconds = []
    with seeded(images.device, seed, 0):
        rows = np.empty(0, dtype=np.int64)
        for rows in one_of_each_size(images.noisy_labels, plan, seed=seed):
            method.step(images.batch(rows))
        for _ in range(WARM_UP_STEPS):
            method.step(images.batch(rows))
        # Not each by itself: a GPU is told of the next step while it is at one.
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
    """Train until the epochs, the time or the user's patience end.

    Parameters
    ----------
    method
        What is trained, in place.
    images, plan
        The data and how an epoch is cut into batches.
    epochs
        Epochs in all, at least 1.
    seed
        With the epoch's number it decides every random draw.
    on_epoch
        Called with the epoch's number, from 1, after its last step: records it.
    reporter
        Shows progress.
    checkpoint
        Where to keep the method's state. If the file is there training goes on from it. Of several
        processes the first alone is given one.
    seconds_left
        Stop before an epoch that would not end within these seconds. One epoch is always trained.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the first epoch was recorded; later, the result says so instead.
    """
    done, before = 0, 0.0
    saved = None
    with distributed.together():
        if checkpoint is not None and checkpoint.exists():
            # Other processes' GPUs are not this one's: it goes to them by way of the CPU.
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
        # Of several processes each is interrupted at another step, and none can wait for the others.
        if done == 0 or distributed.size() > 1:
            raise
        status = "interrupted"
    else:
        save()
    return FitResult(done, before + time.monotonic() - started, status)

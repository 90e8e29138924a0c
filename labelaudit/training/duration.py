"""How long a training will still take, from its steps and epochs so far."""

from __future__ import annotations

import time
from collections.abc import Callable

from labelaudit.estimates import Pace, Range
from labelaudit.progress import Bar

# Between the steps of two epochs, the labels are predicted and a checkpoint may be written. As long as
# nothing is known, that takes a share of the time of an epoch's steps between these two.
FIRST_PAUSE = (0.05, 0.4)
# The rest is said as long as the last pauses between epochs were, of this number.
LAST_PAUSES = 5
# Seconds after which the estimate is good enough to be said, if the pace does not say so before.
ENOUGH_SECONDS = 10.0


class TrainingTime:
    """Measures the steps of a training and the pauses between its epochs.

    Parameters
    ----------
    epochs
        Total number of epochs.
    most
        The training stops after these seconds at the latest.
    clock
        Returns the time in seconds.
    """

    def __init__(
        self,
        epochs: int,
        most: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epochs, self._clock = epochs, clock
        self._end = None if most is None else clock() + most
        self._steps = Pace()
        self._pauses: tuple[float, ...] = ()
        self._epoch, self._planned, self._taken = 1, 0, 0
        self._pausing = False
        self._last = self._begun = clock()

    def begin_epoch(self, epoch: int, steps: int) -> None:
        """Note that an epoch begins, with its number, from 1, and its number of steps."""
        now = self._clock()
        if self._pausing:
            self._pauses = (*self._pauses, now - self._last)[-LAST_PAUSES:]
        self._epoch, self._planned, self._taken = epoch, steps, 0
        self._pausing, self._last = False, now

    def add_step(self) -> None:
        """Note that a step was taken."""
        now = self._clock()
        self._steps.add(1, now - self._last)
        self._taken += 1
        self._last = now

    def end_steps(self) -> None:
        """Note that all steps of the epoch were taken, and the device has finished them."""
        self._pausing, self._last = True, self._clock()

    @property
    def well_known(self) -> bool:
        """Whether enough was measured to say the time in a line that stays."""
        enough = self._steps.well_known or self._clock() - self._begun >= ENOUGH_SECONDS
        return enough and self.rest() is not None

    @property
    def epoch(self) -> int:
        """Number of the epoch that is being trained, from 1."""
        return self._epoch

    @property
    def done_share(self) -> float:
        """Share of all steps that were taken, in [0, 1]."""
        return (self._epoch - 1 + self._taken / max(1, self._planned)) / self._epochs

    def rest(self) -> Range | None:
        """Return how long the rest of the training will take; None before the first steps."""
        rest, left = self.rest_of(self._epochs), self.seconds_left
        if rest is None or left is None:
            return rest
        return Range(min(rest.low, left), min(rest.high, left))

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the training stops at the latest, or None."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    def rest_of(self, last_epoch: int) -> Range | None:
        """Return how long the rest of the epochs up to this one would take, whatever time is left."""
        later = last_epoch - self._epoch
        waiting = self._clock() - self._last
        steps = max(0, self._planned - self._taken) + later * self._planned
        rest = self._steps.of(steps, 0.0 if self._pausing else waiting)
        epoch = self._steps.of(self._planned)
        if rest is None or epoch is None:
            return None
        if self._pauses:
            low, high = min(self._pauses), max(self._pauses)
        else:
            low, high = FIRST_PAUSE[0] * epoch.low, FIRST_PAUSE[1] * epoch.high
        pauses = Range(later * low, later * high)
        pause = Range(low, high).after(waiting if self._pausing else 0.0)
        return rest + pauses + pause


class TrainingProgress:
    """Shows a training on a bar, and tells once how long it takes.

    Parameters
    ----------
    bar, total
        The bar and its total. A training whose batches become smaller has more steps than that.
    duration
        The time of the training, which is measured here.
    on_estimate
        Called with `duration` as soon as it is well known.
    """

    def __init__(
        self,
        bar: Bar,
        total: int,
        duration: TrainingTime,
        on_estimate: Callable[[TrainingTime], object],
    ) -> None:
        self._bar, self._total = bar, total
        self._duration, self._on_estimate = duration, on_estimate
        self._told = False

    def begin_epoch(self, epoch: int, steps: int, text: str) -> None:
        """Show that an epoch of some steps begins, or begins again."""
        self._bar.describe(text)
        self._duration.begin_epoch(epoch, steps)
        self._move()

    def add_step(self) -> None:
        """Show that a step was taken."""
        self._duration.add_step()
        self._move()
        if not self._told and self._duration.well_known:
            self._told = True
            self._on_estimate(self._duration)

    def end_steps(self) -> None:
        """Note that all steps of the epoch were taken, and the device has finished them."""
        self._duration.end_steps()

    def _move(self) -> None:
        self._bar.reach(round(self._total * self._duration.done_share))

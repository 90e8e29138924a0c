"""How long work will still take, as a range, from how long its last parts took.

`Pace` is the time per item of one kind of work; `Countdown` is a task of equal items.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

# Items are joined to windows of at least this time, or this share of the time so far if that is longer,
# and at most the last time, in seconds. Long windows even out noise, short ones show changes soon.
SHORTEST_WINDOW, WINDOW_SHARE, LONGEST_WINDOW = 0.5, 0.05, 10.0
# Number of windows after which a window counts half, and number of windows that are kept.
HALF_LIFE, KEPT_WINDOWS = 8, 40
# If as many windows in a row were slower by this factor than those before, or faster, then the machine
# has become busy or idle, and the windows before are forgotten. It may change back: the range reaches
# towards the pace before, half as far after each number of windows.
CHANGED_WINDOWS, CHANGE, CHANGE_BACK = 3, 1.5, 4
# Standard deviation of the logarithm of the pace before anything was measured. It shrinks with the
# number of windows. The spread of the windows is added.
FIRST_SPREAD = 0.7
# Of the differences between windows, this share is taken to last; the rest averages out.
LASTING_SHARE = 0.3
# The first item often takes longer than the others, so it is not counted. If it took at least these
# seconds, it gives a first range: an item takes between this share of its time and all of it.
LONG_FIRST_ITEM, FIRST_ITEM_SHARE = 10.0, 0.3
# Number of windows after which an estimate is good enough to be said in a line that stays.
ENOUGH_WINDOWS = 4
# A range is said as one number if its ends differ by less than this factor.
SETTLED = 1.3


@dataclass(frozen=True)
class Range:
    """A time that is not known exactly.

    Attributes
    ----------
    low, high
        In seconds, 0 <= low <= high.
    """

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def after(self, seconds: float) -> Range:
        """Return the rest after some seconds."""
        return Range(max(0.0, self.low - seconds), max(0.0, self.high - seconds))

    @property
    def middle(self) -> float:
        """The geometric mean of both ends, in seconds."""
        return math.sqrt(self.low * self.high)

    def __str__(self) -> str:
        """Say the time in words: "3 to 8 min", and "4 min" if the ends are close."""
        if self.high <= SETTLED * self.low:
            return format_seconds(self.middle)
        unit = next((unit for unit in UNITS if self.high < unit.below), UNITS[-1])
        high = unit.of(self.high)
        if self.low < unit.length / 2:
            return f"{Range(self.low, self.low)} to {high} {unit.name}"
        low = unit.of(self.low)
        return f"{high} {unit.name}" if low == high else f"{low} to {high} {unit.name}"


@dataclass(frozen=True)
class _Unit:
    """A unit in which both ends of a range are said, if the higher one is `below` some seconds."""

    name: str
    length: float
    below: float
    steps: tuple[
        tuple[float, float], ...
    ]  # up to which number of units, and to what they are rounded

    def of(self, seconds: float) -> str:
        number = seconds / self.length
        step = next(step for most, step in self.steps if number < most)
        return f"{max(step, step * round(number / step)):g}"


UNITS = (
    _Unit("s", 1, 90, ((10, 1), (math.inf, 5))),
    _Unit("min", 60, 90 * 60, ((20, 1), (math.inf, 5))),
    _Unit("h", 3600, math.inf, ((5, 0.5), (math.inf, 1))),
)


def format_seconds(seconds: float) -> str:
    """Format a duration: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class Pace:
    """The time per item of one kind of work.

    The last items count most, so that a machine that becomes busy or idle is noticed. The range is wide
    as long as few items were measured, and as long as they differ.
    """

    def __init__(self) -> None:
        self._first: _Window | None = None
        # A tuple, because the thread that draws a bar reads it too.
        self._windows: tuple[_Window, ...] = ()
        self._open = _Window(0.0, 0.0)
        self._count, self._elapsed = 0, 0.0
        self._at_once = 1.0
        self._before: float | None = None  # pace before the last change

    def add(self, items: float, seconds: float) -> None:
        """Add some items, which were finished in these seconds."""
        if items <= 0:
            return
        self._at_once = items
        if self._first is None:
            self._first = _Window(items, seconds)
            return
        self._elapsed += seconds
        self._open = _Window(self._open.items + items, self._open.seconds + seconds)
        length = min(max(SHORTEST_WINDOW, WINDOW_SHARE * self._elapsed), LONGEST_WINDOW)
        if self._open.seconds >= length:
            self._windows = (*self._windows, self._open)[-KEPT_WINDOWS:]
            self._open = _Window(0.0, 0.0)
            self._count += 1
            self._forget()

    def _forget(self) -> None:
        """Forget the windows before a lasting change."""
        before, last = self._windows[:-CHANGED_WINDOWS], self._windows[-CHANGED_WINDOWS:]
        if not before:
            return
        usual = _mean_pace(before)
        paces = [window.pace for window in last]
        if min(paces) > CHANGE * usual or max(paces) < usual / CHANGE:
            self._windows = last
            self._count = len(last)
            self._before = usual

    def of(self, items: float, waiting: float = 0.0) -> Range | None:
        """Return how long some items will take; None before the first ones were measured.

        Parameters
        ----------
        items
            Number of items.
        waiting
            Seconds since the last call of `add`. They are part of the time of the next items. If they
            are many, these are slow ones.
        """
        if self._first is None:
            return None
        windows = [*self._windows]
        if not windows:
            if max(self._first.seconds, waiting) < LONG_FIRST_ITEM:
                return None
            longest = max(self._first.pace, waiting / self._at_once) * items
            return Range(FIRST_ITEM_SHARE * longest, longest).after(waiting)
        expected = self._at_once * _mean_pace(windows)
        if waiting > max(CHANGE * expected, SHORTEST_WINDOW):
            windows.append(_Window(self._at_once, waiting))
        pace = _mean_pace(windows)
        total = variance = 0.0
        for weight, window in _weighted(windows):
            total += weight
            variance += weight * math.log(window.pace / pace) ** 2
        lasting = LASTING_SHARE + (1 - LASTING_SHARE) / total
        spread = math.sqrt(FIRST_SPREAD**2 / (1 + max(self._count, 1)) + variance / total * lasting)
        middle = max(0.0, items * pace - min(waiting, expected))
        low, high = middle * math.exp(-spread), middle * math.exp(spread)
        if self._before is not None:
            back = (self._before / pace) ** (0.5 ** (self._count / CHANGE_BACK))
            low, high = low * min(1.0, back), high * max(1.0, back)
        return Range(low, high)

    @property
    def well_known(self) -> bool:
        """Whether enough was measured to say the estimate in a line that stays."""
        return self._count >= ENOUGH_WINDOWS


@dataclass(frozen=True)
class _Window:
    items: float
    seconds: float

    @property
    def pace(self) -> float:
        """Seconds per item."""
        return self.seconds / self.items


def _weighted(windows: Sequence[_Window]) -> Iterator[tuple[float, _Window]]:
    """Give each window with its weight. The last one has the weight 1."""
    for age, window in enumerate(reversed(windows)):
        yield 0.5 ** (age / HALF_LIFE), window


def _mean_pace(windows: Sequence[_Window]) -> float:
    seconds = items = 0.0
    for weight, window in _weighted(windows):
        seconds += weight * window.seconds
        items += weight * window.items
    return seconds / items


class Countdown:
    """The rest of a task of equal items.

    Parameters
    ----------
    total, done
        Number of all items, None if it is not known, and of those that are already done.
    clock
        Returns the time in seconds.
    """

    def __init__(
        self, total: int | None, done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.done = total, done
        self._pace, self._clock = Pace(), clock
        self._last = clock()

    def reach(self, done: int) -> None:
        """Note that this number of items is done. It may be lower than before if work is repeated."""
        now = self._clock()
        self._pace.add(done - self.done, now - self._last)
        self.done, self._last = done, now

    def rest(self) -> Range | None:
        """Return how long the rest will take; None before the first items were measured."""
        if self.total is None:
            return None
        return self._pace.of(self.total - self.done, self._clock() - self._last)

"""Training that diverges: its loss or its predictions are no numbers any more, or the loss explodes."""

from __future__ import annotations

import math

# The loss may not rise above its smallest value by this multiple of the largest value seen before.
EXPLOSION = 1000.0


class DivergedError(Exception):
    """An epoch has destroyed what the networks had learned. The message says how this was noticed."""


class LossWatch:
    """Compares the mean loss of each epoch with those of the epochs before.

    Parameters
    ----------
    seen
        The attribute of this name of the watch that is continued; None for a new training.

    Attributes
    ----------
    seen
        The smallest mean loss so far, and the largest size of one, at least 1.
    """

    def __init__(self, seen: tuple[float, float] | None = None) -> None:
        self.seen = seen or (math.inf, 1.0)

    def check(self, loss: float) -> str | None:
        """Return what is wrong with the mean loss of an epoch, in words, or None."""
        least, size = self.seen
        if not math.isfinite(loss):
            return "the loss is not finite"
        if loss > least + EXPLOSION * size:
            return f"the loss rose from {least:.3g} to {loss:.3g}"
        self.seen = min(least, loss), max(size, abs(loss))
        return None

"""Training that diverges: its loss or its predictions are no numbers any more, or the loss explodes."""

from __future__ import annotations

import math

# The loss may not rise above its smallest value by this multiple of the largest value seen before.
EXPLOSION = 1000.0


class DivergedError(Exception):
    """An epoch has destroyed what the networks had learned. The message says how this was noticed."""


class LossWatch:
    """Compares the mean loss of each epoch with those of the epochs before."""

    def __init__(self) -> None:
        self._least = math.inf
        self._size = 1.0

    def check(self, loss: float) -> str | None:
        """Return what is wrong with the mean loss of an epoch, in words, or None."""
        if not math.isfinite(loss):
            return "the loss is not finite"
        if loss > self._least + EXPLOSION * self._size:
            return f"the loss rose from {self._least:.3g} to {loss:.3g}"
        self._least = min(self._least, loss)
        self._size = max(self._size, abs(loss))
        return None

"""The interface of the recorded history of ε for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class EpsilonSource(Protocol):
    """The recorded history of ε for plots and the page. One epoch is in memory at a time.

    `labelaudit.training.recorder.EpsilonHistory` implements it.
    """

    @property
    def epochs(self) -> Sequence[int]:
        """The recorded epochs, in order."""
        ...

    def read(self, epoch: int) -> Mapping[str, NDArray[np.float32]]:
        """Return ``epsilon``, ``learner_prob``, ``guider_prob`` of one epoch, (L,) in [0, 1]."""
        ...


def spread_epochs(epochs: Sequence[int], most: int) -> list[int]:
    """Choose at most `most` evenly spaced epochs, including the first and the last.

    If `most` is 1, the last epoch is chosen.
    """
    if len(epochs) <= most:
        return list(epochs)
    if most == 1:
        return [epochs[-1]]
    positions = np.linspace(0, len(epochs) - 1, most).round().astype(int)
    return [epochs[position] for position in positions]

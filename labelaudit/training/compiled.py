"""A loss that is compiled by torch.compile if that works."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

# Takes images (B, C, H, W), noisy labels (B,), the number L of labeled images (which come first), and
# the mask (L,) of verified labels or None. Returns the loss, and detached scalars by name.
Loss = Callable[[Tensor, Tensor, int, Tensor | None], tuple[Tensor, dict[str, Tensor]]]


class CompiledLoss:
    """A loss compiled by torch.compile. After the first failure, the loss runs uncompiled.

    Parameters
    ----------
    loss
        The loss. It must not copy a value from the device to the host.
    options
        Options of torch.compile.

    Attributes
    ----------
    failure
        Why the loss could not be compiled, in one line; None while it works.
    """

    def __init__(self, loss: Loss, options: Mapping[str, Any]) -> None:
        self.failure: str | None = None
        self._plain = loss
        # As one graph, because a graph with breaks is slower than the uncompiled loss.
        self._compiled: Loss = torch.compile(loss, fullgraph=True, dynamic=False, **options)

    def __call__(
        self,
        images: Tensor,
        noisy_labels: Tensor,
        num_labeled: int,
        verified: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the result of the loss."""
        if self.failure is None:
            try:
                loss, scalars = self._compiled(images, noisy_labels, num_labeled, verified)
            except Exception as error:  # the uncompiled loss raises errors of its own again
                self.failure = first_lines(error)
                warnings.warn(f"training continues uncompiled: {self.failure}", stacklevel=2)
            else:
                # CUDA graphs write to the same place in each step.
                return loss, {name: value.clone() for name, value in scalars.items()}
        return self._plain(images, noisy_labels, num_labeled, verified)


def first_lines(error: Exception) -> str:
    """Return the first two lines of an error as one line: what raised it, and the reason."""
    return " ".join(str(error).strip().split("\n")[:2])

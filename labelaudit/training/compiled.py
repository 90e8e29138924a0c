"""A loss through torch.compile where that works, and as it is where it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

# Images (B, C, H, W), noisy labels (B,), the number L of labeled images, which come first, and which of
# their labels are verified, (L,) bool or None, to the loss and detached scalars by name.
Loss = Callable[[Tensor, Tensor, int, Tensor | None], tuple[Tensor, dict[str, Tensor]]]


class CompiledLoss:
    """A loss through torch.compile, or as it is from the first time that fails.

    Parameters
    ----------
    loss
        Must not ask the device for a value.
    options
        Of torch.compile.

    Attributes
    ----------
    failure
        Why it could not be compiled, in a line; None as long as it can.
    """

    def __init__(self, loss: Loss, options: Mapping[str, Any]) -> None:
        self.failure: str | None = None
        self._plain = loss
        # In one piece: a part that cannot be compiled costs more than it all as it was.
        self._compiled: Loss = torch.compile(loss, fullgraph=True, dynamic=False, **options)

    def __call__(
        self,
        images: Tensor,
        noisy_labels: Tensor,
        num_labeled: int,
        verified: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Give what the loss gives."""
        if self.failure is None:
            try:
                loss, told = self._compiled(images, noisy_labels, num_labeled, verified)
            except Exception as error:  # what is no matter of compiling the plain loss raises again
                self.failure = first_lines(error)
                warnings.warn(f"the training step goes on uncompiled: {self.failure}", stacklevel=2)
            else:
                # CUDA graphs write to the same place in each step.
                return loss, {name: value.clone() for name, value in told.items()}
        return self._plain(images, noisy_labels, num_labeled, verified)


def first_lines(error: Exception) -> str:
    """Give an error's first two lines as one: torch names what raised it, then says what it was."""
    return " ".join(str(error).strip().split("\n")[:2])

"""The interface of a method for the training loop, and its training batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """The input of one optimizer step, labeled images first. It has no clean labels, so none can leak.

    Attributes
    ----------
    images
        ``(B, C, H, W)`` float32 in [0, 1], augmented.
    noisy_labels
        ``(B,)`` int64, -1 where unlabeled.
    indices
        ``(B,)`` int64, rows of the data set.
    num_labeled
        Number of labeled images, which come first. It is a number on the host, because reading it from
        the GPU would wait for all queued work.
    weight
        Factor of the loss. If several processes share a batch and average their gradients, it makes
        all images of the batch count equally.
    verified
        ``(num_labeled,)`` bool, whether a person has verified the label; None if no label is verified.
    """

    images: Tensor
    noisy_labels: Tensor
    indices: Tensor
    num_labeled: int
    weight: float = 1.0
    verified: Tensor | None = None


@dataclass(frozen=True)
class Predictions:
    """The predictions of a method for some images without noise, all float32.

    Attributes
    ----------
    learner_probs, guider_probs
        ``(B, C)``, rows sum to 1. They are equal for a method without a guider.
    embedding
        ``(B, d)``, the guider's mean z_a (pooled over positions).
    """

    learner_probs: Tensor
    guider_probs: Tensor
    embedding: Tensor


class Method(Protocol):
    """A method that learns from noisy labels. It performs its whole training step itself."""

    @property
    def images_at_once(self) -> int:
        """Return the largest number of images that `predict` should get at once."""
        ...

    def step(self, batch: Batch) -> Mapping[str, Tensor]:
        """Take an optimizer step on a batch; return detached scalars to show, by name."""
        ...

    def predict(self, images: Tensor) -> Predictions:
        """Predict images ``(B, C, H, W)`` in [0, 1] without augmentation, noise or gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all state that is needed to continue: weights, averages, optimizer."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...

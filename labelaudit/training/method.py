"""What a method is to the training loop, and the batch that it steps on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What one optimizer step sees, labeled images first. No field has clean labels: they cannot leak.

    Attributes
    ----------
    images
        ``(B, C, H, W)`` float32 in [0, 1], augmented.
    noisy_labels
        ``(B,)`` int64, -1 where unlabeled.
    indices
        ``(B,)`` int64, rows of the data set.
    num_labeled
        How many images, the first ones, are labeled. A number here and not in a mask there: a step
        that asked a GPU for it would wait for all that the GPU has yet to do.
    weight
        Where several processes share a batch and average their gradients: how many times these images
        count, so that all images of the batch count alike.
    verified
        ``(num_labeled,)`` bool, labels that a person has verified; None where no label of the data is.
    """

    images: Tensor
    noisy_labels: Tensor
    indices: Tensor
    num_labeled: int
    weight: float = 1.0
    verified: Tensor | None = None


@dataclass(frozen=True)
class Predictions:
    """What a method thinks of some images in a deterministic pass, all float32.

    Attributes
    ----------
    learner_probs, guider_probs
        ``(B, C)``, rows sum to 1. A method without a guider gives the same twice.
    embedding
        ``(B, d)``, the guider's mean z_a (pooled over positions).
    """

    learner_probs: Tensor
    guider_probs: Tensor
    embedding: Tensor


class Method(Protocol):
    """A system that learns from noisy labels. It owns its step from forward to optimizer step."""

    @property
    def images_at_once(self) -> int:
        """How many images `predict` is best given, at most."""
        ...

    def step(self, batch: Batch) -> Mapping[str, Tensor]:
        """Learn from a batch; give detached scalars worth showing, by name."""
        ...

    def predict(self, images: Tensor) -> Predictions:
        """Look at un-augmented images ``(B, C, H, W)`` in [0, 1], without noise or gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on after a restart: weights, averages, optimizer."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        ...

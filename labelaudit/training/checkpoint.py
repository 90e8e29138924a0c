"""The state of a training, saved so that an interrupted run can be continued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from labelaudit.errors import OutputError
from labelaudit.files import atomic_write


@dataclass(frozen=True)
class Checkpoint:
    """The state of a method after an epoch.

    It holds no random state, because every epoch seeds its generators from the seed and its number.
    """

    epoch: int
    seconds: float
    state: Mapping[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically."""
    with atomic_write(path) as partial:
        torch.save(
            {"epoch": checkpoint.epoch, "seconds": checkpoint.seconds, "state": checkpoint.state},
            partial,
        )


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Read a checkpoint. Raises OutputError if it cannot be read."""
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        return Checkpoint(saved["epoch"], saved["seconds"], saved["state"])
    except Exception as error:
        raise OutputError(
            f"{path} cannot be read as a checkpoint ({error}); start again with `force=True`"
        ) from error

"""Everything needed to go on where a run was cut off."""

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
    """A method's state after an epoch.

    No random state is kept: every epoch starts its generators from the seed and its own number.
    """

    epoch: int
    seconds: float
    state: Mapping[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    with atomic_write(path) as partial:
        torch.save(
            {"epoch": checkpoint.epoch, "seconds": checkpoint.seconds, "state": checkpoint.state},
            partial,
        )


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    OutputError
        If it cannot be read.
    """
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        return Checkpoint(saved["epoch"], saved["seconds"], saved["state"])
    except Exception as error:
        raise OutputError(
            f"{path} cannot be read as a checkpoint ({error}); start afresh with `force=True`"
        ) from error

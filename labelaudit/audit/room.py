"""Whether the disk has room for what a scan writes, checked before training."""

from __future__ import annotations

import shutil
from pathlib import Path

from labelaudit.audit.plan import AuditPlan
from labelaudit.errors import WriteError

# Bytes per label and recorded epoch, after compression; and per sample in the tables. Low estimates, so
# that no run is refused which would fit.
EPOCH_BYTES, SAMPLE_BYTES = 8, 60
FLOAT_BYTES = 4
LEAST_EMBEDDING = 16  # numbers per sample
# A checkpoint holds the weights, those of the guider and two moments. Two of them are kept.
CHECKPOINT_COPIES = 8
LEAST = 1 << 20  # plots and the page


def bytes_needed(plan: AuditPlan) -> int:
    """Return a low estimate of the bytes that a scan writes into its folder."""
    manifest, fine_tuning = plan.manifest, plan.inputs.fine_tuning
    weights = 0
    if fine_tuning is not None:
        weights = sum(one.numel() * one.element_size() for one in fine_tuning.weights.values())
    columns = manifest.num_classes + LEAST_EMBEDDING
    return (
        LEAST
        + manifest.num_samples * (SAMPLE_BYTES + FLOAT_BYTES * columns)
        + manifest.num_labeled * EPOCH_BYTES * plan.epochs
        + weights * (1 + CHECKPOINT_COPIES)
    )


def check_room(plan: AuditPlan, folder: Path) -> None:
    """Raise WriteError if the disk of a folder is too small for the scan."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    needed, free = bytes_needed(plan), shutil.disk_usage(folder).free
    if free < needed:
        raise WriteError(
            f"this scan writes at least {_size(needed)}, but {folder} has only {_size(free)} left;"
            " make room, or write to another disk with `out`"
        )


def _size(number: int) -> str:
    """Return a number of bytes in words, such as "3.2 GiB"."""
    value, unit = number / 2**20, "MiB"
    if value >= 1024:
        value, unit = value / 1024, "GiB"
    return f"{value:,.1f} {unit}"

"""The commit and the machine of a benchmark's figures."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch


def commit() -> str:
    """Return the current commit from git, or "unknown" without git or a repository."""
    if shutil.which("git") is None:
        return "unknown"
    told = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
    )
    return told.stdout.strip() or "unknown"


def hardware(device: torch.device | None = None) -> str:
    """Return a description of the hardware, by default the GPU if there is one."""
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"

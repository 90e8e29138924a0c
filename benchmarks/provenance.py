"""Where a benchmark's figures come from: the commit and the machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch


def commit() -> str:
    """Give the commit, as git tells it, or "unknown" where there is no git or no repository."""
    if shutil.which("git") is None:
        return "unknown"
    told = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
    )
    return told.stdout.strip() or "unknown"


def hardware(device: torch.device | None = None) -> str:
    """Name what it runs on, by default the GPU where there is one."""
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"

"""Where the networks run: the device, its arithmetic and its random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch

from labelaudit.errors import OptionError
from labelaudit.training import distributed


def choose_device(requested: str) -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1" or "mps" into a device that is there.

    Raises
    ------
    OptionError
        If the device is unknown or not there.
    """
    if requested == "auto":
        if torch.cuda.is_available():
            requested = "cuda"
        else:
            requested = "mps" if torch.backends.mps.is_available() else "cpu"
    if requested == "cuda" and distributed.size() > 1:
        # torchrun counts the processes on a machine, one for each of its GPUs.
        requested = f"cuda:{distributed.local_rank()}"
    try:
        device = torch.device(requested)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            f"device {requested!r} cannot be used here; use `device='auto'` or `device='cpu'`"
        ) from error
    return device


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Run forward passes in bfloat16 on CUDA, and as they are elsewhere."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def seeded(device: torch.device, seed: int, epoch: int) -> Iterator[None]:
    """Seed torch for an epoch, and leave the caller's random state as it was.

    In epoch 0, in which weights are drawn, all processes draw the same; later each its own.
    """
    devices = [device] if device.type == "cuda" else []
    process = [distributed.rank()] if epoch and not distributed.leads() else []
    with torch.random.fork_rng(devices=devices):
        entropy = np.random.SeedSequence([seed, epoch, *process]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(entropy >> np.uint64(1)))
        yield


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

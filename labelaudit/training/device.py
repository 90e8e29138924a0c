"""The device on which the networks run, its precision and its random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from labelaudit.errors import OptionError
from labelaudit.training import distributed


def choose_device(requested: str) -> torch.device:
    """Return the device for "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises OptionError if the device is unknown or not available.
    """
    if requested == "auto":
        if torch.cuda.is_available():
            requested = "cuda"
        else:
            requested = "mps" if torch.backends.mps.is_available() else "cpu"
    if requested == "cuda" and distributed.size() > 1:
        # torchrun starts one process per GPU of a machine.
        requested = f"cuda:{distributed.local_rank()}"
    try:
        device = torch.device(requested)
        float(torch.zeros(1, device=device))  # cannot be read from torch's device "meta"
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            f"device {requested!r} cannot be used here; use `device='auto'` or `device='cpu'`"
        ) from error
    return device


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Run forward passes in bfloat16 on CUDA; on other devices this has no effect."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def seeded(device: torch.device, seed: int, epoch: int) -> Iterator[None]:
    """Seed torch for an epoch, and restore the caller's random state afterwards.

    In epoch 0 the weights are initialized, so all processes have the same seed. Later each process has
    its own.
    """
    devices = [device] if device.type == "cuda" else []
    process = [distributed.rank()] if epoch and not distributed.leads() else []
    with torch.random.fork_rng(devices=devices):
        entropy = np.random.SeedSequence([seed, epoch, *process]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(entropy >> np.uint64(1)))
        yield


def load_adam(optimizer: torch.optim.Adam, state: dict[str, Any]) -> None:
    """Load the state of an optimizer that may have been saved on another kind of device.

    Adam reads weights and moments in the order of memory. That of the moments is therefore made that
    of the weights here: convolutional weights are laid out in another order on a GPU than on a CPU.
    """
    optimizer.load_state_dict(state)
    for weight, moments in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name] = torch.empty_like(weight).copy_(moments[name])
        # Otherwise later steps would count on in the state that is loaded here.
        moments["step"] = moments["step"].clone()


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_memory(device: torch.device) -> None:
    """Return memory that torch keeps for later tensors to the GPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()

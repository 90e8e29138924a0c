"""One audit in several processes that torchrun started, by torch.distributed.

Every process trains on its share of each batch (`shard`) and records its share of the samples (`part`).
Process 0 leads. It alone writes the run folder, scores the labels and reports progress. In a single
process these functions return their input at no cost.
"""

from __future__ import annotations

import datetime
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from labelaudit.errors import LabelauditError

T = TypeVar("T")

# Decoding may take long, and meanwhile the other processes wait. torchrun notices processes that died.
TIMEOUT = datetime.timedelta(days=7)
# Number of seconds that a process with an error waits for process 0, which mostly reports the same one.
PATIENCE = 5.0

_joined = False
_ended = False


def size() -> int:
    """Return the number of processes that share the audit; 1 outside of `joined`."""
    return dist.get_world_size() if _joined else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if _joined else 0


def local_rank() -> int:
    """Return the number of this process on its machine, from 0. It is also the number of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if _joined else 0


def leads() -> bool:
    """Whether this is process 0, which writes the run folder, scores the labels and reports."""
    return rank() == 0


class ProcessDone(SystemExit):
    """Ends a process other than process 0 when its work is done.

    It is a SystemExit, so that a script under torchrun prints nothing in these processes.
    """


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, if any, while the context lasts.

    This works once per process, and not in a program that has made a process group of its own. If
    process 0 does not report an error of another process, that process reports it and ends.
    """
    global _joined, _ended
    if not dist.is_torchelastic_launched() or dist.is_initialized() or _ended:
        yield
        return
    # If no backend is named, CPU tensors go through gloo and GPU tensors through NCCL.
    dist.init_process_group(timeout=TIMEOUT)
    _joined = True
    try:
        yield
    except LabelauditError as error:
        if leads():
            raise
        time.sleep(PATIENCE)
        sys.stderr.write(f"process {rank()}: {error}\n")
        raise ProcessDone(2) from None
    finally:
        _joined, _ended = False, True
        dist.destroy_process_group()


@contextmanager
def together() -> Iterator[None]:
    """Continue in all processes or in none: if any raises an error, process 0 raises it too.

    The other processes end. Code in the context must not wait for other processes. Process 0 raises
    the first LabelauditError, in the order of the processes.
    """
    found: LabelauditError | None = None
    try:
        yield
    except LabelauditError as error:
        if size() == 1:
            raise
        found = error
    _raise_first(everyone(found))


def once_a_machine(make: Callable[[], T]) -> T:
    """Make a small value in one process per machine, and return it in all processes there.

    Raises LabelauditError as in `together`.
    """
    if size() == 1:
        return make()
    made: T | LabelauditError | None = None
    if local_rank() == 0:
        try:
            made = make()
        except LabelauditError as error:
            made = error
    results: list[Any] = everyone(made)
    _raise_first([one if isinstance(one, LabelauditError) else None for one in results])
    result: T = results[rank() - local_rank()]
    return result


def everyone(value: T) -> list[T]:
    """Return the values of all processes, in their order. It waits for all of them."""
    if size() == 1:
        return [value]
    values: list[T] = [value] * size()
    dist.all_gather_object(values, value)
    return values


def share(value: T) -> T:
    """Return the value of process 0 in all processes."""
    if size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def shard(rows: np.ndarray) -> np.ndarray:
    """Return this process's share of the rows of a batch, with about the same labeled share."""
    return rows[rank() :: size()]


def part(total: int, of_rank: int | None = None) -> slice:
    """Return the slice of `total` rows that this process, or process `of_rank`, works on."""
    which = rank() if of_rank is None else of_rank
    return slice(total * which // size(), total * (which + 1) // size())


def gather_rows(values: np.ndarray, total: int) -> np.ndarray:
    """Collect the parts of an array in process 0.

    Parameters
    ----------
    values
        ``(M, ...)``, this process's `part` of `total` rows.
    total
        Number of rows of the array.

    Returns
    -------
    np.ndarray
        ``(total, ...)`` in process 0; `values` in the others.
    """
    if size() == 1:
        return values
    if not leads():
        dist.send(torch.from_numpy(np.ascontiguousarray(values)), dst=0)
        return values
    whole = np.empty((total, *values.shape[1:]), dtype=values.dtype)
    whole[part(total)] = values
    for other in range(1, size()):
        dist.recv(torch.from_numpy(whole[part(total, other)]), src=other)
    return whole


def same_buffers(*modules: nn.Module) -> None:
    """Copy the buffers of process 0, such as batch norm's statistics, to all processes."""
    if size() > 1:
        for module in modules:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


def parallel(module: nn.Module, device: torch.device, *, pretrained: bool = False) -> nn.Module:
    """Wrap a module so that gradients are averaged over the processes.

    Parameters
    ----------
    module
        A module on `device`. On a GPU its batch norms now use the statistics of the whole batch. torch
        has no such batch norm for CPUs, so there they use those of this process's share.
    device
        Device of this process. All processes use the same type of device.
    pretrained
        Whether the module holds a pretrained network. Its batch norms are kept, because they may differ
        from torch's (timm's include an activation). Some of its weights may be unused in a step.
    """
    if size() == 1:
        return module
    if device.type == "cuda" and not pretrained:
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        module = convert(module)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(
        module,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=pretrained,
    )


def _raise_first(found: list[LabelauditError | None]) -> None:
    first = next((error for error in found if error is not None), None)
    if first is None:
        return
    if not leads():
        raise ProcessDone(0)  # process 0 raises the error; torchrun waits for it
    raise first

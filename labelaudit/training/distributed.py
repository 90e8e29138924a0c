"""Several processes, started by torchrun, at one audit; torch.distributed does the work.

Every process trains on its share of each batch (`shard`) and records its share of the samples (`part`);
process 0 leads: it alone reads and writes the run folder, judges and tells. Alone, a process is all of
them, and nothing here costs anything.
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

# Others wait for the process that decodes, and all for the slowest; a dead one is torchrun's matter.
TIMEOUT = datetime.timedelta(days=7)


# So long a process with an error waits for process 0 to tell it first: mostly both have the same.
PATIENCE = 5.0

_joined = False
_ended = False


def size() -> int:
    """How many processes share the audit; 1 outside of `joined`, whatever groups the caller made."""
    return dist.get_world_size() if _joined else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if _joined else 0


def local_rank() -> int:
    """Which of those on this machine this is, from 0: the number of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if _joined else 0


def leads() -> bool:
    """Whether this is the process that reads and writes the run folder, judges and tells."""
    return rank() == 0


class ProcessDone(SystemExit):
    """Ends a process that torchrun started to help, when its work is done: process 0 goes on alone.

    A SystemExit, so that a script under torchrun ends without a word in all processes but the first.
    """


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, if it did, for as long as the context lasts.

    Only once: afterwards, and in a program that has made a process group of its own, each process is
    alone. Where process 0 does not tell of an error in another one, that one does, and ends.
    """
    global _joined, _ended
    if not dist.is_torchelastic_launched() or dist.is_initialized() or _ended:
        yield
        return
    # Without a backend by name tensors on the CPU go through gloo and those on a GPU through NCCL.
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
    """Let all processes pass or none: what one finds wrong, process 0 raises, and the others end.

    Inside there must be nothing that waits for the other processes.

    Raises
    ------
    LabelauditError
        The first that was raised in any.
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
    """Let one process on each machine make something small, and give it to all of that machine.

    Raises
    ------
    LabelauditError
        As in `together`.
    """
    if size() == 1:
        return make()
    made: T | LabelauditError | None = None
    if local_rank() == 0:
        try:
            made = make()
        except LabelauditError as error:
            made = error
    told: list[Any] = everyone(made)
    _raise_first([said if isinstance(said, LabelauditError) else None for said in told])
    result: T = told[rank() - local_rank()]
    return result


def everyone(value: T) -> list[T]:
    """Give what each process has, in their order; waits for all of them."""
    if size() == 1:
        return [value]
    told: list[T] = [value] * size()
    dist.all_gather_object(told, value)
    return told


def share(value: T) -> T:
    """Give what process 0 has to all of them."""
    if size() == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def shard(rows: np.ndarray) -> np.ndarray:
    """Give this process's share of a batch's rows: every so many, which keeps kinds in proportion."""
    return rows[rank() :: size()]


def part(total: int, of_rank: int | None = None) -> slice:
    """Give this process's share, or another's, of `total` rows that are worked through in order."""
    which = rank() if of_rank is None else of_rank
    return slice(total * which // size(), total * (which + 1) // size())


def gather_rows(values: np.ndarray, total: int) -> np.ndarray:
    """Bring the parts of an array together in process 0.

    Parameters
    ----------
    values
        ``(M, ...)``, this process's `part` of `total` rows.
    total
        Rows in all.

    Returns
    -------
    np.ndarray
        ``(total, ...)`` in process 0; in the others what they gave.
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
    """Give all processes the buffers of process 0, such as batch norm's statistics."""
    if size() > 1:
        for module in modules:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


def parallel(module: nn.Module, device: torch.device, *, pretrained: bool = False) -> nn.Module:
    """Wrap a module so that gradients are averaged over the processes; alone it stays as it is.

    Parameters
    ----------
    module
        On `device`. On a GPU its batch norms take the statistics of the whole batch from now on; on a
        CPU, for which torch has no such batch norm, those of this process's share.
    device
        The same kind in all processes.
    pretrained
        Its batch norms stay as they are, for they may do more than torch's (timm's hold an
        activation), and some of its weights may take no part in a step.
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
        raise ProcessDone(0)  # process 0 tells; torchrun waits for it, as this one ends well
    raise first

"""The state of a training, saved with checksums so that an interrupted run can be continued.

The last two checkpoints are kept. One is not used if its bytes or its recorded epochs have changed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelaudit.checksums import is_intact, seal
from labelaudit.errors import OutputError
from labelaudit.files import atomic_write
from labelaudit.progress import Reporter


@dataclass(frozen=True)
class Checkpoint:
    """The state of a method after an epoch.

    It holds no random state, because every epoch seeds its generators from the seed and its number.

    Attributes
    ----------
    epoch, seconds
        Number of epochs trained, and the time for them.
    state
        State of the method.
    records
        sha256 of the file of each recorded epoch, by number; None if an earlier version of labelaudit
        wrote the checkpoint. Empty if no epochs are recorded.
    steps
        Number of batches per epoch; None for that of the plan.
    slowed_in
        The epoch that diverged, after which the learning rate was lowered; None if none did.
    losses
        What `labelaudit.training.divergence.LossWatch` knows of the epochs before; None if an earlier
        version of labelaudit wrote the checkpoint.
    """

    epoch: int
    seconds: float
    state: Mapping[str, Any]
    records: Mapping[int, str] | None = field(default_factory=dict)
    steps: int | None = None
    slowed_in: int | None = None
    losses: tuple[float, float] | None = None


class DamagedError(OutputError):
    """A checkpoint whose bytes are not those that were written."""


def save_checkpoint(path: Path, checkpoint: Checkpoint, before: Path | None = None) -> None:
    """Write a checkpoint, atomically. The one that it replaces is renamed to `before`."""
    with atomic_write(path) as partial:
        try:
            torch.save(vars(checkpoint), partial)
        except RuntimeError as error:  # raised by torch's writer, for example if the disk is full
            raise OSError(f"{error}".partition("\n")[0]) from error
        seal(partial)
        if before is not None and path.exists():
            path.replace(before)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU.

    Raises
    ------
    DamagedError
        If its bytes have changed since it was written.
    OutputError
        If it cannot be read, for example for lack of memory.
    """
    try:
        intact = is_intact(path)
        if intact is False:
            raise DamagedError(f"{path} is damaged: its checksum does not fit")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found = Checkpoint(**{"records": None} | saved)
    except OutputError:
        raise
    except Exception as error:
        # Of a file that is not a checkpoint, torch's reader raises nearly any exception.
        full = isinstance(error, MemoryError) or "allocate memory" in str(error)
        if full or isinstance(error, OSError):
            reason = "the memory is full" if full else str(error)
            raise OutputError(f"{path} cannot be read now, and is kept: {reason}") from error
        if intact:
            raise OutputError(
                f"{path} was written by another version of labelaudit or of torch; delete it to start"
                " again"
            ) from error
        raise DamagedError(f"{path} cannot be read as a checkpoint") from error
    if found.records is not None and intact is None:
        raise DamagedError(f"{path} is damaged")
    return found


class Checkpoints:
    """The last two checkpoints of a training.

    Parameters
    ----------
    path
        File of the newest one. The one before lies beside it.
    find_damage
        Returns what is wrong with the recorded epochs of a checkpoint, in words, or None.
    """

    def __init__(
        self, path: Path, find_damage: Callable[[Checkpoint], str | None] = lambda _: None
    ) -> None:
        self.path = path
        self.before = path.with_stem(f"{path.stem}.before")
        self._find_damage = find_damage

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and keep the one before. Raises OutputError if that is not possible."""
        save_checkpoint(self.path, checkpoint, self.before)

    def load(self, reporter: Reporter) -> Checkpoint | None:
        """Return the newest checkpoint that is intact, or None. Damage is reported.

        Damaged checkpoints are deleted, because the next one would be kept beside them. Raises
        OutputError if an intact one cannot be read.
        """
        damage: list[str] = []
        found = None
        for path in (self.path, self.before):
            if not path.exists():
                continue
            try:
                found = load_checkpoint(path)
            except DamagedError as error:
                damage.append(str(error))
                path.unlink()
                continue
            problem = self._find_damage(found)
            if problem is None:
                break
            damage.append(problem)
            path.unlink()
            found = None
        if damage:
            where = "begins again" if found is None else f"goes back to epoch {found.epoch}"
            reporter.warn(f"{'; '.join(dict.fromkeys(damage))}. Training {where}")
        elif found is not None and found.records is None:
            reporter.warn(
                f"{self.path} has no checksums, because an earlier version of labelaudit wrote it, so"
                " it cannot be checked for damage. `force=True` starts again"
            )
        return found


def copied(state: Any) -> Any:
    """Return a copy of a method's state on the CPU, which later training steps do not change."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        made = copy.copy(state)  # keeps the versions of layers, which are an attribute
        made.update((name, copied(value)) for name, value in state.items())
        return made
    if isinstance(state, list | tuple):
        return type(state)(copied(value) for value in state)
    return state


def slowed(state: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Return the state of a method with the learning rates of its optimizers multiplied."""
    made = {}
    for name, value in state.items():
        if isinstance(value, dict) and "param_groups" in value:
            groups = [group | {"lr": factor * group["lr"]} for group in value["param_groups"]]
            value = value | {"param_groups": groups}
        made[name] = value
    return made

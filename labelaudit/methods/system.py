"""The interface of all systems under test: UMN, and the methods that it is compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from labelaudit.methods.task import AuditResult, Task

InputKind = Literal["pixels", "features"]


class System(ABC):
    """A method that finds the wrong labels of a data set.

    The class attributes describe all properties that a runner needs. A runner therefore never depends
    on the name of a system.

    Attributes
    ----------
    reads
        The kinds of input that the system can be given.
    needs_trusted
        Whether `Task.trusted` must be set: some labels that are known to be right.
    needs_noise_rate
        Whether `Task.noise_rate` must be set: the true share of wrong labels.
    by_default
        Whether a comparison includes the system when the user names no methods.
    resumable
        Whether a single training by `labelaudit.methods.task.train_on`, or by a `LabelAuditor`, decides
        the result. It is then continued from `Task.state` after an interruption.
    best_variant
        Name of the row in the results for the best of `AuditResult.variants`, chosen by the truth.
        Empty if there is no such row.
    library
        Module that the system imports and that only ``labelaudit[peers]`` installs; empty for none.
    """

    reads: ClassVar[frozenset[InputKind]] = frozenset({"pixels", "features"})
    needs_trusted: ClassVar[bool] = False
    needs_noise_rate: ClassVar[bool] = False
    by_default: ClassVar[bool] = True
    resumable: ClassVar[bool] = False
    best_variant: ClassVar[str] = ""
    library: ClassVar[str] = ""

    @abstractmethod
    def audit(self, task: Task) -> AuditResult:
        """Train on the task, score each given label, and flag those that look wrong."""

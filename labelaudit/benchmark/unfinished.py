"""What is kept of a cell until it is finished, so that a stopped sweep continues within a training."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from labelaudit.errors import OutputError
from labelaudit.files import atomic_write

PROGRESS = "progress.json"


@dataclass
class UnfinishedCell:
    """The progress of a cell, in memory and, with a folder, on disk.

    Attributes
    ----------
    folder
        Holds the progress, and the state of the training. It is created when something is written.
        None keeps the progress in memory alone.
    epoch
        Number of epochs trained.
    seconds
        Time for the cell in earlier processes and in this one, up to the last epoch.
    test_error
        Test error after each epoch, by its number, from 1; empty if it is not measured.
    """

    folder: Path | None = None
    epoch: int = 0
    seconds: float = 0.0
    test_error: dict[int, float] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | None) -> UnfinishedCell:
        """Read the progress of a cell that was stopped; without one, begin.

        Raises OutputError if it cannot be read.
        """
        path = None if folder is None else folder / PROGRESS
        if path is None or not path.exists():
            return cls(folder)
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            errors = {int(epoch): float(error) for epoch, error in saved["test_error"].items()}
            return cls(folder, int(saved["epoch"]), float(saved["seconds"]), errors)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                f"{path} is damaged; delete {folder} to train this cell from its beginning"
            ) from error

    def __post_init__(self) -> None:
        self._before, self._started = self.seconds, time.monotonic()

    def keep(self, epoch: int, error: float | None) -> None:
        """Note that an epoch was trained, with its test error if it was measured."""
        self.epoch, self.seconds = epoch, self.seconds_so_far()
        if error is not None:
            self.test_error[epoch] = error
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        saved = {"epoch": epoch, "seconds": self.seconds, "test_error": self.test_error}
        with atomic_write(self.folder / PROGRESS) as path:
            path.write_text(json.dumps(saved) + "\n", encoding="utf-8")

    def seconds_so_far(self) -> float:
        """Return the time for the cell in earlier processes and in this one."""
        return self._before + time.monotonic() - self._started

    def remove(self) -> None:
        """Delete the folder, when the cell's result is written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

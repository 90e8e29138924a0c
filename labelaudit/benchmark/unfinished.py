"""What is kept of a cell until it is finished, so that a stopped sweep continues within a training."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from labelaudit.errors import OutputError
from labelaudit.files import atomic_write
from labelaudit.progress import Bar, Reporter, Rest

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


class CellReporter(Reporter):
    """Shows the progress of one cell: in a terminal in the text of the sweep's bar, else in lines.

    What the cell says is not shown, because its row of results says it.

    Parameters
    ----------
    reporter
        Where the sweep is shown.
    bar
        The sweep's bar.
    title
        The cell in words.
    """

    def __init__(self, reporter: Reporter, bar: Bar, title: str) -> None:
        self._reporter, self._bar, self._title = reporter, bar, title

    @contextmanager
    def bar(
        self, text: str, total: int | None = None, done: int = 0, rest: Rest | None = None
    ) -> Iterator[Bar]:
        """See `Reporter.bar`."""
        if not self._reporter.one_bar_at_a_time:
            with self._reporter.bar(f"{self._title}: {text}", total, done, rest) as bar:
                yield _Titled(bar, self._title)
            return
        yield _InText(self._bar, self._title, rest)


class _Titled:
    """A bar whose texts begin with the cell."""

    def __init__(self, bar: Bar, title: str) -> None:
        self._bar, self._title = bar, title
        self.advance, self.reach = bar.advance, bar.reach

    def describe(self, text: str) -> None:
        """Change the text before the bar."""
        self._bar.describe(f"{self._title}: {text}")


class _InText:
    """Shows the text of a cell's bar, and the time left for the cell, in the text of the sweep's."""

    def __init__(self, bar: Bar, title: str, rest: Rest | None) -> None:
        self._bar, self._title, self._rest = bar, title, rest
        self._text, self._said = "", 0.0

    def advance(self, steps: int = 1) -> None:
        """Say the time left, once a second."""
        if self._text and time.monotonic() - self._said >= 1.0:
            self.describe(self._text)

    def reach(self, done: int) -> None:
        """Say the time left, once a second."""
        self.advance()

    def describe(self, text: str) -> None:
        """Change the text."""
        self._text, self._said = text, time.monotonic()
        rest = None if self._rest is None else self._rest()
        self._bar.describe(f"{self._title}: {text}" + ("" if rest is None else f", {rest} left"))

"""The progress of one cell of a sweep, beside the sweep's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from labelaudit.progress import Bar, Reporter, Rest


class CellReporter(Reporter):
    """Shows the progress of one cell: in a terminal in the text of the sweep's bar, else in lines.

    What the cell says is not shown, because its row of results says it. Warnings are.

    Parameters
    ----------
    reporter
        Where the sweep is shown.
    bar
        The sweep's bar.
    title
        The cell in words.
    warn
        Shows a warning.
    """

    def __init__(
        self, reporter: Reporter, bar: Bar, title: str, warn: Callable[[str], None]
    ) -> None:
        self._reporter, self._bar, self._title, self._warn = reporter, bar, title, warn

    def warn(self, text: str) -> None:
        """See `Reporter.warn`."""
        self._warn(text)

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

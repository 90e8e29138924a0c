"""Reporters, which show progress and warnings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


def plain(text: str) -> str:
    """Return a text that is safe to print: without markup and control characters of a terminal."""
    shown = (
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )
    return escape("".join(shown))


class Bar(Protocol):
    """A progress bar."""

    def advance(self, steps: int = 1) -> None:
        """Advance the bar by some steps."""
        ...

    def reach(self, done: int) -> None:
        """Move the bar to a number of steps."""
        ...

    def describe(self, text: str) -> None:
        """Change the text before the bar."""
        ...


class Reporter:
    """Receives progress and warnings and shows nothing. Base class of reporters that show them."""

    def say(self, text: str) -> None:
        """Show one line."""

    def warn(self, text: str) -> None:
        """Show one line as a warning."""

    @contextmanager
    def bar(self, text: str, total: int, done: int = 0) -> Iterator[Bar]:
        """Show progress towards `total` while the context lasts."""
        yield _NoBar()


class ConsoleReporter(Reporter):
    """Shows lines on a rich console, and bars if it is a terminal or a notebook."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """See `Reporter.say`."""
        self.console.print(plain(text), highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """See `Reporter.warn`."""
        self.console.print(
            f"[yellow]warning:[/yellow] {plain(text)}", highlight=False, soft_wrap=True
        )

    @contextmanager
    def bar(self, text: str, total: int, done: int = 0) -> Iterator[Bar]:
        """See `Reporter.bar`."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        quiet = not is_interactive(self.console)
        with Progress(*columns, console=self.console, transient=True, disable=quiet) as progress:
            yield _RichBar(progress, progress.add_task(plain(text), total=total, completed=done))


def is_interactive(console: Console) -> bool:
    """Whether the console is a terminal or a notebook."""
    return console.is_terminal or console.is_jupyter


def choose_reporter(reporter: Reporter | None, verbose: bool | None) -> Reporter:
    """Return the reporter for a Python caller.

    Parameters
    ----------
    reporter
        The caller's own reporter, which is returned unchanged.
    verbose
        False shows no progress. By default it is shown on standard error, if that is a terminal or a
        notebook.
    """
    if reporter is not None:
        return reporter
    console = Console(stderr=True)
    silent = verbose is False or not is_interactive(console)
    return Reporter() if silent else ConsoleReporter(console)


class _NoBar:
    def advance(self, steps: int = 1) -> None:
        """Show nothing."""

    def reach(self, done: int) -> None:
        """Show nothing."""

    def describe(self, text: str) -> None:
        """Show nothing."""


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1) -> None:
        """Advance the bar by some steps."""
        self._progress.advance(self._task, steps)

    def reach(self, done: int) -> None:
        """Move the bar to a number of steps."""
        self._progress.update(self._task, completed=done)

    def describe(self, text: str) -> None:
        """Change the text before the bar."""
        self._progress.update(self._task, description=plain(text))

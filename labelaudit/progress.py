"""Reporters, which show progress and warnings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from labelaudit.estimates import Countdown, Range, format_seconds

# Where there is no terminal, progress is a line now and then: the first after these seconds, the next
# when the time left is this factor longer or shorter than the last line said, or after as many seconds
# as LINE_SECONDS.
FIRST_LINE_SECONDS, LINE_SECONDS, CHANGED = 20.0, 300.0, 2.0
# Between two lines are at least these seconds. A shorter rest is not worth a line.
QUIET_SECONDS = 20.0

# How long the rest of a task takes; None if it is not known.
Rest = Callable[[], Range | None]


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
    """Receives progress and warnings and shows nothing. Base class of reporters that show them.

    Attributes
    ----------
    one_bar_at_a_time
        Whether no bar may be shown while another one is.
    """

    one_bar_at_a_time: bool = False

    def say(self, text: str) -> None:
        """Show one line."""

    def warn(self, text: str) -> None:
        """Show one line as a warning."""

    @contextmanager
    def bar(
        self, text: str, total: int | None = None, done: int = 0, rest: Rest | None = None
    ) -> Iterator[Bar]:
        """Show progress while the context lasts.

        Parameters
        ----------
        text
            What is done.
        total
            Number of steps. Without it only the time so far is shown.
        done
            Number of steps that are done already.
        rest
            Returns how long the rest will take. By default it follows from the number of steps, which
            are taken to be equally long.
        """
        yield _NoBar()

    @contextmanager
    def bars(self) -> Iterator[Bars]:
        """Show one bar after another while the context lasts, for work in several steps."""
        with ExitStack() as shown:
            yield Bars(self, shown)


class Bars:
    """One bar after another, from `Reporter.bars`."""

    def __init__(self, reporter: Reporter, shown: ExitStack) -> None:
        self._reporter, self._shown = reporter, shown

    @classmethod
    def silent(cls) -> Bars:
        """Return bars that are not shown."""
        return cls(Reporter(), ExitStack())

    def begin(self, text: str, total: int | None = None) -> Bar:
        """End the bar before, and show the next one; see `Reporter.bar`."""
        self.end()
        return self._shown.enter_context(self._reporter.bar(text, total))

    def end(self) -> None:
        """End the bar that is shown."""
        self._shown.close()


class ConsoleReporter(Reporter):
    """Shows lines on a rich console, and bars if it is a terminal or a notebook.

    Elsewhere long work says a line now and then. `clock` returns the time in seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console, clock
        self.one_bar_at_a_time = is_interactive(console)

    def say(self, text: str) -> None:
        """See `Reporter.say`."""
        self.console.print(plain(text), highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """See `Reporter.warn`."""
        self.console.print(
            f"[yellow]warning:[/yellow] {plain(text)}", highlight=False, soft_wrap=True
        )

    @contextmanager
    def bar(
        self, text: str, total: int | None = None, done: int = 0, rest: Rest | None = None
    ) -> Iterator[Bar]:
        """See `Reporter.bar`."""
        count = Countdown(total, done, self.clock)
        if not is_interactive(self.console):
            yield _Lines(self, text, count, rest or count.rest)
            return
        columns = (
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(min_width=8, max_width=30)),
            _CountColumn(table_column=Column(no_wrap=True)),
            _TimeColumn(table_column=Column(no_wrap=True)),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(
                plain(text), total=total, completed=done, rest=rest or count.rest
            )
            yield _RichBar(progress, task, count)


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
    def __init__(self, progress: Progress, task: TaskID, count: Countdown) -> None:
        self._progress, self._task, self._count = progress, task, count

    def advance(self, steps: int = 1) -> None:
        """Advance the bar by some steps."""
        self.reach(int(self._count.done) + steps)

    def reach(self, done: int) -> None:
        """Move the bar to a number of steps."""
        self._count.reach(done)
        self._progress.update(self._task, completed=done)

    def describe(self, text: str) -> None:
        """Change the text before the bar."""
        self._progress.update(self._task, description=plain(text))


class _CountColumn(ProgressColumn):
    """How many steps are done; nothing if their number is not known."""

    def render(self, task: Task) -> Text:
        """Return for example "1,200/5,000"."""
        if task.total is None:
            return Text()
        done, total = f"{int(task.completed):,}", f"{int(task.total):,}"
        return Text(f"{done:>{len(total)}}/{total}", style="progress.download")


class _TimeColumn(ProgressColumn):
    """The time that is left, or the time so far as long as nothing is known about the rest."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return for example "3 to 8 min left"."""
        rest = None if task.finished else task.fields["rest"]()
        said = f"{rest} left" if rest is not None else format_seconds(task.elapsed or 0.0)
        return Text(said, style="progress.remaining")


class _Lines:
    """Progress in lines, where there is no terminal: few of them, and none about short work."""

    def __init__(self, reporter: ConsoleReporter, text: str, count: Countdown, rest: Rest) -> None:
        self._reporter, self._text, self._count, self._rest = reporter, text, count, rest
        self._next = reporter.clock() + FIRST_LINE_SECONDS
        self._said: tuple[float, Range] | None = None

    def advance(self, steps: int = 1) -> None:
        """Note that some steps are done."""
        self.reach(int(self._count.done) + steps)

    def reach(self, done: int) -> None:
        """Note how many steps are done, and say a line if one is due."""
        self._count.reach(done)
        now = self._reporter.clock()
        if now < self._next:
            return
        rest = self._rest()
        if rest is None or self._count.total is None or not self._is_news(rest, now):
            return
        self._reporter.say(f"{self._text}: {done:,} of {self._count.total:,}, {rest} left.")
        self._said = now, rest
        self._next = now + QUIET_SECONDS

    def _is_news(self, rest: Range, now: float) -> bool:
        if self._said is None:
            return rest.middle > QUIET_SECONDS
        then, said = self._said
        if now - then >= LINE_SECONDS:
            return True
        expected, found = max(1.0, said.middle - (now - then)), max(1.0, rest.middle)
        changed = max(expected, found) / min(expected, found) >= CHANGED
        return changed and max(expected, found) > QUIET_SECONDS

    def describe(self, text: str) -> None:
        """Change the text of the next line."""
        self._text = text

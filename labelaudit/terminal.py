"""What every command shares: errors in one line, exit codes, and progress for a person who waits."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from labelaudit.errors import LabelauditError, LabelauditWarning, OptionError
from labelaudit.progress import plain

if TYPE_CHECKING:
    from labelaudit.progress import Reporter

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


@contextmanager
def for_people(
    *,
    several_processes: bool = False,
    interrupted: str = "Interrupted before there was a ranking; --resume goes on where it can.",
) -> Iterator[None]:
    """Turn errors meant for people into one line and exit code 2.

    Parameters
    ----------
    several_processes
        Whether torchrun may start the command.
    interrupted
        What to say after Ctrl-C.
    """
    errors = Console(stderr=True)
    try:
        if "TORCHELASTIC_RUN_ID" in os.environ and not several_processes:
            if not leads():
                raise typer.Exit
            raise OptionError(
                "torchrun started this, and only `labelaudit scan` shares its processes; start this"
                " command without it"
            )
        with warnings.catch_warnings():
            # What these say is printed in our own words.
            warnings.simplefilter("ignore", LabelauditWarning)
            yield
    except LabelauditError as error:
        errors.print(
            f"[bold red]error:[/bold red] {plain(str(error))}", soft_wrap=True, highlight=False
        )
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except SystemExit as done:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            # A process that has helped ends at once: gloo's threads sometimes abort an interpreter
            # that shuts down, and torchrun would end all other processes then.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(done.code or 0))
        raise
    except OSError as error:
        # Files that labelaudit keeps raise an OutputError. This is standard output (`> file` on a full
        # disk), or a temporary file.
        if error.errno != errno.ENOSPC:
            raise
        errors.print(
            f"[bold red]error:[/bold red] cannot write: {error.strerror}; make room, or redirect the"
            " output to another disk",
            soft_wrap=True,
            highlight=False,
        )
        _drop_unprinted()
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:
        if leads():
            errors.print(interrupted)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _drop_unprinted() -> None:
    """Forget what could not be printed, or Python would fail with it once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leads() -> bool:
    """Whether this is the first of the processes that torchrun started, or it started none."""
    return os.environ.get("RANK", "0") == "0" or "TORCHELASTIC_RUN_ID" not in os.environ


def reporter() -> Reporter:
    """Give what tells a person of progress, on standard error."""
    from labelaudit.progress import ConsoleReporter

    return ConsoleReporter(Console(stderr=True))

"""Parts that all commands share: options, errors in one line, exit codes, and progress."""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import Field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from rich.console import Console

from labelaudit.errors import LabelauditError, LabelauditWarning, OptionError, SourceError
from labelaudit.files import FULL_DISK, exists
from labelaudit.options import ScanOptions
from labelaudit.progress import ConsoleReporter, Reporter, plain
from labelaudit.version import installed_version

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

# An option as messages and help texts name it: `id_column`, or `force=True`.
OPTION = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")
# Types of the options. Where the annotation has a numpy type, `typed` has the type on the command line.
TYPES = get_type_hints(ScanOptions, localns={"np": SimpleNamespace(ndarray=Path)})
QUOTES = "'\""
# Names that the command line spells differently.
SPELLINGS = {
    "source": "SOURCE",
    "labels": "LABELS",
    "corrections": "CORRECTIONS",
    "run": "RUN",
    "methods": "--method",
    "rates": "--rate",
    "all_samples": "--all",
}


# --- options ------------------------------------------------------------------------------------


def as_typed(text: str) -> str:
    """Return a text with options as they are typed: `id_column` becomes ``--id-column``."""

    def spell(found: re.Match[str]) -> str:
        name, value = found.groups()
        typed = SPELLINGS.get(name, f"--{name.replace('_', '-')}")
        return typed if value in (None, "True") else f"{typed} {value.strip(QUOTES)}"

    return OPTION.sub(spell, text)


def takes_scan_options(*names: str) -> Callable[[Command], Command]:
    """Replace a command's ``**options`` by the named options of a scan, or by all of them."""
    chosen = [one for one in fields(ScanOptions) if not names or one.name in names]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        made = [_parameter(one) for one in chosen]
        new = signature.replace(parameters=[*own, *made])
        command.__signature__ = new  # type: ignore[attr-defined]
        return command

    return decorate


def _parameter(one: Field[Any]) -> inspect.Parameter:
    """Return the parameter of a signature from which typer makes the option."""
    metadata = one.metadata
    typed = metadata["typed"] or TYPES[one.name]
    flag = f"--{one.name.replace('_', '-')}"
    if metadata["opposite"]:
        flag += f"/--{metadata['opposite']}"
    info = typer.Option(
        flag,
        metavar=metadata["metavar"],
        help=as_typed(metadata["help"]),
        show_default=metadata["shown_default"] or True,
    )
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=one.default,
        annotation=Annotated[typed, info],
    )


def check_exist(paths: Collection[Path], what: str) -> None:
    """Raise `SourceError` if a path does not exist, before slow imports.

    Under torchrun nothing is checked here, because `labelaudit.scan` raises it once for all processes.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return
    for path in paths:
        if not exists(path):
            raise SourceError(f"{path} does not exist; check the path of {what}")


# --- what is printed ----------------------------------------------------------------------------


@contextmanager
def for_people(
    *,
    several_processes: bool = False,
    interrupted: str = "Interrupted. Nothing was written.",
) -> Iterator[None]:
    """Print errors meant for people in one line, and exit with code 2.

    `interrupted` is the message after Ctrl-C, if the exception has none.
    """
    _print_any_name()
    errors = Console(stderr=True)
    try:
        if "TORCHELASTIC_RUN_ID" in os.environ and not several_processes:
            if not leads():
                raise typer.Exit
            raise OptionError(
                "only `labelaudit scan` runs in several processes; start this command without"
                " torchrun"
            )
        with warnings.catch_warnings():
            # The command prints these warnings in its own words.
            warnings.simplefilter("ignore", LabelauditWarning)
            yield
    except LabelauditError as error:
        errors.print(
            f"[bold red]error:[/bold red] {plain(as_typed(str(error)))}",
            soft_wrap=True,
            highlight=False,
        )
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except SystemExit as done:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            # End at once, because gloo's threads sometimes abort an interpreter that shuts down, and
            # torchrun would then end all other processes.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(done.code or 0))
        raise
    except MemoryError:
        errors.print(
            "[bold red]error:[/bold red] this machine does not have enough free memory; use fewer or"
            " smaller samples, or a machine with more memory",
            soft_wrap=True,
            highlight=False,
        )
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except OSError as error:
        # Result files raise an OutputError. This is standard output (`> file` on a full disk), or a
        # temporary file.
        if error.errno not in FULL_DISK:
            raise
        errors.print(
            f"[bold red]error:[/bold red] cannot write: {error.strerror}; make room, or redirect the"
            " output to another disk",
            soft_wrap=True,
            highlight=False,
        )
        _drop_unprinted()
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt as stop:
        if leads():
            said = plain(as_typed(str(stop) or interrupted))
            errors.print(said, soft_wrap=True, highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _print_any_name() -> None:
    """Print names that the encoding of the output cannot hold as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_unprinted() -> None:
    """Discard unprinted output, because Python would fail again on it when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leads() -> bool:
    """Whether this is the only process, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0" or "TORCHELASTIC_RUN_ID" not in os.environ


class CommandReporter(ConsoleReporter):
    """Shows progress on standard error and spells options as they are typed."""

    def say(self, text: str) -> None:
        """See `Reporter.say`."""
        super().say(as_typed(text))

    def warn(self, text: str) -> None:
        """See `Reporter.warn`."""
        super().warn(as_typed(text))


@contextmanager
def loading(progress: Reporter) -> Iterator[None]:
    """Show that heavy libraries are imported while the context lasts."""
    with progress.bar("loading libraries") if leads() else nullcontext():
        yield


def reporter(doing: str | None = None) -> CommandReporter:
    """Return the reporter of a command.

    It shows at once what the command is `doing`, because torch takes seconds to import.
    """
    made = CommandReporter(Console(stderr=True))
    if doing is not None and leads():
        made.say(f"labelaudit {installed_version()}: {doing}")
    return made

"""Write docs/reference/cli.md from the code: ``python docs/reference/make_cli.py``.

A test fails when the page is not what this program writes.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from typer.main import get_command

from labelaudit.cli import app
from labelaudit.options import ScanOptions
from labelaudit.terminal import as_typed

PAGE = Path(__file__).with_name("cli.md")
COMMANDS = ("scan", "review", "apply", "diff", "export", "report", "embed", "eval", "demo")
DETAILS = {one.name: one.metadata["details"] for one in fields(ScanOptions)}
INTRODUCTION = """\
# Command line

<!-- Written by docs/reference/make_cli.py. Change the help texts in labelaudit/options.py,
labelaudit/cli.py and labelaudit/cli_review.py instead, and run it again. -->

Results are printed to standard output. Progress, warnings and errors are printed to standard error.

| exit code | meaning |
|---|---|
| 0 | The command has finished. |
| 1 | `eval` has finished, but some cells failed. |
| 2 | The input cannot be used. One line says what is wrong, where, and how to mend it. |
| 130 | The command was interrupted. If an epoch had ended, the ranking so far was written. |

`labelaudit --version` shows the version. `labelaudit COMMAND --help` shows the options of a command.
"""


def page() -> str:
    """Give the page in Markdown."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    unlisted = set(commands) - set(COMMANDS)
    assert not unlisted, f"COMMANDS lacks {unlisted}"
    return "\n".join([INTRODUCTION, *(_section(name, commands[name]) for name in COMMANDS)])


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    needed = [f"{p.opts[0]} {_value(p)}" for p in options if p.required]
    places = [p.metavar if p.required else f"[{p.metavar}]" for p in arguments]
    usage = ["labelaudit", name, *places, *needed, *(["[OPTIONS]"] if options else [])]
    lines = [f"## labelaudit {name}", "", f"    {' '.join(usage)}", "", command.help, ""]
    lines += ["| argument | meaning |", "|---|---|"]
    lines += [f"| `{p.metavar}` | {p.help} |" for p in arguments]
    if not arguments:
        del lines[-2:]
    if options:
        lines += [""] if arguments else []
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| {_spellings(p)} | {_meaning(p, details=name == 'scan')} |" for p in options]
    return "\n".join(lines) + "\n"


def _spellings(option: Any) -> str:
    names = ", ".join(f"`{one}`" for one in (*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} {_value(option)}"


def _value(option: Any) -> str:
    last_word = option.opts[0].rpartition("-")[2]
    return (option.metavar or last_word.upper()).replace("|", " or ")


def _meaning(option: Any, *, details: bool) -> str:
    text = option.help
    if details and DETAILS[option.name]:
        text += " " + as_typed(DETAILS[option.name])
    if isinstance(option.show_default, str):
        text += f" Default: `{option.show_default}`."
    elif option.default is not None and not option.is_flag:
        text += f" Default: `{option.default}`."
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

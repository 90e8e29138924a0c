"""How an option is declared: a field of a dataclass that carries its help."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def option(
    default: Any,
    help: str,
    *,
    details: str = "",
    in_python: str = "",
    metavar: str | None = None,
    opposite: str | None = None,
    typed: Any = None,
    shown_default: str | None = None,
    least: float | None = None,
) -> Any:
    """Declare an option of a dataclass.

    Parameters
    ----------
    default
        The default value.
    help
        One or two sentences for ``--help``.
    details
        Further sentences for the reference page.
    in_python
        Further sentences for the docstring of `labelaudit.scan`.
    metavar
        Name of the value in ``--help``.
    opposite
        Name of the option for False on the command line, if there is one.
    typed
        Type on the command line, if it differs from the type of the field.
    shown_default
        Text in ``--help`` for a default that depends on the data.
    least
        The smallest number that is accepted.
    """
    metadata = {
        "help": help,
        "details": details,
        "in_python": in_python,
        "metavar": metavar,
        "opposite": opposite,
        "typed": typed,
        "shown_default": shown_default,
        "least": least,
    }
    return field(default=default, metadata=metadata)

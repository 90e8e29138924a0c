"""Errors meant for people.

The message of each is one line that says what is wrong, where, and how to correct it. The command line
prints it without a traceback and exits with code 2. Any other exception is a bug in labelaudit.
"""

LONGEST = 900  # characters of a message


def one_line(text: str) -> str:
    """Return a text as one line of printable characters, shortened in the middle if it is long.

    Names of columns, files and classes may hold line ends, control characters and halves of
    surrogate pairs, which no terminal shows and some cannot print. They are written as escapes.
    """
    text = text.strip()
    if not text.isprintable():
        text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST * 2 // 3]} … {text[-LONGEST // 3 :]}"
    return text


class LabelauditError(ValueError):
    """Base class of all errors that are caused by the input. Its message is one printable line."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class SourceError(LabelauditError):
    """The samples or labels cannot be used."""


class OptionError(LabelauditError):
    """The value of an option cannot be used, or not with these data."""


class OutputError(LabelauditError):
    """The results cannot be written to the requested place."""


class WriteError(OutputError):
    """A file could not be written, for example because the disk is full. Room on the disk mends it."""


class LabelauditWarning(UserWarning):
    """Base class of all warnings about a result. The command line prints its own text instead."""


class UntrustedResultWarning(LabelauditWarning):
    """The result should not be trusted, because the predictions know too little about the classes."""

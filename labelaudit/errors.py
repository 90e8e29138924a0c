"""Errors meant for people.

The message of each is one line that says what is wrong, where, and how to correct it. The command line
prints it without a traceback and exits with code 2. Any other exception is a bug in labelaudit.
"""


class LabelauditError(ValueError):
    """Base class of all errors that are caused by the input."""


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

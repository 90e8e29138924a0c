"""Errors meant for people.

Each carries one line that says what is wrong, where, and how to mend it. The CLI prints that line
without a traceback and exits with code 2; from Python they are ordinary exceptions. Anything else
that escapes labelaudit is a bug in labelaudit.
"""


class LabelauditError(ValueError):
    """Base of every error that is the input's, not the program's."""


class SourceError(LabelauditError):
    """The images or the labels cannot be used as they are."""


class OptionError(LabelauditError):
    """An option's value cannot be used, alone or with the data at hand."""


class OutputError(LabelauditError):
    """The results cannot be written where they were asked for."""


class LabelauditWarning(UserWarning):
    """Base of every warning about a result; the CLI prints its own words instead."""


class UntrustedResultWarning(LabelauditWarning):
    """The result should not be trusted: what labels were held against knows too little."""

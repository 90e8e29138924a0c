"""labelaudit finds the wrong labels in an image data set.

::

    import labelaudit

    result = labelaudit.scan("images", "labels.csv", out="audit")
    result.suspects  # a data frame, worst first
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelaudit.data.manifest import Source, source_from_arrays
    from labelaudit.data.sources import read_source
    from labelaudit.embedding import embed
    from labelaudit.errors import (
        LabelauditError,
        LabelauditWarning,
        OptionError,
        OutputError,
        SourceError,
        UntrustedResultWarning,
    )
    from labelaudit.evaluation import EvalResult, evaluate
    from labelaudit.pipeline import scan
    from labelaudit.predictions import LabelIssues, find_label_issues
    from labelaudit.reporting.tables import read_csv
    from labelaudit.result import ScanResult
    from labelaudit.training.recorder import EpsilonHistory, EpsilonRecorder

__all__ = [
    "EpsilonHistory",
    "EpsilonRecorder",
    "EvalResult",
    "LabelIssues",
    "LabelauditError",
    "LabelauditWarning",
    "OptionError",
    "OutputError",
    "ScanResult",
    "Source",
    "SourceError",
    "UntrustedResultWarning",
    "embed",
    "evaluate",
    "find_label_issues",
    "read_csv",
    "read_source",
    "scan",
    "source_from_arrays",
]

# Loaded when first asked for: torch takes seconds, and `labelaudit --help` does without it.
_HOMES = {
    "EpsilonHistory": "labelaudit.training.recorder",
    "EpsilonRecorder": "labelaudit.training.recorder",
    "EvalResult": "labelaudit.evaluation",
    "LabelIssues": "labelaudit.predictions",
    "LabelauditError": "labelaudit.errors",
    "LabelauditWarning": "labelaudit.errors",
    "OptionError": "labelaudit.errors",
    "OutputError": "labelaudit.errors",
    "ScanResult": "labelaudit.result",
    "Source": "labelaudit.data.manifest",
    "SourceError": "labelaudit.errors",
    "UntrustedResultWarning": "labelaudit.errors",
    "embed": "labelaudit.embedding",
    "evaluate": "labelaudit.evaluation",
    "find_label_issues": "labelaudit.predictions",
    "read_csv": "labelaudit.reporting.tables",
    "read_source": "labelaudit.data.sources",
    "scan": "labelaudit.pipeline",
    "source_from_arrays": "labelaudit.data.manifest",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'labelaudit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

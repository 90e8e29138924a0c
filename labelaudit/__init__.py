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
    from labelaudit.corrections.apply import Applied, apply_corrections
    from labelaudit.corrections.diff import RunDiff, diff_runs
    from labelaudit.corrections.exports import export_run
    from labelaudit.corrections.reading import read_corrections
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
    from labelaudit.reporting.rerender import render_report
    from labelaudit.reporting.tables import read_csv
    from labelaudit.result import ScanResult
    from labelaudit.training.recorder import EpsilonHistory, EpsilonRecorder

__all__ = [
    "Applied",
    "EpsilonHistory",
    "EpsilonRecorder",
    "EvalResult",
    "LabelIssues",
    "LabelauditError",
    "LabelauditWarning",
    "OptionError",
    "OutputError",
    "RunDiff",
    "ScanResult",
    "Source",
    "SourceError",
    "UntrustedResultWarning",
    "apply_corrections",
    "diff_runs",
    "embed",
    "evaluate",
    "export_run",
    "find_label_issues",
    "read_corrections",
    "read_csv",
    "read_source",
    "render_report",
    "scan",
    "source_from_arrays",
]

# Loaded when first asked for: torch takes seconds, and `labelaudit --help` does without it.
_HOMES = {
    "Applied": "labelaudit.corrections.apply",
    "EpsilonHistory": "labelaudit.training.recorder",
    "EpsilonRecorder": "labelaudit.training.recorder",
    "EvalResult": "labelaudit.evaluation",
    "LabelIssues": "labelaudit.predictions",
    "LabelauditError": "labelaudit.errors",
    "LabelauditWarning": "labelaudit.errors",
    "OptionError": "labelaudit.errors",
    "OutputError": "labelaudit.errors",
    "RunDiff": "labelaudit.corrections.diff",
    "ScanResult": "labelaudit.result",
    "Source": "labelaudit.data.manifest",
    "SourceError": "labelaudit.errors",
    "UntrustedResultWarning": "labelaudit.errors",
    "apply_corrections": "labelaudit.corrections.apply",
    "diff_runs": "labelaudit.corrections.diff",
    "embed": "labelaudit.embedding",
    "evaluate": "labelaudit.evaluation",
    "export_run": "labelaudit.corrections.exports",
    "find_label_issues": "labelaudit.predictions",
    "read_corrections": "labelaudit.corrections.reading",
    "read_csv": "labelaudit.reporting.tables",
    "read_source": "labelaudit.data.sources",
    "render_report": "labelaudit.reporting.rerender",
    "scan": "labelaudit.pipeline",
    "source_from_arrays": "labelaudit.data.manifest",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'labelaudit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

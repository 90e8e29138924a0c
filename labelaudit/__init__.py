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
    from labelaudit.auditor import LabelAuditor
    from labelaudit.benchmark.evaluation import EvalResult, evaluate
    from labelaudit.corrections.apply import Applied, apply_corrections
    from labelaudit.corrections.diff import RunDiff, diff_runs
    from labelaudit.corrections.exports import export_run
    from labelaudit.corrections.reading import read_corrections
    from labelaudit.errors import (
        LabelauditError,
        LabelauditWarning,
        OptionError,
        OutputError,
        SourceError,
        UntrustedResultWarning,
    )
    from labelaudit.features.embed import embed
    from labelaudit.label_issues import LabelIssues, find_label_issues
    from labelaudit.pipeline import scan
    from labelaudit.reporting.result import ScanResult
    from labelaudit.reporting.tables import read_csv
    from labelaudit.review.rerender import render_report
    from labelaudit.sources.arrays import source_from_arrays
    from labelaudit.sources.folders import read_source
    from labelaudit.sources.manifest import Source
    from labelaudit.training.recorder import EpsilonHistory, EpsilonRecorder

__all__ = [
    "Applied",
    "EpsilonHistory",
    "EpsilonRecorder",
    "EvalResult",
    "LabelAuditor",
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
    "EvalResult": "labelaudit.benchmark.evaluation",
    "LabelAuditor": "labelaudit.auditor",
    "LabelIssues": "labelaudit.label_issues",
    "LabelauditError": "labelaudit.errors",
    "LabelauditWarning": "labelaudit.errors",
    "OptionError": "labelaudit.errors",
    "OutputError": "labelaudit.errors",
    "RunDiff": "labelaudit.corrections.diff",
    "ScanResult": "labelaudit.reporting.result",
    "Source": "labelaudit.sources.manifest",
    "SourceError": "labelaudit.errors",
    "UntrustedResultWarning": "labelaudit.errors",
    "apply_corrections": "labelaudit.corrections.apply",
    "diff_runs": "labelaudit.corrections.diff",
    "embed": "labelaudit.features.embed",
    "evaluate": "labelaudit.benchmark.evaluation",
    "export_run": "labelaudit.corrections.exports",
    "find_label_issues": "labelaudit.label_issues",
    "read_corrections": "labelaudit.corrections.reading",
    "read_csv": "labelaudit.reporting.tables",
    "read_source": "labelaudit.sources.folders",
    "render_report": "labelaudit.review.rerender",
    "scan": "labelaudit.pipeline",
    "source_from_arrays": "labelaudit.sources.arrays",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'labelaudit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""labelaudit finds the wrong labels in a data set.

::

    import labelaudit

    result = labelaudit.scan("images", "labels.csv", out="audit")
    result.suspects  # a data frame, the most suspect label first
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelaudit.auditor import LabelAuditor as LabelAuditor
    from labelaudit.benchmark.datasets import Dataset as Dataset
    from labelaudit.benchmark.evaluation import EvalResult as EvalResult
    from labelaudit.benchmark.evaluation import evaluate as evaluate
    from labelaudit.corrections.apply import Applied as Applied
    from labelaudit.corrections.apply import apply_corrections as apply_corrections
    from labelaudit.corrections.diff import RunDiff as RunDiff
    from labelaudit.corrections.diff import diff_runs as diff_runs
    from labelaudit.corrections.exports import export_run as export_run
    from labelaudit.corrections.reading import read_corrections as read_corrections
    from labelaudit.corrections.run import Run as Run
    from labelaudit.errors import LabelauditError as LabelauditError
    from labelaudit.errors import LabelauditWarning as LabelauditWarning
    from labelaudit.errors import OptionError as OptionError
    from labelaudit.errors import OutputError as OutputError
    from labelaudit.errors import SourceError as SourceError
    from labelaudit.errors import UntrustedResultWarning as UntrustedResultWarning
    from labelaudit.features.embed import embed as embed
    from labelaudit.label_issues import LabelIssues as LabelIssues
    from labelaudit.label_issues import find_label_issues as find_label_issues
    from labelaudit.options import ScanKeywords as ScanKeywords
    from labelaudit.pipeline import scan as scan
    from labelaudit.progress import ConsoleReporter as ConsoleReporter
    from labelaudit.progress import Reporter as Reporter
    from labelaudit.reporting.tables import read_csv as read_csv
    from labelaudit.review.rerender import render_report as render_report
    from labelaudit.scan_result import ScanResult as ScanResult
    from labelaudit.sources.arrays import source_from_arrays as source_from_arrays
    from labelaudit.sources.feature_tables import FeatureSource as FeatureSource
    from labelaudit.sources.folders import read_source as read_source
    from labelaudit.sources.manifest import Source as Source
    from labelaudit.suspects.summary import AuditSummary as AuditSummary
    from labelaudit.suspects.summary import Summary as Summary
    from labelaudit.training.recorder import EpsilonHistory as EpsilonHistory
    from labelaudit.training.recorder import EpsilonRecorder as EpsilonRecorder

# Imported when first used: torch takes seconds to import, and `labelaudit --help` does not need it.
_MODULES = {
    "labelaudit.auditor": "LabelAuditor",
    "labelaudit.benchmark.datasets": "Dataset",
    "labelaudit.benchmark.evaluation": "EvalResult evaluate",
    "labelaudit.corrections.apply": "Applied apply_corrections",
    "labelaudit.corrections.diff": "RunDiff diff_runs",
    "labelaudit.corrections.exports": "export_run",
    "labelaudit.corrections.reading": "read_corrections",
    "labelaudit.corrections.run": "Run",
    "labelaudit.errors": "LabelauditError LabelauditWarning OptionError OutputError SourceError"
    " UntrustedResultWarning",
    "labelaudit.features.embed": "embed",
    "labelaudit.label_issues": "LabelIssues find_label_issues",
    "labelaudit.options": "ScanKeywords",
    "labelaudit.pipeline": "scan",
    "labelaudit.progress": "ConsoleReporter Reporter",
    "labelaudit.scan_result": "ScanResult",
    "labelaudit.reporting.tables": "read_csv",
    "labelaudit.review.rerender": "render_report",
    "labelaudit.sources.feature_tables": "FeatureSource",
    "labelaudit.sources.folders": "read_source",
    "labelaudit.sources.arrays": "source_from_arrays",
    "labelaudit.sources.manifest": "Source",
    "labelaudit.suspects.summary": "AuditSummary Summary",
    "labelaudit.training.recorder": "EpsilonHistory EpsilonRecorder",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'labelaudit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

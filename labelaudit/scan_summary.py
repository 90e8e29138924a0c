"""The summary that `labelaudit scan` prints at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from labelaudit.progress import plain
from labelaudit.reporting.run_files import CHECKPOINTS
from labelaudit.terminal import EXIT_INTERRUPTED, as_typed

if TYPE_CHECKING:
    from labelaudit.scan_result import ScanResult
    from labelaudit.suspects.summary import Summary, VoteSummary

SHOWN_SUSPECTS = 10


def show_scan(result: ScanResult) -> None:
    """Print whether to trust the ranking, the worst suspects, explanations, and what to do next."""
    console, summary = Console(), result.summary
    trustworthy = summary.trust.trustworthy
    if not trustworthy:
        first, *others = summary.trust.reasons
        told = plain(as_typed(f"Do not trust this ranking. {first}"))
        console.print(told, style="bold red", highlight=False)
        for reason in others:
            _say(console, f"  {reason}")
    if summary.status != "complete":
        _say(console, _ended_early(result))
    if len(result.suspects):
        console.print(_suspects_table(result))
    verified = summary.num_verified
    console.print(
        f"{summary.num_suspects:,} of {summary.num_labeled - verified:,} labels"
        f"{' that nobody has verified' if verified else ''}"
        f" {'look wrong.' if trustworthy else 'were flagged, but do not trust this.'}",
        style="bold",
        highlight=False,
    )
    for text in _explanations(summary):
        _say(console, text)
    if result.run_dir is not None:
        _show_next(result, console)
    if summary.status == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)


def _say(console: Console, text: str) -> None:
    console.print(plain(as_typed(text)), highlight=False)


def _ended_early(result: ScanResult) -> str:
    """Return that training ended early, and how to go on, if that is possible."""
    epochs = "1 epoch" if result.summary.epochs == 1 else f"{result.summary.epochs} epochs"
    ended = f"Training ended early ({result.summary.status}) after {epochs}"
    folder = result.run_dir
    if folder is not None and any((folder / name).is_file() for name in CHECKPOINTS):
        return f"{ended}; `resume=True` continues it."
    return f"{ended}, before anything was saved to continue from; `force=True` starts again."


def _explanations(summary: Summary) -> Iterator[str]:
    """Yield explanations of the counts, each in one or two sentences."""
    trustworthy = summary.trust.trustworthy
    yield summary.threshold.explanation
    if summary.score.assumption and trustworthy:
        yield summary.score.assumption
    if summary.votes and trustworthy and (annotators := _annotators(summary.votes)):
        yield annotators
    if summary.mistakes and trustworthy:
        yield summary.mistakes.explanation
    if summary.checked:
        yield summary.checked.explanation
    if summary.review.explanation:
        yield summary.review.explanation
    if summary.duplicates:
        yield f"{summary.duplicates} the same, or nearly, and labeled differently."
    metrics = summary.metrics
    if metrics.precision is not None:
        known = [(name, getattr(metrics, name)) for name in ("precision", "recall", "f1", "auroc")]
        measured = ", ".join(f"{name} {value:.3f}" for name, value in known if value is not None)
        yield f"Against the truth ({metrics.num_wrong:,} labels are wrong): {measured}."


def _annotators(votes: VoteSummary) -> str:
    """Say how often each annotator is right, the best first; "" if it is not known."""
    known = [
        (one.estimated_accuracy, one.name)
        for one in votes.annotators
        if one.estimated_accuracy is not None
    ]
    shown = [f"{name} {right:.0%}" for right, name in sorted(known, key=lambda pair: -pair[0])]
    if len(shown) > SHOWN_SUSPECTS:
        shown = [*shown[: SHOWN_SUSPECTS - 1], "…", shown[-1]]
    return f"Estimated share of right labels by annotator: {', '.join(shown)}." if shown else ""


def _show_next(result: ScanResult, console: Console) -> None:
    """Print where the files are, and what to do next."""
    lines = [("To look at:", "report.html")]
    if len(result.duplicates):
        lines.insert(0, ("Duplicates:", "duplicates.csv"))
    if found := result.summary.trust.trustworthy and len(result.suspects):
        lines.append(("Suspects:", "suspects.csv"))
    folder = plain(str(result.run_dir))
    for title, name in lines:
        console.print(f"{title:<12} {folder}/{name}", soft_wrap=True, highlight=False)
    if found:
        console.print(f"Next:        labelaudit review {folder}", soft_wrap=True, highlight=False)


def _suspects_table(result: ScanResult) -> Table:
    table = Table(title="The most suspect labels", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("sample", overflow="ellipsis", no_wrap=True, max_width=44)
    table.add_column("given", overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column("suggested", overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column("score", justify="right")
    table.add_column("ambiguity", justify="right")
    for row in result.suspects.head(SHOWN_SUSPECTS).itertuples(index=False):
        table.add_row(
            str(row.rank),
            plain(str(row.sample_id)),
            plain(str(row.given_label)),
            plain(str(row.suggested_label)),
            f"{row.suspect_score:.3f}",
            f"{row.ambiguity:.2f}",
        )
    return table

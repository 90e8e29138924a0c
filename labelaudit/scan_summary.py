"""What `labelaudit scan` prints when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from labelaudit.progress import plain
from labelaudit.terminal import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from labelaudit.reporting.result import ScanResult

SHOWN_SUSPECTS = 10


def show_scan(result: ScanResult) -> None:
    """End with a verdict, a short table of the worst suspects and where the files are."""
    console = Console()
    summary = result.summary
    if not summary["trust"]["trustworthy"]:
        console.print("[bold red]Do not trust this ranking.[/bold red]")
        for reason in summary["trust"]["reasons"]:
            console.print(f"  {plain(reason)}", highlight=False)
    if summary["status"] != "complete":
        console.print(
            f"Training ended early ({summary['status']}) after {summary['epochs']} epochs;"
            " --resume goes on with it.",
            highlight=False,
        )
    if len(result.suspects):
        console.print(_suspects_table(result))
    looks = (
        "look wrong." if summary["trust"]["trustworthy"] else "were flagged, but do not trust this."
    )
    verified = summary["num_verified"]
    console.print(
        f"{summary['num_suspects']:,} of {summary['num_labeled'] - verified:,} labels"
        f"{' that nobody has verified' if verified else ''} {looks}",
        style="bold",
        highlight=False,
    )
    console.print(plain(summary["threshold"]["explanation"]), highlight=False)
    if summary["score"]["assumption"] and summary["trust"]["trustworthy"]:
        console.print(summary["score"]["assumption"], highlight=False)
    if summary["mistakes"] and summary["trust"]["trustworthy"]:
        console.print(summary["mistakes"]["explanation"], highlight=False)
    if summary["checked"]:
        console.print(summary["checked"]["explanation"], highlight=False)
    if summary["review"]["explanation"]:
        console.print(summary["review"]["explanation"], highlight=False)
    if count := summary["num_conflicting_duplicates"]:
        console.print(
            f"{count:,} {'pair' if count == 1 else 'pairs'} of samples {'is' if count == 1 else 'are'}"
            " the same, or nearly, and labeled differently.",
            highlight=False,
        )
    metrics = summary["metrics"]
    if metrics["precision"] is not None:
        told = ", ".join(
            f"{name.replace('_', ' ')} {metrics[name]:.3f}"
            for name in ("precision", "recall", "f1", "auroc")
            if metrics[name] is not None
        )
        console.print(
            f"Against the truth ({metrics['num_wrong']:,} labels are wrong): {told}.",
            highlight=False,
        )
    if result.run_dir is not None:
        _show_next(result, console)
    if summary["status"] == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)


def _show_next(result: ScanResult, console: Console) -> None:
    """Say where the files are, and what to do next."""
    assert result.run_dir is not None
    folder = plain(str(result.run_dir))
    if len(result.duplicates):
        console.print(f"Duplicates:  {folder}/duplicates.csv", soft_wrap=True, highlight=False)
    console.print(f"To look at:  {folder}/report.html", soft_wrap=True, highlight=False)
    if result.summary["trust"]["trustworthy"] and len(result.suspects):
        console.print(f"Suspects:    {folder}/suspects.csv", soft_wrap=True, highlight=False)
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

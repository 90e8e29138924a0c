"""The command line: parse, call the Python API, print. Heavy imports stay inside the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from labelaudit.errors import LabelauditError

if TYPE_CHECKING:
    from labelaudit.progress import Reporter
    from labelaudit.result import ScanResult

app = typer.Typer(
    name="labelaudit",
    help="Find the wrong labels in an image data set: which, how sure, and what they should be.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
SHOWN_SUSPECTS = 10

Encoder = Annotated[str, typer.Option(help="auto, mlp, conv13, resnet18, resnet50 or resnet101.")]
Epochs = Annotated[
    int | None, typer.Option(help="Passes over the data. By default they follow the data.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[int, typer.Option(help="Decides every random draw.")]
Score = Annotated[
    str, typer.Option(help="Ranking: auto, or epsilon for the rule of the UMN paper.")
]
TimeBudget = Annotated[
    float | None,
    typer.Option(metavar="MINUTES", help="Stop training in time; at least one epoch is trained."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"labelaudit {installed_version('labelaudit')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def scan(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of images; a CSV, TSV, JSONL or parquet file; a folder of parquet"
            " shards.",
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Argument(
            metavar="[LABELS]",
            help="A CSV, TSV, JSONL or parquet file with a path and a label a row. Images without"
            " a label are used as unlabeled.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results.", show_default="labelaudit-<source name>"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a folder that labelaudit wrote.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut off.")
    ] = False,
    image_column: Annotated[
        str | None, typer.Option(help="Column of image paths, if not a usual name.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of labels, if not a usual name.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which split to read, where the source has several.")
    ] = None,
    clean_label_column: Annotated[
        str | None,
        typer.Option(help="Column of true labels: never trained on, only scores the report."),
    ] = None,
    encoder: Encoder = "auto",
    image_size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Longest side at which images are read."),
    ] = None,
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a training step.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    time_budget: TimeBudget = None,
    score: Score = "auto",
    threshold: Annotated[
        str,
        typer.Option(
            help="Which labels are flagged: auto, a score from 0 to 1, top:K, or rate:R with a"
            " share R."
        ),
    ] = "auto",
) -> None:
    """Find suspect labels and write them to suspects.csv, with a page to look at."""
    with _for_people():
        from labelaudit.data.manifest import source_name
        from labelaudit.pipeline import scan as run_scan

        result = run_scan(
            source,
            labels,
            out=out or Path(f"labelaudit-{source_name(source)}"),
            force=force,
            resume=resume,
            image_column=image_column,
            label_column=label_column,
            split=split,
            clean_label_column=clean_label_column,
            encoder=encoder,
            image_size=image_size,
            epochs=epochs,
            batch_size=batch_size,
            device=device,
            seed=seed,
            time_budget=time_budget,
            score=score,
            threshold=threshold,
            reporter=_reporter(),
        )
        _show(result)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the results; an earlier demo there is replaced.")
    ] = Path("labelaudit-demo-digits"),
    rate: Annotated[float, typer.Option(help="Share of the labels that are made wrong.")] = 0.2,
    seed: Seed = 0,
) -> None:
    """Audit scikit-learn's handwritten digits, a fifth of their labels made wrong on purpose."""
    with _for_people():
        from labelaudit.benchmark.demo import corrupted_digits
        from labelaudit.pipeline import scan as run_scan

        data = corrupted_digits(rate, seed)
        _show(run_scan(data, out=out, force=True, seed=seed, reporter=_reporter()))


@contextmanager
def _for_people() -> Iterator[None]:
    """Turn errors meant for people into one line and exit code 2."""
    errors = Console(stderr=True)
    try:
        yield
    except LabelauditError as error:
        errors.print(
            f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True, highlight=False
        )
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:
        errors.print("Interrupted before there was a ranking; --resume goes on where it can.")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _reporter() -> Reporter:
    from labelaudit.progress import ConsoleReporter

    return ConsoleReporter(Console(stderr=True))


def _show(result: ScanResult) -> None:
    """End with a verdict, a short table of the worst suspects and where the files are."""
    console = Console()
    summary = result.summary
    if not summary["trust"]["trustworthy"]:
        console.print("[bold red]Do not trust this ranking.[/bold red]")
        for reason in summary["trust"]["reasons"]:
            console.print(f"  {escape(reason)}", highlight=False)
    if summary["status"] != "complete":
        console.print(
            f"Training ended early ({summary['status']}) after {summary['epochs']} epochs;"
            " --resume goes on with it.",
            highlight=False,
        )
    if len(result.suspects):
        console.print(_suspects_table(result))
    console.print(
        f"{summary['num_suspects']:,} of {summary['num_labeled']:,} labels look wrong.",
        style="bold",
        highlight=False,
    )
    console.print(escape(summary["threshold"]["explanation"]), highlight=False)
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
        console.print(
            f"To relabel:  {escape(str(result.run_dir / 'suspects.csv'))}", soft_wrap=True
        )
        console.print(f"To look at:  {escape(str(result.run_dir / 'report.html'))}", soft_wrap=True)
    if summary["status"] == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)


def _suspects_table(result: ScanResult) -> Table:
    table = Table(title="The most suspect labels", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("sample", overflow="ellipsis", no_wrap=True, max_width=44)
    table.add_column("given", overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column("suggested", overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column("score", justify="right")
    for row in result.suspects.head(SHOWN_SUSPECTS).itertuples(index=False):
        table.add_row(
            str(row.rank),
            escape(str(row.sample_id)),
            escape(str(row.given_label)),
            escape(str(row.suggested_label)),
            f"{row.suspect_score:.3f}",
        )
    return table


def main() -> None:
    """Run the command line."""
    app()

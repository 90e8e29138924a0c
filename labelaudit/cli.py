"""The command line: parse, call the Python API, print. Heavy imports stay inside the commands."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from labelaudit.cli_review import add_review_commands
from labelaudit.errors import OptionError
from labelaudit.progress import plain
from labelaudit.terminal import EXIT_INTERRUPTED, for_people, reporter

if TYPE_CHECKING:
    from labelaudit.benchmark.evaluation import EvalResult
    from labelaudit.reporting.result import ScanResult

app = typer.Typer(
    name="labelaudit",
    help="Find the wrong labels in a data set: which, how sure, and what they should be.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SHOWN_SUSPECTS = 10

ENCODERS = "auto, mlp, conv13, resnet18, resnet50 or resnet101"
Encoder = Annotated[str, typer.Option(help=f"{ENCODERS}.")]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|DEFAULT",
        help="The pretrained network's weights; DEFAULT downloads its own. Without it they must be on"
        " this machine.",
    ),
]
ImageColumn = Annotated[
    str | None, typer.Option(help="Column of image paths, if not a usual name.")
]
LabelColumn = Annotated[str | None, typer.Option(help="Column of labels, if not a usual name.")]
Split = Annotated[
    str | None, typer.Option(help="Which split to read, where the source has several.")
]
Epochs = Annotated[
    int | None, typer.Option(help="Passes over the data. By default they follow the data.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[int, typer.Option(help="Decides every random draw.")]
Score = Annotated[
    str, typer.Option(help="Ranking: auto, posterior, or epsilon for the UMN paper's rule.")
]
Flip = Annotated[
    bool,
    typer.Option(
        "--flip",
        help="Mirror training images left to right at random: for photos, not for digits or signs.",
    ),
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
            " shards. With --features or --tabular a table of labels.",
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
    features: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Features made elsewhere, of anything: a column of lists in SOURCE; a .npy file with"
            " a row for each of its rows; or a .parquet file with ids.",
        ),
    ] = None,
    pred_probs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Out-of-sample class probabilities of your own model; nothing is trained. A .npy file"
            " with one row for each row of SOURCE; or .parquet or .csv with ids and one column per"
            " class. Repeat it for several models.",
        ),
    ] = None,
    tabular: Annotated[
        bool, typer.Option("--tabular", help="SOURCE is a table; its columns are the features.")
    ] = False,
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
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    id_column: Annotated[
        str | None,
        typer.Option(help="Column of the rows' ids, for --features, --pred-probs and --tabular."),
    ] = None,
    split: Split = None,
    clean_label_column: Annotated[
        str | None,
        typer.Option(help="Column of true labels: never trained on, only scores the report."),
    ] = None,
    verified_column: Annotated[
        str | None,
        typer.Option(
            help="Column that says which labels a person has verified (yes), and which samples to leave"
            " out (excluded). Verified labels are taken as right."
        ),
    ] = None,
    reviewed: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="A run folder whose suspects were decided about: its decisions are taken as verified"
            " labels, and its scores are held against them. Repeat it for several.",
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            help=f"{ENCODERS}, trained on these images alone; or a pretrained network, which stays as"
            " it is: of torchvision by its name, of timm as timm:NAME."
        ),
    ] = "auto",
    weights: Weights = None,
    fine_tune: Annotated[
        bool,
        typer.Option(
            "--fine-tune/--freeze",
            help="Train the pretrained network on, at the cost of many passes; frozen, it looks at"
            " each image once.",
        ),
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Longest side at which images are read."),
    ] = None,
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a training step.")] = None,
    flip: Flip = False,
    device: Device = "auto",
    seed: Seed = 0,
    time_budget: TimeBudget = None,
    compile_step: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Try torch.compile on the training step, and keep it if that is faster; for long"
            " runs, above all on a GPU.",
        ),
    ] = False,
    score: Score = "auto",
    threshold: Annotated[
        str,
        typer.Option(
            help="Which labels are flagged: auto, a score from 0 to 1, top:K, or rate:R with a"
            " share R."
        ),
    ] = "auto",
    max_suspects: Annotated[
        int | None,
        typer.Option(metavar="K", help="Show only the K worst suspects in the report."),
    ] = None,
) -> None:
    """Find suspect labels and write them to suspects.csv, with a page to look at."""
    with for_people(several_processes=True):
        from labelaudit.pipeline import scan as run_scan
        from labelaudit.sources.file_tree import source_name

        result = run_scan(
            source,
            labels,
            features=features,
            pred_probs=pred_probs or None,
            tabular=tabular,
            out=out or Path(f"labelaudit-{source_name(source)}"),
            force=force,
            resume=resume,
            image_column=image_column,
            label_column=label_column,
            id_column=id_column,
            split=split,
            clean_label_column=clean_label_column,
            verified_column=verified_column,
            reviewed=reviewed or None,
            encoder=encoder,
            weights=weights,
            fine_tune=fine_tune,
            image_size=image_size,
            epochs=epochs,
            batch_size=batch_size,
            flip=flip,
            device=device,
            seed=seed,
            time_budget=time_budget,
            compile=compile_step,
            score=score,
            threshold=threshold,
            max_suspects=max_suspects,
            reporter=reporter(),
        )
        _show(result)


@app.command()
def embed(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Images and labels, as for scan."),
    ],
    encoder: Annotated[
        str,
        typer.Option(
            help="A pretrained network: of torchvision by its name, of timm as timm:NAME."
        ),
    ],
    labels: Annotated[
        str | None, typer.Argument(metavar="[LABELS]", help="A table of labels, as for scan.")
    ] = None,
    weights: Weights = None,
    image_size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Side of the square that the network reads."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A parquet file, replaced if it is there.")
    ] = Path("features.parquet"),
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split: Split = None,
    device: Device = "auto",
) -> None:
    """Write the features that a pretrained network sees in images, for scan --features."""
    with for_people():
        from labelaudit.features.embed import embed as run_embed

        run_embed(
            source,
            labels,
            encoder=encoder,
            weights=weights,
            image_size=image_size,
            out=out,
            image_column=image_column,
            label_column=label_column,
            split=split,
            device=device,
            reporter=reporter(),
        )
        Console().print(f"Features: {plain(str(out))}", soft_wrap=True, highlight=False)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the results; an earlier demo there is replaced.")
    ] = Path("labelaudit-demo-digits"),
    rate: Annotated[float, typer.Option(help="Share of the labels that are made wrong.")] = 0.2,
    seed: Seed = 0,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write images and labels.csv there as well, to try the other commands on.",
        ),
    ] = None,
) -> None:
    """Audit scikit-learn's handwritten digits, a fifth of their labels made wrong on purpose."""
    with for_people():
        from labelaudit.benchmark.demo import corrupted_digits, write_digits
        from labelaudit.pipeline import scan as run_scan

        if data is None:
            source = corrupted_digits(rate, seed)
            _show(run_scan(source, out=out, force=True, seed=seed, reporter=reporter()))
            return
        images, labels = write_digits(data, rate, seed)
        result = run_scan(
            images,
            labels,
            clean_label_column="true_label",
            out=out,
            force=True,
            seed=seed,
            reporter=reporter(),
        )
        _show(result)


@app.command(name="eval")
def evaluate(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATASET]",
            help="digits (the default), mnist, fashion-mnist, svhn, cifar10, cifar100; or any"
            " source that scan reads, its labels taken as clean.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="A method to run, repeated; or all. By default the quick ones."),
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            help="symmetric, pair, asymmetric, instance, matrix:FILE or column:NAME; repeated."
            " By default symmetric."
        ),
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="Share of wrong labels: repeated, or a list such as 0.1,0.3."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds.")] = None,
    first_seed: Annotated[int, typer.Option(help="The first of them.")] = 0,
    num_labeled: Annotated[
        int | None,
        typer.Option(help="Keep so many labels, balanced by class; the rest is unlabeled."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Use so many training images of the data set.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="An experiment of the paper: table1-mnist, table1-svhn, table1-cifar10,"
            " table2-svhn, table3, figure3."
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Train nothing: score this run folder, or table of sample_id and suspect_score, on"
            " the corruption."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(help="Features of the samples: a file, or a column of the source."),
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Test split of a source, or a source of its own.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of clean labels of a source.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data set's files.")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the data set if it is not there.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the sweep; what it holds already is not run again.",
            show_default="labelaudit-eval-<name>",
        ),
    ] = None,
    encoder: Encoder = "auto",
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a training step.")] = None,
    flip: Flip = False,
    device: Device = "auto",
    jobs: Annotated[int, typer.Option(help="Cells side by side.")] = 1,
    curves: Annotated[
        bool, typer.Option("--curves", help="Record the test error after every epoch.")
    ] = False,
) -> None:
    """Plant label errors and compare how well each method finds them."""
    with for_people():
        from labelaudit.benchmark import evaluation
        from labelaudit.benchmark.noise import Noise
        from labelaudit.benchmark.score_files import score_file

        told = reporter()
        rates = _rates(rate)
        chosen = range(first_seed, first_seed + seeds) if seeds is not None else None
        kinds = noise or ["symmetric"]
        data = None
        if dataset is not None or protocol is None:
            data = evaluation.open_dataset(
                dataset or "digits",
                features=features,
                data_dir=data_dir,
                download=download,
                test=test,
                label_column=label_column,
                noise=kinds,
                reporter=told,
            )
        if protocol is not None:
            result, lines = evaluation.run_protocol(
                protocol,
                methods=method,
                seeds=chosen,
                first_seed=first_seed,
                rates=rates,
                epochs=epochs,
                dataset=data,
                out=out,
                data_dir=data_dir,
                download=download,
                device=device,
                jobs=jobs,
                reporter=told,
            )
            Console().print("\n".join(lines), highlight=False, soft_wrap=True)
            _end_of_eval(result)
            return
        assert data is not None
        if scores is not None:
            one = [n for k in kinds for n in Noise.parse(k, list(rates or (0.2,)))]
            if len(one) != 1:
                raise OptionError("scores are about one corruption: give one --noise and --rate")
            metrics = score_file(
                scores,
                evaluation.limited(data, limit),
                one[0],
                seed=first_seed,
                num_labeled=num_labeled,
            )
            _show_metrics(metrics)
            return
        result = evaluation.evaluate(
            data,
            methods=method or (),
            noise=kinds,
            rates=rates or evaluation.DEFAULT_RATES,
            seeds=chosen or (first_seed,),
            num_labeled=num_labeled,
            limit=limit,
            encoder=encoder,
            epochs=epochs,
            batch_size=batch_size,
            flip=flip,
            device=device,
            out=out,
            jobs=jobs,
            curves=curves,
            reporter=told,
        )
        _end_of_eval(result)


def _rates(texts: list[str] | None) -> list[float] | None:
    """Parse ``--rate 0.1 --rate 0.2,0.3``."""
    if not texts:
        return None
    try:
        return [float(part) for text in texts for part in text.split(",")]
    except ValueError as error:
        raise OptionError(
            f"--rate {' '.join(texts)} is no list of numbers; write for example 0.1,0.3"
        ) from error


def _end_of_eval(result: EvalResult) -> None:
    """End with a table a cell and where the files are."""
    from labelaudit.benchmark.comparison import comparison_tables

    console = Console()
    measures = ("f1", "precision", "recall", "auroc", "test_error", "seconds")
    for table in comparison_tables(result.summary, measures) if len(result.summary) else ():
        console.print(table)
    for cell, reason in result.failures:
        last = reason.splitlines()[-1]
        console.print(f"[red]broke:[/red] {plain(cell)}: {plain(last)}", highlight=False)
    console.print(f"All measures: {plain(str(result.folder / 'results.md'))}", soft_wrap=True)


def _show_metrics(metrics: dict[str, float | None]) -> None:
    table = Table()
    for name in metrics:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*("–" if value is None else f"{value:.3f}" for value in metrics.values()))
    Console().print(table)


def _show(result: ScanResult) -> None:
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


add_review_commands(app)


def main() -> None:
    """Run the command line."""
    app()

"""The command line: parse, call the Python API, print. Heavy imports stay inside the commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from labelaudit.cli_review import add_review_commands
from labelaudit.errors import OptionError, OutputError
from labelaudit.networks.encoders import ENCODER_NAMES
from labelaudit.progress import plain
from labelaudit.scan_summary import show_scan
from labelaudit.terminal import check_exist, for_people, loading, reporter, takes_scan_options
from labelaudit.version import installed_version

if TYPE_CHECKING:
    from labelaudit.benchmark.evaluation import EvalResult

DEMO_FOLDER = Path("labelaudit-demo-digits")

app = typer.Typer(
    name="labelaudit",
    help="Find the wrong labels in a data set: which, how sure, and what they should be.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"labelaudit {installed_version()}")
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
@takes_scan_options()
def scan(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of images; a CSV, TSV, JSONL or parquet file; or a folder of parquet"
            " shards. With --text-column, --features, --pred-probs or --tabular, a table of labels.",
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Argument(
            metavar="LABELS",
            help="A CSV, TSV, JSONL or parquet file with one path and one label per row. Images"
            " without a label are used as unlabeled.",
        ),
    ] = None,
    **options: Any,
) -> None:
    """Find wrong labels. Write them to suspects.csv and to a report in HTML."""
    with for_people(several_processes=True):
        _check_paths(source, labels)
        files = [options["features"], *(options["pred_probs"] or ())]
        tables = [Path(f) for f in files if f and f.lower().endswith((".npy", ".parquet"))]
        check_exist(tables, "the features or predictions")
        progress = reporter(f"reading {source}")

        with loading(progress):
            from labelaudit.pipeline import scan as run_scan
            from labelaudit.sources.file_tree import source_name

        options["out"] = options["out"] or Path(f"labelaudit-{source_name(source)}")
        for name in ("pred_probs", "reviewed"):
            options[name] = options[name] or None
        show_scan(run_scan(source, labels, **options, reporter=progress))


def _check_paths(source: str, labels: str | None) -> None:
    several = re.search(r"\{\d+\.\.\d+\}", source)  # shard-{000..009}.tar
    check_exist([] if several else [Path(source)], "the source")
    check_exist([Path(labels)] if labels is not None else [], "the table")


@app.command()
@takes_scan_options(
    "text_column",
    "image_column",
    "label_column",
    "id_column",
    "split",
    "weights",
    "offline",
    "device",
)
def embed(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Images or texts, and labels, as for scan."),
    ],
    labels: Annotated[
        str | None, typer.Argument(metavar="LABELS", help="A table of labels, as for scan.")
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            help="Pretrained network that reads the images: of torchvision by its name, or of timm as"
            " timm:NAME. auto takes one whose weights are on this machine, or else downloads one."
            " Texts are read by sentence-transformers:NAME, or by sentence-transformers:FOLDER; auto"
            " is then all-MiniLM-L6-v2."
        ),
    ] = "auto",
    image_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Side, in pixels, of the square that the network reads. By default the side that its"
            " weights were made for.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Parquet file to write. One that embed wrote before is replaced."
        ),
    ] = Path("features.parquet"),
    **options: Any,
) -> None:
    """Write the features that a pretrained network computes of images or texts, for a scan."""
    with for_people(interrupted="Interrupted. What was computed so far is in the cache."):
        _check_paths(source, labels)
        progress = reporter(f"reading {source}")

        with loading(progress):
            from labelaudit.features.embed import embed as run_embed

        run_embed(
            source,
            labels,
            encoder=encoder,
            image_size=image_size,
            out=out,
            reporter=progress,
            **options,
        )
        Console().print(f"Features: {plain(str(out))}", soft_wrap=True, highlight=False)


@app.command()
@takes_scan_options("force", "resume", "seed")
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the results. A run in the default folder is replaced.")
    ] = DEMO_FOLDER,
    rate: Annotated[
        float, typer.Option(help="Share of the labels in each class that are made wrong.")
    ] = 0.2,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder to which the images and labels.csv are written as well, to try the other"
            " commands on.",
        ),
    ] = None,
    **options: Any,
) -> None:
    """Audit scikit-learn's handwritten digits, after making a fifth of their labels wrong."""
    with for_people(interrupted="Interrupted."):
        progress = reporter("making labels of digits wrong")

        with loading(progress):
            from labelaudit.benchmark.demo import corrupted_digits, write_digits
            from labelaudit.pipeline import scan as run_scan

        seed, resume = options["seed"], options["resume"]
        force = not resume and (options["force"] or out == DEMO_FOLDER)
        how: dict[str, Any] = {"out": out, "force": force, "resume": resume, "seed": seed}
        _check_least(0, seed=seed)
        if data is None:
            show_scan(run_scan(corrupted_digits(rate, seed), reporter=progress, **how))
            return
        if not force and not resume and out.is_dir() and any(out.iterdir()):
            raise OutputError(
                f"{out} already exists; replace it with `force=True`, or choose another `out`"
            )
        images, labels = write_digits(data, rate, seed)
        result = run_scan(
            images,
            labels,
            clean_label_column="true_label",
            reporter=progress,
            **how,
        )
        show_scan(result)


@app.command(name="eval")
@takes_scan_options("epochs", "batch_size", "flip", "device")
def evaluate(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="digits (the default), mnist, fashion-mnist, svhn, cifar10 or cifar100; or any"
            " source that scan reads, whose labels are taken as clean.",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="Method to run, or all. Give it several times for several methods. By default the"
            " quick ones run.",
        ),
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Kind of label noise: symmetric (the default), pair, asymmetric, instance,"
            " matrix:FILE or column:NAME. Give it several times for several kinds.",
        ),
    ] = None,
    rates: Annotated[
        list[str] | None,
        typer.Option(
            "--rate",
            metavar="R",
            help="Share of wrong labels. Give it several times, or as a list such as 0.1,0.3.",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Number of seeds. Each seed decides a corruption and all other random draws."
        ),
    ] = None,
    first_seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    num_labeled: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Number of labels to keep, balanced by class. The other samples become unlabeled.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of training images to use, the same for each seed."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Experiment of the paper to run: table1-mnist, table1-svhn, table1-cifar10,"
            " table2-svhn, table3 or figure3. Its numbers are printed beside ours.",
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Train nothing, and evaluate these scores: a run folder, or a table with the columns"
            " sample_id and suspect_score.",
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Precomputed features of the samples: a file, or a column of the source.",
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Test split of a source, or another source to test on."),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of clean labels in a source.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder with the files of the data set.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the data set if its files are missing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the results. What it already holds is not run again.",
            show_default="labelaudit-eval-<name>",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(metavar="N", help="Number of runs at the same time, one process each.")
    ] = 1,
    curves: Annotated[
        bool, typer.Option("--curves", help="Record the test error after each epoch.")
    ] = False,
    encoder: Annotated[
        str,
        typer.Option(
            help=f"Network that every method trains on the images: auto,"
            f" {', '.join(ENCODER_NAMES[:-1])} or {ENCODER_NAMES[-1]}. For a pretrained network and"
            " for texts, write features with `labelaudit embed` and give them with --features."
        ),
    ] = "auto",
    **options: Any,
) -> None:
    """Make labels wrong on purpose and compare how well each method finds them."""
    with for_people(interrupted="Interrupted. The same command continues."):
        check_exist([scores] if scores is not None else [], "the scores")
        _check_least(1, seeds=seeds, num_labeled=num_labeled, limit=limit, jobs=jobs)
        _check_least(0, first_seed=first_seed)
        _check_least(1, epochs=options["epochs"])
        _check_least(2, batch_size=options["batch_size"])
        if protocol is not None:
            _refuse_beside("protocol", noise=noise, scores=scores)
            if dataset is None:  # these are for data of the user's own
                _refuse_beside("protocol", features=features, test=test, label_column=label_column)
        if scores is not None:
            _refuse_beside(
                "scores",
                methods=methods,
                seeds=seeds,
                out=out,
                curves=curves,
                epochs=options["epochs"],
                batch_size=options["batch_size"],
                flip=options["flip"],
                jobs=jobs != 1,
                encoder=encoder != "auto",
                device=options["device"] != "auto",
            )
        progress = reporter(f"evaluating on {protocol or dataset or 'digits'}")

        with loading(progress):
            from labelaudit.benchmark import evaluation
            from labelaudit.benchmark.noise import Noise
            from labelaudit.benchmark.score_files import score_file

        shares = _rates(rates)
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
                reporter=progress,
            )
        if protocol is not None:
            if limit is not None:
                options["limit"] = limit
            result, lines = evaluation.run_protocol(
                protocol,
                methods=methods,
                seeds=chosen,
                first_seed=first_seed,
                rates=shares,
                num_labeled=num_labeled,
                curves=curves,
                encoder=encoder,
                dataset=data,
                out=out,
                data_dir=data_dir,
                download=download,
                jobs=jobs,
                reporter=progress,
                **options,
            )
            Console().print("\n".join(lines), highlight=False, soft_wrap=True)
            _end_of_eval(result)
            return
        assert data is not None
        if scores is not None:
            one = [n for k in kinds for n in Noise.parse(k, list(shares or (0.2,)))]
            if len(one) != 1:
                raise OptionError(
                    "scores are about one corruption: give one `noise` and one `rates`"
                )
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
            methods=methods or (),
            noise=kinds,
            rates=shares or evaluation.DEFAULT_RATES,
            seeds=chosen or (first_seed,),
            num_labeled=num_labeled,
            limit=limit,
            out=out,
            jobs=jobs,
            curves=curves,
            encoder=encoder,
            reporter=progress,
            **options,
        )
        _end_of_eval(result)


def _refuse_beside(option: str, **given: object) -> None:
    """Raise OptionError if an option is given that has no meaning beside another one."""
    for name, value in given.items():
        if value:
            raise OptionError(f"`{name}` does not go with `{option}`; leave one of them out")


def _check_least(least: int, **numbers: int | None) -> None:
    """Raise OptionError if a number that is given is too small."""
    for name, number in numbers.items():
        if number is not None and number < least:
            raise OptionError(f"`{name}` is {number}; it must be {least} or more")


def _rates(texts: list[str] | None) -> list[float] | None:
    """Parse ``--rate 0.1 --rate 0.2,0.3``."""
    if not texts:
        return None
    try:
        return [float(part) for text in texts for part in text.split(",")]
    except ValueError as error:
        raise OptionError(
            f"--rate {' '.join(texts)} is not a list of numbers; write for example 0.1,0.3"
        ) from error


def _end_of_eval(result: EvalResult) -> None:
    """Print one table per corruption, the failed cells, and the path of the files."""
    from labelaudit.benchmark.comparison import comparison_tables

    console = Console()
    measures = ("f1", "precision", "recall", "auroc", "test_error", "seconds")
    for table in comparison_tables(result.summary, measures) if len(result.summary) else ():
        console.print(table)
    for cell, reason in result.failures:
        last = reason.splitlines()[-1]
        console.print(f"[red]failed:[/red] {plain(cell)}: {plain(last)}", highlight=False)
    if len(result.summary):
        console.print(f"All measures: {plain(str(result.folder / 'results.md'))}", soft_wrap=True)
    if result.failures:
        raise typer.Exit(1)


def _show_metrics(metrics: dict[str, float | None]) -> None:
    table = Table()
    for name in metrics:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*("–" if value is None else f"{value:.3f}" for value in metrics.values()))
    Console().print(table)


add_review_commands(app)


def main() -> None:
    """Run the command line."""
    app()

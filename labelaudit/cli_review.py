"""The commands after a scan: review, apply, diff, export and report. They call the Python API."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from labelaudit.errors import UntrustedResultWarning
from labelaudit.progress import plain
from labelaudit.terminal import for_people, reporter

if TYPE_CHECKING:
    from labelaudit.corrections.apply import Applied
    from labelaudit.corrections.diff import RunDiff

SHOWN_ROWS = 10
Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder that `labelaudit scan` wrote.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]


def add_review_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the application."""
    for command in (review, apply, diff, export, report):
        app.command()(command)


def review(
    run: Run,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine. 0 means any free port.")
    ] = 0,
    reviewer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Your name for corrections.csv. The default is your user name."
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address without opening a browser.")
    ] = False,
) -> None:
    """Review suspects in a browser. Every decision is saved to RUN/corrections.csv immediately."""
    with for_people(interrupted="Interrupted."):
        import webbrowser
        from threading import Thread

        from labelaudit.review.server import ReviewServer

        name = _user() if reviewer is None else reviewer
        with ReviewServer(run, name, port) as server:
            if server.taken_over is not None:
                _tell(
                    f"The decisions in suspects.csv are now in {server.corrections.path};"
                    f" your table is kept as {server.taken_over.name}."
                )
            _tell(f"Review at: {server.address}#review")
            _tell("Every decision is saved immediately. Press Ctrl-C to end the review.")
            # In a thread, because opening a browser may block until it is closed.
            serving = Thread(target=server.serve_forever, daemon=True)
            serving.start()
            try:
                if not no_browser:
                    webbrowser.open(f"{server.address}#review")
                while serving.is_alive():
                    serving.join(1.0)
            except KeyboardInterrupt:
                _tell("")
            server.shutdown()
            rows = server.corrections.rows()
        decided = sum(row["decision"] != "" for row in rows)
        are = "decision is" if decided == 1 else "decisions are"
        _tell(f"{decided:,} {are} in {server.corrections.path}")
        if decided:
            _tell(f"Next:  labelaudit apply LABELS {run}")


def _tell(text: str) -> None:
    """Print one line, which a terminal does not wrap, so that paths in it can be copied."""
    Console().print(plain(text), soft_wrap=True, highlight=False)


def _user() -> str:
    """Return the user's name, "" if the system does not know it."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def apply(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="Labels that were scanned: a CSV, TSV, JSONL or parquet file, or a folder with one"
            " subfolder per class.",
        ),
    ],
    corrections: Annotated[
        Path,
        typer.Argument(
            metavar="CORRECTIONS",
            help="Decisions: corrections.csv, a run folder that contains it, an edited suspects.csv, or"
            " an export of Label Studio.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="New label file to write.", show_default="LABELS with .fixed"
        ),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of labels, if it has an unusual name.")
    ] = None,
    label_columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME,...",
            help="Columns of several annotators, as for scan. They stay as they are; the final labels"
            " are written into a new column label.",
        ),
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="Column of image paths, if it has an unusual name.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="Column of sample ids, if it has an unusual name.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split that was scanned, if there are several.")
    ] = None,
    allow_new_classes: Annotated[
        bool,
        typer.Option(
            "--allow-new-classes", help="Allow labels that the data set does not have yet."
        ),
    ] = False,
    drop_excluded: Annotated[
        bool, typer.Option("--drop-excluded", help="Leave excluded rows out of the new file.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change without writing anything.")
    ] = False,
    force: Force = False,
) -> None:
    """Write a corrected copy of the labels, in the same format."""
    with for_people(interrupted="Interrupted. Run the command again with --force."):
        from labelaudit.corrections.apply import apply_corrections

        applied = apply_corrections(
            labels,
            corrections,
            out,
            label_column=label_column,
            label_columns=label_columns,
            image_column=image_column,
            id_column=id_column,
            split=split,
            allow_new_classes=allow_new_classes,
            drop_excluded=drop_excluded,
            dry_run=dry_run,
            force=force,
        )
        _show_applied(applied, label_columns)


def _show_applied(applied: Applied, label_columns: str | None = None) -> None:
    if len(applied.pairs):
        table = Table(title="Changed labels", title_justify="left")
        table.add_column("from", overflow="ellipsis", max_width=32)
        table.add_column("to", overflow="ellipsis", max_width=32)
        table.add_column("count", justify="right")
        rows = list(applied.pairs.itertuples(index=False, name=None))
        for given, right, count in rows[:SHOWN_ROWS]:
            table.add_row(plain(str(given)) or "(none)", plain(str(right)), f"{count:,}")
        if len(rows) > SHOWN_ROWS:
            table.add_row("…", f"{len(rows) - SHOWN_ROWS:,} more pairs", "")
        Console().print(table)
    would = "would be" if applied.out is None else "was" if len(applied.changes) == 1 else "were"
    _tell(
        f"{len(applied.changes):,} {'label' if len(applied.changes) == 1 else 'labels'} {would}"
        f" changed; {applied.num_verified:,} verified,"
        f" {applied.num_excluded:,} excluded, {applied.num_unsure:,} unsure."
    )
    if applied.out is None:
        _tell("Nothing was written (--dry-run).")
        return
    _tell(f"Labels:   {applied.out}")
    _tell(f"Changes:  {applied.changes_path}")
    if label_columns is None:
        _tell("Next:     scan the new labels with --verified-column verified")
    else:
        _tell(f"Next:     scan the same labels with --label-columns {label_columns} --reviewed RUN")


def diff(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="The earlier run folder.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The later run folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="CSV file for all differences.")
    ] = None,
    force: Force = False,
) -> None:
    """Compare two runs: new suspects, samples that are no longer suspect, and corrected labels."""
    with for_people(interrupted="Interrupted."):
        from labelaudit.corrections.diff import diff_runs, write_diff

        found = diff_runs(run_a, run_b)
        if out is not None:
            write_diff(found, out, force=force)
        _show_diff(found)
        if out is not None:
            _tell(f"All differences: {out}")


def _show_diff(found: RunDiff) -> None:
    table = Table()
    for name in ("", "before", "after"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("labels", f"{found.num_labeled_a:,}", f"{found.num_labeled_b:,}")
    table.add_row("suspects", f"{found.num_suspects_a:,}", f"{found.num_suspects_b:,}")
    table.add_row(
        "expected wrong",
        _expected(found.expected_wrong_a, found.expected_wrong_interval_a),
        _expected(found.expected_wrong_b, found.expected_wrong_interval_b),
    )
    if not (found.trusted_a and found.trusted_b):
        trust = ["yes" if trusted else "[bold red]no[/bold red]" for trusted in
                (found.trusted_a, found.trusted_b)]  # fmt: skip
        table.add_row("trustworthy", *trust)
    Console().print(table)
    counts = [f"{count:,} {change}" for change, count in found.counts.items() if count]
    _tell(
        f"{', '.join(counts) or 'No differences'}; {found.still_suspect:,} are suspect in both runs."
    )
    fresh = found.table[found.table["change"] == "newly suspect"].head(SHOWN_ROWS)
    if len(fresh):
        listed = Table(title="Newly suspect", title_justify="left")
        listed.add_column("sample", overflow="ellipsis", no_wrap=True, max_width=44)
        listed.add_column("given", overflow="ellipsis", no_wrap=True, max_width=24)
        listed.add_column("suggested", overflow="ellipsis", no_wrap=True, max_width=24)
        listed.add_column("score", justify="right")
        for row in fresh.to_dict("records"):
            listed.add_row(
                plain(str(row["sample_id"])),
                plain(str(row["given_label_b"])),
                plain(str(row["suggested_label_b"])),
                f"{row['suspect_score_b']:.3f}",
            )
        Console().print(listed)


def _expected(number: float | None, interval: tuple[float, float] | None) -> str:
    if number is None:
        return "–"
    span = "" if interval is None else f" ({interval[0]:,.0f} to {interval[1]:,.0f})"
    return f"{number:,.0f}{span}"


def export(
    run: Run,
    to: Annotated[
        str,
        typer.Option("--to", metavar="TOOL", help="label-studio, fiftyone, cleanlab, cvat or csv."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write.", show_default="RUN/export-TOOL"),
    ] = None,
    image_root_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address of the folder of images, for label-studio."),
    ] = None,
    all_samples: Annotated[
        bool, typer.Option("--all", help="Export all labeled samples instead of the suspects.")
    ] = False,
    force: Force = False,
) -> None:
    """Export suspects to another tool: Label Studio, FiftyOne, cleanlab, CVAT or plain CSV."""
    with for_people(interrupted="Interrupted."):
        from labelaudit.corrections.exports import export_run

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UntrustedResultWarning)
            paths = export_run(
                run, to, out, image_root_url=image_root_url, force=force, all_samples=all_samples
            )
        for path in paths:
            _tell(str(path))
        for warning in caught:
            reporter().warn(str(warning.message))


def report(run: Run) -> None:
    """Write RUN/report.html again, with the decisions made since."""
    with for_people(interrupted="Interrupted."):
        from labelaudit.review.rerender import render_report

        path = render_report(run, reporter())
        _tell(f"Report: {path}")

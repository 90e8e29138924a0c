"""A comparison of systems: means and intervals over seeds, as text, Markdown and plots."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy import stats
from sklearn.metrics import precision_recall_curve

from labelaudit.files import atomic_write

MEASURES = (
    "precision", "recall", "f1", "f1_at_true_count", "auroc", "average_precision", "test_error",
    "seconds",
)  # fmt: skip
TITLES = {
    "precision": "precision", "recall": "recall", "f1": "F1",
    "f1_at_true_count": "F1 at true count", "auroc": "AUROC",
    "average_precision": "average precision", "test_error": "test error", "seconds": "seconds",
}  # fmt: skip
CELL = ["dataset", "noise", "rate", "num_labeled"]
CONFIDENCE = 0.95
# Okabe and Ito's palette, which color-blind people can distinguish, and then line styles.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
STYLES = ("-", "--", ":")
LEGEND_INCHES, NOTE_CHARACTERS_PER_INCH = 2.2, 14


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard deviation and 95% interval over seeds of the rows of results.csv.

    Returns
    -------
    pd.DataFrame
        One row per cell and method, in the order of `results`. The columns are `CELL`, ``method``,
        ``seeds``, ``not_trusted``, and ``NAME``, ``NAME_std``, ``NAME_low``, ``NAME_high`` for each
        of `MEASURES`. ``not_trusted`` counts the seeds whose result the method itself does not
        trust. The interval is Student's t for the mean. With one seed, deviation and interval are
        NaN.
    """
    rows = []
    keys = [*CELL, "method"]
    for key, group in results.groupby(keys, sort=False, dropna=False):
        row: dict[str, Any] = dict(zip(keys, key, strict=True))
        row["seeds"] = len(group)
        # A sweep from before it was recorded lacks the column.
        row["not_trusted"] = (
            int(group["trustworthy"].eq(False).sum()) if "trustworthy" in group else 0
        )
        for name in MEASURES:
            values = group[name].astype(float).dropna().to_numpy()
            row[name] = values.mean() if len(values) else np.nan
            row[f"{name}_std"] = values.std(ddof=1) if len(values) > 1 else np.nan
            half = np.nan
            if len(values) > 1:
                quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
                half = quantile * values.std(ddof=1) / np.sqrt(len(values))
            row[f"{name}_low"], row[f"{name}_high"] = row[name] - half, row[name] + half
        rows.append(row)
    return pd.DataFrame(rows)


def cell_title(row: pd.Series) -> str:
    """Describe a cell in words: data set, noise and number of labels."""
    rate = "" if pd.isna(row["rate"]) else f" {row['rate']:.0%}"
    return f"{row['dataset']}, {row['noise']}{rate}, {row['num_labeled']:,} labeled"


def format_mean(row: pd.Series, name: str) -> str:
    """Return "mean ± deviation", "mean" for one seed, or a dash without any."""
    if pd.isna(row[name]):
        return "–"
    digits = 1 if name == "seconds" else 3
    text = f"{row[name]:.{digits}f}"
    if not pd.isna(row[f"{name}_std"]):
        text += f" ± {row[f'{name}_std']:.{digits}f}"
    return text


def distrust_notes(summary: pd.DataFrame) -> list[str]:
    """Return a sentence for each row of `summarize` whose method does not trust its own results.

    Variants share the result of their method, and are left out.
    """
    return [
        f"{row['method']} does not trust its own result on {row['not_trusted']} of {row['seeds']}"
        f" seed{'s' if row['seeds'] > 1 else ''}: {cell_title(row)}."
        for _, row in summary[summary["not_trusted"] > 0].iterrows()
        if ": " not in row["method"]
    ]


def comparison_tables(summary: pd.DataFrame, measures: Sequence[str]) -> list[Table]:
    """Make one table per cell for the terminal, sorted by F1. Variants are only in results.md."""
    tables = []
    for _, cell in summary.groupby(CELL, sort=False, dropna=False):
        mine = cell[~cell["method"].str.contains(": ", regex=False)]
        # Narrow enough for a terminal of 80 columns.
        table = Table(
            title=cell_title(cell.iloc[0]),
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("method", overflow="fold", min_width=18)
        for name in measures:
            widest = max(map(len, TITLES[name].split()))
            table.add_column(TITLES[name], justify="right", width=max(7, widest))
        for _, row in mine.sort_values("f1", ascending=False, kind="stable").iterrows():
            table.add_row(_with_seeds(row, mine), *(format_mean(row, name) for name in measures))
        if notes := distrust_notes(mine):
            table.caption, table.caption_justify = "\n".join(notes), "left"
            table.caption_style = "bold red"
        tables.append(table)
    return tables


def _with_seeds(row: pd.Series[Any], cell: pd.DataFrame) -> str:
    """Return the name of a method, with its number of seeds where others have another."""
    name, seeds = str(row["method"]), row["seeds"]
    if cell["seeds"].min() == cell["seeds"].max():
        return name
    return f"{name} ({seeds} {'seed' if seeds == 1 else 'seeds'})"


def write_markdown(path: Path, summary: pd.DataFrame, title: str, notes: Sequence[str]) -> None:
    """Write results.md: one table per cell with mean ± deviation and the interval of F1."""
    lines = [f"# {title}", "", *(f"{note}\n" for note in notes)]
    shown = [name for name in MEASURES if not summary[name].isna().all()]
    for _, cell in summary.groupby(CELL, sort=False, dropna=False):
        first = cell.iloc[0]
        fewest, most = cell["seeds"].min(), cell["seeds"].max()
        seeds = f"{fewest} to {most}" if fewest < most else f"{most}"
        lines += [f"## {cell_title(first)}", "", f"Mean ± standard deviation of {seeds}"
                  f" seed{'s' if most > 1 else ''}.", ""]  # fmt: skip
        lines.append("| method | " + " | ".join(TITLES[n] for n in shown) + " | F1, 95% interval |")
        lines.append("|---" * (len(shown) + 2) + "|")
        for _, row in cell.sort_values("f1", ascending=False, kind="stable").iterrows():
            low, high = row["f1_low"], row["f1_high"]
            interval = "–" if pd.isna(low) else f"{low:.3f} to {high:.3f}"
            values = " | ".join(format_mean(row, name) for name in shown)
            lines.append(f"| {_with_seeds(row, cell)} | {values} | {interval} |")
        lines.append("")
        lines += [f"**{note}**\n" for note in distrust_notes(cell)]
    with atomic_write(path) as partial:
        partial.write_text("\n".join(lines), encoding="utf-8")


def plot_by_rate(summary: pd.DataFrame, path: Path, measure: str = "f1", note: str = "") -> None:
    """Plot a measure by noise rate, with one line per method and one panel per kind of noise.

    `note` is written above the panels.
    """
    kinds = list(dict.fromkeys(summary["noise"]))
    figure, axes = _panels(len(kinds), width=5.2, height=4.2)
    methods = [m for m in dict.fromkeys(summary["method"]) if ": " not in m]
    for axis, kind in zip(axes, kinds, strict=True):
        for number, method in enumerate(methods):
            mine = summary[(summary["noise"] == kind) & (summary["method"] == method)]
            mine = mine.assign(rate=mine["rate"].astype(float)).sort_values("rate")
            errors = mine[f"{measure}_std"].fillna(0)
            axis.errorbar(
                mine["rate"].fillna(0), mine[measure], yerr=errors, label=method, marker="o",
                capsize=3, **_line(number),
            )  # fmt: skip
        axis.set(title=kind, xlabel="share of wrong labels")
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0].set_ylabel(TITLES[measure])
    better = "lower" if measure in ("test_error", "seconds") else "higher"
    _set_title(figure, f"{TITLES[measure]} by noise rate: {better} is better", note)
    _save(figure, axes, path)


def plot_curves(curves: pd.DataFrame, path: Path, note: str = "") -> None:
    """Plot test error by epoch, with one line per method and one panel per rate (Figure 3).

    Lines are means over the seeds, and bands reach from the lowest to the highest seed. The axis of the
    epochs is logarithmic if the methods are trained for different numbers of epochs. `note` is written
    above the panels.
    """
    cells = list(curves.groupby(["noise", "rate"], sort=False, dropna=False))
    figure, axes = _panels(len(cells), width=4.6 if len(cells) < 3 else 3.1, height=4.0)
    methods = list(dict.fromkeys(curves["method"]))
    lengths = curves.groupby("method")["epoch"].max()
    for axis, ((noise, rate), cell) in zip(axes, cells, strict=True):
        for number, method in enumerate(methods):
            mine = cell[cell["method"] == method].groupby("epoch")["test_error"]
            style, seeds = _line(number), curves[curves["method"] == method]["seed"].nunique()
            label = f"{method}\n{lengths[method]} epochs, {seeds} seed{'s' if seeds > 1 else ''}"
            mean = mine.mean()
            axis.plot(mean.index, mean.to_numpy(), label=label, **style)
            if seeds > 1:
                axis.fill_between(
                    mean.index,
                    mine.min(),
                    mine.max(),
                    color=style["color"],
                    alpha=0.15,
                    linewidth=0,
                )
        axis.set(title=f"{noise} {rate:.0%}" if rate == rate else noise, xlabel="epoch")
        if lengths.min() < lengths.max():
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[0].set_ylabel("test error (mean over seeds)")
    _set_title(figure, "Test error over epochs: a rising line is overfitting", note)
    _save(figure, axes, path)


def plot_precision_recall_of(scores: dict[str, pd.DataFrame], title: str, path: Path) -> None:
    """Plot precision by recall, with one curve per method and a dot at its own threshold.

    Parameters
    ----------
    scores
        By method, with the columns suspect_score, is_label_issue and is_wrong.
    title
        Describes the cell.
    path
        The PNG file to write.
    """
    figure, (axis,) = _panels(1, width=5.2, height=4.6)
    for number, (method, frame) in enumerate(scores.items()):
        wrong = frame["is_wrong"].to_numpy()
        precision, recall, _ = precision_recall_curve(wrong, frame["suspect_score"])
        style = _line(number)
        axis.plot(recall, precision, label=method, **style)
        flagged = frame["is_label_issue"].to_numpy()
        if flagged.any():
            found = (flagged & wrong).sum()
            axis.plot(found / wrong.sum(), found / flagged.sum(), "o", color=style["color"])
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axis.set_title(f"{title}\ndots: each system's own threshold", loc="left", fontsize="medium")
    _save(figure, [axis], path)


def _panels(number: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels in a row, and room for a legend on the right; in inches."""
    figure = Figure(figsize=(width * number + LEGEND_INCHES, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, number, squeeze=False, sharey=True)[0])


def _set_title(figure: Figure, title: str, note: str) -> None:
    """Write a title above the panels, and a note below it in lines as wide as the panels."""
    characters = round(NOTE_CHARACTERS_PER_INCH * (figure.get_figwidth() - LEGEND_INCHES))
    lines = "\n".join([title, *textwrap.wrap(note, characters)])
    figure.suptitle(lines, x=0.01, ha="left", fontsize="medium" if note else None)


def _line(number: int) -> dict[str, Any]:
    """Return color and line style of the n-th method."""
    style = STYLES[number // len(COLORS) % len(STYLES)]
    return {"color": COLORS[number % len(COLORS)], "linestyle": style}


def _save(figure: Figure, axes: Sequence[Axes], path: Path) -> None:
    """Add grids and the legend, and write the figure as PNG."""
    for axis in axes:
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=130, format="png")

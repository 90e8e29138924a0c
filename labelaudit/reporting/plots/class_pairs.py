"""A plot of which classes are mistaken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from labelaudit.reporting.plots.style import (
    ALARM,
    FAINT,
    INK,
    drawable,
    save_figure,
    style_axes,
    use_name_fonts,
    write_notice,
    write_title,
)

COUNT_COLORS = LinearSegmentedColormap.from_list(
    "suspect counts", ["#FDE9DA", "#F6A66B", ALARM, "#7A2E00"]
)
MAX_CLASSES = 30  # rows and columns of the matrix
MAX_ANNOTATED = 20  # with at most this number of classes, counts are written into the cells


def plot_class_pairs(samples: pd.DataFrame, class_names: Sequence[str], path: Path) -> None:
    """Plot how many suspects have one given class and another suggested class.

    Parameters
    ----------
    samples : DataFrame
        With ``given_label``, ``suggested_label`` and ``is_label_issue``.
    class_names : sequence of str
        All classes, in order. Of more than 30 classes, those with most suspects (by given or suggested
        class) are shown, in this order.
    path : Path
        The PNG file to write.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    codes = {name: code for code, name in enumerate(class_names)}
    flagged = samples[samples["is_label_issue"]].dropna(subset=["given_label", "suggested_label"])
    given = flagged["given_label"].map(codes).to_numpy(dtype=np.int64)
    suggested = flagged["suggested_label"].map(codes).to_numpy(dtype=np.int64)
    num_classes = len(class_names)
    involved = np.bincount(given, minlength=num_classes)
    involved = involved + np.bincount(suggested, minlength=num_classes)
    shown = np.sort(np.argsort(-involved, kind="stable")[:MAX_CLASSES])
    place = np.full(num_classes, -1)
    place[shown] = np.arange(len(shown))
    inside = (place[given] >= 0) & (place[suggested] >= 0)
    counts = np.zeros((len(shown), len(shown)), dtype=np.int64)
    np.add.at(counts, (place[given[inside]], place[suggested[inside]]), 1)

    side = len(shown)
    cell = 0.55 if side <= 10 else 0.42 if side <= MAX_ANNOTATED else 0.27
    extent = max(cell * side, 2.2)
    figure = Figure(figsize=(extent, extent))
    axes = figure.add_axes((0, 0, 1, 1))
    style_axes(axes, grid=False)
    hint = "A dark cell is a pair of classes that is often confused."
    if num_classes > MAX_CLASSES:
        hint = (
            f"The {side} of {num_classes} classes with most suspects "
            f"({int(inside.sum()):,} of {len(flagged):,})."
        )
    write_title(axes, "Which classes are mistaken for which?", hint)
    image = axes.imshow(
        np.ma.masked_equal(counts, 0),
        cmap=COUNT_COLORS,
        vmin=0,
        vmax=max(int(counts.max(initial=0)), 1),
    )
    edges = np.arange(side + 1) - 0.5
    axes.hlines(edges, -0.5, side - 0.5, color=FAINT, linewidth=0.6)
    axes.vlines(edges, -0.5, side - 0.5, color=FAINT, linewidth=0.6)
    # The diagonal is always empty, because the suggested class is never the given one.
    diagonal = [Rectangle((edge, edge), 1, 1) for edge in edges[:-1]]
    axes.add_collection(
        PatchCollection(diagonal, facecolor="#F1F3F5", edgecolor=FAINT, hatch="////", linewidth=0)
    )
    if not inside.any():
        write_notice(axes, "no label was flagged")
    elif side <= MAX_ANNOTATED:
        _write_counts(axes, counts)
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02)
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        bar.ax.tick_params(colors=INK, labelsize=8)
        bar.set_label("suspects", color=INK)
    _name_axes(axes, [drawable(class_names[code]) for code in shown])
    axes.set_xlabel("suggested class")
    axes.set_ylabel("given class")
    save_figure(figure, path)


def _write_counts(axes: Axes, counts: NDArray[np.int64]) -> None:
    """Write the counts that are not 0 into the cells."""
    for row, column in np.argwhere(counts):
        dark = counts[row, column] > 0.55 * counts.max()
        axes.text(
            column,
            row,
            f"{counts[row, column]:,}",
            ha="center",
            va="center",
            fontsize=9 if len(counts) <= 10 else 7,
            color="white" if dark else INK,
        )


def _name_axes(axes: Axes, names: list[str]) -> None:
    """Write the names of the classes along both axes."""
    side = len(names)
    axes.set_xlim(-0.5, side - 0.5)
    axes.set_ylim(side - 0.5, -0.5)
    axes.set_xticks(range(side), names)
    axes.set_yticks(range(side), names)
    use_name_fonts([*axes.get_xticklabels(), *axes.get_yticklabels()])
    if max(map(len, names)) > 3:
        slanted = side <= 10
        for label in axes.get_xticklabels():
            label.set_rotation(45 if slanted else 90)
            label.set_rotation_mode("anchor" if slanted else "default")
            label.set_horizontalalignment("right" if slanted else "center")
    axes.tick_params(length=0, labelsize=9 if side <= MAX_ANNOTATED else 7)

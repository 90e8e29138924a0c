"""A plot of how ε is distributed over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FormatStrFormatter, MaxNLocator
from numpy.typing import NDArray

from labelaudit.reporting.history import EpsilonSource, spread_epochs
from labelaudit.reporting.plots.style import (
    ALARM,
    CALM,
    INK,
    MUTED,
    save_figure,
    style_axes,
    write_notice,
    write_title,
)

MAX_EPOCHS = 100  # more epochs cannot be distinguished at this width
FEW_EPOCHS = 8  # up to this number each epoch has its own mark; above it, bands are drawn
MAX_VALUES = 50_000  # per group and epoch; with more, quantiles look the same and take longer
QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95, 0.99)


def plot_epsilon(
    history: EpsilonSource,
    path: Path,
    wrong: NDArray[np.bool_] | None,
    flagged: NDArray[np.bool_],
) -> None:
    """Plot the distribution of ε over the epochs in two groups of labels (the paper's Figure 4b).

    If the truth is known, the groups are right and wrong labels, otherwise flagged and other labels.
    The left panel shows quantiles per epoch. The right panel shows the whole distribution of the last
    epoch. The ε axis has a square-root scale, because most ε are close to 0 and a logarithm cannot show
    0.

    Parameters
    ----------
    history : EpsilonSource
        Recorded ε of the L labeled samples. One epoch is read at a time, and at most 100 in all.
    path : Path
        The PNG file to write.
    wrong : (L,) bool or None
        Which given labels are wrong; None if the truth is not known.
    flagged : (L,) bool
        Which labels are flagged. Not used if `wrong` is given.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    if wrong is not None:
        masks = {"label right, by the truth": ~wrong, "label wrong, by the truth": wrong}
    else:
        masks = {"not flagged": ~flagged, "flagged as suspect": flagged}
    colors = dict(zip(masks, (CALM, ALARM), strict=True))
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    epochs = spread_epochs(history.epochs, MAX_EPOCHS)

    figure = Figure(figsize=(9.4, 3.8))
    box = {"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": 0.05}
    axes, last_axes = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1], gridspec_kw=box)
    style_axes(axes)
    style_axes(last_axes)
    write_title(
        axes,
        "Label uncertainty ε: are the two groups separate?",
        "The further apart they are, the more ε alone shows. Either group may be the higher one.",
    )
    if not epochs or not masks:
        write_notice(axes, "no ε was recorded")
        last_axes.set_visible(False)
        save_figure(figure, path)
        return

    quantiles, last = _read_quantiles(history, epochs, masks)
    tops = np.concatenate([rows[:, -1] for rows in quantiles.values()])
    top = min(max(1.1 * float(tops[np.isfinite(tops)].max(initial=0)), 1e-4), 1.0)

    for position, (name, mask) in enumerate(masks.items()):
        shift = (position - (len(masks) - 1) / 2) * 0.16
        label = f"{name} ({int(mask.sum()):,})"
        _draw_quantiles(axes, np.asarray(epochs), quantiles[name], colors[name], label, shift)
        _draw_histogram(last_axes, last[name], top, colors[name])

    axes.set_yscale("function", functions=(_signless_sqrt, np.square))
    axes.set_ylim(0, top)
    axes.yaxis.set_major_locator(FixedLocator(_sqrt_ticks(top)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    margin = 0.6 if len(epochs) <= FEW_EPOCHS else 0.0
    axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
    axes.set_xlabel("epoch")
    axes.set_ylabel("ε = |guider − learner| on the given label")
    legend = axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, -0.15),
        ncols=2,
        frameon=False,
        labelcolor=INK,
        borderaxespad=0.4,
        title=f"{_quantile_words(len(epochs))}: median, middle half, 5th to 95th percentile",
        title_fontproperties={"size": 9},
        alignment="left",
    )
    legend.get_title().set_color(MUTED)
    last_axes.set_title(f"epoch {epochs[-1]}", loc="left", fontsize=10, color=INK)
    last_axes.set_xlabel("% of the group")
    last_axes.set_xlim(left=0)
    save_figure(figure, path)


def _read_quantiles(
    history: EpsilonSource, epochs: Sequence[int], masks: Mapping[str, NDArray[np.bool_]]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float32]]]:
    """Return the `QUANTILES` of each group per epoch, (E, 6), and all its values in the last epoch."""
    quantiles = {name: np.zeros((len(epochs), len(QUANTILES))) for name in masks}
    last: dict[str, NDArray[np.float32]] = {}
    for row, epoch in enumerate(epochs):
        epsilon = np.asarray(history.read(epoch)["epsilon"])  # (L,)
        for name, mask in masks.items():
            values = epsilon[mask]
            values = values[:: -(-len(values) // MAX_VALUES)]
            values = values[np.isfinite(values)]
            quantiles[name][row] = np.quantile(values, QUANTILES) if len(values) else np.nan
            last[name] = values
    return quantiles, last


def _draw_histogram(axes: Axes, values: NDArray[np.float32], top: float, color: str) -> None:
    """Draw a sideways histogram of values in [0, top], in percent."""
    edges = np.linspace(0, np.sqrt(top), 41) ** 2  # even steps on the square-root axis
    counts, _ = np.histogram(values, bins=edges)
    share = 100 * counts / max(len(values), 1)
    axes.stairs(share, edges, orientation="horizontal", color=color, linewidth=1.5)
    axes.stairs(share, edges, orientation="horizontal", color=color, fill=True, alpha=0.25)


def _draw_quantiles(
    axes: Axes,
    epochs: NDArray[np.int_],
    quantiles: NDArray[np.float64],
    color: str,
    label: str,
    shift: float,
) -> None:
    """Draw (E, 6) quantiles over the epochs, as marks side by side for few epochs, else as bands."""
    low, lower, median, upper, high, _ = quantiles.T
    if len(epochs) <= FEW_EPOCHS:
        places = epochs + shift
        axes.vlines(places, low, high, color=color, linewidth=1.5)
        axes.vlines(places, lower, upper, color=color, linewidth=7, alpha=0.55)
        axes.plot(places, median, "o", color=color, markeredgecolor="white", label=label)
    else:
        axes.fill_between(epochs, low, high, color=color, alpha=0.14, linewidth=0)
        axes.fill_between(epochs, lower, upper, color=color, alpha=0.32, linewidth=0)
        axes.plot(epochs, median, color=color, linewidth=2, label=label)


def _quantile_words(num_epochs: int) -> str:
    return "dot, bar, line" if num_epochs <= FEW_EPOCHS else "line, dark band, light band"


def _signless_sqrt(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # Matplotlib also asks for values just below 0 when it computes the margins.
    return np.sqrt(np.maximum(values, 0))


def _sqrt_ticks(top: float) -> list[float]:
    """Choose round ticks on a square-root axis from 0 to `top` that are not too close."""
    round_values = [m * 10.0**e for e in range(0, -8, -1) for m in (8, 6, 5, 4, 3, 2, 1)]
    ticks: list[float] = []
    for value in [v for v in round_values if v <= top]:
        root = np.sqrt(value / top)
        if root > 0.09 and (not ticks or np.sqrt(ticks[-1] / top) - root > 0.09):
            ticks.append(value)
    return [0.0, *reversed(ticks)]

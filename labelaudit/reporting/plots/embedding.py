"""A map of the samples (t-SNE)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from labelaudit.reporting.plots.style import (
    INK,
    MUTED,
    drawable,
    save_figure,
    style_axes,
    use_name_fonts,
    write_notice,
    write_title,
)

# Petroff's ten colors, which a search found to be distinguishable with color-vision deficiency. The two
# grays come last, so that up to eight classes can be shown beside a gray "other".
CLASS_COLORS = (
    "#3F90DA",
    "#FFA90E",
    "#BD1F01",
    "#832DB6",
    "#92DADD",
    "#A96B59",
    "#B9AC70",
    "#E76300",
    "#717581",
    "#94A4A2",
)
OTHER_COLOR = "#BCC4CD"
STEPS = 1000  # of t-SNE, as usual; most of the time of a small run's report


def plot_embedding(
    embeddings: NDArray[np.floating[Any]],
    samples: pd.DataFrame,
    path: Path,
    seed: int,
    max_points: int = 2000,
) -> None:
    """Plot a map of the samples (t-SNE), colored by predicted class, with crosses for suspects.

    Of more than `max_points` samples a random subset is drawn, with a seed. Suspects have the same
    share in it as in the data, but are at least one tenth of the points, if there are as many. So rare
    suspects are visible, and frequent ones do not look more frequent than they are.

    Parameters
    ----------
    embeddings : (N, d) float
        One row per sample. It may be memory-mapped; only the rows that are drawn are read. Rows that
        are not finite are left out.
    samples : DataFrame
        N rows with ``predicted_label`` and ``is_label_issue``.
    path : Path
        The PNG file to write.
    seed : int
        Seed of the subset and of t-SNE.
    max_points : int
        Maximum number of samples that are drawn. t-SNE of 2,000 takes some seconds.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    suspect = samples["is_label_issue"].to_numpy(dtype=bool)
    rows = _choose_points(suspect, max_points, np.random.default_rng(seed))
    points = np.asarray(embeddings[rows], dtype=np.float64)  # (P, d)
    finite = np.isfinite(points).all(axis=1)
    rows, points = rows[finite], points[finite]
    crossed = suspect[rows]
    predicted = samples["predicted_label"].iloc[rows]

    figure = Figure(figsize=(6.8, 5.6))
    axes = figure.add_axes((0, 0, 1, 1))
    style_axes(axes, grid=False)
    write_title(
        axes,
        "A map of the samples: similar ones are close together",
        "A cross deep inside a cluster is most likely a mistake: the sample looks like that class, "
        "and its label is another one.",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    shown = f"{len(rows):,} of {len(samples):,}" if len(rows) < len(samples) else f"{len(rows):,}"
    axes.set_xlabel(
        f"t-SNE of {shown} samples (no unit; only which samples are near has a meaning)"
    )
    axes.set_ylabel("t-SNE, second direction")
    # scikit-learn takes seeds of 32 bits.
    places = _map_to_plane(points, seed % 2**32)  # (P, 2)
    if places is None:
        write_notice(
            axes, "all embeddings are the same" if len(rows) else "there is nothing to draw"
        )
        save_figure(figure, path)
        return

    size = 14 if len(rows) > 500 else 30
    entries = _scatter_classes(axes, places, predicted, size)
    crosses = axes.scatter(
        places[crossed, 0], places[crossed, 1], size * 1.2, INK, marker="x", linewidths=0.9
    )
    entries[f"suspect ({int(crossed.sum()):,} of {int(suspect.sum()):,})"] = crosses
    legend = axes.legend(
        list(entries.values()),
        list(entries),
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        labelcolor=INK,
        title="looks like\n(predicted class)",
        title_fontproperties={"size": 9},
        alignment="left",
        fontsize=9,
        markerscale=1.6 if size == 14 else 1.1,
    )
    legend.get_title().set_color(MUTED)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    use_name_fonts(legend.get_texts())
    save_figure(figure, path)


def _scatter_classes(
    axes: Axes, places: NDArray[np.float64], predicted: pd.Series, size: float
) -> dict[str, PathCollection]:
    """Draw one dot per sample, and return the entries of the legend by name.

    If there are more classes than colors, only the most frequent classes have a color of their own.
    """
    # The legend is given its entries explicitly, because Matplotlib drops names that begin with "_".
    entries: dict[str, PathCollection] = {}
    frequency = predicted.value_counts(sort=True)
    named = len(frequency) if len(frequency) <= len(CLASS_COLORS) else len(CLASS_COLORS) - 2
    rest = ~predicted.isin(frequency.index[:named]).to_numpy()
    x, y = places.T
    others = axes.scatter(x[rest], y[rest], size, OTHER_COLOR, linewidths=0)  # lies beneath
    for name, color in zip(sorted(frequency.index[:named]), CLASS_COLORS, strict=False):
        of_class = (predicted == name).to_numpy()
        dots = axes.scatter(x[of_class], y[of_class], size, color, alpha=0.75, linewidths=0)
        label = drawable(name)
        entries[label if label not in entries else f"{label} ({len(entries) + 1})"] = dots
    if rest.any():
        entries[f"{len(frequency) - named} other classes"] = others
    return entries


def _choose_points(
    suspect: NDArray[np.bool_], max_points: int, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Choose the rows to draw, in order; see `plot_embedding` for the share of suspects."""
    if len(suspect) <= max_points:
        return np.arange(len(suspect))
    suspects, others = np.flatnonzero(suspect), np.flatnonzero(~suspect)
    fair = round(max_points * len(suspects) / len(suspect))
    num_suspects = min(len(suspects), max(fair, max_points // 10))
    num_others = min(len(others), max_points - num_suspects)
    drawn = [
        generator.choice(suspects, num_suspects, replace=False),
        generator.choice(others, num_others, replace=False),
    ]
    return np.sort(np.concatenate(drawn))


def _map_to_plane(points: NDArray[np.float64], seed: int) -> NDArray[np.float64] | None:
    """Place (P, d) points in the plane, (P, 2); None if all points are equal."""
    if len(points) == 0 or points.shape[1] == 0:
        return None
    points = points - points.mean(axis=0)
    scale = np.abs(points).max()
    if scale < 1e-12:
        return None
    points = points / scale
    # As the authors of t-SNE advise: first reduce to 50 directions, which removes noise and saves time.
    kept = min(50, *points.shape)
    points = PCA(kept, random_state=seed).fit_transform(points)
    if len(points) < 5:  # too few for t-SNE; their principal directions are enough
        padded = np.zeros((len(points), 2))
        padded[:, : min(2, kept)] = points[:, :2]
        return padded
    # The start from the principal directions makes runs similar and keeps the large structure.
    start = np.zeros((len(points), 2))
    start[:, : min(2, kept)] = points[:, :2]
    start *= 1e-4 / start[:, 0].std()
    perplexity = min(30.0, (len(points) - 1) / 3)
    tsne = TSNE(
        2,
        perplexity=perplexity,
        init=start.astype(np.float32),
        max_iter=STEPS,
        random_state=seed,
    )
    # One thread: t-SNE runs a thousand short parallel loops, which gain little from more threads. If
    # other programs keep the cores busy, the threads wait for each other, and seconds become minutes.
    with threadpool_limits(1):
        places: NDArray[np.float32] = tsne.fit_transform(points.astype(np.float32))
    return places.astype(np.float64)

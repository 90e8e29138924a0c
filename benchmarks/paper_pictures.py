"""Pictures of learned spaces and of ε, after Figures 4 and 5 of the paper, drawn from arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image
from sklearn.manifold import TSNE

from labelaudit.files import atomic_write
from labelaudit.reporting.plots.style import ALARM, CALM, DPI, INK, MUTED, style_axes

# Distinguishable with color-vision deficiency: Okabe and Ito's, with brown, gray and purple. Digits
# that look alike, such as 4, 7 and 9, or 3, 5 and 8, differ in lightness as well.
DIGIT_COLORS = (
    "#0072B2", "#E69F00", "#CC79A7", "#D55E00", "#56B4E9",
    "#009E73", "#7A4A2B", "#D6C400", "#5A5F66", "#6A3D9A",
)  # fmt: skip
HALO = [withStroke(linewidth=3, foreground="white")]
# Edges of the histograms of ε. The smallest number above 0 of 32 bits is 1.4e-45, so the first bin
# holds the labels whose ε is 0.
EPSILON_EDGES = np.array([1e-48, *np.geomspace(1e-45, 1, 31)])
EPSILON_TICKS = {3e-47: "0", 1e-40: "10⁻⁴⁰", 1e-20: "10⁻²⁰", 1: "1"}


@dataclass(frozen=True, eq=False)
class Space:
    """A learned space, laid out in the plane.

    Attributes
    ----------
    title, note
        The approach, and what was measured in the space itself.
    places
        ``(P, 2)``, from `map_to_plane`.
    classes
        ``(P,)``, the right class of each image, 0 to 9.
    given
        ``(P,)``, its given label, -1 where it has none.
    """

    title: str
    note: str
    places: np.ndarray
    classes: np.ndarray
    given: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """``(P,)`` bool, whether the given label is wrong."""
        return np.asarray((self.given >= 0) & (self.given != self.classes))


def map_to_plane(embeddings: np.ndarray, seed: int) -> np.ndarray:
    """Lay ``(P, d)`` embeddings out in the plane by t-SNE, ``(P, 2)`` float32 in [-1, 1]."""
    model = TSNE(2, perplexity=30, init="pca", random_state=seed)
    places = np.asarray(model.fit_transform(np.asarray(embeddings, dtype=np.float32)))
    places = places - (places.min(axis=0) + places.max(axis=0)) / 2
    return places / np.abs(places).max()


def draw_spaces(spaces: Sequence[Space], title: str, note: str, path: Path) -> None:
    """Draw one panel per space. Dots are images, colored by their right class.

    Images with a given label are larger and have the color of this label: circles where it is right,
    crosses where it is wrong. `title` names the picture and `note` says what was trained.
    """
    figure = _figure((10.4, 10.4 / len(spaces) + 1.2), title, note)
    axes = figure.subplots(1, len(spaces), squeeze=False)[0]
    labeled = any((space.given >= 0).any() for space in spaces)
    for axis, space in zip(axes, spaces, strict=True):
        _draw_space(axis, space, faint=labeled)
    classes = np.unique(np.concatenate([space.classes for space in spaces]))
    entries = [
        Line2D([], [], marker="o", linestyle="", color=DIGIT_COLORS[c], label=str(c))
        for c in classes
    ]
    words = "dots: images, in the color of their right class, which the digit names too"
    if labeled:
        words = (
            "color of a dot: the right class of an unlabeled image; of a circle or cross: the label"
        )
        entries += [
            Line2D([], [], marker="o", linestyle="", color=INK, markerfacecolor="white",
                   label="right label"),
            Line2D([], [], marker="X", linestyle="", color=INK, label="wrong label"),
        ]  # fmt: skip
    figure.legend(
        handles=entries, loc="outside lower center", ncols=len(entries), frameon=False,
        title=words, title_fontsize=10, fontsize=10, columnspacing=1.1, handletextpad=0.2,
    )  # fmt: skip
    _save(figure, path)


def _draw_space(axis: Axes, space: Space, *, faint: bool) -> None:
    """Draw the images, then those with a label, then the name of each class."""
    style_axes(axis, grid=False)
    axis.set(xticks=[], yticks=[], xlim=(-1.04, 1.04), ylim=(-1.04, 1.04), aspect="equal")
    axis.set_title(f"{space.title}\n", loc="left", fontsize=12, color=INK, fontweight="bold")
    axis.text(0, 1.02, space.note, transform=axis.transAxes, fontsize=9.5, color=MUTED)
    for spine in axis.spines.values():
        spine.set_visible(False)
    colors = np.asarray(DIGIT_COLORS)
    x, y = space.places.T
    axis.scatter(
        x, y, s=5, c=colors[space.classes], linewidths=0, alpha=0.35 if faint else 0.8,
        rasterized=True,
    )  # fmt: skip
    for marker, mask in (("o", (space.given >= 0) & ~space.wrong), ("X", space.wrong)):
        axis.scatter(
            x[mask], y[mask], s=38 if marker == "o" else 50, marker=marker,
            c=colors[space.given[mask]], edgecolors=INK, linewidths=0.8, zorder=3,
        )  # fmt: skip
    for number in np.unique(space.classes):
        middle = _middle(space.places[space.classes == number])
        axis.text(
            *middle, str(number), ha="center", va="center", fontsize=15, fontweight="bold",
            color=INK, path_effects=HALO, zorder=4,
        )  # fmt: skip


def _middle(places: np.ndarray) -> np.ndarray:
    """Return the point of a class that is nearest to most of its points."""
    median = np.median(places, axis=0)
    return np.asarray(places[np.linalg.norm(places - median, axis=1).argmin()])


def epsilon_shares(epsilon: np.ndarray) -> np.ndarray:
    """Return the share of ``(L,)`` ε in each bin of `EPSILON_EDGES`; the shares add up to 1."""
    values = np.clip(epsilon.astype(np.float64), EPSILON_EDGES[0], EPSILON_EDGES[-1])
    return np.asarray(np.histogram(values, EPSILON_EDGES)[0] / len(values))


def draw_epsilon(
    epsilon: Mapping[int, np.ndarray],
    wrong: np.ndarray,
    auroc: np.ndarray,
    note: str,
    path: Path,
) -> None:
    """Draw how ε of right and of wrong labels is distributed after some epochs, and its AUROC.

    Parameters
    ----------
    epsilon
        ε of the labels, ``(L,)``, by the epoch after which it was recorded.
    wrong
        ``(L,)`` bool.
    auroc
        ``(E,)``, of ε after each epoch.
    note
        Says what was trained.
    path
        The PNG file to write.
    """
    title = "Label uncertainty ε of right and of wrong labels over the epochs"
    figure = _figure((10.4, 6.0), title, note)
    grid = figure.add_gridspec(2, len(epsilon), height_ratios=(1.25, 1))
    first: Axes | None = None
    for column, (epoch, values) in enumerate(epsilon.items()):
        axis = figure.add_subplot(grid[0, column], sharex=first, sharey=first)
        first = first or axis
        style_axes(axis)
        for mask, color, name in ((~wrong, CALM, "right labels"), (wrong, ALARM, "wrong labels")):
            share = epsilon_shares(values[mask])
            axis.stairs(share, EPSILON_EDGES, color=color, linewidth=1.8, label=name)
            axis.stairs(share, EPSILON_EDGES, color=color, alpha=0.25, fill=True)
        axis.set_xscale("log")
        axis.set_title(f"epoch {epoch}", fontsize=11, color=INK)
        axis.set_xticks(list(EPSILON_TICKS), list(EPSILON_TICKS.values()))
        axis.minorticks_off()
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.tick_params(labelleft=column == 0)
        if column == 0:
            axis.set_ylabel("share of the labels")
            entries = axis.get_legend_handles_labels()
            figure.legend(*entries, loc="outside lower center", ncols=2, frameon=False, fontsize=10)
        if column == len(epsilon) // 2:
            axis.set_xlabel("ε, the difference of learner and guider on the given label")
    below = figure.add_subplot(grid[1, :])
    style_axes(below)
    below.plot(np.arange(1, len(auroc) + 1), auroc, color=INK, linewidth=1.8)
    below.axhline(0.5, color=MUTED, linestyle="--", linewidth=1.2)
    below.annotate(
        "by chance", (len(auroc), 0.5), xytext=(0, -14), textcoords="offset points", ha="right",
        fontsize=9.5, color=MUTED,
    )  # fmt: skip
    below.plot(list(epsilon), auroc[np.array(list(epsilon)) - 1], "o", color=INK, markersize=5)
    below.set(xlabel="epoch", ylabel="AUROC of ε", ylim=(0, 1.02), xlim=(0, len(auroc) + 1))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    _save(figure, path)


def _figure(size: tuple[float, float], title: str, note: str) -> Figure:
    """Return an empty figure, `size` in inches, with a title and below it a note."""
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    # The layout leaves room for the higher of the two lines only if it holds both.
    figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=13, color=INK, fontweight="bold")
    below = 1 - (0.02 + 13 * 1.35 / 72) / size[1]
    figure.text(0.01, below, note, ha="left", va="top", fontsize=10.5, color=MUTED)
    return figure


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG file with 256 colors, which takes a third of the space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.set_dpi(DPI)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    with atomic_write(path) as partial:
        picture.quantize(256).save(partial, format="png", optimize=True)

"""The plots of a run, each a function from data to a PNG file.

Figures are built with Matplotlib's object-oriented API and never with pyplot: pyplot keeps global
state, which threads would share and which would disturb the backend of a user's notebook. For the
same reason nothing is set through rcParams; what matters to the look is set on the artists.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection, PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FormatStrFormatter, MaxNLocator
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from threadpoolctl import threadpool_limits

from labelaudit.files import atomic_write

# Blue and vermilion (Okabe and Ito) are told apart by nearly everyone, also when printed in gray.
CALM = "#0072B2"  # labels that look right, or are
ALARM = "#D55E00"  # labels that look wrong, or are
INK = "#1F2933"
MUTED = "#5B6672"
FAINT = "#DDE2E8"
# Petroff's ten colors, found by a search for distinguishability under color-vision deficiency;
# the two grays come last, so that up to eight classes can stand beside a gray "other".
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
COUNT_COLORS = LinearSegmentedColormap.from_list(
    "suspect counts", ["#FDE9DA", "#F6A66B", ALARM, "#7A2E00"]
)

DPI = 130
MAX_EPOCHS = 100  # drawn at most; more cannot be told apart at this width
FEW_EPOCHS = 8  # up to here each epoch gets its own mark, above a band runs through them
MAX_VALUES = 50_000  # of one group and epoch; quantiles of more look the same and take longer
MAX_CLASSES = 30  # rows and columns of the matrix of class pairs
MAX_ANNOTATED = 20  # classes up to which the counts are written into the cells
QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95, 0.99)

# Fonts that draw what DejaVu Sans cannot, by the names under which systems install them.
FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)


class EpsilonSource(Protocol):
    """What plots and the page need of the recorded history, one epoch in memory at a time.

    `labelaudit.training.recorder.EpsilonHistory` is one.
    """

    @property
    def epochs(self) -> Sequence[int]:
        """The recorded epochs, in order."""
        ...

    def read(self, epoch: int) -> Mapping[str, NDArray[np.float32]]:
        """``epsilon``, ``learner_prob``, ``guider_prob`` of one epoch, (L,) float32 in [0, 1]."""
        ...


def spread_epochs(epochs: Sequence[int], most: int) -> list[int]:
    """Choose at most `most` epochs, evenly spread, the first and the last among them.

    Parameters
    ----------
    epochs : sequence of int
        In order.
    most : int
        At least 1; where it is 1, the last epoch is chosen.

    Returns
    -------
    list of int
    """
    if len(epochs) <= most:
        return list(epochs)
    if most == 1:
        return [epochs[-1]]
    positions = np.linspace(0, len(epochs) - 1, most).round().astype(int)
    return [epochs[position] for position in positions]


def plot_epsilon(
    history: EpsilonSource,
    path: Path,
    wrong: NDArray[np.bool_] | None,
    flagged: NDArray[np.bool_],
) -> None:
    """Plot how ε is distributed over the epochs in two groups of labels (the paper's Figure 4b).

    Where the truth is known the groups are right and wrong labels, else flagged and not flagged
    ones. The left panel shows quantiles per epoch, the right one the whole distribution of the
    last epoch. The ε axis is a square root: most ε lie close to 0, a logarithm cannot show 0.

    Parameters
    ----------
    history : EpsilonSource
        Recorded ε of the L labeled samples; one epoch is read at a time, at most 100 in all.
    path : Path
        The PNG file to write.
    wrong : (L,) bool or None
        Which given labels are wrong in truth; None where the truth is not known.
    flagged : (L,) bool
        Which labels the run calls suspect; not used where `wrong` is given.

    Raises
    ------
    OutputError
        If the file cannot be written.
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
    _style(axes)
    _style(last_axes)
    _title(
        axes,
        "Label uncertainty ε: do the two groups come apart?",
        "The further apart, the more ε alone tells. Either group may be the higher one.",
    )
    if not epochs or not masks:
        _say(axes, "no ε was recorded")
        last_axes.set_visible(False)
        _save(figure, path)
        return

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
    tops = np.concatenate([rows[:, -1] for rows in quantiles.values()])
    top = min(max(1.1 * float(tops[np.isfinite(tops)].max(initial=0)), 1e-4), 1.0)

    for position, (name, mask) in enumerate(masks.items()):
        shift = (position - (len(masks) - 1) / 2) * 0.16
        label = f"{name} ({int(mask.sum()):,})"
        _draw_quantiles(axes, np.asarray(epochs), quantiles[name], colors[name], label, shift)
        edges = np.linspace(0, np.sqrt(top), 41) ** 2  # even steps on the square-root axis
        counts, _ = np.histogram(last[name], bins=edges)
        share = 100 * counts / max(len(last[name]), 1)
        last_axes.stairs(share, edges, orientation="horizontal", color=colors[name], linewidth=1.5)
        last_axes.stairs(
            share, edges, orientation="horizontal", color=colors[name], fill=True, alpha=0.25
        )

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
    _save(figure, path)


def plot_review(
    review: Mapping[str, Any],
    num_suspects: int,
    path: Path,
    wrong: NDArray[np.bool_] | None = None,
) -> None:
    """Plot how many wrong labels are found by looking at so many labels, the most suspect first.

    Parameters
    ----------
    review : mapping
        What summary.json holds under "review".
    num_suspects : int
        How many labels are flagged.
    path : Path
        The PNG file to write.
    wrong : (L,) bool, optional
        Whether each label is wrong in truth, the most suspect first; None where it is not known.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    curve = review["curve"]
    looked = np.array([0, *(point["reviewed"] for point in curve)], dtype=np.float64)
    found = np.array([0, *(point["expected_found"] for point in curve)])
    total, labels = found[-1], looked[-1]
    figure = Figure(figsize=(6.6, 3.8))
    axes = figure.add_axes((0, 0, 1, 1))
    _style(axes)
    _title(
        axes,
        "Labels looked at, and wrong labels found",
        "The most suspect first. Where the curve turns flat, looking on finds little more.",
    )
    enough = (review["to_find"] or {}).get("0.99", labels)
    right = min(labels, max(1.35 * enough, 1.2 * num_suspects, 5))
    axes.plot([0, total, right], [0, total, total], color=MUTED, linewidth=1, linestyle=":")
    axes.plot([0, labels], [0, total], color=MUTED, linewidth=1, linestyle="--")
    axes.plot(looked, found, color=ALARM, linewidth=2.2, label="expected from the scores")
    if wrong is not None:
        axes.plot(
            np.arange(len(wrong) + 1),
            np.concatenate([[0], np.cumsum(wrong)]),
            color=CALM,
            linewidth=1.6,
            label="in truth",
        )
    if 0 < num_suspects <= right:
        axes.axvline(num_suspects, color=INK, linewidth=1)
        axes.annotate(
            f"{num_suspects:,} flagged",
            (num_suspects, 0),
            xytext=(5, 6),
            textcoords="offset points",
            fontsize=9,
            color=INK,
        )
    for share, count in (review["to_find"] or {}).items():
        if count > right:
            continue
        axes.plot([count], [float(share) * total], marker="o", markersize=5, color=ALARM)
        axes.annotate(
            f"{float(share):.0%}: {count:,}",
            (count, float(share) * total),
            xytext=(-8, 6) if float(share) < 0.95 else (0, -18),
            ha="right" if float(share) < 0.95 else "center",
            textcoords="offset points",
            fontsize=9,
            color=INK,
        )
    axes.set_xlim(0, right)
    top = max(total, float(wrong.sum()) if wrong is not None else 0.0)
    axes.set_ylim(0, 1.08 * max(top, 1e-9))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("labels looked at")
    axes.set_ylabel("wrong labels found")
    axes.annotate(
        "dotted: only wrong labels looked at; dashed: labels looked at in any order",
        (0, 0),
        xytext=(0, -46),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=MUTED,
    )
    if wrong is not None:
        axes.legend(loc="center right", frameon=False, labelcolor=INK)
    _save(figure, path)


def plot_class_pairs(samples: pd.DataFrame, class_names: Sequence[str], path: Path) -> None:
    """Plot how many suspects were given one class and look like another.

    Parameters
    ----------
    samples : DataFrame
        With ``given_label``, ``suggested_label`` and ``is_label_issue``.
    class_names : sequence of str
        All classes, in order. Of more than 30, those with most suspects are shown (as given or as
        suggested class), still in this order.
    path : Path
        The PNG file to write.

    Raises
    ------
    OutputError
        If the file cannot be written.
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
    _style(axes, grid=False)
    hint = "A dark cell is a pair of classes that is confused often."
    if num_classes > MAX_CLASSES:
        hint = (
            f"{side} of {num_classes} classes: those in most suspects "
            f"({int(inside.sum()):,} of {len(flagged):,} suspects)."
        )
    _title(axes, "Which classes are mistaken for which?", hint)
    image = axes.imshow(
        np.ma.masked_equal(counts, 0),
        cmap=COUNT_COLORS,
        vmin=0,
        vmax=max(int(counts.max(initial=0)), 1),
    )
    edges = np.arange(side + 1) - 0.5
    axes.hlines(edges, -0.5, side - 0.5, color=FAINT, linewidth=0.6)
    axes.vlines(edges, -0.5, side - 0.5, color=FAINT, linewidth=0.6)
    # Nothing can lie on the diagonal: the suggested class is never the given one.
    diagonal = [Rectangle((edge, edge), 1, 1) for edge in edges[:-1]]
    axes.add_collection(
        PatchCollection(diagonal, facecolor="#F1F3F5", edgecolor=FAINT, hatch="////", linewidth=0)
    )
    if not inside.any():
        _say(axes, "no label was flagged")
    elif side <= MAX_ANNOTATED:
        for row, column in np.argwhere(counts):
            dark = counts[row, column] > 0.55 * counts.max()
            axes.text(
                column,
                row,
                f"{counts[row, column]:,}",
                ha="center",
                va="center",
                fontsize=9 if side <= 10 else 7,
                color="white" if dark else INK,
            )
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02)
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        bar.ax.tick_params(colors=INK, labelsize=8)
        bar.set_label("suspects", color=INK)
    axes.set_xlim(-0.5, side - 0.5)
    axes.set_ylim(side - 0.5, -0.5)
    names = [_drawable(class_names[code]) for code in shown]
    axes.set_xticks(range(side), names)
    axes.set_yticks(range(side), names)
    _use_name_fonts([*axes.get_xticklabels(), *axes.get_yticklabels()])
    if max(map(len, names)) > 3:
        slanted = side <= 10
        for label in axes.get_xticklabels():
            label.set_rotation(45 if slanted else 90)
            label.set_rotation_mode("anchor" if slanted else "default")
            label.set_horizontalalignment("right" if slanted else "center")
    axes.tick_params(length=0, labelsize=9 if side <= MAX_ANNOTATED else 7)
    axes.set_xlabel("suggested class")
    axes.set_ylabel("given class")
    _save(figure, path)


def plot_precision_recall(
    suspect_score: NDArray[np.floating[Any]],
    wrong: NDArray[np.bool_],
    threshold_value: float,
    path: Path,
    flagged: NDArray[np.bool_] | None = None,
) -> None:
    """Plot precision against recall over all thresholds, and mark the one that was used.

    Parameters
    ----------
    suspect_score : (L,) float
        In [0, 1], high = suspect; NaN (unlabeled) is left out.
    wrong : (L,) bool
        Which given labels are wrong in truth.
    threshold_value : float
        The score that the decision was made at.
    path : Path
        The PNG file to write.
    flagged : (L,) bool or None
        Which labels were flagged; None for those that score above `threshold_value`. Rules that
        flag a given number include the label that lies on the threshold.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    labeled = np.isfinite(suspect_score)
    flagged = suspect_score > threshold_value if flagged is None else flagged
    score, wrong, flagged = suspect_score[labeled], wrong[labeled], flagged[labeled]

    figure = Figure(figsize=(6.2, 4.2))
    axes = figure.add_axes((0, 0, 1, 1))
    _style(axes)
    title = "How well does the score find the wrong labels?"
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall: share of the wrong labels that is found")
    axes.set_ylabel("precision: share of the flagged that is wrong")
    if not wrong.any() or wrong.all():
        _title(axes, title, "Needs both wrong and right labels.")
        _say(
            axes, f"by the truth, {'every' if len(wrong) and wrong.all() else 'no'} label is wrong"
        )
        _save(figure, path)
        return

    precision, recall, _ = precision_recall_curve(wrong, score)
    average = average_precision_score(wrong, score)
    auroc = roc_auc_score(wrong, score)
    _title(
        axes,
        title,
        f"The closer to the upper right, the better. "
        f"Average precision {average:.3f}, AUROC {auroc:.3f}.",
    )
    axes.fill_between(recall, precision, step="post", color=CALM, alpha=0.12, linewidth=0)
    axes.step(recall, precision, where="post", color=CALM, linewidth=2, label="every threshold")
    axes.axhline(
        wrong.mean(),
        color=MUTED,
        linestyle="--",
        linewidth=1.2,
        label=f"flagging at random ({wrong.mean():.0%} of all labels are wrong)",
    )
    if flagged.any():
        found = int((flagged & wrong).sum())
        axes.plot(
            found / wrong.sum(),
            found / flagged.sum(),
            "o",
            color=ALARM,
            markersize=10,
            markeredgecolor="white",
            markeredgewidth=1.5,
            label=f"threshold {threshold_value:.3g}: {int(flagged.sum()):,} flagged, precision "
            f"{found / flagged.sum():.2f}, recall {found / wrong.sum():.2f}",
        )
    else:
        axes.plot([], [], " ", label=f"threshold {threshold_value:.3g}: nothing is flagged")
    axes.legend(loc="lower left", framealpha=0.9, edgecolor=FAINT, labelcolor=INK, fontsize=9)
    _save(figure, path)


def plot_embedding(
    embeddings: NDArray[np.floating[Any]],
    samples: pd.DataFrame,
    path: Path,
    seed: int,
    max_points: int = 2000,
) -> None:
    """Plot a map of the images (t-SNE), colored by predicted class, suspects crossed.

    Of more than `max_points` images a seeded random part is drawn: suspects get their own share
    of the points, but at least a tenth (or all of them, if fewer), so that rare suspects are seen
    and frequent ones do not look more frequent than they are.

    Parameters
    ----------
    embeddings : (N, d) float
        One row per sample; may be memory-mapped, only the rows drawn are read. Rows that are not
        finite are left out.
    samples : DataFrame
        N rows with ``predicted_label`` and ``is_label_issue``.
    path : Path
        The PNG file to write.
    seed : int
        Of the choice of images and of t-SNE.
    max_points : int
        Images drawn at most; t-SNE of 2,000 takes some seconds.

    Raises
    ------
    OutputError
        If the file cannot be written.
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
    _style(axes, grid=False)
    _title(
        axes,
        "A map of the samples: similar ones lie close together",
        "A cross deep inside a cluster is the surest mistake: the sample looks like that class, "
        "its label says another.",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    shown = f"{len(rows):,} of {len(samples):,}" if len(rows) < len(samples) else f"{len(rows):,}"
    axes.set_xlabel(f"t-SNE of {shown} samples (no unit: only who is near whom has a meaning)")
    axes.set_ylabel("t-SNE, second direction")
    places = _map_to_plane(points, seed)  # (P, 2)
    if places is None:
        _say(axes, "all embeddings are the same" if len(rows) else "there is nothing to draw")
        _save(figure, path)
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
    _use_name_fonts(legend.get_texts())
    _save(figure, path)


def _scatter_classes(
    axes: Axes, places: NDArray[np.float64], predicted: pd.Series, size: float
) -> dict[str, PathCollection]:
    """Draw a dot for each image; return what the legend shall list, as it shall be called.

    Of more classes than there are colors, only the most frequent have one.
    """
    # The legend gets its entries by hand: Matplotlib would drop names that begin with "_".
    entries: dict[str, PathCollection] = {}
    frequency = predicted.value_counts(sort=True)
    named = len(frequency) if len(frequency) <= len(CLASS_COLORS) else len(CLASS_COLORS) - 2
    rest = ~predicted.isin(frequency.index[:named]).to_numpy()
    x, y = places.T
    others = axes.scatter(x[rest], y[rest], size, OTHER_COLOR, linewidths=0)  # lies beneath
    for name, color in zip(sorted(frequency.index[:named]), CLASS_COLORS, strict=False):
        of_class = (predicted == name).to_numpy()
        dots = axes.scatter(x[of_class], y[of_class], size, color, alpha=0.75, linewidths=0)
        label = _drawable(name)
        entries[label if label not in entries else f"{label} ({len(entries) + 1})"] = dots
    if rest.any():
        entries[f"{len(frequency) - named} other classes"] = others
    return entries


def _choose_points(
    suspect: NDArray[np.bool_], max_points: int, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Choose rows to draw, in order; see `plot_embedding` for the share of the suspects."""
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
    """Lay (P, d) points out in the plane, (P, 2); None where they do not differ."""
    if len(points) == 0 or points.shape[1] == 0:
        return None
    points = points - points.mean(axis=0)
    scale = np.abs(points).max()
    if scale < 1e-12:
        return None
    points = points / scale
    # t-SNE's own advice: first down to some 50 directions, which drops noise and saves time.
    kept = min(50, *points.shape)
    points = PCA(kept, random_state=seed).fit_transform(points)
    if len(points) < 5:  # too few for neighborhoods; their principal directions say it all
        padded = np.zeros((len(points), 2))
        padded[:, : min(2, kept)] = points[:, :2]
        return padded
    # Starts from the principal directions, which makes runs alike and keeps the large structure.
    start = np.zeros((len(points), 2))
    start[:, : min(2, kept)] = points[:, :2]
    start *= 1e-4 / start[:, 0].std()
    perplexity = min(30.0, (len(points) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init=start.astype(np.float32), random_state=seed)
    # One thread: its thousand short parallel loops gain little from more, and where other programs
    # keep the cores busy they wait for each other so long that seconds become minutes.
    with threadpool_limits(1):
        places: NDArray[np.float32] = tsne.fit_transform(points.astype(np.float32))
    return places.astype(np.float64)


def _draw_quantiles(
    axes: Axes,
    epochs: NDArray[np.int_],
    quantiles: NDArray[np.float64],
    color: str,
    label: str,
    shift: float,
) -> None:
    """Draw (E, 6) quantiles over the epochs: marks side by side for few epochs, else bands."""
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
    # Matplotlib asks for places just below 0 when it lays out the margins.
    return np.sqrt(np.maximum(values, 0))


def _sqrt_ticks(top: float) -> list[float]:
    """Choose round ticks on a square-root axis from 0 to `top`, none too close to the next."""
    round_values = [m * 10.0**e for e in range(0, -8, -1) for m in (8, 6, 5, 4, 3, 2, 1)]
    ticks: list[float] = []
    for value in [v for v in round_values if v <= top]:
        root = np.sqrt(value / top)
        if root > 0.09 and (not ticks or np.sqrt(ticks[-1] / top) - root > 0.09):
            ticks.append(value)
    return [0.0, *reversed(ticks)]


def _style(axes: Axes, grid: bool = True) -> None:
    """Set every color, so that a user's dark style sheet cannot make half of them unreadable."""
    figure = axes.get_figure()
    if figure is not None:
        figure.set_facecolor("white")
    axes.set_facecolor("white")
    for side, spine in axes.spines.items():
        spine.set_color(MUTED)
        spine.set_visible(side in ("left", "bottom"))
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.set_axisbelow(True)
    axes.grid(False)
    if grid:
        axes.grid(True, color=FAINT, linewidth=0.8)


def _title(axes: Axes, title: str, hint: str) -> None:
    """Write what the plot asks, and below it in small what to look for."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=24)
    axes.annotate(
        hint,
        (0, 1),
        xytext=(0, 8),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=MUTED,
    )


def _say(axes: Axes, message: str) -> None:
    """Say in the middle of an empty plot why it is empty."""
    axes.text(
        0.5,
        0.5,
        message,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=11,
        color=MUTED,
        bbox={"facecolor": "white", "edgecolor": FAINT, "boxstyle": "round,pad=0.6"},
    )


def _save(figure: Figure, path: Path) -> None:
    # The axes fill the figure, and "tight" makes room for what is written around them: names of
    # any length fit without the cost of a layout engine, which draws everything several times.
    with atomic_write(path) as temporary:
        figure.savefig(
            temporary,
            format="png",
            dpi=DPI,
            facecolor="white",
            bbox_inches="tight",
            pad_inches=0.15,
        )


@functools.cache
def _name_fonts() -> tuple[tuple[str, ...], frozenset[int]]:
    """Find the installed font families for class names, and the characters that they draw."""
    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    families = tuple(name for name in ("DejaVu Sans", *FALLBACK_FONTS) if name in installed)
    characters: set[int] = set()
    for name in families:
        characters.update(ft2font.FT2Font(installed[name]).get_charmap())
    return families, frozenset(characters)


def _use_name_fonts(texts: Iterable[Text]) -> None:
    """Let class names be drawn as they are: other scripts too, and "$" not as mathematics."""
    families, _ = _name_fonts()
    for text in texts:
        text.set_fontfamily(list(families))
        text.set_parse_math(False)


def _drawable(name: str, most: int = 20) -> str:
    """Shorten a class name to one line, characters that no font has written as their codes."""
    _, characters = _name_fonts()
    name = "".join(
        letter if ord(letter) in characters else letter.encode("unicode-escape").decode()
        for letter in " ".join(name.split())
    )
    name = name or "(empty name)"
    return name if len(name) <= most else name[: most - 1] + "…"

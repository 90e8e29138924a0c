"""Plots of how many wrong labels are found: review effort, precision and recall."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from labelaudit.reporting.plots.style import (
    ALARM,
    CALM,
    FAINT,
    INK,
    MUTED,
    save_figure,
    style_axes,
    write_notice,
    write_title,
)


def plot_review(
    review: Mapping[str, Any],
    num_suspects: int,
    path: Path,
    wrong: NDArray[np.bool_] | None = None,
) -> None:
    """Plot how many wrong labels are found over how many are reviewed, the most suspect first.

    Parameters
    ----------
    review : mapping
        The key "review" of summary.json.
    num_suspects : int
        Number of flagged labels.
    path : Path
        The PNG file to write.
    wrong : (L,) bool, optional
        Whether each label is wrong, the most suspect first. None if the truth is not known.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    curve = review["curve"]
    looked = np.array([0, *(point["reviewed"] for point in curve)], dtype=np.float64)
    found = np.array([0, *(point["expected_found"] for point in curve)])
    total, labels = found[-1], looked[-1]
    figure = Figure(figsize=(6.6, 3.8))
    axes = figure.add_axes((0, 0, 1, 1))
    style_axes(axes)
    write_title(
        axes,
        "Labels reviewed, and wrong labels found",
        "The most suspect first. Where the curve becomes flat, further review finds few more.",
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
            label="by the truth",
        )
    _mark_counts(axes, review["to_find"] or {}, num_suspects, total, right)
    axes.set_xlim(0, right)
    top = max(total, float(wrong.sum()) if wrong is not None else 0.0)
    axes.set_ylim(0, 1.08 * max(top, 1e-9))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("labels reviewed")
    axes.set_ylabel("wrong labels found")
    axes.annotate(
        "dotted: only wrong labels are reviewed; dashed: labels are reviewed in random order",
        (0, 0),
        xytext=(0, -46),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=MUTED,
    )
    if wrong is not None:
        axes.legend(loc="center right", frameon=False, labelcolor=INK)
    save_figure(figure, path)


def _mark_counts(
    axes: Axes, to_find: Mapping[str, int], num_suspects: int, total: float, right: float
) -> None:
    """Mark how many labels are flagged, and how many to review to find certain shares of `total`."""
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
    for share, count in to_find.items():
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
        In [0, 1], high = suspect. Samples with NaN (unlabeled) are left out.
    wrong : (L,) bool
        Which given labels are wrong.
    threshold_value : float
        The threshold of the decision.
    path : Path
        The PNG file to write.
    flagged : (L,) bool or None
        Which labels are flagged; None for those that score above `threshold_value`. A rule that flags
        a given number of labels also flags the one that lies on the threshold.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    labeled = np.isfinite(suspect_score)
    flagged = suspect_score > threshold_value if flagged is None else flagged
    score, wrong, flagged = suspect_score[labeled], wrong[labeled], flagged[labeled]

    figure = Figure(figsize=(6.2, 4.2))
    axes = figure.add_axes((0, 0, 1, 1))
    style_axes(axes)
    title = "How well does the score find the wrong labels?"
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall: fraction of the wrong labels that are found")
    axes.set_ylabel("precision: fraction of the flagged labels that are wrong")
    if not wrong.any() or wrong.all():
        write_title(axes, title, "Needs both wrong and right labels.")
        write_notice(
            axes, f"by the truth, {'every' if len(wrong) and wrong.all() else 'no'} label is wrong"
        )
        save_figure(figure, path)
        return

    precision, recall, _ = precision_recall_curve(wrong, score)
    average = average_precision_score(wrong, score)
    auroc = roc_auc_score(wrong, score)
    write_title(
        axes,
        title,
        f"The closer to the upper right corner, the better. "
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
    save_figure(figure, path)

"""The report page: one HTML file that needs no network and cannot reach one.

Everything that comes from the data (names, ids, warnings) passes through Jinja's autoescape. A content
security policy is the second line of defense. It allows only the page's own script and style, known by
their hashes; the blocks of `labelaudit.reporting.blocks` beside the page; and images that the page
contains or that are on the same disk.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
from markupsafe import Markup

from labelaudit.files import atomic_write
from labelaudit.reporting import formats
from labelaudit.reporting.blocks import DATA_FOLDER, Block, block_text
from labelaudit.suspects.summary import KnownMetrics, Summary

if TYPE_CHECKING:
    from labelaudit.suspects.checked import CheckedScores

PAGE = files("labelaudit.reporting") / "page"
# The parts of the page's script, in this order. They are joined to one script with one scope.
SCRIPT_PARTS = (
    "tabs", "data", "decisions", "saving", "csv", "list", "words", "grid", "one", "drawing", "picker",
    "keys", "start",
)  # fmt: skip
MAX_CLASS_ROWS = 100
MAX_PAIR_ROWS = 50
MAX_WARNINGS = 50

STATUS_WORDS = {
    "interrupted": "The training was interrupted",
    "out of time": "The time limit was reached",
    "diverged": "The training diverged",
}


@dataclass(frozen=True)
class PlotText:
    """Title and caption of a plot, for readers who do not know this kind of plot."""

    title: str
    caption: str


PLOT_TEXTS = {
    "review": PlotText(
        "How many labels to review",
        "The curve shows how many wrong labels are expected to be found when the labels are reviewed "
        "from the most suspect on. The dots mark how many labels to review to find 50%, 90% and 99% of "
        "the wrong ones. Where the curve becomes flat, further review finds few more.",
    ),
    "class_pairs": PlotText(
        "Which classes are mistaken for which",
        "Each row is a given class, each column is the class that the model suggests instead, and "
        "each cell is the number of flagged labels. A single dark cell suggests that annotators "
        "understand a rule differently. Flags that are spread evenly look more like slips.",
    ),
    "precision_recall": PlotText(
        "Precision and recall against the truth",
        "From left to right along the curve, more labels are flagged. More of the wrong labels are "
        "found (recall rises), and more right ones are flagged by mistake (precision falls). The "
        "orange dot is the threshold of this report. A curve near the dashed line would be no better "
        "than flagging labels at random.",
    ),
    "embedding": PlotText(
        "A map of the samples",
        "Each dot is a sample, colored by its predicted class. t-SNE places samples that the model "
        "finds similar close together. Crosses are flagged labels. A cross in the middle of a cluster "
        "is most likely a mistake. A cross between two clusters is a sample that could be either. "
        "Distances between clusters and the sizes of clusters have no meaning. For large data sets a "
        "random subset is drawn. In it suspects have the same share as in the data, but at least one "
        "tenth.",
    ),
    "epsilon": PlotText(
        "Label uncertainty ε over the epochs",
        "ε is the difference between the probabilities that two copies of the model give to a label. "
        "The learner follows every training step; the guider is its slow moving average. Blue stands "
        "for labels that look right, and orange for labels that look wrong. If the truth is known, "
        "the colors stand for labels that are right and wrong. Where the bands are separate, ε "
        "distinguishes the two groups. Where they overlap it does not, and the ranking relies on the "
        "score described above. The panel on the right shows the last epoch in full.",
    ),
}
"""Titles and captions by the keys of `render_page`'s `plots`, in the order of the page."""


@dataclass(frozen=True)
class PlotFigure:
    """A plot on the page."""

    text: PlotText
    image: str  # data URI


@dataclass(frozen=True)
class ClassPair:
    """A given and a suggested class, and how many flagged labels they share."""

    given: str
    suggested: str
    count: int
    key: str  # the value of the pair in the review's filter
    listed: bool  # whether the review lists any of its suspects


def render_page(
    *,
    suspects: pd.DataFrame,
    summary: Summary,
    plots: Mapping[str, Path],
    blocks: Sequence[Block] = (),
    decisions: Sequence[Mapping[Any, Any]] = (),
    epochs: Sequence[int] = (),
    noun: str = "images",
    num_listed: int | None = None,
    data_folder: str = DATA_FOLDER,
    checked: CheckedScores | None = None,
    live: bool = False,
) -> str:
    """Render the report page.

    The size of the page is bounded for any data: long tables are cut, with a note that says so. The
    data of single suspects are in files beside the page.

    Parameters
    ----------
    suspects : DataFrame
        The flagged samples, the most suspect first, from
        `labelaudit.reporting.tables.suspects_table`.
    summary : Summary
        The content of summary.json.
    plots : mapping of str to Path
        PNG files by the keys of `PLOT_TEXTS`. Missing plots are left out. Plots with other keys follow
        without a caption.
    blocks : sequence of Block
        The blocks of `labelaudit.reporting.review_data` that are part of the page itself.
    decisions : sequence of mapping
        Rows of corrections.csv that the review starts with.
    epochs : sequence of int
        The recorded epochs.
    noun : str
        "images", or "samples" where there are no pictures.
    num_listed : int, optional
        Number of suspects that the review lists. By default all of them.
    data_folder : str
        Name of the folder beside the page that holds the other blocks.
    checked : CheckedScores, optional
        The scores compared with the decisions of a person.
    live : bool
        Whether `labelaudit review` serves the page.

    Returns
    -------
    str
        The HTML text.
    """
    # The classes with most suspects come first, so that a table that is cut keeps what matters.
    classes = sorted(summary.per_class, key=lambda row: -row.num_suspects)
    known = [key for key in PLOT_TEXTS if key in plots]
    others = [key for key in plots if key not in PLOT_TEXTS]
    num_listed = len(suspects) if num_listed is None else num_listed
    pairs = class_pairs(suspects, summary.class_names, num_listed)
    page = _environment().get_template("report.html.j2")
    carried = [*blocks, *([Block("decisions", block_text(decisions))] if decisions else [])]
    return page.render(
        live=live,
        data_folder=data_folder,
        style=Markup(page_style()),
        script=Markup(page_script()),
        summary=summary,
        verdict=_verdict(summary),
        duplicates=_duplicates(summary.duplicates),
        unfinished=_unfinished(summary.status, epochs),
        metrics=_metrics(summary.metrics),
        checked=checked,
        classes=classes[:MAX_CLASS_ROWS],
        num_classes_listed=len(classes),
        pairs=pairs[:MAX_PAIR_ROWS],
        num_pairs=len(pairs),
        figures=[
            PlotFigure(
                PLOT_TEXTS.get(key, PlotText(key, "")), _png_data_uri(plots[key].read_bytes())
            )
            for key in [*known, *others]
        ],
        noun=noun,
        num_listed=num_listed,
        # `block_text` has escaped whatever could end a script.
        blocks=[(block.name, Markup(block.json)) for block in carried],
        max_warnings=MAX_WARNINGS,
        config=json.dumps(summary.config, indent=2, ensure_ascii=False, default=str),
    )


def write_page(path: Path, html: str) -> None:
    """Write the report page, atomically. Raises OutputError if the file cannot be written."""
    with atomic_write(path) as temporary:
        # A file name that is not Unicode is shown with "?". It must not prevent the report.
        temporary.write_bytes(html.encode("utf-8", errors="replace"))


@functools.cache
def page_style() -> str:
    """Return the style of the page, which its security policy knows by its hash."""
    return (PAGE / "report.css").read_text(encoding="utf-8")


@functools.cache
def page_script() -> str:
    """Return the script of the page, which its security policy knows by its hash."""
    folder = PAGE / "script"
    parts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPT_PARTS]
    # Wrapped in a function, so that no name of the script becomes global.
    return '(() => {\n"use strict";\n\n' + "\n".join(parts) + "})();\n"


def class_pairs(
    suspects: pd.DataFrame, class_names: Sequence[str], num_listed: int
) -> list[ClassPair]:
    """Return the pairs of given and suggested classes of suspects, the most frequent first."""
    codes = {name: code for code, name in enumerate(class_names)}

    def pairs_of(some: pd.DataFrame) -> list[tuple[Any, Any]]:
        return list(zip(some["given_label"], some["suggested_label"], strict=True))

    listed = set(pairs_of(suspects.head(num_listed)))
    return [
        ClassPair(
            formats.shown_name(given),
            formats.shown_name(suggested),
            count,
            f"{codes.get(given, -1)},{codes.get(suggested, -1)}",
            (given, suggested) in listed,
        )
        for (given, suggested), count in Counter(pairs_of(suspects)).most_common()
    ]


def _png_data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _duplicates(pairs: str) -> str:
    """Return a sentence about samples that occur twice with different labels, "" if there are none."""
    if not pairs:
        return ""
    return (
        f"In addition, {pairs} equal, or nearly equal, but labeled differently; see duplicates.csv. In"
        " each pair at least one label is most likely wrong."
    )


def _verdict(summary: Summary) -> str:
    """Return one sentence that says what was found."""
    suspects = summary.num_suspects
    verified = summary.num_verified
    labeled = summary.num_labeled - verified
    labels = f"{labeled:,} label{'' if labeled == 1 else 's'}"
    if verified:
        labels += " that nobody has verified"
    if not summary.num_labeled:
        return "No sample has a label, so there is nothing to check."
    if not labeled:
        return "All labels are verified, so there is nothing to check."
    if not summary.trust.trustworthy:
        return f"{suspects:,} of {labels} were flagged, but see the warning above."
    if not suspects:
        return f"No label looks wrong among {labels}."
    share = formats.percent(suspects / labeled)
    if suspects == 1:
        return f"One of {labels} looks wrong ({share})."
    return f"About {suspects:,} of {labels} look wrong ({share})."


def _unfinished(status: str, epochs: Sequence[int]) -> str | None:
    """Return a sentence that says that the training ended early, or None if it did not."""
    if status == "complete":
        return None
    what = STATUS_WORDS.get(status, f"The run ended with the status “{status}”")
    after = f"after epoch {epochs[-1]}" if epochs else "before the first epoch was over"
    return (
        f"{what} {after}. The ranking uses what the model had learned by then. A complete run may rank "
        "the labels differently."
    )


def _metrics(metrics: KnownMetrics) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of each metric; empty if the truth is not known."""
    if metrics.num_wrong is None:
        return []
    meanings = {
        "precision": ("Precision", "fraction of the flagged labels that are wrong"),
        "recall": ("Recall", "fraction of the wrong labels that are flagged"),
        "f1": ("F1", "harmonic mean of precision and recall; 1 is perfect"),
        "auroc": ("AUROC", "probability that a wrong label ranks above a right one"),
        "average_precision": ("Average precision", "mean precision over all thresholds"),
    }
    rows = [("Wrong labels", f"{metrics.num_wrong:,}", "labels that differ from the truth")]
    for key, (name, meaning) in meanings.items():
        value = getattr(metrics, key)
        shown = formats.percent(value) if key in ("precision", "recall") else formats.decimal(value)
        rows.append((name, shown, meaning))
    return rows


def source_hash(text: str) -> str:
    """Return the hash that allows an inline script or style in a content security policy."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labelaudit.reporting", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=formats.percent,
        decimal=formats.decimal,
        count=formats.count,
        duration=formats.duration,
        shorten=formats.shorten,
        source_hash=source_hash,
        name=formats.shown_name,
    )
    return environment

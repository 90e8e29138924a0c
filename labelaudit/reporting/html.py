"""The report page: an HTML file that needs no network and cannot reach one.

Everything that comes from the data (names, ids, warnings) passes through Jinja's autoescape, and a
content security policy stands behind it. The page may run its own script and style, known by their
hashes, read the blocks of `labelaudit.reporting.blocks` beside it, and show images that it carries or
that lie on the same disk.
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
from labelaudit.reporting.blocks import Block, block_text

if TYPE_CHECKING:
    from labelaudit.suspects.checked import CheckedScores

PAGE = files("labelaudit.reporting") / "page"
# The parts of the page's script, in this order. They are joined to one script with one scope.
SCRIPT_PARTS = (
    "tabs",
    "data",
    "decisions",
    "saving",
    "csv",
    "list",
    "words",
    "grid",
    "one",
    "drawing",
    "picker",
    "keys",
    "start",
)
MAX_CLASS_ROWS = 100
MAX_PAIR_ROWS = 50
MAX_WARNINGS = 50

STATUS_WORDS = {
    "interrupted": "The training was interrupted",
    "out of time": "The time limit was reached",
}


@dataclass(frozen=True)
class PlotText:
    """What is said about a plot to somebody who sees one of its kind for the first time."""

    title: str
    caption: str


PLOT_TEXTS = {
    "review": PlotText(
        "How many labels to look at",
        "Going through the labels from the most suspect on, this many wrong ones are expected to "
        "be found. The dots are the numbers to look at for half, nine tenths and 99% of them. "
        "Where the curve turns flat, looking on finds little more.",
    ),
    "class_pairs": PlotText(
        "Which classes are mistaken for which",
        "Each row is a class as the data set gives it, each column the class that the model "
        "suggests instead, and each cell the number of flagged labels. One dark cell points at a "
        "rule that annotators understand differently; flags that are spread evenly look more like "
        "slips.",
    ),
    "precision_recall": PlotText(
        "Precision and recall against the truth",
        "Moving along the curve from left to right, more labels are flagged: more of the wrong "
        "ones are found (recall), and more right ones are flagged by mistake (precision falls). "
        "The orange dot is the threshold of this report. A curve near the dashed line would be no "
        "better than flagging at random.",
    ),
    "embedding": PlotText(
        "A map of the samples",
        "Each dot is a sample, colored by the class that the model sees in it, and placed (by "
        "t-SNE) beside the samples that the model finds similar. Crosses are flagged labels. A "
        "cross in the middle of a cluster is most likely a mistake; crosses between two clusters "
        "are samples that could be either. Distances between clusters, and the sizes of clusters, "
        "mean nothing. Of large data sets a random part is drawn, in which suspects make up "
        "their own share, but at least a tenth.",
    ),
    "epsilon": PlotText(
        "Label uncertainty ε over the epochs",
        "ε is how far two copies of the model are apart in the probability that they give to a "
        "label: the learner, which follows every training step, and the guider, its slow average. "
        "Blue stands for labels that look right (or are, where the truth is known), orange for "
        "those that look wrong (or are). Where the bands lie apart, ε tells the two kinds from "
        "each other; where they overlap, it does not, and the ranking rests on the score "
        "described above. The panel on the right is the last epoch in full.",
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
    key: str  # how the review calls it
    listed: bool  # whether the review lists any of them


def render_page(
    *,
    suspects: pd.DataFrame,
    summary: Mapping[str, Any],
    plots: Mapping[str, Path],
    blocks: Sequence[Block] = (),
    decisions: Sequence[Mapping[str, str]] = (),
    epochs: Sequence[int] = (),
    noun: str = "images",
    num_listed: int | None = None,
    checked: CheckedScores | None = None,
    live: bool = False,
) -> str:
    """Render the report page; what it shows of single suspects lies beside it.

    Its size is bounded whatever the data: tables are cut with a note that says so.

    Parameters
    ----------
    suspects : DataFrame
        The flagged ones, worst first, as `labelaudit.reporting.tables.suspects_table` gives them.
    summary : mapping
        What summary.json holds. Numbers that are not known may be None.
    plots : mapping of str to Path
        PNG files by the keys of `PLOT_TEXTS`; those that are missing are left out, others follow
        without a caption.
    blocks : sequence of Block
        What the page carries of `labelaudit.reporting.review_data`.
    decisions : sequence of mapping
        Rows of corrections.csv, which the review begins with.
    epochs : sequence of int
        Those that were recorded.
    noun : str
        "images", or "samples" where there are no pictures.
    num_listed : int, optional
        How many suspects the review lists; by default all.
    checked : CheckedScores, optional
        The scores against what a person decided.
    live : bool
        Whether the page is served by `labelaudit review`.
    """
    # Most suspects first, so that a table that is cut still has the classes that matter.
    classes = sorted(summary["per_class"], key=lambda row: -row["num_suspects"])
    known = [key for key in PLOT_TEXTS if key in plots]
    others = [key for key in plots if key not in PLOT_TEXTS]
    num_listed = len(suspects) if num_listed is None else num_listed
    pairs = class_pairs(suspects, summary["class_names"], num_listed)
    page = _environment().get_template("report.html.j2")
    carried = [*blocks, *([Block("decisions", block_text(decisions))] if decisions else [])]
    return page.render(
        live=live,
        style=Markup(page_style()),
        script=Markup(page_script()),
        summary=summary,
        verdict=_verdict(summary),
        duplicates=_duplicates(summary["num_conflicting_duplicates"]),
        unfinished=_unfinished(summary["status"], epochs),
        metrics=_metrics(summary["metrics"]),
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
        # Nothing in their JSON ends a script.
        blocks=[(block.name, Markup(block.json)) for block in carried],
        max_warnings=MAX_WARNINGS,
        config=json.dumps(summary["config"], indent=2, ensure_ascii=False, default=str),
    )


def write_page(path: Path, html: str) -> None:
    """Write the report page, atomically.

    Parameters
    ----------
    path : Path
        The HTML file to write.
    html : str
        From `render_page`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with atomic_write(path) as temporary:
        # A file name that is not Unicode must not cost the report: it is shown with "?" instead.
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
    # A function around all of it, so that no name of the script becomes a global one.
    return '(() => {\n"use strict";\n\n' + "\n".join(parts) + "})();\n"


def class_pairs(
    suspects: pd.DataFrame, class_names: Sequence[str], num_listed: int
) -> list[ClassPair]:
    """List the class pairs of suspects, most frequent first."""
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


def _duplicates(count: int) -> str:
    """Say that samples occur twice with different labels, "" if none do."""
    if not count:
        return ""
    pairs = "one pair" if count == 1 else f"{count:,} pairs"
    return (
        f"Besides, there {'is' if count == 1 else 'are'} {pairs} of samples that are the same, or"
        " nearly, and have different labels: see duplicates.csv. Of each at least one label is most"
        " likely wrong."
    )


def _verdict(summary: Mapping[str, Any]) -> str:
    """Say in one sentence what was found."""
    suspects = summary["num_suspects"]
    verified = summary.get("num_verified", 0)  # an earlier version's summary has no such key
    labeled = summary["num_labeled"] - verified
    labels = f"{labeled:,} label{'' if labeled == 1 else 's'}"
    if verified:
        labels += " that nobody has verified"
    if not summary["num_labeled"]:
        return "Nothing has a label, so there is nothing to check."
    if not labeled:
        return "All labels are verified, so there is nothing to check."
    if not summary["trust"]["trustworthy"]:
        return f"{suspects:,} of {labels} were flagged, but see the warning above."
    if not suspects:
        return f"No label looks wrong among {labels}."
    share = formats.percent(suspects / labeled)
    if suspects == 1:
        return f"One of {labels} looks wrong ({share})."
    return f"About {suspects:,} of {labels} look wrong ({share})."


def _unfinished(status: str, epochs: Sequence[int]) -> str | None:
    """Say that the training ended early, or give None."""
    if status == "complete":
        return None
    what = STATUS_WORDS.get(status, f"The run ended with the status “{status}”")
    after = f"after epoch {epochs[-1]}" if epochs else "before the first epoch was over"
    return (
        f"{what} {after}. The ranking is what the model knew by then; a complete run may rank "
        "differently."
    )


def _metrics(metrics: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """List name, value and meaning of what is known against the truth; empty where nothing is."""
    if metrics is None or metrics.get("num_wrong") is None:
        return []
    meanings = {
        "precision": ("Precision", "of the flagged labels that are wrong in truth"),
        "recall": ("Recall", "of the truly wrong labels that were flagged"),
        "f1": ("F1", "harmonic mean of precision and recall; 1 is perfect"),
        "auroc": ("AUROC", "chance that a wrong label ranks above a right one"),
        "average_precision": ("Average precision", "mean precision over all thresholds"),
    }
    rows = [("Wrong in truth", f"{metrics['num_wrong']:,}", "labels that differ from the truth")]
    for key, (name, meaning) in meanings.items():
        value = metrics.get(key)
        shown = formats.percent(value) if key in ("precision", "recall") else formats.decimal(value)
        rows.append((name, shown, meaning))
    return rows


def source_hash(text: str) -> str:
    """Give the hash by which a content security policy knows an inline script or style."""
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

"""The report page: one self-contained HTML file that needs no network and cannot reach one.

Everything that comes from the data (names, ids, warnings) passes through Jinja's autoescape, and a
content security policy stands behind it: the page may run its own script and style, known by
their hashes, show images that it carries itself, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from labelaudit.files import atomic_write
from labelaudit.reporting.plots import EpsilonSource, spread_epochs

PAIRS_SEARCHED = 60  # most frequent class pairs that the gallery makes sure to show
PER_PAIR = 3  # suspects shown of each of those, where they are not among the worst anyway
MAX_CLASS_ROWS = 100
MAX_PAIR_ROWS = 50
MAX_WARNINGS = 50
MAX_CURVE_EPOCHS = 48  # points of a sparkline; more cannot be told apart at its width

THUMBNAIL_SIDE = 96  # pixels
TINY_SIDE = 64  # images up to here are scaled up with hard pixel edges, which keeps them honest
NEIGHBOR_SIDE = 48  # pixels, of the pictures of neighbors
MAX_THUMBNAIL_BYTES = 4096  # larger ones are reduced to 64 colors
MAX_DETAILS = 9  # columns shown of a sample
# Two people would disagree in so many cases about what is clear, unsure, and above it disputed.
CLEAR, DISPUTED = 0.1, 0.35
MAX_DETAIL_LENGTH = 280  # characters of each
MAX_NEIGHBOR_LENGTH = 90  # of a neighbor's

STATUS_WORDS = {
    "interrupted": "The training was interrupted",
    "out of time": "The time limit was reached",
}


Pictures = Callable[[NDArray[np.int64]], Iterable[Image.Image | None]]


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
"""Titles and captions by the keys of `write_report`'s `plots`, in the order of the page."""


@dataclass(frozen=True)
class PlotFigure:
    """A plot on the page."""

    text: PlotText
    image: str  # data URI


@dataclass(frozen=True)
class ClassPair:
    """A given and a suggested class, and how many flagged labels they share."""

    number: int
    given: str
    suggested: str
    count: int
    shown: int  # of them in the gallery


@dataclass(frozen=True)
class Neighbor:
    """A sample near a suspect, labeled as the suspect's suggestion says, and not flagged."""

    sample_id: str
    image: str  # data URI, "" without a picture
    tiny: bool
    words: str  # what is shown in place of a picture


@dataclass(frozen=True)
class Card:
    """One suspect of the gallery."""

    rank: int
    sample_id: str
    path: str
    given: str
    suggested: str
    truth: str | None
    score: float
    ambiguity: str  # in words
    epsilon: float | None
    pair: int  # ClassPair.number
    image: str  # data URI, "" without a picture
    tiny: bool
    details: list[tuple[str, str]]
    neighbors: list[Neighbor]
    curve: str  # points of an SVG polyline in a box of 100 by 24
    curve_words: str


def write_report(
    path: Path,
    *,
    samples: pd.DataFrame,
    suspects: pd.DataFrame,
    summary: Mapping[str, Any],
    history: EpsilonSource | None,
    pictures: Pictures | None,
    plots: Mapping[str, Path],
    neighbors: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None,
    details: pd.DataFrame | None = None,
    max_gallery: int = 240,
) -> None:
    """Write the report page, atomically.

    Its size is bounded whatever the data: the gallery holds the worst `max_gallery` suspects and
    at most 180 more (up to three of each of the 60 most frequent class pairs), tables are cut with
    a note that says so.

    Parameters
    ----------
    path : Path
        The HTML file to write.
    samples : DataFrame
        N rows, one per image in the data set's order, with ``given_label`` and ``rank``.
    suspects : DataFrame
        The flagged ones, worst first, as `labelaudit.reporting.tables.suspects_table` gives them.
    summary : mapping
        What summary.json holds. Numbers that are not known may be None.
    history : EpsilonSource or None
        Recorded ε of the L labeled samples, in the order of `samples`; at most 48 epochs are read,
        one at a time. None where nothing was trained.
    pictures : callable or None
        Gives the images of some rows of `samples`, in order, and None for each that cannot be seen.
        Called once, with the gallery's rows and those of its neighbors. None where there are no
        pictures at all.
    plots : mapping of str to Path
        PNG files by the keys of `PLOT_TEXTS`; those that are missing are left out, others follow
        without a caption.
    neighbors : callable, optional
        Gives for rows (G,) of `samples` the rows (G, k) of neighbors that look rightly labeled, -1
        where there are fewer. Called once.
    details : DataFrame, optional
        What to show of a sample besides; rows as in `samples`.
    max_gallery : int
        How many of the worst suspects to show, at least 0.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    given = [_name(value) for value in suspects["given_label"]]
    suggested = [_name(value) for value in suspects["suggested_label"]]
    frequency = Counter(zip(given, suggested, strict=True))
    chosen = _choose_gallery(given, suggested, frequency, max_gallery)
    pairs = _number_pairs(frequency, Counter((given[i], suggested[i]) for i in chosen))
    evidence = _Evidence(pictures, neighbors, details)
    cards = _make_cards(samples, suspects.iloc[chosen], pairs, history, evidence)
    epochs = [] if history is None else list(history.epochs)
    # Most suspects first, so that a table that is cut still has the classes that matter.
    classes = sorted(summary["per_class"], key=lambda row: -row["num_suspects"])
    known = [key for key in PLOT_TEXTS if key in plots]
    others = [key for key in plots if key not in PLOT_TEXTS]

    page = _environment().get_template("report.html.j2")
    html = page.render(
        summary=summary,
        verdict=_verdict(summary),
        duplicates=_duplicates(summary["num_conflicting_duplicates"]),
        unfinished=_unfinished(summary["status"], epochs),
        metrics=_metrics(summary["metrics"]),
        classes=classes[:MAX_CLASS_ROWS],
        num_classes_listed=len(classes),
        pairs=[pair for pair in pairs.values() if pair.count][:MAX_PAIR_ROWS],
        num_pairs=len(pairs),
        shown_pairs=[pair for pair in pairs.values() if pair.shown],
        figures=[
            PlotFigure(
                PLOT_TEXTS.get(key, PlotText(key, "")), _png_data_uri(plots[key].read_bytes())
            )
            for key in [*known, *others]
        ],
        cards=cards,
        noun="samples" if pictures is None else "images",
        max_gallery=max_gallery,
        epochs=epochs,
        max_warnings=MAX_WARNINGS,
        config=json.dumps(summary["config"], indent=2, ensure_ascii=False, default=str),
    )
    with atomic_write(path) as temporary:
        # A file name that is not Unicode must not cost the report: it is shown with "?" instead.
        temporary.write_bytes(html.encode("utf-8", errors="replace"))


def _choose_gallery(
    given: Sequence[str],
    suggested: Sequence[str],
    frequency: Counter[tuple[str, str]],
    max_gallery: int,
) -> list[int]:
    """Choose suspects by place: the worst overall, and some of each frequent class pair."""
    searched = {pair for pair, _ in frequency.most_common(PAIRS_SEARCHED)}
    taken: Counter[tuple[str, str]] = Counter()
    chosen = []
    for place, pair in enumerate(zip(given, suggested, strict=True)):
        if place < max_gallery or (pair in searched and taken[pair] < PER_PAIR):
            taken[pair] += 1
            chosen.append(place)
    return chosen


def _number_pairs(
    frequency: Counter[tuple[str, str]], shown: Counter[tuple[str, str]]
) -> dict[tuple[str, str], ClassPair]:
    """List the class pairs, most frequent first."""
    return {
        pair: ClassPair(number, *pair, count, shown[pair])
        for number, (pair, count) in enumerate(frequency.most_common())
    }


def _make_cards(
    samples: pd.DataFrame,
    chosen: pd.DataFrame,
    pairs: Mapping[tuple[str, str], ClassPair],
    history: EpsilonSource | None,
    evidence: _Evidence,
) -> list[Card]:
    """Lay out the gallery; `chosen` are rows of the table of suspects."""
    labeled = np.flatnonzero(samples["given_label"].notna())  # (L,)
    # Ranks tell the row without trusting sample ids to be unique.
    ranks = pd.Index(samples["rank"].iloc[labeled].astype("int64"))
    places = ranks.get_indexer(pd.Index(chosen["rank"].astype("int64")))  # (G,), of L
    epochs = [] if history is None else spread_epochs(history.epochs, MAX_CURVE_EPOCHS)
    curves = np.zeros((len(places), len(epochs)))  # (G, E)
    for column, epoch in enumerate(epochs if len(places) else []):
        assert history is not None
        curves[:, column] = np.asarray(history.read(epoch)["epsilon"])[places]

    rows = labeled[places]
    near = evidence.gather(samples, rows)
    cards = []
    for row, number, curve, beside in zip(
        chosen.to_dict("records"), rows.tolist(), curves, near, strict=True
    ):
        image, tiny = evidence.thumbnails.get(number, ("", False))
        given, suggested = _name(row["given_label"]), _name(row["suggested_label"])
        truth = row.get("clean_label")
        points, words = _draw_curve(epochs, curve)
        cards.append(
            Card(
                rank=int(row["rank"]),
                sample_id=str(row["sample_id"]),
                path="" if pd.isna(row["path"]) else str(row["path"]),
                given=given,
                suggested=suggested,
                truth=None if pd.isna(truth) else _name(truth),
                score=float(row["suspect_score"]),
                ambiguity=_ambiguity(row.get("ambiguity")),
                epsilon=float(row["epsilon"]) if "epsilon" in row else None,
                pair=pairs[given, suggested].number,
                image=image,
                tiny=tiny,
                details=evidence.details_of(number, MAX_DETAIL_LENGTH),
                neighbors=beside,
                curve=points,
                curve_words=words,
            )
        )
    return cards


class _Evidence:
    """What is shown beside the suspects, gathered for the rows of the gallery at once."""

    def __init__(
        self,
        pictures: Pictures | None,
        neighbors: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None,
        details: pd.DataFrame | None,
    ) -> None:
        self._pictures = pictures
        self._neighbors = neighbors
        self._details = pd.DataFrame() if details is None else details.iloc[:, :MAX_DETAILS]
        self.thumbnails: dict[int, tuple[str, bool]] = {}  # by row: data URI, and whether tiny

    def gather(self, samples: pd.DataFrame, rows: NDArray[np.int64]) -> list[list[Neighbor]]:
        """Read the pictures of rows (G,) into `thumbnails`; give the neighbors of each."""
        near = np.empty((len(rows), 0), np.int64)
        if self._neighbors is not None and len(rows):
            near = self._neighbors(rows)
        shown = set(rows.tolist())
        beside = set(near[near >= 0].tolist())
        small: dict[int, tuple[str, bool]] = {}
        needed = np.array(sorted(shown | beside), dtype=np.int64)
        if self._pictures is not None:
            for row, picture in zip(needed.tolist(), self._pictures(needed), strict=True):
                if picture is None:
                    continue
                if row in shown:
                    self.thumbnails[row] = _thumbnail_data_uri(picture, THUMBNAIL_SIDE)
                if row in beside:
                    small[row] = _thumbnail_data_uri(picture, NEIGHBOR_SIDE)
        ids = samples["sample_id"]
        return [
            [
                Neighbor(str(ids.iloc[row]), *small.get(row, ("", False)), self._words(row))
                for row in some
                if row >= 0
            ]
            for some in near.tolist()
        ]

    def details_of(self, row: int, most: int) -> list[tuple[str, str]]:
        """Give the names and values of a sample's details that are not empty."""
        return [
            (str(name), _shorten(str(value), most))
            for name, value in zip(self._details.columns, self._row(row), strict=True)
            if value != ""
        ]

    def _words(self, row: int) -> str:
        return " · ".join(value for _, value in self.details_of(row, MAX_NEIGHBOR_LENGTH)[:2])

    def _row(self, row: int) -> list[Any]:
        return self._details.iloc[row].tolist() if len(self._details.columns) else []


def _draw_curve(epochs: Sequence[int], curve: NDArray[np.float64]) -> tuple[str, str]:
    """Draw ε over the epochs as points in a box of 100 by 24, and say it in words.

    The height is the square root of ε, as in the plot of all samples, on the same scale in every
    card. Both are empty where fewer than two epochs were recorded.
    """
    if len(epochs) < 2:
        return "", ""  # a number says it better
    curve = np.clip(np.nan_to_num(curve), 0, 1)
    heights = 23 - 22 * np.sqrt(curve)
    x = 100 * (np.asarray(epochs) - epochs[0]) / (epochs[-1] - epochs[0])
    highest = int(curve.argmax())
    words = (
        f"ε from {curve[0]:.3f} at epoch {epochs[0]} to {curve[-1]:.3f} at epoch {epochs[-1]}, "
        f"highest {curve[highest]:.3f} at epoch {epochs[highest]}"
    )
    corners = zip(x.round(1), heights.round(1), strict=True)
    return " ".join(f"{left:g},{down:g}" for left, down in corners), words


def _thumbnail_data_uri(image: Image.Image, side: int) -> tuple[str, bool]:
    """Encode an image small; also tell whether it is tiny and to be shown with hard pixels."""
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    tiny = max(image.size) <= TINY_SIDE
    if max(image.size) > side and not tiny:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = _encode_png(image)
    if len(content) > MAX_THUMBNAIL_BYTES:
        # Photographs compress badly as PNG. 64 colors of its own, dithered, keep one recognizable
        # at this size in about a third of the bytes.
        image = image.convert("RGB")  # Pillow makes gray images black here
        palette = image.quantize(64, method=Image.Quantize.FASTOCTREE)
        content = _encode_png(image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
    return _png_data_uri(content), tiny


def _encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # A color profile can be larger than all of the image.
    image.save(buffer, format="PNG", optimize=True, icc_profile=None)
    return buffer.getvalue()


def _png_data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _ambiguity(share: float | None) -> str:
    """Say how far people would disagree about a sample."""
    if share is None or not math.isfinite(share):
        return "–"
    if share < CLEAR:
        return f"clear ({_percent(share)})"
    return f"{'unsure' if share < DISPUTED else 'disputed'} ({_percent(share)})"


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
    suspects, labeled = summary["num_suspects"], summary["num_labeled"]
    labels = f"{labeled:,} label{'' if labeled == 1 else 's'}"
    if not labeled:
        return "Nothing has a label, so there is nothing to check."
    if not summary["trust"]["trustworthy"]:
        return f"{suspects:,} of {labels} were flagged, but see the warning above."
    if not suspects:
        return f"No label looks wrong among {labels}."
    share = _percent(suspects / labeled)
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
        shown = _percent(value) if key in ("precision", "recall") else _decimal(value)
        rows.append((name, shown, meaning))
    return rows


def _name(value: Any) -> str:
    """Show a label that is missing, or empty, as something that can be seen."""
    return "(none)" if pd.isna(value) else str(value) or "(empty name)"


def _percent(share: float | None) -> str:
    """Format a share in [0, 1]: "2.1%", "<0.1%", and a dash where it is not known."""
    if share is None or not math.isfinite(share):
        return "–"
    return "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _decimal(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _count(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.0f}"


def _duration(seconds: float | None) -> str:
    """Format seconds as people say them: "48 s", "12 min 5 s", "3 h 20 min"."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _shorten(text: str, most: int) -> str:
    """Cut text for a place that cannot wrap it."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _source_hash(text: str) -> str:
    """Give the hash by which a content security policy knows an inline script or style."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labelaudit.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent,
        decimal=_decimal,
        count=_count,
        duration=_duration,
        shorten=_shorten,
        source_hash=_source_hash,
        name=_name,
    )
    return environment

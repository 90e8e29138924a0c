"""The data that the review page shows for each suspect: pictures, neighbors and informative columns."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import adjusted_mutual_info_score

from labelaudit.files import cannot_write, suffix_of
from labelaudit.progress import Reporter
from labelaudit.reporting.blocks import (
    DATA_FOLDER,
    INDEX,
    SHOWN_BY_BROWSERS,
    Block,
    InlineBlocks,
    block_text,
    empty_data_folder,
    write_block,
)
from labelaudit.reporting.evidence import Evidence
from labelaudit.reporting.formats import shorten
from labelaudit.reporting.history import EpsilonSource, spread_epochs
from labelaudit.reporting.pictures import Picture, encode_picture
from labelaudit.reporting.tables import SAMPLE_TEXT
from labelaudit.suspects.summary import Summary

CHUNK = 40  # number of suspects in each block

# Longest sides of pictures in pixels: of suspects without and with a link to the file, of neighbors.
LARGE_SIDE, SMALL_SIDE, NEIGHBOR_SIDE = 320, 160, 96
# Neighbors are searched for at most this number of the most suspect samples.
MOST_WITH_NEIGHBORS = 2_000
MAX_CURVE_EPOCHS = 48  # more cannot be distinguished at the width of the curve
MAX_DETAILS = 9  # columns of the table that are shown
MAX_DETAIL_LENGTH = 1_000  # characters of a cell
MAX_TEXT_LENGTH = 100_000  # characters of a text that is a sample itself
MAX_NEIGHBOR_LENGTH = 160  # characters that describe a neighbor
PROBS_SHOWN = 4  # number of classes whose predicted probabilities are shown
# Ambiguity below the first value is shown as clear, below the second as unsure, else as disputed.
CLEAR, DISPUTED = 0.1, 0.35
# Number of samples, and of quantile bins of a number, that columns are weighed with.
WEIGHED_SAMPLES, WEIGHED_PARTS = 5_000, 8
VOTES = "votes"  # what the page calls the labels by several annotators
WORDS_OF_PROSE = 4  # a column with at least this many words per cell, on average, is prose


def write_review_data(
    folder: Path,
    *,
    samples: pd.DataFrame,
    suspects: pd.DataFrame,
    summary: Summary,
    history: EpsilonSource | None,
    pred_probs: NDArray[np.floating] | None,
    evidence: Evidence,
    max_suspects: int | None = None,
    data_folder: str = DATA_FOLDER,
    reporter: Reporter | None = None,
) -> list[Block]:
    """Write the blocks of all suspects into a folder beside the page.

    Parameters
    ----------
    folder : Path
        The folder of the page.
    samples : DataFrame
        N rows in the data set's order.
    suspects : DataFrame
        The flagged samples, the most suspect first, from
        `labelaudit.reporting.tables.suspects_table`.
    summary : Summary
        The content of summary.json.
    history : EpsilonSource or None
        Recorded ε of the labeled samples, in the order of `samples`.
    pred_probs : array (N, C) or None
        Class probabilities predicted by the network, or the user's own predictions.
    evidence : Evidence
        Pictures, neighbors and details, with rows as in `samples`.
    max_suspects : int, optional
        How many of the most suspect samples are written. By default all of them.
    data_folder : str
        Name of the folder of the blocks.
    reporter : Reporter, optional
        Shows progress.

    Returns
    -------
    list of Block
        The blocks that the page itself contains: none, or the index and the first chunks.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    shown = suspects if max_suspects is None else suspects.head(max_suspects)
    # Rows are found by rank, because sample ids need not be unique.
    labeled = np.flatnonzero(samples["given_label"].notna())  # (L,)
    ranks = pd.Index(samples["rank"].iloc[labeled].astype("int64"))
    places = ranks.get_indexer(pd.Index(shown["rank"].astype("int64")))  # (G,), of L
    rows = labeled[places]
    details = columns_that_matter(evidence.details, samples["given_label"])
    texts = samples.get(SAMPLE_TEXT)
    if texts is not None and len(evidence.details.columns):
        details = _texts_first(details, evidence.details)
    with_votes = _with_votes(details, samples)
    place = folder / data_folder
    empty_data_folder(place)
    epochs = [] if history is None else spread_epochs(history.epochs, MAX_CURVE_EPOCHS)
    index = _index(
        folder, suspects, shown, rows, summary, with_votes, epochs, evidence.pictures is not None
    )
    if texts is not None and len(details.columns):
        index["text"] = len(with_votes.columns) - len(details.columns)  # its place in `details`
    inline = InlineBlocks()
    write_block(place, Block(INDEX, block_text(index)), inline)
    curves = np.zeros((len(rows), len(epochs)), dtype=np.float32)  # (G, E)
    for column, epoch in enumerate(epochs if len(rows) else []):
        assert history is not None
        curves[:, column] = np.asarray(history.read(epoch)["epsilon"])[places]
    reporter = reporter or Reporter()
    with reporter.bar("finding similar samples"):
        near = _neighbors(evidence, shown, rows[:MOST_WITH_NEIGHBORS])
    links = index["suspects"]["link"]
    with (
        _read_pictures(evidence, rows, near, links, reporter) as album,
        reporter.bar("writing suspects", len(rows)) as bar,
    ):
        for start in range(0, len(rows), CHUNK):
            part = range(start, min(start + CHUNK, len(rows)))
            held: dict[str, str] = {}
            chunk = {
                "suspects": [
                    {
                        **_picture_of(album, int(rows[i])),
                        **_whole_text(texts, int(rows[i])),
                        "epsilon": _epsilon_of(shown, i),
                        "curve": [round(float(x), 3) for x in np.nan_to_num(curves[i])]
                        if epochs
                        else None,
                        "probs": _probs_of(pred_probs, int(rows[i]), index["classes"]),
                        "near": {
                            kind: [
                                _neighbor(row, samples, details, album, held)
                                for row in found[i].tolist()
                                if row >= 0
                            ]
                            for kind, found in near.items()
                            if i < len(found)
                        },
                    }
                    for i in part
                ],
                "pictures": held,
            }
            write_block(place, Block(f"chunk-{start // CHUNK + 1:05d}", block_text(chunk)), inline)
            bar.reach(part.stop)
    return inline.blocks


def _index(
    folder: Path,
    suspects: pd.DataFrame,
    shown: pd.DataFrame,
    rows: NDArray[np.int64],
    summary: Summary,
    details: pd.DataFrame,
    epochs: Sequence[int],
    pictured: bool,
) -> dict[str, Any]:
    """Return the content of the index, which the page needs to list, search and sort the suspects."""
    names = list(summary.class_names)
    codes = {name: code for code, name in enumerate(names)}
    truth = None
    if "clean_label" in shown:
        for name in shown["clean_label"].dropna().unique():
            codes.setdefault(str(name), len(codes))
        truth = _codes(shown["clean_label"], codes)
    here = folder.resolve()
    columns: dict[str, Any] = {
        "rank": shown["rank"].astype(int).tolist(),
        "id": [str(sample) for sample in shown["sample_id"]],
        "link": [_link(str(path), here) for path in shown["path"].fillna("")] if pictured else None,
        "given": _codes(shown["given_label"], codes),
        "suggested": _codes(shown["suggested_label"], codes),
        "score": [round(float(x), 6) for x in shown["suspect_score"]],
        "suggested_prob": _numbers(shown, "suggested_prob"),
        "ambiguity": _numbers(shown, "ambiguity"),
        "truth": truth,
        "details": [
            [shorten(value, MAX_DETAIL_LENGTH) for value in cells]
            for cells in details.to_numpy(dtype=object)[rows]
        ]
        if len(details.columns)
        else None,
    }
    # The hash is over all suspects, so that a browser finds its decisions if fewer of them are shown.
    identity = [
        [str(value) for value in suspects[name]]
        for name in ("sample_id", "given_label", "suggested_label", "suspect_score")
    ]
    digest = hashlib.sha256(json.dumps([summary.name, names, identity]).encode())
    return {
        "run": digest.hexdigest()[:24],
        "name": summary.name,
        "noun": "images" if pictured else "samples",
        "classes": list(codes),
        "num_classes": len(names),
        "num_suspects": int(summary.num_suspects),
        "chunk": CHUNK,
        "expected_wrong": summary.expected_wrong,
        # If the score is no probability, the number of wrong labels is not known.
        "probability": summary.expected_wrong_interval is not None,
        "trained": bool(summary.epochs),
        "epochs": list(epochs),
        "clear": CLEAR,
        "disputed": DISPUTED,
        "details": [str(name) for name in details.columns],
        "suspects": columns,
    }


def _codes(labels: pd.Series, codes: Mapping[str, int]) -> list[int]:
    return [-1 if pd.isna(name) else codes[str(name)] for name in labels]


def _numbers(table: pd.DataFrame, name: str) -> list[float | None]:
    if name not in table:
        return [None] * len(table)
    return [round(float(x), 5) if np.isfinite(x) else None for x in table[name]]


def _link(text: str, here: Path) -> str:
    """Return the address of an image file relative to the page's folder, which is resolved.

    Returns "" if browsers cannot show the file.
    """
    if suffix_of(text) not in SHOWN_BY_BROWSERS:
        return ""
    try:
        relative = os.path.relpath(Path(text).resolve(), here)
        # `quote` also escapes colons, which could look like the end of a protocol's name.
        return quote(Path(relative).as_posix(), safe="/")
    except (OSError, RuntimeError, ValueError):  # circular links, another drive, or no Unicode
        return ""


# --- pictures and neighbors ----------------------------------------------------------------------


class _Album:
    """Encoded pictures by row, kept on disk because those of many suspects need much memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._where: dict[tuple[int, bool], tuple[int, int, bool]] = {}

    def add(self, row: int, small: bool, picture: Picture) -> None:
        start = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(picture.content)
        except OSError as error:
            raise cannot_write(Path(tempfile.gettempdir()) / "pictures", error) from error
        self._where[row, small] = (start, len(picture.content), picture.tiny)

    def get(self, row: int, small: bool) -> Picture | None:
        if (row, small) not in self._where:
            return None
        start, size, tiny = self._where[row, small]
        self._file.seek(start)
        return Picture(self._file.read(size), tiny)


@contextmanager
def _read_pictures(
    evidence: Evidence,
    rows: NDArray[np.int64],
    near: Mapping[str, NDArray[np.int64]],
    links: Sequence[str] | None,
    reporter: Reporter,
) -> Iterator[_Album]:
    """Read each image that is shown once, in the order of the data set, which is fastest."""
    with tempfile.TemporaryFile() as file:
        album = _Album(file)
        if evidence.pictures is None or links is None:
            yield album
            return
        sides = {
            row: SMALL_SIDE if link else LARGE_SIDE
            for row, link in zip(rows.tolist(), links, strict=True)
        }
        beside = {row for found in near.values() for row in found.ravel().tolist() if row >= 0}
        needed = np.array(sorted(sides.keys() | beside), dtype=np.int64)

        def look(row: int, image: Image.Image) -> tuple[Picture | None, Picture | None]:
            return (
                encode_picture(image, sides[row]) if row in sides else None,
                encode_picture(image, NEIGHBOR_SIDE) if row in beside else None,
            )

        with reporter.bar("pictures for the report", total=len(needed)) as bar:
            for row, seen in zip(needed.tolist(), evidence.pictures(needed, look), strict=True):
                for small, picture in enumerate(seen or ()):
                    if picture is not None:
                        album.add(row, bool(small), picture)
                bar.advance()
        yield album


def _picture_of(album: _Album, row: int) -> dict[str, Any]:
    picture = album.get(row, small=False)
    if picture is None:
        return {"picture": "", "tiny": False}
    return {"picture": picture.data_uri, "tiny": picture.tiny}


def _whole_text(texts: pd.Series | None, row: int) -> dict[str, str]:
    """Return the text of a sample if the index holds only its start."""
    text = "" if texts is None else str(texts.iloc[row])
    return {} if len(text) <= MAX_DETAIL_LENGTH else {"text": shorten(text, MAX_TEXT_LENGTH)}


def _neighbors(
    evidence: Evidence, shown: pd.DataFrame, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Return the rows of the neighbors of both classes, ``(G, k)`` each."""
    if evidence.neighbors is None or not len(rows):
        return {}
    first = shown.head(len(rows))
    return {
        kind: evidence.neighbors(rows, first[column])
        for kind, column in (("suggested", "suggested_label"), ("given", "given_label"))
    }


def _neighbor(
    row: int, samples: pd.DataFrame, details: pd.DataFrame, album: _Album, held: dict[str, str]
) -> dict[str, Any]:
    """Describe a neighbor. Its picture is stored in `held` once, even if it is shown often."""
    described: dict[str, Any] = {"id": str(samples["sample_id"].iloc[row])}
    picture = album.get(row, small=True)
    if picture is not None:
        held.setdefault(str(row), picture.data_uri)
        return described | {"picture": str(row), "tiny": picture.tiny}
    if len(details.columns):
        # Prose needs no name of its column; a number does.
        words = [
            value if len(value.split()) >= WORDS_OF_PROSE else f"{name} {value}"
            for name, value in details.iloc[row].items()
            if value != ""
        ]
        described["words"] = shorten(" · ".join(words[:3]), MAX_NEIGHBOR_LENGTH)
    return described


def _epsilon_of(shown: pd.DataFrame, place: int) -> float | None:
    value = float(shown["epsilon"].iloc[place]) if "epsilon" in shown else np.nan
    return round(value, 4) if np.isfinite(value) else None


def _probs_of(
    pred_probs: NDArray[np.floating] | None, row: int, classes: Sequence[str]
) -> list[list[float]]:
    if pred_probs is None:
        return []
    probs = np.asarray(pred_probs[row], dtype=np.float64)
    best = np.argsort(-probs, kind="stable")[:PROBS_SHOWN]
    return [[int(code), round(float(probs[code]), 4)] for code in best if probs[code] >= 0.001]


# --- columns of a table --------------------------------------------------------------------------


def columns_that_matter(details: pd.DataFrame, given: pd.Series) -> pd.DataFrame:
    """Choose the columns that are most informative about the label, and return these first.

    Prose comes first. The other columns follow by their adjusted mutual information with the given
    label. Unlike plain mutual information, it does not reward a column for having many values.

    Parameters
    ----------
    details
        N rows, all text.
    given
        N class names, missing where unlabeled.

    Returns
    -------
    DataFrame
        At most `MAX_DETAILS` of the columns.
    """
    if len(details.columns) < 2:
        return details
    rows = np.flatnonzero(given.notna().to_numpy())
    if len(rows) > WEIGHED_SAMPLES:
        rows = rows[np.linspace(0, len(rows) - 1, WEIGHED_SAMPLES).astype(int)]
    labels = given.iloc[rows].astype(str).to_numpy()
    weights = {name: _weight(details[name].iloc[rows], labels) for name in details.columns}
    order = sorted(details.columns, key=lambda name: -weights[name])  # stable: ties as in the table
    return details[order[:MAX_DETAILS]]


def _texts_first(chosen: pd.DataFrame, details: pd.DataFrame) -> pd.DataFrame:
    """Put the texts that are audited, the first column of `details`, before the chosen columns."""
    name = details.columns[0]
    others = [other for other in chosen.columns if other != name]
    return details[[name, *others[: MAX_DETAILS - 1]]]


def _with_votes(details: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Put the labels by several annotators, if there are any, before the other columns."""
    if "votes" not in samples:
        return details
    votes = samples["votes"].fillna("").astype(str).to_numpy()
    shown = pd.DataFrame({VOTES: votes})
    if details.columns.empty:  # images have no other columns, and then the frame has no rows either
        return shown
    others = details.drop(columns=VOTES, errors="ignore").reset_index(drop=True)
    return pd.concat([shown, others], axis=1)


def _weight(column: pd.Series, labels: NDArray[Any]) -> float:
    """Return the weight of a column: above 2 for prose, else its adjusted mutual information."""
    texts = column.astype(str)
    words = float(np.mean([len(text.split()) for text in texts]))
    if words >= WORDS_OF_PROSE:
        return 2.0 + min(words, 1000.0)
    numbers = pd.to_numeric(texts, errors="coerce").replace([np.inf, -np.inf], np.nan)
    values: NDArray[Any] = texts.to_numpy()
    if numbers.notna().mean() > 0.5 and numbers.nunique() > WEIGHED_PARTS:
        values = (
            pd.qcut(numbers, WEIGHED_PARTS, labels=False, duplicates="drop").fillna(-1).to_numpy()
        )
    elif texts.nunique() > 0.5 * len(texts):
        return -1.0  # most values are unique, as ids are
    return float(adjusted_mutual_info_score(labels, values))

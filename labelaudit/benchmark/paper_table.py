"""Our numbers beside the paper's, and in words where our runs differ from its experiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from labelaudit.benchmark.comparison import TITLES, distrust_notes, format_mean, summarize
from labelaudit.benchmark.protocols import Protocol

NOT_RUN = "–"


def differences(
    results: pd.DataFrame, protocol: Protocol, settings: Mapping[str, Any] | None = None
) -> list[str]:
    """Say where runs differ from the paper's experiment.

    Parameters
    ----------
    results
        Rows of results.csv, at least one.
    protocol
        The experiment.
    settings
        The sweep's settings.json, of which ``batch_size`` and ``flip`` are read.

    Returns
    -------
    list of str
        Parts of a sentence, such as "40 epochs instead of 350". Empty if there is no difference.
    """
    settings = settings or {}
    told = []

    def compare(found: Iterable[float], wanted: int, unit: str) -> None:
        numbers = {int(number) for number in found}
        if numbers and numbers != {wanted}:
            unit = unit.removesuffix("s") if numbers == {1} else unit
            told.append(f"{_span(numbers)} {unit} instead of {wanted:,}")

    compare(_epochs(results), protocol.epochs, "epochs")
    compare(
        results.groupby(["rate", "num_labeled", "method"])["seed"].nunique(), protocol.runs, "runs"
    )
    rates = _values(results["rate"])
    if set(rates) != set(protocol.rates):
        told.append(f"{_words(f'{rate:.0%}' for rate in rates)} wrong labels only")
    labels = [int(number) for number in _values(results["num_labeled"])]
    if set(labels) < set(protocol.num_labeled):
        told.append(f"{_words(f'{number:,}' for number in labels)} labels only")
    elif set(labels) != set(protocol.num_labeled):
        wanted = _words(f"{number:,}" for number in protocol.num_labeled)
        told.append(f"{_words(f'{number:,}' for number in labels)} labels instead of {wanted}")
    if "num_samples" in results:  # a sweep from before it was recorded lacks it
        compare(results["num_samples"].dropna().unique(), protocol.num_samples, "training images")
    encoders = dict.fromkeys(results["encoder"])
    if set(encoders) != {protocol.network}:
        told.append(f"encoder {_words(encoders)} instead of {protocol.network}")
    compare(
        [settings.get("batch_size") or protocol.batch_size], protocol.batch_size, "images per step"
    )
    if settings.get("flip"):
        told.append("training images are mirrored at random")
    return told


def protocol_title(
    results: pd.DataFrame, protocol: Protocol, settings: Mapping[str, Any] | None = None
) -> str:
    """Return the experiment's title, followed by all differences from the paper's experiment."""
    if results.empty:
        return f"{protocol.title} (nothing is finished yet)"
    told = differences(results, protocol, settings)
    return f"{protocol.title} (not as in the paper: {', '.join(told)})" if told else protocol.title


def protocol_table(
    results: pd.DataFrame, protocol: Protocol, settings: Mapping[str, Any] | None = None
) -> list[str]:
    """Compare our numbers with the paper's, as lines of Markdown.

    Parameters
    ----------
    results
        Rows of results.csv. A method that was run with different numbers of epochs has one line for
        each of them.
    protocol, settings
        As for `differences`.
    """
    varied = "num_labeled" if len(protocol.num_labeled) > 1 else "rate"
    values = _values([*(protocol.num_labeled if varied == "num_labeled" else protocol.rates),
                      *results[varied]])  # fmt: skip
    heads = [f"{v:,.0f}" if varied == "num_labeled" else f"{v:.0%}" for v in values]
    lines = [f"# {protocol_title(results, protocol, settings)}", ""]
    if protocol.remark:
        lines += [protocol.remark, ""]
    if len(results):
        devices = _words(dict.fromkeys(results["device"]))
        lines += [f"Data: {_words(dict.fromkeys(results['dataset']))}. Device: {devices}.", ""]
    lines += [
        f"| {TITLES[protocol.measure]} | | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 2) + "|",
    ]
    for method in dict.fromkeys([*protocol.methods, *results["method"]]):
        mine = results[results["method"] == method]
        for epochs, rows in mine.groupby("epochs"):
            summary = summarize(rows)
            cells = [
                format_mean(found.iloc[0], protocol.measure) if len(found) else NOT_RUN
                for found in (summary[np.isclose(summary[varied].astype(float), v)] for v in values)
            ]
            ours = _ours(int(epochs), summary["seeds"], protocol)
            lines.append(f"| {method} | {ours} | " + " | ".join(cells) + " |")
        if mine.empty:
            lines.append(f"| {method} | not run | " + " | ".join([NOT_RUN] * len(values)) + " |")
        if method in protocol.paper:
            paper = protocol.paper[method]
            theirs = [f"{paper[v]:.3f}" if v in paper else NOT_RUN for v in values]
            lines.append("| | paper | " + " | ".join(theirs) + " |")
    doubts = distrust_notes(summarize(results)) if len(results) else []
    return [*lines, "", *(f"**{note}**\n" for note in doubts)]


def _ours(epochs: int, seeds: pd.Series, protocol: Protocol) -> str:
    """Name a line of ours, with its epochs and seeds where they are not the paper's."""
    name = "ours"
    if epochs not in (0, protocol.epochs):  # systems without a training of their own have 0 epochs
        name += f", {epochs} epochs" if epochs > 1 else ", 1 epoch"
    if set(seeds) != {protocol.runs}:
        name += f", {_span(seeds)} seeds" if set(seeds) != {1} else ", 1 seed"
    return name


def _epochs(results: pd.DataFrame) -> pd.Series:
    epochs = results["epochs"]
    return epochs[epochs > 0].drop_duplicates()


def _values(numbers: Iterable[float]) -> list[float]:
    """Return the different numbers in ascending order; numbers of a CSV file may be rounded."""
    return sorted({round(float(number), 6) for number in numbers if not pd.isna(number)})


def _span(numbers: Iterable[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _words(parts: Iterable[str]) -> str:
    """Join parts to "a, b and c"."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last

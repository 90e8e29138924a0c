"""evaluate(): corrupt known labels, run several methods on them, and compare the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelaudit.benchmark.cells import Cell, choose_reading
from labelaudit.benchmark.comparison import (
    summarize,
)
from labelaudit.benchmark.datasets import (
    DATASET_NAMES,
    Dataset,
    Samples,
    dataset_from_source,
    load_dataset,
)
from labelaudit.benchmark.noise import Noise, corrupt
from labelaudit.benchmark.paper_table import protocol_table
from labelaudit.benchmark.protocols import PROTOCOLS, Protocol
from labelaudit.benchmark.sweep import (
    DIGEST,
    NOISE_DIGESTS,
    Sweep,
    only_writer,
    results_in,
    run_sweep,
)
from labelaudit.benchmark.sweep_reports import write_reports
from labelaudit.benchmark.systems import METHODS
from labelaudit.errors import OptionError
from labelaudit.files import atomic_write
from labelaudit.methods.system import InputKind, System
from labelaudit.progress import Reporter
from labelaudit.training.device import choose_device

DEFAULT_RATES = (0.2, 0.4)


@dataclass(frozen=True)
class EvalResult:
    """The result of an evaluation.

    Attributes
    ----------
    results
        One row per data set, noise, rate, seed and method, as in results.csv.
    summary
        Means, deviations and intervals over seeds; see `labelaudit.benchmark.comparison.summarize`.
    failures
        Cells that failed, with the reason.
    folder
        Folder of the files.
    """

    results: pd.DataFrame
    summary: pd.DataFrame
    failures: list[tuple[str, str]]
    folder: Path


def evaluate(
    dataset: Samples | Dataset = "digits",
    labels: str | Path | np.ndarray | Sequence[Any] | None = None,
    *,
    features: str | Path | np.ndarray | None = None,
    methods: Sequence[str] = (),
    noise: Sequence[str] = ("symmetric",),
    rates: Sequence[float] = DEFAULT_RATES,
    seeds: Sequence[int] = (0,),
    num_labeled: int | None = None,
    limit: int | None = None,
    encoder: str = "auto",
    epochs: int | None = None,
    batch_size: int | None = None,
    flip: bool = False,
    device: str = "auto",
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    jobs: int = 1,
    curves: bool = False,
    experiment: str | None = None,
    reporter: Reporter | None = None,
) -> EvalResult:
    """Corrupt known labels, run every method on them, and compare the results.

    Parameters
    ----------
    dataset
        "digits", "mnist", "fashion-mnist", "svhn", "cifar10", "cifar100", or anything that
        `labelaudit.scan` reads: a path, images, or features ``(N, D)``. Its labels are taken as
        correct.
    labels, features
        As in `labelaudit.scan`.
    methods
        Names of `labelaudit.benchmark.systems.METHODS`, or "all". By default the quicker ones.
        Methods that cannot read the data set are left out of "all" and of the default.
    noise
        "symmetric", "pair", "asymmetric", "instance", "matrix:FILE", "column:NAME".
    rates
        Shares of wrong labels, for the kinds of noise that have a rate.
    seeds
        Each seed decides one corruption, and all random draws of the training on it.
    num_labeled
        Number of labels to keep, balanced by class. The other samples become unlabeled.
    limit
        Number of training samples to use, the same for every seed.
    encoder
        The encoder of all methods, except those that are defined by a network of their own.
    epochs, batch_size
        For every method. None leaves each method its own value.
    flip
        Mirror training images at random, as in `labelaudit.scan`.
    device
        As in `labelaudit.scan`.
    out
        Folder of the sweep, by default ``labelaudit-eval-NAME``. Finished cells in it are not run
        again.
    data_dir, download
        Where the files of a well-known data set are, and whether to download them.
    jobs
        Number of cells to run at the same time.
    curves
        Measure the test error after every epoch.
    experiment
        Name of the paper's experiment that this is a part of; see `run_protocol`. The reports say
        where it differs.
    reporter
        Shows progress and warnings.

    Raises
    ------
    OptionError, OutputError, SourceError
        If a setting or the data cannot be used. Nothing is run then.
    """
    reporter = reporter or Reporter()
    if not len(seeds) or min(seeds) < 0:
        raise OptionError("`seeds` must be at least one number, 0 or more")
    if isinstance(dataset, Dataset):
        _refuse_beside_known(dataset.name, labels=labels, features=features)
        data = dataset
    else:
        data = open_dataset(
            dataset,
            labels,
            features=features,
            data_dir=data_dir,
            download=download,
            noise=noise,
            reporter=reporter,
        )
    data = limited(data, limit)
    names = choose_methods(methods, data.kind, reporter)
    noises = [one for kind in noise for one in Noise.parse(kind, list(rates))]
    cells = [
        Cell(name, one, seed, num_labeled, encoder, epochs, batch_size, device, flip)
        for seed in dict.fromkeys(seeds)
        for one in dict.fromkeys(noises)
        for name in names
    ]
    # Settings that do not fit the data are refused before any training.
    choose_reading(data, encoder, choose_device(device).type)
    if flip and data.kind == "features":
        raise OptionError(f"{data.name} holds features, and flip mirrors images; leave it out")
    for one in noises:
        corrupt(data, one, num_labeled, seeds[0])
    # A matrix in a file, or a column, may change while its name stays.
    wrong = {
        one.kind: corrupt(data, one, num_labeled, 0).noisy_labels
        for one in noises
        if one.rate is None
    }
    protocol = None if experiment is None else _protocol(experiment)
    settings = {
        "dataset": data.name,
        "limit": limit,
        "num_labeled": num_labeled,
        "encoder": encoder,
        "epochs": epochs,
        "batch_size": batch_size,
        "flip": flip or None,  # None as in sweeps from before there was such a setting
        DIGEST: data.digest(),
        NOISE_DIGESTS: {
            kind: sha256(labels.tobytes()).hexdigest() for kind, labels in wrong.items()
        },
    }
    folder = Path(out or f"labelaudit-eval-{data.name}")
    with only_writer(folder):
        sweep = Sweep(folder, settings)
        try:
            failures = run_sweep(sweep, cells, data, jobs=jobs, curves=curves, reporter=reporter)
        except KeyboardInterrupt:
            write_reports(sweep, summarize(sweep.results), data, protocol)
            raise
        summary = summarize(sweep.results)
        write_reports(sweep, summary, data, protocol)
    failed = [(str(cell), reason) for cell, reason in failures]
    return EvalResult(sweep.results, summary, failed, sweep.folder)


def run_protocol(
    name: str,
    *,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    first_seed: int = 0,
    rates: Sequence[float] | None = None,
    epochs: int | None = None,
    num_labeled: int | None = None,
    batch_size: int | None = None,
    encoder: str = "auto",
    dataset: Dataset | None = None,
    curves: bool = False,
    reporter: Reporter | None = None,
    **settings: Any,
) -> tuple[EvalResult, list[str]]:
    """Run an experiment of the paper and compare our numbers with the paper's.

    Parameters
    ----------
    name
        A key of `labelaudit.benchmark.protocols.PROTOCOLS`.
    methods, seeds, rates, epochs, num_labeled, batch_size, encoder
        Override the protocol, to run a part of it or to shorten it. The table, the reports and the
        plots say so in their titles.
    first_seed
        First of the protocol's own number of seeds, if `seeds` is not given.
    dataset
        Used in place of the protocol's own data set.
    curves
        Measure the test error after every epoch, also where the protocol does not.
    reporter
        Shows progress and warnings.
    **settings
        `out`, `limit`, `data_dir`, `download`, `device`, `jobs`, `flip` of `evaluate`.

    Returns
    -------
    result, table
        The table is a list of Markdown lines, which ``protocol.md`` in the folder holds too.

    Raises
    ------
    OptionError, OutputError, SourceError
        As in `evaluate`.
    """
    protocol = _protocol(name)
    out = Path(settings.pop("out", None) or f"labelaudit-eval-{name}")
    several = len(protocol.num_labeled) > 1
    numbers = protocol.num_labeled if num_labeled is None else (num_labeled,)
    folders = {labels: out / f"{labels}-labels" if several else out for labels in numbers}
    batch_size = batch_size or protocol.batch_size
    changed = {"batch_size": batch_size, "flip": settings.get("flip")}
    failures = []
    try:
        for labels, folder in folders.items():
            part = evaluate(
                dataset or protocol.dataset,
                methods=methods or protocol.methods,
                rates=rates or protocol.rates,
                seeds=seeds or range(first_seed, first_seed + protocol.runs),
                num_labeled=labels,
                limit=settings.get("limit", protocol.limit),
                encoder=protocol.encoder if encoder == "auto" else encoder,
                epochs=epochs or protocol.epochs,
                batch_size=batch_size,
                out=folder,
                curves=curves or protocol.curves,
                experiment=name,
                reporter=reporter,
                **{name: value for name, value in settings.items() if name != "limit"},
            )
            failures += part.failures
    except KeyboardInterrupt:
        _write_table(out, protocol_table(results_in(folders.values()), protocol, changed))
        raise
    results = results_in(folders.values())
    table = protocol_table(results, protocol, changed)
    _write_table(out, table)
    return EvalResult(results, summarize(results), failures, out), table


def _protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise OptionError(f"unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _write_table(out: Path, lines: list[str]) -> None:
    if out.exists():  # it does not if a sweep was interrupted before it began
        with atomic_write(out / "protocol.md") as partial:
            partial.write_text("\n".join(lines), encoding="utf-8")


def open_dataset(
    source: Samples,
    labels: str | Path | np.ndarray | Sequence[Any] | None = None,
    *,
    features: str | Path | np.ndarray | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    test: str | None = None,
    label_column: str | None = None,
    noise: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Dataset:
    """Load a data set by name, or read a source and take its labels as correct.

    Parameters
    ----------
    source
        One of `labelaudit.benchmark.datasets.DATASET_NAMES`, or anything that `labelaudit.scan`
        reads.
    labels, features
        As in `labelaudit.scan`.
    data_dir, download
        For data sets by name.
    test, label_column
        For sources: the name of the test split, or the path of a test set; the column of clean
        labels.
    noise
        Kinds of noise that will be used. The label columns that they name are read too.
    reporter
        Receives a warning that the labels may not be correct.

    Raises
    ------
    OptionError, SourceError
        If the data cannot be used.
    """
    reporter = reporter or Reporter()
    name = "the data set"
    if isinstance(source, str | Path):
        name = str(source)
        # A known name wins over a folder of that name, which `labelaudit demo --data digits` makes.
        if source in DATASET_NAMES:
            _refuse_beside_known(
                name, labels=labels, features=features, test=test, label_column=label_column
            )
            return load_dataset(name, data_dir, download)
        if not Path(name).exists():
            raise OptionError(
                f"{name!r} is neither a data set ({', '.join(DATASET_NAMES)}) nor a file or folder"
            )
    reporter.warn(
        f"the labels of {name} are taken as correct; those that are already wrong count against"
        " every method that finds them"
    )
    other = test if test is not None and Path(test).exists() else None
    return dataset_from_source(
        source,
        other,
        labels=labels,
        features=features,
        label_column=label_column,
        test_split=test if other is None else None,
        extra_columns=[kind.partition(":")[2] for kind in noise if kind.startswith("column:")],
        reporter=reporter,
    )


def _refuse_beside_known(name: str, **given: object) -> None:
    """Raise OptionError if parts of a data set are given that has them already."""
    for option, value in given.items():
        if value is not None:
            raise OptionError(f"{name} has its own labels and samples; leave `{option}` out")


def choose_methods(
    methods: Sequence[str], kind: InputKind, reporter: Reporter | None = None
) -> list[str]:
    """Return the methods to run on a kind of input.

    Parameters
    ----------
    methods
        Names of `labelaudit.benchmark.systems.METHODS`. "all" stands for all that can be run here,
        and an empty sequence for those that a comparison runs by default.
    kind
        The kind of input.
    reporter
        Receives a warning about each method that is left out.

    Raises
    ------
    OptionError
        If a name is unknown, or if a method that was named cannot be run here.
    """
    reporter = reporter or Reporter()
    chosen = []
    if not methods or "all" in methods:
        for name, system in METHODS.items():
            if not (methods or system.by_default):
                continue
            reason = _unusable(system, kind)
            if reason:
                reporter.warn(f"{name} is left out: it {reason}")
            else:
                chosen.append(name)
        return chosen
    for name in dict.fromkeys(methods):
        if name not in METHODS:
            raise OptionError(f"unknown method {name!r}: choose among all, {', '.join(METHODS)}")
        reason = _unusable(METHODS[name], kind)
        if reason:
            raise OptionError(f"method {name!r} cannot be run here: it {reason}")
        chosen.append(name)
    return chosen


def _unusable(system: type[System], kind: InputKind) -> str:
    """Return the reason why a system cannot be run, "" if it can."""
    if kind not in system.reads:
        return f"reads {' and '.join(sorted(system.reads))}, and the data set holds {kind}"
    if system.library and find_spec(system.library) is None:
        return f'needs {system.library}; install it with: pip install "labelaudit[peers]"'
    return ""


def limited(dataset: Dataset, limit: int | None) -> Dataset:
    """Return the data set with a random part of its training samples, the same for all seeds.

    Raises OptionError if there are fewer samples than that.
    """
    if limit is None:
        return dataset
    total = len(dataset.inputs)
    if not 2 <= limit <= total:
        raise OptionError(f"`limit` is {limit}; {dataset.name} has {total:,} training samples")
    rows = np.sort(np.random.default_rng(0).permutation(total)[:limit])
    return replace(
        dataset,
        inputs=dataset.inputs[rows],
        clean_labels=dataset.clean_labels[rows],
        sample_ids=dataset.sample_ids[rows],
        extra_labels={name: labels[rows] for name, labels in dataset.extra_labels.items()},
    )

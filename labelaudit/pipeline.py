"""scan(): from a source of images and labels to a ranked list of suspects."""

from __future__ import annotations

import json
import math
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from labelaudit.corrections.reviewed import Review, open_review, take_review
from labelaudit.errors import OptionError, SourceError
from labelaudit.inputs import (
    Inputs,
    decode,
    decode_for_backbone,
    extract,
    is_parquet,
    read_samples,
    take_features,
    tell_notes,
    tell_verified,
)
from labelaudit.methods.umn import (
    UMN,
    UMNConfig,
    default_batch_size,
    default_epochs,
)
from labelaudit.networks.encoders import ENCODER_NAMES, training_shift
from labelaudit.prediction_scan import as_list, refuse_training_options, scan_predictions
from labelaudit.progress import Reporter
from labelaudit.reporting.files import evidence_of, write_results
from labelaudit.reporting.run_folder import RunFolder
from labelaudit.reporting.tables import suspects_table
from labelaudit.sources.feature_tables import FeatureSource, TableSource
from labelaudit.sources.manifest import Manifest, Source, are_few, check_trainable
from labelaudit.sources.prediction_files import join_predictions
from labelaudit.suspects.decision import (
    Threshold,
    assess_trust,
    decide,
    few_labels_warning,
    thin_classes_warning,
    unknown_first_warning,
)
from labelaudit.suspects.duplicates import conflicting_duplicates, searched
from labelaudit.suspects.epoch_means import EpochMeans
from labelaudit.suspects.predictions import warn_of_distrust
from labelaudit.suspects.result import ScanResult
from labelaudit.suspects.scores import SCORE_NAMES, Scores, hear_witnesses, score_labels
from labelaudit.suspects.summary import installed_version, summarize, versions
from labelaudit.suspects.table import Predicted, samples_table
from labelaudit.training import distributed
from labelaudit.training.batches import BatchPlan, TrainingImages, plan_batches
from labelaudit.training.compiled import first_lines
from labelaudit.training.device import choose_device, seeded
from labelaudit.training.loop import FitResult, fit, measure_step, predict_all
from labelaudit.training.recorder import EpsilonHistory, record_epoch

EPSILON_FOLDER = "epsilon"
CHECKPOINT = "checkpoint.pt"
# Recording an epoch costs about this share of its steps; only used to say how long it will take.
RECORDING_SHARE = 0.25


@dataclass(frozen=True)
class ScanOptions:
    """What a user may set; None lets the data decide. See `scan`."""

    encoder: str = "auto"
    weights: str | None = None
    fine_tune: bool = False
    features: str | None = None
    tabular: bool = False
    image_size: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    flip: bool = False
    device: str = "auto"
    seed: int = 0
    time_budget: float | None = None
    compile: bool = False
    score: str = "auto"
    threshold: str = "auto"
    max_suspects: int | None = None

    @property
    def pretrained(self) -> bool:
        """Whether the encoder is a pretrained backbone: by its name, or as it is given weights."""
        return self.weights is not None or self.encoder not in ("auto", *ENCODER_NAMES)

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batch_size", 2),
            ("image_size", 1),
            ("seed", 0),
            ("max_suspects", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                option = name.replace("_", "-")
                raise OptionError(f"--{option} is {value}; it must be {least} or more")
        if self.time_budget is not None and not self.time_budget > 0:
            raise OptionError(f"--time-budget is {self.time_budget} minutes; it must be above 0")
        if self.score not in SCORE_NAMES:
            raise OptionError(
                f"unknown score {self.score!r}: choose one of {', '.join(SCORE_NAMES)}"
            )
        Threshold.parse(self.threshold)
        if self.weights is not None and self.encoder in ("auto", "mlp", "conv13"):
            raise OptionError(
                f"--weights are those of a pretrained network, and --encoder is {self.encoder}; name"
                " the network with --encoder"
            )
        if self.fine_tune and not self.pretrained:
            raise OptionError(
                "--fine-tune trains a pretrained network on; name one with --encoder (the other"
                " encoders are trained from fresh weights anyway)"
            )
        if self.flip and self.pretrained and not self.fine_tune:
            raise OptionError(
                "--flip mirrors images while training, and a frozen network looks at each image once;"
                " leave --flip out, or add --fine-tune"
            )
        if self.features is not None and self.tabular:
            raise OptionError(
                "--tabular makes features and --features brings them; give one of them"
            )
        if self.features is not None or self.tabular:
            self.refuse_encoder("--tabular" if self.tabular else "--features")

    def refuse_encoder(self, what: str) -> None:
        """Raise where options about images were set and `what` gives features instead."""
        for option, value in (
            ("--encoder", None if self.encoder == "auto" else self.encoder),
            ("--weights", self.weights),
            ("--image-size", self.image_size),
            ("--flip", self.flip or None),
        ):
            if value is not None:
                raise OptionError(
                    f"{what} gives the features, and {option} is for images; leave {option} out"
                )


@dataclass(frozen=True)
class Audit:
    """Everything that is settled before the first step."""

    inputs: Inputs
    config: UMNConfig
    plan: BatchPlan
    batch_size: int
    epochs: int
    options: ScanOptions
    device: torch.device

    @property
    def manifest(self) -> Manifest:
        """What is audited."""
        return self.inputs.source.manifest

    @property
    def image_shape(self) -> list[int] | None:
        """``[C, H, W]``, None where features are read."""
        return None if self.inputs.are_features else list(self.inputs.choice.image_shape)

    def settings(self) -> dict[str, Any]:
        """Give what decides the outcome, as saved with every result."""
        umn = asdict(self.config)
        if self.inputs.are_features:
            # Follows from the features, and may be thousands of numbers.
            del umn["network"]["statistics"]
        return {
            "encoder": self.inputs.encoder,
            "features": dict(self.inputs.origin),
            "image_shape": self.image_shape,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.options.seed,
            "max_shift": self.max_shift,
            "flip": self.options.flip,
            "umn": umn,
        }

    @property
    def max_shift(self) -> int:
        """Random translation of training images, in pixels."""
        few = are_few(self.manifest.num_labeled, self.manifest.num_samples)
        return training_shift(self.inputs.choice.name, self.inputs.choice.image_shape, few)


def scan(
    source: str | Path | np.ndarray | Source | FeatureSource,
    labels: str | Path | np.ndarray | Sequence[Any] | None = None,
    *,
    features: str | Path | np.ndarray | None = None,
    pred_probs: str | Path | np.ndarray | Sequence[str | Path | np.ndarray] | None = None,
    tabular: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    resume: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    verified_column: str | None = None,
    reviewed: str | Path | Sequence[str | Path] | None = None,
    encoder: str = "auto",
    weights: str | Path | None = None,
    fine_tune: bool = False,
    image_size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    flip: bool = False,
    device: str = "auto",
    seed: int = 0,
    time_budget: float | None = None,
    compile: bool = False,
    score: str = "auto",
    threshold: str = "auto",
    max_suspects: int | None = None,
    reporter: Reporter | None = None,
) -> ScanResult:
    """Train UMN on samples and their labels, and rank the labels by how suspect they are.

    Parameters
    ----------
    source
        A folder, a CSV, TSV, JSONL or parquet file, or a folder of parquet shards; or an array of
        images ``(N, H, W)`` or ``(N, H, W, C)``, uint8 or floats in [0, 1]; or an array of features
        ``(N, D)`` of anything; or a `Source`.
    labels
        A table of labels for a folder of images, or N labels for an array (names, or integers with
        -1 for unlabeled).
    features
        Features made elsewhere, of images or anything else. For a table of labels: the name of its
        column that holds a list of numbers a row; a file .npy or an array ``(N, D)``, whose row i
        belongs to row i of the table; or a parquet file with ids, such as `labelaudit.embed` writes.
        For images: such a parquet file. For arrays and a `Source`: an array too.
    pred_probs
        Class probabilities of a model of your own, out of sample; nothing is trained then. A file
        .npy or an array ``(N, C)``, whose row i belongs to row i of the table of labels; or a file
        .parquet, .csv or .tsv with ids and one column per class. Of several models, a list.
        See `labelaudit.find_label_issues` for arrays of labels.
    tabular
        The source is a table, and its other columns are the features.
    out
        Folder to write results to. None writes none; the result is the same.
    force, resume
        Replace a run that labelaudit wrote to `out`, or go on with one that was cut off.
    image_column, label_column, id_column, split, clean_label_column
        How to read the source; see `labelaudit.sources.folders.read_source`, and for `id_column`
        `labelaudit.sources.feature_tables.read_labels_with_features`. Clean labels are never seen in
        training, and only used to score the report.
    verified_column
        Column of the table that says which labels a person has verified: these are taken as right, are
        never flagged, and are trusted by all that learns from labels. Rows that say "excluded" are left
        out. A column "first_label", as `labelaudit apply` writes it, says what they were at first. For
        a `Source` see `labelaudit.source_from_arrays`.
    reviewed
        Run folders whose suspects were decided about, in `labelaudit review` or the report. Their
        decisions are taken into the labels, which are verified then, and carried over into the new run
        folder. The scores of the last one are held against them. Where two of them decide about a
        sample, the later one holds.
    encoder
        "auto", "mlp", "conv13", "resnet18", "resnet50" or "resnet101" are trained on these images
        alone. Another network of torchvision, "timm:NAME", or a name with `weights` is a pretrained
        backbone: it stays as it is, and its features are audited, unless `fine_tune` is set.
    weights
        The backbone's: "DEFAULT" for its own, downloaded if need be; a file with a state dict; None
        for its own if they are on this machine.
    fine_tune
        Train the backbone on, as UMN's encoder.
    image_size
        Longest side, in pixels, at which the encoder reads images; of a backbone, the side of the
        square that it reads.
    epochs, batch_size
        By default they follow the data.
    flip
        Mirror training images left to right at random. For photos, whose mirror image shows the same;
        not for digits, letters or signs.
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    seed
        Decides every random draw. On a CPU the same seed gives the same result.
    time_budget
        Minutes. Training ends before an epoch that would exceed it; one epoch is always trained.
    compile
        Try `torch.compile` on the training step, and train with it if the step is faster so. It takes
        a while and draws other random numbers: for long runs, above all on a GPU.
    score
        "auto"; "posterior" for the model's own opinion; or "epsilon" for the paper's own rule.
    threshold
        "auto", a score from 0 to 1, "top:K" or "rate:R" with a share R.
    max_suspects
        How many of the worst suspects the report shows; by default all. The tables hold all of them.
    reporter
        Told of progress; silent by default.

    Returns
    -------
    ScanResult
        Ranking, predictions and history. Under torchrun in the first process alone: the others end
        here.

    Raises
    ------
    SourceError, OptionError, OutputError
        If the data, an option or the output cannot be used; nothing is written then.
    UntrustedResultWarning
        As a warning: the result should not be trusted; its summary says why.
    KeyboardInterrupt
        If interrupted before the first epoch ended. Later, the ranking so far is the result, and
        its summary's `status` is "interrupted".
    """
    started = time.monotonic()
    reporter = reporter or Reporter()
    read = partial(
        read_samples,
        source,
        labels,
        features=features,
        tabular=tabular,
        image_column=image_column,
        label_column=label_column,
        id_column=id_column,
        split=split,
        clean_label_column=clean_label_column,
        verified_column=verified_column,
    )
    with distributed.joined():
        if not distributed.leads():
            reporter = Reporter()
        with distributed.together():
            options = ScanOptions(
                encoder=encoder,
                weights=None if weights is None else str(weights),
                fine_tune=fine_tune,
                features=None if features is None else _name_of(features),
                tabular=tabular,
                image_size=image_size,
                epochs=epochs,
                batch_size=batch_size,
                flip=flip,
                device=device,
                seed=seed,
                time_budget=time_budget,
                compile=compile,
                score=score,
                threshold=threshold,
                max_suspects=max_suspects,
            )
            if pred_probs is not None:
                refuse_training_options(asdict(options), asdict(ScanOptions()), resume=resume)
                if distributed.size() > 1:
                    raise OptionError("--pred-probs trains nothing; start it without torchrun")
            if compile and distributed.size() > 1:
                raise OptionError("--compile is for one process; leave it out under torchrun")
            if id_column is not None and features is None and pred_probs is None and not tabular:
                raise OptionError(
                    "--id-column names the ids of rows for --features, --pred-probs or --tabular"
                )
            folder = None
            review = Review()
            if distributed.leads():
                folder = _open_folder(out, force=force, resume=resume)
                review = open_review(reviewed, None if folder is None else folder.path)
            files = None if pred_probs is None else as_list(pred_probs)
            data = read(predictions=files)
        # The runs may lie on the first machine alone.
        review = distributed.share(review)
        if files is not None:
            in_order = isinstance(data, TableSource) or not isinstance(source, str | Path)
            if isinstance(data, FeatureSource) and features is not None:
                in_order = in_order or not is_parquet(features)
            joined = join_predictions(data, files, rows_known=in_order, unneeded=review.excluded)
            result = scan_predictions(
                take_review(joined, review),
                folder,
                review,
                reporter,
                threshold=threshold,
                seed=seed,
                names=tuple(_name_of(file) for file in files),
                max_suspects=max_suspects,
            )
            warn_of_distrust(result.summary["trust"], stacklevel=3)
            return result
        assert not isinstance(data, TableSource)
        scratch = None if out is None else Path(out).absolute().parent
        try:
            audit = prepare(take_review(data, review), options, reporter, scratch)
            result = _run(audit, folder, review, started, reporter)
        except torch.OutOfMemoryError as error:
            raise OptionError(
                "the GPU has not enough free memory: a smaller --batch-size or --image-size takes"
                " less, and --device cpu none of it"
            ) from error
    warn_of_distrust(result.summary["trust"], stacklevel=3)
    return result


def _run(
    audit: Audit, folder: RunFolder | None, review: Review, started: float, reporter: Reporter
) -> ScanResult:
    """Train, judge and write; of several processes the first does the last two."""
    temporary = None
    fingerprint = audit.inputs.source.fingerprint()
    _refuse_other_data(audit, fingerprint)
    with distributed.together():
        place = Path()  # in a process that writes nothing
        if folder is not None:
            place = folder.path
            folder.claim(installed_version(), fingerprint, audit.settings())
            review.keep_standing(folder.path)
        elif distributed.leads():
            temporary = tempfile.TemporaryDirectory(prefix="labelaudit-")
            place = Path(temporary.name)
    try:
        method, fitted = train(audit, place, started, reporter)
        seen = predict_all(
            method,
            TrainingImages(audit.inputs.store, audit.manifest.noisy_labels, audit.device),
        )
        if not distributed.leads():
            distributed.end()
        history = EpsilonHistory(place / EPSILON_FOLDER, fitted.epochs, owner=temporary)
        reporter.say("Ranking the labels.")
        result = judge(audit, *seen, history, fitted, started)
        result.summary["checked"] = review.check(result.samples, result.summary)
        if folder:
            result = replace(result, run_dir=folder.path)
            with folder.file("model.pt") as path:
                torch.save(method.portable(audit.manifest.class_names), path)
            write_results(
                folder,
                result,
                audit.inputs.source,
                evidence_of(audit.inputs, result),
                max_suspects=audit.options.max_suspects,
                reporter=reporter,
            )
            review.carry_over(result.samples, folder.path, reporter)
    except BaseException:
        if folder and not EpsilonHistory(place / EPSILON_FOLDER).epochs:
            folder.abandon()
        raise
    if folder:
        folder.finish(fitted.status)
        if fitted.status == "complete":
            (folder.path / CHECKPOINT).unlink(missing_ok=True)
    return result


def _refuse_other_data(audit: Audit, fingerprint: str) -> None:
    """Raise where processes on different machines have found different data, or not enough of it."""
    found = (fingerprint, audit.image_shape, audit.batch_size, audit.epochs)
    told = distributed.everyone(found)
    if any(other != told[0] for other in told):
        raise SourceError(
            "the machines do not hold the same images and labels, or not all can read them; give each"
            " the same files and the same options"
        )
    plan, processes = audit.plan, distributed.size()
    smallest = plan.labeled_draws // plan.steps + plan.unlabeled_draws // plan.steps
    if processes > 1 and smallest < 2 * processes:
        raise OptionError(
            f"{processes} processes share batches of {smallest} samples; start fewer, or raise"
            " --batch-size"
        )


def _name_of(features: str | Path | np.ndarray) -> str:
    return "an array" if isinstance(features, np.ndarray) else str(features)


def _open_folder(out: str | Path | None, *, force: bool, resume: bool) -> RunFolder | None:
    if out is not None:
        return RunFolder(out, force=force, resume=resume)
    if resume:
        raise OptionError("resume needs the output folder of the run to go on with")
    return None


def prepare(
    data: Source | FeatureSource,
    options: ScanOptions,
    reporter: Reporter,
    scratch: Path | None = None,
) -> Audit:
    """Settle everything before the first step: encoder, pixels or features, batches, weights.

    Parameters
    ----------
    data
        What was read.
    options
        What the user set.
    reporter
        Told what was found and chosen.
    scratch
        Folder for the store of decoded images where it is too large for memory.

    Raises
    ------
    SourceError, OptionError
        If the images or labels cannot be trained on, or not with these options.
    """
    device = choose_device(options.device)
    if isinstance(data, FeatureSource):
        options.refuse_encoder("the source")
        inputs = take_features(data)
    elif options.fine_tune:
        inputs = decode_for_backbone(
            data, options.encoder, options.weights, options.image_size, device, reporter, scratch
        )
    elif options.pretrained:
        inputs = extract(
            data, options.encoder, options.weights, options.image_size, device, reporter, scratch
        )
    else:
        inputs = decode(data, options.encoder, options.image_size, device, reporter, scratch)
    source = check_trainable(inputs.source)
    manifest = source.manifest
    given = manifest.noisy_labels[manifest.labeled]
    told = (
        few_labels_warning(given, manifest.class_names),
        thin_classes_warning(given, manifest.num_classes),
        unknown_first_warning(source.verified_labels),
    )
    source = replace(source, warnings=source.warnings + tuple(filter(None, told)))

    name = inputs.choice.name
    batch_size = options.batch_size or default_batch_size(manifest.num_samples, device.type, name)
    plan = plan_batches(
        manifest.num_labeled, manifest.num_samples - manifest.num_labeled, batch_size
    )
    config = UMNConfig.for_data(inputs.store, given, manifest.num_classes, name, plan)
    if inputs.fine_tuning is not None:
        config = replace(config, network=inputs.fine_tuning.configure(config.network))
    audit = Audit(
        inputs=replace(inputs, source=source),
        config=config,
        plan=plan,
        batch_size=batch_size,
        epochs=options.epochs or default_epochs(plan.steps, plan.draws_per_label, name),
        options=options,
        device=device,
    )
    _introduce(audit, reporter)
    return audit


def _introduce(audit: Audit, reporter: Reporter) -> None:
    """Say what was found and chosen."""
    manifest, inputs = audit.manifest, audit.inputs
    counts = np.bincount(manifest.noisy_labels[manifest.labeled], minlength=manifest.num_classes)
    unlabeled = manifest.num_samples - manifest.num_labeled
    reporter.say(
        f"Found {manifest.num_samples:,} {inputs.noun}, {manifest.num_labeled:,} labeled and"
        f" {unlabeled:,} unlabeled, {manifest.num_classes} classes with {counts.min():,} to"
        f" {counts.max():,} labels ({_class_sizes(manifest, counts)})."
    )
    tell_verified(inputs.source, reporter)
    for warning in inputs.source.warnings:
        reporter.warn(warning)
    tell_notes(inputs.notes, reporter)
    if inputs.are_features:
        reading = f"UMN on {audit.device.type}, reading {inputs.choice.reason}."
    else:
        channels, height, width = inputs.choice.image_shape
        reading = (
            f"Encoder {inputs.choice.name} on {audit.device.type}, reading {width}x{height}"
            f" {'grey' if channels == 1 else 'color'} ({inputs.choice.reason})."
        )
    reporter.say(f"{reading} {audit.epochs} epochs of {audit.plan.steps} steps.")


def _class_sizes(manifest: Manifest, counts: np.ndarray, most: int = 10) -> str:
    order = np.argsort(-counts, kind="stable")
    shown = [f"{manifest.class_names[c]}: {counts[c]:,}" for c in order[:most]]
    return ", ".join(shown) + (", …" if len(order) > most else "")


def train(audit: Audit, place: Path, started: float, reporter: Reporter) -> tuple[UMN, FitResult]:
    """Train UMN and record every epoch under `place`.

    Parameters
    ----------
    audit
        From `prepare`.
    place
        Folder for the recorded epochs and the checkpoint.
    started
        When the scan began, by `time.monotonic`; counts against the time budget.
    reporter
        Told how long it will take, and of progress.
    """
    manifest, options = audit.manifest, audit.options
    store, shift = audit.inputs.store, audit.max_shift
    images = TrainingImages(
        store,
        manifest.noisy_labels,
        audit.device,
        shift,
        options.flip,
        audit.inputs.source.verified,
    )
    sample_ids = manifest.sample_ids[manifest.labeled]

    fine_tuning = audit.inputs.fine_tuning
    pretrained = None if fine_tuning is None else fine_tuning.weights

    def new_method() -> UMN:
        with seeded(audit.device, options.seed, 0):
            return UMN(audit.config, audit.device, pretrained)

    step = distributed.share(measure_step(new_method(), images, audit.plan, seed=options.seed))
    compiled_step = None
    if options.compile:
        compiled_step = _try_compiled(new_method(), images, audit, step, reporter)
    step = compiled_step or step
    expected = step * audit.plan.steps * audit.epochs * (1 + RECORDING_SHARE)
    budget = None if options.time_budget is None else options.time_budget * 60
    reporter.say(
        f"Training takes about {format_seconds(expected)}"
        + (
            f"; it will stop within the {format_seconds(budget)} allowed."
            if budget is not None and expected > budget
            else ". Ctrl-C ends it early and keeps the ranking so far."
            if distributed.size() == 1
            else f" in {distributed.size()} processes. After Ctrl-C, --resume goes on."
        )
    )
    method = new_method()
    if compiled_step is not None:
        method.compile()
    method.distribute()

    def record(epoch: int) -> None:
        method.agree()
        record_epoch(place / EPSILON_FOLDER, epoch, method, images, sample_ids)

    fitted = fit(
        method,
        images,
        audit.plan,
        epochs=audit.epochs,
        seed=options.seed,
        on_epoch=record,
        reporter=reporter,
        checkpoint=place / CHECKPOINT if distributed.leads() else None,
        seconds_left=None if budget is None else budget - (time.monotonic() - started),
    )
    return method, fitted


def _try_compiled(
    method: UMN, images: TrainingImages, audit: Audit, step: float, reporter: Reporter
) -> float | None:
    """Give the seconds of a compiled step if that is faster than `step`, and say which it is."""
    torch.compiler.reset()  # only so many ways to compile a function are kept in a process
    method.compile()
    assert method.compiled is not None
    reporter.say("Compiling the training step.")
    started = time.monotonic()
    seconds = math.inf
    with warnings.catch_warnings():
        # What fails is said below; what else torch warns of is its own.
        warnings.simplefilter("ignore")
        try:
            seconds = measure_step(method, images, audit.plan, seed=audit.options.seed)
        except RuntimeError as error:  # the gradient's part is compiled when it is first wanted
            method.compiled.failure = first_lines(error)
    spent = format_seconds(time.monotonic() - started)
    if method.compiled.failure is not None:
        reporter.warn(f"the step is not compiled: {method.compiled.failure}")
    else:
        reporter.say(
            f"Compiled in {spent}, a step takes {1000 * seconds:.1f} ms instead of {1000 * step:.1f}"
            + (": training with it." if seconds < step else ": training without.")
        )
        if seconds < step:
            return seconds
    torch.compiler.reset()  # gives back the memory that CUDA graphs have set aside
    return None


def format_seconds(seconds: float) -> str:
    """Say a duration as a person would: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def judge(
    audit: Audit,
    pred_probs: np.ndarray,
    embeddings: np.ndarray,
    history: EpsilonHistory,
    fitted: FitResult,
    started: float,
) -> ScanResult:
    """Turn what was recorded into scores, a decision and tables.

    Parameters
    ----------
    audit
        What was audited.
    pred_probs, embeddings
        The guider's last word on every sample, ``(N, C)`` and ``(N, d)``.
    history
        What was recorded.
    fitted
        How training ended.
    started
        When the scan began, by `time.monotonic`.
    """
    manifest, options = audit.manifest, audit.options
    source = audit.inputs.source
    verified = source.verified_labels
    means = EpochMeans.of_history(
        history, manifest.num_labeled, manifest.num_classes, audit.config.min_epsilon
    )
    witnesses = hear_witnesses(
        means,
        pred_probs,
        embeddings,
        manifest.noisy_labels,
        seed=options.seed,
        features=audit.inputs.features if audit.inputs.are_features else None,
        device=audit.device,
        verified=verified,
    )
    scores = score_labels(
        witnesses,
        pred_probs,
        manifest.noisy_labels,
        options.score,
        seed=options.seed,
        verified=verified,
    )
    decision = decide(scores, options.threshold)
    given = manifest.noisy_labels[manifest.labeled]
    clean_labels = source.clean_labels
    trust = assess_trust(
        witnesses.neighbor_probs.argmax(axis=1),
        given,
        manifest.class_names,
        doubt=float(scores.doubt.mean()),
    )
    samples = samples_table(
        manifest,
        scores,
        decision,
        Predicted.of(pred_probs),
        trusted=trust.trustworthy,
        witnesses=witnesses,
        clean_labels=clean_labels,
    )
    duplicates = find_duplicates(audit, embeddings, scores)
    summary = summarize(
        manifest, scores, decision, trust, clean_labels, num_excluded=source.num_excluded
    )
    summary |= _settings_of(audit, fitted, time.monotonic() - started)
    return ScanResult(
        samples=samples,
        suspects=suspects_table(samples),
        duplicates=duplicates,
        summary=summary | {"num_conflicting_duplicates": len(duplicates)},
        pred_probs=pred_probs,
        embeddings=embeddings,
        history=history,
    )


def find_duplicates(audit: Audit, embeddings: np.ndarray, scores: Scores) -> pd.DataFrame:
    """List samples that are the same, or nearly, and have different labels.

    Parameters
    ----------
    audit
        Its features are searched.
    embeddings
        ``(N, d)``, searched where there are no features but pixels.
    scores
        The most suspect labels come first where there are very many.

    Returns
    -------
    pd.DataFrame
        See `labelaudit.suspects.duplicates.conflicting_duplicates`.
    """
    manifest, inputs = audit.manifest, audit.inputs
    queries = searched(
        np.flatnonzero(manifest.labeled)[scores.order],
        manifest.num_samples,
        share=1.0 if inputs.are_features else 0.0,  # pixels of large data are not searched
    )
    return conflicting_duplicates(
        inputs.features if inputs.are_features else embeddings,
        manifest.noisy_labels,
        manifest.sample_ids,
        manifest.class_names,
        content_hashes=inputs.content_hashes,
        queries=queries,
        device=audit.device,
    )


def _settings_of(audit: Audit, fitted: FitResult, seconds: float) -> dict[str, Any]:
    """Say how the audit was done, for summary.json."""
    inputs, options = audit.inputs, audit.options
    return {
        "encoder": {
            "name": inputs.encoder,
            "reason": inputs.choice.reason,
            "image_shape": audit.image_shape,
        },
        "columns": dict(inputs.notes),
        "status": fitted.status,
        "epochs": fitted.epochs,
        "seconds": round(seconds, 1),
        "device": _device_name(audit.device),
        "seed": options.seed,
        "versions": versions(),
        "warnings": list(inputs.source.warnings),
        # As JSON has it, so that summary.json reads back as this.
        "config": json.loads(json.dumps({"options": asdict(options), **audit.settings()})),
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

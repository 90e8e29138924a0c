"""scan(): from a source of images and labels to a ranked list of suspects."""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelaudit.benchmark.metrics import METRIC_NAMES, detection_metrics
from labelaudit.data.batches import BatchPlan, TrainingImages, are_few, plan_batches
from labelaudit.data.images import ImagePlan, decode_source, plan_images
from labelaudit.data.manifest import Manifest, Source, check_trainable, source_from_arrays
from labelaudit.data.sources import read_source
from labelaudit.errors import OptionError
from labelaudit.methods.umn import (
    UMN,
    UMNConfig,
    default_batch_size,
    default_epochs,
)
from labelaudit.networks.encoders import (
    EncoderChoice,
    choose_encoder,
    training_shift,
)
from labelaudit.progress import Reporter
from labelaudit.reporting.files import write_results
from labelaudit.reporting.run_folder import RunFolder
from labelaudit.reporting.tables import suspects_table
from labelaudit.result import ScanResult
from labelaudit.suspects.decision import (
    Decision,
    Threshold,
    Trust,
    assess_trust,
    decide,
    explain_review,
    few_labels_warning,
    review_curve,
    to_review,
)
from labelaudit.suspects.scores import SCORE_NAMES, Scores, hear_witnesses, score_labels
from labelaudit.suspects.table import samples_table, wrong_labels
from labelaudit.training.loop import (
    FitResult,
    choose_device,
    fit,
    measure_step,
    predict_all,
    seeded,
)
from labelaudit.training.recorder import EpsilonHistory, record_epoch

EPSILON_FOLDER = "epsilon"
CHECKPOINT = "checkpoint.pt"
# A larger store of decoded images lies in a temporary file rather than in memory.
MEMORY_STORE_SHARE = 0.4
# Recording an epoch costs about this share of its steps; only used to say how long it will take.
RECORDING_SHARE = 0.25


@dataclass(frozen=True)
class ScanOptions:
    """What a user may set; None lets the data decide. See `scan`."""

    encoder: str = "auto"
    image_size: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    device: str = "auto"
    seed: int = 0
    time_budget: float | None = None
    score: str = "auto"
    threshold: str = "auto"

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("image_size", 1), ("seed", 0)):
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


@dataclass(frozen=True)
class Audit:
    """Everything that is settled before the first step."""

    source: Source
    pixels: np.ndarray
    choice: EncoderChoice
    config: UMNConfig
    plan: BatchPlan
    batch_size: int
    epochs: int
    options: ScanOptions
    device: torch.device

    def settings(self) -> dict[str, Any]:
        """Give what decides the outcome, as saved with every result."""
        return {
            "encoder": self.choice.name,
            "image_shape": list(self.choice.image_shape),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.options.seed,
            "max_shift": self.max_shift,
            "umn": asdict(self.config),
        }

    @property
    def max_shift(self) -> int:
        """Random translation of training images, in pixels."""
        manifest = self.source.manifest
        few = are_few(manifest.num_labeled, manifest.num_samples)
        return training_shift(self.choice.name, self.choice.image_shape, few)


def scan(
    source: str | Path | np.ndarray | Source,
    labels: str | Path | np.ndarray | Sequence[Any] | None = None,
    *,
    out: str | Path | None = None,
    force: bool = False,
    resume: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    encoder: str = "auto",
    image_size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    seed: int = 0,
    time_budget: float | None = None,
    score: str = "auto",
    threshold: str = "auto",
    reporter: Reporter | None = None,
) -> ScanResult:
    """Train UMN on images and their labels, and rank the labels by how suspect they are.

    Parameters
    ----------
    source
        A folder, a CSV, TSV, JSONL or parquet file, or a folder of parquet shards; or an array of
        images ``(N, H, W)`` or ``(N, H, W, C)``, uint8 or floats in [0, 1]; or a `Source`.
    labels
        A table of labels for a folder of images, or N labels for an array of images (names, or
        integers with -1 for unlabeled).
    out
        Folder to write results to. None writes none; the result is the same.
    force, resume
        Replace a run that labelaudit wrote to `out`, or go on with one that was cut off.
    image_column, label_column, split, clean_label_column
        How to read the source; see `labelaudit.data.sources.read_source`. Clean labels are never
        seen in training, and only used to score the report.
    encoder
        "auto", "mlp", "conv13", "resnet18", "resnet50" or "resnet101".
    image_size
        Longest side, in pixels, at which the encoder reads images.
    epochs, batch_size
        By default they follow the data.
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    seed
        Decides every random draw. On a CPU the same seed gives the same result.
    time_budget
        Minutes. Training ends before an epoch that would exceed it; one epoch is always trained.
    score
        "auto", or "epsilon" for the paper's own rule.
    threshold
        "auto", a score from 0 to 1, "top:K" or "rate:R" with a share R.
    reporter
        Told of progress; silent by default.

    Returns
    -------
    ScanResult
        Ranking, predictions and history.

    Raises
    ------
    SourceError, OptionError, OutputError
        If the data, an option or the output cannot be used; nothing is written then.
    KeyboardInterrupt
        If interrupted before the first epoch ended. Later, the ranking so far is the result, and
        its summary's `status` is "interrupted".
    """
    started = time.monotonic()
    reporter = reporter or Reporter()
    options = ScanOptions(
        encoder, image_size, epochs, batch_size, device, seed, time_budget, score, threshold
    )
    folder = _open_folder(out, force=force, resume=resume)
    data = _read(source, labels, image_column, label_column, split, clean_label_column)
    scratch = folder.path.absolute().parent if folder else None
    audit = prepare(data, options, reporter, scratch)

    temporary = None
    if folder is None:
        temporary = tempfile.TemporaryDirectory(prefix="labelaudit-")
        place = Path(temporary.name)
    else:
        place = folder.path
        folder.claim(version("labelaudit"), audit.source.manifest.fingerprint(), audit.settings())
    try:
        method, fitted = train(audit, place, started, reporter)
        history = EpsilonHistory(place / EPSILON_FOLDER, fitted.epochs, owner=temporary)
        reporter.say("Ranking the labels.")
        result = judge(audit, method, history, fitted, started)
        if folder:
            result = replace(result, run_dir=folder.path)
            with folder.file("model.pt") as path:
                torch.save(method.portable(audit.source.manifest.class_names), path)
            write_results(folder, result, pixels=audit.pixels, skipped=audit.source.skipped)
    except BaseException:
        if folder and not EpsilonHistory(place / EPSILON_FOLDER).epochs:
            folder.abandon()
        raise
    if folder:
        folder.finish(fitted.status)
        if fitted.status == "complete":
            (folder.path / CHECKPOINT).unlink(missing_ok=True)
    return result


def _open_folder(out: str | Path | None, *, force: bool, resume: bool) -> RunFolder | None:
    if out is not None:
        return RunFolder(out, force=force, resume=resume)
    if resume:
        raise OptionError("resume needs the output folder of the run to go on with")
    return None


def _read(
    source: str | Path | np.ndarray | Source,
    labels: str | Path | np.ndarray | Sequence[Any] | None,
    image_column: str | None,
    label_column: str | None,
    split: str | None,
    clean_label_column: str | None,
) -> Source:
    if isinstance(source, Source):
        return source
    if isinstance(source, np.ndarray):
        if labels is None or isinstance(labels, str | Path):
            raise OptionError("an array of images needs an array of as many labels")
        return source_from_arrays(source, labels)
    if labels is not None and not isinstance(labels, str | Path):
        raise OptionError("labels for a source on disk must be the path of a table")
    return read_source(
        source,
        labels,
        image_column=image_column,
        label_column=label_column,
        split=split,
        clean_label_column=clean_label_column,
    )


def prepare(
    source: Source, options: ScanOptions, reporter: Reporter, scratch: Path | None = None
) -> Audit:
    """Settle everything before the first step: encoder, pixels, batches, weights.

    Parameters
    ----------
    source
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
    images = source.manifest.images
    found = plan_images(images)
    scale = 1.0
    if options.image_size is not None:
        scale = options.image_size / max(found.height, found.width)
    height, width = (max(1, round(side * scale)) for side in (found.height, found.width))
    shape = (found.channels, height, width)
    choice = choose_encoder(options.encoder, shape, len(images), device.type)
    source, pixels = _decode(source, found, choice.image_shape[1:], reporter, scratch)
    source = check_trainable(source)
    manifest = source.manifest
    given = manifest.noisy_labels[manifest.labeled]
    few = few_labels_warning(given, manifest.class_names)
    source = replace(source, warnings=source.warnings + ((few,) if few else ()))

    batch_size = options.batch_size or default_batch_size(manifest.num_samples, device.type)
    plan = plan_batches(
        manifest.num_labeled, manifest.num_samples - manifest.num_labeled, batch_size
    )
    config = UMNConfig.for_data(pixels, given, manifest.num_classes, choice.name, plan)
    audit = Audit(
        source=source,
        pixels=pixels,
        choice=replace(choice, image_shape=config.network.image_shape),
        config=config,
        plan=plan,
        batch_size=batch_size,
        epochs=options.epochs or default_epochs(plan.steps, plan.draws_per_label),
        options=options,
        device=device,
    )
    _introduce(audit, reporter)
    return audit


def _decode(
    source: Source,
    found: ImagePlan,
    size: tuple[int, int],
    reporter: Reporter,
    scratch: Path | None,
) -> tuple[Source, np.ndarray]:
    images = source.manifest.images
    with reporter.bar("reading images", total=len(images)) as bar:
        decoded = decode_source(
            images,
            found,
            size,
            allocate=partial(_pixel_store, scratch=scratch),
            on_progress=bar.reach,
        )
    if not decoded.unreadable:
        return source, decoded.pixels
    keep = np.ones(len(images), dtype=bool)
    keep[list(decoded.unreadable)] = False
    return source.without_unreadable(decoded.unreadable), decoded.pixels[keep]


def _pixel_store(shape: tuple[int, int, int, int], *, scratch: Path | None) -> np.ndarray:
    """Give room for pixels: in memory, or memory-mapped if they would fill it.

    The mapped file has no name any more, so that it goes when it is let go, whatever happens.
    """
    try:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not told on every platform
        available = None
    if available is None or math.prod(shape) <= MEMORY_STORE_SHARE * available:
        return np.zeros(shape, dtype=np.uint8)
    while scratch is not None and not scratch.is_dir():
        scratch = scratch.parent
    with tempfile.TemporaryFile(prefix="labelaudit-images-", dir=scratch) as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def _introduce(audit: Audit, reporter: Reporter) -> None:
    """Say what was found and chosen."""
    manifest, choice = audit.source.manifest, audit.choice
    counts = np.bincount(manifest.noisy_labels[manifest.labeled], minlength=manifest.num_classes)
    unlabeled = manifest.num_samples - manifest.num_labeled
    channels, height, width = choice.image_shape
    reporter.say(
        f"Found {manifest.num_samples:,} images, {manifest.num_labeled:,} labeled and"
        f" {unlabeled:,} unlabeled, {manifest.num_classes} classes with {counts.min():,} to"
        f" {counts.max():,} labels ({_class_sizes(manifest, counts)})."
    )
    for warning in audit.source.warnings:
        reporter.warn(warning)
    reporter.say(
        f"Encoder {choice.name} on {audit.device.type}, reading {width}x{height}"
        f" {'grey' if channels == 1 else 'color'} ({choice.reason}). {audit.epochs} epochs of"
        f" {audit.plan.steps} steps."
    )


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
    manifest, options = audit.source.manifest, audit.options
    images = TrainingImages(audit.pixels, manifest.noisy_labels, audit.device, audit.max_shift)
    sample_ids = manifest.sample_ids[manifest.labeled]

    def new_method() -> UMN:
        with seeded(audit.device, options.seed, 0):
            return UMN(audit.config, audit.device)

    step = measure_step(new_method(), images, audit.plan, seed=options.seed)
    expected = step * audit.plan.steps * audit.epochs * (1 + RECORDING_SHARE)
    budget = None if options.time_budget is None else options.time_budget * 60
    reporter.say(
        f"Training takes about {format_seconds(expected)}"
        + (
            f"; it will stop within the {format_seconds(budget)} allowed."
            if budget is not None and expected > budget
            else ". Ctrl-C ends it early and keeps the ranking so far."
        )
    )
    method = new_method()

    fitted = fit(
        method,
        images,
        audit.plan,
        epochs=audit.epochs,
        seed=options.seed,
        on_epoch=lambda epoch: record_epoch(
            place / EPSILON_FOLDER, epoch, method, images, sample_ids
        ),
        reporter=reporter,
        checkpoint=place / CHECKPOINT,
        seconds_left=None if budget is None else budget - (time.monotonic() - started),
    )
    return method, fitted


def format_seconds(seconds: float) -> str:
    """Say a duration as a person would: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def judge(
    audit: Audit, method: UMN, history: EpsilonHistory, fitted: FitResult, started: float
) -> ScanResult:
    """Turn what was recorded into scores, a decision and tables.

    Parameters
    ----------
    audit, method
        What was trained.
    history
        What was recorded.
    fitted
        How training ended.
    started
        When the scan began, by `time.monotonic`.
    """
    manifest, options = audit.source.manifest, audit.options
    images = TrainingImages(audit.pixels, manifest.noisy_labels, audit.device)
    pred_probs, embeddings = predict_all(method, images)
    witnesses = hear_witnesses(
        history,
        pred_probs,
        embeddings,
        manifest.noisy_labels,
        min_epsilon=audit.config.min_epsilon,
        seed=options.seed,
    )
    scores = score_labels(
        witnesses, pred_probs, manifest.noisy_labels, options.score, seed=options.seed
    )
    decision = decide(scores, options.threshold)
    given = manifest.noisy_labels[manifest.labeled]
    trust = assess_trust(witnesses.neighbor_probs, given, manifest.class_names)
    samples = samples_table(
        manifest, witnesses, scores, decision, pred_probs, audit.source.clean_labels
    )
    return ScanResult(
        samples=samples,
        suspects=suspects_table(samples),
        summary=_summarize(audit, scores, decision, trust, fitted, time.monotonic() - started),
        pred_probs=pred_probs,
        embeddings=embeddings,
        history=history,
    )


def _summarize(
    audit: Audit,
    scores: Scores,
    decision: Decision,
    trust: Trust,
    fitted: FitResult,
    seconds: float,
) -> dict[str, Any]:
    manifest, options = audit.source.manifest, audit.options
    given = manifest.noisy_labels[manifest.labeled]
    flagged = decision.is_label_issue
    reviewed = to_review(scores)
    doubt = scores.suspect_score if scores.is_probability else flagged.astype(np.float64)
    counts = np.bincount(given, minlength=manifest.num_classes)
    suspects = np.bincount(given[flagged], minlength=manifest.num_classes)
    expected = np.bincount(given, weights=doubt, minlength=manifest.num_classes)
    return {
        "name": manifest.name,
        "num_samples": manifest.num_samples,
        "num_labeled": manifest.num_labeled,
        "num_unlabeled": manifest.num_samples - manifest.num_labeled,
        "num_classes": manifest.num_classes,
        "class_names": list(manifest.class_names),
        "num_suspects": int(flagged.sum()),
        "estimated_noise_rate": decision.estimated_noise_rate,
        "expected_wrong": decision.expected_wrong,
        "expected_wrong_interval": list(decision.expected_wrong_interval)
        if decision.expected_wrong_interval
        else None,
        "review": {
            "explanation": explain_review(reviewed),
            "to_find": reviewed,
            "curve": review_curve(scores),
        },
        "threshold": {
            "value": decision.threshold,
            "rule": decision.rule,
            "explanation": decision.explanation,
        },
        "score": {"name": scores.name, "explanation": scores.explanation},
        "trust": {"trustworthy": trust.trustworthy, "reasons": list(trust.reasons)},
        "metrics": _metrics(audit, scores, decision),
        "per_class": [
            {
                "class_name": name,
                "num_labeled": int(labels),
                "num_suspects": int(bad),
                "estimated_noise_rate": float(doubtful / labels) if labels else None,
            }
            for name, labels, bad, doubtful in zip(
                manifest.class_names, counts, suspects, expected, strict=True
            )
        ],
        "encoder": {
            "name": audit.choice.name,
            "reason": audit.choice.reason,
            "image_shape": list(audit.choice.image_shape),
        },
        "status": fitted.status,
        "epochs": fitted.epochs,
        "seconds": round(seconds, 1),
        "device": _device_name(audit.device),
        "seed": options.seed,
        "versions": {
            "labelaudit": version("labelaudit"),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")},
        },
        "warnings": list(audit.source.warnings),
        # As JSON has it, so that summary.json reads back as this.
        "config": json.loads(json.dumps({"options": asdict(options), **audit.settings()})),
    }


def _metrics(audit: Audit, scores: Scores, decision: Decision) -> dict[str, float | None]:
    clean_labels = audit.source.clean_labels
    nothing: dict[str, float | None] = dict.fromkeys((*METRIC_NAMES, "num_wrong"))
    if clean_labels is None:
        return nothing
    known, wrong = wrong_labels(audit.source.manifest, clean_labels)
    if not known.any():
        return nothing
    metrics = detection_metrics(
        scores.suspect_score[known], decision.is_label_issue[known], wrong[known]
    )
    return {**metrics, "num_wrong": int(wrong.sum())}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

"""scan() of the user's own predictions: read, score, write. Nothing is trained."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelaudit.audit.inputs import tell_verified
from labelaudit.corrections.reviewed import Review
from labelaudit.networks.standardize import standardizing_scale
from labelaudit.progress import Reporter
from labelaudit.reporting.files import evidence_of
from labelaudit.reporting.findings import RunContents
from labelaudit.reporting.run_folder import RunFolder
from labelaudit.reporting.tables import suspects_table
from labelaudit.scan_result import ScanResult
from labelaudit.sources.classes import check_trainable
from labelaudit.sources.prediction_files import Predictions, PredictionSource
from labelaudit.sources.values import as_frame, is_frame
from labelaudit.suspects.duplicates import COLUMNS, conflicting_duplicates, duplicate_queries
from labelaudit.suspects.prediction_checks import check_index, read_models, separate_models
from labelaudit.suspects.predictions import (
    add_features,
    assess_labels,
    check_predictions,
    sparse_warnings,
)
from labelaudit.suspects.scores import Scores
from labelaudit.suspects.summarize import summarize, versions
from labelaudit.suspects.summary import EncoderUsed, Summary
from labelaudit.suspects.table import samples_table
from labelaudit.suspects.trust import unknown_first_warning
from labelaudit.typed_json import to_plain
from labelaudit.version import installed_version


def scan_predictions(
    data: PredictionSource,
    folder: RunFolder | None,
    review: Review,
    reporter: Reporter,
    *,
    threshold: str,
    seed: int,
    names: tuple[str, ...],
    max_suspects: int | None = None,
) -> ScanResult:
    """Score labels by predictions, and write the run folder, or nothing if `folder` is None.

    The decisions of `review` have been applied to `data` already. `names` are the names of the
    predictions in the saved settings.
    """
    started = time.monotonic()
    source = check_trainable(data.source)
    manifest, verified = source.manifest, source.verified_labels
    reporter.say(
        f"Found {manifest.num_samples:,} samples, {manifest.num_labeled:,} labeled, and predictions of"
        f" {len(data.models)} model{'s' if len(data.models) > 1 else ''} for"
        f" {manifest.num_classes} classes."
    )
    tell_verified(source, reporter)
    with reporter.bar("reading predictions"):
        predictions = check_predictions(
            read_models(list(data.models)), manifest.noisy_labels, manifest.class_names, names
        )
    if data.features is not None:
        reporter.say("Cross-fitting classifiers on the features.")
        with reporter.bar("cross-fitting classifiers"):
            predictions = add_features(
                predictions,
                data.features,
                manifest.noisy_labels,
                manifest.class_names,
                seed=seed,
                verified=verified,
            )
    warnings = [
        *source.warnings,
        *predictions.warnings,
        *sparse_warnings(manifest.noisy_labels, manifest.class_names),
        *filter(None, [unknown_first_warning(verified)]),
    ]
    for line in warnings:
        reporter.warn(line)
    reporter.say("Ranking the labels.")
    with reporter.bar("ranking the labels"):
        assessed = assess_labels(
            predictions,
            manifest.noisy_labels,
            manifest.class_names,
            threshold=threshold,
            seed=seed,
            verified=verified,
            votes=None if source.votes is None else source.votes.labels,
        )
    samples = samples_table(
        manifest,
        assessed.scores,
        assessed.decision,
        predictions.predicted,
        trusted=assessed.trust.trustworthy,
        clean_labels=source.clean_labels,
        votes=source.votes,
    )
    with reporter.bar("searching for duplicates"):
        duplicates = _duplicates(data, assessed.scores)
    config: dict[str, Any] = {"pred_probs": list(names), "features": data.features is not None}
    if source.votes is not None:
        config["label_columns"] = list(source.votes.annotators)
    found = summarize(
        manifest,
        assessed.scores,
        assessed.decision,
        assessed.trust,
        source.clean_labels,
        num_excluded=source.num_excluded,
        warnings=warnings,
        votes=source.votes,
    )
    reason = f"{len(names)} given, nothing trained"
    summary = Summary(
        **vars(found),
        encoder=EncoderUsed(name="predictions", reason=reason, image_shape=None),
        columns={},
        status="complete",
        epochs=0,
        seconds=round(time.monotonic() - started, 1),
        device="cpu",
        seed=seed,
        versions=versions(),
        config=to_plain({"threshold": threshold, "seed": seed, **config}),
        num_conflicting_duplicates=len(duplicates),
    )
    result = ScanResult(
        samples=samples,
        suspects=suspects_table(samples),
        duplicates=duplicates,
        summary=summary,
        pred_probs=predictions.probs(),
        embeddings=None,
        history=None,
        contents=RunContents(
            fingerprint=source.fingerprint(),
            settings=config,
            skipped=source.skipped,
            evidence=evidence_of(
                manifest.images,
                samples,
                data.details,
                points=data.features,
                scale=None if data.features is None else standardizing_scale(data.features),
            ),
        ),
    )
    result = replace(result, summary=replace(summary, checked=review.check(samples, summary)))
    if folder is None:
        return result
    if folder.path.exists():
        review.keep_standing(folder.path)  # before anything is moved
    folder.claim(installed_version(), source.fingerprint(), config, reporter)
    decisions = review.carry_over(samples, folder.path, reporter)
    result = result.written_to(
        folder, decisions=decisions, max_suspects=max_suspects, reporter=reporter
    )
    folder.finish("complete", reporter)
    return result


def _duplicates(data: PredictionSource, scores: Scores) -> pd.DataFrame:
    """List samples that are the same, or nearly, and have different labels, if there are features."""
    manifest = data.source.manifest
    if data.features is None:
        return pd.DataFrame(columns=COLUMNS)
    return conflicting_duplicates(
        data.features,
        manifest.noisy_labels,
        manifest.sample_ids,
        manifest.class_names,
        queries=duplicate_queries(
            np.flatnonzero(manifest.labeled)[scores.order], manifest.num_samples
        ),
    )


def as_list(pred_probs: Any, labels: Any = None) -> list[Predictions]:
    """Return predictions as a list of files, arrays and data frames, one for each model.

    Parameters
    ----------
    pred_probs
        Files, or what `labelaudit.find_label_issues` takes.
    labels
        If they are a Series, data frames must have the same index.

    Raises
    ------
    SourceError
        They are neither files nor numbers, or the index of a data frame differs.
    """
    models = separate_models(pred_probs)
    check_index(labels, models)
    listed: list[Predictions] = []
    for one in models:
        if isinstance(one, str | Path):
            listed.append(one)
        elif is_frame(one):
            listed.append(as_frame(one))
        else:
            listed += read_models(one)
    return listed

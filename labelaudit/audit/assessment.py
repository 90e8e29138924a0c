"""Scores, decision and trust from a trained UMN, and the `ScanResult` made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from labelaudit.audit.fitting import Fitted
from labelaudit.audit.inputs import Inputs
from labelaudit.audit.plan import AuditPlan
from labelaudit.networks.standardize import standardizing_scale
from labelaudit.progress import Bars, Reporter
from labelaudit.reporting.evidence import Evidence
from labelaudit.reporting.files import evidence_of
from labelaudit.reporting.findings import RunContents
from labelaudit.reporting.tables import SAMPLE_TEXT, suspects_table
from labelaudit.scan_result import ScanResult
from labelaudit.suspects.decision import Decision, decide
from labelaudit.suspects.duplicates import conflicting_duplicates, duplicate_queries
from labelaudit.suspects.label_evidence import LabelEvidence, collect_evidence
from labelaudit.suspects.scores import Scores, score_labels
from labelaudit.suspects.summarize import summarize, versions
from labelaudit.suspects.summary import EncoderUsed, Summary
from labelaudit.suspects.table import Predicted, samples_table
from labelaudit.suspects.trust import Trust, assess_trust, share_of_information
from labelaudit.suspects.votes import trust_votes
from labelaudit.training.loop import FitResult
from labelaudit.training.recorder import EpsilonHistory
from labelaudit.typed_json import to_plain


@dataclass(frozen=True, eq=False)
class Assessment:
    """Scores and flags of the L given labels, in order, and whether to trust them.

    Attributes
    ----------
    evidence
        The predictions of networks and classifiers about each label.
    scores, decision, trust
        How suspect each label is, which labels are flagged, and whether to trust the result.
    """

    evidence: LabelEvidence
    scores: Scores
    decision: Decision
    trust: Trust


@dataclass(frozen=True, eq=False)
class Audited:
    """A finished audit.

    Attributes
    ----------
    plan, fitted, assessment
        The plan, the trained networks, and the scores and flags.
    history
        ε of every label after every epoch; None if it was not recorded.
    seconds
        Time for the whole audit.
    """

    plan: AuditPlan
    fitted: Fitted
    assessment: Assessment
    history: EpsilonHistory | None
    seconds: float


def assess(plan: AuditPlan, fitted: Fitted, reporter: Reporter) -> Assessment:
    """Score every given label, flag labels, and say whether to trust the result."""
    with reporter.bars() as bars:
        return _assess(plan, fitted, bars)


def _assess(plan: AuditPlan, fitted: Fitted, bars: Bars) -> Assessment:
    manifest, options = plan.manifest, plan.options
    verified, votes = plan.inputs.source.verified_labels, plan.inputs.source.votes
    evidence = collect_evidence(
        fitted.means,
        fitted.pred_probs,
        fitted.embeddings,
        manifest.noisy_labels,
        seed=options.seed,
        features=plan.inputs.features if plan.inputs.are_features else None,
        pixels=None if plan.inputs.are_features else plan.inputs.store,
        device=plan.device,
        verified=verified,
        bars=bars,
    )
    bar = bars.begin("scoring labels", manifest.num_labeled)
    scores = score_labels(
        evidence,
        fitted.pred_probs,
        manifest.noisy_labels,
        options.score,
        seed=options.seed,
        verified=verified,
        votes=None if votes is None else votes.labels[manifest.labeled],
        advance=bar.advance,
    )
    given = manifest.noisy_labels[manifest.labeled]
    trust = assess_trust(
        evidence.oos_probs.argmax(axis=1),
        given,
        manifest.class_names,
        class_uncertainty=float(scores.class_uncertainty.mean()),
        information=share_of_information(evidence.oos_probs, given),
    )
    if fitted.training.status == "diverged":
        reason = (
            f"Training diverged twice, at last in epoch {fitted.training.epochs + 1}, so the networks"
            " have learned less than planned."
        )
        trust = Trust(False, (reason, *trust.reasons))
    trust = trust_votes(trust, None if votes is None else votes.labels)
    return Assessment(evidence, scores, decide(scores, options.threshold), trust)


def result_of(audited: Audited) -> ScanResult:
    """Return the tables and the summary of an audit."""
    plan, fitted, assessment = audited.plan, audited.fitted, audited.assessment
    manifest, source = plan.manifest, plan.inputs.source
    samples = samples_table(
        manifest,
        assessment.scores,
        assessment.decision,
        Predicted.of(fitted.pred_probs),
        trusted=assessment.trust.trustworthy,
        evidence=assessment.evidence,
        clean_labels=source.clean_labels,
        votes=source.votes,
    )
    duplicates = find_duplicates(plan, fitted.embeddings, assessment)
    found = summarize(
        manifest,
        assessment.scores,
        assessment.decision,
        assessment.trust,
        source.clean_labels,
        num_excluded=source.num_excluded,
        warnings=[*source.warnings, *_training_warnings(fitted.training)],
        votes=source.votes,
    )
    if plan.inputs.text_column is not None:
        samples[SAMPLE_TEXT] = plan.inputs.details[plan.inputs.text_column].astype("str")
    return ScanResult(
        samples=samples,
        suspects=suspects_table(samples),
        duplicates=duplicates,
        summary=Summary(
            **vars(found), **_run_of(audited), num_conflicting_duplicates=len(duplicates)
        ),
        pred_probs=fitted.pred_probs,
        embeddings=fitted.embeddings,
        history=audited.history,
        contents=RunContents(
            fingerprint=source.fingerprint(),
            settings=plan.settings(),
            skipped=source.skipped,
            evidence=_evidence_of(plan.inputs, samples, fitted.embeddings),
            model=fitted.method.portable(manifest.class_names),
        ),
    )


def _evidence_of(inputs: Inputs, samples: pd.DataFrame, embeddings: np.ndarray) -> Evidence:
    """Return what the report shows. Neighbors are those in the features, else in the embedding."""
    images = inputs.source.manifest.images
    if not inputs.are_features:
        return evidence_of(images, samples, inputs.details, points=embeddings)
    scale = standardizing_scale(inputs.features)
    return evidence_of(images, samples, inputs.details, points=inputs.features, scale=scale)


def find_duplicates(
    plan: AuditPlan, embeddings: np.ndarray, assessment: Assessment
) -> pd.DataFrame:
    """List samples that are the same, or nearly, and have different labels.

    Duplicates are searched in the features, or in the embeddings ``(N, d)`` if there are only pixels.
    If there are very many samples, only the most suspect ones are searched.
    """
    manifest, inputs = plan.manifest, plan.inputs
    queries = duplicate_queries(
        np.flatnonzero(manifest.labeled)[assessment.scores.order],
        manifest.num_samples,
        share=1.0 if inputs.are_features else 0.0,  # Pixels of large data are not searched.
    )
    return conflicting_duplicates(
        inputs.features if inputs.are_features else embeddings,
        manifest.noisy_labels,
        manifest.sample_ids,
        manifest.class_names,
        content_hashes=inputs.content_hashes,
        queries=queries,
        neighbors=assessment.evidence.neighbors,
        device=plan.device,
    )


def _training_warnings(training: FitResult) -> list[str]:
    if training.slowed_in is None:
        return []
    return [
        f"training diverged in epoch {training.slowed_in} and continued from the epoch before with a"
        " tenth of the learning rate; look for samples with extreme values"
    ]


def _run_of(audited: Audited) -> dict[str, Any]:
    """Return the entries of summary.json about how the audit was done."""
    plan, training = audited.plan, audited.fitted.training
    device = plan.device
    return {
        "encoder": EncoderUsed(
            name=plan.inputs.encoder,
            reason=plan.inputs.choice.reason,
            image_shape=plan.image_shape,
        ),
        "columns": dict(plan.inputs.notes),
        "status": training.status,
        "epochs": training.epochs,
        "seconds": round(audited.seconds, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "seed": plan.options.seed,
        "versions": versions(),
        # Converted as by JSON, so that summary.json is read back as the same value.
        "config": to_plain({"options": plan.options, **plan.settings()}),
    }

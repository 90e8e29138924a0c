"""The plan of an audit, made before the first training step: inputs, batches, settings of UMN."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelaudit.audit.inputs import Inputs, take_features, tell_notes, tell_verified
from labelaudit.audit.reading import read_images
from labelaudit.audit.text_inputs import extract_texts
from labelaudit.errors import OptionError
from labelaudit.features.text_encoders import is_text_encoder
from labelaudit.memory import check_memory
from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import (
    MOSTLY_LABELED_SHARE,
    UMNConfig,
    affordable_epochs,
    default_batch_size,
    default_epochs,
    few_epochs,
)
from labelaudit.networks.encoders import training_shift
from labelaudit.options import AuditOptions
from labelaudit.progress import Reporter
from labelaudit.sources.classes import check_trainable
from labelaudit.sources.feature_tables import FeatureSource
from labelaudit.sources.manifest import Manifest, Source, are_few
from labelaudit.sources.texts import TextSource
from labelaudit.suspects.cross_fitting import classifiers_suffice
from labelaudit.suspects.trust import (
    few_labels_warning,
    thin_classes_warning,
    unknown_first_warning,
)
from labelaudit.training.batches import BatchPlan, TrainingImages, plan_batches
from labelaudit.training.device import choose_device

FLOAT_BYTES = 4
# The probabilities of the guider, those out of sample, and their sum over the epochs.
PROBS_KEPT = 3


@dataclass(frozen=True)
class AuditPlan:
    """Inputs, networks, settings and length of a training.

    Attributes
    ----------
    inputs
        Pixels or features of the N samples, and their origin.
    config
        Settings of UMN.
    batches
        The batches of an epoch.
    batch_size, epochs
        Number of samples in each training step, and number of epochs, set by the user or derived from
        the data.
    options
        The options of the user.
    device
        Device on which the networks run.
    build
        Returns the method to train from settings, device and pretrained weights: `UMN`, or a
        variant of it in an experiment.
    """

    inputs: Inputs
    config: UMNConfig
    batches: BatchPlan
    batch_size: int
    epochs: int
    options: AuditOptions
    device: torch.device
    build: Callable[[UMNConfig, torch.device, Mapping[str, Tensor] | None], UMN] = UMN

    @property
    def manifest(self) -> Manifest:
        """The samples and their labels."""
        return self.inputs.source.manifest

    @property
    def image_shape(self) -> list[int] | None:
        """``[C, H, W]`` of the images; None for features."""
        return None if self.inputs.are_features else list(self.inputs.choice.image_shape)

    @property
    def max_shift(self) -> int:
        """Largest random translation of training images, in pixels."""
        few = are_few(self.manifest.num_labeled, self.manifest.num_samples)
        return training_shift(self.inputs.choice.name, self.inputs.choice.image_shape, few)

    def settings(self) -> dict[str, Any]:
        """Return all settings that decide the result; they are saved with it."""
        umn = asdict(self.config)
        if self.inputs.are_features:
            # They are computed from the features, and may be thousands of numbers.
            del umn["network"]["statistics"]
        votes = self.inputs.source.votes
        return {
            **({} if votes is None else {"label_columns": list(votes.annotators)}),
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

    def decisive(self) -> dict[str, Any]:
        """Return all that must be the same for a run to be continued, by the names of the options.

        The device and the time budget may change, and whether downloads are allowed.
        """
        options, source = vars(self.options), self.inputs.source
        left_out = {"device", "time_budget", "offline"}
        chosen = {one.name: options[one.name] for one in fields(AuditOptions)}
        # By content: a file of weights may be moved, and must not be exchanged.
        chosen["weights"] = self.inputs.origin.get("identity", chosen["weights"])
        clean = source.clean_labels
        digest = None if clean is None else hashlib.sha256(clean.tobytes()).hexdigest()
        chosen |= {"clean_labels": digest} | self.settings()
        return {name: value for name, value in chosen.items() if name not in left_out}

    def with_batches(self, batches: BatchPlan) -> AuditPlan:
        """Return the same plan with other batches, because the GPU has too little memory."""
        if batches == self.batches:
            return self
        return replace(self, batches=batches, batch_size=batches.largest)

    def training_images(self) -> TrainingImages:
        """Return the training samples, which are shifted and mirrored at random."""
        return TrainingImages(
            self.inputs.store,
            self.manifest.noisy_labels,
            self.device,
            self.max_shift,
            self.options.flip,
            self.inputs.source.verified,
        )


def prepare(
    data: Source | FeatureSource | TextSource,
    options: AuditOptions,
    reporter: Reporter,
    scratch: Path | None = None,
    before: Mapping[str, Any] | None = None,
) -> AuditPlan:
    """Choose the encoder, read pixels or features, and plan the batches and the settings of UMN.

    Parameters
    ----------
    data
        Samples and labels.
    options
        The options of the user.
    reporter
        Receives a description of the data and of the choices.
    scratch
        Folder for decoded images that do not fit into memory.
    before
        Settings of the unfinished run that is continued, see `AuditPlan.decisive`.

    Raises
    ------
    SourceError, OptionError
        If the images or labels cannot be trained on, or not with these options.
    """
    device = choose_device(options.device)
    if isinstance(data, FeatureSource):
        options.refuse_encoder("the source")
        inputs = take_features(data)
    elif isinstance(data, TextSource):
        inputs = extract_texts(data, options, device, reporter, scratch)
    elif is_text_encoder(options.encoder):
        raise OptionError(
            f"`encoder` {options.encoder} reads texts; name their column with `text_column`"
        )
    else:
        inputs = read_images(data, options, device, reporter, scratch, before)
    source = check_trainable(inputs.source)
    manifest = source.manifest
    _check_memory(inputs, manifest)
    given = manifest.noisy_labels[manifest.labeled]
    warnings = (
        few_labels_warning(given, manifest.class_names),
        thin_classes_warning(given, manifest.num_classes),
        unknown_first_warning(source.verified_labels),
    )
    source = replace(source, warnings=source.warnings + tuple(filter(None, warnings)))

    name = inputs.choice.name
    batch_size = options.batch_size or default_batch_size(manifest.num_samples, device.type, name)
    batches = plan_batches(
        manifest.num_labeled, manifest.num_samples - manifest.num_labeled, batch_size
    )
    config = UMNConfig.for_data(inputs.store, given, manifest.num_classes, name, batches)
    if inputs.fine_tuning is not None:
        config = replace(config, network=inputs.fine_tuning.configure(config.network))
    plan = AuditPlan(
        inputs=replace(inputs, source=source),
        config=config,
        batches=batches,
        batch_size=batch_size,
        epochs=options.epochs or _choose_epochs(inputs, manifest, batches, options.seed),
        options=options,
        device=device,
    )
    _introduce(plan, reporter)
    return plan


def _choose_epochs(inputs: Inputs, manifest: Manifest, batches: BatchPlan, seed: int) -> int:
    """Return the default number of epochs."""
    labels, classes = manifest.noisy_labels, manifest.num_classes
    mostly_labeled = manifest.num_labeled >= MOSTLY_LABELED_SHARE * manifest.num_samples
    if (
        inputs.are_features
        and mostly_labeled
        and classifiers_suffice(inputs.features, labels, classes, seed=seed)
    ):
        epochs = few_epochs(batches.steps)
    else:
        epochs = default_epochs(batches.steps, batches.draws_per_label, inputs.choice.name)
    return affordable_epochs(epochs, manifest.num_samples, classes)


def _check_memory(inputs: Inputs, manifest: Manifest) -> None:
    """Raise SourceError if the memory is too small for the arrays that an audit makes at least."""
    samples, classes = manifest.num_samples, manifest.num_classes
    numbers = PROBS_KEPT * samples * classes
    what = f"{samples:,} samples in {classes:,} classes"
    if inputs.are_features:
        size = inputs.choice.image_shape[0]
        numbers += samples * size  # standardized
        what = f"{samples:,} samples with {size:,} features in {classes:,} classes"
    check_memory(FLOAT_BYTES * numbers, what)


def _introduce(plan: AuditPlan, reporter: Reporter) -> None:
    """Describe the data and the choices."""
    manifest, inputs = plan.manifest, plan.inputs
    counts = np.bincount(manifest.noisy_labels[manifest.labeled], minlength=manifest.num_classes)
    unlabeled = manifest.num_samples - manifest.num_labeled
    least, most = counts.min(), counts.max()
    sizes = f"{least:,} labels each" if least == most else f"{least:,} to {most:,} labels"
    reporter.say(
        f"Found {manifest.num_samples:,} {inputs.noun}, {manifest.num_labeled:,} labeled and"
        f" {unlabeled:,} unlabeled, {manifest.num_classes} classes with {sizes}"
        f" ({_class_sizes(manifest, counts)})."
    )
    tell_verified(inputs.source, reporter)
    for warning in inputs.source.warnings:
        reporter.warn(warning)
    tell_notes(inputs.notes, reporter)
    if inputs.are_features:
        reading = f"UMN on {plan.device.type}, reading {inputs.choice.reason}."
    else:
        channels, height, width = inputs.choice.image_shape
        reading = (
            f"Encoder {inputs.choice.name} on {plan.device.type}, reading {width}x{height}"
            f" {'gray' if channels == 1 else 'color'} ({inputs.choice.reason})."
        )
    if inputs.choice.name == "mlp" and plan.config.network.statistics.low_contrast:
        reporter.say("The images have little contrast, so the mlp reads them standardized.")
    reporter.say(f"{reading} {plan.epochs} epochs of {plan.batches.steps} steps.")


def _class_sizes(manifest: Manifest, counts: np.ndarray, most: int = 10) -> str:
    order = np.argsort(-counts, kind="stable")
    shown = [f"{manifest.class_names[c]}: {counts[c]:,}" for c in order[:most]]
    return ", ".join(shown) + (", …" if len(order) > most else "")

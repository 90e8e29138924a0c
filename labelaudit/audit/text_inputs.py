"""The inputs of the networks for texts: the features that a sentence encoder gives."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from labelaudit.audit.inputs import Allocate, Inputs, as_images, make_once_a_machine
from labelaudit.features.cache import Hashes
from labelaudit.features.text_encoders import open_text_encoder, refuse_image_options
from labelaudit.features.texts import encode_texts
from labelaudit.networks.encoders import EncoderChoice
from labelaudit.options import AuditOptions
from labelaudit.progress import Reporter
from labelaudit.sources.texts import TextSource
from labelaudit.suspects.feature_range import in_range


def extract_texts(
    found: TextSource,
    options: AuditOptions,
    device: torch.device,
    reporter: Reporter,
    scratch: Path | None = None,
) -> Inputs:
    """Compute the features of all texts with a sentence encoder, or read them from the cache.

    Parameters
    ----------
    found
        N texts and their labels.
    options
        The options of the user; `encoder` names the sentence encoder.
    device
        Device on which it runs.
    reporter
        Shows progress.
    scratch
        Folder for the features if memory is too small for them.

    Raises
    ------
    OptionError
        If there is no such encoder, or an option is for images.
    """
    refuse_image_options(
        weights=options.weights,
        image_size=options.image_size,
        flip=options.flip,
        fine_tune=options.fine_tune,
    )
    encoder = open_text_encoder(options.encoder, device, reporter, offline=options.offline)

    def read(allocate: Allocate) -> tuple[np.ndarray, Hashes]:
        made = encode_texts(found.texts.tolist(), encoder, reporter, allocate=allocate)
        return made.features, made.content_hashes

    features, hashes = make_once_a_machine(read, np.float32, scratch)
    size = encoder.feature_size
    digest = hashlib.blake2b(np.ascontiguousarray(hashes).tobytes(), digest_size=16)
    return Inputs(
        found.source,
        as_images(in_range(features)),
        EncoderChoice(
            "features", (size, 1, 1), f"{size:,} features per text, pretrained and frozen"
        ),
        encoder=encoder.name,
        origin=encoder.settings() | {"texts": digest.hexdigest()},
        content_hashes=hashes,
        details=found.details,
        text_column=found.column,
    )

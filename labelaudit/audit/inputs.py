"""The inputs of the networks: pixels or features of the samples.

`read_samples` reads samples and labels. Then their images are decoded (`decode`), or a pretrained
backbone computes features of them (`extract`), or the source has features already (`take_features`).
`labelaudit.audit.reading` chooses between the first two.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from labelaudit.checksums import add_rows
from labelaudit.features import embed as embedding
from labelaudit.features.backbones import Backbone
from labelaudit.images.containers import NoImages
from labelaudit.images.decode import decode_source
from labelaudit.images.gray_range import GrayRange, describe_ranges, few_levels_warning
from labelaudit.images.plan import ImagePlan, plan_images
from labelaudit.images.store import (
    PREFIX,
    keep_rows,
    make_store,
    map_file,
    writable,
)
from labelaudit.networks.encoders import ENCODERS, EncoderChoice, choose_encoder
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.networks.umn import NetworkConfig
from labelaudit.progress import Reporter
from labelaudit.sources.feature_tables import FeatureSource
from labelaudit.sources.manifest import Source
from labelaudit.suspects.feature_range import in_range
from labelaudit.training import distributed

# Largest number of columns of a table whose treatment is reported.
NOTES_TOLD = 30

T = TypeVar("T")
# Makes an array of a given shape.
Allocate = Callable[[tuple[int, ...]], np.ndarray]


@dataclass(frozen=True, eq=False)
class FineTuning:
    """A pretrained network that is trained further.

    Attributes
    ----------
    backbone : str
        Name of the network.
    statistics : PixelStatistics
        Mean and standard deviation of the pixels that its weights were trained on.
    weights : mapping of str to Tensor
        Initial weights, on the CPU.
    """

    backbone: str
    statistics: PixelStatistics
    weights: Mapping[str, torch.Tensor]

    def configure(self, config: NetworkConfig) -> NetworkConfig:
        """Return the configuration of the networks with this backbone."""
        return replace(config, backbone=self.backbone, statistics=self.statistics)


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of the networks for each sample.

    Attributes
    ----------
    source : Source
        The N samples that could be read.
    store : array (N, C, H, W) uint8, or (N, D, 1, 1) float32
        Pixels, or features as images of D channels and one pixel.
    choice : EncoderChoice
        The encoder that reads them.
    encoder : str
        Name of the encoder for the user: the requested name, that of the backbone, or "features".
    origin : mapping
        Settings that decide the features, to be saved with a result; for pixels only the ranges of
        gray values with more than 8 bits.
    content_hashes : array (N,), or None
        Equal for files with the same content, if a backbone computed features; otherwise None.
    details : DataFrame (N, k) of str
        Other columns of the samples' rows, for the report.
    notes : mapping of str to str
        How each column of a table is used.
    fine_tuning : FineTuning, or None
        The pretrained network that is trained further, if the encoder is "backbone".
    text_column : str, or None
        The column of `details` that holds the samples themselves, if they are texts.
    """

    source: Source
    store: np.ndarray
    choice: EncoderChoice
    encoder: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    content_hashes: np.ndarray | None = None
    details: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: Mapping[str, str] = field(default_factory=dict)
    fine_tuning: FineTuning | None = None
    text_column: str | None = None

    @property
    def are_features(self) -> bool:
        """Whether the store holds features."""
        return ENCODERS[self.choice.name].reads_features

    @property
    def features(self) -> np.ndarray:
        """The features ``(N, D)``, if the store holds features."""
        assert self.are_features
        return self.store[:, :, 0, 0]

    @property
    def noun(self) -> str:
        """Word for the samples in messages: "images" or "samples"."""
        return "samples" if isinstance(self.source.manifest.images, NoImages) else "images"


def decode(
    source: Source,
    encoder: str,
    image_size: int | None,
    device: torch.device,
    reporter: Reporter,
    scratch: Path | None = None,
) -> Inputs:
    """Decode all images at the size that an encoder reads.

    Parameters
    ----------
    source
        Samples and labels.
    encoder
        "auto" or one of `ENCODER_NAMES`.
    image_size
        Longest side in pixels, or None for the size that the encoder prefers.
    device
        Device on which the encoder will run.
    reporter
        Shows progress.
    scratch
        Folder for the pixels if memory is too small for them.

    Raises
    ------
    SourceError, OptionError
        If the images cannot be read, or are too small for this encoder.
    """
    images = source.manifest.images
    found = plan_images(images)
    scale = 1.0 if image_size is None else image_size / max(found.height, found.width)
    height, width = (max(1, round(side * scale)) for side in (found.height, found.width))
    shape = (found.channels, height, width)
    fixed = image_size is not None
    choice = choose_encoder(encoder, shape, len(images), device.type, fixed_size=fixed)
    source, pixels, origin = _decode(source, found, choice.image_shape[1:], reporter, scratch)
    # The plan may have been made from gray images, although others have color.
    choice = replace(choice, image_shape=pixels.shape[1:])
    return Inputs(source, pixels, choice, choice.name, origin)


def _decode(
    source: Source,
    found: ImagePlan,
    size: tuple[int, int],
    reporter: Reporter,
    scratch: Path | None,
) -> tuple[Source, np.ndarray, dict[str, Any]]:
    """Decode the images.

    Returns
    -------
    source, pixels, origin
        The source without unreadable images, pixels ``(N, C, H, W)``, and the settings that decided
        them.
    """
    images = source.manifest.images

    def read(
        allocate: Allocate,
    ) -> tuple[np.ndarray, tuple[dict[int, str], dict[str, GrayRange]]]:
        with reporter.bar("reading images", total=len(images)) as bar:
            decoded = decode_source(images, found, size, allocate=allocate, on_progress=bar.reach)
        rest = decoded.unreadable, decoded.gray_ranges
        if not decoded.unreadable:
            return decoded.pixels, rest
        kept = _kept(len(images), decoded.unreadable)
        return keep_rows(decoded.pixels, kept), rest

    pixels, (unreadable, ranges) = make_once_a_machine(read, np.uint8, scratch)
    if unreadable:
        source = source.without_unreadable(unreadable)
    if (warning := few_levels_warning(pixels)) is not None:
        source = replace(source, warnings=(*source.warnings, warning))
    for line in describe_ranges(ranges):
        reporter.say(line)
    return source, pixels, _as_settings(ranges)


def _as_settings(ranges: Mapping[str, GrayRange]) -> dict[str, Any]:
    return {"gray_ranges": {k: [r.low, r.high] for k, r in ranges.items()}} if ranges else {}


def make_once_a_machine(
    make: Callable[[Allocate], tuple[np.ndarray, T]], dtype: npt.DTypeLike, scratch: Path | None
) -> tuple[np.ndarray, T]:
    """Make an array in one process per machine, in a mapped file that the other processes share.

    Parameters
    ----------
    make
        Takes a function that makes an array of a given shape. Returns this array, or its first rows,
        and a small value.
    dtype
        Data type of the array.
    scratch
        Folder for the file.
    """
    if distributed.size() == 1:
        return make(partial(make_store, dtype=dtype, scratch=scratch))

    def make_file() -> Path:
        file, name = tempfile.mkstemp(prefix=PREFIX, dir=writable(scratch))
        os.close(file)
        return Path(name)

    path = distributed.once_a_machine(make_file)
    with path.open("r+b") as file:
        # All processes have opened the file, so its name can be deleted. The system frees the space
        # when the last of them closes it.
        distributed.everyone(None)
        if distributed.local_rank() == 0:
            path.unlink()
        room = partial(map_file, file, path.parent, dtype=dtype)

        def make_shape() -> tuple[tuple[int, ...], T]:
            array, rest = make(room)
            return array.shape, rest

        shape, rest = distributed.once_a_machine(make_shape)
        return room(shape), rest


def extract(
    source: Source,
    backbone: Backbone,
    reporter: Reporter,
    scratch: Path | None = None,
    why: str = "",
) -> Inputs:
    """Compute the features of all images with a pretrained backbone, or read them from the cache.

    Parameters
    ----------
    source
        Samples and labels.
    backbone
        Network that reads the images.
    reporter
        Shows progress.
    scratch
        Folder for the features if memory is too small for them.
    why
        Why this network was chosen; "" if the user named it.
    """

    def look(
        allocate: Allocate,
    ) -> tuple[np.ndarray, tuple[np.ndarray, dict[int, str], dict[str, GrayRange]]]:
        found = embedding.extract(source, backbone, reporter, allocate=allocate)
        hashes, unreadable, ranges = found.content_hashes, found.unreadable, found.gray_ranges
        if not unreadable:
            return found.features, (hashes, {}, ranges)
        kept = _kept(len(found.features), unreadable)
        return keep_rows(found.features, kept), (hashes[kept], unreadable, ranges)

    features, (hashes, unreadable, ranges) = make_once_a_machine(look, np.float32, scratch)
    if unreadable:
        source = source.without_unreadable(unreadable)
    return Inputs(
        source,
        as_images(features),
        EncoderChoice(
            "features",
            (features.shape[1], 1, 1),
            _with_reason(f"{features.shape[1]:,} features per image, pretrained and frozen", why),
        ),
        encoder=backbone.name,
        origin=_origin(backbone) | _as_settings(ranges),
        content_hashes=hashes,
    )


def decode_for_backbone(
    source: Source,
    backbone: Backbone,
    reporter: Reporter,
    scratch: Path | None = None,
    why: str = "",
) -> Inputs:
    """Decode all images at the size that a pretrained network reads, to train it further.

    Whole images are resized to its square, as for all encoders that are trained here. A crop could cut
    off the object that the label names.

    Parameters
    ----------
    source, backbone, reporter, why
        See `extract`.
    scratch
        Folder for the pixels if memory is too small for them.

    Raises
    ------
    SourceError
        If the images cannot be read.
    """
    side = backbone.image_size
    found = replace(plan_images(source.manifest.images), channels=3)
    source, pixels, ranges = _decode(source, found, (side, side), reporter, scratch)
    preprocess = backbone.preprocess
    return Inputs(
        source,
        pixels,
        EncoderChoice(
            "backbone",
            (3, side, side),
            _with_reason("pretrained, then trained on your images", why),
        ),
        encoder=backbone.name,
        origin=_origin(backbone) | ranges,
        fine_tuning=FineTuning(
            backbone.name,
            PixelStatistics(preprocess.mean, preprocess.std),
            {name: value.cpu() for name, value in backbone.network.state_dict().items()},
        ),
    )


def _with_reason(what: str, why: str) -> str:
    return f"{what}; {why}" if why else what


def _origin(backbone: Backbone) -> dict[str, Any]:
    origin = backbone.settings()
    # Without the path of the weights, which may change; the identity depends on their content.
    del origin["weights"]
    return origin


def take_features(found: FeatureSource) -> Inputs:
    """Use the features of a source: precomputed ones, or those from the columns of a table."""
    features = in_range(found.features)
    size = features.shape[1]
    if found.notes:
        used = sum(not words.startswith("left out") for words in found.notes.values())
        reason = f"{size:,} features of {used:,} of the table's {len(found.notes):,} columns"
    else:
        reason = f"{size:,} features per sample, precomputed"
    return Inputs(
        found.source,
        as_images(features),
        EncoderChoice("features", (size, 1, 1), reason),
        encoder="features",
        origin={"feature_size": size, "digest": _digest(features)},
        details=found.details,
        notes=found.notes,
    )


def tell_verified(source: Source, reporter: Reporter) -> None:
    """Report how many labels are verified, if any are."""
    known = source.verified_labels
    if known is not None:
        number = int(known.labels.sum())
        reporter.say(
            f"{number:,} {'label is' if number == 1 else 'labels are'} verified and taken as right."
        )


def tell_notes(notes: Mapping[str, str], reporter: Reporter) -> None:
    """Report how each column of a table is used."""
    for name, words in list(notes.items())[:NOTES_TOLD]:
        reporter.say(f"  {name}: {words}")
    if len(notes) > NOTES_TOLD:
        reporter.say(f"  … and {len(notes) - NOTES_TOLD:,} more columns, see summary.json")


def _kept(total: int, unreadable: Mapping[int, str]) -> np.ndarray:
    keep = np.ones(total, dtype=bool)
    keep[list(unreadable)] = False
    return keep


def as_images(features: np.ndarray) -> np.ndarray:
    """Return features ``(N, D)`` as images of D channels and one pixel, ``(N, D, 1, 1)``."""
    return features[:, :, None, None]


def _digest(features: np.ndarray) -> str:
    """Return a hash of features (N, D), by which a resumed run recognizes them."""
    digest = hashlib.blake2b(str(features.shape).encode(), digest_size=16)
    add_rows(digest, features)
    return digest.hexdigest()

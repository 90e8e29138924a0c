"""Which encoder reads what: chosen, and built, by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from labelaudit.errors import OptionError
from labelaudit.networks.autoencoder import Decoder, Encoder, ImageShape
from labelaudit.networks.backbone import BackboneEncoder
from labelaudit.networks.conv13 import Conv13Decoder, Conv13Encoder
from labelaudit.networks.mlp import (
    FEATURE_HIDDEN,
    FEATURE_ZA,
    FeatureEncoder,
    MLPDecoder,
    MLPEncoder,
)
from labelaudit.networks.resnet import ResNetEncoder, UpsamplingDecoder
from labelaudit.networks.standardize import PixelStatistics

# "features" reads features, "backbone" is a pretrained network that is trained on, and the others
# are trained on images from fresh weights; only these can be asked for by these names.
SHIFT_SMALLEST = 16  # pixels a side
EncoderName = Literal["mlp", "conv13", "resnet18", "resnet50", "resnet101", "features", "backbone"]
ENCODER_NAMES: tuple[EncoderName, ...] = ("mlp", "conv13", "resnet18", "resnet50", "resnet101")
CONV13_SIZE = 32
CONV13_SMALLEST = 24
RESNET_SMALLEST = 16
RESNET_LARGEST = 128
MLP_LARGEST = 64


@dataclass(frozen=True)
class EncoderChoice:
    """Which encoder reads the images, at which size, and why."""

    name: EncoderName
    image_shape: ImageShape
    reason: str


def choose_encoder(
    requested: str, image_shape: ImageShape, num_samples: int, device_type: str
) -> EncoderChoice:
    """Settle on an encoder for images of a shape, and on the size that it reads them at.

    Parameters
    ----------
    requested
        A name of `ENCODER_NAMES`, or "auto" to choose by image size, sample count and device.
    image_shape
        ``(C, H, W)`` of the data set's images (their median size where sizes differ).
    num_samples
        Number of images.
    device_type
        "cuda", "mps" or "cpu".

    Raises
    ------
    OptionError
        If the name is unknown, or the encoder cannot take images that small.
    """
    channels, height, width = image_shape
    side = max(height, width)
    size = f"{width}x{height} {'grey' if channels == 1 else 'color'} images"
    if requested != "auto":
        if requested not in ENCODER_NAMES:
            raise OptionError(
                f"unknown encoder {requested!r}: choose one of auto, {', '.join(ENCODER_NAMES)}"
            )
        return EncoderChoice(
            requested, _reading_shape(requested, image_shape), f"asked for, {size}"
        )
    name: EncoderName
    if (side <= 32 and channels == 1) or min(height, width) < RESNET_SMALLEST:
        name, why = "mlp", "small grey images need no convolution" if channels == 1 else "tiny"
    elif side <= 48 and device_type != "cpu" and min(height, width) >= CONV13_SMALLEST:
        name, why = "conv13", f"small images on a {device_type} device"
    else:
        name = "resnet18"
        why = "the lightest convolutional encoder" + (
            ", since there is no GPU" if device_type == "cpu" else " for larger images"
        )
    return EncoderChoice(name, _reading_shape(name, image_shape), f"{num_samples:,} {size}: {why}")


def _reading_shape(name: EncoderName, image_shape: ImageShape) -> ImageShape:
    channels, height, width = image_shape
    small = min(height, width)
    if name == "conv13":
        if small < CONV13_SMALLEST:
            raise OptionError(
                f"encoder conv13 reads {CONV13_SIZE}x{CONV13_SIZE} images, these are"
                f" {width}x{height}: too small to enlarge; use --encoder mlp"
            )
        return (channels, CONV13_SIZE, CONV13_SIZE)
    if name.startswith("resnet") and small < RESNET_SMALLEST:
        raise OptionError(
            f"encoder {name} needs images of {RESNET_SMALLEST} pixels a side, these are"
            f" {width}x{height}; use --encoder mlp"
        )
    largest = MLP_LARGEST if name == "mlp" else RESNET_LARGEST
    scale = max(1.0, max(height, width) / largest)
    return (channels, max(1, round(height / scale)), max(1, round(width / scale)))


def build_encoder(
    name: EncoderName, image_shape: ImageShape, statistics: PixelStatistics, backbone: str = ""
) -> Encoder:
    """Build an encoder with fresh weights; `backbone` names the network of "backbone"."""
    if name == "backbone":
        return BackboneEncoder(backbone, image_shape, statistics)
    if name == "mlp":
        return MLPEncoder(image_shape)
    if name == "conv13":
        return Conv13Encoder(image_shape, statistics)
    if name == "features":
        return FeatureEncoder(image_shape, statistics)
    return ResNetEncoder(int(name.removeprefix("resnet")), image_shape, statistics)


def build_decoder(name: EncoderName, image_shape: ImageShape) -> Decoder:
    """Build the decoder that mirrors an encoder, with fresh weights."""
    if name == "mlp":
        return MLPDecoder(image_shape)
    if name == "conv13":
        return Conv13Decoder(image_shape)
    if name == "features":
        return MLPDecoder(image_shape, FEATURE_ZA, FEATURE_HIDDEN)
    return UpsamplingDecoder(image_shape)


def training_shift(name: EncoderName, image_shape: ImageShape, few_labels: bool) -> int:
    """Give the random translation of training images, in pixels.

    Two (Table 4), but none for features, nor for what an MLP reads if it is smaller than
    `SHIFT_SMALLEST` a side, where a pixel is much, or if few images are labeled: an MLP must learn
    every position anew, and has but the unlabeled images to learn classes from.
    """
    if name == "features":
        return 0
    small = min(image_shape[1:]) < SHIFT_SMALLEST
    return 0 if name == "mlp" and (small or few_labels) else 2


def reconstructed_size(name: EncoderName, image_shape: ImageShape) -> int:
    """Give D, the number of values that the decoder of an encoder reconstructs."""
    with torch.device("meta"):
        return math.prod(build_decoder(name, image_shape).target_shape)

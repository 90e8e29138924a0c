"""Encoders q(z_a|x) and the decoders p(x|z_a) that mirror them, behind one signature.

An encoder maps images ``(B, C, H, W)`` in [0, 1] to the mean and the log-variance of z_a, each
``(B, *za_shape)``; ``pool`` turns a z_a into the flat vector that a person would call the embedding.
A decoder maps z_a back to the parameters of p(x|z_a) for the image that ``target`` gives.

Features are images of D channels and one pixel, ``(B, D, 1, 1)``: what standardizes and reconstructs
channels does so with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelaudit.errors import OptionError

INPUT_NOISE = 0.15  # standard deviation in standardized units (paper, Table 4)
DROPOUT = 0.5  # paper, Table 4
# Pixel statistics are taken from so many images, or so many values.
STATISTICS_SAMPLE, STATISTICS_VALUES = 10_000, 1 << 25
SHIFT_SMALLEST = 16  # pixels a side
LEAKY_SLOPE = 0.1  # Mean Teacher's network of the same name; the paper is silent
# The encoder "features": width of z_a and of the hidden layers, and the share of the features that is
# dropped while training.
FEATURE_ZA = 64
FEATURE_HIDDEN = 512
FEATURE_DROPOUT = 0.25

MOST_AT_ONCE = 4096  # images

ImageShape = tuple[int, int, int]  # (C, H, W)


@dataclass(frozen=True)
class PixelStatistics:
    """What standardizes the input: one mean and standard deviation a channel.

    Of pixels in [0, 1] units, of features in their own.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, pixels: np.ndarray) -> PixelStatistics:
        """Take them from ``(N, C, H, W)``, or from evenly spaced images of many.

        Pixels are uint8; a constant channel gets a deviation of 1/255. Features are floats; a
        constant one gets a deviation of 1.
        """
        pixels = evenly_spaced(pixels)
        mean = pixels.mean(axis=(0, 2, 3), dtype=np.float64)
        std = pixels.std(axis=(0, 2, 3), dtype=np.float64)
        if pixels.dtype == np.uint8:
            mean, std = mean / 255, np.maximum(std, 1) / 255
        else:
            # Less than the values can tell apart is rounding.
            std[std <= np.finfo(pixels.dtype).eps * np.abs(mean)] = 1
        return cls(tuple(mean.tolist()), tuple(std.tolist()))


def standardizing_scale(features: np.ndarray) -> np.ndarray:
    """Return ``(D,)`` factors that give features ``(N, D)`` unit variance, as their encoder does.

    So a feature of large numbers does not decide alone which samples are near.
    """
    return 1 / np.array(PixelStatistics.of(features[:, :, None, None]).std)


def evenly_spaced(pixels: np.ndarray) -> np.ndarray:
    """Give evenly spaced images of ``(N, C, H, W)``, as many as statistics want, as a view."""
    most = max(1, min(STATISTICS_SAMPLE, STATISTICS_VALUES // math.prod(pixels.shape[1:])))
    return pixels[:: math.ceil(len(pixels) / most)]


class Standardize(nn.Module):
    """Map pixels in [0, 1], or features, to zero mean and unit variance a channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: PixelStatistics) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(statistics.std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Standardize ``(B, C, H, W)``."""
        return (images - self.mean) / self.std


class InputNoise(nn.Module):
    """Gaussian noise on standardized pixels while training (η of the paper's Figure 1)."""

    def forward(self, images: Tensor) -> Tensor:
        """Add noise of standard deviation `INPUT_NOISE` in train mode; the identity otherwise."""
        if not self.training:
            return images
        return images + INPUT_NOISE * torch.randn_like(images)


class Encoder(nn.Module):
    """q(z_a|x), a diagonal Gaussian (Eq. 4).

    Attributes
    ----------
    za_shape
        Of z_a.
    at_once_on_cpu
        So many images a CPU looks at together where nothing is trained: what convolutions give of more
        does not stay in its caches.
    """

    za_shape: tuple[int, ...]
    at_once_on_cpu = MOST_AT_ONCE

    def images_at_once(self, device: torch.device) -> int:
        """Give how many images are best looked at together where nothing is trained, at most."""
        return self.at_once_on_cpu if device.type == "cpu" else MOST_AT_ONCE

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and log-variance of z_a, each ``(B, *za_shape)``, for ``(B, C, H, W)``."""
        raise NotImplementedError

    @property
    def embedding_size(self) -> int:
        """Length of the vector that `pool` gives."""
        return self.za_shape[0]

    def pool(self, za: Tensor) -> Tensor:
        """Average z_a over its positions, if it has any: ``(B, *za_shape)`` to ``(B, d)``."""
        return za.flatten(2).mean(2) if za.dim() > 2 else za


class Decoder(nn.Module):
    """p(x|z_a): Bernoulli logits or Gaussian means for the image that `target` gives."""

    target_shape: ImageShape

    def forward(self, za: Tensor) -> Tensor:
        """Give the parameters of p(x|z_a), ``(B, *target_shape)``."""
        raise NotImplementedError

    def target(self, images: Tensor) -> Tensor:
        """Give what is reconstructed, ``(B, *target_shape)``: the image, averaged down if need be."""
        if tuple(images.shape[1:]) == self.target_shape:
            return images
        return F.adaptive_avg_pool2d(images, self.target_shape[1:])


def as_they_come(values: Tensor) -> AbstractContextManager[object]:
    """Calculate in the precision of these values, also under autocast, which there is on CUDA alone."""
    return torch.autocast("cuda", enabled=False) if values.is_cuda else nullcontext()


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """One ReLU hidden layer and a linear output, as every MNIST network of the paper."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class MLPEncoder(Encoder):
    """The paper's MNIST encoder on pixels in [0, 1], without noise or augmentation."""

    def __init__(self, image_shape: ImageShape, za_size: int = 50, hidden: int = 784) -> None:
        super().__init__()
        self.za_shape = (za_size,)
        self.net = mlp(math.prod(image_shape), hidden, 2 * za_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Encoder.forward`."""
        mean, logvar = self.net(images.flatten(1)).chunk(2, dim=1)
        return mean, logvar


class FeatureEncoder(Encoder):
    """An MLP on standardized features ``(B, D, 1, 1)``."""

    def __init__(self, image_shape: ImageShape, statistics: PixelStatistics) -> None:
        super().__init__()
        self.za_shape = (FEATURE_ZA,)
        self.net = nn.Sequential(
            Standardize(statistics),
            nn.Dropout(FEATURE_DROPOUT),
            nn.Flatten(),
            mlp(math.prod(image_shape), FEATURE_HIDDEN, 2 * FEATURE_ZA),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Encoder.forward`."""
        mean, logvar = self.net(images).chunk(2, dim=1)
        return mean, logvar


class MLPDecoder(Decoder):
    """The paper's MNIST decoder, and that of features."""

    def __init__(self, image_shape: ImageShape, za_size: int = 50, hidden: int = 784) -> None:
        super().__init__()
        self.target_shape = image_shape
        self.net = mlp(za_size, hidden, math.prod(image_shape))

    def forward(self, za: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        return cast(Tensor, self.net(za)).view(-1, *self.target_shape)


def conv_block(inputs: int, outputs: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    """Convolution, batch norm and leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(LEAKY_SLOPE),
    )


class Conv13Encoder(Encoder):
    """The "13-layer" ConvNet of Table 4: nine convolutions, the last of which gives z_a.

    Images of 32x32 give z_a of 128 channels at 6x6 positions (Figure 6).
    """

    at_once_on_cpu = 32

    def __init__(self, image_shape: ImageShape, statistics: PixelStatistics) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.za_shape = (128, height // 4 - 2, width // 4 - 2)
        self.trunk = nn.Sequential(
            Standardize(statistics),
            InputNoise(),
            conv_block(channels, 128),
            conv_block(128, 128),
            conv_block(128, 128),
            nn.MaxPool2d(2),
            nn.Dropout(DROPOUT),
            conv_block(128, 128),
            conv_block(128, 128),
            conv_block(128, 128),
            nn.MaxPool2d(2),
            nn.Dropout(DROPOUT),
            conv_block(128, 512, padding=0),
            conv_block(512, 256, kernel=1, padding=0),
        )
        self.mean = nn.Conv2d(256, 128, 1)
        self.logvar = nn.Conv2d(256, 128, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Encoder.forward`."""
        hidden = self.trunk(images)  # (B, 256, H/4-2, W/4-2)
        return self.mean(hidden), self.logvar(hidden)


class Upsample(nn.Upsample):
    """Repeat pixels, in the precision that they come in: autocast would have it in float32."""

    def forward(self, images: Tensor) -> Tensor:
        """Give ``(B, C, 2 H, 2 W)`` for ``(B, C, H, W)``."""
        with as_they_come(images):
            return super().forward(images)


class Conv13Decoder(Decoder):
    """The mirror of `Conv13Encoder` by transposed convolution and up-sampling (Table 4)."""

    def __init__(self, image_shape: ImageShape) -> None:
        super().__init__()
        channels, height, width = image_shape
        # Images whose sides 4 does not divide are reconstructed a little smaller.
        self.target_shape = (channels, height // 4 * 4, width // 4 * 4)
        self.net = nn.Sequential(
            nn.ConvTranspose2d(128, 128, 3, bias=False),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(LEAKY_SLOPE),
            Upsample(scale_factor=2),
            conv_block(128, 128),
            conv_block(128, 128),
            conv_block(128, 128),
            Upsample(scale_factor=2),
            conv_block(128, 128),
            conv_block(128, 128),
            nn.Conv2d(128, channels, 3, padding=1),
        )

    def forward(self, za: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        return cast(Tensor, self.net(za))


class ResNetEncoder(Encoder):
    """A torchvision ResNet (https://arxiv.org/abs/1512.03385) at any input size.

    Images of at most 64 pixels a side get a 3x3 stem without max-pooling: the usual stem would leave
    them no positions to speak of.
    """

    at_once_on_cpu = 128

    def __init__(
        self, depth: int, image_shape: ImageShape, statistics: PixelStatistics, za_size: int = 128
    ) -> None:
        # Here, not above: it takes seconds to import, and only ResNets need it.
        from torchvision.models import resnet

        super().__init__()
        channels, height, width = image_shape
        self.za_shape = (za_size,)
        build: Callable[..., resnet.ResNet] = getattr(resnet, f"resnet{depth}")
        net = build(weights=None)
        if max(height, width) <= 64:
            net.conv1 = nn.Conv2d(channels, 64, 3, stride=2, padding=1, bias=False)
            net.maxpool = nn.Identity()
        elif channels != 3:
            net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        features = net.fc.in_features
        net.fc = nn.Identity()
        self.trunk = nn.Sequential(Standardize(statistics), InputNoise(), net)
        self.head = nn.Linear(features, 2 * za_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Encoder.forward`."""
        mean, logvar = self.head(self.trunk(images)).chunk(2, dim=1)
        return mean, logvar


class BackboneEncoder(Encoder):
    """A pretrained network without its head, trained on with the rest.

    Its own weights are loaded into `trunk`, see `labelaudit.features.backbones.Backbone.network`.
    """

    at_once_on_cpu = 128

    def __init__(
        self,
        backbone: str,
        image_shape: ImageShape,
        statistics: PixelStatistics,
        za_size: int = 128,
    ) -> None:
        # Here, not above: libraries that take seconds to import, and only this needs them.
        from labelaudit.features.backbones import build_trunk

        super().__init__()
        self.za_shape = (za_size,)
        self.standardize = Standardize(statistics)
        self.trunk = build_trunk(backbone)
        with torch.no_grad():
            features = self.trunk.eval()(torch.zeros(1, *image_shape)).shape[1]
        self.trunk.train()
        self.head = nn.Linear(features, 2 * za_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Encoder.forward`."""
        mean, logvar = self.head(self.trunk(self.standardize(images))).chunk(2, dim=1)
        return mean, logvar


class UpsamplingDecoder(Decoder):
    """A light decoder for vector z_a: the image at no more than 32 pixels a side.

    Detail beyond that costs much and tells little about the class.
    """

    def __init__(self, image_shape: ImageShape, za_size: int = 128, width: int = 64) -> None:
        super().__init__()
        channels, *sides = image_shape
        scale = max(1.0, max(sides) / 32)
        # Three doublings: every side a multiple of 8, and 8 at the least.
        height, breadth = (max(8, round(side / scale / 8) * 8) for side in sides)
        self.target_shape = (channels, height, breadth)
        self.start = (width, height // 8, breadth // 8)
        self.dense = nn.Linear(za_size, math.prod(self.start))
        self.net = nn.Sequential(
            nn.LeakyReLU(LEAKY_SLOPE),
            Upsample(scale_factor=2),
            conv_block(width, width),
            Upsample(scale_factor=2),
            conv_block(width, width),
            Upsample(scale_factor=2),
            conv_block(width, width),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, za: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        return cast(Tensor, self.net(self.dense(za).view(-1, *self.start)))


# "features" reads features, "backbone" is a pretrained network that is trained on, and the others
# are trained on images from fresh weights; only these can be asked for by these names.
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

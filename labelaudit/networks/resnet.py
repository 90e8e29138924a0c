"""ResNets, and the light decoder for all encoders that turn an image into a vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from labelaudit.networks.autoencoder import Decoder, Encoder, ImageShape
from labelaudit.networks.layers import LEAKY_SLOPE, Upsample, conv_block
from labelaudit.networks.standardize import InputNoise, PixelStatistics, Standardize


class ResNetEncoder(Encoder):
    """A torchvision ResNet (https://arxiv.org/abs/1512.03385) at any input size.

    For images of at most 64 pixels per side the first layer is a 3x3 convolution without max-pooling.
    The usual one would reduce such images to very few positions.
    """

    at_once_on_cpu = 128

    def __init__(
        self, depth: int, image_shape: ImageShape, statistics: PixelStatistics, za_size: int = 128
    ) -> None:
        # Imported here because it takes seconds and only ResNets need it.
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


class UpsamplingDecoder(Decoder):
    """A light decoder for a vector z_a, which reconstructs at most 32 pixels per side.

    More detail costs time and adds little information about the class.
    """

    def __init__(self, image_shape: ImageShape, za_size: int = 128, width: int = 64) -> None:
        super().__init__()
        channels, *sides = image_shape
        scale = max(1.0, max(sides) / 32)
        # Three doublings, so every side is a multiple of 8, and at least 8.
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

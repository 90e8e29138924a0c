"""MLPs: the paper's networks for MNIST, and an encoder of features."""

from __future__ import annotations

import math
from typing import cast

from torch import Tensor, nn

from labelaudit.networks.autoencoder import Decoder, Encoder, ImageShape
from labelaudit.networks.layers import QuickDropout, mlp
from labelaudit.networks.standardize import PixelStatistics, Standardize

# The encoder "features": width of z_a, width of the hidden layers, and the share of the features that
# is dropped during training.
FEATURE_ZA = 64
FEATURE_HIDDEN = 512
FEATURE_DROPOUT = 0.25


class MLPEncoder(Encoder):
    """The paper's MNIST encoder on pixels in [0, 1], without noise or augmentation.

    Pixels of low contrast, which all are nearly equal, are standardized first.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        statistics: PixelStatistics,
        za_size: int = 50,
        hidden: int = 784,
    ) -> None:
        super().__init__()
        self.za_shape = (za_size,)
        self.scale = Standardize(statistics) if statistics.low_contrast else nn.Identity()
        self.net = mlp(math.prod(image_shape), hidden, 2 * za_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Encoder.forward`."""
        mean, logvar = self.net(self.scale(images).flatten(1)).chunk(2, dim=1)
        return mean, logvar


class FeatureEncoder(Encoder):
    """An MLP on standardized features ``(B, D, 1, 1)``."""

    def __init__(self, image_shape: ImageShape, statistics: PixelStatistics) -> None:
        super().__init__()
        self.za_shape = (FEATURE_ZA,)
        self.net = nn.Sequential(
            Standardize(statistics),
            QuickDropout(FEATURE_DROPOUT),
            nn.Flatten(),
            mlp(math.prod(image_shape), FEATURE_HIDDEN, 2 * FEATURE_ZA),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Encoder.forward`."""
        mean, logvar = self.net(images).chunk(2, dim=1)
        return mean, logvar


class MLPDecoder(Decoder):
    """The paper's MNIST decoder, also used for features."""

    def __init__(self, image_shape: ImageShape, za_size: int = 50, hidden: int = 784) -> None:
        super().__init__()
        self.target_shape = image_shape
        self.net = mlp(za_size, hidden, math.prod(image_shape))

    def forward(self, za: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        return cast(Tensor, self.net(za)).view(-1, *self.target_shape)

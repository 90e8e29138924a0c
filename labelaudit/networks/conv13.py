"""The 13-layer ConvNet of the paper's Table 4."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from labelaudit.networks.autoencoder import Decoder, Encoder, ImageShape
from labelaudit.networks.layers import LEAKY_SLOPE, Upsample, conv_block
from labelaudit.networks.standardize import InputNoise, PixelStatistics, Standardize

DROPOUT, WIDTH = 0.5, 128  # paper, Table 4


class Conv13Encoder(Encoder):
    """The "13-layer" ConvNet of Table 4: nine convolutions, of which the last gives z_a.

    Images of 32x32 give z_a of 128 channels at 6x6 positions (Figure 6).

    Parameters
    ----------
    image_shape, statistics
        The images, and what standardizes them.
    width
        Number of channels of z_a and of most convolutions.
    """

    at_once_on_cpu = 32

    def __init__(
        self,
        image_shape: ImageShape,
        statistics: PixelStatistics,
        width: int = WIDTH,
    ) -> None:
        super().__init__()
        channels, rows, columns = image_shape
        self.za_shape = (width, rows // 4 - 2, columns // 4 - 2)
        self.trunk = nn.Sequential(
            Standardize(statistics),
            InputNoise(),
            conv_block(channels, width),
            conv_block(width, width),
            conv_block(width, width),
            nn.MaxPool2d(2),
            nn.Dropout(DROPOUT),
            conv_block(width, width),
            conv_block(width, width),
            conv_block(width, width),
            nn.MaxPool2d(2),
            nn.Dropout(DROPOUT),
            conv_block(width, 4 * width, padding=0),
            conv_block(4 * width, 2 * width, kernel=1, padding=0),
        )
        self.mean = nn.Conv2d(2 * width, width, 1)
        self.logvar = nn.Conv2d(2 * width, width, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Encoder.forward`."""
        hidden = self.trunk(images)  # (B, 2 width, H/4-2, W/4-2)
        return self.mean(hidden), self.logvar(hidden)


class Conv13Decoder(Decoder):
    """The mirror of `Conv13Encoder` by transposed convolution and up-sampling (Table 4)."""

    def __init__(self, image_shape: ImageShape, width: int = WIDTH) -> None:
        super().__init__()
        channels, rows, columns = image_shape
        # Images whose sides are no multiples of 4 are reconstructed a little smaller.
        self.target_shape = (channels, rows // 4 * 4, columns // 4 * 4)
        self.net = nn.Sequential(
            nn.ConvTranspose2d(width, width, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(LEAKY_SLOPE),
            Upsample(scale_factor=2),
            conv_block(width, width),
            conv_block(width, width),
            conv_block(width, width),
            Upsample(scale_factor=2),
            conv_block(width, width),
            conv_block(width, width),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, za: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        return cast(Tensor, self.net(za))

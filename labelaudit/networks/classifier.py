"""A plain classifier with UMN's encoder, for the systems that UMN is compared with."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from labelaudit.networks.autoencoder import ImageShape
from labelaudit.networks.encoders import ENCODERS, EncoderName
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.networks.umn import Classifier

# Smaller images are enlarged for convolutional networks, to this many pixels per side.
SMALLEST_SIDE = 32


class PlainClassifier(nn.Module):
    """Encoder and classifier of UMN, without the variance of its latents: images to logits.

    Parameters
    ----------
    encoder
        Name of the encoder.
    image_shape
        ``(C, H, W)``.
    num_outputs
        Number of logits.
    statistics
        What standardizes the pixels.
    hidden
        Width of the classifier over a vector embedding.
    """

    def __init__(
        self,
        encoder: EncoderName,
        image_shape: ImageShape,
        num_outputs: int,
        statistics: PixelStatistics,
        hidden: int = 784,
    ) -> None:
        super().__init__()
        spec = ENCODERS[encoder]
        channels, height, width = image_shape
        self.size: tuple[int, int] | None = None
        if spec.convolutional and min(height, width) < SMALLEST_SIDE:
            scale = SMALLEST_SIDE / min(height, width)
            self.size = (round(height * scale), round(width * scale))
            image_shape = (channels, *self.size)
        self.encoder = spec.build(image_shape, statistics, "")
        self.classifier = Classifier(self.encoder.za_shape, num_outputs, hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, num_outputs)`` for ``(B, C, H, W)`` in [0, 1]."""
        return self.embed_and_classify(images)[1]

    def embed_and_classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings ``(B, d)`` and logits ``(B, num_outputs)``, float32."""
        if self.size is not None:
            images = F.interpolate(images, self.size, mode="bilinear")
        features, _ = self.encoder(images)
        logits = cast(Tensor, self.classifier(features))
        return self.encoder.pool(features).float(), logits

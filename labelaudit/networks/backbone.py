"""A pretrained network that is trained further (fine-tuned)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labelaudit.networks.autoencoder import Encoder, ImageShape
from labelaudit.networks.standardize import PixelStatistics, Standardize


class BackboneEncoder(Encoder):
    """A pretrained network without its head, trained together with the rest.

    Its pretrained weights, those of `labelaudit.features.backbones.Backbone.network`, are loaded into
    `trunk`.
    """

    at_once_on_cpu = 128

    def __init__(
        self,
        backbone: str,
        image_shape: ImageShape,
        statistics: PixelStatistics,
        za_size: int = 128,
    ) -> None:
        # Imported here because the libraries take seconds and only this network needs them.
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

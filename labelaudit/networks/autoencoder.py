"""The interface of all encoders q(z_a|x) and of the decoders p(x|z_a) that mirror them.

An encoder maps images ``(B, C, H, W)`` in [0, 1] to the mean and the log-variance of z_a, each
``(B, *za_shape)``. `Encoder.pool` turns z_a into a flat vector, the embedding. A decoder maps z_a back
to the parameters of p(x|z_a) for the image that `Decoder.target` gives.

Features are treated as images of D channels and one pixel, ``(B, D, 1, 1)``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_AT_ONCE = 4096  # images

ImageShape = tuple[int, int, int]  # (C, H, W)


class Encoder(nn.Module):
    """q(z_a|x), a diagonal Gaussian (Eq. 4).

    Attributes
    ----------
    za_shape
        Shape of z_a for one image.
    at_once_on_cpu
        Number of images in each forward pass on a CPU when nothing is trained. The results of
        convolutions on more images do not stay in its caches.
    """

    za_shape: tuple[int, ...]
    at_once_on_cpu = MOST_AT_ONCE

    def images_at_once(self, device: torch.device) -> int:
        """Return the largest number of images for each forward pass when nothing is trained."""
        return self.at_once_on_cpu if device.type == "cpu" else MOST_AT_ONCE

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of z_a, each ``(B, *za_shape)``, for ``(B, C, H, W)``."""
        raise NotImplementedError

    @property
    def embedding_size(self) -> int:
        """Length of the vector that `pool` returns."""
        return self.za_shape[0]

    def pool(self, za: Tensor) -> Tensor:
        """Average z_a over its positions, if it has any: ``(B, *za_shape)`` to ``(B, d)``."""
        return za.flatten(2).mean(2) if za.dim() > 2 else za


class Decoder(nn.Module):
    """p(x|z_a): Bernoulli logits or Gaussian means for the image that `target` gives."""

    target_shape: ImageShape

    def forward(self, za: Tensor) -> Tensor:
        """Return the parameters of p(x|z_a), ``(B, *target_shape)``."""
        raise NotImplementedError

    def target(self, images: Tensor) -> Tensor:
        """Return what is reconstructed, ``(B, *target_shape)``: the image, reduced to that size."""
        if tuple(images.shape[1:]) == self.target_shape:
            return images
        return F.adaptive_avg_pool2d(images, self.target_shape[1:])

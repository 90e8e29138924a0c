"""Encoders q(z_a|x) and the decoders p(x|z_a) that mirror them: what all of them have in common.

An encoder maps images ``(B, C, H, W)`` in [0, 1] to the mean and the log-variance of z_a, each
``(B, *za_shape)``; ``pool`` turns a z_a into the flat vector that a person would call the embedding.
A decoder maps z_a back to the parameters of p(x|z_a) for the image that ``target`` gives.

Features are images of D channels and one pixel, ``(B, D, 1, 1)``: what standardizes and reconstructs
channels does so with them.
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

"""Zero mean and unit variance: what encoders and likelihoods do to pixels and features first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

INPUT_NOISE = 0.15  # standard deviation in standardized units (paper, Table 4)
# Pixel statistics are taken from so many images, or so many values.
STATISTICS_SAMPLE, STATISTICS_VALUES = 10_000, 1 << 25


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

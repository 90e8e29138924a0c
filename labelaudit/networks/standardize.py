"""Standardize pixels and features to zero mean and unit variance per channel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

INPUT_NOISE = 0.15  # standard deviation in standardized units (paper, Table 4)
# Largest number of images, and of values, from which statistics are taken.
STATISTICS_SAMPLE, STATISTICS_VALUES = 10_000, 1 << 25
# Pixels that deviate less from their mean in all channels have little contrast. Those of photos and
# digits deviate by 0.2 to 0.4.
LOW_CONTRAST = 0.08


@dataclass(frozen=True)
class PixelStatistics:
    """One mean and one standard deviation per channel.

    Pixels are measured in [0, 1], features in their own units.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def low_contrast(self) -> bool:
        """Whether pixels differ so little that a network needs them standardized."""
        return max(self.std) < LOW_CONTRAST

    @classmethod
    def of(cls, pixels: np.ndarray) -> PixelStatistics:
        """Measure images ``(N, C, H, W)``; of many, only evenly spaced ones are used.

        Pixels are uint8, and a constant channel gets a deviation of 1/255. Features are floats, and
        a constant one gets a deviation of 1.
        """
        pixels = evenly_spaced(pixels)
        mean = pixels.mean(axis=(0, 2, 3), dtype=np.float64)
        std = pixels.std(axis=(0, 2, 3), dtype=np.float64)
        if pixels.dtype == np.uint8:
            mean, std = mean / 255, np.maximum(std, 1) / 255
        else:
            # A deviation below the precision of the values is rounding.
            std[std <= np.finfo(pixels.dtype).eps * np.abs(mean)] = 1
        return cls(tuple(mean.tolist()), tuple(std.tolist()))


def standardizing_scale(features: np.ndarray) -> np.ndarray:
    """Return ``(D,)`` factors that give features ``(N, D)`` unit variance, as their encoder does.

    Without them, one feature with large values could dominate all distances.
    """
    return 1 / np.array(PixelStatistics.of(features[:, :, None, None]).std)


def evenly_spaced(pixels: np.ndarray) -> np.ndarray:
    """Return evenly spaced images of ``(N, C, H, W)``, enough for statistics, as a view."""
    most = max(1, min(STATISTICS_SAMPLE, STATISTICS_VALUES // math.prod(pixels.shape[1:])))
    return pixels[:: math.ceil(len(pixels) / most)]


class Standardize(nn.Module):
    """Map pixels in [0, 1], or features, to zero mean and unit variance per channel."""

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
    """Gaussian noise on standardized pixels during training (η in Figure 1 of the paper)."""

    def forward(self, images: Tensor) -> Tensor:
        """Add noise of standard deviation `INPUT_NOISE` in train mode, and nothing in eval mode."""
        if not self.training:
            return images
        return images + INPUT_NOISE * torch.randn_like(images)

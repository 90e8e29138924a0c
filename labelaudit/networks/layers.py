"""Layers that several networks are built of."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

LEAKY_SLOPE = 0.1  # Mean Teacher's network of the same name; the paper is silent


def as_they_come(values: Tensor) -> AbstractContextManager[object]:
    """Calculate in the precision of these values, also under autocast, which there is on CUDA alone."""
    return torch.autocast("cuda", enabled=False) if values.is_cuda else nullcontext()


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """One ReLU hidden layer and a linear output, as every MNIST network of the paper."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def conv_block(inputs: int, outputs: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    """Convolution, batch norm and leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(LEAKY_SLOPE),
    )


class Upsample(nn.Upsample):
    """Repeat pixels, in the precision that they come in: autocast would have it in float32."""

    def forward(self, images: Tensor) -> Tensor:
        """Give ``(B, C, 2 H, 2 W)`` for ``(B, C, H, W)``."""
        with as_they_come(images):
            return super().forward(images)

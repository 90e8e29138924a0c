"""Layers that several networks share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAKY_SLOPE = 0.1  # as in Mean Teacher's ConvNet; the paper does not give it


def as_they_come(values: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast, in which values keep their precision."""
    kind = values.device.type
    return torch.autocast(kind, enabled=False) if kind in ("cpu", "cuda") else nullcontext()


def relu(values: Tensor) -> Tensor:
    """ReLU, which does not slow down a step that torch.compile compiles for a CPU.

    torch's ReLU becomes a mask of booleans there, one value at a time: 10 ms of a step of 100 images
    and 10 classes.
    """
    if torch.compiler.is_compiling() and values.device.type == "cpu":
        return cast(Tensor, _MasklessReLU.apply(values))
    return F.relu(values)


class _MasklessReLU(torch.autograd.Function):
    """ReLU whose gradient is calculated from its result, without a mask."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        result = values.clamp_min(0)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return gradient * cast(Tensor, result.sign())


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Build one hidden layer with ReLU and a linear output, as in the paper's MNIST networks."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def conv_block(inputs: int, outputs: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    """Build a convolution with batch norm and leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(LEAKY_SLOPE),
    )


class Upsample(nn.Upsample):
    """Repeat pixels in the precision of the input, which autocast would change to float32."""

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C, 2 H, 2 W)``."""
        with as_they_come(images):
            return super().forward(images)


class QuickDropout(nn.Dropout):
    """Dropout with a byte of randomness per value, three times as fast on a CPU as `nn.Dropout`.

    The probability is rounded to a multiple of 1/256.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Set values to zero at random, and scale the others, in training."""
        if not self.training or values.device.type != "cpu":
            return super().forward(values)
        size = values.numel()
        draws = torch.empty(-(-size // 8), dtype=torch.int64).random_(-(2**63), None)
        draws = draws.view(torch.uint8)[:size].view(values.shape)
        dropped = round(256 * self.p)
        # A product is twice as fast as `torch.where`, and gives the same.
        return values * (draws >= dropped).to(values.dtype).mul_(256 / (256 - dropped))

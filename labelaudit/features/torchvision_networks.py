"""Networks of torchvision, without their heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from labelaudit.errors import OptionError
from labelaudit.features.downloads import Download
from labelaudit.features.preprocessing import Preprocessing
from labelaudit.features.weights import alike, cannot_fetch, hub_file, load_weights

# Additional heads that some networks have for training only.
AUXILIARY_HEADS = ("aux1", "aux2", "AuxLogits")
# Networks that convert torchvision's normalization to the one of their weights.
RENORMALIZING = ("googlenet", "inception_v3")
LICENSE = "BSD-3-Clause, trained on ImageNet"


def open_network(name: str, file: Path | None) -> tuple[nn.Module, Preprocessing]:
    """Build a network without its heads, with weights from a file or, without one, torchvision's.

    Raises OptionError if there is no such network, or its weights are missing or do not fit.
    """
    from torchvision.models import get_model

    weights = choose_weights(name, file)
    if file is None:
        try:
            network: nn.Module = get_model(name, weights=weights, progress=False)
        except (OSError, RuntimeError) as error:  # no network; a damaged download
            raise cannot_fetch(name, weights.url, error) from error
        head = _remove_heads(network, weights)
    else:
        network, head = _without_heads(name)
        load_weights(network, file, (*_without_own_weights(network, head), *AUXILIARY_HEADS), name)
    transforms = weights.transforms()
    return network, Preprocessing(
        image_size=transforms.crop_size[0],
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.name,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def build_network(name: str) -> nn.Module:
    """Build a network without its heads, with fresh weights. Raises OptionError if unknown."""
    return _without_heads(name)[0]


def cached_file(name: str) -> Path | None:
    """Return the file of a network's default weights if it was downloaded before."""
    file = hub_file(choose_weights(name).url)
    return file if file.is_file() else None


def download_of(name: str) -> Download:
    """Return where torchvision downloads a network's default weights."""
    return Download(choose_weights(name).url, LICENSE)


def _without_heads(name: str) -> tuple[nn.Module, str]:
    """Build a network with fresh weights and without its heads; also return the path of its head."""
    from torchvision.models import get_model

    weights = choose_weights(name)
    options = {"transform_input": True, "init_weights": False} if name in RENORMALIZING else {}
    network: nn.Module = get_model(name, weights=None, **options)
    return network, _remove_heads(network, weights)


def _remove_heads(network: nn.Module, weights: Any) -> str:
    for auxiliary in AUXILIARY_HEADS:
        if hasattr(network, auxiliary):
            setattr(network, auxiliary, None)
    return _remove_head(network, len(weights.meta["categories"]))


def choose_weights(name: str, file: Path | None = None) -> Any:
    """Return the member of torchvision's weights that has this file name, or else the default."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise OptionError(
            f"torchvision has no network {name!r} for classification; "
            f"{alike(name, known)}, or timm:NAME for those of timm"
        )
    weights = models.get_model_weights(name)
    for member in weights:
        # Photos are resized to another size for other weights of the same network.
        if file is not None and member.url.endswith(f"/{file.name}"):
            return member
    return weights.DEFAULT


def _remove_head(network: nn.Module, num_classes: int) -> str:
    """Replace the last layer with one output per class by the identity; return its path.

    In some networks an activation or an average follows it, which does no harm to features.
    """
    layers = [
        (path, layer)
        for path, layer in network.named_modules()
        if num_classes
        in (getattr(layer, "out_features", None), getattr(layer, "out_channels", None))
    ]
    path: str = layers[-1][0]
    parent, _, child = path.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return path


def _without_own_weights(network: nn.Module, head: str) -> list[str]:
    """Return the path of the head, and of its parents up to the first with other weights."""
    paths = [head]
    while (parent := paths[-1].rpartition(".")[0]) and not network.get_submodule(
        parent
    ).state_dict():
        paths.append(parent)
    return paths

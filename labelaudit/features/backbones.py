"""Pretrained networks that turn photos into features; their weights stay as they are.

A backbone is a network of torchvision (`resnet50`) or of timm (`timm:vit_small_patch16_224`)
without its classification head. It brings its own preprocessing along: size, crop, interpolation
and normalization are those that its weights were trained and tested with.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from labelaudit.errors import OptionError
from labelaudit.features import timm_networks, torchvision_networks
from labelaudit.features.preprocessing import Preprocessing
from labelaudit.features.timm_networks import TIMM_PREFIX
from labelaudit.features.weights import DEFAULT_WEIGHTS, first_line
from labelaudit.training.device import autocast

# Part of every identity: a change of how features come about must not meet those kept before.
FEATURES_VERSION = 1


class Backbone:
    """A frozen network without its head; from `open_backbone`.

    Attributes
    ----------
    name : str
        As given: "resnet50", "timm:efficientnet_lite0".
    weights : str
        Where its weights came from: "DEFAULT", or the path of a file.
    identity : str
        Names everything that decides its features: network, content of the weights, preprocessing
        and precision. Fit for the name of a file.
    feature_size : int
        d, the number of features.
    preprocess : Preprocessing
        Makes its input from a picture.
    network : nn.Module
        The network, in eval mode, on `device`.
    device : torch.device
        Where it runs.
    """

    def __init__(
        self,
        name: str,
        weights: str,
        network: nn.Module,
        preprocess: Preprocessing,
        device: torch.device,
    ) -> None:
        self.name = name
        self.weights = weights
        self.preprocess = preprocess
        self.device = device
        self.identity = _identity(name, network, preprocess, device)
        # Channels last makes convolutions about twice as fast, on CPUs as well.
        network = network.eval().requires_grad_(False)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(preprocess.mean, device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(preprocess.std, device=device).view(1, -1, 1, 1)
        self.feature_size = self._try_out()

    @property
    def image_size(self) -> int:
        """Side of the square that is read, in pixels."""
        return self.preprocess.image_size

    def settings(self) -> dict[str, Any]:
        """Give what decides the features, as saved with a result."""
        return {
            "name": self.name,
            "weights": self.weights,
            "identity": self.identity,
            "feature_size": self.feature_size,
            "preprocessing": asdict(self.preprocess),
        }

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Give the features of preprocessed pictures.

        Parameters
        ----------
        pixels
            ``(B, 3, S, S)`` uint8, on any device.

        Returns
        -------
        Tensor
            ``(B, d)`` float32 on the backbone's device.
        """
        images = (pixels.to(self.device).float().div_(255) - self._mean) / self._std
        with autocast(self.device):
            features = self.network(images.contiguous(memory_format=torch.channels_last))
        return cast(Tensor, features).float()

    def _try_out(self) -> int:
        """Return d, having looked at a grey picture; OptionError if the size does not fit."""
        size = self.image_size
        try:
            features = self(torch.full((1, 3, size, size), 128, dtype=torch.uint8))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise OptionError(
                f"{self.name} cannot read images of {size}x{size} pixels ({first_line(error)});"
                " choose another --image-size, or leave it out"
            ) from error
        if features.dim() != 2:
            raise OptionError(
                f"{self.name} gives {tuple(features.shape[1:])} values an image and not a list of"
                " features; choose a network for classification"
            )
        return features.shape[1]


def open_backbone(
    name: str,
    weights: str | Path | None,
    device: torch.device,
    image_size: int | None = None,
) -> Backbone:
    """Load a pretrained network and make it give features.

    Parameters
    ----------
    name
        A classification network of torchvision, "resnet50", or of timm, "timm:resnet50.a1_in1k".
    weights
        "DEFAULT": the library's own, from its cache, or downloaded into it. A path: a state dict
        in a file (.pt, .pth, .bin; .safetensors if safetensors is installed); its classification
        head may be of any size or missing. None: the library's own if they are on this machine.
    device
        Where to run.
    image_size
        Side of the square that it reads, in pixels; by default what its weights were made for. A
        smaller one is faster, and a larger one may see more.

    Raises
    ------
    OptionError
        There is no such network, its library is not installed, its weights are not there or do not
        fit, or it cannot read images of that size.
    """
    if image_size is not None and image_size < 1:
        raise OptionError(f"--image-size is {image_size}; it must be 1 or more")
    if weights is None and cached_weights(name) is None:
        raise OptionError(
            f"the weights of {name} are not on this machine; give them as --weights FILE, or let"
            " --weights DEFAULT download them"
        )
    file = None
    if weights is not None and str(weights) != DEFAULT_WEIGHTS:
        file = Path(weights).expanduser()
        if not file.is_file():
            raise OptionError(
                f"the file of weights {file} does not exist; give its path, or"
                f" {DEFAULT_WEIGHTS} for those of the library"
            )
    with _quiet_construction():
        network, preprocess = _library(name).open_network(name, file)
    return Backbone(name, str(file or DEFAULT_WEIGHTS), network, preprocess.at(image_size), device)


def build_trunk(name: str) -> nn.Module:
    """Build a backbone without its head, with fresh weights; `Backbone.network`'s fit it.

    Raises
    ------
    OptionError
        There is no such network, or its library is not installed.
    """
    with _quiet_construction():
        network: nn.Module = _library(name).build_network(name)
    return network


def cached_weights(name: str) -> Path | None:
    """Return the file of a network's own weights if its library has fetched them before.

    Raises
    ------
    OptionError
        There is no such network, or its library is not installed.
    """
    file: Path | None = _library(name).cached_file(name)
    return file


def _library(name: str) -> ModuleType:
    return timm_networks if name.startswith(TIMM_PREFIX) else torchvision_networks


@contextmanager
def _quiet_construction() -> Iterator[None]:
    """Keep what libraries warn of while they build from the user, and his random state as it was."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield


def _identity(
    name: str, network: nn.Module, preprocess: Preprocessing, device: torch.device
) -> str:
    """Return what the features depend on as a short name, see `Backbone.identity`."""
    content = hashlib.blake2b(digest_size=16)
    for key, value in sorted(network.state_dict().items()):
        if not key.endswith("num_batches_tracked"):
            content.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    precision = "bfloat16" if device.type == "cuda" else "float32"
    facts = [FEATURES_VERSION, name, content.hexdigest(), asdict(preprocess), precision]
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{preprocess.image_size}-{digest}"

"""Pretrained networks that turn photos into features. Their weights are not changed.

A backbone is a network of torchvision (`resnet50`) or of timm (`timm:vit_small_patch16_224`)
without its classification head. Images are preprocessed as for the training of its weights: size,
crop, interpolation and normalization are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
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
from labelaudit.features.downloads import Download, ask_size, describe
from labelaudit.features.forward import (
    calculating_in,
    precision_on,
    sample_images,
    with_fused_norms,
)
from labelaudit.features.preprocessing import Preprocessing
from labelaudit.features.timm_networks import TIMM_PREFIX
from labelaudit.features.weights import DEFAULT_WEIGHTS, cannot_fetch, first_line
from labelaudit.progress import Reporter

# Part of every identity. Raise it when features are calculated in another way, so that cached
# features of the old way are not used.
FEATURES_VERSION = 2


class Backbone:
    """A frozen network without its head. `open_backbone` makes it.

    Attributes
    ----------
    name : str
        As the user gave it, for example "resnet50" or "timm:efficientnet_lite0".
    weights : str
        Source of the weights: "DEFAULT", or the path of a file.
    identity : str
        Name that changes with everything that decides the features: network, content of the
        weights, preprocessing and precision. It can be used as the name of a file.
    feature_size : int
        d, the number of features.
    preprocess : Preprocessing
        Turns a picture into the input of the network.
    network : nn.Module
        The network, in eval mode, on `device`.
    device : torch.device
        Device on which it runs.
    precision : torch.dtype
        Precision of the forward pass; by default `precision_on` the device.
    """

    def __init__(
        self,
        name: str,
        weights: str,
        network: nn.Module,
        preprocess: Preprocessing,
        device: torch.device,
        precision: torch.dtype | None = None,
    ) -> None:
        self.name = name
        self.weights = weights
        self.preprocess = preprocess
        self.device = device
        self.precision = precision or precision_on(device)
        self.identity = _identity(name, network, preprocess, self.precision)
        # Channels last makes convolutions about twice as fast, also on CPUs.
        network = network.eval().requires_grad_(False)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The network that gives features; `network` keeps its batch norms, to be trained further.
        self._forward = self.network
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self._scale, self._shift = (1 / (255 * std)).to(device), (-mean / std).to(device)
        self.feature_size = self._try_out()
        self._forward = with_fused_norms(self.network, sample_images(self.image_size, device))

    @property
    def image_size(self) -> int:
        """Side of the square that the network reads, in pixels."""
        return self.preprocess.image_size

    def settings(self) -> dict[str, Any]:
        """Return what decides the features; it is saved with each result."""
        return {
            "name": self.name,
            "weights": self.weights,
            "identity": self.identity,
            "feature_size": self.feature_size,
            "precision": str(self.precision).removeprefix("torch."),
            "preprocessing": asdict(self.preprocess),
        }

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the features of preprocessed pictures. Several threads may call this.

        Parameters
        ----------
        pixels
            ``(B, 3, S, S)`` uint8, on any device. It is fastest if the channels lie last in memory.

        Returns
        -------
        Tensor
            ``(B, d)`` float32 on the backbone's device.
        """
        return self.look_at(self.normalize(pixels))

    @torch.inference_mode()
    def normalize(self, pixels: Tensor) -> Tensor:
        """Return what the network reads, ``(B, 3, S, S)`` float32, channels last; see `__call__`."""
        batch, channels, height, width = pixels.shape
        moved = pixels.to(self.device, non_blocking=True)
        # Whole lines, because operations along an axis of three channels are slow.
        lines = moved.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
        scale, shift = self._scale.repeat(width), self._shift.repeat(width)
        images = torch.addcmul(shift, lines.float(), scale)
        return images.view(batch, height, width, channels).permute(0, 3, 1, 2)

    @torch.inference_mode()
    def look_at(self, images: Tensor) -> Tensor:
        """Return the features ``(B, d)`` float32 of what `normalize` returned."""
        with calculating_in(self.precision, self.device):
            features = self._forward(images)
        return cast(Tensor, features).float()

    def _try_out(self) -> int:
        """Return d for a gray picture. Raises OptionError if the network cannot read the size."""
        size = self.image_size
        try:
            features = self(torch.full((1, 3, size, size), 128, dtype=torch.uint8))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise OptionError(
                f"{self.name} cannot read images of {size}x{size} pixels ({first_line(error)});"
                " choose another `image_size`, or omit it"
            ) from error
        if features.dim() != 2:
            raise OptionError(
                f"{self.name} gives an array of shape {tuple(features.shape[1:])} per image instead"
                " of a list of features; choose a network for classification"
            )
        return features.shape[1]


def open_backbone(
    name: str,
    weights: str | Path | None,
    device: torch.device,
    image_size: int | None = None,
    precision: torch.dtype | None = None,
    *,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Backbone:
    """Load a pretrained network that gives features.

    Parameters
    ----------
    name
        A classification network of torchvision, "resnet50", or of timm, "timm:resnet50.a1_in1k".
    weights
        "DEFAULT": the library's own, from a package of weights, from its cache, or downloaded into
        it. A path: a state dict
        in a file (.pt, .pth, .bin; .safetensors if safetensors is installed), whose classification
        head may have any size or be missing. None: the library's own if they are on this machine.
    device
        Device on which the network runs.
    image_size
        Side of the square that the network reads, in pixels. The default is the size for which its
        weights were made. A smaller size is faster, and a larger one may show more detail.
    precision
        Precision of the forward pass. The default is the fastest that is native on the device.
    offline
        Whether downloads are forbidden.
    reporter
        Is told of a download before it begins.

    Raises
    ------
    OptionError
        There is no such network, its library is not installed, its weights are missing or do not
        fit, or it cannot read images of that size.
    """
    if image_size is not None and image_size < 1:
        raise OptionError(f"`image_size` is {image_size}; it must be 1 or more")
    if weights in (None, DEFAULT_WEIGHTS) and cached_weights(name) is None:
        _announce_download(name, weights, offline, reporter or Reporter())
    file = None
    if weights is not None and str(weights) != DEFAULT_WEIGHTS:
        file = Path(os.path.expanduser(weights))  # noqa: PTH111 - with no home folder, as it is
        if not file.is_file():
            raise OptionError(
                f"the file of weights {file} does not exist; check its path, or give"
                f" {DEFAULT_WEIGHTS} for the weights of the library"
            )
    with _quiet_construction():
        network, preprocess = _library(name).open_network(name, file)
    preprocess = preprocess.at(image_size)
    return Backbone(
        name, str(file or DEFAULT_WEIGHTS), network, preprocess, device, precision=precision
    )


def _announce_download(
    name: str, weights: str | Path | None, offline: bool, reporter: Reporter
) -> None:
    """Tell the size and the license of weights that are downloaded next.

    Raises OptionError if they may not be downloaded, or their server does not answer.
    """
    if weights is None or offline:
        advice = (
            f"leave `offline` out and download them with `weights='{DEFAULT_WEIGHTS}'`"
            if offline
            else f"download them with `weights='{DEFAULT_WEIGHTS}'`"
        )
        raise OptionError(
            f"the weights of {name} are not on this machine; give a file with `weights`, or {advice}"
        )
    download = download_of(name)
    try:
        size = ask_size(download.url)
    except OSError as error:
        raise cannot_fetch(name, download.url, error) from error
    reporter.say(describe(name, download, size))


def build_trunk(name: str) -> nn.Module:
    """Build the same network as `Backbone.network`, with fresh weights.

    Raises OptionError if there is no such network, or its library is not installed.
    """
    with _quiet_construction():
        network: nn.Module = _library(name).build_network(name)
    return network


def cached_weights(name: str) -> Path | None:
    """Return the file of a network's own weights if it is installed, or was downloaded before.

    Raises OptionError if there is no such network, or its library is not installed.
    """
    file: Path | None = _library(name).cached_file(name)
    return file


def download_of(name: str) -> Download:
    """Return where the library of a network downloads its own weights.

    Raises OptionError if there is no such network, or its library is not installed.
    """
    download: Download = _library(name).download_of(name)
    return download


def _library(name: str) -> ModuleType:
    return timm_networks if name.startswith(TIMM_PREFIX) else torchvision_networks


@contextmanager
def _quiet_construction() -> Iterator[None]:
    """Hide warnings of the libraries while they build a network, and restore the random state."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield


def _identity(
    name: str, network: nn.Module, preprocess: Preprocessing, precision: torch.dtype
) -> str:
    """Return `Backbone.identity`."""
    content = hashlib.blake2b(digest_size=16)
    for key, value in sorted(network.state_dict().items()):
        if not key.endswith("num_batches_tracked"):
            content.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    facts = [FEATURES_VERSION, name, content.hexdigest(), asdict(preprocess), str(precision)]
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{preprocess.image_size}-{digest}"

"""Pretrained networks that turn photos into features; their weights stay as they are.

A backbone is a network of torchvision (`resnet50`) or of timm (`timm:vit_small_patch16_224`)
without its classification head. It brings its own preprocessing along: size, crop, interpolation
and normalization are those that its weights were trained and tested with.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from labelaudit.errors import OptionError
from labelaudit.images.decode import Pixels
from labelaudit.training.device import autocast

TIMM_PREFIX = "timm:"
DEFAULT_WEIGHTS = "DEFAULT"
# Part of every identity: a change of how features come about must not meet those kept before.
FEATURES_VERSION = 1
# Heads that some networks have besides for training; they give no features.
AUXILIARY_HEADS = ("aux1", "aux2", "AuxLogits")
# Networks that turn torchvision's normalization into the one that their weights were trained with.
RENORMALIZING = ("googlenet", "inception_v3")
# As the files of torchvision's DenseNets call their layers: "denselayer1.norm.1.weight".
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
# Photos longer than this many widths lose their ends before they are resized, not after it: what
# is left of them is a square, and one line of pixels a mile long would fill the memory.
LONGEST = 4


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input.

    Attributes
    ----------
    image_size
        Side of the square that the network reads, in pixels.
    resize
        Side that the picture is resized to before that square is cut from its middle: its shorter
        side, or with `squash` both.
    interpolation
        Pillow's name for it: "BILINEAR", "BICUBIC", ...
    mean, std
        Normalization of each channel, in [0, 1] units.
    squash
        Whether the aspect ratio is given up.
    """

    image_size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    squash: bool = False

    def at(self, image_size: int | None) -> Preprocessing:
        """Return the same for another size, with the same share of the picture cropped."""
        if image_size is None:
            return self
        resize = math.floor(self.resize * image_size / self.image_size + 1e-9)
        return replace(self, image_size=image_size, resize=max(resize, image_size))

    def __call__(self, image: Image.Image) -> Pixels:
        """Resize and crop a picture: ``(3, S, S)`` uint8."""
        image = _without_ends(image.convert("RGB"))
        width, height = image.size
        if self.squash:
            inner = (self.resize, self.resize)
        elif width <= height:
            inner = (self.resize, int(self.resize * height / width))
        else:
            inner = (int(self.resize * width / height), self.resize)
        if inner != image.size:
            image = image.resize(inner, Image.Resampling[self.interpolation])
        left, top = (round((side - self.image_size) / 2) for side in inner)
        image = image.crop((left, top, left + self.image_size, top + self.image_size))
        return np.asarray(image).transpose(2, 0, 1)  # (S, S, 3) -> (3, S, S)


def _without_ends(image: Image.Image) -> Image.Image:
    width, height = image.size
    across = min(width, LONGEST * height)
    down = min(height, LONGEST * width)
    if (across, down) == image.size:
        return image
    left, top = (width - across) // 2, (height - down) // 2
    return image.crop((left, top, left + across, top + down))


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
                f"{self.name} cannot read images of {size}x{size} pixels ({_first_line(error)});"
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
    library = _timm if name.startswith(TIMM_PREFIX) else _torchvision
    with _quiet_construction():
        network, preprocess = library(name, file)
    return Backbone(name, str(file or DEFAULT_WEIGHTS), network, preprocess.at(image_size), device)


def build_trunk(name: str) -> nn.Module:
    """Build a backbone without its head, with fresh weights; `Backbone.network`'s fit it.

    Raises
    ------
    OptionError
        There is no such network, or its library is not installed.
    """
    with _quiet_construction():
        if name.startswith(TIMM_PREFIX):
            timm = _import_timm(name)
            network: nn.Module = timm.create_model(
                _timm_name(timm, name), pretrained=False, num_classes=0
            )
            return network
        network, _ = _without_heads(name)
        return network


def cached_weights(name: str) -> Path | None:
    """Return the file of a network's own weights if its library has fetched them before.

    Raises
    ------
    OptionError
        There is no such network, or its library is not installed.
    """
    if not name.startswith(TIMM_PREFIX):
        file = _hub_file(_torchvision_weights(name).url)
        return file if file.is_file() else None
    timm = _import_timm(name)
    given = timm.get_pretrained_cfg(_timm_name(timm, name))
    if given is None:
        return None
    if given.url and (file := _hub_file(given.url)).is_file():
        return file
    if given.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        for stored in ("model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(given.hf_hub_id, given.hf_hub_filename or stored)
            if isinstance(found, str):
                return Path(found)
    return None


def _hub_file(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


@contextmanager
def _quiet_construction() -> Iterator[None]:
    """Keep what libraries warn of while they build from the user, and his random state as it was."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield


# --- torchvision -------------------------------------------------------------------------------


def _torchvision(name: str, file: Path | None) -> tuple[nn.Module, Preprocessing]:
    from torchvision.models import get_model

    weights = _torchvision_weights(name, file)
    if file is None:
        try:
            network: nn.Module = get_model(name, weights=weights, progress=False)
        except (OSError, RuntimeError) as error:  # no network; a damaged download
            raise _cannot_fetch(name, weights.url, error) from error
        head = _remove_heads(network, weights)
    else:
        network, head = _without_heads(name)
        _load(network, file, (*_without_own_weights(network, head), *AUXILIARY_HEADS), name)
    transforms = weights.transforms()
    return network, Preprocessing(
        image_size=transforms.crop_size[0],
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.name,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def _without_heads(name: str) -> tuple[nn.Module, str]:
    """Build a network with fresh weights and without its heads; give the path of the last as well."""
    from torchvision.models import get_model

    weights = _torchvision_weights(name)
    options = {"transform_input": True, "init_weights": False} if name in RENORMALIZING else {}
    network: nn.Module = get_model(name, weights=None, **options)
    return network, _remove_heads(network, weights)


def _remove_heads(network: nn.Module, weights: Any) -> str:
    for auxiliary in AUXILIARY_HEADS:
        if hasattr(network, auxiliary):
            setattr(network, auxiliary, None)
    return _remove_head(network, len(weights.meta["categories"]))


def _torchvision_weights(name: str, file: Path | None = None) -> Any:
    """Return the member of torchvision's weights that a file's name tells, or else the default."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise OptionError(
            f"torchvision has no network {name!r} for classification; "
            f"{_alike(name, known)}, or timm:NAME for those of timm"
        )
    weights = models.get_model_weights(name)
    for member in weights:
        # Weights of one network differ in the size that photos are resized to.
        if file is not None and member.url.endswith(f"/{file.name}"):
            return member
    return weights.DEFAULT


def _remove_head(network: nn.Module, num_classes: int) -> str:
    """Let the last layer that gives a value a class pass its input on; return its path.

    What follows it in some networks (an activation, an average) does no harm to features.
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
    """Return the head's path and, as long as they hold no other weights, those of its parents."""
    paths = [head]
    while (parent := paths[-1].rpartition(".")[0]) and not network.get_submodule(
        parent
    ).state_dict():
        paths.append(parent)
    return paths


# --- timm --------------------------------------------------------------------------------------


def _timm(name: str, file: Path | None) -> tuple[nn.Module, Preprocessing]:
    timm = _import_timm(name)
    model = _timm_name(timm, name)
    try:
        network: nn.Module = timm.create_model(model, pretrained=file is None, num_classes=0)
    except Exception as error:
        # Its hub's client raises nearly anything where there is no network.
        if file is not None:
            raise
        url = getattr(timm.get_pretrained_cfg(model), "url", "") or "its page on the model hub"
        raise _cannot_fetch(name, url, error) from error
    given = cast(Any, network).pretrained_cfg
    heads = given.get("classifier") or ()
    if file is not None:
        _load(network, file, (heads,) if isinstance(heads, str) else tuple(heads), name)
    config = timm.data.resolve_model_data_config(network)
    size = min(config["input_size"][-2:])
    if config["input_size"][0] != 3:
        raise OptionError(f"{name} reads {config['input_size'][0]} channels; photos have 3")
    return network, Preprocessing(
        image_size=size,
        resize=math.floor(size / config["crop_pct"]),
        interpolation=config["interpolation"].upper(),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        squash=config["crop_mode"] == "squash",
    )


def _import_timm(name: str) -> Any:
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise OptionError(f"{name} needs timm: pip install 'labelaudit[timm]'") from error
    return timm


def _timm_name(timm: Any, name: str) -> str:
    """Return timm's own name; OptionError if it has no such network or no such weights of it."""
    model = name.removeprefix(TIMM_PREFIX)
    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        raise OptionError(
            f"timm has no network {model!r}; {_alike(architecture, timm.list_models())}"
        )
    there = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in there:
        raise OptionError(
            f"timm has no weights {tag!r} of {architecture}; there are {', '.join(there) or 'none'}"
        )
    return model


# --- weights -----------------------------------------------------------------------------------


def _load(network: nn.Module, file: Path, heads: Iterable[str], name: str) -> None:
    """Load a state dict; all but the heads must fit, else OptionError says what does not."""
    stored = _read_state(file)
    own = network.state_dict()
    kept = OrderedDict(
        (_OLD_DENSENET.sub(r"\1\2", key), value)
        for key, value in stored.items()
        if not key.startswith(tuple(f"{head}." for head in heads))
    )
    # Layers read in it of which version a file is; some then rename what it holds.
    cast(Any, kept)._metadata = getattr(stored, "_metadata", None) or cast(Any, own)._metadata
    resized = [
        f"{key} is {tuple(kept[key].shape)} and not {tuple(value.shape)}"
        for key, value in own.items()
        if key in kept and kept[key].shape != value.shape
    ]
    if resized:
        raise _does_not_fit(name, file, _some_of(resized, "weights have another size"))
    try:
        loaded = network.load_state_dict(kept, strict=False)
    except (RuntimeError, ValueError) as error:
        raise _does_not_fit(name, file, _first_line(error)) from error
    missing = [key for key in loaded.missing_keys if not key.endswith(".num_batches_tracked")]
    if missing:
        raise _does_not_fit(name, file, _some_of(missing, "weights are missing"))
    if loaded.unexpected_keys:
        raise _does_not_fit(name, file, _some_of(loaded.unexpected_keys, "weights are unknown"))


def _some_of(wrong: list[str], what: str) -> str:
    return f"{len(wrong):,} {what}, e.g. {wrong[0]}"


def _does_not_fit(name: str, file: Path, reason: str) -> OptionError:
    return OptionError(
        f"the weights in {file} do not fit {name} ({reason}); give a state dict of that network,"
        " or the name of the network that they are of"
    )


def _read_state(file: Path) -> Mapping[str, Tensor]:
    """Read a file's tensors by name; nothing in it is executed."""
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            stored: Any = load_file(file)
        else:
            stored = torch.load(file, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise OptionError(f"{file} needs safetensors: pip install safetensors") from error
    except Exception as error:
        # From garbage the loaders raise nearly anything; pickled programs are refused.
        raise OptionError(
            f"the file of weights {file} cannot be loaded ({_first_line(error)}); give a state"
            " dict, as torch.save(model.state_dict(), FILE) writes it"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(stored, Mapping) and isinstance(stored.get(wrapper), Mapping):
            stored = stored[wrapper]
    if not isinstance(stored, Mapping) or not all(isinstance(v, Tensor) for v in stored.values()):
        raise OptionError(
            f"the file of weights {file} holds no state dict; give one, as"
            " torch.save(model.state_dict(), FILE) writes it"
        )
    if all(key.startswith("module.") for key in stored):  # saved from torch's DataParallel
        return {key.removeprefix("module."): value for key, value in stored.items()}
    return stored


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


# --- wording -----------------------------------------------------------------------------------


def _cannot_fetch(name: str, url: str, error: Exception) -> OptionError:
    return OptionError(
        f"the weights of {name} are not on this machine and cannot be downloaded"
        f" ({_first_line(error)}); fetch them elsewhere ({url}) and give the file with --weights"
    )


def _alike(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}" if near else "check its name"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

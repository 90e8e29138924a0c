"""Load the weights of a pretrained network from a file, with errors that name what does not fit."""

from __future__ import annotations

import difflib
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from labelaudit.errors import OptionError

DEFAULT_WEIGHTS = "DEFAULT"
# As the files of torchvision's DenseNets call their layers: "denselayer1.norm.1.weight".
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def load_weights(network: nn.Module, file: Path, heads: Iterable[str], name: str) -> None:
    """Load a state dict. Raises OptionError if anything but the heads does not fit."""
    stored = _read_state(file)
    own = network.state_dict()
    kept = OrderedDict(
        (_OLD_DENSENET.sub(r"\1\2", key), value)
        for key, value in stored.items()
        if not key.startswith(tuple(f"{head}." for head in heads))
    )
    # Layers read the version of the file from it, and some rename its weights.
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
        raise _does_not_fit(name, file, first_line(error)) from error
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
        " or the name of the network to which they belong"
    )


def _read_state(file: Path) -> Mapping[str, Tensor]:
    """Read the tensors of a file by name. Nothing in the file is executed."""
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            stored: Any = load_file(file)
        else:
            stored = torch.load(file, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise OptionError(f"{file} needs safetensors: pip install safetensors") from error
    except Exception as error:
        # For damaged files the loaders raise nearly any exception. Pickled programs are refused.
        raise OptionError(
            f"the file of weights {file} cannot be loaded ({first_line(error)}); write a"
            " state dict with torch.save(model.state_dict(), FILE)"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(stored, Mapping) and isinstance(stored.get(wrapper), Mapping):
            stored = stored[wrapper]
    if not isinstance(stored, Mapping) or not all(isinstance(v, Tensor) for v in stored.values()):
        raise OptionError(
            f"the file of weights {file} holds no state dict; write one with"
            " torch.save(model.state_dict(), FILE)"
        )
    if all(key.startswith("module.") for key in stored):  # saved from torch's DataParallel
        return {key.removeprefix("module."): value for key, value in stored.items()}
    return stored


def hub_file(url: str) -> Path:
    """Return the path where torch.hub keeps what it downloads from an address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def cannot_fetch(name: str, url: str, error: Exception) -> OptionError:
    """Return the error for weights that are neither on this machine nor can be downloaded."""
    return OptionError(
        f"the weights of {name} are not on this machine and cannot be downloaded"
        f" ({first_line(error)}); download them elsewhere ({url}) and give the file with `weights`"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def alike(name: str, known: Iterable[str]) -> str:
    """Return advice for a name that is not known: the names that are spelled similarly."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}" if near else "check its name"

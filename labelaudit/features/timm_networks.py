"""Networks of timm, without their heads."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, cast

from torch import nn

from labelaudit.errors import OptionError
from labelaudit.features.downloads import Download
from labelaudit.features.packaged_weights import load_packaged, packaged_file
from labelaudit.features.preprocessing import Preprocessing
from labelaudit.features.weights import alike, cannot_fetch, hub_file, load_weights

TIMM_PREFIX = "timm:"
# Older versions give some networks (such as resnet50_clip) a randomly drawn layer in place of the head
# that is removed. pyproject.toml has the same bound.
OLDEST_TIMM = "1.0.26"


def open_network(name: str, file: Path | None) -> tuple[nn.Module, Preprocessing]:
    """Build a network without its head, with weights from a file or, without one, timm's.

    Raises OptionError if there is no such network, timm is not installed, or the weights are missing or
    do not fit.
    """
    timm = _import_timm(name)
    model = _timm_name(timm, name)
    packaged = packaged_file(model) if file is None else None
    if file is None and packaged is None:
        network = _with_own_weights(timm, name)
    else:
        network = timm.create_model(model, pretrained=False, num_classes=0)
    if packaged is not None:
        load_packaged(network, packaged)
    given = cast(Any, network).pretrained_cfg
    heads = given.get("classifier") or ()
    if file is not None:
        load_weights(network, file, (heads,) if isinstance(heads, str) else tuple(heads), name)
    config = timm.data.resolve_model_data_config(network)
    size = min(config["input_size"][-2:])
    if config["input_size"][0] != 3:
        raise OptionError(
            f"{name} reads {config['input_size'][0]} channels, and photos have 3;"
            " choose another network"
        )
    return network, Preprocessing(
        image_size=size,
        resize=math.floor(size / config["crop_pct"]),
        interpolation=config["interpolation"].upper(),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        squash=config["crop_mode"] == "squash",
    )


def _with_own_weights(timm: Any, name: str) -> nn.Module:
    """Build a network without its head, with timm's weights from its cache or a download."""
    kept = cached_file(name)
    # Named, the file is read at once. Otherwise timm asks its hub first whether it is still the newest.
    overlay = {} if kept is None else {"pretrained_cfg_overlay": {"file": str(kept)}}
    try:
        network: nn.Module = timm.create_model(
            _timm_name(timm, name), pretrained=True, num_classes=0, **overlay
        )
    except Exception as error:
        # The client of its hub raises nearly any exception if there is no connection.
        raise cannot_fetch(name, download_of(name).url, error) from error
    return network


def build_network(name: str) -> nn.Module:
    """Build a network without its head, with fresh weights. Raises OptionError if unknown."""
    timm = _import_timm(name)
    network: nn.Module = timm.create_model(_timm_name(timm, name), pretrained=False, num_classes=0)
    return network


def cached_file(name: str) -> Path | None:
    """Return the file of a network's own weights if it is installed, or was downloaded before."""
    timm = _import_timm(name)
    model = _timm_name(timm, name)
    if (packaged := packaged_file(model)) is not None:
        return packaged
    given = timm.get_pretrained_cfg(model)
    if given is None:
        return None
    if given.url and (file := hub_file(given.url)).is_file():
        return file
    if given.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        for stored in ("model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(given.hf_hub_id, given.hf_hub_filename or stored)
            if isinstance(found, str):
                return Path(found)
    return None


def download_of(name: str) -> Download:
    """Return where timm downloads a network's own weights. Raises OptionError if it has none."""
    timm = _import_timm(name)
    given = timm.get_pretrained_cfg(_timm_name(timm, name))
    url = getattr(given, "url", "")
    if getattr(given, "hf_hub_id", None):
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(given.hf_hub_id, given.hf_hub_filename or "model.safetensors")
    if not url:
        raise OptionError(f"timm has no weights of {name}; give a file with `weights`")
    return Download(url, given.license or "see its page")


def _import_timm(name: str) -> Any:
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise OptionError(f"{name} needs timm: pip install 'labelaudit[timm]'") from error
    if _numbers(timm.__version__) < _numbers(OLDEST_TIMM):
        raise OptionError(
            f"{name} needs timm {OLDEST_TIMM} or newer, and {timm.__version__} is installed:"
            " pip install -U 'labelaudit[timm]'"
        )
    return timm


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _timm_name(timm: Any, name: str) -> str:
    """Return timm's own name. Raises OptionError if it has no such network or no such weights."""
    model = name.removeprefix(TIMM_PREFIX)
    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        raise OptionError(
            f"timm has no network {model!r}; {alike(architecture, timm.list_models())}"
        )
    there = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in there:
        raise OptionError(
            f"timm has no weights {tag!r} of {architecture}; there are {', '.join(there) or 'none'}"
        )
    return model

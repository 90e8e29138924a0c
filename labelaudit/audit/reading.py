"""Which network reads the images of an audit, and the inputs that follow from it.

The user names an encoder, or `auto` chooses: a pretrained network for photos, and training from the
pixels alone for other images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from labelaudit.audit.inputs import Inputs, decode, decode_for_backbone, extract
from labelaudit.errors import OptionError
from labelaudit.features.backbones import Backbone, cached_weights, open_backbone
from labelaudit.features.photo_networks import (
    PhotoNetwork,
    choose_photo_network,
    known_network,
    network_at_hand,
)
from labelaudit.images.containers import NoImages
from labelaudit.images.plan import ImagePlan, plan_images
from labelaudit.networks.encoders import ENCODER_NAMES
from labelaudit.options import AuditOptions
from labelaudit.progress import Reporter
from labelaudit.sources.manifest import Source
from labelaudit.training import distributed

# Color images whose shorter side is longer are photos.
PHOTO_SIDE = 64
# With fewer color images, a network that starts from nothing learns too little from them. A pretrained
# one then reads smaller images too, if it is at hand, but not those with a shorter side than this.
FEW_IMAGES = 2000
SMALL_SIDE = 24

# Photos are read no larger than they are, in steps of 32 pixels, because that would only take longer.
# Networks see little in images that are smaller than the first side. Larger ones than the second are
# read at the side that the network's weights were made for.
LEAST_SIDE, USUAL_SIDE, SIDE_STEP = 128, 224, 32

Need = Literal["photos", "few", "propose", "none"]


@dataclass(frozen=True)
class Chosen:
    """The encoder that `auto` has chosen.

    Attributes
    ----------
    encoder : str
        "auto" to train from the pixels, one of `ENCODER_NAMES`, or the name of a pretrained network.
    weights : str or None
        Weights for `open_backbone`.
    pretrained : bool
        Whether the encoder is a pretrained network.
    image_size : int or None
        Side of the square that a pretrained network reads; None for that of its weights.
    why : str
        The reason, "" if the encoder gives its own.
    """

    encoder: str = "auto"
    weights: str | None = None
    pretrained: bool = False
    image_size: int | None = None
    why: str = ""


def read_images(
    source: Source,
    options: AuditOptions,
    device: torch.device,
    reporter: Reporter,
    scratch: Path | None = None,
    before: Mapping[str, Any] | None = None,
) -> Inputs:
    """Choose the encoder, and read the images for it.

    Parameters
    ----------
    source
        Samples and labels.
    options
        The options of the user.
    device
        Device on which the encoder runs.
    reporter
        Is told of the choice, and shows progress.
    scratch
        Folder for pixels or features if memory is too small for them.
    before
        Settings of the unfinished run that is continued: `auto` chooses the same encoder again.

    Raises
    ------
    SourceError, OptionError
        If the images cannot be read, or the encoder cannot be used.
    """
    chosen = Chosen(options.encoder, _text(options.weights), options.pretrained)
    if options.encoder == "auto":
        choose = partial(_choose, source, options, device, reporter, before)
        chosen = distributed.share(distributed.once_a_machine(choose))
    if not chosen.pretrained:
        return decode(source, chosen.encoder, options.image_size, device, reporter, scratch)
    if options.flip and not options.fine_tune:
        raise OptionError(
            f"`flip` mirrors images during training, but {chosen.encoder}, which was chosen for these"
            " photos, is frozen and reads each image once; leave `flip` out, add `fine_tune`, or"
            " train a network from nothing with `encoder='resnet18'`"
        )
    backbone = _open(source, chosen, options, device, reporter)
    if options.fine_tune:
        return decode_for_backbone(source, backbone, reporter, scratch, chosen.why)
    return extract(source, backbone, reporter, scratch, chosen.why)


def need_of(found: ImagePlan, count: int, device_type: str) -> Need:
    """Return how much images need a pretrained network, from their size, color and number.

    "photos" need one. "few" are read by one if it is at hand. "propose": they are trained on, and one
    that is at hand is proposed. "none" need none.
    """
    side = min(found.height, found.width)
    if side > PHOTO_SIDE:
        return "photos" if found.channels == 3 else "propose"
    if found.channels == 1 or side < SMALL_SIDE:
        return "none"
    if count < FEW_IMAGES:
        return "few"
    # Without a GPU, training on this many takes hours.
    return "propose" if device_type == "cpu" else "none"


def side_for(found: ImagePlan) -> int | None:
    """Return the side of the square at which a pretrained network reads images; None for its own."""
    side = min(found.height, found.width)
    if side >= USUAL_SIDE:
        return None
    return max(LEAST_SIDE, SIDE_STEP * math.ceil(side / SIDE_STEP))


def _choose(
    source: Source,
    options: AuditOptions,
    device: torch.device,
    reporter: Reporter,
    before: Mapping[str, Any] | None,
) -> Chosen:
    """Return what `auto` chooses. Raises OptionError if photos have no network to read them."""
    if before:
        return _as_before(before)
    images = source.manifest.images
    found = plan_images(images)
    size = f"{found.width}x{found.height} {'gray' if found.channels == 1 else 'color'} images"
    shown = f"{len(images):,} {size}"
    need = need_of(found, len(images), device.type)
    if need == "photos" or options.fine_tune:
        network = choose_photo_network(
            options.offline,
            f"these {shown} are photos, which a pretrained network reads"
            if need == "photos"
            else "`fine_tune` needs a pretrained network",
            "name a file with `encoder` and `weights`"
            if options.fine_tune
            else "train a network from nothing with `encoder='resnet18'`, which takes much longer",
        )
        return _tell_choice(network, side_for(found), shown, reporter)
    at_hand = None if need == "none" else network_at_hand()
    if at_hand is None:
        return Chosen()
    if need == "few" and not options.flip:
        return _tell_choice(at_hand, side_for(found), shown, reporter)
    reporter.say(
        f"The weights of a pretrained {at_hand.name} are on this machine. `encoder={at_hand.name}`"
        " audits its features, which for photos is faster and mostly better than training a network"
        " on them alone."
    )
    return Chosen()


def _tell_choice(
    network: PhotoNetwork, image_size: int | None, shown: str, reporter: Reporter
) -> Chosen:
    reporter.say(
        f"A pretrained {network.name} reads these {shown}: {network.where}. Training a network on"
        " them alone (`encoder='resnet18'`) takes much longer."
    )
    why = f"chosen for {shown}, because {network.where}"
    return Chosen(network.name, network.weights, True, image_size, why)


def _as_before(before: Mapping[str, Any]) -> Chosen:
    """Return the encoder of the run that is continued."""
    encoder, why = before["encoder"], "chosen when the run began"
    if "name" in before["features"]:
        size = before["features"]["preprocessing"]["image_size"]
        return Chosen(encoder, known_network(encoder).weights, True, size, why)
    return Chosen(encoder)


def _open(
    source: Source,
    chosen: Chosen,
    options: AuditOptions,
    device: torch.device,
    reporter: Reporter,
) -> Backbone:
    """Open a pretrained network; OptionError if there is none, or nothing to read."""
    encoder = chosen.encoder
    if isinstance(source.manifest.images, NoImages):
        raise OptionError(f"the encoder {encoder} reads images, but this source has none")
    if chosen.weights is None:
        try:
            cached_weights(encoder)
        except OptionError as error:
            raise OptionError(
                f"unknown encoder {encoder!r}: {error}; encoders that are trained on your images"
                f" alone are auto, {', '.join(ENCODER_NAMES)}"
            ) from None
    return open_backbone(
        encoder,
        chosen.weights,
        device,
        chosen.image_size if options.image_size is None else options.image_size,
        offline=options.offline,
        reporter=reporter,
    )


def _text(weights: str | Path | None) -> str | None:
    return None if weights is None else str(weights)

"""Images as data URIs: small, recognizable, and safe to carry in a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

# Images up to here are scaled up with hard pixel edges, which keeps them honest.
TINY_SIDE = 64
QUALITY = 82  # WebP's, where a picture is no longer tiny


@dataclass(frozen=True)
class Picture:
    """An encoded image.

    Attributes
    ----------
    content
        PNG or WebP.
    tiny
        Whether it is to be shown with hard pixel edges.
    """

    content: bytes
    tiny: bool

    @property
    def data_uri(self) -> str:
        """The image as an address that needs no other file."""
        kind = "png" if self.content.startswith(b"\x89PNG") else "webp"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode('ascii')}"


def encode_picture(image: Image.Image, side: int) -> Picture:
    """Encode an image with no side longer than `side` pixels; tiny ones without loss.

    Parameters
    ----------
    image
        Of any mode; of more than 8 bits, as `labelaudit.images.decode` scales it.
    side
        In pixels.
    """
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value * (255 / 65535)).convert("L")
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    tiny = max(image.size) <= TINY_SIDE
    if max(image.size) > side and not tiny:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # A color profile can be larger than all of the image.
    if tiny:
        image.save(buffer, format="PNG", icc_profile=None)
    else:
        image.save(buffer, format="WEBP", quality=QUALITY, method=2, icc_profile=None)
    return Picture(buffer.getvalue(), tiny)

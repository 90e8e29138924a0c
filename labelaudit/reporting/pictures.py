"""Images as data URIs: small, recognizable, and safe to embed in a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

# Images with sides up to this length are enlarged with hard pixel edges, not smoothed.
TINY_SIDE = 64
QUALITY = 82  # of WebP, for larger pictures


@dataclass(frozen=True)
class Picture:
    """An encoded image.

    Attributes
    ----------
    content
        PNG or WebP.
    tiny
        Whether to show it with hard pixel edges.
    """

    content: bytes
    tiny: bool

    @property
    def data_uri(self) -> str:
        """The image as a data URI, an address that contains the image itself."""
        kind = "png" if self.content.startswith(b"\x89PNG") else "webp"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode('ascii')}"


def encode_picture(image: Image.Image, side: int) -> Picture:
    """Encode an image with no side longer than `side` pixels, without loss if it is tiny.

    Parameters
    ----------
    image
        An image of any mode. One of 16 bits is scaled as `labelaudit.images.decode` does.
    side
        Longest side, in pixels.
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
    # A color profile may be larger than the image itself.
    if tiny:
        image.save(buffer, format="PNG", icc_profile=None)
    else:
        image.save(buffer, format="WEBP", quality=QUALITY, method=2, icc_profile=None)
    return Picture(buffer.getvalue(), tiny)

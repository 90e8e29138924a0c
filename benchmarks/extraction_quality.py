"""What precision and reduced decoding of JPEGs cost, for benchmarks/extraction.py."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

QUALITY_HEADER = (
    "| decoding, precision | accuracy of 10 neighbors | of a linear probe | share of the 10 neighbors"
    " of the first row | mean cosine with the first row | load | commit, hardware |"
)
NUM_TRAINED, NUM_TESTED, SEED = 500, 500, 0
# More than four times what the network needs.
SIDE, GRAIN, QUALITY, NEIGHBORS = 1100, 10, 90, 10
# Decoded in full, at twice the needed size or more, at the needed size or more.
FULL, TWICE, ONCE = None, 2, 1
VARIANTS = {
    "in full, float32": (FULL, torch.float32),
    "at 2 times the needed size, float32": (TWICE, torch.float32),
    "at the needed size, float32": (ONCE, torch.float32),
    "in full, bfloat16": (FULL, torch.bfloat16),
    "at the needed size, bfloat16": (ONCE, torch.bfloat16),
}


def measure_quality(
    parquet: Path, weights: Path, limit: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the measures of each variant."""
    from labelaudit.features.backbones import open_backbone
    from labelaudit.features.preprocessing import Preprocessing
    from labelaudit.images.pillow import load_image, load_visited

    table = pq.read_table(parquet)
    count = limit or NUM_TRAINED + NUM_TESTED
    rows = np.random.default_rng(SEED).permutation(len(table))[:count]
    labels = table.column("label").to_numpy()[rows]
    cells = table.column("image").take(rows).to_pylist()
    photos = [as_photo(cell["bytes"], row) for cell, row in zip(cells, rows, strict=True)]
    first = None
    for case, (spare, precision) in VARIANTS.items():
        backbone = open_backbone(
            "timm:tf_efficientnet_lite0", weights, torch.device("cpu"), precision=precision
        )
        preprocess: Preprocessing = backbone.preprocess
        needed = (preprocess.resize,) * 2
        features = []
        for start in range(0, count, 8):
            pictures = [
                load_image(photo) if spare is None else load_visited(photo, needed, spare=spare)
                for photo in photos[start : start + 8]
            ]
            pixels = np.stack([preprocess(picture) for picture in pictures])
            features.append(backbone(torch.from_numpy(pixels)).numpy())
        unit = normalize(np.concatenate(features))
        first = unit if first is None else first
        yield case, judge(unit, first, labels)


def as_photo(data: bytes, seed: int) -> bytes:
    """Return a small image as a JPEG of a camera: large, with grain in its finest detail."""
    small = Image.open(io.BytesIO(data)).convert("RGB")
    large = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    grain = np.random.default_rng(seed).normal(0, GRAIN, large.shape)
    stream = io.BytesIO()
    noisy = Image.fromarray((large + grain).clip(0, 255).astype(np.uint8))
    noisy.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def judge(unit: np.ndarray, first: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return measures of features of length one ``(N, d)``: one half is known, the other predicted."""
    half = len(unit) // 2

    def neighbors(values: np.ndarray) -> np.ndarray:
        return np.argsort(-values[half:] @ values[:half].T, kind="stable")[:, :NEIGHBORS]

    found, expected = neighbors(unit), neighbors(first)
    votes = np.array([np.bincount(labels[near], minlength=10).argmax() for near in found])
    probe = LogisticRegression(C=1.0, max_iter=500).fit(unit[:half], labels[:half])
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, expected, strict=True)]
    return {
        "neighbors": float((votes == labels[half:]).mean()),
        "probe": float(probe.score(unit[half:], labels[half:])),
        "same_neighbors": float(np.mean(shared)) / NEIGHBORS,
        "cosine": float((unit * first).sum(1).mean()),
    }

"""Which reader a source, labels and features go to, and what does not go together."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelaudit.errors import OptionError, SourceError
from labelaudit.images.containers import ImageFiles, NoImages
from labelaudit.sources.arrays import source_from_arrays
from labelaudit.sources.feature_tables import FeatureSource
from labelaudit.sources.samples import read_samples


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six color images, and their labels in table.csv."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path,label"]
    for row in range(6):
        pixels = rng.integers(0, 256, (60, 70, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png")
        lines.append(f"{row}.png,{'ab'[row % 2]}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_features_go_with_images_row_by_row(gaussians, noisy_digits) -> None:
    features, _, _ = gaussians
    images, labels, _ = noisy_digits
    for found in (
        read_samples(images, labels, features=features[:600].astype(np.float64)),
        read_samples(source_from_arrays(images, labels), features=features[:600]),
    ):
        assert isinstance(found, FeatureSource)
        np.testing.assert_array_equal(found.features, features[:600])
        np.testing.assert_array_equal(found.source.manifest.images.read(7), images[7])


def test_a_table_of_image_names_shows_the_images(photos: Path) -> None:
    features = np.random.default_rng(0).normal(size=(6, 3))
    np.save(photos / "features.npy", features)
    found = read_samples(photos / "table.csv", features=str(photos / "features.npy"))
    assert isinstance(found, FeatureSource)
    assert isinstance(found.source.manifest.images, ImageFiles)
    assert found.source.manifest.images.read(3) == (photos / "3.png").read_bytes()
    assert found.source.manifest.paths[3] == str(photos / "3.png")

    (photos / "table.csv").write_text("path,label\n../photos/1.png,a\n2.png,b\n")
    found = read_samples(photos / "table.csv", features=features[:2])
    assert isinstance(found, FeatureSource)
    assert isinstance(found.source.manifest.images, NoImages)  # a name that leaves the folder


def test_features_of_texts_are_found_by_id_or_row_or_column(tmp_path: Path, gaussians) -> None:
    features, noisy, _ = gaussians
    ids = [f"text {row}" for row in range(50)]
    rows = [
        {"id": i, "text": f"the text of {i}", "label": str(label), "vector": vector}
        for i, label, vector in zip(ids, noisy, features.tolist(), strict=False)
    ]
    table = tmp_path / "texts.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shuffled = np.random.default_rng(0).permutation(50)
    frame = pd.DataFrame({"id": np.array(ids)[shuffled], "vector": list(features[shuffled])})
    frame.to_parquet(tmp_path / "features.parquet")
    np.save(tmp_path / "features.npy", features[:50])
    for given in (
        str(tmp_path / "features.parquet"),
        tmp_path / "features.npy",
        features[:50],
        "vector",
    ):
        found = read_samples(str(table), features=given)
        assert isinstance(found, FeatureSource)
        np.testing.assert_array_equal(found.features, features[:50])
        assert found.source.manifest.sample_ids.tolist() == ids
        assert found.details["text"][7] == "the text of text 7"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": np.zeros((5, 2))}, "array of features needs labels="),
        ({"source": np.zeros((5, 2)), "labels": [0, 1]}, "5 rows and the source has 2"),
        ({"source": np.full((4, 2), np.nan), "labels": [0, 1, 0, 1]}, "not a finite number"),
        ({"source": np.zeros((4, 2)), "labels": [0, 0, 0, 0]}, "one class"),
        (
            {"source": np.zeros((4, 2)), "labels": [0, 1, 0, 1], "features": np.zeros((4, 2))},
            "already has features",
        ),
        ({"source": np.zeros((4, 2)), "labels": [0, 1, 0, 1], "tabular": True}, "reads a table"),
        ({"source": "{photos}", "features": np.zeros((6, 2))}, "found by their ids"),
        ({"source": "{photos}/table.csv", "features": np.zeros((5, 2))}, "5 rows"),
        ({"source": "{photos}/table.csv", "features": "embedding"}, "embedding"),
        ({"source": "{photos}/table.csv", "features": "none.npy"}, "does not exist"),
        ({"source": "{photos}/table.csv", "features": "none.parquet"}, "does not exist"),
        ({"source": "{photos}", "labels": "{photos}/table.csv", "tabular": True}, "one table"),
        ({"source": "{photos}/table.csv", "tabular": True}, "no column is left"),
        (
            {"source": "{photos}", "features": "none.parquet", "id_column": "path"},
            "ids of images are their paths",
        ),
    ],
)
def test_what_does_not_go_together_is_said(photos: Path, arguments, message: str) -> None:
    given = {
        key: value.format(photos=photos) if isinstance(value, str) else value
        for key, value in arguments.items()
    }
    with pytest.raises((OptionError, SourceError), match=message):
        read_samples(**given)

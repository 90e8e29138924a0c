"""embed(): a table of features that scan and everybody else can read."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from torchvision import models

from labelaudit.errors import OptionError, OutputError, SourceError
from labelaudit.features.embed import embed
from labelaudit.sources.feature_tables import join_features
from labelaudit.sources.folders import read_source


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(models.resnet18(weights=None).state_dict(), file)
    return file


@pytest.fixture
def options(weights: Path, tmp_path: Path) -> dict[str, object]:
    return {
        "encoder": "resnet18",
        "weights": weights,
        "image_size": 32,
        "device": "cpu",
        "cache_dir": tmp_path / "cache",
    }


@pytest.fixture
def photos(digit_files: Path, tmp_path: Path) -> Path:
    """Thirty of the digits, one of them broken, with labels.csv."""
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = (digit_files / "labels.csv").read_text().splitlines()[:31]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    for line in lines[1:]:
        name = line.partition(",")[0]
        (folder / name).write_bytes((digit_files / "images" / name).read_bytes())
    (folder / "004.png").write_bytes(b"broken")
    return folder


def test_a_file_of_features_joins_its_source_again(
    photos: Path, tmp_path: Path, options: dict[str, object], lines
) -> None:
    out = tmp_path / "features.parquet"
    assert embed(photos, photos / "labels.csv", out=out, reporter=lines, **options) == out
    assert "resnet18 on cpu" in lines.said[0]
    assert "reading 32x32 color: 512 features for each of 30 images" in lines.said[0]
    assert lines.warned == ['1 image could not be read and left out: "004.png"']
    schema = pq.read_schema(out)
    assert str(schema.field("features").type).startswith("fixed_size_list<element: float")
    settings = json.loads(schema.metadata[b"labelaudit"])["encoder"]
    assert settings["name"] == "resnet18"
    assert settings["preprocessing"]["image_size"] == 32

    source = read_source(photos, photos / "labels.csv")
    joined = join_features(source, out)
    assert joined.source.manifest.num_samples == 29
    table = embed(source, reporter=lines, **options)
    assert isinstance(table, pd.DataFrame)
    assert lines.said[-1].startswith("29 of the images are in the cache")
    assert table["sample_id"].tolist() == joined.source.manifest.sample_ids.tolist()
    np.testing.assert_array_equal(np.stack(table["features"]), joined.features)
    assert len(np.unique(joined.features, axis=0)) == 29


def test_a_folder_of_images_needs_no_labels(photos: Path, options: dict[str, object]) -> None:
    labeled = embed(photos, photos / "labels.csv", **options)
    (photos / "labels.csv").unlink()
    table = embed(photos, **options)
    assert isinstance(table, pd.DataFrame)
    assert isinstance(labeled, pd.DataFrame)
    pd.testing.assert_frame_equal(table, labeled)


def test_what_is_written_is_the_same_again(
    photos: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    out = tmp_path / "features.parquet"
    embed(photos, photos / "labels.csv", out=out, **options)
    first = out.read_bytes()
    table = pq.read_table(out)
    pq.write_table(table.slice(0, 1), out)  # the features of fewer images, from an earlier call
    embed(photos, photos / "labels.csv", out=out, **options)
    assert out.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_what_cannot_be_done_is_said_before_the_work(
    photos: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    for out, message in (
        (tmp_path / "f.csv", r"name it \.parquet"),
        (tmp_path / "none" / "f.parquet", "its folder does not exist"),
    ):
        with pytest.raises(OutputError, match=message):
            embed(photos, photos / "labels.csv", out=out, **options)
    mine = tmp_path / "mine.parquet"
    for content in ({"sample_id": ["a"], "features": [[1.0]]}, {"text": ["precious"]}):
        pd.DataFrame(content).to_parquet(mine)
        before = mine.read_bytes()
        with pytest.raises(OutputError, match="`labelaudit embed` did not write it"):
            embed(photos, photos / "labels.csv", out=mine, **options)
        assert mine.read_bytes() == before
    with pytest.raises(SourceError, match="does not exist"):
        embed(tmp_path / "none", **options)
    with pytest.raises(OptionError, match="torchvision has no network 'mlp'"):
        embed(photos, photos / "labels.csv", **{**options, "encoder": "mlp"})
    assert not (tmp_path / "cache").exists()

"""What a user points at, and what the networks get to read of it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import models

from labelaudit import LabelAuditor
from labelaudit.audit.inputs import decode, extract, take_features, tell_notes
from labelaudit.features.backbones import open_backbone
from labelaudit.features.embed import embed
from labelaudit.images.containers import NoImages
from labelaudit.progress import Reporter
from labelaudit.sources.feature_tables import FeatureSource
from labelaudit.sources.manifest import Source
from labelaudit.sources.samples import read_samples

CPU = torch.device("cpu")


class Lines(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(models.resnet18(weights=None).state_dict(), file)
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six color images in table.csv, the fifth of them broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path,label"]
    for row in range(6):
        pixels = rng.integers(0, 256, (60, 70, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png")
        lines.append(f"{row}.png,{'ab'[row % 2]}")
    (folder / "4.png").write_bytes(b"broken")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


# --- features that come along ------------------------------------------------------------------


def test_an_array_of_two_dimensions_is_features(gaussians) -> None:
    features, noisy, _ = gaussians
    found = read_samples(features, noisy)
    assert isinstance(found, FeatureSource)
    assert isinstance(found.source.manifest.images, NoImages)
    assert found.features is features
    taken = take_features(found)
    assert taken.store.shape == (800, 24, 1, 1)
    assert np.shares_memory(taken.store, features)
    np.testing.assert_array_equal(taken.features, features)
    assert taken.are_features
    assert taken.noun == "samples"
    assert taken.choice.image_shape == (24, 1, 1)


def test_the_digest_knows_features_from_others(gaussians) -> None:
    features, noisy, _ = gaussians
    digests = {
        take_features(read_samples(array, noisy)).origin["digest"]  # type: ignore[arg-type]
        for array in (features, features.copy(), features[::-1], features + 1e-3)
    }
    assert len(digests) == 3


def test_what_embed_wrote_goes_with_its_source_in_any_order(photos: Path, weights: Path) -> None:
    features = photos.parent / "features.parquet"
    for source, labels in ((photos, photos / "table.csv"), (photos / "table.csv", None)):
        embed(source, labels, encoder="resnet18", weights=weights, image_size=32, out=features)
        table = pd.read_parquet(features)
        shuffled = photos.parent / "shuffled.parquet"
        table.sample(frac=1, random_state=0).to_parquet(shuffled)
        found = read_samples(source, labels, features=str(shuffled))
        assert isinstance(found, FeatureSource)
        ids = found.source.manifest.sample_ids.tolist()
        assert ids == [f"{row}.png" for row in (0, 1, 2, 3, 5)]
        np.testing.assert_array_equal(found.features, np.stack(table["features"]))
        assert not isinstance(found.source.manifest.images, NoImages)


def test_a_table_becomes_features_and_tells_of_its_columns(tmp_path: Path, gaussians) -> None:
    features, noisy, _ = gaussians
    frame = pd.DataFrame(features[:, :3].round(3), columns=["height", "width", "weight"])
    frame["note"] = "a text of several words"
    frame["label"] = noisy
    frame.to_csv(tmp_path / "data.csv", index=False)
    found = read_samples(tmp_path / "data.csv", tabular=True)
    assert isinstance(found, FeatureSource)
    taken = take_features(found)
    assert taken.choice.reason == "3 features of 3 of the table's 4 columns"
    reporter = Lines()
    tell_notes(taken.notes, reporter)
    assert reporter.said[0] == "  height: number, standardized"
    assert reporter.said[3].startswith("  note: left out")
    tell_notes({f"c{number}": "number" for number in range(100)}, reporter)
    assert reporter.said[-1] == "  … and 70 more columns, see summary.json"


# --- images that a backbone reads --------------------------------------------------------------


def test_a_backbone_reads_images_and_leaves_broken_ones_out(photos: Path, weights: Path) -> None:
    source = read_samples(photos / "table.csv")
    assert isinstance(source, Source)
    found = extract(source, open_backbone("resnet18", weights, CPU, 32), Reporter())
    assert found.store.shape == (5, 512, 1, 1)
    assert found.source.manifest.sample_ids.tolist() == [f"{row}.png" for row in (0, 1, 2, 3, 5)]
    assert found.source.skipped["sample_id"].tolist() == ["4.png"]
    assert found.content_hashes is not None
    assert len(set(found.content_hashes.tolist())) == 5
    assert found.encoder == "resnet18"
    assert found.noun == "images"
    assert str(weights) not in json.dumps(found.origin)
    moved = weights.rename(weights.with_name("elsewhere.pth"))
    again = extract(source, open_backbone("resnet18", moved, CPU, 32), Reporter())
    assert again.origin == found.origin
    np.testing.assert_array_equal(again.store, found.store)


def test_low_contrast_is_learned_as_well_as_full_contrast() -> None:
    """An MLP once read pixels of 128 to 143 as they are, and learned nothing."""
    rng = np.random.default_rng(0)
    given = np.repeat([0, 1], 60)
    images = rng.normal(0.3, 0.12, (120, 12, 12))
    images[:60, 3:9, 1:5] += 0.35
    images[60:, 3:9, 7:11] += 0.35
    wrong = rng.choice(120, 10, replace=False)
    given[wrong] ^= 1
    pixels = (128 + 15 * images.clip(0, 1)).round().astype(np.uint8)
    auditor = LabelAuditor(encoder="mlp", device="cpu", epochs=30).fit(pixels, given)
    assert set(np.flatnonzero(auditor.is_label_issue_)) == set(wrong)


def test_the_range_of_wide_images_is_a_setting_and_is_said(tmp_path: Path) -> None:
    for label, offset in (("dark", 0), ("light", 60)):
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(3):
            values = np.arange(64, dtype=np.uint16).reshape(8, 8) + 1000 + offset
            Image.fromarray(values).save(tmp_path / "in" / label / f"{number}.png")
    lines = Lines()
    found = decode(read_samples(tmp_path / "in"), "mlp", None, CPU, lines)
    assert found.origin == {"gray_ranges": {"integers": [1000.0, 1123.0]}}
    assert any("scaled from 1,000 to 1,123" in line for line in lines.said)
    assert found.store[:3].mean() < found.store[3:].mean()

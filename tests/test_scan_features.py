"""Whole scans of features: of a backbone, made elsewhere, of a table."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torchvision import models

import labelaudit
from labelaudit import EpsilonHistory, OptionError, OutputError
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import UMNConfig
from labelaudit.reporting.blocks import read_block
from labelaudit.sources.arrays import source_from_arrays
from labelaudit.sources.feature_tables import features_of_rows
from labelaudit.suspects import duplicates
from labelaudit.training.batches import plan_batches

FAST = {"epochs": 3, "device": "cpu"}
TOPICS = np.array(["complaint", "praise", "question", "order"])


@pytest.fixture(scope="session")
def mails(gaussians, tmp_path_factory) -> Path:
    """A table of texts with ids, labels and the truth, and features in three forms."""
    folder = tmp_path_factory.mktemp("mails")
    features, noisy, clean = gaussians
    ids = [f"mail {row}" for row in range(len(features))]
    frame = pd.DataFrame({"id": ids, "text": [f"Dear {i}, <b>hello</b>" for i in ids]})
    frame["country"] = np.array(["DE", "US"])[np.arange(len(ids)) % 2]
    frame["label"], frame["truth"] = TOPICS[noisy], TOPICS[clean]
    frame.to_csv(folder / "mails.csv", index=False)
    np.save(folder / "features.npy", features)
    shuffled = np.random.default_rng(1).permutation(len(ids))
    by_id = pd.DataFrame({"sample_id": ids, "features": list(features)}).iloc[shuffled]
    by_id.to_parquet(folder / "features.parquet")
    frame.assign(embedding=list(features)).to_parquet(folder / "all.parquet")
    return folder


@pytest.fixture(scope="session")
def run(mails, tmp_path_factory):
    """One whole scan of texts with features, shared by the tests that look at what it wrote."""
    return labelaudit.scan(
        mails / "mails.csv",
        features=mails / "features.npy",
        clean_label_column="truth",
        out=tmp_path_factory.mktemp("run") / "run",
        device="cpu",
    )


def test_planted_errors_are_found_in_seconds(gaussians) -> None:
    features, noisy, clean = gaussians
    source = source_from_arrays(None, noisy, clean_labels=clean)
    started = time.monotonic()
    result = labelaudit.scan(source, features=features, device="cpu")
    assert time.monotonic() - started < 30
    assert result.summary["metrics"]["num_wrong"] == 160
    assert result.summary["metrics"]["f1"] > 0.8
    assert result.summary["trust"]["trustworthy"]
    assert result.summary["encoder"]["image_shape"] is None


def test_an_array_of_features_is_the_shortest_way(gaussians) -> None:
    features, noisy, _ = gaussians
    short = labelaudit.scan(features, TOPICS[noisy], **FAST)
    source = source_from_arrays(None, TOPICS[noisy])
    long = labelaudit.scan(features_of_rows(source, features), **FAST)
    np.testing.assert_array_equal(short.pred_probs, long.pred_probs)
    assert short.embeddings.shape == (800, 64)
    assert short.run_dir is None


def test_texts_give_a_report_without_pictures(run) -> None:
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    assert '<img src="data:image/png' in page  # plots
    worst = run.suspects["sample_id"][0]
    index = read_block(run.run_dir, "index")
    assert index["noun"] == "samples"
    assert index["suspects"]["link"] is None
    assert f"Dear {worst}, <b>hello</b>" in " ".join(index["suspects"]["details"][0])
    assert "<b>hello" not in page
    assert "country" in index["details"]
    assert "of the samples that" not in page
    near = read_block(run.run_dir, "chunk-00001")["suspects"][0]["near"]
    assert near["suggested"][0]["words"].startswith("Dear ")
    assert not (run.run_dir / "duplicates.csv").exists()
    assert run.summary["num_conflicting_duplicates"] == 0


def test_the_settings_say_what_was_read_and_stay_short(run, gaussians) -> None:
    text = (run.run_dir / "summary.json").read_text(encoding="utf-8")
    summary = json.loads(text)
    assert summary == run.summary
    assert summary["encoder"]["name"] == "features"
    assert summary["config"]["encoder"] == "features"
    assert summary["config"]["features"]["feature_size"] == 24
    assert "statistics" not in summary["config"]["umn"]["network"]
    assert summary["columns"] == {}
    assert len(text) < 10_000


def test_the_model_reads_features_again(run, gaussians) -> None:
    saved = torch.load(run.run_dir / "model.pt", weights_only=True)
    seen = UMN.from_portable(saved).predict(torch.from_numpy(gaussians[0])[:, :, None, None])
    np.testing.assert_allclose(seen.guider_probs.numpy(), run.pred_probs, atol=1e-5)


def test_rows_and_ids_and_columns_bring_the_same_features(mails) -> None:
    """The parquet file is in another order than the table."""
    results = [
        labelaudit.scan(mails / table, features=features, **FAST)
        for table, features in (
            ("mails.csv", str(mails / "features.npy")),
            ("mails.csv", str(mails / "features.parquet")),
            ("all.parquet", "embedding"),
        )
    ]
    for other in results[1:]:
        pd.testing.assert_frame_equal(results[0].samples, other.samples)


def test_a_killed_run_of_features_resumes_to_its_twin(
    mails, tmp_path, killed_in_third_epoch
) -> None:
    settings = {"features": mails / "features.npy", "epochs": 4, "device": "cpu"}
    whole = labelaudit.scan(mails / "mails.csv", out=tmp_path / "whole", **settings)

    with killed_in_third_epoch():
        labelaudit.scan(mails / "mails.csv", out=tmp_path / "cut", **settings)
    changed = np.load(mails / "features.npy") * 2
    with pytest.raises(OutputError, match=r"other settings \(features\)"):
        labelaudit.scan(
            mails / "mails.csv",
            out=tmp_path / "cut",
            resume=True,
            **{**settings, "features": changed},
        )
    resumed = labelaudit.scan(mails / "mails.csv", out=tmp_path / "cut", resume=True, **settings)
    assert resumed.summary["epochs"] == 4
    pd.testing.assert_frame_equal(resumed.samples, whole.samples)
    pd.testing.assert_frame_equal(resumed.history.frame(), whole.history.frame())
    assert EpsilonHistory(tmp_path / "cut" / "epsilon").epochs == [1, 2, 3, 4]


def test_a_table_is_audited_by_its_columns(gaussians, tmp_path, lines) -> None:
    features, noisy, clean = gaussians
    frame = pd.DataFrame(features, columns=[f"sensor {n}" for n in range(24)])
    frame["site"] = np.array(["north", "south"])[np.arange(800) % 2]
    frame["label"], frame["truth"] = TOPICS[noisy], TOPICS[clean]
    frame.to_csv(tmp_path / "data.csv", index=False)
    result = labelaudit.scan(
        tmp_path / "data.csv",
        tabular=True,
        clean_label_column="truth",
        out=tmp_path / "run",
        epochs=20,
        device="cpu",
        reporter=lines,
    )
    assert result.summary["metrics"]["f1"] > 0.8
    assert result.summary["columns"]["sensor 3"] == "number, standardized"
    assert "  site: category, one column per value (2 values)" in lines.said
    assert any("26 features of 25 of the table's 25 columns" in line for line in lines.said)
    shown = read_block(tmp_path / "run", "index")["details"]
    # Of 25 columns those that tell most about the label.
    assert len(shown) == 9
    assert set(shown) <= set(result.summary["columns"])


def test_few_labels_a_class_say_what_can_be_trusted(lines) -> None:
    rng = np.random.default_rng(0)
    clean = np.arange(1000) % 100
    features = rng.normal(size=(100, 32))[clean] * 2 + rng.normal(size=(1000, 32))
    noisy = corrupt_symmetric(clean, 0.2, 100, seed=0)
    result = labelaudit.scan(features, noisy, epochs=20, device="cpu", reporter=lines)
    assert result.samples["suspect_score"].notna().all()
    (warning,) = [line for line in lines.warned if "labels per class" in line]
    assert warning.startswith("there are only 10 labels per class on average")
    assert "Trust the order of the suspects more than their scores" in warning
    assert warning in result.summary["warnings"]
    wrong = noisy != clean
    flagged = result.samples["is_label_issue"].to_numpy()
    assert wrong[flagged].mean() > 0.5


def test_conflicting_duplicates_are_written(gaussians, tmp_path, monkeypatch) -> None:
    features, noisy, _ = gaussians
    features = features.copy()
    a, b = np.flatnonzero(noisy == 0)[0], np.flatnonzero(noisy == 1)[0]
    features[b] = features[a]
    for searched in (50_000, 100):  # as if there were many more samples
        monkeypatch.setattr(duplicates, "SEARCHED", searched)
        out = tmp_path / str(searched)
        result = labelaudit.scan(features, noisy, out=out, threshold="top:5", **FAST)
        written = labelaudit.read_csv(out / "duplicates.csv")
        assert written[["sample_id_a", "sample_id_b"]].to_numpy().tolist() == [
            sorted([str(a), str(b)], key=int)
        ]
        assert written["kind"].tolist() == ["exact"]
        assert result.summary["num_conflicting_duplicates"] == len(result.duplicates) == 1
        assert "1 pair of samples is equal" in (out / "report.html").read_text(encoding="utf-8")


def test_conflicting_duplicates_are_found_in_pixels_too(noisy_digits, tmp_path) -> None:
    images, labels, _ = noisy_digits
    images = images.copy()
    a, b = np.flatnonzero(labels == 3)[0], np.flatnonzero(labels == 5)[0]
    images[b] = images[a]
    result = labelaudit.scan(images, labels, out=tmp_path / "run", **FAST)
    exact = result.duplicates[result.duplicates["kind"] == "exact"]
    assert set(exact.iloc[0][["sample_id_a", "sample_id_b"]]) == {str(a), str(b)}
    near = read_block(tmp_path / "run", "chunk-00001")["suspects"][0]["near"]
    assert len(near["given"]) == len(near["suggested"]) == 3


# --- photos ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(models.resnet18(weights=None).state_dict(), file)
    return file


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """150 photos, a folder a class, every seventh in the other; one is broken, two are the same."""
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for row in range(150):
        color = row % 2
        pixels = rng.integers(0, 120, (6, 8, 3)).astype(np.uint8)
        pixels[..., 2 * color] += 120
        label = ("red", "blue")[color if row % 7 else 1 - color]
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((80, 60)).save(folder / label / f"{row:03d}.png")
    (folder / "red" / "002.png").write_bytes(b"broken")
    (folder / "red" / "001.png").write_bytes((folder / "blue" / "001.png").read_bytes())
    return folder


def test_photos_are_audited_by_a_frozen_backbone(photos, weights, tmp_path, lines) -> None:
    settings = {
        "encoder": "resnet18",  # with weights it is torchvision's, without it is trained
        "weights": weights,
        "image_size": 32,
        "epochs": 40,
        "device": "cpu",
        "reporter": lines,
    }
    result = labelaudit.scan(photos, out=tmp_path / "run", **settings)
    assert result.summary["num_samples"] == 150
    assert result.summary["encoder"]["name"] == "resnet18"
    assert result.summary["config"]["features"]["name"] == "resnet18"
    assert [line for line in lines.warned if "could not be read" in line]
    skipped = labelaudit.read_csv(tmp_path / "run" / "skipped.csv")
    assert skipped["sample_id"].tolist() == ["red/002.png"]
    numbers = result.samples["sample_id"].str[-7:-4].astype(int)
    given = result.samples["given_label"] == "blue"
    wrong = (given != (numbers % 2 == 1)).to_numpy()
    flagged = result.samples["is_label_issue"].to_numpy()
    precision, recall = wrong[flagged].mean(), flagged[wrong].mean()
    assert 2 * precision * recall / (precision + recall) > 0.7
    assert roc_auc_score(wrong, result.samples["suspect_score"]) > 0.98

    duplicates = labelaudit.read_csv(tmp_path / "run" / "duplicates.csv")
    assert duplicates.iloc[0]["kind"] == "exact"
    assert {duplicates.iloc[0]["sample_id_a"], duplicates.iloc[0]["sample_id_b"]} == {
        "red/001.png",
        "blue/001.png",
    }
    shown = read_block(tmp_path / "run", "chunk-00001")["suspects"]
    assert len(shown) == len(result.suspects)
    assert all(one["picture"] and one["near"]["suggested"] for one in shown)

    lines.said.clear()
    again = labelaudit.scan(photos, **settings)
    assert any("150 of the images are in the cache" in line for line in lines.said)
    np.testing.assert_array_equal(again.pred_probs, result.pred_probs)


@pytest.mark.slow
def test_a_backbone_may_be_trained_on(photos, weights, tmp_path) -> None:
    settings = {
        "encoder": "resnet18",
        "weights": weights,
        "fine_tune": True,
        "image_size": 32,
        "epochs": 5,
        "device": "cpu",
    }
    result = labelaudit.scan(photos, out=tmp_path / "run", **settings)
    assert result.summary["num_samples"] == 150  # one more is broken
    assert result.summary["encoder"]["name"] == "resnet18"
    numbers = result.samples["sample_id"].str[-7:-4].astype(int)
    wrong = ((result.samples["given_label"] == "blue") != (numbers % 2 == 1)).to_numpy()
    assert roc_auc_score(wrong, result.samples["suspect_score"]) > 0.9

    saved = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    before = torch.load(weights, weights_only=True)["conv1.weight"]
    after = saved["network"]["encoder.trunk.conv1.weight"]
    assert 0 < (after - before).abs().max() < 0.1  # it started there, and was trained on
    model = UMN.from_portable(saved)
    assert model.config.network.backbone == "resnet18"


def test_a_trained_trunk_takes_small_steps(weights) -> None:
    pixels = np.zeros((40, 3, 32, 32), np.uint8)
    config = UMNConfig.for_data(pixels, np.arange(40) % 2, 2, "backbone", plan_batches(40, 0, 20))
    config = replace(config, network=replace(config.network, backbone="resnet18"))
    umn = UMN(config, torch.device("cpu"))
    fresh, known = umn.optimizer.param_groups
    assert known["lr"] == fresh["lr"] / 10
    trunk = umn.network.encoder.trunk
    assert {id(p) for p in known["params"]} == {id(p) for p in trunk.parameters()}
    count = sum(1 for _ in umn.network.parameters())
    assert len(fresh["params"]) + len(known["params"]) == count


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fine_tune": True, "encoder": "mlp"}, "name one with `encoder`"),
        ({"features": "f.npy", "encoder": "resnet50"}, "leave `encoder` out"),
        ({"features": "f.npy", "encoder": "resnet50", "weights": "w.pth"}, "`encoder`"),
        ({"features": "f.npy", "image_size": 64}, "leave `image_size` out"),
        ({"tabular": True, "image_size": 64}, "`tabular` gives features, but `image_size`"),
        ({"tabular": True, "features": "f.npy"}, "use one of them"),
    ],
)
def test_options_that_exclude_each_other(mails, tmp_path, settings, message) -> None:
    with pytest.raises(OptionError, match=message):
        labelaudit.scan(mails / "mails.csv", out=tmp_path / "run", **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", [{"encoder": "resnet50"}, {"image_size": 64}])
def test_an_array_of_features_takes_no_options_of_images(gaussians, settings) -> None:
    features, noisy, _ = gaussians
    with pytest.raises(OptionError, match="the source gives features"):
        labelaudit.scan(features, noisy, **settings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_scan_of_features_on_a_gpu_finds_planted_errors(gaussians) -> None:
    features, noisy, clean = gaussians
    source = source_from_arrays(None, noisy, clean_labels=clean)
    result = labelaudit.scan(source, features=features, device="cuda")
    assert result.summary["metrics"]["f1"] > 0.8


def test_verified_rows_of_a_table_are_never_flagged(gaussians, tmp_path, lines) -> None:
    features, noisy, clean = gaussians
    table = pd.DataFrame(features[:, :20]).add_prefix("f").assign(label=noisy)
    wrong = np.flatnonzero(noisy != clean)
    table["done"] = "no"
    table.loc[wrong[:10], "done"] = "excluded"
    table.loc[wrong[10:20], "done"] = "yes"  # a person says so, who may err
    table.to_csv(tmp_path / "t.csv", index=False)
    result = labelaudit.scan(
        tmp_path / "t.csv",
        tabular=True,
        verified_column="done",
        threshold="top:700",
        epochs=3,
        device="cpu",
        reporter=lines,
    )
    verified = result.samples["verified"]
    assert result.samples.loc[verified, "sample_id"].tolist() == [str(row) for row in wrong[10:20]]
    assert not result.samples.loc[verified, "is_label_issue"].any()
    assert result.summary["num_suspects"] == 700
    assert (result.summary["num_samples"], result.summary["num_excluded"]) == (790, 10)
    assert "10 labels are verified and taken as right." in lines.said
    assert not any(said.startswith("  done:") for said in lines.said)


def test_arrays_have_no_columns(gaussians) -> None:
    features, noisy, _ = gaussians
    with pytest.raises(OptionError, match="verified_column names a column of a table"):
        labelaudit.scan(features, noisy, verified_column="verified")

"""`resume` refuses options that differ from those of the run, and names them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.models import mobilenet_v3_small

import labelaudit
from labelaudit import OutputError
from labelaudit.options import ScanOptions
from labelaudit.training.recorder import write_part

SETTINGS = {"epochs": 1, "batch_size": 20, "device": "cpu"}


def write_table(folder, clean_wrong=0):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = (rng.normal(size=(60, 4)) + 5 * np.eye(4)[labels]).astype(np.float32)
    clean = labels.copy()
    clean[:clean_wrong] = (clean[:clean_wrong] + 1) % 3
    pd.DataFrame(
        {"id": range(60), "label": labels, "other": labels, "clean": clean, "clean2": labels}
        | {f"x{i}": features[:, i] for i in range(4)}
    ).to_csv(folder / "t.csv", index=False)
    np.save(folder / "f.npy", features)
    return features


@pytest.fixture
def stopped(monkeypatch):
    """Stop a scan where training begins, which leaves its folder as a run that was killed there."""

    class Stopped(BaseException):
        pass

    def stop(plan, files, reporter, **_):
        (files.history.parent / "checkpoint.pt").write_bytes(b"not read here")
        write_part(files.history, 1, plan.manifest.sample_ids[:0], np.zeros(0), np.zeros(0))
        raise Stopped

    monkeypatch.setattr("labelaudit.auditor.fit_plan", stop)

    def scan(*arguments, **options):
        with pytest.raises(Stopped):
            labelaudit.scan(*arguments, **options)

    return scan


CHANGED = {
    "seed": 1,
    "epochs": 2,
    "batch_size": 10,
    "score": "posterior",
    "threshold": "top:5",
    "compile": True,
    "label_column": "other",
    "id_column": "id",
    "clean_label_column": "clean2",
}
FREE = {"device": "auto", "time_budget": 5.0, "max_suspects": 3, "offline": True}


@pytest.fixture
def table(tmp_path, stopped, monkeypatch):
    monkeypatch.chdir(tmp_path)
    features = write_table(tmp_path)
    usual = {
        "features": "f.npy",
        "label_column": "label",
        "clean_label_column": "clean",
        **SETTINGS,
    }
    stopped("t.csv", out="run", **usual)
    return features, usual


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_option_is_refused_by_its_name(table, name):
    options = table[1] | {name: CHANGED[name]}
    with pytest.raises(OutputError, match=rf"other settings \(([a-z_ ]+, )*{name}[,)]"):
        labelaudit.scan("t.csv", out="run", resume=True, **options)


def test_changed_files_are_refused(table, tmp_path):
    features, usual = table
    write_table(tmp_path, clean_wrong=1)
    with pytest.raises(OutputError, match=r"other settings \(clean_labels\)"):
        labelaudit.scan("t.csv", out="run", resume=True, **usual)
    write_table(tmp_path)
    features[7, 0] += 1e-6
    np.save("f.npy", features)
    with pytest.raises(OutputError, match=r"other settings \(features\)"):
        labelaudit.scan("t.csv", out="run", resume=True, **usual)


def test_the_same_options_and_those_that_change_nothing_are_accepted(table, stopped):
    for name, value in FREE.items():
        stopped("t.csv", out="run", resume=True, **table[1] | {name: value})


def test_every_option_is_compared_or_may_change(table, tmp_path):
    config = json.loads((tmp_path / "run" / "labelaudit.json").read_text())["config"]
    # The verified labels that come from reviewed runs are part of the data.
    free = {*FREE, "out", "force", "resume", "pred_probs", "reviewed"}
    assert set(vars(ScanOptions())) == (set(config) | free) & set(vars(ScanOptions()))


def test_a_changed_encoder_image_size_or_weights_are_refused(tmp_path, stopped, monkeypatch):
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (24, 24, 24, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    out = tmp_path / "run"
    stopped(images, labels, out=out, encoder="mlp", **SETTINGS)
    for name, value in {"encoder": "conv13", "image_size": 16, "flip": True}.items():
        options = {"encoder": "mlp", **SETTINGS, name: value}
        with pytest.raises(OutputError, match=rf"other settings \(.*{name}"):
            labelaudit.scan(images, labels, out=out, resume=True, **options)
    network = mobilenet_v3_small()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    options = {"encoder": "mobilenet_v3_small", "weights": tmp_path / "w.pth", "image_size": 32}
    stopped(images, labels, out=tmp_path / "run2", **options, **SETTINGS)
    (tmp_path / "w.pth").rename(tmp_path / "moved.pth")
    options["weights"] = tmp_path / "moved.pth"
    stopped(images, labels, out=tmp_path / "run2", resume=True, **options, **SETTINGS)
    network.features[0][0].weight.data[0, 0, 0, 0] += 1e-3
    torch.save(network.state_dict(), tmp_path / "moved.pth")
    with pytest.raises(OutputError, match=r"other settings \(features, weights\)"):
        labelaudit.scan(images, labels, out=tmp_path / "run2", resume=True, **options, **SETTINGS)

"""Two processes on this machine's CPU, by torchrun with gloo, against one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torchvision import models

from labelaudit import EpsilonHistory
from labelaudit.training import distributed

ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}  # each process

STEPS = """
import sys
import numpy as np
import torch
from labelaudit.training import distributed
from labelaudit.training.batches import BatchPlan, TrainingImages
from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import UMNConfig
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.networks.umn import NetworkConfig
from labelaudit.progress import Reporter
from labelaudit.training.loop import fit

torch.randn_like = torch.zeros_like  # without noise both must learn the same
rng = np.random.default_rng(0)
pixels = rng.integers(0, 256, (23, 1, 4, 4)).astype(np.uint8)
labels = np.where(np.arange(23) < 15, np.arange(23) % 3, -1)
with distributed.joined():
    torch.manual_seed(0)
    network = NetworkConfig("mlp", (1, 4, 4), 3, "bernoulli", PixelStatistics((0.5,), (0.5,)))
    method = UMN(UMNConfig(network, 1.6, (1.0, 2.0, 0.5)), torch.device("cpu"))
    method.distribute()
    images = TrainingImages(pixels, labels, torch.device("cpu"), verified=np.arange(23) % 4 == 1)
    plan = BatchPlan(steps=5, labeled_draws=15, unlabeled_draws=8, num_labeled=15)  # of 4 or 5
    fit(method, images, plan, epochs=4, seed=0, on_epoch=lambda epoch: None, reporter=Reporter())
    torch.save(method.state_dict()["network"], f"{sys.argv[1]}-{distributed.rank()}.pt")
"""
PARTS = """
import sys
import numpy as np
from labelaudit import SourceError
from labelaudit.training import distributed

with distributed.joined():
    rank = distributed.rank()
    assert distributed.size() == 2
    assert distributed.share(rank) == 0
    assert distributed.everyone(rank) == [0, 1]
    made = distributed.once_a_machine(lambda: ("made by", rank))
    assert made == ("made by", 0), made
    values = np.arange(7 * 3, dtype=np.float32).reshape(7, 3)
    whole = distributed.gather_rows(values[distributed.part(7)], 7)
    assert len(whole) == 7 - 3 * rank, whole
    if rank == 0:
        np.testing.assert_array_equal(whole, values)
    rows = np.concatenate(distributed.everyone(distributed.shard(np.arange(7))))
    assert sorted(rows.tolist()) == list(range(7))
    try:
        with distributed.together():
            if rank == 1:
                raise SourceError("found by the second")
    except SourceError as error:
        print("first says:", error)
    print("not the second")
assert distributed.size() == 1
"""
ALONE_WRONG = """
from labelaudit import SourceError
from labelaudit.training import distributed

distributed.PATIENCE = 0.1
with distributed.joined():
    if distributed.rank() == 1:
        raise SourceError("only the second sees this")
    distributed.everyone(None)
"""
BATCH_NORM = """
import numpy as np
import torch
from labelaudit.training import distributed
from labelaudit.training.batches import TrainingImages
from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import UMNConfig
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.networks.umn import NetworkConfig

rng = np.random.default_rng(0)
pixels = rng.integers(0, 256, (12, 1, 32, 32)).astype(np.uint8)
with distributed.joined():
    torch.manual_seed(0)
    network = NetworkConfig("resnet18", (1, 32, 32), 3, "gaussian", PixelStatistics((0.5,), (0.3,)))
    method = UMN(UMNConfig(network, 100.0, (1.0, 1.0, 1.0)), torch.device("cpu"))
    method.distribute()
    images = TrainingImages(pixels, np.arange(12) % 3, torch.device("cpu"))
    torch.manual_seed(distributed.rank())
    for _ in range(2):
        method.step(images.batch(np.arange(12)))
    unlike, like = [], []
    for found in (unlike, like):
        seen = method.predict(images.images(np.arange(12)))
        found += distributed.everyone((seen.learner_probs, seen.guider_probs))
        method.agree()
    assert not torch.equal(unlike[0][0], unlike[1][0])
    for ours, theirs in zip(*like):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
"""


def torchrun(*arguments: object, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=folder,
        env=ONE_THREAD,
        capture_output=True,
        text=True,
    )


def test_alone_a_process_is_all_of_them():
    rows = np.arange(5)
    assert (distributed.size(), distributed.rank(), distributed.leads()) == (1, 0, True)
    np.testing.assert_array_equal(distributed.shard(rows), rows)
    np.testing.assert_array_equal(rows[distributed.part(5)], rows)
    np.testing.assert_array_equal(distributed.gather_rows(rows, 5), rows)
    assert distributed.once_a_machine(lambda: "made") == "made"
    module = torch.nn.Linear(2, 2)
    assert distributed.parallel(module, torch.device("cpu")) is module


def test_parts_come_together_and_errors_are_everybody_s(tmp_path):
    (tmp_path / "parts.py").write_text(PARTS)
    done = torchrun("parts.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["first says: found by the second", "not the second"]


@pytest.mark.slow
def test_what_one_process_alone_finds_wrong_is_told(tmp_path):
    (tmp_path / "wrong.py").write_text(ALONE_WRONG)
    done = torchrun("wrong.py", folder=tmp_path)
    assert done.returncode != 0
    assert "process 1: only the second sees this" in done.stderr


@pytest.mark.slow
def test_processes_judge_by_the_same_statistics_of_batch_norm(tmp_path):
    (tmp_path / "norm.py").write_text(BATCH_NORM)
    done = torchrun("norm.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    (tmp_path / "steps.py").write_text(STEPS)
    subprocess.run([sys.executable, "steps.py", "one"], cwd=tmp_path, env=ONE_THREAD, check=True)
    done = torchrun("steps.py", "two", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    alone = torch.load(tmp_path / "one-0.pt", weights_only=True)
    for name in ("two-0.pt", "two-1.pt"):
        shared = torch.load(tmp_path / name, weights_only=True)
        for key, value in alone.items():
            torch.testing.assert_close(shared[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.fixture(scope="module")
def scans(digit_files, tmp_path_factory) -> Path:
    """599 of 600 images can be read; scanned by one process and by two."""
    folder = tmp_path_factory.mktemp("scans")
    shutil.copytree(digit_files / "images", folder / "images")
    shutil.copy(digit_files / "labels.csv", folder)
    (folder / "images" / "004.png").write_text("no image")
    scan = ["-m", "labelaudit", "scan", "images", "labels.csv", "--clean-label-column", "clean"]
    scan += ["--device", "cpu", "--epochs", "12", "--out"]
    subprocess.run([sys.executable, *scan, "one"], cwd=folder, env=ONE_THREAD, check=True)
    done = torchrun(*scan, "two", folder=folder)
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    return folder


@pytest.mark.slow
def test_every_label_is_recorded_once_an_epoch(scans):
    ids = pd.read_parquet(scans / "two" / "samples.parquet")["sample_id"].tolist()
    assert len(ids) == len(set(ids)) == 599
    history = EpsilonHistory(scans / "two" / "epsilon")
    assert history.epochs == list(range(1, 13))
    assert history.frame().groupby("epoch")["sample_id"].apply(list).tolist() == [ids] * 12


@pytest.mark.slow
def test_two_processes_find_what_one_finds(scans):
    """Their noise differs, so ranks are similar but not equal, as docs/how-to/gpus.md says."""
    one, two = (pd.read_parquet(scans / name / "samples.parquet") for name in ("one", "two"))
    assert one["sample_id"].tolist() == two["sample_id"].tolist()
    scores = spearmanr(one["suspect_score"], two["suspect_score"]).statistic
    assert scores > 0.9
    f1 = [
        json.loads((scans / name / "summary.json").read_text())["metrics"]["f1"]
        for name in ("one", "two")
    ]
    assert min(f1) > 0.8
    assert abs(f1[0] - f1[1]) < 0.05


@pytest.mark.slow
def test_the_first_alone_tells_and_nothing_is_left_behind(scans):
    said = (scans / "said.txt").read_text()
    assert said.count("Found 599 images") == 1
    assert said.count("labels look wrong") == 1
    kinds = {"images", "labels.csv", "one", "two", "said.txt"}
    assert {path.name for path in scans.iterdir()} - kinds == set()
    again = torchrun(
        *("-m", "labelaudit", "scan", "images", "labels.csv", "--out", "two"), folder=scans
    )
    assert again.returncode != 0
    assert again.stdout == ""
    assert again.stderr.count("error: two already exists") == 1
    assert (scans / "two" / "suspects.csv").exists()


@pytest.mark.slow
def test_one_process_goes_on_with_what_two_began(scans):
    scan = ["-m", "labelaudit", "scan", "images", "labels.csv", "--device", "cpu", "--epochs", "4"]
    scan += ["--out", "begun"]
    begun = torchrun(*scan, "--time-budget", "0.0001", folder=scans)
    assert begun.returncode == 0, begun.stderr
    assert EpsilonHistory(scans / "begun" / "epsilon").epochs == [1]
    assert json.loads((scans / "begun" / "summary.json").read_text())["status"] == "out of time"
    subprocess.run([sys.executable, *scan, "--resume"], cwd=scans, check=True)
    assert EpsilonHistory(scans / "begun" / "epsilon").epochs == [1, 2, 3, 4]
    shutil.rmtree(scans / "begun")


@pytest.mark.slow
def test_two_processes_find_what_one_finds_in_features(gaussians, tmp_path):
    features, noisy, clean = gaussians
    np.save(tmp_path / "features.npy", features)
    table = pd.DataFrame({"id": np.arange(800), "label": noisy, "clean": clean})
    table.to_csv(tmp_path / "labels.csv", index=False)
    scan = ["-m", "labelaudit", "scan", "labels.csv", "--features", "features.npy"]
    scan += ["--clean-label-column", "clean", "--device", "cpu", "--out"]
    subprocess.run([sys.executable, *scan, "one"], cwd=tmp_path, env=ONE_THREAD, check=True)
    done = torchrun(*scan, "two", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")]
    f1 = [summary["metrics"]["f1"] for summary in found]
    assert min(f1) > 0.8
    assert abs(f1[0] - f1[1]) < 0.05


@pytest.mark.slow
def test_two_processes_train_a_pretrained_network_on(scans):
    torch.save(models.resnet18(weights=None).state_dict(), scans / "resnet18.pth")
    scan = ["-m", "labelaudit", "scan", "images", "labels.csv", "--encoder", "resnet18"]
    scan += ["--weights", "resnet18.pth", "--fine-tune", "--image-size", "32", "--device", "cpu"]
    done = torchrun(*scan, "--epochs", "2", "--out", "tuned", folder=scans)
    assert done.returncode == 0, done.stderr
    ids = pd.read_parquet(scans / "tuned" / "samples.parquet")["sample_id"].tolist()
    history = EpsilonHistory(scans / "tuned" / "epsilon").frame()
    assert history.groupby("epoch")["sample_id"].apply(list).tolist() == [ids] * 2
    shutil.rmtree(scans / "tuned")
    (scans / "resnet18.pth").unlink()


@pytest.mark.slow
def test_batches_too_small_to_share_are_refused(scans):
    done = torchrun(
        *(
            "-m",
            "labelaudit",
            "scan",
            "images",
            "labels.csv",
            "--batch-size",
            "3",
            "--out",
            "small",
        ),
        folder=scans,
    )
    assert done.returncode != 0
    assert done.stderr.count("error: 2 processes share batches of") == 1
    assert not (scans / "small").exists()

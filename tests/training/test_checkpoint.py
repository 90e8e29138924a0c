"""Checkpoints and recorded epochs that are damaged, missing or added."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from labelaudit import EpsilonHistory, OutputError, source_from_arrays
from labelaudit.audit.fitting import RunFiles, fit_plan
from labelaudit.audit.plan import prepare
from labelaudit.options import AuditOptions
from labelaudit.progress import Reporter
from labelaudit.sources.feature_tables import features_of_rows
from labelaudit.training.checkpoint import (
    Checkpoint,
    Checkpoints,
    DamagedError,
    load_checkpoint,
    save_checkpoint,
)

CPU = torch.device("cpu")
EPOCHS = 5


class Warnings(Reporter):
    def __init__(self):
        self.texts = []

    def warn(self, text):
        self.texts.append(text)


def flip(path, position=-3000):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_every_flipped_byte_of_a_checkpoint_is_noticed(tmp_path):
    path = tmp_path / "state.pt"
    state = {"weight": torch.arange(20.0), "steps": 3}
    save_checkpoint(path, Checkpoint(4, 1.5, state, {1: "ab"}, 7, 2, (0.5, 3.0)))
    whole = path.read_bytes()
    found = load_checkpoint(path)
    assert (found.epoch, found.seconds, found.steps, found.slowed_in) == (4, 1.5, 7, 2)
    assert found.losses == (0.5, 3.0)
    assert torch.equal(found.state["weight"], state["weight"])
    for position in range(0, len(whole), 7):
        content = bytearray(whole)
        content[position] ^= 0x10
        path.write_bytes(content)
        with pytest.raises(DamagedError):
            load_checkpoint(path)
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedError):
            load_checkpoint(path)


def test_the_checkpoint_before_is_used_where_the_last_is_damaged(tmp_path):
    files, reporter = Checkpoints(tmp_path / "state.pt"), Warnings()
    for epoch in (1, 2, 3):
        files.save(Checkpoint(epoch, 0.0, {}))
    assert files.load(reporter).epoch == 3
    assert reporter.texts == []
    flip(files.path, -200)
    assert files.load(reporter).epoch == 2
    assert "goes back to epoch 2" in reporter.texts[-1]
    assert not files.path.exists()
    flip(files.before, -200)
    assert files.load(reporter) is None
    assert "begins again" in reporter.texts[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "the memory is full"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "the memory is full",
        ),
        (OSError(5, "Input/output error"), "Input/output error"),
        (KeyError("x"), "was written by another version"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_is_kept(error, told, tmp_path, monkeypatch):
    files, reporter = Checkpoints(tmp_path / "state.pt"), Warnings()
    for epoch in (1, 2):
        files.save(Checkpoint(epoch, 0.0, {}))

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", fail)
        with pytest.raises(OutputError, match=rf"state\.pt .*{told}"):
            files.load(reporter)
    assert reporter.texts == []
    assert files.load(reporter).epoch == 2


def test_a_checkpoint_without_checksums_is_used_with_a_word(tmp_path):
    files, reporter = Checkpoints(tmp_path / "state.pt"), Warnings()
    torch.save({"epoch": 2, "seconds": 1.0, "state": {}}, files.path)  # as version 0.1 wrote it
    found = files.load(reporter)
    assert (found.epoch, found.records) == (2, None)
    assert "no checksums" in reporter.texts[-1]


def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OutputError, match=r"cannot write .*state\.pt"):
        save_checkpoint(tmp_path / "state.pt", Checkpoint(1, 0.0, {}))
    assert list(tmp_path.iterdir()) == []


# --- a whole training ----------------------------------------------------------------------------


class Killed(BaseException):
    pass


class Words(Warnings):
    def say(self, text):
        self.texts.append(text)


def train(folder, reporter, on_epoch=None):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = (rng.normal(size=(60, 4)) + 3 * np.eye(4)[labels]).astype(np.float32)
    options = AuditOptions(epochs=EPOCHS, device="cpu", batch_size=20)
    data = features_of_rows(source_from_arrays(None, labels), features)
    plan = prepare(data, options, Reporter())
    files = RunFiles(folder / "epsilon", folder / "checkpoint.pt")
    return fit_plan(plan, files, reporter, started=0.0, on_epoch=on_epoch)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An undisturbed training, and the folder of one that was killed in its last epoch."""
    folder = tmp_path_factory.mktemp("runs")

    def die(method, epoch):
        if epoch == EPOCHS:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labelaudit.training.loop.CHECKPOINT_SECONDS", -1.0)
        whole = train(folder / "whole", Reporter())
        with pytest.raises(Killed):
            train(folder / "cut", Reporter(), die)
    return folder, whole


def resume(runs, folder):
    """Resume the training in a folder, compare it with its twin, and return what was said."""
    twin, whole = runs
    reporter = Words()
    resumed = train(folder, reporter)
    np.testing.assert_array_equal(resumed.pred_probs, whole.pred_probs)
    np.testing.assert_array_equal(resumed.embeddings, whole.embeddings)
    for name, value in vars(whole.means).items():
        np.testing.assert_array_equal(getattr(resumed.means, name), value)
    histories = [EpsilonHistory(path / "epsilon").frame() for path in (folder, twin / "whole")]
    pd.testing.assert_frame_equal(*histories)
    return " ".join(reporter.texts)


def edit_part(path):
    table = pd.read_parquet(path)
    table["epsilon"] = 0.5
    table.to_parquet(path)


DAMAGE = {
    "nothing": (
        lambda run: None,
        "^1 epoch was recorded after the last checkpoint and must be trained again",
    ),
    "a flipped byte": (lambda run: flip(run / "checkpoint.pt"), "goes back to epoch 3"),
    "cut short": (
        lambda run: (run / "checkpoint.pt").write_bytes(
            (run / "checkpoint.pt").read_bytes()[:-1000]
        ),
        "goes back to epoch 3",
    ),
    "both checkpoints": (
        lambda run: [flip(run / name) for name in ("checkpoint.pt", "checkpoint.before.pt")],
        "begins again",
    ),
    "no checkpoint": (
        lambda run: [path.unlink() for path in run.glob("checkpoint*.pt")],
        "^5 epochs were recorded after the last checkpoint",
    ),
    "the last part edited": (
        lambda run: edit_part(run / "epsilon/epoch-00004.parquet"),
        "epoch-00004.parquet has changed.*goes back to epoch 3",
    ),
    "an early part edited": (
        lambda run: edit_part(run / "epsilon/epoch-00001.parquet"),
        "epoch-00001.parquet has changed.*begins again",
    ),
    "a part is missing": (
        lambda run: (run / "epsilon/epoch-00002.parquet").unlink(),
        "epoch-00002.parquet is missing.*begins again",
    ),
    "parts are exchanged": (
        lambda run: shutil.copy(
            run / "epsilon/epoch-00001.parquet", run / "epsilon/epoch-00003.parquet"
        ),
        "epoch-00003.parquet has changed.*begins again",
    ),
    "an extra part": (
        lambda run: shutil.copy(
            run / "epsilon/epoch-00001.parquet", run / "epsilon/epoch-00009.parquet"
        ),
        "2 epochs were recorded after the last checkpoint",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_resumes_to_its_twin(runs, tmp_path, name):
    damage, words = DAMAGE[name]
    shutil.copytree(runs[0] / "cut", tmp_path / "cut")
    damage(tmp_path / "cut")
    told = resume(runs, tmp_path / "cut")
    assert re.search(words, told), told


def test_a_run_without_checksums_resumes(runs, tmp_path):
    run = tmp_path / "cut"
    shutil.copytree(runs[0] / "cut", run)
    (run / "checkpoint.before.pt").unlink()
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save({name: saved[name] for name in ("epoch", "seconds", "state")}, run / "checkpoint.pt")
    assert "no checksums" in resume(runs, run)

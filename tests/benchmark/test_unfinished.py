import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from labelaudit.benchmark.cell_reporter import CellReporter
from labelaudit.benchmark.cells import Cell, run_cell
from labelaudit.benchmark.datasets import load_dataset
from labelaudit.benchmark.evaluation import limited
from labelaudit.benchmark.noise import Noise
from labelaudit.benchmark.sweep import Sweep, run_sweep
from labelaudit.benchmark.systems import METHODS
from labelaudit.benchmark.unfinished import UnfinishedCell
from labelaudit.errors import OutputError
from labelaudit.methods import task as task_module
from labelaudit.progress import ConsoleReporter, Reporter
from labelaudit.training import loop
from labelaudit.training.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def digits():
    return limited(load_dataset("digits"), 300)


@pytest.fixture(autouse=True)
def checkpoint_after_every_epoch(monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)


class StopAfter(Reporter):
    """Presses Ctrl-C when an epoch begins, and keeps what is said."""

    def __init__(self, epoch: int) -> None:
        self.text, self.said = f"epoch {epoch}/", []

    def say(self, text):
        self.said.append(text)

    def bar(self, *_, **__):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, steps=1):
        pass

    reach = advance

    def describe(self, text):
        if self.text in text:
            raise KeyboardInterrupt


RESUMABLE = [name for name, one in METHODS.items() if one.resumable and "resnet" not in name]
QUICKLY = ("umn", "mean-teacher", "mentornet-learned")  # the ones with the most state of their own


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=[] if name in QUICKLY else pytest.mark.slow) for name in RESUMABLE],
)
def test_a_stopped_cell_continues_and_ends_like_an_uninterrupted_one(method, digits, tmp_path):
    cell = Cell(method, Noise("symmetric", 0.2), 3, 60, epochs=4, device="cpu")
    whole = run_cell(cell, digits, curve=True)
    sweep = Sweep(tmp_path / "sweep", {"epochs": 4})
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, [cell], digits, curves=True, reporter=StopAfter(3))
    assert sweep.results.empty  # a part of a training is no result
    state = sweep.state(cell)
    assert json.loads((state / "progress.json").read_text())["epoch"] == 2
    again = StopAfter(99)
    assert run_sweep(sweep, [cell], digits, curves=True, reporter=again) == []
    assert f"{cell}: continues from its checkpoint; it had reached epoch 2." in again.said
    assert not state.exists()
    assert sweep.curves["epoch"].tolist() == [1, 2, 3, 4]
    assert sweep.curves["test_error"].tolist() == list(whole.curve.values())
    for name in ("f1", "auroc", "test_error", "epochs"):
        assert sweep.results[name].tolist() == [row[name] for row in whole.rows]


def test_a_system_of_several_trainings_begins_again(digits, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "labelaudit.methods.supervised.train_on",
        lambda task, *rest: seen.append(task.state) or task_module.train_on(task, *rest),
    )
    cell = Cell("small-loss", Noise("symmetric", 0.2), 3, epochs=1, device="cpu")
    run_cell(cell, digits, state=tmp_path / "state")
    assert seen == [None]
    assert not (tmp_path / "state").exists()


def test_the_time_of_earlier_processes_counts(tmp_path):
    UnfinishedCell(tmp_path / "state", seconds=100.0).keep(2, 0.25)
    found = UnfinishedCell.open(tmp_path / "state")
    assert found.epoch == 2
    assert found.test_error == {2: 0.25}
    assert found.seconds_so_far() >= 100.0
    found.remove()
    assert UnfinishedCell.open(tmp_path / "state").seconds_so_far() < 100.0


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"epoch": 1, "seconds": 2, "test_error": [3]}'])
def test_a_damaged_progress_is_named(text, tmp_path):
    (tmp_path / "progress.json").write_text(text)
    with pytest.raises(
        OutputError, match=r"progress.json is damaged; delete .* to train this cell"
    ):
        UnfinishedCell.open(tmp_path)


def test_the_state_is_of_the_last_epoch(digits, tmp_path):
    cell = Cell("supervised", Noise("symmetric", 0.2), 3, epochs=3, device="cpu")
    run_cell(cell, digits, state=tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt").epoch == 3


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_cell_shows_its_progress(terminal):
    text, now = io.StringIO(), [0.0]
    console = Console(file=text, force_terminal=terminal, width=120)
    reporter = ConsoleReporter(console, lambda: now[0])
    with reporter.bar("evaluating", total=1) as outer:
        cell = CellReporter(reporter, outer, "umn, symmetric 0.1, seed 0", reporter.warn)
        with cell.bar("training", 1000) as bar:
            bar.describe("epoch 1/350")
            for done in (1, 2, 3):
                now[0] += 30
                bar.reach(done)
    assert "umn, symmetric 0.1, seed 0: epoch 1/350" in text.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_all_jobs_at_once(tmp_path):
    out = tmp_path / "sweep"
    command = f"{sys.executable} -m labelaudit eval digits --method umn --rate 0.1,0.2,0.3,0.4"
    command += f" --jobs 2 --epochs 2000 --num-labeled 100 --device cpu --out {out}"
    process = subprocess.Popen(command.split(), start_new_session=True, stderr=subprocess.PIPE)
    while len(list(out.glob("unfinished/*/progress.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)  # each cell would take minutes
    assert process.returncode == 130
    assert said.decode().endswith("Interrupted. The same command continues.\n")

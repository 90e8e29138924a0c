"""benchmarks/gpu_columns.py on a CPU, so that it still runs when there is a GPU."""

import io
import os
import signal
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from labelaudit.benchmark import evaluation
from labelaudit.benchmark.protocols import PROTOCOLS
from labelaudit.benchmark.sweep import COLUMNS as RESULT_COLUMNS
from labelaudit.benchmark.systems import METHODS
from labelaudit.cli import app
from labelaudit.errors import OptionError


@pytest.fixture(scope="module")
def gpu_columns():
    import gpu_columns

    return gpu_columns


def settings_of(gpu_columns, tmp_path, column="table1-cifar10", rates=(0.2, 0.4), tiny=False):
    return gpu_columns.Settings(column, tmp_path, tmp_path / "out", rates, 100, "cpu", tiny)


def finish(settings, part, rate, **columns):
    """Write the rows that the command of a part leaves."""
    folder = settings.folder / part.folder(settings.tiny)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            **dict.fromkeys(RESULT_COLUMNS, 0.5), "dataset": "cifar10", "noise": "symmetric",
            "rate": rate, "seed": settings.seed, "method": method, "num_labeled": 4000,
            "num_samples": 50_000, "device": "a GPU", "encoder": "conv13",
            "epochs": part.trained(settings.tiny), "test_error": 0.4, **columns,
        }
        for method in part.methods
    ]  # fmt: skip
    file = folder / "results.csv"
    before = [pd.read_csv(file)] if file.exists() else []
    pd.concat([*before, pd.DataFrame(rows)]).to_csv(file, index=False)


def test_every_command_is_one_that_users_can_type(gpu_columns, tmp_path, monkeypatch):
    typed = []

    def take(name, **options):
        typed.append((name, options))
        raise OptionError("nothing is run here")

    monkeypatch.setattr(evaluation, "run_protocol", take)
    monkeypatch.setattr(evaluation, "open_dataset", lambda *_, **__: None)
    for name, column in gpu_columns.COLUMNS.items():
        tiny = name == "table2-svhn"
        settings = settings_of(gpu_columns, tmp_path, name, column.rates, tiny)
        for part in column.parts:
            command = settings.command(part, column.rates[0])
            told = CliRunner().invoke(app, command[command.index("eval") :])
            assert "nothing is run here" in told.output
            protocol, options = typed[-1]
            assert protocol == name
            assert tuple(options["methods"]) == part.methods
            assert set(part.methods) <= set(PROTOCOLS[name].methods)
            assert set(part.methods) <= set(METHODS)
            assert options["rates"] == [column.rates[0]]
            assert list(options["seeds"]) == [100]
            assert options["epochs"] == part.trained(tiny) <= part.epochs
            assert ("limit" in options) == tiny
        assert set(column.rates) <= set(PROTOCOLS[name].rates)


def test_svhn_may_be_in_torchvisions_files(gpu_columns, tmp_path):
    settings = settings_of(gpu_columns, tmp_path, "table1-svhn")
    part = gpu_columns.COLUMNS["table1-svhn"].parts[0]
    assert "--test" in settings.command(part, 0.2)
    for name in gpu_columns.SVHN_FILES:
        (tmp_path / name).touch()
    command = settings.command(part, 0.2)
    assert "--test" not in command
    assert command[command.index("--data-dir") + 1] == str(tmp_path)


def test_what_is_finished_is_not_run_again(gpu_columns, tmp_path, monkeypatch, capsys):
    settings = settings_of(gpu_columns, tmp_path)
    parts = gpu_columns.COLUMNS[settings.column].parts
    began = []

    def run(command, log, deadline, board):
        rate, epochs = (command[command.index(word) + 1] for word in ("--rate", "--epochs"))
        part = parts[len(began) % len(parts)]
        began.append(float(rate))
        assert int(epochs) == part.epochs
        finish(settings, part, float(rate))
        board.update()
        return 0

    monkeypatch.setattr(gpu_columns, "run", run)
    assert gpu_columns.run_column(settings, 600) == gpu_columns.FINISHED
    assert began == [0.2] * 4 + [0.4] * 4  # a whole rate before the next one
    assert gpu_columns.run_column(settings, 600) == gpu_columns.FINISHED
    assert len(began) == 8
    told = [line for line in capsys.readouterr().out.splitlines() if "labels" in line]
    assert told[0] == "20% umn, 4000 labels, epochs 30: test error 0.4000, 0 s"
    assert [line.split()[:2] for line in told[:12]] == [  # each cell once, as it is finished
        [rate, f"{method},"]
        for rate in ("20%", "40%") for part in parts for method in part.methods
    ]  # fmt: skip
    table = (settings.folder / "table.md").read_text(encoding="utf-8")
    assert "(not as in the paper: 30 to 350 epochs instead of 350, 1 run instead of 5," in table
    assert "| umn | ours, 30 epochs, 1 seed | – | 0.400 | – | 0.400 | – |" in table
    assert "| supervised | ours, 1 seed | – | 0.400 | – | 0.400 | – |" in table


def test_failures_do_not_end_a_column_and_bad_input_does(
    gpu_columns, tmp_path, monkeypatch, capsys
):
    settings = settings_of(gpu_columns, tmp_path, rates=(0.2,))
    statuses = []

    def run(command, log, deadline, board):
        log.write_text(f"line {len(statuses)}\n")
        statuses.append(status)
        return status

    monkeypatch.setattr(gpu_columns, "run", run)
    status = 0  # the cells failed, which `eval` reports and goes on
    assert gpu_columns.run_column(settings, 600) == gpu_columns.FAILED
    assert len(statuses) == 4
    assert "mislabeled-vae, mean-teacher at 0.2 failed:\nline 2" in capsys.readouterr().out
    status = gpu_columns.BAD_INPUT
    assert gpu_columns.run_column(settings, 600) == gpu_columns.FAILED
    assert len(statuses) == 5


def test_no_part_begins_in_the_last_seconds(gpu_columns, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_columns, "run", None)  # running it would break
    settings = settings_of(gpu_columns, tmp_path)
    assert gpu_columns.run_column(settings, gpu_columns.GRACE + 20) == gpu_columns.TIME_IS_UP
    assert "Run the same command again" in capsys.readouterr().out


CHILD = """
import pathlib, sys, time
file = pathlib.Path(sys.argv[1])
try:
    file.write_text("begun")
    time.sleep(60)
except KeyboardInterrupt:
    file.write_text("whole")
"""


@pytest.mark.usefixtures("ctrl_c")
def test_a_command_is_stopped_as_by_ctrl_c_when_time_is_up(gpu_columns, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_columns, "WATCH", 0.02)
    settings = settings_of(gpu_columns, tmp_path)
    settings.folder.mkdir(parents=True)
    file, log = tmp_path / "file", tmp_path / "log.txt"

    class Deadline(float):
        """Passes as soon as the child has begun."""

        def __gt__(self, now):
            return not (file.exists() and file.read_text())

    board = gpu_columns.Board(settings)
    command = [sys.executable, "-S", "-E", "-c", CHILD, str(file)]
    assert gpu_columns.run(command, log, Deadline(0), board) is None
    assert file.read_text() == "whole"
    assert log.read_text().startswith("$ ")
    command = [sys.executable, "-S", "-E", "-c", "raise SystemExit(7)"]
    assert gpu_columns.run(command, log, time.monotonic() + 60, board) == 7


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_script_stops_its_command_too(gpu_columns, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_columns, "WATCH", 0.02)
    settings = settings_of(gpu_columns, tmp_path)
    settings.folder.mkdir(parents=True)
    file = tmp_path / "file"

    class Board(gpu_columns.Board):
        def update(self):
            if file.exists() and file.read_text() == "begun":
                os.kill(os.getpid(), signal.SIGINT)

    command = [sys.executable, "-S", "-E", "-c", CHILD, str(file)]
    with pytest.raises(KeyboardInterrupt):
        gpu_columns.run(command, tmp_path / "log", time.monotonic() + 60, Board(settings))
    assert file.read_text() == "whole"


def test_curves_of_all_parts_are_in_one_plot(gpu_columns, tmp_path):
    settings = settings_of(gpu_columns, tmp_path, "figure3")
    for part in gpu_columns.COLUMNS["figure3"].parts[:2]:
        finish(settings, part, 0.2)
        curve = {"noise": "symmetric", "rate": 0.2, "seed": 100, "method": part.methods[0]}
        epochs = np.arange(1, part.epochs + 1)
        pd.DataFrame({**curve, "epoch": epochs, "test_error": 1 / epochs}).to_csv(
            settings.folder / part.folder(tiny=False) / "curves.csv", index=False
        )
    gpu_columns.Board(settings).update()
    pixels = np.asarray(Image.open(settings.folder / "test_error.png").convert("RGB"))
    assert {(0, 114, 178), (213, 94, 0)} <= set(map(tuple, pixels.reshape(-1, 3).tolist()))


def test_a_folder_that_is_not_there_is_told(gpu_columns, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        gpu_columns.main(["table1-svhn", str(tmp_path / "none"), str(tmp_path / "out")])
    assert left.value.code == 2
    assert "is no folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_whole_column_at_its_tiniest(gpu_columns, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        rows = []
        for _ in range(40):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (28, 28)).astype(np.uint8)).save(file, "png")
            rows.append({"bytes": file.getvalue(), "path": None})
        table = pa.table({"image": rows, "label": np.arange(40) % 10})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    arguments = ["table1-mnist", str(tmp_path), str(tmp_path / "out"), "--device", "cpu", "--tiny"]
    assert gpu_columns.main(arguments) == gpu_columns.FINISHED
    table = (tmp_path / "out" / "table1-mnist" / "table.md").read_text(encoding="utf-8")
    for method in ("umn", "supervised", "mentornet", "mislabeled-vae", "mean-teacher"):
        assert f"| {method} | ours, 2 epochs, 1 seed | – | 0." in table
    assert "20 training images instead of 50,000" in table

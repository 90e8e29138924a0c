import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from rich.text import Text
from torchvision import models
from typer.testing import CliRunner

import labelaudit
from labelaudit.cli import app
from labelaudit.corrections.table import check_corrections, write_corrections
from labelaudit.networks.encoders import ENCODERS
from labelaudit.progress import plain

RUNNER = CliRunner()
DOCS = Path(__file__).parents[1] / "docs"


def test_scan_writes_where_it_says_and_ends_with_the_worst(digit_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images, labels = str(digit_files / "images"), str(digit_files / "labels.csv")
    done = RUNNER.invoke(app, ["scan", images, labels, "--epochs", "10", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "labelaudit-images"
    suspects = labelaudit.read_csv(folder / "suspects.csv")
    assert f"{len(suspects):,} of 600 labels look wrong" in done.output
    assert suspects["sample_id"][0] in done.output
    assert "report.html" in done.output
    assert "Found 600 images" in done.output

    again = RUNNER.invoke(app, ["scan", images, labels])
    assert again.exit_code == 2
    assert "--force" in again.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scan", "nowhere"], "nowhere"),
        (["scan", "{images}", "{labels}", "--label-column", "lable"], "lable"),
        (["scan", "{images}", "{labels}", "--threshold", "some"], "top:K"),
        (["scan", "{images}", "{labels}", "--encoder", "conv13"], "too small"),
        (["scan", "{images}", "{labels}", "--out", "{images}"], "not written by labelaudit"),
        (["scan", "{images}", "{labels}", "--encoder", "restnet50"], "did you mean"),
        (["scan", "{images}", "--features", "{labels}"], "none of the 600 images has a label"),
        (["scan", "{images}", "nowhere.csv"], "nowhere.csv does not exist"),
        (["scan", "{images}", "{labels}", "--features", "none.parquet"], "none.parquet"),
        (["scan", "{images}", "{labels}", "--features", "nowhere"], "parquet"),
        (["scan", "{labels}", "--features", "none.npy"], "none.npy"),
        (["scan", "{labels}", "--features", "pixels"], "no file .npy or .parquet"),
        (["scan", "{labels}", "--features", "x", "--encoder", "vit_b_16"], "leave --encoder"),
        (["scan", "{labels}", "--tabular", "--features", "x"], "use one of them"),
        (["scan", "{labels}", "--tabular", "--image-size", "9"], "leave --image-size out"),
        (["scan", "{images}", "{labels}", "--tabular"], "one table"),
        (["scan", "{images}", "{labels}", "--weights", "DEFAULT"], "--encoder"),
        (["scan", "{images}", "{labels}", "--id-column", "path"], "--id-column"),
        (["embed", "nowhere", "--encoder", "resnet18"], "nowhere"),
        (["embed", "{images}", "{labels}", "--encoder", "mlp"], "no network 'mlp'"),
        (
            ["embed", "{images}", "{labels}", "--encoder", "resnet18", "--weights", "w.pth"],
            "does not exist",
        ),
        (["embed", "{images}", "{labels}", "--encoder", "resnet18", "-o", "f.csv"], ".parquet"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments, message, digit_files, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    places = {"images": digit_files / "images", "labels": digit_files / "labels.csv"}
    done = RUNNER.invoke(app, [a.format(**places) for a in arguments])
    assert done.exit_code == 2, done.output
    errors = [line for line in done.output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_verified_labels_and_reviewed_runs_are_taken(digit_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.read_csv(digit_files / "labels.csv", dtype=str)
    right = table["label"] == table["clean"]
    table["done"] = np.where(right & (table.index < 60), "Yes", "")
    table.loc[~right & (table.index < 60), "done"] = "excluded"
    table.to_csv("marked.csv", index=False)
    images, gone = str(digit_files / "images"), int((table["done"] == "excluded").sum())
    scan = ["scan", images, "marked.csv", "--verified-column", "done", "--epochs", "5"]
    done = RUNNER.invoke(app, [*scan, "--device", "cpu", "--out", "one"])
    assert done.exit_code == 0, done.output
    assert f"Found {600 - gone} images" in done.output
    assert f"{60 - gone} labels are verified and taken as right." in done.output
    assert f"{gone} images excluded in the column of verified labels and left out" in done.output
    suspects = labelaudit.read_csv(tmp_path / "one" / "suspects.csv")
    assert not set(suspects["sample_id"]) & set(table.loc[:59, "path"])

    suspects["decision"] = "accept"
    decided = check_corrections(suspects.head(30), "suspects.csv")
    write_corrections(decided, tmp_path / "one" / "corrections.csv")
    again = RUNNER.invoke(app, [*scan, "--device", "cpu", "--out", "two", "--reviewed", "one"])
    assert again.exit_code == 0, again.output
    assert f"{60 - gone + 30} labels are verified and taken as right." in again.output
    assert "Of 30 reviewed labels, 30 were wrong;" in again.output
    nothing = RUNNER.invoke(app, ["scan", images, "marked.csv", "--reviewed", "nowhere"])
    assert nothing.exit_code == 2
    assert "nowhere does not exist" in nothing.output


def test_embed_writes_features_that_scan_reads(digit_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    torch.save(models.resnet18(weights=None).state_dict(), "resnet18.pth")
    images, labels = str(digit_files / "images"), str(digit_files / "labels.csv")
    weights = ["--encoder", "resnet18", "--weights", "resnet18.pth", "--image-size", "32"]
    done = RUNNER.invoke(app, ["embed", images, labels, *weights, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "Features: features.parquet" in done.output
    assert pq.read_metadata("features.parquet").num_rows == 600

    fast = ["--epochs", "2", "--device", "cpu", "--threshold", "top:5"]
    for name, arguments in (
        ("brought", ["--features", "features.parquet"]),
        ("extracted", weights),
    ):
        done = RUNNER.invoke(app, ["scan", images, labels, "--out", name, *arguments, *fast])
        assert done.exit_code == 0, done.output
        assert "UMN on cpu, reading 512 features" in done.output
    brought, extracted = (Path(name, "suspects.csv") for name in ("brought", "extracted"))
    assert brought.read_text() == extracted.read_text()


def test_a_table_is_audited_and_its_columns_are_told(tmp_path, monkeypatch, gaussians):
    monkeypatch.chdir(tmp_path)
    features, noisy, _ = gaussians
    frame = pd.DataFrame(features, columns=[f"x{n}" for n in range(24)])
    frame["note"] = "one text for all"
    frame["y"] = noisy
    frame["key"] = [f"key {row}" for row in range(800)]
    frame = pd.concat([frame, frame.iloc[[0]].assign(y=1 - noisy[0] % 2, key="key again")])
    frame.to_csv("data.csv", index=False)
    options = ["--label-column", "y", "--id-column", "key", "--epochs", "10", "--device", "cpu"]
    done = RUNNER.invoke(app, ["scan", "data.csv", "--tabular", *options])
    assert done.exit_code == 0, done.output
    assert "Found 801 samples" in done.output
    assert "x3: number, standardized" in done.output
    assert "note: left out" in done.output
    assert "1 pair of samples is the same, or nearly, and labeled differently" in done.output
    assert "duplicates.csv" in done.output
    suspects = labelaudit.read_csv(tmp_path / "labelaudit-data" / "suspects.csv")
    assert suspects["sample_id"].str.startswith("key ").all()


@pytest.mark.slow  # .ci/run runs the demo as well
def test_demo_scores_itself_against_the_truth_and_may_be_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = replace(ENCODERS["mlp"], epoch_range=(2, 2))  # the whole demo is CI's
    monkeypatch.setitem(ENCODERS, "mlp", short)
    for _ in range(2):
        done = RUNNER.invoke(app, ["demo"])
        assert done.exit_code == 0, done.output
        assert "Against the truth (359 labels are wrong)" in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["labelaudit-demo-digits"]


def test_demo_replaces_no_other_run(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "labelaudit.json").write_text(
        json.dumps({"labelaudit": "0.1.0", "status": "complete", "files": {}}), encoding="utf-8"
    )
    for more in ([], ["--data", str(tmp_path / "digits")]):
        done = RUNNER.invoke(app, ["demo", "--out", str(tmp_path / "run"), *more])
        assert done.exit_code == 2
        assert "--force" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_python_m_and_version_and_help_do_not_load_torch():
    code = (
        "import sys; from labelaudit.cli import app; app(['--help'], standalone_mode=False);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "scan" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "labelaudit", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("labelaudit ")


def test_a_path_that_does_not_exist_is_told_before_anything_slow_is_imported():
    for command in (["scan", "nowhere"], ["embed", "nowhere", "--encoder", "resnet18"]):
        code = (
            "import sys; from labelaudit.cli import app\n"
            f"try: app({command})\n"
            "except SystemExit as end: assert end.code == 2\n"
            "assert not {'torch', 'pandas', 'numpy'} & set(sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        told = "error: nowhere does not exist; check the path of the source\n"
        assert done.stderr == told


def test_the_reference_page_is_up_to_date():
    path = DOCS / "reference" / "make_cli.py"
    spec = importlib.util.spec_from_file_location("make_cli", path)
    make_cli = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_cli)
    assert make_cli.PAGE.read_text(encoding="utf-8") == make_cli.page(), f"run python {path}"


def test_names_cannot_command_the_terminal():
    shown = plain("\x1b[31mred\x1b[0m [bold]\r\x07é日本 \u202e")
    assert shown.isprintable()
    assert "\\x1b[31mred" in shown
    assert "é日本" in shown
    assert Text.from_markup(shown).plain.endswith("\\u202e")


@pytest.mark.parametrize(
    "command", [["eval"], ["demo"], ["embed", "images", "--encoder", "resnet18"]]
)
def test_commands_for_one_process_refuse_several(command, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "0")
    first = RUNNER.invoke(app, command)
    assert first.exit_code == 2
    assert "start this command without torchrun" in first.stderr.replace("\n", " ")
    monkeypatch.setenv("RANK", "1")
    other = RUNNER.invoke(app, command)
    assert (other.exit_code, other.output) == (0, "")

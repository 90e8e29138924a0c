import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text
from typer.main import get_command
from typer.testing import CliRunner

import labelaudit
from labelaudit.cli import app
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
    assert "Training takes about" in done.output

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
        (["scan", "{images}", "{labels}", "--out", "{images}"], "did not write"),
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


def test_demo_scores_itself_against_the_truth_and_may_be_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("labelaudit.methods.umn.EPOCH_RANGE", (2, 2))  # the whole demo is CI's
    for _ in range(2):
        done = RUNNER.invoke(app, ["demo"])
        assert done.exit_code == 0, done.output
        assert "Against the truth (359 labels are wrong)" in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["labelaudit-demo-digits"]


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


def test_every_command_and_option_is_documented():
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    for name, command in get_command(app).commands.items():
        assert f"## labelaudit {name}" in text
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    assert f"`{option}" in text, f"{name} {option}"


def test_names_cannot_command_the_terminal():
    shown = plain("\x1b[31mred\x1b[0m [bold]\r\x07é日本 \u202e")
    assert shown.isprintable()
    assert "\\x1b[31mred" in shown
    assert "é日本" in shown
    assert Text.from_markup(shown).plain.endswith("\\u202e")

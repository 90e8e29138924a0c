"""The commands after a scan, as they are typed: review, apply, diff, export and report."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import labelaudit
from labelaudit.cli import app
from labelaudit.reporting.blocks import read_block

TOPICS = ("sport", "money", "weather")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """`texts.csv` with every ninth of 180 labels wrong, and a run folder of it."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 180)
    given = np.where(np.arange(180) % 9 == 0, (truth + 1) % 3, truth)
    pd.DataFrame(
        {
            "id": [f"t{i}" for i in range(180)],
            "text": [f"A sentence about {TOPICS[t]}, number {i}." for i, t in enumerate(truth)],
            "label": [TOPICS[g] for g in given],
        }
    ).to_csv(tmp_path / "texts.csv", index=False)
    # Columns in sorted order: money, sport, weather.
    sure = rng.uniform(0.8, 0.96, (180, 1))
    np.save(
        tmp_path / "p.npy",
        np.eye(3)[truth][:, [1, 0, 2]] * (sure - (1 - sure) / 2) + (1 - sure) / 2,
    )
    labelaudit.scan(tmp_path / "texts.csv", pred_probs=tmp_path / "p.npy", out=tmp_path / "run")
    return tmp_path


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def decide(run: Path, number: int) -> None:
    """Accept the first `number` suggestions in suspects.csv, as in a spreadsheet."""
    table = labelaudit.read_csv(run / "suspects.csv")
    table["decision"] = ["accept" if i < number else None for i in range(len(table))]
    table.to_csv(run / "suspects.csv", index=False)


def test_scan_names_the_next_step(texts: Path) -> None:
    done = call(
        "scan", texts / "texts.csv", "--pred-probs", texts / "p.npy", "--out", texts / "two"
    )
    assert done.exit_code == 0
    assert f"labelaudit review {texts / 'two'}" in done.stdout.replace("\n", "")


def test_an_edited_suspects_csv_gives_corrected_labels(texts: Path) -> None:
    decide(texts / "run", 12)
    out = texts / "fixed.csv"
    dry = call("apply", texts / "texts.csv", texts / "run" / "suspects.csv", "-o", out, "--dry-run")
    assert dry.exit_code == 0
    assert "12 labels would be changed" in dry.stdout
    assert not out.exists()
    done = call("apply", texts / "texts.csv", texts / "run" / "suspects.csv", "-o", out)
    assert done.exit_code == 0
    assert "12 labels were changed" in done.stdout
    before, after = pd.read_csv(texts / "texts.csv"), pd.read_csv(out)
    changed = before["label"] != after["label"]
    assert changed.sum() == 12
    assert (after["verified"] == "yes").sum() == 12
    assert (np.arange(180)[changed] % 9 == 0).all()
    again = call("apply", texts / "texts.csv", texts / "run" / "suspects.csv", "-o", out)
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_the_second_audit_trusts_what_was_verified(texts: Path) -> None:
    decide(texts / "run", 12)
    call("apply", texts / "texts.csv", texts / "run" / "suspects.csv", "-o", texts / "fixed.csv")
    done = call(
        "scan", texts / "fixed.csv", "--pred-probs", texts / "p.npy", "--verified-column",
        "verified", "--out", texts / "second",
    )  # fmt: skip
    assert done.exit_code == 0
    first = set(labelaudit.read_csv(texts / "run" / "suspects.csv")["sample_id"][:12])
    second = set(labelaudit.read_csv(texts / "second" / "suspects.csv")["sample_id"])
    assert second
    assert not first & second
    diff = call("diff", texts / "run", texts / "second", "-o", texts / "diff.csv")
    assert diff.exit_code == 0
    assert "12 corrected" in diff.stdout
    assert (labelaudit.read_csv(texts / "diff.csv")["change"] == "corrected").sum() == 12


def test_the_report_is_written_anew_with_what_was_decided(texts: Path) -> None:
    run = texts / "run"
    index = read_block(run, "index")
    suspects, classes = index["suspects"], index["classes"]
    rows = []
    for i, (name, code) in enumerate(zip(suspects["id"], suspects["suggested"], strict=True)):
        decision = "keep" if i % 4 == 0 else "accept"
        label = "" if decision == "keep" else classes[code]
        rows.append(f'"{name}","{decision}","{label}","","",""')
    header = '"sample_id","decision","corrected_label","note","reviewer","reviewed_at"\n'
    (run / "corrections.csv").write_text(header + "\n".join(rows) + "\n")
    before = (run / "report.html").read_text()
    done = call("report", run)
    assert done.exit_code == 0
    page = (run / "report.html").read_text()
    kept = len(range(0, len(rows), 4))
    assert f"Of {len(rows)} reviewed labels, {len(rows) - kept} were wrong" in page
    # What is shown of each suspect stays as it was.
    data = '<script type="application/json" id="data-index">'
    shown = [text.partition(data)[2].partition("</script>")[0] for text in (before, page)]
    assert shown[0] == shown[1] != ""


def test_a_report_of_an_earlier_version_is_written_anew(texts: Path) -> None:
    run = texts / "run"
    for file in (run / "report-data").iterdir():
        file.unlink()
    (run / "report.html").write_text("an earlier page")
    assert call("review", run).exit_code == 2
    assert call("report", run).exit_code == 0
    suspects = labelaudit.read_csv(run / "suspects.csv")
    assert read_block(run, "index")["suspects"]["id"] == suspects["sample_id"].tolist()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("buffered", [True, False])
def test_a_full_disk_behind_standard_output_is_told_in_one_line(
    tmp_path: Path, buffered: bool
) -> None:
    (tmp_path / "labels.csv").write_text("file_name,label\na.png,cat\nb.png,dog\n")
    (tmp_path / "c.csv").write_text("sample_id,decision,corrected_label\na.png,relabel,dog\n")
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "labelaudit", "apply", "labels.csv", "c.csv"],
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    assert "a.png,dog,yes" in (tmp_path / "labels.fixed.csv").read_text()


def test_export_says_what_it_wrote_and_what_it_does_not_know(texts: Path) -> None:
    done = call("export", texts / "run", "--to", "csv")
    assert done.exit_code == 0
    assert Path(done.stdout.strip().splitlines()[-1]).exists()
    wrong = call("export", texts / "run", "--to", "excel")
    assert wrong.exit_code == 2
    assert "label-studio" in wrong.stderr


@pytest.mark.parametrize("command", ["review", "report", "diff", "export"])
def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path: Path, command: str) -> None:
    more = {"diff": [tmp_path], "export": ["--to", "csv"]}.get(command, [])
    done = call(command, tmp_path, *more)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "labelaudit scan" in done.stderr


def test_review_serves_until_ctrl_c_and_says_what_is_next(texts: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "labelaudit", "review", str(texts / "run"), "--no-browser",
         "--reviewer", "Zoë"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that starts tests in the background lets them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", line)
        assert address is not None, line
        first = read_block(texts / "run", "index")["suspects"]["id"][0]
        origin = "/".join(address[0].split("/")[:3])
        body = f'[{{"sample_id": "{first}", "decision": "keep"}}]'.encode()
        headers = {"Content-Type": "application/json", "Origin": origin}
        urlopen(Request(f"{address[0]}decisions", body, headers), timeout=20).read()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "1 decision is in" in out
    assert "labelaudit apply LABELS" in out
    written = labelaudit.read_csv(texts / "run" / "corrections.csv")
    assert written[["sample_id", "decision", "reviewer"]].to_numpy().tolist() == [
        [first, "keep", "Zoë"]
    ]


def test_demo_writes_the_digits_as_files(tmp_path: Path) -> None:
    from labelaudit.benchmark.demo import corrupted_digits, write_digits
    from labelaudit.errors import OutputError

    images, labels = write_digits(tmp_path / "digits", 0.2, 3)
    source = labelaudit.read_source(images, labels, clean_label_column="true_label")
    there = corrupted_digits(0.2, 3)
    assert source.manifest.noisy_labels.tolist() == there.manifest.noisy_labels.tolist()
    assert source.clean_labels is not None
    assert there.clean_labels is not None
    assert source.clean_labels.tolist() == there.clean_labels.tolist()
    with pytest.raises(OutputError, match="not empty"):
        write_digits(tmp_path / "digits", 0.2, 3)

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from labelaudit import OptionError, SourceError, evaluate
from labelaudit.benchmark.datasets import load_dataset
from labelaudit.benchmark.evaluation import (
    choose_methods,
    limited,
    open_dataset,
    run_protocol,
)
from labelaudit.benchmark.noise import Noise, corrupt
from labelaudit.benchmark.score_files import score_file
from labelaudit.benchmark.systems import METHODS
from labelaudit.cli import app
from labelaudit.reporting.tables import read_csv, write_csv

RUNNER = CliRunner()
QUICK = {"epochs": 25, "limit": 300, "device": "cpu"}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return evaluate(
        "digits",
        methods=("umn", "supervised"),
        rates=(0.2, 0.4),
        out=tmp_path_factory.mktemp("eval") / "sweep",
        **QUICK,
    )


def test_methods_side_by_side_on_the_same_corruption(result):
    own = result.results[~result.results["method"].str.contains(":")]
    assert len(own) == 4
    assert set(own["method"]) == {"umn", "supervised"}
    for rate, cell in own.groupby("rate"):
        assert len(set(cell["num_wrong"])) == 1
        assert cell["num_wrong"].iloc[0] == pytest.approx(rate * 300, abs=5)
    assert (own["auroc"] > 0.6).all()
    assert own["test_error"].between(0, 1).all()
    umn = own["method"] == "umn"
    assert own[umn]["trustworthy"].notna().all()
    assert own[~umn]["trustworthy"].isna().all()  # supervised training does not judge itself


def test_what_lies_in_the_folder(result):
    names = {p.relative_to(result.folder).as_posix() for p in result.folder.rglob("*.*")}
    assert {
        "settings.json", "results.csv", "summary.csv", "results.md", "plots/f1_by_rate.png",
        "plots/precision_recall-symmetric-0.2-seed0.png", "scores/symmetric-0.4-seed0-umn.parquet",
        "corruptions/labels-symmetric-0.2-seed0.csv",
    } <= names  # fmt: skip
    results = read_csv(result.folder / "results.csv")
    assert {
        "precision", "recall", "f1", "f1_at_true_count", "auroc", "average_precision", "test_error",
        "seconds", "device", "num_labeled", "num_trusted", "epochs",
    } <= set(results.columns)  # fmt: skip


def test_finished_cells_are_not_run_again(result, monkeypatch):
    monkeypatch.setattr(METHODS["umn"], "audit", None)  # running it would break
    again = evaluate("digits", methods=("umn",), rates=(0.2, 0.4), out=result.folder, **QUICK)
    assert again.failures == []


def test_scores_of_others_are_judged_on_the_same_corruption(result, tmp_path):
    data = limited(load_dataset("digits"), 300)
    noise = Noise("symmetric", 0.4)
    path = result.folder / "scores" / "symmetric-0.4-seed0-umn.parquet"
    metrics = score_file(path, data, noise, seed=0)
    row = result.results.query("method == 'umn' and rate == 0.4").iloc[0]
    for name in ("f1", "auroc", "average_precision", "f1_at_true_count"):
        assert metrics[name] == pytest.approx(row[name])

    corruption = corrupt(data, noise, None, 0)
    truth = pd.DataFrame(
        {"sample_id": data.sample_ids, "suspect_score": corruption.wrong.astype(float)}
    )
    write_csv(truth[::-1], tmp_path / "truth.csv")  # the order of rows does not matter
    metrics = score_file(tmp_path / "truth.csv", data, noise, seed=0)
    assert metrics["auroc"] == metrics["f1_at_true_count"] == 1
    assert metrics["f1"] is None  # nobody said what is flagged
    assert score_file(tmp_path / "truth.csv", data, noise, seed=0, threshold=0.5)["f1"] == 1

    names = np.asarray(data.class_names, dtype=object)[corruption.noisy_labels]
    for written in (names, names.astype(float)):
        write_csv(truth.assign(given_label=written), tmp_path / "given.csv")
        assert score_file(tmp_path / "given.csv", data, noise, seed=0)["auroc"] == 1
    with pytest.raises(SourceError, match=r"given labels .* differ from those of this corruption"):
        score_file(tmp_path / "given.csv", data, noise, seed=1)

    infinite = truth.replace({"suspect_score": {1.0: np.inf}})
    write_csv(infinite, tmp_path / "infinite.csv")
    assert score_file(tmp_path / "infinite.csv", data, noise, seed=0)["auroc"] == 1
    for column, values in (("suspect_score", "high"), ("is_label_issue", "no")):
        truth.assign(**{column: values}).to_parquet(tmp_path / "texts.parquet")
        with pytest.raises(SourceError, match=f"the column {column} of .* does not hold"):
            score_file(tmp_path / "texts.parquet", data, noise, seed=0)

    write_csv(truth[:-1], tmp_path / "short.csv")
    with pytest.raises(SourceError, match="no score for 1 of 300"):
        score_file(tmp_path / "short.csv", data, noise, seed=0)
    write_csv(truth.rename(columns={"suspect_score": "score"}), tmp_path / "named.csv")
    with pytest.raises(SourceError, match="suspect_score"):
        score_file(tmp_path / "named.csv", data, noise, seed=0)


def test_a_protocol_prints_ours_beside_the_papers(tmp_path):
    result, lines = run_protocol(
        "table3",
        dataset=limited(load_dataset("digits"), 400),
        seeds=(0,),
        rates=(0.2,),
        epochs=2,
        out=tmp_path / "p",
        device="cpu",
        limit=None,
    )
    text = "\n".join(lines)
    differs = (
        "(not as in the paper: 2 epochs instead of 350, 1 run instead of 5, 20% wrong labels only,"
        " 400 training images instead of 50,000)"
    )
    assert differs in lines[0]
    assert differs in (tmp_path / "p" / "results.md").read_text(encoding="utf-8")
    assert "0.670" in text
    assert result.results["num_labeled"].eq(100).all()
    assert (tmp_path / "p" / "protocol.md").read_text(encoding="utf-8") == text
    with pytest.raises(OptionError, match="table1-mnist"):
        run_protocol("table9")


def test_an_interrupted_protocol_reports_what_is_finished(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(METHODS["mentornet"], "audit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_protocol(
            "table1-mnist",
            methods=("supervised", "mentornet"),
            dataset=limited(load_dataset("digits"), 100),
            rates=(0.2,),
            epochs=1,
            limit=None,
            out=tmp_path / "p",
            device="cpu",
        )
    table = (tmp_path / "p" / "protocol.md").read_text(encoding="utf-8")
    assert "| supervised | ours, 1 epoch, 1 seed | – | 0." in table
    assert "| mentornet | not run |" in table
    names = {path.name for path in (tmp_path / "p").rglob("*.*")}
    assert {"results.csv", "results.md", "summary.csv", "test_error_by_rate.png"} <= names


def test_options_that_a_protocol_would_ignore_are_refused(tmp_path):
    for option in (["--noise", "pair"], ["--scores", str(tmp_path)]):
        told = RUNNER.invoke(app, ["eval", "--protocol", "table3", *option])
        assert told.exit_code == 2
        assert f"{option[0]} does not go with --protocol" in " ".join(told.output.split())


def test_unknown_names_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(OptionError, match="confident-learning"):
        choose_methods(["co-teaching"], "pixels")
    with pytest.raises(OptionError, match="neither a data set"):
        open_dataset("minst")
    with pytest.raises(OptionError, match="`limit` is 1000000"):
        limited(load_dataset("digits"), 10**6)
    with pytest.raises(OptionError, match="column"):
        evaluate("digits", noise=["column:worker"], out=tmp_path / "s", **QUICK)
    with pytest.raises(OptionError, match=r"'timm:vit'.*labelaudit embed"):
        evaluate("digits", encoder="timm:vit", out=tmp_path / "s", **QUICK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    ["--features f.npy", "--test t", "--label-column y", "--protocol table3 --features f.npy",
     "--scores s.csv --method umn", "--scores s.csv --epochs 3", "--scores s.csv --jobs 2"],
)  # fmt: skip
def test_options_that_would_be_ignored_are_refused(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.csv").touch()
    data = [] if "protocol" in options else ["digits"]
    done = RUNNER.invoke(app, ["eval", *data, *options.split()])
    assert done.exit_code == 2
    assert options.split()[-2] in done.output


def test_data_that_a_known_name_has_already_are_refused(tmp_path):
    for more in (
        {"labels": [0, 1]},
        {"features": np.zeros((2, 2))},
        {"seeds": ()},
        {"seeds": (-1,)},
    ):
        with pytest.raises(OptionError, match=next(iter(more))):
            evaluate("digits", out=tmp_path / "s", **more)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_fails_shows_in_the_exit_code(tmp_path, monkeypatch):
    def fail(self, task):
        raise OptionError("it does not fit")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(METHODS["supervised"], "audit", fail)
    done = RUNNER.invoke(app, ["eval", "--method", "supervised", "--rate", "0.2", "--limit", "60"])
    assert done.exit_code == 1
    assert "it does not fit" in done.output
    assert "results.md" not in done.output


def test_a_known_name_wins_over_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # `labelaudit demo --data digits` leaves such a folder
    (tmp_path / "digits").mkdir()
    assert open_dataset("digits").name == load_dataset("digits").name
    with pytest.raises(SourceError, match="no image"):
        open_dataset("./digits")


def test_any_source_can_be_evaluated_with_a_warning(digit_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.read_csv(digit_files / "labels.csv")
    table["path"] = "images/" + table["path"]
    table.to_csv(digit_files / "clean.csv", index=False)
    done = RUNNER.invoke(
        app,
        ["eval", str(digit_files / "clean.csv"), "--label-column", "clean", "--method",
         "supervised", "--rate", "0.3", "--epochs", "3", "--noise", "pair", "--device", "cpu"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "taken as correct" in done.output
    assert "clean, pair 30%, 600 labeled" in done.output
    assert (tmp_path / "labelaudit-eval-clean" / "results.md").exists()


def test_bad_rates_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for rates in ("a", "0.1,,0.2", "2"):
        done = RUNNER.invoke(app, ["eval", "--rate", rates])
        assert done.exit_code == 2
        assert "rate" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # starts two processes that import torch
def test_cells_side_by_side_give_the_same_numbers(result, tmp_path):
    side = evaluate(
        "digits", methods=("supervised",), rates=(0.2, 0.4), out=tmp_path / "s", jobs=2, **QUICK
    )
    ours = result.results.query("method == 'supervised'").sort_values("rate")
    theirs = side.results.sort_values("rate")
    np.testing.assert_allclose(ours["auroc"], theirs["auroc"], atol=0.02)


@pytest.mark.slow  # starts two processes that import torch
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_killed_sweep_leaves_no_workers_behind(tmp_path):
    code = (
        "from labelaudit import evaluate\n"
        "if __name__ == '__main__':\n"
        "    evaluate('digits', methods=['umn'], rates=[0.2, 0.3], seeds=range(50), jobs=2,"
        f" out={str(tmp_path / 'sweep')!r})\n"
    )
    (tmp_path / "run.py").write_text(code)
    with subprocess.Popen([sys.executable, tmp_path / "run.py"]) as parent:
        workers = wait_for(lambda: [p for p in children(parent.pid) if p[1] > 1.0], 120)
        parent.kill()
    assert len(workers) >= 1
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid, _ in workers), 30)


def wait_for(look, seconds):
    """Give the first true answer, or the last one."""
    end = time.monotonic() + seconds
    while not (answer := look()) and time.monotonic() < end:
        time.sleep(0.2)
    return answer


def children(pid):
    """Give the ids of a process's children, with the seconds of CPU that each has used."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                ticks = int(fields[11]) + int(fields[12])
                found.append((int(stat.parent.name), ticks / os.sysconf("SC_CLK_TCK")))
    return found

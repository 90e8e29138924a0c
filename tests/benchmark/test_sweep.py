import json
import re
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from labelaudit import OptionError, OutputError, evaluate
from labelaudit.benchmark import cells as cells_module
from labelaudit.benchmark import sweep as sweep_module
from labelaudit.benchmark.cells import Cell, resized, run_cell
from labelaudit.benchmark.datasets import Dataset
from labelaudit.benchmark.noise import Noise, corrupt, keep_labels
from labelaudit.benchmark.sweep import Sweep, only_writer, run_sweep
from labelaudit.methods.system import System
from labelaudit.methods.task import AuditResult
from labelaudit.progress import Reporter
from labelaudit.reporting.tables import read_csv

RNG = np.random.default_rng(0)


def make_dataset(n=60, classes=3, **fields) -> Dataset:
    pixels = RNG.integers(0, 256, (n, 1, 4, 4)).astype(np.uint8)
    labels = np.arange(n) % classes
    fields = {
        "name": "toy",
        "inputs": pixels,
        "clean_labels": labels,
        "class_names": tuple("abcdefghij"[:classes]),
        "test_inputs": pixels[:12],
        "test_labels": labels[:12],
        "noise_name": "toy",
        "extra_labels": {},
        "sample_ids": np.array([f"img/{row}.png" for row in range(n)], dtype=object),
        **fields,
    }
    return Dataset(**fields)


class Oracle(System):
    """Knows every third label's truth by its place; counts how often it is asked."""

    asked = 0

    def audit(self, task):
        type(self).asked += 1
        truth = task.labeled % task.num_classes
        wrong = (truth != task.given).astype(float)
        probs = np.eye(task.num_classes)[np.arange(12) % task.num_classes]
        return AuditResult(wrong, wrong > 0.5, 3, probs, {"all": wrong >= 0})


class Broken(System):
    def audit(self, task):
        raise ZeroDivisionError("a bug")


@pytest.fixture(autouse=True)
def systems(monkeypatch):
    Oracle.asked = 0
    fakes = {"umn": Oracle, "aum": Broken}
    monkeypatch.setattr(cells_module, "METHODS", fakes)


def cell(method="umn", rate=0.25, seed=0, **settings) -> Cell:
    return Cell(method, Noise("symmetric", rate), seed, device="cpu", **settings)


def test_kept_labels_are_balanced_and_seeded():
    labels = np.repeat([0, 1, 2], [50, 30, 3])
    kept = keep_labels(labels, 12, 3, seed=1)
    assert np.bincount(kept[kept >= 0]).tolist() in ([5, 4, 3], [4, 5, 3])
    np.testing.assert_array_equal(kept, keep_labels(labels, 12, 3, seed=1))
    assert not np.array_equal(kept, keep_labels(labels, 12, 3, seed=2))
    np.testing.assert_array_equal(keep_labels(labels, None, 3, seed=1), labels)
    with pytest.raises(OptionError, match="num_labeled"):
        keep_labels(labels, 2, 3, seed=1)
    with pytest.raises(OptionError, match="num_labeled"):
        keep_labels(labels, 84, 3, seed=1)


def test_corruption_falls_on_kept_labels_alone():
    dataset = make_dataset()
    corruption = corrupt(dataset, Noise("symmetric", 0.5), 12, seed=0)
    assert len(corruption.labeled) == 12
    assert corruption.wrong.sum() == 6
    given = corruption.noisy_labels[corruption.labeled]
    np.testing.assert_array_equal(
        given != dataset.clean_labels[corruption.labeled], corruption.wrong
    )


def test_labels_given_by_people_are_a_column():
    people = np.array(make_dataset().clean_labels)
    people[:5] = (people[:5] + 1) % 3
    dataset = make_dataset(extra_labels={"worker1": people})
    corruption = corrupt(dataset, Noise("column:worker1", None), None, seed=0)
    assert corruption.wrong.sum() == 5
    with pytest.raises(OptionError, match="worker1"):
        corrupt(dataset, Noise("column:worker2", None), None, seed=0)


def test_noise_is_parsed():
    assert Noise.parse("pair", [0.1, 0.2]) == [Noise("pair", 0.1), Noise("pair", 0.2)]
    assert Noise.parse("matrix:t.csv", [0.1, 0.2]) == [Noise("matrix:t.csv", None)]
    for kind in ("uniform", "matrix", "column:"):
        with pytest.raises(OptionError, match="symmetric"):
            Noise.parse(kind, [0.1])
    with pytest.raises(OptionError, match="rate"):
        Noise.parse("pair", [1.5])


def test_a_cell_is_scored_against_the_truth():
    result = run_cell(cell(), make_dataset())
    own, variant = result.rows
    assert own["method"] == "umn"
    assert own["f1"] == own["auroc"] == own["f1_at_true_count"] == 1.0
    assert own["test_error"] == 0.0
    assert own["num_wrong"] == 15
    assert variant["method"] == "umn: all"
    assert variant["precision"] == pytest.approx(15 / 60)
    assert result.scores["is_wrong"].sum() == 15
    assert result.scores["sample_id"][0] == "img/0.png"


@pytest.mark.parametrize("trust", [True, False, None])
def test_whether_a_system_trusts_its_result_is_kept(trust, monkeypatch, tmp_path):
    audit, heard = Oracle.audit, []
    monkeypatch.setattr(
        Oracle, "audit", lambda self, task: replace(audit(self, task), trustworthy=trust)
    )
    reporter = Reporter()
    monkeypatch.setattr(reporter, "say", heard.append)
    sweep = Sweep(tmp_path / "sweep", {})
    run_sweep(sweep, [cell()], make_dataset(), reporter=reporter)
    assert sweep.results["trustworthy"].tolist() == [trust] * 2
    assert ("does not trust this result" in " ".join(heard)) == (trust is False)


def test_a_sweep_keeps_finished_cells_and_reports_broken_ones(tmp_path):
    dataset = make_dataset()
    wanted = [cell(method, rate, seed) for seed in (0, 1) for rate in (0.1, 0.25)
              for method in ("umn", "aum")]  # fmt: skip
    sweep = Sweep(tmp_path / "s", {"dataset": "toy"})
    failures = run_sweep(sweep, wanted[:4], dataset)
    assert Oracle.asked == 2
    assert [c.method for c, _ in failures] == ["aum", "aum"]
    assert "ZeroDivisionError: a bug" in failures[0][1]
    assert len(read_csv(tmp_path / "s" / "failures.csv")) == 2

    again = Sweep(tmp_path / "s", {"dataset": "toy"})
    failures = run_sweep(again, wanted, dataset)
    assert Oracle.asked == 4  # the first two were kept
    assert len(failures) == 4  # broken ones are tried again
    results = read_csv(tmp_path / "s" / "results.csv")
    own = results[results["method"] == "umn"]
    assert sorted(zip(own["rate"], own["seed"], strict=True)) == [
        (0.1, 0), (0.1, 1), (0.25, 0), (0.25, 1),
    ]  # fmt: skip
    corruptions = sorted(p.name for p in (tmp_path / "s" / "corruptions").iterdir())
    assert len(corruptions) == 8
    matrix = read_csv(tmp_path / "s" / "corruptions" / "matrix-symmetric-0.25-seed1.csv")
    np.testing.assert_allclose(matrix[["to a", "to b", "to c"]].sum(axis=1), 1)
    labels = read_csv(tmp_path / "s" / "corruptions" / "labels-symmetric-0.25-seed1.csv")
    assert (labels["given_label"] != labels["clean_label"]).sum() == 15
    scores = pd.read_parquet(tmp_path / "s" / "scores" / "symmetric-0.25-seed1-umn.parquet")
    assert len(scores) == 60


def test_other_data_of_the_same_name_are_refused(tmp_path):
    def run(data, **settings):
        return evaluate(data, methods=["umn"], rates=[0.25], out=tmp_path / "s", **settings)

    data = make_dataset()
    run(data)
    run(replace(data, extra_labels={"annotator": data.clean_labels}))  # more kinds of noise
    others = (
        {"inputs": data.inputs + 1},
        {"clean_labels": 2 - data.clean_labels},
        {"test_labels": 2 - data.clean_labels[:12]},
        {"test_inputs": None, "test_labels": None},
        {"sample_ids": data.sample_ids[::-1]},
        {"class_names": ("a", "b", "z")},
    )
    for changed in others:
        with pytest.raises(OutputError, match="other data of the same name"):
            run(replace(data, **changed))
    settings = tmp_path / "s" / "settings.json"
    known = json.loads(settings.read_text())
    del known["data_sha256"]  # as in a sweep from before it was recorded
    settings.write_text(json.dumps(known))
    run(data)
    assert Oracle.asked == 1


def test_other_labels_under_the_name_of_a_noise_are_refused(tmp_path):
    def run(data, *noise):
        return evaluate(data, methods=["umn"], noise=noise, rates=[0.25], out=tmp_path / "s")

    matrix = tmp_path / "T.csv"
    matrix.write_text("0.9,0.1,0\n0,0.9,0.1\n0.1,0,0.9\n")
    data = make_dataset(extra_labels={"bob": make_dataset().clean_labels})
    run(data, f"matrix:{matrix}")
    run(data, f"matrix:{matrix}", "column:bob")
    assert Oracle.asked == 2
    matrix.write_text("0.6,0.4,0\n0,0.6,0.4\n0.4,0,0.6\n")
    with pytest.raises(OutputError, match=r"other labels of matrix:.*T\.csv; choose another"):
        run(data, f"matrix:{matrix}")
    run(data, "symmetric")  # another kind goes on
    changed = replace(data, extra_labels={"bob": 2 - data.clean_labels})
    with pytest.raises(OutputError, match="other labels of column:bob"):
        run(changed, "column:bob")


@pytest.mark.parametrize("text", ["", '{"dataset": "to', "[1]", '{"noise_sha256": 3}'])
def test_damaged_settings_are_one_line(text, tmp_path):
    evaluate(make_dataset(), methods=["umn"], rates=[0.25], out=tmp_path / "s")
    (tmp_path / "s" / "settings.json").write_text(text)
    with pytest.raises(OutputError, match=r"settings\.json is damaged; choose another folder"):
        evaluate(make_dataset(), methods=["umn"], rates=[0.25], out=tmp_path / "s")


def test_what_is_asked_for_twice_runs_and_counts_once(tmp_path):
    found = evaluate(
        make_dataset(),
        methods=["umn", "umn"],
        noise=["symmetric", "symmetric"],
        rates=[0.25, 0.25],
        seeds=[0, 0],
        out=tmp_path / "s",
    )
    assert Oracle.asked == 1
    assert (found.summary["seeds"] == 1).all()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_warning_of_systems_is_shown_once(jobs, monkeypatch, tmp_path, lines):
    audit = Oracle.audit

    def warning(self, task):
        task.reporter.warn("training diverged")
        return audit(self, task)

    monkeypatch.setattr(sweep_module, "ProcessPoolExecutor", BreakingPool)
    monkeypatch.setattr(BreakingPool, "deadly", set())
    monkeypatch.setattr(Oracle, "audit", warning)
    sweep = Sweep(tmp_path / "sweep", {})
    run_sweep(sweep, [cell(), cell(seed=1)], make_dataset(), jobs=jobs, reporter=lines)
    (warned,) = lines.warned
    assert re.fullmatch(r"umn, symmetric 0.25, seed [01]: training diverged", warned)


def test_one_process_at_a_time_writes_to_a_sweep(tmp_path):
    folder = tmp_path / "new" / "s"
    with only_writer(folder):
        with pytest.raises(OutputError, match="another labelaudit is writing"):
            evaluate(make_dataset(), methods=["umn"], rates=[0.25], out=folder)
        assert not folder.exists()
    evaluate(make_dataset(), methods=["umn"], rates=[0.25], out=folder)
    assert [path.name for path in folder.parent.iterdir()] == ["s"]


class BreakingPool:
    """Runs what is submitted at once; breaks where real processes would die."""

    deadly: ClassVar[set[int]] = set()
    made = 0

    def __init__(self, *_, initargs, **__):
        sweep_module._worker.update(dataset=initargs[0], curves=initargs[1])
        self.broken = False
        type(self).made += 1

    def submit(self, work, cell, *others):
        future = Future()
        self.broken = self.broken or cell.seed in self.deadly
        if self.broken:
            future.set_exception(BrokenProcessPool("a process ended"))
        else:
            future.set_result(work(cell, *others))
        return future

    def shutdown(self, **_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize(
    ("deadly", "failed", "rounds"),
    [({2}, {2, 3}, 2), ({0, 5}, {0, 1, 5}, 2), (set(range(6)), set(range(6)), 2)],
)
def test_cells_beside_one_that_kills_its_process_are_run(
    deadly, failed, rounds, tmp_path, monkeypatch
):
    monkeypatch.setattr(sweep_module, "ProcessPoolExecutor", BreakingPool)
    monkeypatch.setattr(BreakingPool, "deadly", deadly)
    monkeypatch.setattr(BreakingPool, "made", 0)
    sweep = Sweep(tmp_path / "s", {})
    cells = [cell(seed=seed) for seed in range(6)]
    failures = run_sweep(sweep, cells, make_dataset(), jobs=2)
    # Either of two cells may have been in the process that died.
    assert {one.seed for one, _ in failures} == failed
    assert all("a process died" in reason and "ended" in reason for _, reason in failures)
    assert set(sweep.results["seed"]) == set(range(6)) - failed
    assert BreakingPool.made == rounds  # if no process can work, that is noticed soon


def test_a_folder_with_other_settings_or_other_files_is_refused(tmp_path):
    Sweep(tmp_path / "s", {"dataset": "toy", "epochs": None}).start()
    with pytest.raises(OutputError, match=r"other settings \(epochs\)"):
        Sweep(tmp_path / "s", {"dataset": "toy", "epochs": 5})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    with pytest.raises(OutputError, match="holds no sweep"):
        Sweep(tmp_path / "mine", {"dataset": "toy"})
    assert json.loads((tmp_path / "s" / "settings.json").read_text())["epochs"] is None


def test_systems_that_need_it_are_given_a_trusted_set_and_others_are_not(monkeypatch):
    seen = {}

    class Curious(System):
        def audit(self, task):
            seen["trusted"] = task.trusted
            return Oracle().audit(task)

    class Needy(Curious):
        needs_trusted = True

    monkeypatch.setattr(cells_module, "METHODS", {"reweight": Needy, "umn": Curious})
    dataset = make_dataset()
    run_cell(cell("umn"), dataset)
    assert seen["trusted"] is None
    run_cell(cell("reweight"), dataset)
    rows, labels = seen["trusted"]
    np.testing.assert_array_equal(labels, dataset.clean_labels[rows])
    assert np.bincount(labels, minlength=3).tolist() == [1, 1, 1]


def test_images_are_resized_to_what_the_encoder_reads():
    pixels = np.zeros((2, 1, 8, 8), np.uint8)
    pixels[1] = 200
    small = resized(pixels, (1, 4, 4))
    assert small.shape == (2, 1, 4, 4)
    assert small[0].max() == 0
    assert small[1].min() == 200
    assert resized(pixels, (1, 8, 8)) is pixels

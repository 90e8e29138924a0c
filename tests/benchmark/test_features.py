"""Evaluations of features: the same numbers as by hand, from files and arrays."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import labelaudit
from labelaudit import OptionError, SourceError, evaluate
from labelaudit.benchmark.cells import Cell, run_cell
from labelaudit.benchmark.datasets import dataset_from_source
from labelaudit.benchmark.evaluation import choose_methods, open_dataset
from labelaudit.benchmark.noise import Noise, corrupt
from labelaudit.benchmark.systems import METHODS
from labelaudit.cli import app
from labelaudit.methods.confident_learning import confident_learning
from labelaudit.suspects.metrics import detection_metrics

NOISE = Noise("symmetric", 0.2)
READERS = {name for name, system in METHODS.items() if "features" in system.reads}


@pytest.fixture(scope="module")
def data(gaussians):
    features, _, clean = gaussians
    return dataset_from_source(features, labels=clean)


@pytest.fixture
def table(gaussians, tmp_path):
    """800 rows with a list of features, their right labels, and in which split they are."""
    features, noisy, clean = gaussians
    frame = pd.DataFrame(
        {
            "id": [f"row {row}" for row in range(800)],
            "label": np.array(list("abcd"))[clean],
            "worker": np.array(list("abcd"))[noisy],
            "embedding": list(features),
            "split": np.where(np.arange(800) < 600, "train", "test"),
        }
    )
    frame.to_parquet(tmp_path / "embeddings.parquet")
    frame[["id", "label", "split"]].to_csv(tmp_path / "labels.csv", index=False)
    np.save(tmp_path / "features.npy", features)
    return tmp_path


def cell(method: str, seed: int = 3, **settings) -> Cell:
    return Cell(method, NOISE, seed, device="cpu", **settings)


def test_umn_is_the_scan_that_users_run(data, gaussians):
    features, _, clean = gaussians
    corruption = corrupt(data, NOISE, None, 3)
    scanned = labelaudit.scan(features, corruption.noisy_labels, seed=3, device="cpu", epochs=3)
    row = run_cell(cell("umn", epochs=3), data).rows[0]
    by_hand = detection_metrics(
        -scanned.samples["rank"].to_numpy(dtype=float),
        scanned.samples["is_label_issue"].to_numpy(dtype=bool),
        corruption.noisy_labels != clean,
    )
    assert {name: row[name] for name in by_hand} == by_hand
    assert row["expected_wrong"] == scanned.summary["expected_wrong"]
    assert row["encoder"] == "features"


@pytest.mark.parametrize(
    ("method", "strength"), [("linear-probe", 0.01), ("linear-probe-strong", 0.001)]
)
def test_a_linear_probe_is_five_folds_of_scikit_learn_and_cleanlab(data, method, strength):
    pytest.importorskip("cleanlab")
    corruption = corrupt(data, NOISE, None, 3)
    given = corruption.noisy_labels
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
    probs = cross_val_predict(probe, data.inputs[:, :, 0, 0], given, cv=5, method="predict_proba")
    scores, _, variants = confident_learning(probs, given)
    best = run_cell(cell(method), data).rows[-1]
    assert best["method"] == f"{method} (best filter)"
    assert best["f1"] == max(f1_score(corruption.wrong, mask) for mask in variants.values())
    assert best["auroc"] == detection_metrics(scores, variants["both"], corruption.wrong)["auroc"]


@pytest.mark.parametrize("method", sorted(READERS - {"umn", "linear-probe", "linear-probe-strong"}))
def test_every_reader_of_features_runs_and_predicts_a_test_set(method, data, table):
    if method == "confident-learning":
        pytest.importorskip("cleanlab")
    split = open_dataset(table / "embeddings.parquet", test="test")
    row = run_cell(cell(method, epochs=5, num_labeled=200), split).rows[0]
    assert row["auroc"] > 0.7
    assert row["test_error"] < 0.4
    assert row["num_labeled"] == 200


def test_tables_files_and_arrays_are_the_same_data_set(data, table, gaussians, lines):
    column = open_dataset(table / "embeddings.parquet", test="test", noise=["column:worker"])
    file = open_dataset(
        table / "labels.csv", features=table / "features.npy", test="test", reporter=lines
    )
    for one in (column, file):
        assert one.kind == "features"
        assert one.class_names == ("a", "b", "c", "d")
        np.testing.assert_array_equal(one.inputs, data.inputs[:600])
        np.testing.assert_array_equal(one.test_inputs, data.inputs[600:])
        np.testing.assert_array_equal(one.test_labels, gaussians[2][600:])
    assert any("taken as correct" in line for line in lines.warned)
    np.testing.assert_array_equal(column.extra_labels["worker"], gaussians[1][:600])
    assert column.sample_ids[0] == "row 0"
    for kind in ("instance", "pair"):
        wrong = corrupt(data, Noise(kind, 0.3), None, 0).wrong
        assert wrong.mean() == pytest.approx(0.3, abs=0.05)


def test_evaluate_reads_arrays_and_tables(table, gaussians, tmp_path):
    features, _, clean = gaussians
    few = {"methods": ["neighbors-vote"], "rates": [0.2], "device": "cpu"}
    array = evaluate(features[:600], clean[:600], out=tmp_path / "array", **few)
    source = labelaudit.source_from_arrays(None, clean[:600])
    joined = evaluate(source, features=features[:600], out=tmp_path / "source", **few)
    done = CliRunner().invoke(
        app,
        ["eval", str(table / "embeddings.parquet"), "--method", "neighbors-vote", "--rate", "0.2",
         "--out", str(tmp_path / "file")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    table_results = labelaudit.read_csv(tmp_path / "file" / "results.csv")
    assert array.results["f1"][0] == joined.results["f1"][0] == table_results["f1"][0] > 0.5


def test_methods_that_cannot_read_a_data_set_are_refused_or_left_out(data, lines, tmp_path):
    pytest.importorskip("cleanlab")
    with pytest.raises(OptionError, match=r"'supervised-resnet101' .* reads pixels") as caught:
        evaluate(data, methods=["supervised-resnet101"], out=tmp_path / "s")
    assert "\n" not in str(caught.value)
    with pytest.raises(OptionError, match=r"neighbors-vote.* reads features"):
        choose_methods(["neighbors-vote"], "pixels")
    assert set(choose_methods(["all"], "features", lines)) == READERS
    assert lines.warned == [
        "supervised-resnet101 is left out: it reads pixels, and the data set holds features"
    ]
    assert "neighbors-vote" not in choose_methods(["all"], "pixels")
    assert not {"mentornet", "reweight"} & set(choose_methods([], "features"))


def test_settings_of_images_are_refused(data, table, tmp_path):
    with pytest.raises(OptionError, match="'mlp' reads images"):
        evaluate(data, encoder="mlp", out=tmp_path / "s")
    with pytest.raises(OptionError, match="flip mirrors images"):
        evaluate(data, flip=True, out=tmp_path / "s")
    narrow = pd.read_parquet(table / "embeddings.parquet")
    narrow["embedding"] = [row[:5] for row in narrow["embedding"]]
    narrow.to_parquet(table / "narrow.parquet")
    with pytest.raises(SourceError, match="24 features per sample and the test set 5"):
        open_dataset(table / "embeddings.parquet", test=str(table / "narrow.parquet"))

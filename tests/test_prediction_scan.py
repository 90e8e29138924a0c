import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy.special import softmax
from typer.testing import CliRunner

import labelaudit
from labelaudit import OptionError, SourceError, UntrustedResultWarning
from labelaudit.cli import app
from labelaudit.reporting.blocks import read_block

NAMES = ["ant", "bee", "cat"]


@pytest.fixture
def files(tmp_path):
    """A table of labels, of which 40 of 400 are wrong, and predictions in every format."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 3, 400)
    probs = softmax(4 * np.eye(3)[right] + rng.normal(size=(400, 3)), axis=1)
    given = right.copy()
    given[:40] = (right[:40] + 1) % 3
    ids = [f"0{i}" for i in range(400)]
    names = np.array(NAMES)
    pd.DataFrame(
        {"sample_id": ids, "label": names[given], "truth": names[right], "text": "hello"}
    ).to_csv(tmp_path / "labels.csv", index=False)
    table = pd.DataFrame(probs, columns=NAMES)[["cat", "ant", "bee"]]
    table.insert(0, "sample_id", ids)
    shuffled = table.sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "p.parquet", index=False)
    shuffled.to_csv(tmp_path / "p.csv", index=False)
    shuffled.to_csv(tmp_path / "p.tsv", index=False, sep="\t")
    np.save(tmp_path / "p.npy", probs.astype(np.float32))
    return tmp_path


def audit(files, name, **options):
    return labelaudit.scan(files / "labels.csv", pred_probs=files / name, **options)


def test_probabilities_that_look_like_whole_numbers_at_first_are_read(files, monkeypatch):
    probs = np.load(files / "p.npy").astype(np.float64)
    probs /= probs.sum(axis=1, keepdims=True)
    probs[:200] = np.eye(3)[probs[:200].argmax(axis=1)]
    np.save(files / "whole.npy", probs)
    lines = [f"0{i},{','.join(f'{value:.17g}' for value in row)}" for i, row in enumerate(probs)]
    (files / "whole.csv").write_text("\n".join(["sample_id,ant,bee,cat", *lines]) + "\n")
    monkeypatch.setattr("labelaudit.sources.prediction_files.CSV_BLOCK", 1000)
    by_row, by_id = (audit(files, name).samples for name in ("whole.npy", "whole.csv"))
    pd.testing.assert_series_equal(by_id["suspect_score"], by_row["suspect_score"])


def test_every_format_gives_the_same_and_agrees_with_find_label_issues(files) -> None:
    results = {name: audit(files, name) for name in ("p.npy", "p.parquet", "p.csv", "p.tsv")}
    labels = pd.read_csv(files / "labels.csv", dtype=str)["label"]
    issues = labelaudit.find_label_issues(labels, np.load(files / "p.npy"))
    for result in results.values():
        np.testing.assert_allclose(
            result.samples["suspect_score"], issues["suspect_score"], atol=1e-5
        )
        assert result.samples["sample_id"].iloc[7] == "07"
        assert result.samples["given_label"].tolist() == labels.tolist()
    assert 30 < results["p.npy"].summary["num_suspects"] < 55
    assert results["p.npy"].history is None


def test_the_run_folder_is_whole(files) -> None:
    run = files / "run"
    result = audit(files, "p.csv", out=run, clean_label_column="truth")
    assert {path.name for path in run.iterdir()} == {
        "labelaudit.json", "plots", "report.html", "report-data", "samples.parquet", "suspects.csv",
        "summary.json",
    }  # fmt: skip
    assert {path.name for path in (run / "plots").iterdir()} == {
        "class_pairs.png", "precision_recall.png", "review.png",
    }  # fmt: skip
    summary = json.loads((run / "summary.json").read_text())
    assert summary == result.summary
    assert summary["metrics"]["f1"] > 0.85
    assert summary["status"] == "complete"
    assert "2.25" in summary["score"]["assumption"]
    suspects = labelaudit.read_csv(run / "suspects.csv")
    pd.testing.assert_frame_equal(suspects, result.suspects, check_dtype=False)
    assert suspects["trusted"].all()
    page = (run / "report.html").read_text()
    assert "hello" in page  # the text of a sample
    assert "epsilon" not in suspects  # nothing was trained
    assert read_block(run, "chunk-00001")["suspects"][0]["epsilon"] is None
    with pytest.raises(labelaudit.OutputError, match="`force=True`"):
        audit(files, "p.csv", out=run)
    audit(files, "p.csv", out=run, force=True)


def test_features_bring_neighbors_and_duplicates(files) -> None:
    rng = np.random.default_rng(1)
    labels = pd.read_csv(files / "labels.csv", dtype=str)
    right = labels["truth"].map({name: i for i, name in enumerate(NAMES)}).to_numpy()
    features = (4 * np.eye(3)[right] + rng.normal(size=(400, 3))).astype(np.float32)
    features[1] = features[0]
    first = labels["label"].iloc[0]
    labels.loc[1, "label"] = NAMES[(NAMES.index(first) + 1) % 3]
    labels.to_csv(files / "labels.csv", index=False)
    np.save(files / "f.npy", features)
    result = audit(files, "p.npy", features=files / "f.npy", out=files / "run")
    assert {"00", "01"} == set(result.duplicates.iloc[0][["sample_id_a", "sample_id_b"]])
    assert 'class="near"' in (files / "run" / "report.html").read_text()


def test_several_models_and_classes_that_no_label_names(files) -> None:
    table = pd.read_parquet(files / "p.parquet")
    table["owl"] = 0.1
    table[NAMES] *= 0.9
    table.to_parquet(files / "four.parquet", index=False)
    second = table[["sample_id", "owl", *NAMES]].sample(frac=1, random_state=1)
    second.to_csv(files / "four.csv", index=False)
    result = labelaudit.scan(
        files / "labels.csv", pred_probs=[files / "four.parquet", files / "four.csv"]
    )
    assert result.summary["class_names"] == [*NAMES, "owl"]
    assert result.pred_probs.shape == (400, 4)
    with pytest.raises(SourceError, match="different classes"):
        labelaudit.scan(files / "labels.csv", pred_probs=[files / "four.parquet", files / "p.csv"])


def write(files, change):
    table = pd.read_csv(files / "p.csv", dtype={"sample_id": str})
    change(table).to_csv(files / "bad.csv", index=False)
    return "bad.csv"


BAD = {
    "missing class": (lambda t: t.rename(columns={"bee": "wasp"}), '"bee"'),
    "semicolons": (lambda t: t.rename(columns={"cat": "a;b"})[["a;b"]], "semicolons"),
    "no rows": (lambda t: t.iloc[:0], "no rows below its header"),
    "missing rows": (lambda t: t.iloc[5:], "5 of 400 samples have no predictions"),
    "twice": (lambda t: pd.concat([t, t.iloc[:1]]), "repeat"),
    "other ids": (lambda t: t.assign(sample_id="x" + t["sample_id"]), "400 of 400 samples"),
    "text": (lambda t: t.assign(note="a"), '"note" .* not numbers'),
    "sums": (lambda t: t.assign(bee=0.5), "sums to"),
    "one column": (lambda t: t[["sample_id", "ant"]], "one column per class"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_files_that_cannot_be_used_are_refused_and_nothing_is_written(files, case) -> None:
    change, words = BAD[case]
    name = write(files, change)
    with pytest.raises(SourceError, match=words):
        audit(files, name, out=files / "run")
    assert not (files / "run").exists()


def test_arrays_must_fit_the_table(files) -> None:
    probs = np.load(files / "p.npy")
    for bad, words in (
        (probs[:30], "30 rows and there are 400 labels"),
        (probs[:, :2], "2 columns and the labels name 3 classes"),
        (probs[0], "shape"),
    ):
        np.save(files / "bad.npy", bad)
        with pytest.raises(SourceError, match=words):
            audit(files, "bad.npy")
    (files / "bad.npy").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(SourceError, match="file of numbers"):
        audit(files, "bad.npy")
    with pytest.raises(SourceError, match="does not exist"):
        audit(files, "nowhere.npy")
    with pytest.raises(SourceError, match="write the predictions as one"):
        audit(files, "labels.txt")


@pytest.mark.parametrize("option", [{"epochs": 3}, {"encoder": "mlp"}, {"score": "epsilon"}])
def test_options_of_training_are_refused(files, option) -> None:
    with pytest.raises(OptionError, match=f"`{next(iter(option))}`"):
        audit(files, "p.npy", **option)


def test_the_terminal_says_what_was_found_and_assumed(files) -> None:
    run = CliRunner().invoke(
        app,
        ["scan", str(files / "labels.csv"), "--pred-probs", str(files / "p.csv"),
         "--out", str(files / "run")],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    told = " ".join(run.output.split())
    assert "look wrong" in told
    assert "2.25 times" in told
    assert "name a class that the sample resembles" in told
    assert "labelaudit review" in told
    bad = CliRunner().invoke(
        app, ["scan", str(files / "labels.csv"), "--pred-probs", str(files / "no.csv")]
    )
    assert bad.exit_code == 2


def test_what_cannot_be_trusted_says_so_everywhere(files) -> None:
    table = pd.read_csv(files / "labels.csv", dtype=str)
    table["label"] = table["label"].sample(frac=1, random_state=0).to_numpy()
    table.to_csv(files / "labels.csv", index=False)
    with pytest.warns(UntrustedResultWarning, match="do not trust"):
        result = audit(files, "p.npy", out=files / "run")
    assert "DO NOT TRUST" in repr(result)
    assert not labelaudit.read_csv(files / "run" / "suspects.csv")["trusted"].any()
    assert "Do not trust this report" in (files / "run" / "report.html").read_text()
    run = CliRunner().invoke(
        app,
        ["scan", str(files / "labels.csv"), "--pred-probs", str(files / "p.npy"), "--force",
         "--out", str(files / "run")],
    )  # fmt: skip
    assert "Do not trust" in run.output
    assert "labelaudit review" not in run.output
    assert "look wrong" not in run.output


def test_an_index_that_pandas_wrote_is_no_class(files) -> None:
    table = pd.read_parquet(files / "p.parquet")
    table.to_parquet(files / "index.parquet")
    table.to_csv(files / "index.csv")
    table.set_index("sample_id").to_parquet(files / "ids.parquet")
    expected = audit(files, "p.npy").samples["suspect_score"]
    for name in ("index.parquet", "index.csv", "ids.parquet"):
        got = audit(files, name).samples["suspect_score"]
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_images_are_sorted_so_that_rows_cannot_belong_to_them(files) -> None:
    from PIL import Image

    names = [f"{i}.png" for i in range(6)]
    for name in names:
        Image.new("L", (8, 8)).save(files / name)
    table = pd.DataFrame({"path": names[::-1], "label": ["a", "b"] * 3})
    table.to_csv(files / "few.csv", index=False)
    np.save(files / "few.npy", np.full((6, 2), 0.5))
    with pytest.raises(SourceError, match="sorted by path"):
        labelaudit.scan(files, files / "few.csv", pred_probs=files / "few.npy")


def test_repeated_ids_are_not_replaced_by_row_numbers(files) -> None:
    table = pd.read_csv(files / "labels.csv", dtype=str)
    table.loc[1, "sample_id"] = table.loc[0, "sample_id"]
    table.to_csv(files / "labels.csv", index=False)
    with pytest.raises(SourceError, match="repeat"):
        audit(files, "p.csv")
    assert audit(files, "p.npy").summary["num_labeled"] == 400


def test_predictions_must_be_as_many_as_the_tables_rows_also_with_splits(files) -> None:
    table = pd.read_csv(files / "labels.csv", dtype=str)
    table["split"] = np.where(np.arange(400) < 300, "train", "test")
    table.to_csv(files / "labels.csv", index=False)
    result = audit(files, "p.npy", split="train")
    assert result.summary["num_samples"] == 300
    np.save(files / "part.npy", np.load(files / "p.npy")[:300])
    with pytest.raises(SourceError, match="300 rows and there are 400 labels"):
        audit(files, "part.npy", split="train")


def test_what_is_no_prediction_is_refused(files) -> None:
    for wrong in ([], [1, 2], [["a", "b"]] * 400, pd.DataFrame({n: ["x"] * 400 for n in NAMES})):
        with pytest.raises(SourceError, match=r"give \(N, C\)|numbers") as raised:
            labelaudit.scan(files / "labels.csv", pred_probs=wrong)
        assert "\n" not in str(raised.value)


def test_predictions_in_memory_may_have_any_form(files) -> None:
    file, probs = files / "p.npy", np.load(files / "p.npy")
    frame = pd.DataFrame(probs, columns=NAMES)
    tensor = torch.from_numpy(probs)
    one = (
        tensor,
        probs.tolist(),
        frame[["cat", "ant", "bee"]],
        pd.DataFrame(probs),
        pa.table(frame),
    )
    two = ([tensor, tensor], np.stack([probs, probs]), [file, probs])
    for forms, right in ((one, [file]), (two, [file, file])):
        samples = labelaudit.scan(files / "labels.csv", pred_probs=right).samples
        for given in forms:
            found = labelaudit.scan(files / "labels.csv", pred_probs=given).samples
            pd.testing.assert_frame_equal(found, samples, atol=1e-5)
    with_another = labelaudit.scan(files / "labels.csv", pred_probs=frame.assign(dog=0.0))
    assert with_another.pred_probs.shape == (400, 4)


def test_a_data_frame_must_have_the_classes_and_the_index_of_the_labels(files) -> None:
    labels = pd.read_csv(files / "labels.csv")["label"]
    frame = pd.DataFrame(np.load(files / "p.npy"), columns=NAMES)
    pixels = np.zeros((400, 8, 8), np.uint8)
    for wrong, words in (
        (
            frame.rename(columns={"bee": "fly"}),
            "1 of the labels' classes have no column in the data",
        ),
        (
            frame.set_axis(["ant", "bee", "bee"], axis=1),
            "columns of the data frame of predictions repeat",
        ),
        (frame[::-1], "labels have another index than pred_probs"),
        ([frame, frame.assign(dog=0.0)], r'pred_probs\[1\] predict different classes: "dog"'),
    ):
        with pytest.raises(SourceError, match=words):
            labelaudit.scan(pixels, labels, pred_probs=wrong)


def test_columns_without_names_are_said_to_be_taken_for_the_classes_in_their_order(files) -> None:
    numbers = pd.read_csv(files / "labels.csv", dtype=str)
    numbers["label"] = numbers["label"].map({name: str(i) for i, name in enumerate(NAMES)})
    numbers.to_csv(files / "numbers.csv", index=False)
    plain = np.load(files / "p.npy")
    for source, probs, warned in (
        ("labels.csv", plain, True),
        ("labels.csv", pd.DataFrame(plain), True),
        ("labels.csv", pd.DataFrame(plain, columns=NAMES), False),
        ("labels.csv", files / "p.csv", False),
        ("numbers.csv", plain, False),
    ):
        warnings = labelaudit.scan(files / source, pred_probs=probs).summary["warnings"]
        order = [line for line in warnings if '"ant", "bee", "cat"' in line]
        assert bool(order) == warned, (source, type(probs))


def test_a_column_of_verified_labels_is_taken_and_rows_stay_with_their_predictions(
    files, lines
) -> None:
    table = pd.read_csv(files / "labels.csv", dtype=str)
    table["done"] = np.where(np.arange(400) < 20, "yes", "")
    table.loc[30:34, "done"] = "excluded"
    table.to_csv(files / "labels.csv", index=False)
    plain = audit(files, "p.npy")
    results = [
        audit(files, name, verified_column="done", out=files / name[2:], reporter=lines)
        for name in ("p.npy", "p.parquet")
    ]
    kept = plain.samples["sample_id"].isin(results[0].samples["sample_id"])
    assert np.flatnonzero(~kept).tolist() == [30, 31, 32, 33, 34]
    for result in results:
        assert (result.summary["num_verified"], result.summary["num_excluded"]) == (20, 5)
        assert not result.samples["is_label_issue"][:20].any()
        np.testing.assert_allclose(
            result.samples["predicted_prob"], plain.samples.loc[kept, "predicted_prob"], atol=1e-6
        )
        skipped = labelaudit.read_csv(result.run_dir / "skipped.csv")
        assert skipped["reason"].unique().tolist() == ["excluded in the column of verified labels"]
    assert "20 labels are verified and taken as right." in lines.said
    assert any(line.startswith("the first labels of 20 verified samples") for line in lines.warned)
    assert any(line.startswith("5 samples excluded in the column") for line in lines.warned)


def test_a_class_may_be_called_id(tmp_path):
    names, rng = ["en", "de", "id"], np.random.default_rng(0)
    labels = [names[n % 3] for n in range(60)]
    probs = np.where(np.eye(3)[np.arange(60) % 3] > 0, 0.8, 0.1)
    probs += rng.uniform(0, 0.01, probs.shape)
    paths = [f"t{n}.txt" for n in range(60)]
    pd.DataFrame({"path": paths, "label": labels}).to_csv(tmp_path / "labels.csv", index=False)
    table = pd.DataFrame(probs / probs.sum(axis=1, keepdims=True), columns=names)
    table.insert(0, "path", paths)
    for suffix, write in (("csv", table.to_csv), ("parquet", table.to_parquet)):
        write(tmp_path / f"p.{suffix}", index=False)
        found = labelaudit.scan(tmp_path / "labels.csv", pred_probs=tmp_path / f"p.{suffix}")
        assert found.samples["predicted_label"].tolist() == labels

import csv
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labelaudit.corrections.exports import FORMATS, export_run
from labelaudit.corrections.run import read_run
from labelaudit.errors import OptionError, OutputError, SourceError, UntrustedResultWarning
from labelaudit.reporting.tables import read_csv

HOSTILE, QUOTED, FORMULA, UNICODE = (
    "<img src=x onerror=alert(1)>",
    'say "hi", name="label"',
    "=1+1",
    "Größe 猫",
)
SUSPECTS = ["<b>.png", "plain.png", 'a "quoted", name.png', "=cmd.png"]
ACCEPTED = {"sample_id": "plain.png", "decision": "accept", "corrected_label": QUOTED}


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


# --- the run folder ----------------------------------------------------------------------------


def test_a_run_is_read_with_its_suspects_and_suggestions(run_folder):
    run = read_run(run_folder(corrections=[ACCEPTED]))
    assert run.suspects["sample_id"].tolist() == SUSPECTS
    assert len(run.samples) == 9
    assert len(run.labeled) == 8
    assert run.suggestions["=cmd.png"] == HOSTILE
    assert "unlabeled.png" not in run.suggestions
    assert run.corrections["corrected_label"].tolist() == [QUOTED]
    assert (run.trusted, run.version) == (True, "0.1.0")


def test_without_corrections_the_table_of_them_is_empty(run_folder):
    corrections = read_run(run_folder()).corrections
    assert len(corrections) == 0
    assert "corrected_label" in corrections


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda run: shutil.rmtree(run), "does not exist"),
        (lambda run: (run / "labelaudit.json").unlink(), "labelaudit.json is missing"),
        (lambda run: (run / "summary.json").unlink(), "summary.json is missing; scan again"),
        (lambda run: (run / "samples.parquet").unlink(), "samples.parquet is missing"),
        (lambda run: (run / "summary.json").write_text("{"), "summary.json is damaged"),
        (lambda run: (run / "summary.json").write_text("[]"), "is not a JSON object"),
        (lambda run: (run / "summary.json").write_text("{}"), "name is missing"),
        (lambda run: (run / "samples.parquet").write_text("PAR1"), "samples.parquet is damaged"),
        (
            lambda run: pd.DataFrame({"x": [1]}).to_parquet(run / "samples.parquet"),
            'lacks the column "sample_id"',
        ),
    ],
)
def test_an_incomplete_folder_is_refused_in_one_line(run_folder, damage, told):
    run = run_folder()
    damage(run)
    with pytest.raises(SourceError, match=told) as error:
        read_run(run)
    assert "\n" not in str(error.value)


def test_an_unfinished_run_says_how_to_go_on(run_folder):
    run = run_folder()
    (run / "summary.json").unlink()
    (run / "labelaudit.json").write_text('{"labelaudit": "0.1.0", "status": "running"}')
    with pytest.raises(SourceError, match="`resume=True`"):
        read_run(run)


def test_a_file_of_the_folder_is_no_run(run_folder):
    with pytest.raises(SourceError, match="is a file"):
        read_run(run_folder() / "summary.json")


def test_no_export_loads_torch(run_folder):
    run = run_folder()
    code = (
        "import sys\n"
        "from labelaudit.corrections.exports import FORMATS, export_run\n"
        "from labelaudit.corrections.diff import diff_runs\n"
        "for to in FORMATS: export_run(sys.argv[1], to)\n"
        "diff_runs(sys.argv[1], sys.argv[1])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(run)], check=True, timeout=120)


# --- where exports go --------------------------------------------------------------------------


def test_an_unknown_format_lists_the_choices(run_folder):
    with pytest.raises(OptionError, match="label-studio, fiftyone, cleanlab, cvat, csv"):
        export_run(run_folder(), "excel")


@pytest.mark.parametrize("to", FORMATS)
def test_a_folder_that_is_there_is_refused_unless_forced(run_folder, to):
    run = run_folder()
    files = export_run(run, to)
    assert {file.parent for file in files} == {run / f"export-{to}"}
    before = [file.read_bytes() for file in files]
    other = files[0].parent / "mine.txt"
    other.write_text("keep")
    files[0].write_text("old")
    with pytest.raises(OutputError, match="`force=True`"):
        export_run(run, to)
    assert files[0].read_text() == "old"
    assert export_run(run, to, force=True) == files
    assert [file.read_bytes() for file in files] == before
    assert other.read_text() == "keep"
    assert sorted(files[0].parent.iterdir()) == sorted([*files, other])


def test_a_file_in_the_way_is_never_replaced(run_folder, tmp_path):
    (tmp_path / "out").write_text("keep")
    with pytest.raises(OutputError, match="is a file"):
        export_run(run_folder(), "csv", tmp_path / "out", force=True)
    assert (tmp_path / "out").read_text() == "keep"


def test_a_refused_export_leaves_no_folder(run_folder, tmp_path):
    with pytest.raises(OptionError):
        export_run(run_folder(paths="none"), "cvat", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", FORMATS)
def test_an_untrusted_run_is_exported_with_a_warning(run_folder, to):
    run = run_folder(trusted=False)
    with pytest.warns(UntrustedResultWarning, match="Too few samples per class"):
        files = export_run(run, to)
    told = {
        "label-studio": lambda: not read_json(files[0])[0]["meta"]["labelaudit_trusted"],
        "fiftyone": lambda: not read_json(files[0])["info"]["labelaudit_trusted"],
        "cleanlab": lambda: not read_csv(files[0])["trusted"].any(),
        "cvat": lambda: ET.parse(files[0]).findtext("meta/labelaudit_trusted") == "false",
        "csv": lambda: not read_csv(files[0])["trusted"].any(),
    }
    assert told[to]()


@pytest.mark.parametrize("to", ["fiftyone", "cvat"])
def test_images_in_tables_cannot_go_where_files_are_needed(run_folder, to):
    with pytest.raises(OptionError, match="save the images as files"):
        export_run(run_folder(paths="none"), to)


@pytest.mark.parametrize("to", ["cleanlab", "csv"])
def test_tables_need_no_image_files(run_folder, to):
    assert export_run(run_folder(paths="none"), to)


def test_the_address_of_images_is_for_label_studio_only(run_folder):
    with pytest.raises(OptionError, match="`image_root_url`"):
        export_run(run_folder(), "csv", image_root_url="https://x.test/")


def test_a_run_without_suspects_is_exported(run_folder):
    run = run_folder(samples=[("a.png", HOSTILE, QUOTED, 0.1), ("b.png", QUOTED, HOSTILE, 0.2)])
    for to in FORMATS:
        assert export_run(run, to)
    assert read_json(run / "export-label-studio" / "tasks.json") == []
    assert read_json(run / "export-fiftyone" / "samples.json") == {"samples": []}


# --- plain CSV ---------------------------------------------------------------------------------


def test_plain_csv_holds_the_suspects_and_decisions(run_folder):
    (file,) = export_run(run_folder(corrections=[ACCEPTED]), "csv")
    table = read_csv(file)
    assert table["sample_id"].tolist() == SUSPECTS
    assert table["given_label"].tolist() == [FORMULA, HOSTILE, FORMULA, UNICODE]
    assert table["suspect_score"].tolist() == [0.95, 0.9, 0.8, 0.7]
    assert table["decision"].fillna("").tolist() == ["", "accept", "", ""]
    assert table["corrected_label"].fillna("").tolist() == ["", QUOTED, "", ""]
    assert all(Path(path).is_file() for path in table["path"])


def test_plain_csv_is_quoted_where_needed_and_safe_in_a_spreadsheet(run_folder):
    (file,) = export_run(run_folder(), "csv")
    text = file.read_text(encoding="utf-8")
    assert text.startswith("sample_id,path,")
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["sample_id"] for row in rows] == [*SUSPECTS[:3], "'=cmd.png"]
    assert [row["given_label"] for row in rows] == ["'=1+1", HOSTILE, "'=1+1", UNICODE]


def test_all_samples_are_the_labeled_ones_by_rank(run_folder):
    (file,) = export_run(run_folder(), "csv", all_samples=True)
    table = read_csv(file)
    assert table["rank"].tolist() == list(range(1, 9))
    assert table["is_label_issue"].tolist() == [True] * 4 + [False] * 4
    assert "unlabeled.png" not in set(table["sample_id"])


# --- cleanlab ----------------------------------------------------------------------------------


def test_cleanlab_rows_follow_the_data_set(run_folder):
    issues, names = export_run(run_folder(), "cleanlab")
    assert read_csv(issues)["sample_id"].tolist() == [
        "plain.png", "sub/猫.png", 'a "quoted", name.png', "=cmd.png", "100% & more #1?.png",
        "<b>.png", "seven.png", "eight.png",
    ]  # fmt: skip
    assert read_json(names) == [HOSTILE, QUOTED, FORMULA, UNICODE]
    table = pd.read_csv(issues)
    assert table["given_label"].tolist() == [0, 1, 2, 3, 3, 2, 0, 1]
    assert table["predicted_label"].tolist() == [1, 1, 3, 0, 3, 0, 0, 1]
    assert table["is_label_issue"].sum() == 4
    assert table["label_quality"].round(6).tolist() == [0.1, 0.9, 0.2, 0.3, 0.8, 0.05, 0.95, 0.7]


def test_cleanlab_trains_without_the_suspects(run_folder):
    classification = pytest.importorskip("cleanlab.classification")
    from sklearn.linear_model import LogisticRegression

    issues, _ = export_run(run_folder(), "cleanlab")
    frame = pd.read_csv(issues)
    labels = frame["given_label"].to_numpy()
    rng = np.random.default_rng(0)
    features = np.eye(4)[labels] + rng.normal(scale=0.01, size=(8, 4))
    learner = classification.CleanLearning(LogisticRegression(), verbose=True)
    learner.fit(features, labels, label_issues=frame)
    kept = frame.loc[~frame["is_label_issue"], "given_label"]
    assert learner.clf.classes_.tolist() == sorted(kept.unique())
    got = learner.get_label_issues()
    assert got["label_quality"].tolist() == frame["label_quality"].tolist()
    assert got["is_label_issue"].tolist() == frame["is_label_issue"].tolist()


# --- CVAT --------------------------------------------------------------------------------------


def test_cvat_annotations_have_a_tag_per_image(run_folder):
    annotations, labels = export_run(run_folder(corrections=[ACCEPTED]), "cvat")
    root = ET.parse(annotations).getroot()
    assert root.findtext("version") == "1.1"
    names = [label.findtext("name") for label in root.iterfind("meta/task/labels/label")]
    assert names == [HOSTILE, QUOTED, FORMULA, UNICODE]
    assert {label.findtext("type") for label in root.iterfind("meta/task/labels/label")} == {"tag"}
    images = root.findall("image")
    assert [image.get("name") for image in images] == SUSPECTS
    assert [image.get("id") for image in images] == ["0", "1", "2", "3"]
    assert {(image.get("width"), image.get("height")) for image in images} == {("4", "3")}
    tags = [image.find("tag") for image in images]
    assert [tag.get("label") for tag in tags] == [FORMULA, HOSTILE, FORMULA, UNICODE]
    attributes = {a.get("name"): a.text or "" for a in tags[1].iterfind("attribute")}
    assert attributes == {
        "suggested_label": QUOTED,
        "suspect_score": "0.9",
        "decision": "accept",
        "corrected_label": QUOTED,
    }
    raw = read_json(labels)
    assert [label["name"] for label in raw] == names
    assert [a["name"] for a in raw[0]["attributes"]] == list(attributes)


def test_cvat_is_read_by_datumaro(run_folder):
    datumaro = pytest.importorskip("datumaro")
    run = run_folder()
    annotations, _ = export_run(run, "cvat")
    shutil.copytree(run.parent / "images", annotations.parent / "images")
    dataset = datumaro.Dataset.import_from(str(annotations.parent), "cvat")
    categories = dataset.categories()[datumaro.AnnotationType.label]
    assert [label.name for label in categories.items] == [HOSTILE, QUOTED, FORMULA, UNICODE]
    items = {item.id: item for item in dataset}
    assert set(items) == {name.removesuffix(".png") for name in SUSPECTS}
    (label,) = items["<b>"].annotations
    assert categories.items[label.label].name == FORMULA
    assert label.attributes["suggested_label"] == HOSTILE
    assert label.attributes["suspect_score"] == "0.95"
    assert items["plain"].media.size == (3, 4)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x01b"])
def test_names_that_cvat_cannot_hold_are_refused(run_folder, name):
    samples = [("a.png", name, "b", 0.9), ("b.png", "b", name, 0.1)]
    with pytest.raises(OptionError, match="of a class; rename"):
        export_run(run_folder(samples=samples, class_names=[name, "b"]), "cvat")


# --- FiftyOne ----------------------------------------------------------------------------------


def test_fiftyone_samples_have_labels_scores_and_tags(run_folder):
    metadata, samples = export_run(run_folder(corrections=[ACCEPTED]), "fiftyone", all_samples=True)
    described = read_json(metadata)
    assert described["media_type"] == "image"
    assert described["info"] == {"labelaudit": "0.1.0", "labelaudit_trusted": True}
    rows = read_json(samples)["samples"]
    assert len(rows) == 8
    assert [row["tags"] for row in rows] == [["suspect"]] * 4 + [[]] * 4
    assert all(Path(row["filepath"]).is_absolute() for row in rows)
    fields = {field["name"]: field for field in described["sample_fields"]}
    for row in rows:
        keys = {"id" if key == "_id" else key for key in row}
        assert keys <= set(fields)
        assert Path(row["filepath"]).is_file()
        for name in ("ground_truth", "suggestion"):
            assert row[name]["_cls"] == "Classification"
    assert len({row["_id"]["$oid"] for row in rows}) == 8
    assert all(0 <= row["_rand"] < 1 for row in rows)
    row = rows[1]
    assert (row["sample_id"], row["rank"], row["suspect_score"]) == ("plain.png", 2, 0.9)
    assert row["ground_truth"]["label"] == HOSTILE
    assert (row["suggestion"]["label"], row["suggestion"]["confidence"]) == (QUOTED, 0.45)
    assert (row["decision"], row["corrected_label"]) == ("accept", QUOTED)
    assert rows[0]["decision"] is None


def test_fiftyone_loads_the_dataset(run_folder, monkeypatch, tmp_path):
    fiftyone = pytest.importorskip("fiftyone")
    folder = export_run(run_folder(corrections=[ACCEPTED], trusted=True), "fiftyone")[0].parent
    try:
        fiftyone.list_datasets()
    except Exception as error:  # each version has its own
        pytest.skip(f"FiftyOne has no database: {type(error).__name__}")
    dataset = fiftyone.Dataset.from_dir(
        dataset_dir=str(folder), dataset_type=fiftyone.types.FiftyOneDataset
    )
    try:
        assert dataset.media_type == "image"
        assert dataset.info["labelaudit_trusted"] is True
        assert dataset.values("sample_id") == SUSPECTS
        assert dataset.values("ground_truth.label") == [FORMULA, HOSTILE, FORMULA, UNICODE]
        assert dataset.match_tags("suspect").count() == 4
        first = dataset.sort_by("suspect_score", reverse=True).first()
        assert first.suggestion.label == HOSTILE
        assert first.suggestion.confidence == 0.475
        assert Path(first.filepath).is_file()
        assert dataset.match(fiftyone.ViewField("decision") == "accept").count() == 1
        counts = dataset.count_values("ground_truth.label")
        assert counts[FORMULA] == 2
        dataset.add_sample(fiftyone.Sample(filepath="/new.png", rank=9, corrected_label="x"))
        dataset.compute_metadata()
        assert dataset.first().metadata.width == 4
        results = dataset.evaluate_classifications("suggestion", gt_field="ground_truth")
        assert results is not None
    finally:
        dataset.delete()


# --- relative paths ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["here", "beside the run"])
def test_relative_paths_are_found_here_or_beside_the_run(run_folder, monkeypatch, tmp_path, place):
    run = run_folder(paths="relative")
    monkeypatch.chdir(tmp_path if place == "here" else "/")
    _, samples = export_run(run, "fiftyone", tmp_path / "out")
    first = read_json(samples)["samples"][0]
    assert first["filepath"] == str(tmp_path / "images" / "<b>.png")


def test_relative_paths_that_lead_nowhere_say_where_to_go(run_folder, monkeypatch, tmp_path):
    run = run_folder(paths="relative")
    (tmp_path / "elsewhere").mkdir()
    moved = run.rename(tmp_path / "elsewhere" / "run")
    monkeypatch.chdir("/")
    with pytest.raises(SourceError, match="in which `labelaudit scan` was started"):
        export_run(moved, "fiftyone")

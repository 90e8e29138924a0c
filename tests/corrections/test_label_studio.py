import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from labelaudit.corrections.exports import export_run
from labelaudit.corrections.label_studio import labeling_config, tasks
from labelaudit.corrections.label_studio_answers import choice_value, class_name
from labelaudit.corrections.reading import read_corrections
from labelaudit.corrections.run import read_run
from labelaudit.errors import SourceError

HOSTILE, QUOTED, FORMULA, UNICODE = (
    "<img src=x onerror=alert(1)>",
    'say "hi", name="label"',
    "=1+1",
    "Größe 猫",
)
ODD_NAMES = [
    HOSTILE, QUOTED, FORMULA, UNICODE, "", " ", " edge", "edge ", "a\nb", "a\tb", "a\x00b", "\x7f",
    "\ufffe", "$5", "US$ 5", "$given_label", "a$[b]", "$", '"', '""', '"x"', '"a', 'a"', "'=x", "{",
    "null", "true", "1", "1.50", "007", "1e5", '{"choices": ["x"]}', '[{"choices":["x"]}]', "[PAD]",
    "a,b", "a;b", "a\\b", '"\\u0024x"', "]]>", "&amp;", "<!--", "\u2028", "\u00a0x", "🙂",
]  # fmt: skip


def annotate(
    task: dict[str, Any],
    label: str | None = None,
    outcome: str | None = None,
    note: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """An annotation as Label Studio exports it."""
    results = []
    for name, kind, value in (
        ("label", "choices", None if label is None else [choice_value(label)]),
        ("set_aside", "choices", None if outcome is None else [outcome]),
        ("note", "textarea", None if note is None else [note]),
    ):
        if value is not None:
            key = "text" if kind == "textarea" else "choices"
            results.append(
                {"from_name": name, "to_name": "sample", "type": kind, "value": {key: value}}
            )
    number = len(task.setdefault("annotations", [])) + 1
    annotation = {
        "id": number,
        "completed_by": {"id": 7, "email": "ann@x.test", "first_name": "", "last_name": ""},
        "result": results,
        "was_cancelled": False,
        "created_at": "2026-01-02T03:04:05.000000Z",
        "updated_at": "2026-01-02T03:05:00.000000Z",
        "lead_time": 1.5,
        **more,
    }
    task["annotations"].append(annotation)
    return annotation


@pytest.fixture
def labeled_tasks(run_folder) -> list[dict[str, Any]]:
    """Tasks of a run, as Label Studio holds them once they are imported."""
    made = tasks(read_run(run_folder()), all_samples=True)
    return [{"id": number, "annotations": [], **task} for number, task in enumerate(made, start=1)]


@pytest.fixture
def reviewed(labeled_tasks) -> list[dict[str, Any]]:
    """The suspects "<b>.png", "plain.png", 'a "quoted", name.png', "=cmd.png" come first."""
    annotate(labeled_tasks[0], HOSTILE)
    annotate(labeled_tasks[1], HOSTILE, note="it is, truly")
    annotate(labeled_tasks[2], QUOTED)
    annotate(labeled_tasks[3], HOSTILE, "exclude")
    annotate(labeled_tasks[4], outcome="unsure")
    annotate(labeled_tasks[5], HOSTILE, was_cancelled=True)
    annotate(labeled_tasks[6])
    return labeled_tasks


EXPECTED = {
    "<b>.png": ("accept", HOSTILE, ""),
    "plain.png": ("keep", "", "it is, truly"),
    'a "quoted", name.png': ("relabel", QUOTED, ""),
    "=cmd.png": ("exclude", "", ""),
    "eight.png": ("unsure", "", ""),
}


def decided(path: Path) -> dict[str, tuple[str, str, str]]:
    frame = read_corrections(path)
    return {
        row["sample_id"]: (row["decision"], row["corrected_label"], row["note"])
        for row in frame.to_dict("records")
    }


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


# --- tasks -------------------------------------------------------------------------------------


def test_a_task_is_labeled_in_advance_with_the_suggestion(run_folder):
    first = tasks(read_run(run_folder()))[1]
    assert first["data"] | {"image": ""} == {
        "sample_id": "plain.png",
        "image": "",
        "given_label": HOSTILE,
        "suggested_label": QUOTED,
        "suspect_score": 0.9,
    }
    (prediction,) = first["predictions"]
    assert prediction["model_version"] == "labelaudit 0.1.0"
    assert prediction["score"] == 0.45
    (result,) = prediction["result"]
    assert (result["from_name"], result["to_name"]) == ("label", "sample")
    assert (result["type"], result["value"]) == ("choices", {"choices": [QUOTED]})


def test_samples_that_are_not_suspect_are_labeled_in_advance_as_given(run_folder):
    by_id = {
        task["data"]["sample_id"]: task for task in tasks(read_run(run_folder()), all_samples=True)
    }
    assert len(by_id) == 8
    prediction = by_id["seven.png"]["predictions"][0]
    assert prediction["result"][0]["value"]["choices"] == [HOSTILE]
    assert prediction["score"] == pytest.approx(0.95)


def test_an_untrusted_run_says_so_in_the_model_version(run_folder):
    task = tasks(read_run(run_folder(trusted=False)))[0]
    assert task["predictions"][0]["model_version"] == "labelaudit 0.1.0 (not trusted)"


def test_images_have_the_address_of_local_storage_or_of_a_server(run_folder):
    folder = run_folder()
    run = read_run(folder)
    local = [task["data"]["image"] for task in tasks(run)]
    images = str(folder.parent / "images").lstrip("/")
    assert local[0] == f"/data/local-files/?d={images}/%3Cb%3E.png"
    for root in ("https://x.test/a", "https://x.test/a/"):
        there = [task["data"]["image"] for task in tasks(run, root)]
        assert there == [
            "https://x.test/a/%3Cb%3E.png",
            "https://x.test/a/plain.png",
            "https://x.test/a/a%20%22quoted%22%2C%20name.png",
            "https://x.test/a/%3Dcmd.png",
        ]


def test_samples_without_files_show_a_text(run_folder):
    folder = run_folder(paths="none")
    written, config = export_run(folder, "label-studio")
    task = json.loads(written.read_text(encoding="utf-8"))[0]
    assert task["data"]["text"] == "<b>.png"
    assert "image" not in task["data"]
    assert ET.parse(config).find("Text").get("value") == "$text"
    written, config = export_run(
        folder, "label-studio", image_root_url="https://x.test", force=True
    )
    task = json.loads(written.read_text(encoding="utf-8"))[0]
    assert task["data"]["image"] == "https://x.test/%3Cb%3E.png"
    assert ET.parse(config).find("Image").get("value") == "$image"


# --- the interface -----------------------------------------------------------------------------


def test_the_interface_offers_the_classes_and_what_else_can_be_decided():
    root = ET.fromstring(labeling_config([HOSTILE, QUOTED]))
    choices = {tag.get("name"): tag for tag in root.iter("Choices")}
    assert [c.get("value") for c in choices["label"]] == [HOSTILE, QUOTED]
    assert [c.get("value") for c in choices["set_aside"]] == ["exclude", "unsure"]
    assert all(tag.get("required") == "false" for tag in choices.values())
    assert all(tag.get("toName") == root.find("Image").get("name") for tag in choices.values())


def test_many_classes_are_a_list():
    root = ET.fromstring(labeling_config([f"class {n}" for n in range(200)]))
    assert root.find("Choices").get("layout") == "select"


def test_odd_class_names_come_back_and_are_kept_by_xml():
    values = [choice_value(name) for name in ODD_NAMES]
    assert len(set(values)) == len(values)
    assert [class_name(value) for value in values] == ODD_NAMES
    config = labeling_config(ODD_NAMES)
    read = [c.get("value") for c in ET.fromstring(config).find("Choices")]
    assert read == values
    assert all(value and value == value.strip() and "\n" not in value for value in values)
    # Names that every tool keeps are left as they are.
    for name in (HOSTILE, QUOTED, FORMULA, UNICODE, "$", "US$ 5", "007", "[PAD]", "a,b"):
        assert choice_value(name) == name
    assert choice_value("") == '""'


def test_label_studio_accepts_the_interface_and_the_tasks(run_folder, tmp_path):
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    names = [name for name in ODD_NAMES if name]
    samples = [
        (f"{row}.png", name, names[row - 1], 0.9 if row % 2 else 0.1)
        for row, name in enumerate(names)
    ]
    for paths in ("absolute", "none"):
        folder = run_folder(name=paths, samples=samples, class_names=names, paths=paths)
        written, config = export_run(folder, "label-studio", all_samples=True)
        label_interface = interface.LabelInterface(config.read_text(encoding="utf-8"))
        label_interface.validate()
        control = label_interface.get_control("label")
        assert list(control.labels) == [choice_value(name) for name in names]
        for task in json.loads(written.read_text(encoding="utf-8")):
            assert label_interface.validate_task({"data": task["data"]})
            (prediction,) = task["predictions"]
            assert label_interface.validate_prediction(prediction, return_errors=True) == []


# --- the way back ------------------------------------------------------------------------------


def test_json_export_comes_back_as_decisions(reviewed, tmp_path):
    path = write_json(tmp_path / "export.json", reviewed)
    assert decided(path) == EXPECTED
    frame = read_corrections(path)
    assert set(frame["reviewer"]) == {"ann@x.test"}
    assert set(frame["reviewed_at"]) == {"2026-01-02T03:05:00.000000Z"}
    assert frame["given_label"].tolist() == [FORMULA, HOSTILE, FORMULA, UNICODE, QUOTED]


@pytest.mark.parametrize(
    ("who", "reviewer"),
    [(7, "7"), ({"id": 7, "email": ""}, "7"), ({"id": 7, "email": "b@x.test"}, "b@x.test")],
)
def test_the_reviewer_is_an_address_or_a_number(labeled_tasks, tmp_path, who, reviewer):
    annotate(labeled_tasks[0], HOSTILE, completed_by=who)
    frame = read_corrections(write_json(tmp_path / "export.json", labeled_tasks))
    assert frame["reviewer"].tolist() == [reviewer]


def json_min(reviewed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the JSON-MIN export is by its documentation; the library is asked below."""
    records = []
    for task in reviewed:
        for annotation in task["annotations"]:
            if annotation["was_cancelled"]:
                continue
            record = {**task["data"], "id": task["id"], "annotation_id": annotation["id"]}
            for result in annotation["result"]:
                record[result["from_name"]] = next(iter(result["value"].values()))[0]
            record |= {"annotator": 7, "created_at": annotation["created_at"]}
            record |= {"updated_at": annotation["updated_at"], "lead_time": 1.5}
            records.append(record)
    return records


def test_json_min_export_comes_back_as_decisions(reviewed, tmp_path):
    path = write_json(tmp_path / "export.json", json_min(reviewed))
    assert decided(path) == EXPECTED
    assert set(read_corrections(path)["reviewer"]) == {"7"}


@pytest.mark.parametrize("quoting", [csv.QUOTE_NONNUMERIC, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize(("suffix", "sign"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_csv_export_comes_back_as_decisions(reviewed, tmp_path, quoting, suffix, sign):
    records = json_min(reviewed)
    path = tmp_path / f"export.{suffix}"
    with path.open("w", encoding="utf-8") as file:
        names = sorted({name for record in records for name in record})
        writer = csv.DictWriter(file, names, quoting=quoting, delimiter=sign)
        writer.writeheader()
        writer.writerows(records)
    assert decided(path) == EXPECTED


@pytest.mark.parametrize("format", ["JSON", "JSON_MIN", "CSV"])
def test_what_label_studio_itself_writes_comes_back(run_folder, tmp_path, format):
    converter = pytest.importorskip("label_studio_sdk.converter")
    names = [name for name in ODD_NAMES if name]  # corrections.csv cannot set an empty label
    samples = [(f"{row:02d}.png", name, names[row - 1], 0.9) for row, name in enumerate(names)]
    written, config = export_run(
        run_folder(samples=samples, class_names=names, paths="none"), "label-studio"
    )
    made = json.loads(written.read_text(encoding="utf-8"))
    expected = {}
    for number, task in enumerate(made, start=1):
        task["id"] = number
        row = int(task["data"]["sample_id"].removesuffix(".png"))
        other = names[(row + 5) % len(names)]
        kind = ("accept", "keep", "relabel", "exclude", "none", "cancelled")[number % 6]
        label = {"accept": names[row - 1], "keep": names[row], "relabel": other}.get(kind)
        if kind == "none":
            task["annotations"] = []
            continue
        if kind == "cancelled":
            annotate(task, other, was_cancelled=True)
            continue
        annotate(task, label, "exclude" if kind == "exclude" else None, f'note "{number}", 1.50')
        meant = label if kind in ("accept", "relabel") else ""
        expected[task["data"]["sample_id"]] = (kind, meant, f'note "{number}", 1.50')
    source = write_json(tmp_path / "tasks.json", made)
    out = tmp_path / "out"
    convert = converter.Converter(config.read_text(encoding="utf-8"), str(tmp_path))
    convert.convert(str(source), str(out), format, is_dir=False)
    (file,) = out.iterdir()
    assert decided(file) == expected


def test_tasks_that_nobody_annotated_decide_nothing(run_folder, tmp_path):
    written, _ = export_run(run_folder(), "label-studio")
    assert len(read_corrections(written)) == 0


def test_two_annotations_that_agree_are_one_decision(labeled_tasks, tmp_path):
    annotate(labeled_tasks[0], HOSTILE)
    annotate(labeled_tasks[0], HOSTILE, completed_by=8)
    frame = read_corrections(write_json(tmp_path / "export.json", labeled_tasks))
    assert frame["reviewer"].tolist() == ["ann@x.test"]


def test_two_annotations_that_disagree_are_refused(labeled_tasks, tmp_path):
    annotate(labeled_tasks[0], HOSTILE)
    annotate(labeled_tasks[0], FORMULA)
    path = write_json(tmp_path / "export.json", labeled_tasks)
    with pytest.raises(SourceError, match=r'has two decisions about "<b>\.png"'):
        read_corrections(path)


def test_two_labels_at_once_are_refused(labeled_tasks, tmp_path):
    annotation = annotate(labeled_tasks[0], HOSTILE)
    annotation["result"][0]["value"]["choices"].append(QUOTED)
    path = write_json(tmp_path / "export.json", labeled_tasks)
    with pytest.raises(SourceError, match=r'2 labels are chosen for "<b>\.png"'):
        read_corrections(path)


@pytest.mark.parametrize(
    "items",
    [
        [{"id": 1, "data": {"image": "a.png"}, "annotations": []}],
        [{"id": 1, "image": "a.png", "label": "x", "annotation_id": 1}],
        {"id": 1, "data": {"image": "a.png"}, "annotations": []},
    ],
)
def test_tasks_of_others_are_refused(tmp_path, items):
    with pytest.raises(SourceError, match="labelaudit export --to label-studio"):
        read_corrections(write_json(tmp_path / "export.json", items))


def test_a_table_of_other_tasks_is_refused(tmp_path):
    path = tmp_path / "export.csv"
    path.write_text('"annotation_id","image","label"\n1,"a.png","x"\n', encoding="utf-8")
    with pytest.raises(SourceError, match="labelaudit export --to label-studio"):
        read_corrections(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"[1]", "not an export of Label Studio"), (b"{", "is not JSON"), (b"\xff", "not UTF-8")],
)
def test_other_files_are_refused(tmp_path, content, told):
    path = tmp_path / "export.json"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=told):
        read_corrections(path)

"""Texts as a source: the formats that hold them, their labels, and what is no text."""

import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelaudit import OptionError, SourceError, apply_corrections
from labelaudit.sources.label_tables import read_table
from labelaudit.sources.samples import read_samples
from labelaudit.sources.texts import TextSource, read_texts

ROWS = pd.DataFrame(
    {
        "text": ["a cat sat", "", "two\nlines, and a comma", "  ", "the last one"],
        "label": ["x", "y", "y", "x", ""],
        "stars": [1, 2, 3, 4, 5],
    }
)
KEPT = ["a cat sat", "two\nlines, and a comma", "the last one"]


def _write(folder, name):
    path = folder / name
    if name.endswith(("csv", "tsv", "csv.gz")):
        text = ROWS.to_csv(index=False, sep="\t" if "tsv" in name else ",")
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    elif name.endswith("jsonl"):
        path.write_text("\n".join(json.dumps(row) for row in ROWS.to_dict("records")))
    else:
        ROWS.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.csv.gz"])
def test_tables_of_all_formats(tmp_path, name):
    found = read_samples(_write(tmp_path, name), text_column="text")
    assert isinstance(found, TextSource)
    assert found.texts.tolist() == KEPT
    assert found.by_row
    assert found.source.manifest.sample_ids.tolist() == ["0", "2", "4"]
    assert found.source.manifest.noisy_labels.tolist() == [0, 1, -1]
    assert found.details.columns.tolist() == ["text", "stars"]
    assert found.details["text"].tolist() == KEPT
    skipped = found.source.skipped
    assert skipped["sample_id"].tolist() == ["1", "3"]
    assert skipped["reason"].unique().tolist() == ["its text is empty"]
    assert any(
        line.startswith("2 samples left out for want of a text") for line in found.source.warnings
    )


def test_a_folder_of_parquet_files_is_one_table_with_the_ids_that_apply_knows(tmp_path):
    for number in range(2):
        ROWS.to_parquet(tmp_path / f"train-0000{number}-of-00002.parquet", index=False)
    ROWS.to_parquet(tmp_path / "test-00000-of-00001.parquet", index=False)
    found = read_samples(tmp_path, text_column="text")
    assert found.source.manifest.sample_ids.tolist() == [
        f"train-0000{number}-of-00002:{row}" for number in range(2) for row in (0, 2, 4)
    ]
    assert found.source.manifest.name == tmp_path.name
    assert "only the split" in found.source.warnings[0]
    other = read_samples(tmp_path, text_column="text", split="test")
    assert other.source.manifest.sample_ids.tolist() == ["0", "2", "4"] or len(other.texts) == 3


def test_data_sets_of_hugging_face_on_disk_and_in_memory(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["good", "bad"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    rows = {"text": ROWS["text"].tolist(), "label": [0, 1, 1, 0, -1]}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(str(tmp_path / "saved"))
    for source in (tmp_path / "saved", made, datasets.DatasetDict({"train": made, "test": made})):
        found = read_samples(source, text_column="text")
        assert found.texts.tolist() == KEPT
        assert found.source.manifest.class_names == ("good", "bad")
        assert found.source.manifest.noisy_labels.tolist() == [0, 1, -1]
    corrections = pd.DataFrame({"sample_id": ["2"], "decision": ["keep"], "corrected_label": [""]})
    fixed = apply_corrections(tmp_path / "saved", corrections, tmp_path / "fixed.csv").out
    again = read_samples(tmp_path / "saved", fixed, text_column="text", verified_column="verified")
    assert again.texts.tolist() == KEPT
    assert again.source.verified.tolist() == [False, True, False]

    column = read_samples(made["text"], ["x", "y", "x", "y", "x"])
    assert column.texts.tolist() == KEPT
    with pytest.raises(OptionError, match='no column "texts"; its columns: text, label'):
        read_samples(made, text_column="texts")


def test_frames_and_lists(tmp_path):
    found = read_samples(ROWS, text_column="text")
    assert found.texts.tolist() == KEPT
    given = read_samples(ROWS.drop(columns="label"), list("ababa"), text_column="text")
    assert given.source.manifest.noisy_labels.tolist() == [0, 0, 0]
    for texts in (
        list(ROWS["text"]),
        ROWS["text"],
        ROWS["text"].to_numpy(),
        np.array(ROWS["text"], "U"),
    ):
        listed = read_samples(texts, list("abbba"))
        assert listed.texts.tolist() == KEPT
        assert listed.source.manifest.noisy_labels.tolist() == [0, 1, 0]
    for texts, labels, message in (
        (["a", "b"], ["x"], "1 labels and 2 texts"),
        (["a", "b"], None, "needs labels=, one for each text"),
        (["a", 3], ["x", "y"], "item 1 of the list is an int, not a text"),
    ):
        with pytest.raises((OptionError, SourceError), match=message):
            read_samples(texts, labels)


def test_labels_of_another_table_are_joined_by_id(tmp_path):
    ROWS.drop(columns="label").assign(id=list("abcde")).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "labels.csv").write_text("id,label\nc,good\ne,bad\na,good\n")
    found = read_samples(tmp_path / "t.csv", tmp_path / "labels.csv", text_column="text")
    assert found.texts.tolist() == KEPT
    assert found.source.manifest.sample_ids.tolist() == ["a", "c", "e"]
    names = found.source.manifest.class_names
    assert [names[label] for label in found.source.manifest.noisy_labels] == ["good", "good", "bad"]
    assert found.source.skipped["sample_id"].tolist() == ["b", "d"]


def test_verified_and_excluded_rows_keep_their_texts(tmp_path):
    marks = ["yes", "", "excluded", "", "yes"]
    ROWS.assign(checked=marks).to_csv(tmp_path / "t.csv", index=False)
    more = pd.read_csv(tmp_path / "t.csv")
    pd.concat([more, more.assign(text="other words", label="y")]).to_csv(
        tmp_path / "t.csv", index=False
    )
    found = read_samples(tmp_path / "t.csv", text_column="text", verified_column="checked")
    assert found.texts.tolist() == ["a cat sat", "the last one", *["other words"] * 4]
    assert found.details["text"].tolist() == found.texts.tolist()
    assert found.source.verified.tolist()[0]
    assert found.source.num_excluded == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": "txt"}, 'has no column "txt" for the texts; its columns: text, label'),
        ({"text_column": "stars"}, "holds numbers such as 1, not texts"),
        ({"text_column": "label"}, "holds the labels, ids or splits"),
        ({"text_column": "text", "label_column": "text"}, "which another option names too"),
        ({"text_column": "text", "split": "test"}, "split"),
    ],
)
def test_columns_that_are_no_texts(tmp_path, options, message):
    with pytest.raises((OptionError, SourceError), match=message):
        read_samples(_write(tmp_path, "t.csv"), **options)


def test_a_column_of_blanks_and_a_folder_of_other_tables(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\n,x\n ,y\n")
    with pytest.raises(SourceError, match="has no text in any of its 2 rows"):
        read_samples(tmp_path / "t.csv", text_column="text")
    with pytest.raises(SourceError, match=r"give one of its tables, such as .*t\.csv"):
        read_samples(tmp_path, text_column="text")
    (tmp_path / "t.csv").write_text("text\nwords\nmore\n")
    assert read_texts(tmp_path / "t.csv", "text", require_labels=False).texts.tolist() == [
        "words",
        "more",
    ]
    with pytest.raises(SourceError, match="no column for the labels"):
        read_samples(tmp_path / "t.csv", text_column="text")


def test_whoever_forgets_it_in_python_is_told_too():
    frame = ROWS.drop(columns="label")
    with pytest.raises(SourceError, match="or its texts with text_column='text'"):
        read_samples(frame, list("xyxyx"))
    with pytest.raises(OptionError, match="or with text_column= if it holds texts"):
        read_samples(ROWS)


LETTERS = [f"these are the words of letter {row}" for row in range(12)]


@pytest.mark.parametrize("id_column", ["id", "number"])
@pytest.mark.parametrize("kind", ["csv", "parquet", "folder", "csv in a folder"])
def test_whoever_forgets_the_column_is_told_the_command(tmp_path, id_column, kind):
    rows = pd.DataFrame({id_column: range(12), "mail": LETTERS, "label": list("xy") * 6})
    source = tmp_path / f"mails.{kind}"
    if kind == "csv":
        rows.to_csv(source, index=False)
    elif kind == "csv in a folder":
        (tmp_path / "mails").mkdir()
        source = tmp_path / "mails" / "mails.csv"
        rows.to_csv(source, index=False)
    elif kind == "parquet":
        rows.to_parquet(source, index=False)
    else:
        source = tmp_path / "mails"
        source.mkdir()
        for part in range(2):
            pq.write_table(pa.Table.from_pandas(rows), source / f"{part}.parquet")
    with pytest.raises(SourceError) as caught:
        read_samples(tmp_path / "mails" if (tmp_path / "mails").exists() else source)
    assert f"`labelaudit scan {source} --text-column mail`" in str(caught.value)


def test_a_table_without_labels_may_be_read_for_its_texts(tmp_path):
    from labelaudit.sources.cells import Columns

    (tmp_path / "t.csv").write_text("text,when\nwords,now\n")
    columns = Columns(None, None, None, 5)
    table = read_table(tmp_path / "t.csv", columns, images_needed=False, labels_needed=False)
    assert table.labels == [""]

"""Scans of texts, from a table to its report, its corrections and its exports."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import labelaudit
from labelaudit import LabelAuditor, OptionError
from labelaudit.cli import app
from labelaudit.reporting.blocks import read_block

TOPICS = {"praise": "great lovely perfect kind quick", "anger": "broken late torn wrong missing"}
LONG = "<b>long</b> " * 2000


def _letters(count=120):
    """Letters of five words, every tenth with a wrong label, one without a text, one very long."""
    rng = np.random.default_rng(0)
    names = list(TOPICS)
    rows = []
    for number in range(count):
        topic = names[number % 2]
        label = names[(number + 1) % 2] if number % 10 == 0 else topic
        words = rng.choice(TOPICS[topic].split(), 5)
        rows.append({"id": f"mail-{number:03d}", "words": " ".join(words), "label": label})
    rows[20]["words"] += "\n" + LONG
    rows[33]["words"] = " "
    return pd.DataFrame(rows)


@pytest.fixture
def mails(tmp_path, monkeypatch, fake_text_encoders):
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    table = _letters()
    table.to_csv("mails.csv", index=False)
    return table


def test_a_scan_of_texts_and_what_follows(mails, tmp_path):
    options = ["--text-column", "words", "--epochs", "1", "--threshold", "top:12", "--out", "run"]
    said = CliRunner().invoke(app, ["scan", "mails.csv", *options])
    assert said.exit_code == 0, said.output
    words = " ".join(said.output.split())
    assert (
        "Encoder sentence-transformers:all-MiniLM-L6-v2 on cpu, reading the first 12 tokens"
        in words
    )
    assert "texts are longer than the 12 tokens that the encoder reads" in words
    assert '1 sample left out for want of a text: "mail-033"' in words

    suspects = labelaudit.read_csv(tmp_path / "run" / "suspects.csv")
    texts = mails.set_index("id")["words"]
    wrong = {f"mail-{number:03d}" for number in range(0, 120, 10)}
    found = set(suspects["sample_id"])
    assert len(wrong & found) >= 11  # of 12
    assert len(found - wrong) <= 1
    assert suspects["text"].tolist() == [texts[name] for name in suspects["sample_id"]]
    skipped = labelaudit.read_csv(tmp_path / "run" / "skipped.csv")
    assert skipped[["sample_id", "reason"]].to_numpy().tolist() == [
        ["mail-033", "its text is empty"]
    ]

    index = read_block(tmp_path / "run", "index")
    assert index["details"][index["text"]] == "words"
    at = index["suspects"]["id"].index("mail-020")
    start = index["suspects"]["details"][at][index["text"]]
    assert (len(start), start[-1]) == (1000, "…")
    evidence = read_block(tmp_path / "run", "chunk-00001")["suspects"]
    assert evidence[at]["text"] == texts["mail-020"]
    assert sum("text" in one for one in evidence) == 1
    assert all(one["near"]["suggested"][0]["words"] for one in evidence)

    # Label Studio shows the texts, and the plain table has them.
    for to in ("label-studio", "csv"):
        labelaudit.export_run("run", to)
    tasks = json.loads((tmp_path / "run/export-label-studio/tasks.json").read_text())
    assert tasks[0]["data"]["text"] == texts[tasks[0]["data"]["sample_id"]]
    assert 'value="$text"' in (tmp_path / "run/export-label-studio/labeling_config.xml").read_text()
    plain = pd.read_csv("run/export-csv/suspects_plain.csv")
    assert plain["text"].str.len().max() == len(texts["mail-020"])

    # Corrections of the table, and the next round.
    suspects["decision"] = suspects["decision"].astype(object)
    decided = suspects.assign(decision="accept")[["sample_id", "decision", "suggested_label"]]
    decided.to_csv("run/corrections.csv", index=False)
    applied = labelaudit.apply_corrections("mails.csv", "run/corrections.csv", "new.csv")
    assert set(applied.changes["sample_id"]) == found
    settings = {"text_column": "words", "epochs": 1}
    after = labelaudit.scan("new.csv", verified_column="verified", **settings)
    assert not found & set(after.suspects["sample_id"])
    assert after.samples["text"].iloc[20] == texts["mail-020"]


def test_python_takes_lists_of_texts_and_frames(mails):
    there = mails[mails["words"].str.strip() != ""]
    settings = {"epochs": 1, "threshold": "top:12"}
    result = labelaudit.scan(list(there["words"]), there["label"].to_numpy(), **settings)
    assert result.summary["encoder"]["name"] == "sentence-transformers:all-MiniLM-L6-v2"
    assert len(result.suspects) == 12
    assert result.suspects["text"][0][:40] in result._repr_html_()
    hostile = replace(result, suspects=result.suspects.assign(text=LONG))
    assert "&lt;b&gt;long" in hostile._repr_html_()
    assert "<b>" not in hostile._repr_html_().removeprefix("<p><b>")
    auditor = LabelAuditor(**settings).fit(list(there["words"]), there["label"].to_numpy())
    np.testing.assert_array_equal(
        auditor.is_label_issue_, result.samples["is_label_issue"].to_numpy()
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_column": "words", "features": "f.npy"}, "`features` both give features"),
        ({"text_column": "words", "tabular": True}, "`tabular` both give features"),
        ({"text_column": "words", "pred_probs": "p.npy"}, "write features with `labelaudit embed`"),
        ({"text_column": "words", "image_column": "id"}, "`image_column` is for images"),
        ({"text_column": "words", "flip": True}, "`flip` is for images"),
        ({"text_column": "words", "encoder": "mlp"}, "mlp does not read texts"),
        ({"features": "f.npy", "encoder": "sentence-transformers:x"}, "leave `encoder` out"),
    ],
)
def test_options_that_do_not_go_with_texts(mails, tmp_path, settings, message):
    with pytest.raises(OptionError, match=message):
        labelaudit.scan("mails.csv", out="run", **settings)
    assert not (tmp_path / "run").exists()


def test_images_have_no_sentence_encoder(digit_files):
    with pytest.raises(OptionError, match="name their column with `text_column`"):
        labelaudit.scan(
            digit_files / "images",
            digit_files / "labels.csv",
            encoder="sentence-transformers:all-MiniLM-L6-v2",
        )

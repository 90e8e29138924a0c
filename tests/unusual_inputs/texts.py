"""Texts that are bad or unusual, in tables and folders, read by a stand-in for a sentence encoder."""

import json

import numpy as np
import pandas as pd
from unusual_input import UnusualInput

EMBED = ["--text-column", "text", "--out", "f.parquet"]


def _texts(change=lambda rows: rows, name="t.csv", options=EMBED, command="embed"):
    """A table of 12 texts that was changed."""

    def make(folder):
        rows = pd.DataFrame(
            {
                "text": [f"letter {row} to the shop" for row in range(12)],
                "label": [f"c{row % 2}" for row in range(12)],
            }
        )
        rows = change(rows)
        if name.endswith("parquet"):
            rows.to_parquet(folder / name, index=False)
        elif name.endswith("jsonl"):
            lines = (json.dumps(row) for row in rows.to_dict("records"))
            (folder / name).write_text("\n".join(lines))
        else:
            rows.to_csv(folder / name, index=False)
        return [command, name, *options]

    return make


def _set(row, text):
    def change(rows):
        texts = [text if place == row else old for place, old in enumerate(rows["text"])]
        return pd.DataFrame({"text": texts, "label": rows["label"]}, dtype=object)

    return change


def _raw(data):
    def make(folder):
        (folder / "t.csv").write_bytes(data)
        return ["embed", "t.csv", *EMBED]

    return make


def _folder(folder):
    (folder / "texts").mkdir()
    (folder / "texts" / "t.csv").write_text("text,label\na b,x\nc d,y\n")
    return ["embed", "texts", *EMBED]


def _features(count, *said):
    def check(folder, output):
        found = pd.read_parquet(folder / "f.parquet")
        assert len(found) == count
        assert np.isfinite(np.stack(found["features"].to_numpy())).all()
        words = " ".join(output.split())
        assert all(text in words for text in said), output

    return check


def _encoder(name):
    return [*EMBED, "--encoder", name]


SCAN = ["--text-column", "text", "--epochs", "1", "--out", "out"]

ROWS = [
    UnusualInput("texts of which some are empty", _texts(_set(3, "")), check=_features(11, '"3"')),
    UnusualInput("a text of blanks", _texts(_set(3, " \t\n")), check=_features(11)),
    UnusualInput(
        "texts that are all empty",
        _texts(lambda rows: rows.assign(text="")),
        message='column "text" of t.csv has no text in any of its 12 rows',
    ),
    UnusualInput(
        "a text of a million characters",
        _texts(_set(2, "word " * 2 * 10**5)),
        check=_features(12, "1 of 12 texts are longer than the 12 tokens"),
    ),
    UnusualInput(
        "texts of control characters, emoji and right-to-left letters",
        _texts(_set(5, "\x07 \u202eשלום 👍🏽 \U0001f468\u200d\U0001f469 e\u0301")),
        check=_features(12),
    ),
    UnusualInput(
        "a JSON text with half of a character",
        _texts(_set(1, "half \ud800"), "t.jsonl"),
        check=_features(12),
    ),
    UnusualInput(
        "JSON texts that are lists",
        _texts(_set(4, ["a", "b"]), "t.jsonl"),
        message='holds neither text nor numbers|"text" is a list',
    ),
    UnusualInput(
        "equal texts", _texts(lambda rows: rows.assign(text="the same")), check=_features(12)
    ),
    UnusualInput(
        "texts that are numbers",
        _texts(lambda rows: rows.assign(text=range(12))),
        message="holds numbers such as 0, not texts; name the column of texts with --text-column",
    ),
    UnusualInput(
        "a column of texts that is not there",
        _texts(lambda rows: rows.rename(columns={"text": "body"})),
        message='t.csv has no column "text" for the texts; its columns: body, label',
    ),
    UnusualInput(
        "texts without labels",
        _texts(lambda rows: rows.drop(columns="label")),
        check=_features(12),
    ),
    UnusualInput(
        "a scan of texts without labels",
        _texts(lambda rows: rows.drop(columns="label"), options=SCAN, command="scan"),
        message="no column for the labels",
    ),
    UnusualInput(
        "a scan of texts of one class",
        _texts(lambda rows: rows.assign(label="a"), options=SCAN, command="scan"),
        message="all 12 labeled samples are of one class",
    ),
    UnusualInput(
        "a scan of texts whose column is forgotten",
        _texts(
            lambda rows: rows.assign(text=rows["text"] + ", please"),
            options=["--out", "out"],
            command="scan",
        ),
        message="`labelaudit scan t.csv --text-column text`",
    ),
    UnusualInput(
        "texts in Latin-1",
        _raw("text,label\nGrüße aus Köln,x\n".encode("latin-1")),
        message="not a text table in UTF-8",
    ),
    UnusualInput("a folder of CSV files of texts", _folder, message="such as texts/t.csv as the"),
    UnusualInput(
        "an encoder of images for texts",
        _texts(options=_encoder("resnet50")),
        message="--encoder resnet50 does not read texts; give sentence-transformers:NAME",
    ),
    UnusualInput(
        "a sentence encoder that is a file",
        _texts(options=_encoder("sentence-transformers:./t.csv")),
        message=r"the folder \./t\.csv does not exist",
    ),
]

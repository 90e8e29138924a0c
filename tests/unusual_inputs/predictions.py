"""Predictions that are bad or unusual."""

import gzip
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from unusual_input import UnusualInput, write_labels

ROWS_OF_LABELS = 60
SCAN = ["scan", "labels.csv", "--out", "out", "--pred-probs"]


def _frame(folder):
    """Write ``labels.csv``; return predictions for it, with a column of ids."""
    labels = np.arange(ROWS_OF_LABELS) % 3
    write_labels(folder, labels)
    probs = 0.8 * np.eye(3)[labels] + 0.2 / 3
    frame = pd.DataFrame(probs, columns=["0", "1", "2"])
    frame.insert(0, "id", [str(row) for row in range(ROWS_OF_LABELS)])
    return frame


def _csv(change=lambda frame: frame, edit=lambda text: text, name="p.csv"):
    def make(folder):
        text = change(_frame(folder)).to_csv(index=False, sep="\t" if "tsv" in name else ",")
        data = edit(text).encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return [*SCAN, name]

    return make


def _parquet(change=lambda columns: columns, names=None):
    def make(folder):
        frame = _frame(folder)
        columns = change({name: frame[name].tolist() for name in frame})
        table = pa.table(list(columns.values()), names or list(columns))
        pq.write_table(table, folder / "p.parquet")
        return [*SCAN, "p.parquet"]

    return make


def _array(change, name="p.npy"):
    def make(folder):
        np.save(folder / "p", change(_frame(folder).to_numpy()[:, 1:].astype(float)))
        (folder / "p.npy").rename(folder / name)
        return [*SCAN, name]

    return make


def _file(write, name="p.npy"):
    def make(folder):
        _frame(folder)
        write(folder / name)
        return [*SCAN, name]

    return make


def _right(folder, _):
    samples = pd.read_parquet(folder / "out" / "samples.parquet")
    assert len(samples) == ROWS_OF_LABELS
    assert (samples["given_label"] == samples["predicted_label"]).all()


def _late(column, value):
    def change(frame):
        frame = frame.astype(object)
        frame.loc[7, column] = value
        return frame

    return change


NOT_NUMBERS = r"p\.npy is not a \.npy file of numbers"

ROWS = [
    UnusualInput("predictions of no file", _file(lambda p: None), message="p.npy does not exist"),
    UnusualInput(
        "predictions that are a folder",
        _file(lambda p: p.mkdir(), "p.csv"),
        message="not a regular file",
    ),
    UnusualInput(
        "predictions that are a named pipe",
        _file(os.mkfifo, "p.csv"),
        message="not a regular file",
        seconds=20,
    ),
    UnusualInput(
        "predictions that are a device",
        _file(lambda p: p.symlink_to("/dev/zero")),
        message="not a regular file",
        seconds=20,
    ),
    UnusualInput(
        "predictions in another format",
        _file(lambda p: p.write_text("{}"), "p.json"),
        message="is no .npy, .parquet, .csv or .tsv",
    ),
    UnusualInput(
        "a text as predictions .npy", _file(lambda p: p.write_text("1,2")), message=NOT_NUMBERS
    ),
    UnusualInput(
        "an archive as predictions .npy",
        _file(lambda p: np.savez(p.open("wb"), a=np.eye(3))),
        message="holds several arrays",
    ),
    UnusualInput(
        "predictions of one axis", _array(lambda v: v[:, 0]), message=r"has the shape \(60,\)"
    ),
    UnusualInput(
        "predictions of two classes of three",
        _array(lambda v: v[:, :2]),
        message="has 2 columns and the labels name 3",
    ),
    UnusualInput(
        "predictions of too few rows",
        _array(lambda v: v[1:]),
        message="has 59 rows and there are 60",
    ),
    UnusualInput("predictions of texts", _array(lambda v: v.astype(str)), message="holds <U"),
    UnusualInput(
        "predictions that are NaN",
        _array(lambda v: np.where(v == v[7, 1], np.nan, v)),
        message="p.npy",
    ),
    UnusualInput(
        "an empty CSV of predictions", _file(lambda p: p.write_text(""), "p.csv"), message="p.csv"
    ),
    UnusualInput(
        "a header of predictions", _csv(edit=lambda t: t.splitlines()[0] + "\n"), message="p.csv"
    ),
    UnusualInput(
        "predictions with semicolons",
        _csv(edit=lambda t: t.replace(",", ";")),
        message="separated by semicolons",
    ),
    UnusualInput(
        "predictions of a class twice",
        _csv(lambda f: f.rename(columns={"1": "0"})),
        message="with different names",
    ),
    UnusualInput(
        "predictions without a class",
        _csv(lambda f: f.drop(columns="1")),
        message="1 of the labels' classes have no column",
    ),
    UnusualInput(
        "predictions with a word",
        _csv(_late("1", "high")),
        message='column "1" of p.csv holds string',
    ),
    UnusualInput(
        "predictions of an id twice", _csv(_late("id", "3")), message='ids in p.csv repeat: "3"'
    ),
    UnusualInput(
        "predictions without an id",
        _csv(lambda f: f.drop(index=7)),
        message='1 of 60 samples have no predictions in p.csv: "7"',
    ),
    UnusualInput(
        "predictions with a short row",
        _csv(edit=lambda t: t + "61,0.1\n"),
        message="p.csv cannot be read as a table of predictions",
    ),
    UnusualInput(
        "predictions in UTF-16",
        _file(lambda p: p.write_text("id,0,1,2", encoding="utf-16"), "p.csv"),
        message="not a text table in UTF-8",
    ),
    UnusualInput(
        "a name of 200,000 characters in predictions",
        _csv(lambda f: f.rename(columns={"1": "y" * 200_000})),
        message="p.csv",
    ),
    UnusualInput("packed predictions", _csv(name="p.csv.gz"), check=_right),
    UnusualInput("packed predictions with tabs", _csv(name="p.tsv.gz"), check=_right),
    UnusualInput(
        "packed predictions that were cut",
        _file(lambda p: p.write_bytes(gzip.compress(b"id,0,1,2\n" * 99)[:-9]), "p.csv.gz"),
        message="p.csv.gz",
    ),
    UnusualInput(
        "a text called predictions .parquet",
        _file(lambda p: p.write_text("1,2"), "p.parquet"),
        message="is not a parquet file",
    ),
    UnusualInput(
        "ids of predictions that are lists",
        _parquet(lambda c: c | {"id": [["a"]] * 60}),
        message="the id in row 0 of p.parquet is a list",
    ),
    UnusualInput(
        "ids of predictions stored as binary",
        _parquet(lambda c: c | {"id": [i.encode() for i in c["id"]]}),
        check=_right,
    ),
    UnusualInput(
        "predictions stored as lists",
        _parquet(lambda c: c | {"1": [[0.5]] * 60}),
        message='column "1" of p.parquet holds list',
    ),
    UnusualInput(
        "predictions with a column twice",
        _parquet(names=["id", "0", "1", "1"]),
        message="with different names",
    ),
]

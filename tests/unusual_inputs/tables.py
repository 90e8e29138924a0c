"""Tables that are bad or unusual, as the source of a scan."""

import csv
import gzip
import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from unusual_input import UnusualInput, write_features, write_labels

# Predictions are the quickest scan of a table, because nothing is trained.
QUICK = ["--pred-probs", "predictions.npy", "--out", "out"]


def _write_predictions(folder):
    """Write ``predictions.npy`` for 60 rows. Return the labels."""
    labels = np.arange(60) % 3
    np.save(folder / "predictions.npy", 0.8 * np.eye(3)[labels] + 0.2 / 3)
    return labels


# --- makers: each returns a function that writes the input and returns the command line -----------


def _bytes(data, name="labels.csv", options=QUICK):
    """A table with this content, and predictions of 60 rows."""

    def make(folder):
        _write_predictions(folder)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return ["scan", name, *options]

    return make


def _rows(change=lambda text: text, name="labels.csv", encoding="utf-8", options=QUICK):
    """A usual CSV table whose text was changed."""

    def make(folder):
        labels = _write_predictions(folder)
        write_labels(folder, labels, "usual")
        text = (folder / "usual").read_text()
        (folder / "usual").unlink()
        (folder / name).write_bytes(change(text).encode(encoding))
        return ["scan", name, *options]

    return make


def _json(change=lambda record: record, options=QUICK, name="labels.jsonl"):
    """A JSONL table whose objects were changed."""

    def make(folder):
        labels = _write_predictions(folder)
        records = [
            {"id": row, "label": f"c{label}", "row": row} for row, label in enumerate(labels)
        ]
        lines = [json.dumps(change(record)) for record in records]
        (folder / name).write_text("\n".join(lines))
        return ["scan", name, *options]

    return make


def _parquet(more=lambda count: {}, names=None, options=QUICK):
    """A parquet table with more columns, or with columns that are replaced."""

    def make(folder):
        labels = _write_predictions(folder)
        columns = {
            "id": [str(row) for row in range(len(labels))],
            "label": [f"c{label}" for label in labels],
        } | more(len(labels))
        table = pa.table(list(columns.values()), list(columns))
        if names is not None:
            table = table.rename_columns(names)
        pq.write_table(table, folder / "labels.parquet")
        return ["scan", "labels.parquet", *options]

    return make


def _packed(name, change=lambda data: data):
    def make(folder):
        labels = _write_predictions(folder)
        write_labels(folder, labels, "usual")
        text = (folder / "usual").read_text()
        (folder / "usual").unlink()
        if "tsv" in name:
            text = text.replace(",", "\t")
        if "jsonl" in name:
            rows = csv.DictReader(text.splitlines())
            text = "\n".join(json.dumps(row) for row in rows)
        (folder / name).write_bytes(change(gzip.compress(text.encode())))
        return ["scan", name, *QUICK]

    return make


def _bomb(folder):
    _write_predictions(folder)
    with gzip.open(folder / "labels.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"path,label\n")
        for _ in range(10):
            file.write(b"0,a\n" * (1 << 21))
    return ["scan", "labels.csv.gz", *QUICK]


def _sparse(name):
    def make(folder):
        _write_predictions(folder)
        with (folder / name).open("wb") as file:
            file.write(b"path,label\n")
            file.truncate(300 * 10**9)
        return ["scan", name, *QUICK]

    return make


def _pipe(folder):
    _write_predictions(folder)
    os.mkfifo(folder / "pipe")
    (folder / "labels.csv").symlink_to("pipe")
    return ["scan", "labels.csv", *QUICK]


def _link(target):
    def make(folder):
        _write_predictions(folder)
        (folder / "labels.csv").symlink_to(target)
        return ["scan", "labels.csv", *QUICK]

    return make


def _folder(folder):
    _write_predictions(folder)
    (folder / "labels.csv").mkdir()
    return ["scan", "labels.csv", *QUICK]


def _as_labels(make):
    """The same table as the labels of a folder of images."""

    def with_images(folder):
        make(folder)
        (folder / "photos").mkdir()
        (folder / "photos" / "a.png").write_bytes(b"never opened")
        table = next(path.name for path in folder.glob("labels*"))
        return ["scan", "photos", table, "--out", "out"]

    return with_images


def _long_words(folder):
    """A word of 1 MB that a million rows repeat: 1 TB of text in a small file."""
    _write_predictions(folder)
    words = pa.array(["a" * (1 << 20), "b"])
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1 << 20, np.int32)), words)
    table = pa.table({"id": column, "label": column})
    pq.write_table(table, folder / "labels.parquet", write_statistics=False)
    return ["scan", "labels.parquet", *QUICK]


def _damaged_parquet(place):
    def make(folder):
        _parquet()(folder)
        data = bytearray((folder / "labels.parquet").read_bytes())
        data[place : place + 8] = b"\xff" * 8
        (folder / "labels.parquet").write_bytes(bytes(data))
        return ["scan", "labels.parquet", *QUICK]

    return make


def _tabular(change=lambda frame: None, suffix="csv"):
    """A table of numbers, some of which were changed, scanned as one."""

    def make(folder):
        labels = write_features(folder)
        values = np.load(folder / "features.npy")
        frame = pd.DataFrame(values, columns=list("abcd")).round(2).astype(object)
        frame["label"] = [f"c{label}" for label in labels]
        change(frame)
        if suffix == "csv":
            frame.to_csv(folder / "table.csv", index=False)
        else:
            frame.to_parquet(folder / "table.parquet", index=False)
        return ["scan", f"table.{suffix}", "--tabular", "--epochs", "1", "--out", "out"]

    return make


def _with_marks(*marks):
    def change(frame):
        for place, mark in enumerate(marks):
            frame.loc[place * 2, "a"] = mark
            frame.loc[place * 3, "b"] = mark

    return _tabular(change)


# --- checks ------------------------------------------------------------------------------------


def _summary(folder):
    return json.loads((folder / "out" / "summary.json").read_text())


def _samples(folder):
    return pd.read_parquet(folder / "out" / "samples.parquet")


def _classes(*names):
    def check(folder, _):
        assert sorted(_samples(folder)["given_label"].dropna().unique()) == sorted(names)
        assert len(_samples(folder)) == 60

    return check


def _missing(number, said):
    def check(folder, output):
        words = _summary(folder)["columns"]["a"]
        assert words.startswith("number")
        assert f"{number} missing" in words
        assert said in words
        assert f"a: {words}" in " ".join(output.split())

    return check


def _says(text):
    def check(_, output):
        assert text in " ".join(output.split())

    return check


NUMBERS, NAMES = _classes("0", "1", "2"), _classes("c0", "c1", "c2")
DATE = pa.array([2**62] * 60, pa.timestamp("ns"))
FAR = pa.array([2**31 - 1] * 60, pa.int32()).view(pa.date32())
LONG = "x" * 300


def _set(**values):
    return lambda record: record | values


def _at(row, **values):
    return lambda record: record | values if record["row"] == row else record


BINARY = {
    "label": pa.array([b"c%d" % (row % 3) for row in range(60)]),
    "id": pa.array([b"%d" % row for row in range(60)], pa.large_binary()),
}

ROWS = [
    # Text
    UnusualInput("an empty CSV file", _bytes(b"", options=["--out", "out"]), message="labels.csv"),
    UnusualInput("a CSV file of a header", _bytes("path,label\n"), message="it has no rows below"),
    UnusualInput("a CSV file of blank lines", _bytes("\n\n\n"), message="no column for the labels"),
    UnusualInput("Windows line ends", _rows(lambda t: t.replace("\n", "\r\n")), check=NUMBERS),
    UnusualInput("line ends of old Macs", _rows(lambda t: t.replace("\n", "\r")), check=NUMBERS),
    UnusualInput("semicolons", _rows(lambda t: t.replace(",", ";")), check=NUMBERS),
    UnusualInput("a byte order mark", _rows(encoding="utf-8-sig"), check=NUMBERS),
    UnusualInput(
        "a CSV file in UTF-16", _rows(encoding="utf-16"), message="not a text table in UTF-8"
    ),
    UnusualInput(
        "a CSV file in Latin-1",
        _rows(lambda t: t.replace(",1\n", ",é\n"), encoding="latin-1"),
        message="not a text table in UTF-8; save it as UTF-8",
    ),
    UnusualInput(
        "an image called .csv", _bytes(b"\x89PNG\r\n\x1a\n\0\0"), message="not a text table"
    ),
    UnusualInput("zeros called .csv", _bytes(b"\0" * 1000), message="is not a text table"),
    UnusualInput(
        "a cell of 200,000 characters",
        _rows(
            lambda t: t.replace("label\n0,", "label,text\n0,").replace(
                ",1\n", f",1,{'w ' * 10**5}\n", 1
            )
        ),
        check=NUMBERS,
    ),
    UnusualInput(
        "more cells than the header",
        _rows(lambda t: t.replace("3,0", "3,0,9,9")),
        message="line 5 has 4",
    ),
    UnusualInput(
        "a quote that is not closed", _rows(lambda t: t + '"'), message="line 62 is not CSV"
    ),
    UnusualInput(
        "a label column twice",
        _rows(lambda t: t.replace("path", "label")),
        message='two columns "label"; rename one',
    ),
    UnusualInput(
        "a line end in a column's name",
        _bytes('"pa\nth","la\0bel"\n1,2\n'),
        message=r"its columns: pa\\nth, la\\x00bel",
    ),
    UnusualInput(
        "a column's name of 5,000 characters",
        _bytes("y" * 5000 + ",z\n1,2\n"),
        message=r"y…, z; name it",
    ),
    UnusualInput(
        "columns by the thousand",
        _bytes(",".join(f"c{i}" for i in range(5000)) + "\n1\n"),
        message="and 4,980 more",
    ),
    UnusualInput(
        "a column in another Unicode form",
        _rows(
            lambda t: t.replace("label", "gro\u0308\u00dfe"),
            options=["--label-column", "gr\u00f6\u00dfe", *QUICK],
        ),
        check=NUMBERS,
    ),
    UnusualInput(
        "labels NA, null and None",
        _rows(
            lambda t: (
                t.replace(",0\n", ",NA\n").replace(",1\n", ",null\n").replace(",2\n", ",None\n")
            )
        ),
        check=_classes("NA", "None", "null"),
    ),
    # Files that are none
    UnusualInput("a table that is a folder", _folder, message="no image found in labels.csv"),
    UnusualInput(
        "a table that is a named pipe",
        _pipe,
        message="labels.csv is not a regular file",
        seconds=20,
    ),
    UnusualInput(
        "a table that is a device", _link("/dev/zero"), message="not a regular file", seconds=20
    ),
    UnusualInput("a table that is a link to itself", _link("labels.csv"), message="labels.csv"),
    UnusualInput("a table that is a link to nothing", _link("nowhere"), message="labels.csv"),
    UnusualInput(
        "labels that are a named pipe", _as_labels(_pipe), message="not a regular file", seconds=20
    ),
    UnusualInput(
        "labels that are a device",
        _as_labels(_link("/dev/zero")),
        message="not a regular file",
        seconds=20,
    ),
    UnusualInput(
        "a sparse CSV file of 300 GB",
        _sparse("labels.csv"),
        message="would take at least 279.4 GiB of memory",
        seconds=20,
    ),
    UnusualInput(
        "a sparse JSONL file of 300 GB",
        _sparse("labels.jsonl"),
        message="would take at least 279.4 GiB of memory",
        seconds=20,
    ),
    UnusualInput(
        "a sparse parquet file of 300 GB",
        _sparse("labels.parquet"),
        message="is not a parquet file",
        seconds=20,
    ),
    # Packed tables
    UnusualInput("a packed CSV file", _packed("labels.csv.gz"), check=NUMBERS),
    UnusualInput("a packed TSV file", _packed("labels.TSV.GZ".lower()), check=NUMBERS),
    UnusualInput("a packed JSONL file", _packed("labels.jsonl.gz"), check=NUMBERS),
    UnusualInput(
        "a packed file that was cut",
        _packed("labels.csv.gz", lambda d: d[:-20]),
        message="cannot be read: Compressed file ended",
    ),
    UnusualInput(
        "a packed file that is damaged",
        _packed("labels.csv.gz", lambda d: d[:30] + b"\xff" * 30 + d[60:]),
        message="labels.csv.gz",
    ),
    UnusualInput(
        "a text called .csv.gz", _rows(name="labels.csv.gz"), message="Not a gzipped file"
    ),
    UnusualInput(
        "a packed file called .csv", _packed("labels.csv"), message="labels.csv is not a text table"
    ),
    UnusualInput(
        "a packed bomb", _bomb, message="unpacks to more than 200 times its size", seconds=30
    ),
    # JSONL
    UnusualInput(
        "JSON nested 100,000 deep",
        _bytes("[" * 10**5, "labels.jsonl"),
        message="line 1 is nested too deeply",
    ),
    UnusualInput(
        "a JSON number of 5,000 digits",
        _bytes('{"label": ' + "1" * 5000 + "}", "labels.jsonl"),
        message="line 1 is not JSON",
    ),
    UnusualInput(
        "JSON that is a list", _bytes('[{"label": 1}]', "labels.jsonl"), message="not a JSON object"
    ),
    UnusualInput(
        "a JSON label that is a list",
        _json(_at(7, label=["a"])),
        message='line 8: "label" is a list',
    ),
    UnusualInput(
        "JSON labels of truth values",
        _json(lambda r: r | {"label": (True, False, 5)[r["row"] % 3]}),
        check=_classes("true", "false", "5"),
    ),
    UnusualInput(
        "JSON labels with halves of characters",
        _json(lambda r: r | {"label": "ab\ud800"[: 1 + r["row"] % 3]}),
        check=_classes("a", "ab", "ab\\ud800"),
    ),
    UnusualInput("a JSON key with half of a character", _json(_set(**{"x\udcff": 1})), check=NAMES),
    UnusualInput(
        "JSON with 1e999 and NaN", _json(_at(3, x=float("inf"), y=float("nan"))), check=NAMES
    ),
    UnusualInput(
        "JSON features of texts",
        _json(_set(v=["a"]), ["--features", "v", "--out", "out"]),
        message='"v" in labels.jsonl is not a list of numbers',
    ),
    UnusualInput(
        "JSON features of huge numbers",
        _json(_set(v=[10**400]), ["--features", "v", "--out", "out"]),
        message='"v" in labels.jsonl is not a list of numbers',
    ),
    # Parquet
    UnusualInput(
        "parquet with a column twice",
        _parquet(names=["label", "label"]),
        message='two columns "label"; rename one',
    ),
    UnusualInput(
        "parquet with a needless column twice",
        _parquet(lambda n: {"x": [1] * n, "y": [2] * n}, ["id", "label", "x", "x"]),
        check=NAMES,
    ),
    UnusualInput(
        "parquet with a date beyond the calendar", _parquet(lambda n: {"when": FAR}), check=NAMES
    ),
    UnusualInput(
        "parquet labels of dates",
        _parquet(lambda n: {"label": FAR}),
        message='"label" of labels.parquet holds neither text nor numbers',
    ),
    UnusualInput("parquet ids of times", _parquet(lambda n: {"id": DATE}), check=NAMES),
    UnusualInput(
        "parquet labels of decimals",
        _parquet(lambda n: {"label": pa.array([row % 3 for row in range(n)], pa.decimal128(5, 0))}),
        check=NUMBERS,
    ),
    UnusualInput(
        "parquet labels of nulls", _parquet(lambda n: {"label": pa.nulls(n)}), message="has a label"
    ),
    UnusualInput(
        "parquet labels of lists",
        _parquet(lambda n: {"label": [["a"]] * n}),
        message="neither text nor numbers",
    ),
    UnusualInput(
        "parquet labels of a dictionary",
        _parquet(
            lambda n: {"label": pa.array([f"c{row % 3}" for row in range(n)]).dictionary_encode()}
        ),
        check=NAMES,
    ),
    UnusualInput("parquet strings stored as binary", _parquet(lambda n: BINARY), check=NAMES),
    UnusualInput(
        "parquet labels of bytes that are no text",
        _parquet(lambda n: {"label": [b"\xff\xfe"] * n}),
        message="neither text nor numbers",
    ),
    UnusualInput(
        "parquet without a column",
        lambda f: (
            pq.write_table(pa.table({}), f / "labels.parquet"),
            ["scan", "labels.parquet", "--out", "out"],
        )[1],
        message="its columns: none",
    ),
    UnusualInput(
        "parquet without a row",
        _parquet(lambda n: {"id": [], "label": []}),
        message="no rows|empty",
    ),
    UnusualInput(
        "text called .parquet", _rows(name="labels.parquet"), message="is not a parquet file"
    ),
    UnusualInput(
        "parquet damaged at its end",
        _damaged_parquet(-16),
        message="is not a parquet file, or a damaged one",
    ),
    UnusualInput(
        "parquet damaged at its start",
        _damaged_parquet(4),
        message="is not a parquet file, or a damaged one",
    ),
    UnusualInput("parquet of a long word repeated", _long_words, message="memory", seconds=60),
    # Numbers that are missing
    UnusualInput(
        "NA in numbers", _with_marks("NA", "NA", "NA"), check=_missing(3, '(written "NA")')
    ),
    UnusualInput(
        "every usual mark in numbers",
        _with_marks("nan", "None", "-", "n/a", "#N/A", "null"),
        check=_missing(6, "and 3 more"),
    ),
    UnusualInput(
        "numbers that are too large for float32", _with_marks("1e300"), check=_says("heavy tail")
    ),
]

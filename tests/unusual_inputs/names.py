"""Names of files that are too long, not UTF-8, or hold control characters."""

import os

import numpy as np
import pandas as pd
from unusual_input import QUICK, UnusualInput, write_features, write_images, write_labels

LATIN = os.fsdecode(b"caf\xe9")  # as a disk from long ago has it
LONG = "x" * 300
PREDICTED = ["--pred-probs", "p.npy", "--out", "out"]


def _named(table="labels.csv", array="p.npy", options=PREDICTED):
    """A table of labels and predictions with these names."""

    def make(folder):
        labels = np.arange(60) % 3
        write_labels(folder, labels, table)
        np.save(folder / "p.npy", 0.8 * np.eye(3)[labels] + 0.2 / 3)
        (folder / "p.npy").rename(folder / array)
        return ["scan", table, *options]

    return make


def _features(name):
    def make(folder):
        write_labels(folder, write_features(folder))
        (folder / "features.npy").rename(folder / name)
        return ["scan", "labels.csv", "--features", name, "--epochs", "1", "--out", "out"]

    return make


def _photos(folder):
    (folder / LATIN).mkdir()
    write_images(folder / LATIN / "photos")
    return ["scan", f"{LATIN}/photos", *QUICK]


def _long_ids(folder):
    _named()(folder)
    rows = [f"{LONG}{row}.png,{row % 3}" for row in range(60)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]))
    return ["scan", "labels.csv", *PREDICTED]


def _samples(number):
    def check(folder, _):
        assert len(pd.read_parquet(folder / "out" / "samples.parquet")) == number

    return check


def _scan(*words):
    return lambda folder: (_named()(folder), ["scan", *words])[1]


MISSING = "does not exist"

ROWS = [
    UnusualInput("a source with a name of 300 letters", _scan(LONG), message=MISSING),
    UnusualInput(
        "a table with a name of 300 letters", _scan(f"{LONG}.csv", *PREDICTED), message=MISSING
    ),
    UnusualInput("labels with a name of 300 letters", _scan(".", LONG), message=MISSING),
    UnusualInput(
        "features with a name of 300 letters",
        _scan("labels.csv", "--features", f"{LONG}.npy"),
        message=MISSING,
    ),
    UnusualInput(
        "features by id with a name of 300 letters",
        _scan("labels.csv", "--features", f"{LONG}.parquet"),
        message=MISSING,
    ),
    UnusualInput(
        "a column of features with a name of 300 letters",
        _scan("labels.csv", "--features", LONG),
        message="which is no file .npy or .parquet",
    ),
    UnusualInput(
        "predictions with a name of 300 letters",
        _scan("labels.csv", "--pred-probs", f"{LONG}.csv"),
        message="File name too long",
    ),
    UnusualInput(
        "a label column with a name of 300 letters",
        _named(options=["--label-column", LONG, *PREDICTED]),
        message="labels.csv has no column",
    ),
    UnusualInput("images with names of 300 letters", _long_ids, check=_samples(60)),
    UnusualInput(
        "a name of a file with a NUL", _scan("a\0b.csv"), message=r"a\\x00b\.csv does not exist"
    ),
    UnusualInput(
        "a name of a file with an escape",
        _scan("a\x1b[31m.csv"),
        message=r"a\\x1b\[31m\.csv does not exist",
    ),
    UnusualInput("a table whose name is not UTF-8", _named(f"{LATIN}.csv"), check=_samples(60)),
    UnusualInput("features whose name is not UTF-8", _features(f"{LATIN}.npy"), check=_samples(60)),
    UnusualInput("images below a folder whose name is not UTF-8", _photos, check=_samples(20)),
    UnusualInput(
        "an --out whose name is not UTF-8",
        _named(options=[*PREDICTED[:2], "--out", LATIN]),
        message=r"caf\\udce9 is not UTF-8.*--out",
    ),
    UnusualInput(
        "a column whose name is not UTF-8",
        _named(options=["--label-column", LATIN, *PREDICTED]),
        message=r'no column "caf\\udce9"',
    ),
]

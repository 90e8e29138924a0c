"""Tables that are bad or unusual."""

import pandas as pd
from unusual_input import UnusualInput, write_features, write_labels


def _empty_table(folder):
    (folder / "empty.csv").write_bytes(b"")
    return ["scan", "empty.csv", "--out", "out"]


def _windows_line_ends(folder):
    labels = write_features(folder)
    write_labels(folder, labels)
    text = (folder / "labels.csv").read_bytes()
    (folder / "labels.csv").write_bytes(text.replace(b"\n", b"\r\n"))
    return ["scan", "labels.csv", "--features", "features.npy", "--epochs", "1", "--out", "out"]


def _three_classes(folder, _):
    samples = pd.read_parquet(folder / "out" / "samples.parquet")
    assert sorted(samples["given_label"].unique()) == ["0", "1", "2"]


ROWS = [
    UnusualInput("an empty CSV file", _empty_table, message="empty.csv"),
    UnusualInput("Windows line ends", _windows_line_ends, check=_three_classes),
]

"""Features that are bad or unusual: .npy files, parquet files and columns of lists."""

import io
import os
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from unusual_input import UnusualInput, write_features, write_images, write_labels

SCAN = ["scan", "labels.csv", "--epochs", "1", "--out", "out", "--features"]


def _values(folder):
    """Write ``labels.csv``; return features (60, 4) that separate its classes."""
    labels = write_features(folder)
    write_labels(folder, labels)
    values = np.load(folder / "features.npy")
    (folder / "features.npy").unlink()
    return values


def _array(change, name="f.npy"):
    """Features whose array was changed, in a NumPy file."""

    def make(folder):
        np.save(folder / "f", change(_values(folder)), allow_pickle=True)
        (folder / "f.npy").rename(folder / name)
        return [*SCAN, name]

    return make


def _bytes(change, name="f.npy"):
    """Features in a NumPy file whose bytes were changed."""

    def make(folder):
        out = io.BytesIO()
        np.save(out, _values(folder))
        (folder / name).write_bytes(change(out.getvalue()))
        return [*SCAN, name]

    return make


def _header(text):
    """A NumPy file with this header."""
    header = text.encode().ljust(118) + b"\n"
    return lambda data: b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data[128:]


def _sparse(shape):
    def make(folder):
        _values(folder)
        head = _header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}")(b"")
        with (folder / "f.npy").open("wb") as file:
            file.write(head)
            file.truncate(len(head) + 4 * shape[0] * shape[1])
        return [*SCAN, "f.npy"]

    return make


def _special(write):
    def make(folder):
        _values(folder)
        write(folder / "f.npy")
        return [*SCAN, "f.npy"]

    return make


def _pipe_behind_link(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def _archive(path):
    with path.open("wb") as file:
        np.savez(file, a=np.eye(3), b=np.eye(3))


def _parquet(change=lambda columns: columns, names=None, source="labels.csv"):
    """Features by id, whose columns were changed."""

    def make(folder):
        values = _values(folder)
        columns = change({"id": [str(row) for row in range(60)], "features": values.tolist()})
        table = pa.table(list(columns.values()), names or list(columns))
        pq.write_table(table, folder / "f.parquet")
        return ["scan", source, *SCAN[2:], "f.parquet"]

    return make


def _column(make_table, column):
    """Features in a column of the table itself."""

    def make(folder):
        values = _values(folder)
        frame = pd.DataFrame({"path": [str(row) for row in range(60)], "label": list("abc") * 20})
        name = make_table(frame, values, folder)
        return ["scan", name, *SCAN[2:], column]

    return make


def _json_lists(change):
    def write(frame, values, folder):
        frame["v"] = values.tolist()
        frame["v"] = change(frame["v"])
        frame.to_json(folder / "t.jsonl", orient="records", lines=True)
        return "t.jsonl"

    return _column(write, "v")


def _of_images(names):
    """Features of images by their paths."""

    def make(folder):
        write_images(folder / "photos")
        found = [f"class{label}/{row:03d}.png" for label in range(2) for row in range(10)]
        values = np.repeat(np.eye(2), 10, axis=0).tolist()
        table = pa.table({"sample_id": names(found), "features": values})
        pq.write_table(table, folder / "f.parquet")
        return ["scan", "photos", *SCAN[2:], "f.parquet"]

    return make


def _three_classes(folder, _):
    samples = pd.read_parquet(folder / "out" / "samples.parquet")
    assert samples["given_label"].nunique() == 3
    assert len(samples) == 60


def _composed(folder):
    """Ids that a Mac writes in two characters, and other systems in one."""
    values = _values(folder)
    rows = [f"e\u0301{row},c{row % 3}" for row in range(60)]
    (folder / "labels.csv").write_text("\n".join(["id,label", *rows]), encoding="utf-8")
    ids = [f"\u00e9{row}" for row in range(60)]
    pq.write_table(pa.table({"id": ids, "features": values.tolist()}), folder / "f.parquet")
    return [*SCAN, "f.parquet"]


def _pandas_index(folder):
    """A DataFrame whose index is not named: its numbers are no feature."""
    values = _values(folder)
    frame = pd.DataFrame(values, columns=list("abcd")).assign(id=[str(row) for row in range(60)])
    frame.index = frame.index + 1_000_000
    frame.to_parquet(folder / "f.parquet")
    return [*SCAN, "f.parquet"]


def _four_features(folder, output):
    _three_classes(folder, output)
    assert "4 features per sample" in output


def _late(column, value):
    def change(columns):
        columns[column][7] = value
        return columns

    return change


NOT_NUMBERS = r"f\.npy is not a \.npy file of numbers"
DAMAGED = "is not a parquet file, or a damaged one"
FAR = pa.array([2**31 - 1] * 60, pa.int32()).view(pa.date32())
TIMES = pa.array([2**62] * 60, pa.timestamp("us"))
UNLIKE = '"7" in f.parquet has 2 features'

ROWS = [
    UnusualInput(
        "features of no file",
        lambda f: (_values(f), [*SCAN, "f.npy"])[1],
        message="f.npy does not exist",
    ),
    UnusualInput(
        "features that are a folder",
        _special(lambda p: p.mkdir()),
        message="f.npy is not a regular file",
    ),
    UnusualInput(
        "features that are a named pipe",
        _special(os.mkfifo),
        message="not a regular file",
        seconds=20,
    ),
    UnusualInput(
        "features that are a link to a pipe",
        _special(_pipe_behind_link),
        message="not a regular file",
        seconds=20,
    ),
    UnusualInput(
        "features that are a device",
        _special(lambda p: p.symlink_to("/dev/zero")),
        message="not a regular file",
        seconds=20,
    ),
    UnusualInput(
        "features that are a link to itself",
        _special(lambda p: p.symlink_to("f.npy")),
        message="f.npy",
    ),
    UnusualInput(
        "an archive called .npy", _special(_archive), message=r"holds several arrays \(\.npz\)"
    ),
    UnusualInput("an empty .npy file", _bytes(lambda d: b""), message=NOT_NUMBERS),
    UnusualInput("a text called .npy", _bytes(lambda d: b"1,2,3\n" * 60), message=NOT_NUMBERS),
    UnusualInput("a .npy file that was cut", _bytes(lambda d: d[:-100]), message=NOT_NUMBERS),
    UnusualInput(
        "a .npy file that was cut in its header", _bytes(lambda d: d[:40]), message=NOT_NUMBERS
    ),
    UnusualInput(
        "a .npy header with open brackets", _bytes(_header("{'descr': ((((((")), message=NOT_NUMBERS
    ),
    UnusualInput("a .npy header nested deeply", _bytes(_header("(" * 110)), message=NOT_NUMBERS),
    UnusualInput(
        "a .npy header of other code", _bytes(_header("__import__('os')")), message=NOT_NUMBERS
    ),
    UnusualInput(
        "a .npy header of an unknown type",
        _bytes(_header("{'descr': 'zz', 'fortran_order': False, 'shape': (60, 4)}")),
        message=NOT_NUMBERS,
    ),
    UnusualInput(
        "a .npy header of a negative shape",
        _bytes(_header("{'descr': '<f4', 'fortran_order': False, 'shape': (60, -4)}")),
        message=NOT_NUMBERS,
    ),
    UnusualInput(
        "a .npy header of a huge shape",
        _bytes(
            _header("{'descr': '<f4', 'fortran_order': False, 'shape': (60, 4611686018427387904)}")
        ),
        message=NOT_NUMBERS,
    ),
    UnusualInput(
        "pickled objects as features", _array(lambda v: v.astype(object)), message=NOT_NUMBERS
    ),
    UnusualInput(
        "features of texts", _array(lambda v: v.astype(str)), message="holds <U32; give numbers"
    ),
    UnusualInput(
        "features of complex numbers",
        _array(lambda v: v.astype(complex)),
        message="holds complex128; give numbers",
    ),
    UnusualInput(
        "features of dates",
        _array(lambda v: v.astype("M8[s]")),
        message="holds datetime64.s.; give numbers",
    ),
    UnusualInput(
        "features of records",
        _array(lambda v: np.zeros((60, 4), [("x", "f4")])),
        message="holds .*; give numbers",
    ),
    UnusualInput(
        "features of truth values", _array(lambda v: v > 1), message="holds bool; give numbers"
    ),
    UnusualInput(
        "features without an axis", _array(lambda v: v[0, 0]), message=r"has the shape \(\)"
    ),
    UnusualInput(
        "features with one axis", _array(lambda v: v[:, 0]), message=r"has the shape \(60,\)"
    ),
    UnusualInput(
        "features with three axes",
        _array(lambda v: v[..., None]),
        message=r"has the shape \(60, 4, 1\)",
    ),
    UnusualInput(
        "features without a row", _array(lambda v: v[:0]), message=r"has the shape \(0, 4\)"
    ),
    UnusualInput(
        "features without a column", _array(lambda v: v[:, :0]), message=r"has the shape \(60, 0\)"
    ),
    UnusualInput(
        "features of one row too many",
        _array(lambda v: np.concatenate([v, v[:1]])),
        message="has 61 rows and labels.csv has 60",
    ),
    UnusualInput(
        "a feature that is NaN",
        _array(lambda v: np.where(np.arange(240).reshape(60, 4) == 9, np.nan, v)),
        message=r"row 2 of f\.npy \(labels\.csv line 4\) has a feature that is not a finite",
    ),
    UnusualInput(
        "a feature beyond float32",
        _array(lambda v: np.where(v == v.max(), 1e300, v.astype(float))),
        message="or too large for float32",
    ),
    UnusualInput(
        "sparse features of 300 GB",
        _sparse((60, 1_250_000_000)),
        message="1,250,000,000 features per row",
        seconds=20,
    ),
    UnusualInput("features in Fortran's order", _array(np.asfortranarray), check=_three_classes),
    UnusualInput("big-endian features", _array(lambda v: v.astype(">f8")), check=_three_classes),
    UnusualInput(
        "features in .npz", _array(lambda v: v, "f.npz"), message="f.npz may hold several arrays"
    ),
    # Parquet
    UnusualInput(
        "feature ids of dates",
        _parquet(lambda c: c | {"id": FAR}),
        message=r"the id in row 0 of f\.parquet is a date32.*, not text",
    ),
    UnusualInput(
        "feature ids of times beyond the calendar",
        _parquet(lambda c: c | {"id": TIMES}),
        message="is a timestamp",
    ),
    UnusualInput(
        "feature ids of lists", _parquet(lambda c: c | {"id": [["a"]] * 60}), message="is a list"
    ),
    UnusualInput(
        "feature ids twice",
        _parquet(names=["id", "id"]),
        message="f.parquet has two columns|no ids or no features",
    ),
    UnusualInput(
        "feature ids that repeat",
        _parquet(_late("id", "3")),
        message='ids in f.parquet repeat: "3"',
    ),
    UnusualInput(
        "features of two lists",
        _parquet(
            lambda c: c | {"other": c["features"], "features": c["features"]}, ["id", "u", "v"]
        ),
        message="several columns of lists: u, v",
    ),
    UnusualInput(
        "features that differ in length", _parquet(_late("features", [1.0, 2.0])), message=UNLIKE
    ),
    UnusualInput(
        "features with a hole",
        _parquet(_late("features", None)),
        message='"7" in f.parquet has no features',
    ),
    UnusualInput(
        "a missing number in a list",
        _parquet(_late("features", [1.0, 2.0, 3.0, None])),
        message='"7" in f.parquet has a feature that is not a finite',
    ),
    UnusualInput(
        "features of nothing but ids",
        _parquet(lambda c: {"id": c["id"]}),
        message="has no ids or no features",
    ),
    UnusualInput(
        "features for other ids",
        _parquet(lambda c: c | {"id": [f"x{i}" for i in c["id"]]}),
        message='none of the 60 samples has features in f.parquet: it has e.g. "x0"',
    ),
    UnusualInput(
        "a text called features .parquet",
        lambda f: (_values(f), (f / "f.parquet").write_text("1,2"), [*SCAN, "f.parquet"])[2],
        message=DAMAGED,
    ),
    UnusualInput(
        "features that are a pipe called .parquet",
        lambda f: (_values(f), os.mkfifo(f / "f.parquet"), [*SCAN, "f.parquet"])[2],
        message="not a regular file",
        seconds=20,
    ),
    UnusualInput(
        "decimal features",
        _parquet(
            lambda c: {
                "id": c["id"],
                "x": pa.array([row % 3 for row in range(60)], pa.decimal128(9, 2)),
                "y": [0.5 * (row % 3) for row in range(60)],
            }
        ),
        check=_three_classes,
    ),
    UnusualInput(
        "feature ids stored as binary",
        _parquet(lambda c: c | {"id": [i.encode() for i in c["id"]]}),
        check=_three_classes,
    ),
    UnusualInput("feature ids in another Unicode form", _composed, check=_three_classes),
    UnusualInput("features with the index of pandas", _pandas_index, check=_four_features),
    UnusualInput(
        "features of images that are not there",
        _of_images(lambda names: [f"x/{n}" for n in names]),
        message="none of the 20 samples has features",
    ),
    # Columns of lists
    UnusualInput(
        "a column of features that is not there",
        _column(lambda t, v, f: (t.to_csv(f / "t.csv", index=False), "t.csv")[1], "v"),
        message='features are "v", which is no file',
    ),
    UnusualInput(
        "JSON lists that differ in length",
        _json_lists(lambda v: [*v[:-1], [1.0]]),
        message='"v" in t.jsonl line 60 has 1 features',
    ),
    UnusualInput(
        "JSON lists of lists",
        _json_lists(lambda v: [[one] for one in v]),
        message="is not a list of numbers",
    ),
    UnusualInput(
        "JSON objects as features",
        _json_lists(lambda v: [{"a": 1}] * 60),
        message="is not a list of numbers",
    ),
]

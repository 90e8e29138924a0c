"""Data sets in the forms that other tools write, and tables that do not fit their images."""

import gzip
import io
import json
import tarfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from unusual_input import QUICK, UnusualInput, write_features, write_images, write_labels

# --- tables and folders that do not fit ---------------------------------------------------------


def _table(name, command, **columns):
    """Write images `photos/class0/000.png` and so on, and a table with columns made of these names."""

    def make(folder):
        write_images(folder / "photos", each=3)
        files = sorted(
            path.relative_to(folder / "photos").as_posix()
            for path in (folder / "photos").rglob("*.png")
        )
        frame = pd.DataFrame({column: map(of, files) for column, of in columns.items()})
        (folder / name).parent.mkdir(exist_ok=True)
        frame.to_csv(folder / name, index=False)
        return command.split()

    return make


def _label(file):
    return file.split("/")[0]


def _misfit(name, message, path, command="scan photos l.csv", table="l.csv"):
    make = _table(table, command, path=path, label=_label)
    return UnusualInput(name, make, message=message)


MISFITS = [
    _misfit("paths that begin one folder above", r'begin with "photos/".*labelaudit scan /\S+ l\.csv',
            lambda f: f"photos/{f}"),
    _misfit("paths that begin in a folder that is not there", 'without "img/" in their paths',
            lambda f: f"img/{f}"),
    _misfit("images that lie one folder below", r'in its folder "photos".* scan photos t/l.csv',
            lambda f: f, "scan . t/l.csv", "t/l.csv"),
    _misfit("paths of another suffix", r"suffix \.png and the paths \.jpg",
            lambda f: f.replace("png", "jpg")),
    _misfit("names of other images", r'e\.g\. "x/class0/000.png.png.tif", .*the folder e\.g\. "class0',
            lambda f: f"x/{f}.png.tif"),
    _misfit("paths that are all empty", "none of the images", lambda f: " "),
    _misfit("a table beside no images", "there is no image in.*give the folder of the images",
            lambda f: f, "scan t/l.csv", "t/l.csv"),
]  # fmt: skip


def _few(folder):
    _table("l.csv", "", path=lambda f: f, label=_label)(folder)
    with (folder / "l.csv").open("a") as table:
        table.writelines(f"gone/{row}.png,class0\n" for row in range(20))
    return ["scan", "photos", "l.csv", *QUICK]


def _other_column(folder):
    _table("l.csv", "", id=lambda f: f"i{f}", where=lambda f: f, label=_label)(folder)
    return ["scan", "photos", "l.csv"]


def _says(*words):
    def check(folder, output):
        text = " ".join(output.split())
        assert all(word in text for word in words), text

    return check


# --- forgotten options --------------------------------------------------------------------------


def _numbers(columns="wxyz", label=True, ids=False, suffix="csv", command="scan t.csv"):
    def make(folder):
        labels = write_features(folder)
        frame = pd.DataFrame(np.load(folder / "features.npy"), columns=list(columns))
        if label:
            frame["label"] = labels
        if ids:
            frame.insert(0, "id", range(len(frame)))
        getattr(frame, f"to_{suffix}")(folder / f"t.{suffix}", index=False)
        write_labels(folder, labels)
        return command.split()

    return make


def _embeddings(folder, label=False):
    labels = write_features(folder)
    vectors = [row.tolist() for row in np.load(folder / "features.npy")]
    columns = {"sample_id": [str(i) for i in range(60)], "emb": vectors}
    pq.write_table(pa.table(columns | ({"label": labels} if label else {})), folder / "e.parquet")
    write_labels(folder, labels)


def _with_embeddings(command, label=False):
    def make(folder):
        _embeddings(folder, label)
        return command.split()

    return make


FORGOTTEN = [
    ("numbers and a label", _numbers(), r"labelaudit scan t\.csv --tabular`"),
    ("numbers, a label and ids", _numbers(ids=True), r"labelaudit scan t\.csv --tabular`"),
    ("numbers, and a label of another name", _numbers("labl", False),
     r"lacks 2 columns.*--tabular`.*with --label-column"),
    ("a parquet file of numbers", _numbers(suffix="parquet", command="scan t.parquet"),
     r"labelaudit scan t\.parquet --tabular"),
    ("a column of embeddings", _with_embeddings("scan e.parquet", True),
     r"labelaudit scan e\.parquet --features emb`"),
    ("a file of embeddings", _with_embeddings("scan e.parquet"),
     r"labelaudit scan LABELS --features e\.parquet`"),
    ("embeddings before labels", _with_embeddings("scan e.parquet labels.csv"),
     r"labelaudit scan labels\.csv --features e\.parquet`"),
    ("embeddings after labels", _with_embeddings("scan labels.csv e.parquet"),
     r"labelaudit scan labels\.csv --features e\.parquet`"),
    ("an array before labels", _numbers(command="scan features.npy labels.csv"),
     r"labelaudit scan labels\.csv --features features\.npy`"),
    ("an array after labels", _numbers(command="scan labels.csv features.npy"),
     r"labelaudit scan labels\.csv --features features\.npy`"),
]  # fmt: skip


def _missing(options, scan="t.csv --features features.npy"):
    return _numbers(ids=True, command=f"scan {scan} {options}")


MISSING = [
    ("two columns", "--label-column a --id-column b", r'2 columns: "a" \(--label-column\), "b" \(--id'),
    ("clean and verified", "--clean-label-column a --verified-column b",
     r'2 columns: "a" \(--clean-label-column\), "b" \(--verified-column\); its columns: id, w'),
    ("all columns", "--label-column a --id-column b --clean-label-column c --verified-column d"
     " --split e", r'lacks 5 columns.*"split" \(--split is "e"\)'),
    ("a split and a column", "--clean-label-column a --split b", 'lacks 2 columns: "a".*"split"'),
    ("one column", "--clean-label-column a", 'no column "a" for true labels; its columns: id, w'),
]  # fmt: skip

# --- tar files of WebDataset --------------------------------------------------------------------


def _png(value=0):
    data = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(data, format="PNG")
    return data.getvalue()


def write_tar(file, members):
    file.parent.mkdir(exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _members(label="cls", text=lambda i: str(i % 2), count=20, start=0):
    members = {}
    for i in range(start, start + count):
        members[f"{i:06d}.png"] = _png(i % 2 * 200 + i % 7)
        if label:
            members[f"{i:06d}.{label}"] = text(i).encode()
    return members


def _tar(command, members, change=lambda data: data, name="d.tar"):
    def make(folder):
        write_tar(folder / name, members)
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        return command.split()

    return make


def _link_and_device(folder):
    write_tar(folder / "d.tar", _members())
    with tarfile.open(folder / "d.tar", "a") as tar:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        outside = tarfile.TarInfo("../../outside.png")
        outside.size = len(_png())
        tar.addfile(outside, io.BytesIO(_png()))
    return ["scan", "d.tar", *QUICK]


def _twenty_one(folder, output):
    assert len(pd.read_parquet(folder / "out" / "samples.parquet")) == 21
    assert not list(folder.parent.glob("outside*"))


def _two_tars(folder):
    write_tar(folder / "d" / "train-000000.tar", _members())
    write_tar(folder / "d" / "train-000001.tar", _members(start=20))
    write_tar(folder / "d" / "test-000000.tar", _members(count=2))


def _of_two_tars(command, quick=False):
    def make(folder):
        _two_tars(folder)
        return [*command.split(), *(QUICK if quick else [])]

    return make


def _forty(folder, output):
    ids = pd.read_parquet(folder / "out" / "samples.parquet")["sample_id"]
    assert ids.tolist() == [f"{i:06d}.png" for i in range(40)]


def _applied_tar(folder):
    write_tar(folder / "d.tar", _members())
    (folder / "c.csv").write_text(
        "sample_id,decision,corrected_label\n000001.png,relabel,0\n000002.png,keep,\n"
    )
    return ["apply", "d.tar", "c.csv"]


def _a_table(folder, output):
    table = pd.read_csv(folder / "d.tar.labels.csv", dtype=str)
    assert table["label"].tolist()[:4] == ["0", "0", "0", "1"]
    assert table["verified"].tolist()[1:3] == ["yes", "yes"]


CAPTION = _members("txt", lambda i: f"a photo of dog number {i}", 30)
TARS = [
    ("no tar file", _tar("scan d.tar", {}, lambda data: b"no tar" * 200), "d.tar is not a tar file"),
    ("an empty file", _tar("scan d.tar", {}, lambda data: b""), "d.tar is not a tar file"),
    ("an empty tar file", _tar("scan d.tar", {}), "d.tar holds no images"),
    ("a packed tar file", _tar("scan d.tar", _members(), gzip.compress), "compressed with gzip"),
    ("cut off in a member", _tar("scan d.tar", _members(), lambda data: data[:4620]), "cut off"),
    ("damaged in the middle", _tar("scan d.tar", _members(), lambda data: data[:5120] + b"x" * 512
                                   + data[5632:]), "a damaged one: there is no header at byte 5,120"),
    ("captions", _tar("scan d.tar", CAPTION), r"look like captions.*--label-column"),
    ("images alone", _tar("scan d.tar", _members(None)), "none of the 20 images has a label.*0001.cls"),
    ("texts alone", _tar("scan d.tar", {"a.cls": b"0", "b.cls": b"1"}), "holds no images"),
    ("several images", _tar("scan d.tar", {"a.left.png": b"", "a.right.png": b"", "a.cls": b"0"}),
     "several images, left.png, right.png; choose one with --image-column"),
    ("no such suffix", _tar("scan d.tar --image-column webp", _members()),
     "the suffixes of its images: png"),
    ("no such label", _tar("scan d.tar --label-column kind", _members()), 'no column "kind"'),
    ("a range with a gap", _of_two_tars("scan d/train-{000000..000002}.tar"),
     "train-000002.tar does not"),
    ("a range that ends before it begins", _of_two_tars("scan d/train-{5..2}.tar"), "names no shards"),
    ("no such split", _of_two_tars("scan d --split val"), "its splits are test, train"),
]  # fmt: skip

# --- data sets of Hugging Face ------------------------------------------------------------------


def write_arrow(file, labels, names=("ant", "bee"), **more):
    cells = [{"bytes": _png(label * 100 + i), "path": None} for i, label in enumerate(labels)]
    table = pa.table({"image": cells, "label": labels, **more})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(file), "wb") as opened, pa.ipc.new_stream(opened, table.schema) as stream:
        stream.write_table(table, max_chunksize=7)


def write_saved(folder, labels=(0, 1) * 10):
    write_arrow(folder / "data-00000-of-00001.arrow", list(labels))
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def _saved(command, change=lambda folder: None, splits=("train", "test")):
    def make(folder):
        for split in splits:
            write_saved(folder / "d" / split)
        (folder / "d").mkdir(exist_ok=True)
        (folder / "d" / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
        change(folder / "d")
        return command.split()

    return make


def _twenty(folder, output):
    samples = pd.read_parquet(folder / "out" / "samples.parquet")
    assert samples["sample_id"].tolist() == [str(row) for row in range(20)]
    assert sorted(samples["given_label"].unique()) == ["ant", "bee"]


SCAN_IT = " ".join(["scan d", *QUICK])
DICT = "dataset_dict.json"
ARROW = "data-00000-of-00001.arrow"
SAVED = [
    ("no such split", _saved("scan d --split val"), 'no split "val"; its splits are test, train'),
    ("no split called train", _saved("scan d", splits=("a", "b")),
     "several splits, none of them train"),
    ("no splits at all", _saved("scan d", splits=()), "no image found"),
    ("a file is missing", _saved("scan d", lambda d: (d / "train" / ARROW).unlink()),
     "copy the whole folder"),
    ("a file is empty", _saved("scan d", lambda d: (d / "train" / ARROW).write_bytes(b"")),
     "not an Arrow file, or a damaged one"),
    ("a file is cut off", _saved("scan d", lambda d: (d / "train" / ARROW).write_bytes(
        (d / "train" / ARROW).read_bytes()[:900])), "not an Arrow file, or a damaged one"),
    ("a state is no JSON", _saved("scan d", lambda d: (d / "train" / "state.json").write_text("{")),
     "state.json is damaged"),
    ("a state without files", _saved("scan d", lambda d: (d / "train" / "state.json").write_text("[]")),
     "names no files"),
    ("splits of another type", _saved("scan d", lambda d: (d / DICT).write_text('{"splits": 3}')),
     "names no splits"),
    ("two data sets", _saved("scan d", lambda d: (d / DICT).unlink()),
     "holds 2 data sets"),
    ("a label outside its classes", _saved("scan d", lambda d: write_saved(d / "train", [0, 1, 2])),
     '"label" is 2, and the schema has 2 class names'),
    ("another column", _saved("scan d --label-column kind"), 'no column "kind"'),
]  # fmt: skip

ROWS = [
    *MISFITS,
    UnusualInput("another column names the images", _other_column,
                 message=r'the column "where" names the images: --image-column where'),
    UnusualInput("few rows name an image", _few,
                 check=_says("only 6 of 26 rows", '"gone/0.png", "gone/1.png", "gone/2.png"')),
    *(UnusualInput(f"forgotten option: {name}", make, message=message)
      for name, make, message in FORGOTTEN),
    *(UnusualInput(f"missing: {name}", _missing(options), message=message)
      for name, options, message in MISSING),
    *(UnusualInput(f"tar: {name}", make, message=message) for name, make, message in TARS),
    UnusualInput("tar: links, devices and paths outside", _link_and_device, check=_twenty_one),
    UnusualInput("tar: a range", _of_two_tars("scan d/train-{000000..000001}.tar", True), check=_forty),
    UnusualInput("tar: corrected labels are a table", _applied_tar, check=_a_table),
    *(UnusualInput(f"save_to_disk: {name}", make, message=message) for name, make, message in SAVED),
    UnusualInput("save_to_disk: a DatasetDict", _saved(SCAN_IT), check=_twenty),
]  # fmt: skip

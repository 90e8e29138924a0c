"""Every kind of source, and every way in which one can be wrong."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelaudit.data import manifest as manifest_module
from labelaudit.data.manifest import (
    UNLABELED,
    Source,
    check_trainable,
    read_source,
    source_from_arrays,
)
from labelaudit.errors import SourceError


def put_images(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), len(name)).save(file, format="PNG")
    return folder


def put(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def labels_of(source: Source) -> dict[str, str]:
    """Return each sample's label as text, "" where it has none."""
    names = (*source.manifest.class_names, "")
    ids = source.manifest.sample_ids
    return {i: names[n] for i, n in zip(ids, source.manifest.noisy_labels, strict=True)}


def clean_of(source: Source) -> list[str]:
    assert source.clean_labels is not None
    return list(source.clean_labels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return put_images(tmp_path / "pets", "a.png", "b.png", "c.png", "deep/d.png")


# --- folders -----------------------------------------------------------------------------------


def test_one_subfolder_a_class(tmp_path: Path) -> None:
    put_images(tmp_path, "dog/2.png", "cat/1.png", "cat/kittens/3.JPG", "loose.png", ".x/h.png")
    put_images(tmp_path, "cat/.hidden.png")
    put(tmp_path / "cat" / "notes.txt", "no image")
    source = read_source(tmp_path)
    assert source.manifest.class_names == ("cat", "dog")
    assert labels_of(source) == {
        "cat/1.png": "cat",
        "cat/kittens/3.JPG": "cat",
        "dog/2.png": "dog",
        "loose.png": "",
    }
    assert source.manifest.name == tmp_path.name
    assert source.manifest.paths[0] == str(tmp_path / "cat" / "1.png")
    assert source.manifest.images.read(0) == (tmp_path / "cat" / "1.png").read_bytes()
    assert source.warnings == ()
    assert source.clean_labels is None
    assert source.skipped.columns.tolist() == ["sample_id", "path", "reason"]
    assert source.skipped.empty
    assert (source.manifest.num_samples, source.manifest.num_labeled) == (4, 3)
    assert source.manifest.noisy_labels.dtype == np.int64
    assert source.manifest.noisy_labels[3] == UNLABELED


def test_numbered_class_folders_sort_as_numbers(tmp_path: Path) -> None:
    put_images(tmp_path, "10/a.png", "9/b.png", "0/c.png")
    assert read_source(tmp_path).manifest.class_names == ("0", "9", "10")


def test_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    names = [f"{c}/{i}.png" for c in "zya" for i in (3, 11, 2)]
    one = read_source(put_images(tmp_path / "one", *names))
    other = read_source(put_images(tmp_path / "other", *reversed(names)))
    assert one.manifest.sample_ids.tolist() == sorted(names)
    assert one.manifest.fingerprint() == other.manifest.fingerprint()


def test_relative_source_gives_paths_that_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_images(tmp_path / "pets", "cat/1.png", "dog/2.png")
    monkeypatch.chdir(tmp_path)
    assert read_source("pets").manifest.paths[0] == str(Path("pets/cat/1.png"))
    monkeypatch.chdir(tmp_path / "pets")
    here = read_source(".")
    assert here.manifest.name == "pets"
    assert here.manifest.paths[0] == str(Path("cat/1.png"))


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    put_images(tmp_path / "store", "1.png")
    root = put_images(tmp_path / "data", "dog/2.png")
    (root / "cat").symlink_to(tmp_path / "store")
    (root / "dog" / "loop").symlink_to(root)
    (root / "zebra").symlink_to(tmp_path)  # holds the data folder itself, and the store again
    assert labels_of(read_source(root)) == {"cat/1.png": "cat", "dog/2.png": "dog"}


@pytest.mark.skipif(os.name != "posix", reason="names are UTF-16 there")
def test_a_file_name_that_is_not_utf8_is_skipped(tmp_path: Path) -> None:
    put_images(tmp_path, "cat/1.png", "dog/2.png")
    try:
        os.link(tmp_path / "cat" / "1.png", os.fsencode(tmp_path / "cat") + b"/\xff.png")
    except OSError:
        pytest.skip("the file system refuses such names")
    source = read_source(tmp_path)
    assert source.manifest.num_samples == 2
    assert source.skipped["sample_id"].tolist() == ["cat/\\xff.png"]
    assert any("not UTF-8" in line for line in source.warnings)


def test_split_folders_use_train_and_say_so(tmp_path: Path) -> None:
    put_images(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png")
    source = read_source(tmp_path)
    assert labels_of(source) == {"train/cat/1.png": "cat", "train/dog/2.png": "dog"}
    (warning,) = source.warnings
    assert '"train" only' in warning
    assert "test" in warning
    assert "--split" in warning
    chosen = read_source(tmp_path, split="test")
    assert chosen.manifest.sample_ids.tolist() == ["test/cat/3.png", "test/dog/4.png"]
    assert chosen.warnings == ()
    with pytest.raises(SourceError, match=r'no split "val".*test, train'):
        read_source(tmp_path, split="val")


def test_splits_without_train_must_be_chosen(tmp_path: Path) -> None:
    put_images(tmp_path, "val/cat/1.png", "val/dog/2.png", "test/cat/3.png", "test/dog/4.png")
    with pytest.raises(SourceError, match=r"none of them train: test, val"):
        read_source(tmp_path)


def test_a_single_split_folder_needs_no_choice(tmp_path: Path) -> None:
    put_images(tmp_path, "train/cat/1.png", "train/dog/2.png")
    source = read_source(tmp_path)
    assert source.manifest.class_names == ("cat", "dog")
    assert source.warnings == ()


def test_train_may_be_a_class_among_vehicles(tmp_path: Path) -> None:
    put_images(tmp_path, "train/1.png", "car/2.png")
    assert read_source(tmp_path).manifest.class_names == ("car", "train")
    with pytest.raises(SourceError, match=r'no split "train"; it has no splits'):
        read_source(tmp_path, split="train")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_hugging_face_metadata(folder: Path, kind: str) -> None:
    table = pd.DataFrame(
        {"id": ["x", "y"], "file_name": ["a.png", "deep/d.png"], "label": ["cat", "dog"]}
    )
    if kind == "csv":
        table.to_csv(folder / "metadata.csv", index=False)
    elif kind == "jsonl":
        table.to_json(folder / "metadata.jsonl", orient="records", lines=True)
    else:
        table.to_parquet(folder / "metadata.parquet")
    assert labels_of(read_source(folder)) == {
        "a.png": "cat",
        "b.png": "",
        "c.png": "",
        "deep/d.png": "dog",
    }


def test_metadata_within_a_split(tmp_path: Path) -> None:
    put_images(tmp_path, "train/1.png", "train/2.png", "test/1.png", "test/2.png")
    for split in ("train", "test"):
        put(tmp_path / split / "metadata.csv", f"file_name,label\n1.png,{split}ed\n2.png,cat\n")
    assert labels_of(read_source(tmp_path, split="test")) == {
        "test/1.png": "tested",
        "test/2.png": "cat",
    }


# --- tables of labels --------------------------------------------------------------------------


def write_table(file: Path, rows: list[dict[str, object]]) -> Path:
    if file.suffix == ".jsonl":
        put(file, "".join(json.dumps(row) + "\n" for row in rows))
    elif file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        pd.DataFrame(rows).to_csv(file, index=False, sep="\t" if file.suffix == ".tsv" else ",")
    return file


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_folder_and_a_table(folder: Path, tmp_path: Path, kind: str) -> None:
    table = write_table(
        tmp_path / f"labels.{kind}",
        [
            {"Path": "c.png", "Label": "cat"},
            {"Path": "./deep//d.png", "Label": "dog"},
            {"Path": "b.png", "Label": None},
        ],
    )
    source = read_source(folder, table)
    assert labels_of(source) == {"a.png": "", "b.png": "", "c.png": "cat", "deep/d.png": "dog"}
    assert source.warnings == ()
    assert source.manifest.name == "pets"


TRICKY = ["NA", "null", "001", "1", "None", "nan", "True", " cat", "cat", 'a "q", b', "é", "-5"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_label_text_is_kept_exactly(tmp_path: Path, kind: str) -> None:
    names = [f"{i}.png" for i in range(len(TRICKY))]
    folder = put_images(tmp_path / "images", *names)
    rows: list[dict[str, object]] = [
        {"file": name, "label": label} for name, label in zip(names, TRICKY, strict=True)
    ]
    source = read_source(folder, write_table(tmp_path / f"labels.{kind}", rows))
    assert labels_of(source) == dict(zip(names, TRICKY, strict=True))
    assert source.manifest.class_names == tuple(sorted(TRICKY))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_integers_with_empty_cells_stay_integers(folder: Path, tmp_path: Path, kind: str) -> None:
    table = write_table(
        tmp_path / f"labels.{kind}",
        [
            {"path": "a.png", "label": 3.0},
            {"path": "b.png", "label": None},
            {"path": "c.png", "label": float("nan")},
            {"path": "deep/d.png", "label": 10.0},
        ],
    )
    source = read_source(folder, table)
    assert source.manifest.class_names == ("3", "10")
    assert list(labels_of(source).values()) == ["3", "", "", "10"]


def test_integer_labels_sort_as_numbers_and_keep_leading_zeros(
    folder: Path, tmp_path: Path
) -> None:
    table = put(tmp_path / "l.csv", "path,label\na.png,10\nb.png,9\nc.png,09\ndeep/d.png,-1\n")
    source = read_source(folder, table)
    assert source.manifest.class_names == ("-1", "09", "9", "10")
    (warning,) = source.warnings
    assert '"-1" is taken as a class' in warning


def test_byte_order_mark_semicolons_and_spaces_in_the_header(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "l.csv"
    table.write_bytes("\ufeffPath; Label\r\na.png;cat\r\n\r\nb.png;dog\r\n".encode())
    assert labels_of(read_source(folder, table))["b.png"] == "dog"


def test_column_order_of_preference_and_columns_by_name(folder: Path, tmp_path: Path) -> None:
    table = put(
        tmp_path / "l.csv",
        "id,pic,filename,category,class,mine\n1,b.png,a.png,x,cat,p\n2,a.png,b.png,y,dog,q\n",
    )
    assert labels_of(read_source(folder, table))["a.png"] == "cat"
    chosen = read_source(folder, table, image_column="pic", label_column="mine")
    assert labels_of(chosen)["a.png"] == "q"


def test_ids_without_extension(tmp_path: Path) -> None:
    folder = put_images(tmp_path / "f", "7.png", "8.v2.png", "sub/9.png", "x.png", "x.jpg")
    table = write_table(
        tmp_path / "l.parquet",
        [
            {"id": "7", "label": "cat"},
            {"id": "8.v2", "label": "dog"},
            {"id": "sub/9", "label": "dog"},
            {"id": "x", "label": "cat"},
        ],
    )
    source = read_source(folder, table)
    assert labels_of(source) == {
        "7.png": "cat",
        "8.v2.png": "dog",
        "sub/9.png": "dog",
        "x.jpg": "",
        "x.png": "",
    }
    assert "several images could be meant: x.jpg, x.png" in source.skipped["reason"][0]


def test_integer_ids(tmp_path: Path) -> None:
    folder = put_images(tmp_path / "f", "7.png", "8.png")
    table = write_table(tmp_path / "l.jsonl", [{"id": 7, "label": 1}, {"id": 8, "label": 2}])
    assert labels_of(read_source(folder, table)) == {"7.png": "1", "8.png": "2"}


@pytest.mark.parametrize(
    "path",
    [
        "deep\\d.png",
        ".\\deep\\d.png",
        "C:\\data\\pets\\deep\\d.png",
        "d:/pets/deep/d.png",
        "\\\\server\\share\\deep\\d.png",
        "deep/../deep/d.png",
        " deep/d.png ",
        "{folder}/deep/d.png",
    ],
)
def test_paths_as_other_machines_write_them(folder: Path, tmp_path: Path, path: str) -> None:
    written = path.replace("{folder}", str(folder))
    table = put(tmp_path / "l.csv", f"path,label\n{written},dog\na.png,cat\n")
    assert labels_of(read_source(folder, table))["deep/d.png"] == "dog"


def test_absolute_paths_through_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    table = put(tmp_path / "l.csv", f"path,label\n{folder}/a.png,cat\n{tmp_path}/link/b.png,dog\n")
    assert labels_of(read_source(tmp_path / "link", table))["a.png"] == "cat"


@pytest.mark.parametrize(
    "path",
    ["../x.png", "deep/../../x.png", "/etc/x.png", "..\\x.png", "C:\\a\\..\\a.png", "E:\\x.png"],
)
def test_paths_that_leave_the_folder(folder: Path, tmp_path: Path, path: str) -> None:
    put_images(tmp_path, "x.png")
    table = put(tmp_path / "l.csv", f"path,label\na.png,cat\n{path},dog\n")
    with pytest.raises(SourceError, match=r"l\.csv line 3: the path .* leaves the folder") as error:
        read_source(folder, table)
    assert path in str(error.value)


def test_windows_paths_below_the_same_place_are_missing_images(
    folder: Path, tmp_path: Path
) -> None:
    table = put(
        tmp_path / "l.csv",
        "path,label\nC:\\x\\gone.png,cat\nC:\\x\\a.png,cat\nC:\\x\\deep\\d.png,dog\n",
    )
    source = read_source(folder, table)
    assert source.skipped["sample_id"].tolist() == ["gone.png"]


def test_an_ambiguous_windows_path(folder: Path, tmp_path: Path) -> None:
    put_images(folder, "d.png")
    table = put(tmp_path / "l.csv", "path,label\nC:\\x\\deep\\d.png,cat\na.png,dog\n")
    with pytest.raises(SourceError, match=r'could mean "deep/d\.png", "d\.png"'):
        read_source(folder, table)


def test_labels_without_an_image_are_skipped_with_one_warning(folder: Path, tmp_path: Path) -> None:
    gone = "".join(f"gone{i}.png,cat\n" for i in range(50))
    table = put(tmp_path / "l.csv", f"path,label\na.png,cat\nb.png,dog\n,cat\n{gone}")
    source = read_source(folder, table)
    (warning,) = source.warnings
    assert warning.startswith("51 labels")
    assert "gone1.png" in warning
    assert "48 more" in warning
    assert len(source.skipped) == 51
    last = source.skipped.iloc[-1]
    assert last["sample_id"] == "gone49.png"
    assert last["path"] == str(folder / "gone49.png")
    assert "no such image" in last["reason"]
    assert "line 4 names no image" in source.skipped["reason"].tolist()[0]


def test_a_column_of_prose_is_no_column_of_paths(folder: Path) -> None:
    table = put(folder / "l.csv", f"path,label\n{'either/or ' * 600},cat\na.png,dog\nb.png,cat\n")
    assert len(read_source(table).skipped) == 1


def test_repeated_rows_are_kept_once(folder: Path, tmp_path: Path) -> None:
    table = put(tmp_path / "l.csv", "path,label\na.png,cat\nb.png,dog\n./a.png,cat\na.png,cat\n")
    source = read_source(folder, table)
    assert source.manifest.num_labeled == 2
    (warning,) = source.warnings
    assert "2 rows" in warning
    assert '"a.png"' in warning


@pytest.mark.parametrize(("label", "shown"), [("dog", '"dog"'), ("", "none")])
def test_rows_that_contradict_each_other(
    folder: Path, tmp_path: Path, label: str, shown: str
) -> None:
    table = put(tmp_path / "l.csv", f"path,label\na.png,cat\nb.png,dog\na.png,{label}\n")
    message = rf'"a\.png" has two labels: "cat" in l\.csv line 2 and {shown} in l\.csv line 4'
    with pytest.raises(SourceError, match=message):
        read_source(folder, table)


def test_clean_labels_stay_beside_the_manifest(folder: Path, tmp_path: Path) -> None:
    table = put(tmp_path / "l.csv", "path,label,true\na.png,cat,cat\nb.png,dog,bird\nc.png,,dog\n")
    source = read_source(folder, table, clean_label_column="true")
    assert source.manifest.class_names == ("cat", "dog")  # none that only the truth names
    assert clean_of(source) == ["cat", "bird", "dog", ""]
    assert list(labels_of(source).values()) == ["cat", "dog", "", ""]
    part = source.subset(np.array([1, 0]))
    assert clean_of(part) == ["bird", "cat"]
    with pytest.raises(SourceError, match=r'no column "truth" for true labels.*path, label, true'):
        read_source(folder, table, clean_label_column="truth")


def test_a_split_column(folder: Path, tmp_path: Path) -> None:
    table = put(
        tmp_path / "l.csv",
        "path,label,Split\na.png,cat,train\nb.png,dog,train\nc.png,cat,test\ngone.png,cat,test\n",
    )
    source = read_source(folder, table)
    # c.png belongs to the other split and is no unlabeled image of this one; d.png has no row.
    assert labels_of(source) == {"a.png": "cat", "b.png": "dog", "deep/d.png": ""}
    assert len(source.warnings) == 1
    assert source.skipped.empty
    with pytest.raises(SourceError, match=r'no split "dev"; splits there: test, train'):
        read_source(folder, table, split="dev")
    put(table, "path,label,split\na.png,cat,x\nb.png,dog,y\n")
    with pytest.raises(SourceError, match="none of them train: x, y"):
        read_source(folder, table)


def test_split_folders_with_one_table(tmp_path: Path) -> None:
    put_images(tmp_path, "train/1.png", "train/2.png", "train/3.png", "test/4.png")
    table = put(
        tmp_path / "l.csv", "path,label\ntrain/1.png,cat\ntrain/2.png,dog\ntest/4.png,cat\n"
    )
    assert read_source(tmp_path, table).manifest.num_samples == 4
    chosen = read_source(tmp_path, table, split="train")
    assert labels_of(chosen) == {"train/1.png": "cat", "train/2.png": "dog", "train/3.png": ""}


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_alone(folder: Path, kind: str) -> None:
    table = write_table(
        folder / f"pets.{kind}",
        [{"image": "deep/d.png", "class": "dog"}, {"image": "a.png", "class": "cat"}],
    )
    source = read_source(table)
    assert labels_of(source) == {"deep/d.png": "dog", "a.png": "cat"}  # its rows alone, in order
    assert source.manifest.name == "pets"
    assert source.manifest.paths[0] == str(folder / "deep" / "d.png")
    assert source.manifest.images.read(1) == (folder / "a.png").read_bytes()


def test_a_table_may_name_images_without_an_extension(tmp_path: Path) -> None:
    put_images(tmp_path, "ab12", "cd34")
    table = put(tmp_path / "l.csv", "path,label\nab12,cat\ncd34,dog\n")
    assert labels_of(read_source(table)) == {"ab12": "cat", "cd34": "dog"}
    assert labels_of(read_source(tmp_path, table)) == {"ab12": "cat", "cd34": "dog"}


# --- parquet -----------------------------------------------------------------------------------


def write_parquet(
    file: Path,
    labels: list[object],
    *,
    paths: list[str | None] | None = None,
    data: list[bytes | None] | None = None,
    class_names: list[str] | None = None,
    row_group_size: int = 4,
    image: str = "image",
    **more: list[object],
) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    count = len(labels)
    data = [f"{file.stem}{i}".encode() for i in range(count)] if data is None else data
    cells = [{"bytes": d, "path": p} for d, p in zip(data, paths or [None] * count, strict=True)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(cells, kind), "label": labels, **more})
    if class_names is not None:
        features = {image: {"_type": "Image"}, "label": {"names": class_names}}
        features["label"]["_type"] = "ClassLabel"
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    pq.write_table(table, file, row_group_size=row_group_size)
    return file


def test_a_parquet_file_with_class_names_in_its_schema(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path / "mine.parquet", [1, 0, -1, None, 1], class_names=["zebra", "ape", "none"]
    )
    source = read_source(file)
    assert source.manifest.class_names == ("zebra", "ape", "none")
    assert source.manifest.noisy_labels.tolist() == [1, 0, -1, -1, 1]
    assert source.manifest.sample_ids.tolist() == ["0", "1", "2", "3", "4"]
    assert set(source.manifest.paths) == {""}
    assert [source.manifest.images.read(i) for i in (4, 0)] == [b"mine4", b"mine0"]
    assert source.warnings == ()
    part = source.manifest.subset(np.array([False, False, True, False, True]))
    assert part.images.read(0) == b"mine2"


def test_a_label_outside_the_class_names(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "m.parquet", [1, 2], class_names=["a", "b"])
    with pytest.raises(SourceError, match=r'm\.parquet row 1: "label" is 2.*2 class names'):
        read_source(file)


def test_paths_in_the_cells_become_ids_where_unique(tmp_path: Path) -> None:
    one = write_parquet(tmp_path / "a.parquet", ["x", "y"], paths=["cat\\1.png", "/abs/2.png"])
    assert read_source(one).manifest.sample_ids.tolist() == ["cat/1.png", "/abs/2.png"]
    two = write_parquet(tmp_path / "b.parquet", ["x", "y"], paths=["same.png", "same.png"])
    assert read_source(two).manifest.sample_ids.tolist() == ["0", "1"]
    three = write_parquet(tmp_path / "c.parquet", ["x", "y"], paths=["1.png", None])
    assert read_source(three).manifest.sample_ids.tolist() == ["0", "1"]


def test_a_folder_of_shards(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_parquet(data / "train-00000-of-00002.parquet", [0, 1, 0], class_names=["a", "b"])
    write_parquet(data / "train-00001-of-00002.parquet", [1], class_names=["a", "b"])
    write_parquet(data / "test-00000-of-00001.parquet", [1, 0], class_names=["a", "b"])
    put(tmp_path / "README.md", "a card")
    source = read_source(tmp_path)
    assert source.manifest.noisy_labels.tolist() == [0, 1, 0, 1]
    assert source.manifest.sample_ids.tolist()[2:] == [
        "train-00000-of-00002:2",
        "train-00001-of-00002:0",
    ]
    assert source.manifest.images.read(3) == b"train-00001-of-000020"
    (warning,) = source.warnings
    assert "test" in warning
    assert read_source(tmp_path, split="test").manifest.num_samples == 2
    with pytest.raises(SourceError, match="splits there: test, train"):
        read_source(tmp_path, split="validation")


def test_shards_without_split_names_are_one_whole(tmp_path: Path) -> None:
    write_parquet(tmp_path / "one" / "0.parquet", ["a"])
    write_parquet(tmp_path / "two" / "0.parquet", ["b"])
    source = read_source(tmp_path)
    assert source.manifest.sample_ids.tolist() == ["one/0:0", "two/0:0"]
    assert source.warnings == ()


def test_shards_that_differ_in_their_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet", ["a"])
    write_parquet(tmp_path / "1.parquet", ["b"], image="img")
    with pytest.raises(SourceError, match="differ in their columns"):
        read_source(tmp_path)


def test_the_split_of_a_single_file(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "train.parquet", ["a", "b"])
    assert read_source(file, split="train").manifest.num_samples == 2
    with pytest.raises(SourceError, match='no split "test"'):
        read_source(file, split="test")


def test_a_split_column_in_parquet(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path / "all.parquet", ["a", "b", "a", "b"], split=["test", "train", "train", None]
    )
    source = read_source(file)
    assert source.manifest.sample_ids.tolist() == ["1", "2"]
    assert source.manifest.images.read(0) == b"all1"
    assert '"train" only' in source.warnings[0]


def test_image_and_label_columns_of_other_names(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path / "c.parquet", [0, 1], image="img", fine=["x", "y"], file_name=["1", "2"]
    )
    assert read_source(file, label_column="fine").manifest.class_names == ("x", "y")
    assert read_source(file).manifest.images.read(0) == b"c0"  # not the files "1" and "2"


def test_several_columns_of_images(tmp_path: Path) -> None:
    table = pa.table(
        {
            "left": [{"bytes": b"l0"}, {"bytes": b"l1"}],
            "right": [{"bytes": b"r0"}, {"bytes": b"r1"}],
            "label": ["a", "b"],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"left, right; choose one with image_column"):
        read_source(tmp_path / "t.parquet")
    chosen = read_source(tmp_path / "t.parquet", image_column="right")
    assert chosen.manifest.images.read(1) == b"r1"


def test_plain_binary_images(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x", b"y"], "label": ["a", "b"]}), tmp_path / "t.parquet")
    assert read_source(tmp_path / "t.parquet").manifest.images.read(1) == b"y"


def test_a_parquet_file_of_paths(folder: Path) -> None:
    table = pa.table({"path": ["b.png", "deep/d.png"], "label": pa.array(["x", "y"])})
    pq.write_table(
        table.set_column(1, "label", table["label"].dictionary_encode()), folder / "t.parquet"
    )
    source = read_source(folder / "t.parquet")
    assert labels_of(source) == {"b.png": "x", "deep/d.png": "y"}
    assert source.manifest.images.read(0) == (folder / "b.png").read_bytes()


def test_cells_without_bytes_name_files(folder: Path) -> None:
    file = write_parquet(
        folder / "t.parquet", ["x", "y"], data=[None, None], paths=["a.png", "deep/d.png"]
    )
    source = read_source(file)
    assert source.manifest.paths.tolist() == [str(folder / "a.png"), str(folder / "deep/d.png")]
    mixed = write_parquet(
        folder / "m.parquet",
        ["x", "y", "x", "y"],
        data=[None, b"here", None, None],
        paths=["a.png", "b.png", "../secret", None],
    )
    images = read_source(mixed).manifest.images
    assert images.read(0) == (folder / "a.png").read_bytes()
    assert images.read(1) == b"here"
    with pytest.raises(OSError, match="leaves the folder"):
        images.read(2)
    with pytest.raises(OSError, match="holds no image"):
        images.read(3)


def test_clean_labels_with_class_names_of_their_own(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path / "t.parquet", [0, 1, 1], class_names=["b", "a"], true=["a", "c", None]
    )
    source = read_source(file, clean_label_column="true")
    assert source.manifest.class_names == ("b", "a")  # none that only the truth names
    assert clean_of(source) == ["a", "c", ""]


def test_reading_a_parquet_source_reads_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_parquet(tmp_path / "t.parquet", ["a", "b"] * 8, row_group_size=2)
    read = []
    original = pq.ParquetFile.read
    monkeypatch.setattr(
        pq.ParquetFile,
        "read",
        lambda self, columns=None, **k: (
            read.append(columns) or original(self, columns=columns, **k)
        ),
    )
    read_source(file)
    assert sorted(read) == [["image.path"], ["label"]]


# --- what is wrong -----------------------------------------------------------------------------


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere does not exist"):
        read_source(tmp_path / "nowhere")


def test_labels_that_are_not_there(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"l\.csv does not exist"):
        read_source(folder, folder / "l.csv")
    with pytest.raises(SourceError, match=r"is not a table.*csv, tsv"):
        read_source(folder, folder / "a.png")


@pytest.mark.parametrize(
    ("header", "missing"), [("name,label", "the images"), ("path,kind", "the labels")]
)
def test_missing_columns_are_listed(
    folder: Path, tmp_path: Path, header: str, missing: str
) -> None:
    table = put(tmp_path / "l.csv", f"{header}\na.png,cat\n")
    with pytest.raises(SourceError, match=missing) as error:
        read_source(folder, table)
    assert f"columns there: {header.replace(',', ', ')}" in str(error.value)
    assert "_column (--" in str(error.value)
    with pytest.raises(SourceError, match=r'no column "klass".*columns there'):
        read_source(folder, table, label_column="klass", image_column="name")


def test_no_image(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", "")
    with pytest.raises(SourceError, match="no image found"):
        read_source(tmp_path)


def test_images_without_labels(folder: Path) -> None:
    (folder / "deep" / "d.png").unlink()
    with pytest.raises(SourceError, match=r"none of the 3 images has a label; sort them into"):
        read_source(folder)
    put(folder / "labels.csv", "path,label\n")
    with pytest.raises(SourceError, match=r"should labels\.csv, which lies there, be given"):
        read_source(folder)


def test_one_class_only(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r'labeled images are of one class, "deep"'):
        read_source(folder)
    table = put(tmp_path / "l.csv", "path,label\na.png,cat\nb.png,cat\n")
    with pytest.raises(SourceError, match=r'all 2 labeled images are of one class, "cat"'):
        read_source(folder, table)
    put(table, "path,label\na.png,\nb.png,\n")
    with pytest.raises(SourceError, match=r"none of the 4 images has a label"):
        read_source(folder, table)


def test_a_table_of_other_images(folder: Path, tmp_path: Path) -> None:
    text = "path,label\nimg/a.png,cat\nimg/b.png,dog\n"
    message = r'none of the images.*e\.g\. "img/a\.png", the folder e\.g\. "a\.png"'
    with pytest.raises(SourceError, match=message):
        read_source(folder, put(tmp_path / "l.csv", text))
    with pytest.raises(SourceError, match=message):
        read_source(put(folder / "l.csv", text))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", b"\x89PNG\xff\xfe\x00garbage", "not a text table in UTF-8"),
        ("l.csv", b"\x00\x00\x00", "not a text table"),
        ("l.csv", b"", "no column for the labels.*columns there: none"),
        ("l.csv", b"path,label\n", "is empty"),
        ("l.csv", b"path,label\na.png,a,b\n", "line 2 has 3 cells and the header has 2; quote"),
        ("l.csv", b'path,label\na.png,"a\n', "not CSV"),
        ("l.csv", b"path,label,label\na.png,a,b\n", 'two columns "label"'),
        ("l.jsonl", b'{"path": "a.png", "label": 1}\n\n{"path":\n', "line 3 is not JSON"),
        ("l.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("l.jsonl", b'{"path": "a.png", "label": [1]}\n', 'line 1: "label" is a list'),
        ("l.jsonl", b"\n", "columns there: none"),
        ("l.parquet", b"no parquet at all", "is not a parquet file"),
        ("l.xlsx", b"PK", "is not a table that can be read"),
    ],
)
def test_files_that_are_no_tables(
    folder: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    table = tmp_path / name
    table.write_bytes(content)
    with pytest.raises(SourceError, match=message) as error:
        read_source(folder, table)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_parquet_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is empty"):
        read_source(write_parquet(tmp_path / "e.parquet", []))


def test_labels_that_are_lists(folder: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.png"], "label": [["x"]]}), tmp_path / "l.parquet")
    with pytest.raises(SourceError, match=r'"label" of .* holds neither text nor numbers'):
        read_source(folder, tmp_path / "l.parquet")


def test_labels_for_a_source_that_is_a_file(folder: Path, tmp_path: Path) -> None:
    table = put(folder / "l.csv", "path,label\na.png,cat\nb.png,dog\n")
    with pytest.raises(SourceError, match=r"goes with a folder of images"):
        read_source(table, table)
    with pytest.raises(SourceError, match=r"single image"):
        read_source(folder / "a.png")


def test_columns_asked_for_without_a_table(tmp_path: Path) -> None:
    put_images(tmp_path, "cat/1.png", "dog/2.png")
    for option in ("image_column", "label_column", "clean_label_column"):
        with pytest.raises(SourceError, match=rf'{option} is "x".*without a table'):
            read_source(tmp_path, **{option: "x"})


# --- arrays ------------------------------------------------------------------------------------


def pixels(count: int, *shape: int) -> np.ndarray:
    return (
        np.arange(count * int(np.prod(shape)), dtype=np.uint32)
        .astype(np.uint8)
        .reshape(count, *shape)
    )


def test_arrays_with_integer_labels() -> None:
    images = pixels(4, 5, 6)
    source = source_from_arrays(images, np.array([2, -1, 10, 2]))
    assert source.manifest.class_names == ("2", "10")
    assert source.manifest.noisy_labels.tolist() == [0, -1, 1, 0]
    assert source.manifest.sample_ids.tolist() == ["0", "1", "2", "3"]
    assert source.manifest.name == "arrays"
    np.testing.assert_array_equal(source.manifest.images.read(2), images[2])
    assert np.shares_memory(source.manifest.images.read(2), images)
    part = source.subset(np.array([3, 1])).subset(np.array([1]))
    np.testing.assert_array_equal(part.manifest.images.read(0), images[1])


def test_arrays_with_class_names_and_clean_labels() -> None:
    source = source_from_arrays(
        pixels(3, 2, 2, 3),
        [1, 0, None],
        class_names=["dog", "cat", "bird"],
        clean_labels=[2, -1, 0],
        sample_ids=["x", "y", "z"],
        name="mine",
    )
    assert source.manifest.class_names == ("dog", "cat", "bird")
    assert source.manifest.noisy_labels.tolist() == [1, 0, -1]
    assert clean_of(source) == ["bird", "", "dog"]
    assert source.manifest.sample_ids.tolist() == ["x", "y", "z"]


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "", None, "nan", float("nan")],
        pd.Series(["cat", "", None, "nan", pd.NA]),
        np.array(["cat", "", None, "nan", np.nan], dtype=object),
    ],
)
def test_arrays_with_text_labels(labels: object) -> None:
    source = source_from_arrays(pixels(5, 2, 2), labels)
    assert source.manifest.class_names == ("cat", "nan")
    assert source.manifest.noisy_labels.tolist() == [0, -1, -1, 1, -1]


def test_floats_are_rounded_to_bytes() -> None:
    images = pixels(3, 4, 4)
    source = source_from_arrays(images.astype(np.float32) / 255, ["a", "b", "a"])
    np.testing.assert_array_equal(source.manifest.images.read(1), images[1])


@pytest.mark.parametrize(
    ("images", "more", "message"),
    [
        (np.full((2, 2, 2), 1.5), {}, r"floats from 1.5 to 1.5; scale"),
        (np.full((2, 2, 2), np.nan), {}, r"scale them to \[0, 1\]"),
        (np.zeros((2, 2, 2), np.int64), {}, "images are int64; give uint8"),
        (np.zeros((2, 4), np.uint8), {}, r"shape \(2, 4\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), {}, "channels last"),
        (np.zeros((0, 4, 4), np.uint8), {"labels": []}, "no image found"),
        (pixels(2, 2, 2), {"labels": [1]}, "there are 1 labels and 2 images"),
        (pixels(2, 2, 2), {"labels": [1, -2]}, r"labels\[1\] is -2"),
        (pixels(2, 2, 2), {"labels": [1, [2]]}, r"labels\[1\] is a list"),
        (pixels(2, 2, 2), {"labels": [0, 2], "class_names": ["a", "b"]}, r"labels\[1\] is 2"),
        (pixels(2, 2, 2), {"labels": ["a", "c"], "class_names": ["a", "b"]}, "not among class"),
        (pixels(2, 2, 2), {"class_names": ["a", "a"]}, 'class_names repeat: "a"'),
        (pixels(2, 2, 2), {"sample_ids": ["a", "a"]}, 'sample_ids repeat: "a"'),
        (pixels(2, 2, 2), {"sample_ids": ["a"]}, "1 sample_ids and 2 images"),
        (pixels(2, 2, 2), {"labels": [1, 1]}, "of one class"),
        (pixels(2, 2, 2), {"labels": [-1, -1]}, "none of the 2 images has a label"),
    ],
)
def test_arrays_that_do_not_fit(images: np.ndarray, more: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        source_from_arrays(images, **{"labels": [0, 1], **more})


# --- manifest, and what is left of it ----------------------------------------------------------


def test_fingerprint_tells_changes() -> None:
    def fingerprint(labels: list[object], **more: object) -> str:
        return source_from_arrays(pixels(3, 2, 2), labels, **more).manifest.fingerprint()

    same = fingerprint(["a", "b", "a"])
    assert same == fingerprint(["a", "b", "a"])
    assert len(same) == 64
    others = [
        fingerprint(["a", "b", "b"]),
        fingerprint(["a", "c", "a"]),
        fingerprint(["a", "b", "a"], sample_ids=["0", "1", "x"]),
        fingerprint(["a", "b", "a"], sample_ids=["0", "12", ""]),
    ]
    assert len({same, *others}) == 5


def test_subset_by_mask_and_by_indices() -> None:
    manifest = source_from_arrays(pixels(4, 2, 2), ["a", "b", "c", ""]).manifest
    by_mask = manifest.subset(np.array([True, False, False, True]))
    assert by_mask.sample_ids.tolist() == ["0", "3"]
    assert by_mask.class_names == ("a", "b", "c")
    assert by_mask.labeled.tolist() == [True, False]
    by_index = manifest.subset(np.array([2, 0]))
    assert by_index.noisy_labels.tolist() == [2, 0]
    assert (by_index.num_samples, by_index.num_classes) == (2, 3)


def test_check_trainable_warns_once_a_kind() -> None:
    labels = ["Cat", "Cat", "cat ", "hot dog", "hot dog", "hotdog", "bird", "ape"]
    source = source_from_arrays(pixels(8, 2, 2), labels)
    checked = check_trainable(source.subset(np.arange(7)))
    assert len(checked.warnings) == 3
    single, none_left, alike = checked.warnings
    assert single.startswith("3 classes have a single labeled image")
    assert '"bird"' in single
    assert none_left == '1 class has no labeled image: "ape"'
    assert '"Cat" / "cat "' in alike
    assert '"hot dog" / "hotdog"' in alike
    assert check_trainable(checked).warnings == checked.warnings
    assert check_trainable(source_from_arrays(pixels(4, 2, 2), list("abab"))).warnings == ()


def test_check_trainable_refuses() -> None:
    source = source_from_arrays(pixels(4, 2, 2), ["a", "b", "", ""], name="mine")
    with pytest.raises(SourceError, match="mine: none of the 2 images has a label"):
        check_trainable(source.subset(np.array([2, 3])))
    with pytest.raises(SourceError, match='one class, "b"'):
        check_trainable(source.subset(np.array([1, 2])))


def test_a_large_folder_is_read_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each directory is listed once, and no file is asked about by itself."""
    put_images(tmp_path, *(f"{c}/{i}.png" for c in "abc" for i in range(20)))
    table = put(
        tmp_path / "l.csv",
        "path,label\n" + "".join(f"{c}/{i}.png,{c}\n" for c in "abc" for i in range(20)),
    )
    listed = []
    original = os.scandir
    monkeypatch.setattr(
        manifest_module.os, "scandir", lambda path: listed.append(path) or original(path)
    )
    assert read_source(tmp_path, table).manifest.num_labeled == 60
    assert len(listed) == 4
    listed.clear()
    assert read_source(table).manifest.num_labeled == 60
    assert len(listed) == 3

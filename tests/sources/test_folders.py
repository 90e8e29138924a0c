"""Every kind of source on disk, and every way in which one can be wrong."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labelaudit.errors import SourceError
from labelaudit.sources.folders import read_source
from labelaudit.sources.manifest import UNLABELED

# --- folders -----------------------------------------------------------------------------------


def test_one_subfolder_a_class(tmp_path: Path, write: Any, labels_of: Any) -> None:
    write.images(tmp_path, "dog/2.png", "cat/1.png", "cat/kittens/3.JPG", "loose.png", ".x/h.png")
    write.images(tmp_path, "cat/.hidden.png")
    write.text(tmp_path / "cat" / "notes.txt", "no image")
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


def test_numbered_class_folders_sort_as_numbers(tmp_path: Path, write: Any) -> None:
    write.images(tmp_path, "10/a.png", "9/b.png", "0/c.png")
    assert read_source(tmp_path).manifest.class_names == ("0", "9", "10")


def test_order_does_not_depend_on_the_file_system(tmp_path: Path, write: Any) -> None:
    names = [f"{c}/{i}.png" for c in "zya" for i in (3, 11, 2)]
    one = read_source(write.images(tmp_path / "one", *names))
    other = read_source(write.images(tmp_path / "other", *reversed(names)))
    assert one.manifest.sample_ids.tolist() == sorted(names)
    assert one.manifest.fingerprint() == other.manifest.fingerprint()


def test_relative_source_gives_paths_that_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    write.images(tmp_path / "pets", "cat/1.png", "dog/2.png")
    monkeypatch.chdir(tmp_path)
    assert read_source("pets").manifest.paths[0] == str(Path("pets/cat/1.png"))
    monkeypatch.chdir(tmp_path / "pets")
    here = read_source(".")
    assert here.manifest.name == "pets"
    assert here.manifest.paths[0] == str(Path("cat/1.png"))


def test_linked_folders_are_followed_once(tmp_path: Path, write: Any, labels_of: Any) -> None:
    write.images(tmp_path / "store", "1.png")
    root = write.images(tmp_path / "data", "dog/2.png")
    (root / "cat").symlink_to(tmp_path / "store")
    (root / "dog" / "loop").symlink_to(root)
    (root / "zebra").symlink_to(tmp_path)  # holds the data folder itself, and the store again
    assert labels_of(read_source(root)) == {"cat/1.png": "cat", "dog/2.png": "dog"}


@pytest.mark.skipif(os.name != "posix", reason="names are UTF-16 there")
def test_a_file_name_that_is_not_utf8_is_skipped(tmp_path: Path, write: Any) -> None:
    write.images(tmp_path, "cat/1.png", "dog/2.png")
    try:
        os.link(tmp_path / "cat" / "1.png", os.fsencode(tmp_path / "cat") + b"/\xff.png")
    except OSError:
        pytest.skip("the file system refuses such names")
    source = read_source(tmp_path)
    assert source.manifest.num_samples == 2
    assert source.skipped["sample_id"].tolist() == ["cat/\\xff.png"]
    (warning,) = source.warnings
    assert warning.startswith("1 file left out, the name is not UTF-8")
    table = write.text(tmp_path / "l.csv", "path,label\ncat/1.png,cat\ndog/2.png,dog\n")
    assert read_source(tmp_path, table).warnings == source.warnings


def test_split_folders_use_train_and_say_so(tmp_path: Path, write: Any, labels_of: Any) -> None:
    write.images(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png")
    source = read_source(tmp_path)
    assert labels_of(source) == {"train/cat/1.png": "cat", "train/dog/2.png": "dog"}
    (warning,) = source.warnings
    assert 'only the split "train"' in warning
    assert "test" in warning
    assert "`split`" in warning
    chosen = read_source(tmp_path, split="test")
    assert chosen.manifest.sample_ids.tolist() == ["test/cat/3.png", "test/dog/4.png"]
    assert chosen.warnings == ()
    with pytest.raises(SourceError, match=r'no split "val".*test, train'):
        read_source(tmp_path, split="val")


def test_splits_without_train_must_be_chosen(tmp_path: Path, write: Any) -> None:
    write.images(tmp_path, "val/cat/1.png", "val/dog/2.png", "test/cat/3.png", "test/dog/4.png")
    with pytest.raises(SourceError, match=r"none of them train: test, val"):
        read_source(tmp_path)


def test_a_single_split_folder_needs_no_choice(tmp_path: Path, write: Any) -> None:
    write.images(tmp_path, "train/cat/1.png", "train/dog/2.png")
    source = read_source(tmp_path)
    assert source.manifest.class_names == ("cat", "dog")
    assert source.warnings == ()


def test_train_may_be_a_class_among_vehicles(tmp_path: Path, write: Any) -> None:
    write.images(tmp_path, "train/1.png", "car/2.png")
    assert read_source(tmp_path).manifest.class_names == ("car", "train")
    with pytest.raises(SourceError, match=r'no split "train"; it has no splits'):
        read_source(tmp_path, split="train")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_hugging_face_metadata(folder: Path, kind: str, labels_of: Any) -> None:
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


def test_metadata_within_a_split(tmp_path: Path, write: Any, labels_of: Any) -> None:
    write.images(tmp_path, "train/1.png", "train/2.png", "test/1.png", "test/2.png")
    for split in ("train", "test"):
        write.text(
            tmp_path / split / "metadata.csv", f"file_name,label\n1.png,{split}ed\n2.png,cat\n"
        )
    assert labels_of(read_source(tmp_path, split="test")) == {
        "test/1.png": "tested",
        "test/2.png": "cat",
    }


# --- tables of labels --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_folder_and_a_table(
    folder: Path, tmp_path: Path, kind: str, write: Any, labels_of: Any
) -> None:
    table = write.table(
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


def test_ids_without_extension(tmp_path: Path, write: Any, labels_of: Any) -> None:
    folder = write.images(tmp_path / "f", "7.png", "8.v2.png", "sub/9.png", "x.png", "x.jpg")
    table = write.table(
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


def test_integer_ids(tmp_path: Path, write: Any, labels_of: Any) -> None:
    folder = write.images(tmp_path / "f", "7.png", "8.png")
    table = write.table(tmp_path / "l.jsonl", [{"id": 7, "label": 1}, {"id": 8, "label": 2}])
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
def test_paths_as_other_machines_write_them(
    folder: Path, tmp_path: Path, path: str, write: Any, labels_of: Any
) -> None:
    written = path.replace("{folder}", str(folder))
    table = write.text(tmp_path / "l.csv", f"path,label\n{written},dog\na.png,cat\n")
    assert labels_of(read_source(folder, table))["deep/d.png"] == "dog"


def test_absolute_paths_through_a_link(
    folder: Path, tmp_path: Path, write: Any, labels_of: Any
) -> None:
    (tmp_path / "link").symlink_to(folder)
    table = write.text(
        tmp_path / "l.csv", f"path,label\n{folder}/a.png,cat\n{tmp_path}/link/b.png,dog\n"
    )
    assert labels_of(read_source(tmp_path / "link", table))["a.png"] == "cat"


@pytest.mark.parametrize(
    "path",
    ["../x.png", "deep/../../x.png", "/etc/x.png", "..\\x.png", "C:\\a\\..\\a.png", "E:\\x.png"],
)
def test_paths_that_leave_the_folder(folder: Path, tmp_path: Path, path: str, write: Any) -> None:
    write.images(tmp_path, "x.png")
    table = write.text(tmp_path / "l.csv", f"path,label\na.png,cat\n{path},dog\nb.png,dog\n")
    source = read_source(folder, table)
    (warning,) = source.warnings
    assert warning.startswith("1 label in ")
    assert "leaves the folder" in warning
    assert source.skipped["sample_id"].tolist() == [path.replace("\\", "/")]
    assert source.skipped["path"].tolist() == [""]
    write.text(table, f"path,label\na.png,cat\n{path},dog\n")
    with pytest.raises(SourceError, match=r"one class.*1 row .*leaves the folder"):
        read_source(folder, table)


def test_windows_paths_below_the_same_place_are_missing_images(
    folder: Path, tmp_path: Path, write: Any
) -> None:
    table = write.text(
        tmp_path / "l.csv",
        "path,label\nC:\\x\\gone.png,cat\nC:\\x\\a.png,cat\nC:\\x\\deep\\d.png,dog\n",
    )
    source = read_source(folder, table)
    assert source.skipped["sample_id"].tolist() == ["gone.png"]


def test_the_longest_end_of_a_windows_path_is_meant(
    folder: Path, tmp_path: Path, write: Any, labels_of: Any
) -> None:
    write.images(folder, "d.png")
    table = write.text(tmp_path / "l.csv", "path,label\nC:\\x\\deep\\d.png,cat\na.png,dog\n")
    assert labels_of(read_source(folder, table))["deep/d.png"] == "cat"


def test_labels_without_an_image_are_skipped_with_one_warning(
    folder: Path, tmp_path: Path, write: Any
) -> None:
    gone = "".join(f"gone{i}.png,cat\n" for i in range(50))
    table = write.text(tmp_path / "l.csv", f"path,label\na.png,cat\nb.png,dog\n,cat\n{gone}")
    source = read_source(folder, table)
    warning, few = source.warnings
    assert few.startswith("only 2 of 52 rows")
    assert '"gone0.png", "gone1.png", "gone2.png"' in few
    assert '"c.png", "deep/d.png"' in few
    assert warning.startswith("51 labels")
    assert "gone1.png" in warning
    assert "48 more" in warning
    assert len(source.skipped) == 51
    last = source.skipped.iloc[-1]
    assert last["sample_id"] == "gone49.png"
    assert last["path"] == str(folder / "gone49.png")
    assert "no such image" in last["reason"]
    assert "line 4 names no image" in source.skipped["reason"].tolist()[0]


def test_a_missing_image_is_no_file_with_a_name_that_is_not_utf8(
    folder: Path, tmp_path: Path, write: Any
) -> None:
    table = write.text(tmp_path / "UTF-8.csv", "path,label\na.png,cat\nb.png,dog\n,cat\n")
    (warning,) = read_source(folder, table).warnings
    assert "the image does not exist" in warning


def test_a_column_of_prose_is_no_column_of_paths(folder: Path, write: Any) -> None:
    table = write.text(
        folder / "l.csv", f"path,label\n{'either/or ' * 600},cat\na.png,dog\nb.png,cat\n"
    )
    assert len(read_source(table).skipped) == 1


def test_repeated_rows_are_kept_once(folder: Path, tmp_path: Path, write: Any) -> None:
    table = write.text(
        tmp_path / "l.csv", "path,label\na.png,cat\nb.png,dog\n./a.png,cat\na.png,cat\n"
    )
    source = read_source(folder, table)
    assert source.manifest.num_labeled == 2
    (warning,) = source.warnings
    assert "2 rows" in warning
    assert '"a.png"' in warning


@pytest.mark.parametrize(("label", "shown"), [("dog", '"dog"'), ("", "none")])
def test_rows_that_contradict_each_other(
    folder: Path, tmp_path: Path, label: str, shown: str, write: Any
) -> None:
    table = write.text(tmp_path / "l.csv", f"path,label\na.png,cat\nb.png,dog\na.png,{label}\n")
    message = rf'"a\.png" has two labels: "cat" in l\.csv line 2 and {shown} in l\.csv line 4'
    with pytest.raises(SourceError, match=message):
        read_source(folder, table)


def test_clean_labels_stay_beside_the_manifest(
    folder: Path, tmp_path: Path, write: Any, labels_of: Any
) -> None:
    table = write.text(
        tmp_path / "l.csv", "path,label,true\na.png,cat,cat\nb.png,dog,bird\nc.png,,dog\n"
    )
    source = read_source(folder, table, clean_label_column="true")
    assert source.manifest.class_names == ("cat", "dog")  # none that only the truth names
    assert source.clean_labels.tolist() == ["cat", "bird", "dog", ""]
    assert list(labels_of(source).values()) == ["cat", "dog", "", ""]
    part = source.subset(np.array([1, 0]))
    assert part.clean_labels.tolist() == ["bird", "cat"]
    with pytest.raises(SourceError, match=r'no column "truth" for true labels.*path, label, true'):
        read_source(folder, table, clean_label_column="truth")


def test_a_split_column(folder: Path, tmp_path: Path, write: Any, labels_of: Any) -> None:
    table = write.text(
        tmp_path / "l.csv",
        "path,label,Split\na.png,cat,train\nb.png,dog,train\nc.png,cat,test\ngone.png,cat,test\n",
    )
    source = read_source(folder, table)
    # c.png belongs to the other split and is no unlabeled image of this one; d.png has no row.
    assert labels_of(source) == {"a.png": "cat", "b.png": "dog", "deep/d.png": ""}
    assert len(source.warnings) == 1
    assert source.skipped.empty
    with pytest.raises(SourceError, match=r'no split "dev"; its splits are test, train'):
        read_source(folder, table, split="dev")
    write.text(table, "path,label,split\na.png,cat,x\nb.png,dog,y\n")
    with pytest.raises(SourceError, match="none of them train: x, y"):
        read_source(folder, table)


def test_split_folders_with_one_table(tmp_path: Path, write: Any, labels_of: Any) -> None:
    write.images(tmp_path, "train/1.png", "train/2.png", "train/3.png", "test/4.png")
    table = write.text(
        tmp_path / "l.csv", "path,label\ntrain/1.png,cat\ntrain/2.png,dog\ntest/4.png,cat\n"
    )
    assert read_source(tmp_path, table).manifest.num_samples == 4
    chosen = read_source(tmp_path, table, split="train")
    assert labels_of(chosen) == {"train/1.png": "cat", "train/2.png": "dog", "train/3.png": ""}


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_alone(folder: Path, kind: str, write: Any, labels_of: Any) -> None:
    table = write.table(
        folder / f"pets.{kind}",
        [{"image": "deep/d.png", "class": "dog"}, {"image": "a.png", "class": "cat"}],
    )
    source = read_source(table)
    assert labels_of(source) == {"deep/d.png": "dog", "a.png": "cat"}  # its rows alone, in order
    assert source.manifest.name == "pets"
    assert source.manifest.paths[0] == str(folder / "deep" / "d.png")
    assert source.manifest.images.read(1) == (folder / "a.png").read_bytes()


def test_a_table_may_name_images_without_an_extension(
    tmp_path: Path, write: Any, labels_of: Any
) -> None:
    write.images(tmp_path, "ab12", "cd34")
    table = write.text(tmp_path / "l.csv", "path,label\nab12,cat\ncd34,dog\n")
    assert labels_of(read_source(table)) == {"ab12": "cat", "cd34": "dog"}
    assert labels_of(read_source(tmp_path, table)) == {"ab12": "cat", "cd34": "dog"}


# --- parquet -----------------------------------------------------------------------------------


def test_paths_in_the_cells_become_ids_where_unique(tmp_path: Path, write: Any) -> None:
    one = write.parquet(tmp_path / "a.parquet", ["x", "y"], paths=["cat\\1.png", "/abs/2.png"])
    assert read_source(one).manifest.sample_ids.tolist() == ["cat/1.png", "/abs/2.png"]
    two = write.parquet(tmp_path / "b.parquet", ["x", "y"], paths=["same.png", "same.png"])
    assert read_source(two).manifest.sample_ids.tolist() == ["0", "1"]
    three = write.parquet(tmp_path / "c.parquet", ["x", "y"], paths=["1.png", None])
    assert read_source(three).manifest.sample_ids.tolist() == ["0", "1"]


def test_a_folder_of_shards(tmp_path: Path, write: Any) -> None:
    data = tmp_path / "data"
    write.parquet(data / "train-00000-of-00002.parquet", [0, 1, 0], class_names=["a", "b"])
    write.parquet(data / "train-00001-of-00002.parquet", [1], class_names=["a", "b"])
    write.parquet(data / "test-00000-of-00001.parquet", [1, 0], class_names=["a", "b"])
    write.text(tmp_path / "README.md", "a card")
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
    with pytest.raises(SourceError, match="its splits are test, train"):
        read_source(tmp_path, split="validation")


def test_shards_without_split_names_are_one_whole(tmp_path: Path, write: Any) -> None:
    write.parquet(tmp_path / "one" / "0.parquet", ["a"])
    write.parquet(tmp_path / "two" / "0.parquet", ["b"])
    source = read_source(tmp_path)
    assert source.manifest.sample_ids.tolist() == ["one/0:0", "two/0:0"]
    assert source.warnings == ()


def test_shards_that_differ_in_their_columns(tmp_path: Path, write: Any) -> None:
    write.parquet(tmp_path / "0.parquet", ["a"])
    write.parquet(tmp_path / "1.parquet", ["b"], image="img")
    with pytest.raises(SourceError, match="differ in their columns"):
        read_source(tmp_path)


def test_the_split_of_a_single_file(tmp_path: Path, write: Any) -> None:
    file = write.parquet(tmp_path / "train.parquet", ["a", "b"])
    assert read_source(file, split="train").manifest.num_samples == 2
    with pytest.raises(SourceError, match='no split "test"'):
        read_source(file, split="test")


def test_a_split_column_in_parquet(tmp_path: Path, write: Any) -> None:
    file = write.parquet(
        tmp_path / "all.parquet", ["a", "b", "a", "b"], split=["test", "train", "train", None]
    )
    source = read_source(file)
    assert source.manifest.sample_ids.tolist() == ["1", "2"]
    assert source.manifest.images.read(0) == b"all1"
    assert 'only the split "train"' in source.warnings[0]


# --- what is wrong -----------------------------------------------------------------------------


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere does not exist"):
        read_source(tmp_path / "nowhere")


def test_no_image(tmp_path: Path, write: Any) -> None:
    write.text(tmp_path / "a.txt", "")
    with pytest.raises(SourceError, match="no image found"):
        read_source(tmp_path)


def test_images_without_labels(folder: Path, write: Any) -> None:
    (folder / "deep" / "d.png").unlink()
    with pytest.raises(SourceError, match=r"none of the 3 images has a label; sort them into"):
        read_source(folder)
    write.text(folder / "labels.csv", "path,label\n")
    with pytest.raises(SourceError, match=r"the folder holds labels\.csv"):
        read_source(folder)


def test_one_class_only(folder: Path, tmp_path: Path, write: Any) -> None:
    with pytest.raises(SourceError, match=r'labeled images are of one class, "deep"'):
        read_source(folder)
    table = write.text(tmp_path / "l.csv", "path,label\na.png,cat\nb.png,cat\n")
    with pytest.raises(SourceError, match=r'all 2 labeled images are of one class, "cat"'):
        read_source(folder, table)
    write.text(table, "path,label\na.png,\nb.png,\n")
    with pytest.raises(SourceError, match=r"none of the 4 images has a label"):
        read_source(folder, table)


def test_a_table_of_other_images(folder: Path, tmp_path: Path, write: Any) -> None:
    text = "path,label\nimg/a.png,cat\nimg/b.png,dog\n"
    message = r'none of the images.*e\.g\. "img/a\.png".*the folder e\.g\. "a\.png"'
    with pytest.raises(SourceError, match=message):
        read_source(folder, write.text(tmp_path / "l.csv", text))
    with pytest.raises(SourceError, match=message):
        read_source(write.text(folder / "l.csv", text))
    (tmp_path / "tables").mkdir()
    with pytest.raises(SourceError, match=r"there is no image.*give the folder of the images"):
        read_source(write.text(tmp_path / "tables" / "l.csv", text))


def test_labels_for_a_source_that_is_a_file(folder: Path, tmp_path: Path, write: Any) -> None:
    table = write.text(folder / "l.csv", "path,label\na.png,cat\nb.png,dog\n")
    with pytest.raises(SourceError, match=r"needs a folder of images"):
        read_source(table, table)
    with pytest.raises(SourceError, match=r"single image"):
        read_source(folder / "a.png")


def test_columns_asked_for_without_a_table(tmp_path: Path, write: Any) -> None:
    write.images(tmp_path, "cat/1.png", "dog/2.png")
    for option in ("image_column", "label_column", "clean_label_column"):
        with pytest.raises(SourceError, match=rf'`{option}` is "x".*without a table'):
            read_source(tmp_path, **{option: "x"})


# --- how long it takes -------------------------------------------------------------------------


def test_a_large_folder_is_read_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    """Each directory is listed once, and no file is asked about by itself."""
    write.images(tmp_path, *(f"{c}/{i}.png" for c in "abc" for i in range(20)))
    table = write.text(
        tmp_path / "l.csv",
        "path,label\n" + "".join(f"{c}/{i}.png,{c}\n" for c in "abc" for i in range(20)),
    )
    listed = []
    original = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or original(path))
    assert read_source(tmp_path, table).manifest.num_labeled == 60
    assert len(listed) == 4
    listed.clear()
    assert read_source(table).manifest.num_labeled == 60
    assert len(listed) == 3


# --- verified labels ---------------------------------------------------------------------------


def test_a_column_says_what_is_verified_and_what_is_left_out(tmp_path: Path, write: Any) -> None:
    images = write.images(tmp_path / "images", *(f"{i}.png" for i in range(6)))
    rows = [("0", "cat", "yes"), ("1", "dog", ""), ("2", "junk", "excluded"), ("3", "dog", "1")]
    rows += [("4", "", "yes")]
    text = "path,label,done\n" + "".join(",".join(row) + "\n" for row in rows)
    file = write.text(tmp_path / "labels.csv", text)
    source = read_source(images, file, verified_column="done")
    assert source.manifest.sample_ids.tolist() == ["0.png", "1.png", "3.png", "4.png", "5.png"]
    assert source.manifest.class_names == ("cat", "dog")  # "junk" is no class
    assert source.verified.tolist() == [True, False, True, False, False]
    assert source.num_excluded == 1
    reason = "excluded in the column of verified labels"
    assert source.skipped[["sample_id", "reason"]].to_numpy().tolist() == [["2.png", reason]]
    assert source.warnings == (
        '1 sample is marked as verified without a label: "4.png"; taken as unlabeled',
        f'1 image {reason} and left out: "2.png"',
    )
    plain = read_source(images, file)
    assert plain.verified is None
    assert plain.manifest.num_samples == 6


def test_shards_of_images_have_verified_labels(tmp_path: Path, write: Any) -> None:
    for name, marks in (("a", ["yes", "no", "excluded"]), ("b", ["no", "yes", "yes"])):
        write.parquet(tmp_path / f"{name}.parquet", ["x", "y", "x"], done=marks)
    source = read_source(tmp_path, verified_column="done")
    assert source.manifest.sample_ids.tolist() == ["a:0", "a:1", "b:0", "b:1", "b:2"]
    assert source.verified.tolist() == [True, False, False, True, True]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("alone", [True, False])
def test_a_column_says_what_verified_labels_were_at_first(
    tmp_path: Path, write: Any, kind: str, alone: bool
) -> None:
    images = write.images(tmp_path, *(f"{i}.png" for i in range(6)))
    cells = [("cat", "yes", "dog"), ("dog", "yes", "dog"), ("cat", "yes", ""), ("dog", "", "cat"),
             ("dog", "yes", "gone")]  # fmt: skip
    names = ("label", "done", "first_label")
    rows = [
        {"path": f"{i}.png", **dict(zip(names, row, strict=True))} for i, row in enumerate(cells)
    ]
    file = write.table(tmp_path / f"labels.{kind}", rows)
    read = (file,) if alone else (images, file)
    source = read_source(*read, verified_column="done")
    assert source.manifest.class_names == ("cat", "dog")  # no class by its first label alone
    assert source.first_labels.tolist()[:5] == ["dog", "dog", "", "", "gone"]
    assert source.first_given.tolist()[:5] == [1, 1, -1, -1, -1]
    assert read_source(*read).first_labels is None


def test_shards_of_images_say_what_verified_labels_were_at_first(
    tmp_path: Path, write: Any
) -> None:
    told = {"done": ["yes", "no", "yes"], "first_label": ["dog", "dog", None]}
    names = ["cat", "dog"]
    write.parquet(tmp_path / "a.parquet", [0, 1, 0], class_names=names, **told)
    write.parquet(tmp_path / "b.parquet", [1, 1, 0], class_names=names, done=["yes", "no", "yes"])
    source = read_source(tmp_path, verified_column="done")
    assert source.verified.tolist() == [True, False, True, True, False, True]
    assert source.first_given.tolist() == [1, -1, -1, -1, -1, -1]


def test_rows_of_one_image_must_agree_on_the_first_label(tmp_path: Path, write: Any) -> None:
    images = write.images(tmp_path / "images", "0.png", "1.png")
    text = "path,label,done,first_label\n0,a,yes,b\n1,b,,\n0,a,yes,\n1,b,,x\n"
    file = write.text(tmp_path / "l.csv", text)
    with pytest.raises(SourceError, match=r'"0.png" has two first labels: "b" in l.csv line 2'):
        read_source(images, file, verified_column="done")


def test_rows_of_one_image_must_agree_on_the_mark(tmp_path: Path, write: Any) -> None:
    images = write.images(tmp_path / "images", "0.png", "1.png")
    file = write.text(tmp_path / "l.csv", "path,label,done\n0,a,yes\n1,b,\n0,a,\n")
    with pytest.raises(
        SourceError, match=r'"0.png" has two verified marks: "verified" in l.csv line 2'
    ):
        read_source(images, file, verified_column="done")


def test_folders_have_no_column_of_verified_labels(tmp_path: Path, write: Any) -> None:
    write.images(tmp_path, "cat/1.png", "dog/2.png")
    with pytest.raises(SourceError, match='`verified_column` is "done", but'):
        read_source(tmp_path, verified_column="done")

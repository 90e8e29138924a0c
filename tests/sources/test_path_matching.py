"""Paths in tables that are written for another machine, or in another form than the files."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from labelaudit.sources.file_tree import FileTree
from labelaudit.sources.folders import read_source
from labelaudit.sources.path_matching import locate

FILES = ("cat/1.png", "cat/2.png", "dog/1.png", "dog/ä ö.png")


@pytest.fixture
def pets(tmp_path: Path, write: Any) -> Path:
    return write.images(tmp_path / "pets", *FILES)


def found(pets: Path, *paths: str, known: bool = True) -> list[str]:
    tree = FileTree(pets)
    return locate(paths, tree, tree.walk() if known else None).files


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("C:\\data\\pets\\cat\\1.png", "cat/1.png"),
        ("\\\\server\\share\\pets\\dog\\1.png", "dog/1.png"),
        ("/home/other/pets/dog/1.png", "dog/1.png"),
        ("/1/2/3/cat/2.png", "cat/2.png"),
        ("file:///home/other/dog/%C3%A4%20%C3%B6.png", "dog/ä ö.png"),
        ("file:///C:/data/cat/2.png", "cat/2.png"),
        ("file://server/share/cat/2.png", "cat/2.png"),
        ("https://example.org/pets/cat/2.png?size=3", "cat/2.png"),
        ("s3://bucket/pets/cat/2.png", "cat/2.png"),
        ("/HOME/Pets/CAT/2.PNG", "cat/2.png"),
        ("/home/pets/cat/2", "cat/2.png"),
        ("Cat/1.PNG", "cat/1.png"),
        (unicodedata.normalize("NFD", "dog/ä ö.png"), "dog/ä ö.png"),
        ("dog/%C3%A4%20%C3%B6.png", "dog/ä ö.png"),
        ("dog\\Ä Ö.png", "dog/ä ö.png"),
    ],
)
def test_forms_of_one_path(pets: Path, path: str, file: str, known: bool) -> None:
    assert found(pets, path, known=known) == [file]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/x/../cat/1.png", "https://x/%2e%2e/a", "http://[x", "\0/1.png", "/"]
)
def test_paths_without_an_image(pets: Path, path: str) -> None:
    assert found(pets, path) == [""]


def test_the_end_may_begin_in_any_subfolder(tmp_path: Path, write: Any) -> None:
    root = write.images(tmp_path / "x", "images/cat/1.png", "images/dog/1.png", "1.png")
    assert found(root, "D:/pets/dog/1.png", "/y/1.png") == ["images/dog/1.png", ""]
    write.images(tmp_path / "z", "a/1.png", "b/1.png")
    located = locate(["/y/1.png"], FileTree(tmp_path / "z"), ["a/1.png", "b/1.png"])
    assert located.missing == {0: ("/y/1.png", "several images could be meant: a/1.png, b/1.png")}


def test_a_path_of_this_machine_is_not_another_file(tmp_path: Path, write: Any) -> None:
    write.images(tmp_path / "train", "1.png")
    write.images(tmp_path / "test", "1.png")
    tree = FileTree(tmp_path / "train")
    located = locate([str(tmp_path / "test" / "1.png")], tree, tree.walk())
    assert located.files == [""]
    assert "leaves the folder" in located.missing[0][1]


def test_of_two_places_the_one_with_more_images_is_meant(tmp_path: Path, write: Any) -> None:
    root = write.images(tmp_path / "x", "1.png", "2.png", "3.png")
    paths = ["/a/val/1.png", "/a/train/1.png", "/a/train/2.png", "/a/train/3.png"]
    assert found(root, *paths) == ["", "1.png", "2.png", "3.png"]
    assert found(root, "1.png", "/a/train/1.png", "/a/train/2.png") == ["1.png", "", "2.png"]


def test_names_that_differ_only_in_case_stay_apart(tmp_path: Path, write: Any) -> None:
    root = write.images(tmp_path / "x", "a.png", "A.png", "b.png")
    assert found(root, "a.png", "A.png", "B.png") == ["a.png", "A.png", "b.png"]
    assert found(root, "b.png", "B.png") == ["b.png", ""]  # the table has both
    write.images(root, "C.png", "c.png")
    assert found(root, "c.PNG") == [""]


def test_what_was_matched_is_said(pets: Path, tmp_path: Path, write: Any, labels_of: Any) -> None:
    table = write.text(
        tmp_path / "l.csv",
        "path,label\nE:\\old\\cat\\1.png,a\nE:\\old\\dog\\1.png,b\nCAT/2.png,a\nE:\\old\\gone.png,b\n",
    )
    source = read_source(pets, table)
    assert labels_of(source)["dog/1.png"] == "b"
    respelled, foreign, absent = sorted(source.warnings, key=lambda text: "left out" in text)
    assert '"CAT/2.png" from "cat/2.png"' in respelled
    assert foreign.startswith('2 paths are of another machine, such as "E:\\old\\cat\\1.png"')
    assert 'such as "cat/1.png"' in foreign
    assert "gone.png" in absent


def test_one_bad_row_does_not_refuse_a_source(pets: Path, tmp_path: Path, write: Any) -> None:
    table = write.text(
        tmp_path / "l.csv",
        "path,label\ncat/1.png,a\n../../x.png,b\n,a\ndog/1.png,b\n/etc/x.png,b\n",
    )
    source = read_source(pets, table)
    assert source.manifest.num_labeled == 2
    assert len(source.skipped) == 3

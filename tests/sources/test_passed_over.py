"""Folders whose files are not read, folders that are not walked, and links that lead nowhere."""

import os
from pathlib import Path
from typing import Any

import pytest

from labelaudit.errors import SourceError
from labelaudit.reporting.run_folder import MARKER
from labelaudit.sources.file_tree import RESULTS_MARKER, SYSTEM_FOLDERS, FileTree
from labelaudit.sources.folders import read_source
from labelaudit.sources.manifest import Source


def pets(folder: Path, write: Any) -> Path:
    write.images(folder / "cat", "1.png", "2.png")
    write.images(folder / "dog", "1.png", "2.png")
    return folder


def text(file: Path, content: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def skipped(source: Source) -> dict[str, str]:
    return dict(zip(source.skipped["sample_id"], source.skipped["reason"], strict=True))


# --- what is not walked ------------------------------------------------------------------------


def test_results_of_labelaudit_are_no_class(tmp_path: Path, write: Any) -> None:
    assert RESULTS_MARKER == MARKER
    folder = pets(tmp_path / "in", write)
    write.images(folder / "results" / "plots", "1.png")
    write.images(folder / "cat" / "results", "1.png")
    for place in ("results", "cat/results"):
        (folder / place / MARKER).write_text("")  # even of a run that was killed
    source = read_source(folder)
    assert source.manifest.class_names == ("cat", "dog")
    assert source.manifest.num_samples == 4
    assert not source.warnings
    (folder / MARKER).write_text("{}")
    with pytest.raises(SourceError, match="holds results of labelaudit"):
        read_source(folder)


@pytest.mark.parametrize("name", [*sorted(SYSTEM_FOLDERS), "@eaDir", ".Trashes", ".git"])
def test_folders_of_the_system_are_no_class(name: str, tmp_path: Path, write: Any) -> None:
    folder = pets(tmp_path / "in", write)
    write.images(folder / name / "cat", "1.png")
    write.images(folder / "dog" / name, "1.png")
    write.images(folder / "dog", "._1.png")
    source = read_source(folder)
    assert source.manifest.class_names == ("cat", "dog")
    assert source.manifest.num_samples == 4
    assert not source.warnings


def test_a_table_finds_no_image_in_them(tmp_path: Path, write: Any) -> None:
    folder = pets(tmp_path / "in", write)
    write.images(folder / "@eaDir" / "cat", "9.png")
    write.images(folder / "run" / "plots", "9.png")
    (folder / "run" / MARKER).write_text("{}")
    tree = FileTree(folder)
    assert "cat/1.png" in tree
    assert "@eaDir/cat/9.png" not in tree
    assert "run/plots/9.png" not in tree
    text(tmp_path / "labels.csv", "path,label\ncat/1.png,a\ndog/1.png,b\n")
    source = read_source(folder, tmp_path / "labels.csv")
    assert source.manifest.num_samples == 4


# --- what is passed over is said ---------------------------------------------------------------


def test_a_class_folder_without_an_image_is_named(tmp_path: Path, write: Any) -> None:
    folder = pets(tmp_path / "in", write)
    for i in range(3):
        text(folder / "fox" / f"{i}.JXL", "x")
    text(folder / "fox" / "notes.txt", "x")
    (folder / "wolf").mkdir()
    text(folder / "wolf" / "Thumbs.db", "x")
    text(folder / "dog" / "x.cr2", "x")
    text(folder / "dog" / "x.txt", "annotations, which nobody takes for a picture")
    source = read_source(folder)
    folders, pictures = source.warnings
    assert "2 folders have no image that can be read" in folders
    assert '"fox" (3 .jxl, 1 .txt)' in folders
    assert '"wolf" (empty)' in folders
    assert "1 .cr2" in pictures
    assert '"dog/x.cr2"' in pictures
    assert set(skipped(source)) == {
        "fox/0.JXL", "fox/1.JXL", "fox/2.JXL", "fox/notes.txt", "wolf", "dog/x.cr2",
    }  # fmt: skip


def test_heic_files_are_images(tmp_path: Path, write: Any) -> None:
    folder = pets(tmp_path / "in", write)
    text(folder / "fox" / "IMG_1.HEIC", "x")
    source = read_source(folder)
    assert source.manifest.class_names == ("cat", "dog", "fox")


def test_a_split_without_an_image_and_other_folders_are_named(tmp_path: Path, write: Any) -> None:
    pets(tmp_path / "in" / "train", write)
    pets(tmp_path / "in" / "val", write)
    text(tmp_path / "in" / "test" / "cat" / "1.jxl", "x")
    write.images(tmp_path / "in" / "extra" / "cat", "1.png")
    write.images(tmp_path / "in", "stray.png")
    source = read_source(tmp_path / "in")
    assert source.manifest.num_samples == 4
    chosen, others = source.warnings
    assert "not val" in chosen
    assert '"extra" (1 .png), "test" (1 .jxl)' in others
    assert "1 image outside of folders" in others


def test_a_single_split_names_what_lies_beside_it(tmp_path: Path, write: Any) -> None:
    pets(tmp_path / "in" / "train", write)
    text(tmp_path / "in" / "test" / "cat" / "1.jxl", "x")
    (warning,) = read_source(tmp_path / "in").warnings
    assert 'only the split "train" was read; not read: "test" (1 .jxl)' in warning


def test_rows_without_a_split_are_counted(tmp_path: Path, write: Any) -> None:
    folder = pets(tmp_path / "in", write)
    rows = "cat/1.png,a,train\ndog/1.png,b,train\ncat/2.png,a,\n"
    text(tmp_path / "labels.csv", "path,label,split\n" + rows)
    source = read_source(folder, tmp_path / "labels.csv")
    assert any("1 row names no split" in warning for warning in source.warnings)


def test_no_image_says_what_there_is(tmp_path: Path, write: Any) -> None:
    for name in "abc":
        text(tmp_path / "in" / f"{name}.jxl", "x")
    with pytest.raises(SourceError, match=r"no image found in .*\(3 \.jxl\)"):
        read_source(tmp_path / "in")


# --- links -------------------------------------------------------------------------------------


def test_one_bad_link_refuses_no_source(tmp_path: Path, write: Any) -> None:
    folder = pets(tmp_path / "in", write)
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(folder / "cat" / "pipe.png")
    for name, target in {
        "itself": "itself", "itself.png": "itself.png", "nothing": "nowhere", "nothing.png": "nowhere",
        "pipe2.png": str(tmp_path / "pipe"), "device.png": "/dev/zero", "up": "..",
    }.items():  # fmt: skip
        (folder / "cat" / name).symlink_to(target)
    source = read_source(folder)
    ids = set(source.manifest.sample_ids)
    assert {"cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"} < ids
    # They are images that cannot be read, which decoding says.
    assert {"cat/itself.png", "cat/nothing.png", "cat/pipe.png", "cat/pipe2.png"} < ids
    assert source.manifest.class_names == ("cat", "dog")


def test_a_link_to_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pets(tmp_path / "in", write)
    (tmp_path / "locked").mkdir()
    (folder / "cat" / "locked").symlink_to(tmp_path / "locked")
    scan = os.scandir

    def refuse(path: Any) -> Any:  # as for somebody who is not root
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    source = read_source(folder)
    assert source.manifest.num_samples == 4
    assert skipped(source) == {"cat/locked": "Permission denied"}
    assert '"cat/locked"' in source.warnings[0]

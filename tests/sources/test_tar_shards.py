"""Tar files of WebDataset: which members are samples, labels and images."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from labelaudit.errors import SourceError
from labelaudit.sources.folders import read_source


def write_tar(file: Path, members: dict[str, bytes | str]) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, data in members.items():
            encoded = data.encode() if isinstance(data, str) else data
            member = tarfile.TarInfo(name)
            member.size = len(encoded)
            tar.addfile(member, io.BytesIO(encoded))
    return file


def samples(label, count: int = 4) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for i in range(count):
        found |= {f"d/{i}.jpg": f"image {i}"} | {f"d/{i}.{k}": v for k, v in label(i).items()}
    return found


@pytest.mark.parametrize(
    ("label", "asked", "names"),
    [
        (lambda i: {"cls": str(i % 2)}, {}, ("0", "1")),
        (lambda i: {"cls": f"{i % 2 + 9}\n"}, {}, ("9", "10")),
        (lambda i: {"txt": ["ant", "bee"][i % 2]}, {}, ("ant", "bee")),
        (lambda i: {"txt": "a caption", "cls": str(i % 2)}, {}, ("0", "1")),
        (lambda i: {"json": json.dumps({"label": i % 2, "box": [1, 2]})}, {}, ("0", "1")),
        (lambda i: {"json": json.dumps({"kind": i / 2})}, {"label_column": "kind"},
         ("0", "1", "0.5", "1.5")),
        (lambda i: {"kind": "ab"[i % 2], "cls": "7"}, {"label_column": "kind"}, ("a", "b")),
        (lambda i: {"CLS": str(i % 2)}, {}, ("0", "1")),
    ],
)  # fmt: skip
def test_where_labels_are(tmp_path: Path, label, asked, names) -> None:
    source = read_source(write_tar(tmp_path / "s.tar", samples(label)), **asked)
    assert set(source.manifest.class_names) == set(names)
    assert source.manifest.sample_ids.tolist() == [f"d/{i}.jpg" for i in range(4)]
    assert source.manifest.images.read(3) == b"image 3"
    assert source.subset(np.array([2])).manifest.images.read(0) == b"image 2"


def test_clean_labels_splits_and_marks(tmp_path: Path) -> None:
    def label(i: int) -> dict[str, str]:
        record = {"label": i % 2, "truth": f"{i % 2}.0", "split": "train", "ok": i == 1}
        return {"json": json.dumps(record)}

    file = write_tar(tmp_path / "s.tar", samples(label))
    source = read_source(file, clean_label_column="truth", verified_column="ok", split="train")
    assert source.clean_labels.tolist() == ["0", "1", "0", "1"]
    assert source.verified.tolist() == [False, True, False, False]


def test_odd_samples_do_not_refuse_the_others(tmp_path: Path) -> None:
    members = samples(lambda i: {"json": json.dumps({"label": i % 2})})
    members |= {"d/8.jpg": "image 8", "d/9.json": '{"label": 1}', "d/2.json": "{", ".x.jpg": "no"}
    members |= {"README": "text", "d/3.seg.png": "mask", "__MACOSX/d/._1.jpg": "no"}
    source = read_source(write_tar(tmp_path / "s.tar", members))
    assert source.manifest.sample_ids.tolist() == [*(f"d/{i}.jpg" for i in (0, 1, 2, 3, 8)), "d/9"]
    names = [*source.manifest.class_names, ""]
    assert [names[k] for k in source.manifest.noisy_labels] == ["0", "1", "", "1", "", "1"]
    with pytest.raises(OSError, match="no image"):
        source.manifest.images.read(5)
    assert source.manifest.images.read(3) == b"image 3"
    assert any('not JSON: "d/2.json"' in text for text in source.warnings)


def test_an_image_by_its_suffix(tmp_path: Path) -> None:
    members = {f"{i}.{k}": f"{k}{i}" for i in range(4) for k in ("left.png", "right.png")}
    members |= {f"{i}.cls": str(i % 2) for i in range(4)}
    file = write_tar(tmp_path / "s.tar", members)
    source = read_source(file, image_column="right.png")
    assert source.manifest.images.read(1) == b"right.png1"


def test_a_table_of_labels_for_tar_files(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "s.tar", samples(lambda i: {}))
    table = tmp_path / "l.csv"
    table.write_text("path,label\nd/1.jpg,a\nd/2.jpg,b\nd/7.jpg,b\n")
    source = read_source(file, table)
    assert source.manifest.noisy_labels.tolist() == [-1, 0, 1, -1]
    assert any("d/7.jpg" in text for text in source.warnings)
    table.write_text("path,label\n1,a\n2,b\n")
    with pytest.raises(
        SourceError, match=r'ids are e\.g\. "1", "2", and those of the samples "d/0'
    ):
        read_source(file, table)


def test_a_large_header_cannot_fill_the_memory(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2**33
    file = tmp_path / "s.tar"
    with file.open("wb") as opened:
        opened.write(member.tobuf(tarfile.GNU_FORMAT))
        opened.truncate(2**33 + 2048)  # sparse: it takes no room
    with pytest.raises(SourceError, match="a header is too large"):
        read_source(file)


def test_what_the_library_writes(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "s.tar")) as writer:
        for i in range(4):
            pixels = np.full((4, 4, 3), 9 * i, np.uint8)
            writer.write({"__key__": f"k{i}", "png": pixels, "cls": i % 2, "json": {"a": 1}})
    source = read_source(tmp_path / "s.tar")
    assert source.manifest.noisy_labels.tolist() == [0, 1, 0, 1]
    assert source.manifest.images.read(0).startswith(b"\x89PNG")

import hashlib
import io
import json
import pickle
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits
from torchvision import datasets as torchvision_datasets

from labelaudit.benchmark.corruptions import CLASS_MAPS
from labelaudit.benchmark.datasets import (
    CIFAR10_NAMES,
    DATASET_NAMES,
    DIGIT_NAMES,
    dataset_from_source,
    load_dataset,
)
from labelaudit.errors import OptionError, SourceError
from labelaudit.progress import Reporter

RNG = np.random.default_rng(0)


class Warnings(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, text: str) -> None:
        self.lines.append(text)


# --- the digits --------------------------------------------------------------------------------


def test_digits_are_split_once_and_for_all():
    one, again = load_dataset("digits"), load_dataset("digits")
    assert one.inputs.shape == (1500, 1, 8, 8)
    assert one.test_inputs.shape == (297, 1, 8, 8)
    assert one.inputs.dtype == one.test_inputs.dtype == np.uint8
    np.testing.assert_array_equal(one.inputs, again.inputs)
    np.testing.assert_array_equal(one.test_labels, again.test_labels)
    counts, held_out = (np.bincount(y) for y in (one.clean_labels, one.test_labels))
    np.testing.assert_allclose(held_out / counts, 297 / 1500, rtol=0.05)
    assert one.class_names == DIGIT_NAMES
    assert one.noise_name in CLASS_MAPS


def test_digits_keep_their_row_as_id_and_the_test_set_holds_the_others():
    whole, part = load_digits(), load_dataset("digits")
    rows = part.sample_ids.astype(int)
    np.testing.assert_array_equal(part.clean_labels, whole.target[rows])
    np.testing.assert_array_equal(part.inputs[:, 0] >= 128, whole.images[rows] >= 8)
    others = np.setdiff1d(np.arange(1797), rows)
    np.testing.assert_array_equal(part.test_labels, whole.target[others])


# --- files in torchvision's formats ------------------------------------------------------------


def write_idx(folder: Path, split: str, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">4BIII", 0, 0, 8, 3, *images.shape)
    (folder / f"{split}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    header = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
    (folder / f"{split}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


@pytest.mark.parametrize(
    ("name", "folder", "second_class"),
    [("mnist", "MNIST", "1"), ("fashion-mnist", "FashionMNIST", "Trouser")],
)
def test_mnist_s_files_are_read(name, folder, second_class, tmp_path):
    images = RNG.integers(0, 255, (5, 28, 28)).astype(np.uint8)
    labels = np.array([3, 1, 4, 1, 9], np.uint8)
    write_idx(tmp_path / folder / "raw", "train", images, labels)
    write_idx(tmp_path / folder / "raw", "t10k", images[:2], labels[:2])
    data = load_dataset(name, tmp_path)
    np.testing.assert_array_equal(data.inputs, images[:, None])
    np.testing.assert_array_equal(data.clean_labels, labels)
    np.testing.assert_array_equal(data.test_inputs, images[:2, None])
    np.testing.assert_array_equal(data.test_labels, labels[:2])
    assert data.clean_labels.dtype == data.test_labels.dtype == np.int64
    assert data.class_names[1] == second_class
    assert data.sample_ids.tolist() == ["0", "1", "2", "3", "4"]


def test_damaged_files_of_mnist_are_told(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, "train", np.zeros((5, 28, 28), np.uint8), np.zeros(5, np.uint8))
    write_idx(folder, "t10k", np.zeros((5, 28, 28), np.uint8), np.zeros(5, np.uint8))
    whole = (folder / "train-images-idx3-ubyte").read_bytes()
    for size in (len(whole) - 100, 10, 0):
        (folder / "train-images-idx3-ubyte").write_bytes(whole[:size])
        with pytest.raises(OptionError, match="damaged"):
            load_dataset("mnist", tmp_path)


def know_checksum(monkeypatch, split: str, file: Path) -> None:
    """Have torchvision expect this file: it refuses those without the checksum of the real one."""
    url, name, _ = torchvision_datasets.SVHN.split_list[split]
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setitem(torchvision_datasets.SVHN.split_list, split, [url, name, digest])


def test_svhn_s_files_are_read_with_their_10_as_0(tmp_path, monkeypatch):
    images = RNG.integers(0, 255, (32, 32, 3, 4)).astype(np.uint8)
    labels = np.array([[10], [1], [9], [10]], np.uint8)
    for split in ("train", "test"):
        savemat(tmp_path / f"{split}_32x32.mat", {"X": images, "y": labels})
        know_checksum(monkeypatch, split, tmp_path / f"{split}_32x32.mat")
    data = load_dataset("svhn", tmp_path)
    assert data.inputs.shape == (4, 3, 32, 32)
    assert data.inputs.dtype == np.uint8
    np.testing.assert_array_equal(data.inputs[2, 1], images[:, :, 1, 2])
    assert data.clean_labels.tolist() == data.test_labels.tolist() == [0, 1, 9, 0]
    assert data.class_names == DIGIT_NAMES
    assert data.noise_name in CLASS_MAPS


def test_files_with_another_checksum_are_refused(tmp_path):
    contents = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((2, 1), np.uint8)}
    for split in ("train", "test"):
        savemat(tmp_path / f"{split}_32x32.mat", contents)
    with pytest.raises(OptionError, match="missing or damaged"):
        load_dataset("svhn", tmp_path)


def write_cifar(root: Path, monkeypatch, kind: type, key: str, names: list[str]) -> np.ndarray:
    """Write pickles in CIFAR's form with three images each; give those of the first."""
    folder = root / kind.base_folder
    folder.mkdir()

    def write(name: str, content: dict) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    rows = RNG.integers(0, 255, (3, 3072)).astype(np.uint8)
    batch = {"data": rows, key: [1, 0, 1]}
    for which in ("train_list", "test_list"):
        files = [write(name, batch) for name, _ in getattr(kind, which)]
        monkeypatch.setattr(kind, which, files)
    _, digest = write(kind.meta["filename"], {kind.meta["key"]: names})
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": digest})
    return rows


@pytest.mark.parametrize(
    ("name", "kind", "key", "total"),
    [
        ("cifar10", torchvision_datasets.CIFAR10, "labels", 15),
        ("cifar100", torchvision_datasets.CIFAR100, "fine_labels", 3),
    ],
)
def test_cifar_s_files_are_read(name, kind, key, total, tmp_path, monkeypatch):
    rows = write_cifar(tmp_path, monkeypatch, kind, key, ["apple", "bear"])
    data = load_dataset(name, tmp_path)
    assert data.inputs.shape == (total, 3, 32, 32)
    np.testing.assert_array_equal(data.inputs[:3], rows.reshape(3, 3, 32, 32))
    assert data.clean_labels.tolist() == [1, 0, 1] * (total // 3)
    np.testing.assert_array_equal(data.test_inputs, rows.reshape(3, 3, 32, 32))
    assert data.test_labels.tolist() == [1, 0, 1]
    assert data.class_names == ("apple", "bear")
    assert data.noise_name == name


@pytest.mark.parametrize("name", [name for name in DATASET_NAMES if name != "digits"])
def test_missing_files_are_one_line_with_the_folder_and_the_option(name, tmp_path):
    with pytest.raises(OptionError) as caught:
        load_dataset(name, tmp_path / "data")
    message = str(caught.value)
    assert str(tmp_path / "data") in message
    assert "`download=True`" in message
    assert "\n" not in message
    assert not (tmp_path / "data").exists()


def test_without_a_folder_the_cache_is_looked_in(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path))
    with pytest.raises(OptionError, match=str(tmp_path / "MNIST")):
        load_dataset("mnist")


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.svhn.download_url", fail)
    with pytest.raises(
        OptionError, match=r"could not be downloaded into .* no route to host"
    ) as caught:
        load_dataset("svhn", tmp_path, download=True)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_told_the_known_ones():
    with pytest.raises(OptionError, match=r"'imagenet'.*digits, mnist"):
        load_dataset("imagenet")


# --- any source --------------------------------------------------------------------------------


def png(value: int, side: int = 4, color: bool = False) -> bytes:
    stream = io.BytesIO()
    shade = (value, 0, 255 - value) if color else value
    Image.new("RGB" if color else "L", (side, side), shade).save(stream, "PNG")
    return stream.getvalue()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_parquet(file: Path, values: list[int], labels: list[int], names: list[str]) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": png(value), "path": None} for value in values], kind)
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"image": cells, "label": labels}).replace_schema_metadata(metadata)
    pq.write_table(table, file)


def test_a_folder_of_classes_becomes_a_data_set(tmp_path):
    source = write_files(
        tmp_path / "pets",
        {"cat/a.png": png(10), "cat/b.png": png(20), "dog/c.png": png(30)},
    )
    data = dataset_from_source(source)
    assert data.name == "pets"
    assert data.class_names == ("cat", "dog")
    assert data.clean_labels.tolist() == [0, 0, 1]
    assert data.sample_ids.tolist() == ["cat/a.png", "cat/b.png", "dog/c.png"]
    np.testing.assert_array_equal(
        data.inputs, np.broadcast_to([[[[10]]], [[[20]]], [[[30]]]], (3, 1, 4, 4))
    )
    assert data.test_inputs is None
    assert data.test_labels is None
    assert data.noise_name not in CLASS_MAPS


def test_images_without_a_label_and_broken_ones_are_left_out_with_a_warning(tmp_path):
    files = {f"{i}.png": png(i) for i in range(5)} | {"3.png": b"no image"}
    source = write_files(tmp_path / "images", files)
    table = {"image": [f"{i}.png" for i in range(5)], "label": ["a", "", "b", "a", "b"]}
    table |= {"worse": ["b", "b", "b", "b", "a"]}
    pd.DataFrame(table).to_csv(tmp_path / "labels.csv", index=False)
    reporter = Warnings()
    data = dataset_from_source(
        source, labels=tmp_path / "labels.csv", extra_columns=["worse"], reporter=reporter
    )
    assert data.sample_ids.tolist() == ["0.png", "2.png", "4.png"]
    assert data.clean_labels.tolist() == [0, 1, 1]
    assert data.extra_labels["worse"].tolist() == [1, 1, 0]
    assert data.inputs[:, 0, 0, 0].tolist() == [0, 2, 4]
    assert len(reporter.lines) == 2
    assert "1 of 5 samples have no label" in reporter.lines[0]
    assert '1 image could not be read and left out: "3.png"' in reporter.lines[1]


def test_parquet_with_both_splits_becomes_one_data_set(tmp_path):
    names = list(CIFAR10_NAMES)
    write_parquet(tmp_path / "train.parquet", [10, 20, 30], [9, 0, 3], names)
    write_parquet(tmp_path / "test.parquet", [40, 50], [3, 9], names)
    reporter = Warnings()
    data = dataset_from_source(tmp_path, test_split="test", reporter=reporter)
    assert data.inputs[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert data.test_inputs[:, 0, 0, 0].tolist() == [40, 50]
    assert data.clean_labels.tolist() == [9, 0, 3]
    assert data.test_labels.tolist() == [3, 9]
    assert data.class_names == CIFAR10_NAMES
    assert data.noise_name == "cifar10"
    assert reporter.lines == []
    swapped = dataset_from_source(tmp_path, split="test", test_split="train")
    assert swapped.clean_labels.tolist() == [3, 9]


def test_a_test_source_is_matched_by_class_names_size_and_channels(tmp_path):
    source = write_files(
        tmp_path / "train", {"bee/a.png": png(10), "cat/b.png": png(20), "dog/c.png": png(30)}
    )
    test = write_files(
        tmp_path / "other",
        {"cat/a.png": png(10, side=8, color=True), "dog/b.png": png(20, side=8, color=True)},
    )
    data = dataset_from_source(source, test)
    assert data.test_labels.tolist() == [1, 2]
    # Gray images cannot teach what colors mean, so the test images become gray too.
    assert data.inputs.shape == (3, 1, 4, 4)
    assert data.test_inputs.shape == (2, 1, 4, 4)
    assert data.test_inputs[0, 0, 0, 0] == round(0.299 * 10 + 0.114 * 245)
    assert data.test_inputs.dtype == np.uint8
    images = {"bee/a.png": png(1, color=True), "cat/b.png": png(2), "dog/c.png": png(3)}
    colored = dataset_from_source(write_files(tmp_path / "colored", images), source)
    assert colored.test_inputs[2, :, 0, 0].tolist() == [30, 30, 30]
    assert dataset_from_source(source, size=(2, 3)).inputs.shape == (3, 1, 2, 3)
    with pytest.raises(SourceError, match='no class of the source: "bee"'):
        dataset_from_source(test, source)


def test_extra_labels_are_class_names_or_numbers(tmp_path):
    write_files(tmp_path, {f"{i}.png": png(i) for i in range(3)})
    table = {"image": ["0.png", "1.png", "2.png"], "label": ["cat", "dog", "dog"]}
    table |= {"names": ["dog", "", "cat"], "numbers": [1, 0, 1], "others": ["cow", "dog", "cat"]}
    pd.DataFrame(table).to_csv(tmp_path / "labels.csv", index=False)
    columns = ["names", "numbers"]
    data = dataset_from_source(tmp_path / "labels.csv", extra_columns=columns)
    assert data.extra_labels["names"].tolist() == [1, -1, 0]
    assert data.extra_labels["numbers"].tolist() == [1, 0, 1]
    with pytest.raises(SourceError, match=r'"others".* no class of the source: "cow"'):
        dataset_from_source(tmp_path / "labels.csv", extra_columns=["others"])
    with pytest.raises(SourceError, match='no column "nothing"'):
        dataset_from_source(tmp_path / "labels.csv", extra_columns=["nothing"])


def test_numbers_are_not_taken_for_classes_that_are_named_by_numbers(tmp_path):
    write_files(tmp_path, {f"{i}.png": png(i) for i in range(3)})
    table = {"image": ["0.png", "1.png", "2.png"], "label": [1, 2, 3], "noisy": [0, 1, 2]}
    pd.DataFrame(table).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(SourceError, match='no class of the source: "0"'):
        dataset_from_source(tmp_path / "labels.csv", extra_columns=["noisy"])

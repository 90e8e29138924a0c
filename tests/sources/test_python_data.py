"""What a Python user has becomes the same samples as the array that it stands for."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder, VisionDataset
from torchvision.transforms import functional

import labelaudit
from labelaudit.errors import OptionError, SourceError
from labelaudit.images.containers import ImageFiles, NoImages
from labelaudit.images.decode import decode_source
from labelaudit.images.plan import plan_images
from labelaudit.sources.feature_tables import FeatureSource
from labelaudit.sources.manifest import Source
from labelaudit.sources.samples import read_samples

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(12, 5)).astype(np.float32)
GRAY = RNG.integers(0, 256, (12, 6, 8), dtype=np.uint8)
COLOR = RNG.integers(0, 256, (12, 6, 8, 3), dtype=np.uint8)
LABELS = [0, 1, 2] * 3 + [1, -1, 0]


def pixels_of(source: Any) -> np.ndarray:
    assert isinstance(source, Source)
    images = source.manifest.images
    return np.stack([np.asarray(images.read(row)) for row in range(len(images))])


# --- features ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(torch.tensor(FEATURES), id="tensor"),
        pytest.param(torch.tensor(FEATURES, requires_grad=True), id="tensor with gradient"),
        pytest.param(pd.DataFrame(FEATURES), id="DataFrame"),
        pytest.param(pd.DataFrame(FEATURES).astype({0: "Float64"}), id="DataFrame of two types"),
        pytest.param(FEATURES.tolist(), id="lists"),
        pytest.param(list(FEATURES), id="list of arrays"),
        pytest.param(list(torch.tensor(FEATURES)), id="list of tensors"),
        pytest.param(pd.Series(list(FEATURES)), id="Series of arrays"),
        pytest.param(TensorDataset(torch.tensor(FEATURES), torch.tensor(LABELS)), id="data set"),
    ],
)
def test_features_are_those_of_the_array(given: Any) -> None:
    found = read_samples(given, LABELS)
    assert isinstance(found, FeatureSource)
    assert isinstance(found.source.manifest.images, NoImages)
    assert found.features.dtype == np.float32
    np.testing.assert_array_equal(found.features, FEATURES)
    assert found.source.manifest.noisy_labels.tolist() == LABELS
    if not isinstance(given, Dataset):
        beside = read_samples(GRAY, LABELS, features=given)
        assert isinstance(beside, FeatureSource)
        np.testing.assert_array_equal(beside.features, FEATURES)


def test_bfloat16_is_read() -> None:
    found = read_samples(torch.tensor(FEATURES).bfloat16(), LABELS)
    assert isinstance(found, FeatureSource)
    np.testing.assert_allclose(found.features, FEATURES, rtol=1e-2)


def test_features_of_a_table_may_be_a_data_frame(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    pd.DataFrame({"label": LABELS}).to_csv(table, index=False)
    found = read_samples(table, features=pd.DataFrame(FEATURES))
    assert isinstance(found, FeatureSource)
    np.testing.assert_array_equal(found.features, FEATURES)


def test_other_data_frames_than_those_of_pandas() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(FEATURES)
    found = read_samples(frame, polars.Series(["a", "b", None] * 4))
    assert isinstance(found, FeatureSource)
    np.testing.assert_array_equal(found.features, FEATURES)
    assert found.source.manifest.noisy_labels.tolist() == [0, 1, -1] * 4
    table = polars.DataFrame({"a": FEATURES[:, 0], "label": ["x", "y"] * 6})
    rows = read_samples(table, tabular=True)
    assert isinstance(rows, FeatureSource)
    assert rows.source.manifest.class_names == ("x", "y")


def test_a_data_frame_is_a_table_like_its_csv_file(tmp_path: Path) -> None:
    frame = pd.DataFrame({
        "id": [f"row {row}" for row in range(12)],
        "height": FEATURES[:, 0].astype(np.float64),
        "count": pd.array([1, 2, None] * 4, dtype="Int64"),
        "kind": pd.Categorical(["new", "old", "old"] * 4),
        "since": pd.date_range("2026-01-01", periods=12),
        "class": ["cat", "dog", None, "dog"] * 3,
    })  # fmt: skip
    frame.drop(columns="since").to_csv(tmp_path / "t.csv", index=False)
    ours = read_samples(frame, tabular=True)
    theirs = read_samples(tmp_path / "t.csv", tabular=True)
    assert isinstance(ours, FeatureSource)
    assert isinstance(theirs, FeatureSource)
    np.testing.assert_array_equal(ours.features, theirs.features)
    assert ours.notes == theirs.notes
    pd.testing.assert_frame_equal(ours.details, theirs.details)
    assert ours.source.fingerprint() == theirs.source.fingerprint()
    assert ours.source.manifest.name == "DataFrame"


# --- labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(np.array(LABELS), id="array"),
        pytest.param(tuple(LABELS), id="tuple"),
        pytest.param(torch.tensor(LABELS), id="tensor"),
        pytest.param(list(torch.tensor(LABELS)), id="list of tensors"),
        pytest.param(pd.Series(LABELS, index=range(5, 17)), id="Series"),
        pytest.param(pd.Series(LABELS, dtype="Int64").replace(-1, pd.NA), id="Series with NA"),
        pytest.param(np.array(LABELS)[:, None], id="one column"),
        pytest.param(pd.DataFrame({"label": LABELS}), id="DataFrame of one column"),
    ],
)
def test_labels_are_those_of_the_list(given: Any) -> None:
    found = read_samples(FEATURES, given)
    assert isinstance(found, FeatureSource)
    assert found.source.manifest.noisy_labels.tolist() == LABELS


@pytest.mark.parametrize("form", [np.asarray, torch.tensor, pd.DataFrame, np.ndarray.tolist, list])
def test_one_hot_labels_are_refused(form: Any) -> None:
    rows = form(np.eye(3)[np.array(LABELS)])
    with pytest.raises(SourceError, match=r"shape \(12, 3\); give one label .* labels.argmax\(1\)"):
        read_samples(GRAY, rows)


# --- images ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(torch.tensor(COLOR), id="tensor"),
        pytest.param(torch.tensor(COLOR).permute(0, 3, 1, 2), id="channels first"),
        pytest.param(torch.tensor(COLOR).permute(0, 3, 1, 2) / 255, id="floats"),
        pytest.param(list(COLOR), id="arrays"),
        pytest.param([Image.fromarray(image) for image in COLOR], id="PIL"),
        pytest.param([functional.to_tensor(image) for image in COLOR], id="tensors"),
    ],
)
def test_images_are_those_of_the_array(given: Any) -> None:
    np.testing.assert_array_equal(pixels_of(read_samples(given, LABELS)), COLOR)
    source = labelaudit.source_from_arrays(given, LABELS)
    np.testing.assert_array_equal(pixels_of(source), COLOR)


def test_gray_images_with_a_channel() -> None:
    found = read_samples(torch.tensor(GRAY)[:, None] / 255, LABELS)
    np.testing.assert_array_equal(pixels_of(found)[..., 0], GRAY)
    found = read_samples([Image.fromarray(image) for image in GRAY], LABELS)
    np.testing.assert_array_equal(pixels_of(found), GRAY)


def test_images_of_several_sizes_and_kinds_get_one_size() -> None:
    wide = Image.fromarray(np.full((6, 16), 9, np.uint8))
    exif = wide.getexif()
    exif[0x0112] = 6  # lies on its side
    wide.info["exif"] = exif.tobytes()
    found = read_samples(
        [GRAY[0], Image.fromarray(GRAY[1]), torch.tensor(GRAY[2]), wide], [*"abab"]
    )
    assert isinstance(found, Source)
    images = found.manifest.images
    np.testing.assert_array_equal(images.read(1), GRAY[1])
    decoded = decode_source(images, plan_images(images))
    assert decoded.pixels.shape == (4, 1, 6, 8)
    np.testing.assert_array_equal(decoded.pixels[:3, 0], GRAY[:3])
    assert not decoded.unreadable


# --- data sets ---------------------------------------------------------------------------------


class Pairs(Dataset):
    def __init__(self, images: Any, labels: Any, key: str | None = None) -> None:
        self.pairs = list(zip(images, labels, strict=True))
        self.key = key

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, row: int) -> Any:
        image, label = self.pairs[row]
        return (image, label) if self.key is None else {"image": image, self.key: label}


class Raw(VisionDataset):
    """Like MNIST and CIFAR-10: the images as they are, and items that a transform changed."""

    classes = ("cat", "dog", "owl")

    def __init__(self, data: Any, targets: Any) -> None:
        super().__init__(transform=lambda image: image * 0)
        self.data, self.targets = data, targets

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        return self.transform(self.data[row]), self.targets[row]


@pytest.mark.parametrize(
    "images",
    [list(COLOR), [Image.fromarray(one) for one in COLOR], list(torch.tensor(COLOR) / 255)],
    ids=["arrays", "PIL", "tensors"],
)
def test_data_sets_of_pairs(images: Any) -> None:
    for data in (Pairs(images, LABELS), Pairs(images, LABELS, "label")):
        found = read_samples(data)
        np.testing.assert_array_equal(pixels_of(found), COLOR)
        assert found.manifest.noisy_labels.tolist() == LABELS  # type: ignore[union-attr]
    found = read_samples(Subset(Pairs(images, LABELS), [5, 0, 1]))
    np.testing.assert_array_equal(pixels_of(found), COLOR[[5, 0, 1]])
    odd = read_samples(Pairs(images, LABELS, "kind"), label_column="kind")
    assert odd.manifest.noisy_labels.tolist() == LABELS  # type: ignore[union-attr]
    others = read_samples(Pairs(images, LABELS), ["a", "b"] * 6)
    assert others.manifest.class_names == ("a", "b")  # type: ignore[union-attr]


@pytest.mark.parametrize("form", [np.asarray, torch.tensor])
def test_torchvision_gives_its_images_before_the_transform(form: Any) -> None:
    found = read_samples(Raw(form(COLOR), form(LABELS)))
    np.testing.assert_array_equal(pixels_of(found), COLOR)
    assert isinstance(found, Source)
    assert found.manifest.class_names == ("cat", "dog", "owl")
    assert found.manifest.noisy_labels.tolist() == LABELS


def test_torchvision_without_its_data() -> None:
    data = FakeData(8, (3, 6, 8), num_classes=3, random_offset=2)
    found = read_samples(data)
    assert isinstance(found, Source)
    assert found.manifest.num_samples == 8
    np.testing.assert_array_equal(found.manifest.images.read(3), np.asarray(data[3][0]))


def test_a_folder_of_torchvision_is_read_from_its_files(tmp_path: Path) -> None:
    for row, name in enumerate(("cat", "dog", "cat", "dog")):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(GRAY[row]).save(tmp_path / name / f"{row}.png")
    found = read_samples(ImageFolder(str(tmp_path)))
    ours = labelaudit.read_source(tmp_path)
    assert isinstance(found, Source)
    assert isinstance(found.manifest.images, ImageFiles)
    assert found.manifest.sample_ids.tolist() == ours.manifest.sample_ids.tolist()
    assert found.manifest.paths.tolist() == ours.manifest.paths.tolist()
    assert found.fingerprint() == ours.fingerprint()


@pytest.fixture
def hugging_face() -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({
        "picture": datasets.Image(),
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["owl", "cat", "dog"]),
        "fine": datasets.Value("string"),
    })  # fmt: skip
    rows = {
        "picture": [Image.fromarray(image) for image in COLOR],
        "text": ["words"] * 12,
        "label": LABELS,
        "fine": ["a", "b", None] * 4,
    }
    return datasets, datasets.Dataset.from_dict(rows, features=features)


def test_hugging_face_keeps_class_names(hugging_face: Any) -> None:
    datasets, data = hugging_face
    for given in (data, data.with_format("torch"), datasets.DatasetDict(train=data, test=data)):
        found = read_samples(given)
        assert isinstance(found, Source)
        decoded = decode_source(found.manifest.images, plan_images(found.manifest.images))
        np.testing.assert_array_equal(decoded.pixels.transpose(0, 2, 3, 1), COLOR)
        part = found.subset(np.array([7])).manifest.images
        assert part.read(0) == found.manifest.images.read(7)
        assert found.manifest.class_names == ("owl", "cat", "dog")
        assert found.manifest.noisy_labels.tolist() == LABELS
        assert len(found.warnings) == (given is not data and hasattr(given, "keys"))
    fine = read_samples(data, image_column="picture", label_column="fine")
    assert fine.manifest.noisy_labels.tolist() == [0, 1, -1] * 4  # type: ignore[union-attr]


def test_hugging_face_without_images(hugging_face: Any) -> None:
    _, data = hugging_face
    texts = data.remove_columns("picture")
    found = read_samples(texts, features=FEATURES)
    assert isinstance(found, FeatureSource)
    assert found.source.manifest.class_names == ("owl", "cat", "dog")
    np.testing.assert_array_equal(found.features, FEATURES)
    with pytest.raises(OptionError, match=r"no column for the images; its columns: text, label"):
        read_samples(texts)
    with pytest.raises(OptionError, match="streaming"):
        read_samples(data.to_iterable_dataset())


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ((one for one in FEATURES), {"labels": LABELS}, "the source is a generator; give a path"),
        ({"a": 1}, {"labels": [1]}, "the source is a dict; give"),
        (7, {}, "the source is an int; give"),
        (DataLoader(Pairs(COLOR, LABELS)), {}, "a torch DataLoader; give"),
        (FEATURES, {}, "an array of features needs labels="),
        (GRAY, {}, "an array of images needs labels="),
        (FEATURES.tolist(), {}, "a list needs labels="),
        (pd.DataFrame(FEATURES), {}, r"needs labels=, .* tabular=True"),
        (FEATURES, {"labels": "labels.csv"}, "labels= is a path"),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), {"labels": [0, 1]}, 'column "b" .* numbers'),
        ([[1, 2], [3]], {"labels": [0, 1]}, "row 1 of the source has the shape"),
        ([1, 2], {"labels": [0, 1]}, "item 0 of the source is an int"),
        (["a.png", "b.png"], {"labels": [0, 1]}, "item 0 of the source is a str; give images"),
        ([], {"labels": []}, "the source is empty"),
        ([GRAY[0], FEATURES[0]], {"labels": [0, 1]}, r"image 1: the shape is \(5,\)"),
        (Pairs(COLOR, LABELS, "kind"), {}, "no column for the labels; its columns: image, kind"),
        (list(COLOR / 128), {"labels": LABELS}, "image 0: the floats go from .* standardizes"),
        (GRAY, {"labels": LABELS, "tabular": True}, "reads a table; give the path"),
        (pd.DataFrame(FEATURES), {"labels": LABELS, "tabular": True}, "leave out the labels"),
        (
            FEATURES,
            {"labels": LABELS, "features": FEATURES},
            "already has features; leave features=",
        ),
        (GRAY, {"labels": LABELS, "features": Path("f.npz")}, "f.npz may hold several arrays"),
        (GRAY, {"labels": LABELS, "features": "f.npz"}, "f.npz may hold several arrays"),
    ],
)
def test_what_cannot_be_taken_is_named(source: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises((OptionError, SourceError), match=message) as caught:
        read_samples(source, **more)
    assert "\n" not in str(caught.value)


def test_files_of_arrays_and_labels_of_the_wrong_kind(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", FEATURES)
    with pytest.raises(OptionError, match="holds arrays without labels"):
        read_samples(tmp_path / "f.npy")
    with pytest.raises(OptionError, match="labels= is a list; for a source on disk"):
        read_samples(tmp_path, LABELS)


# --- the whole way -----------------------------------------------------------------------------


def test_a_scan_of_a_data_frame_finds_the_suspects_of_the_array(gaussians) -> None:
    features, noisy, _ = gaussians
    features, noisy = features[:300], noisy[:300]
    results = [
        labelaudit.scan(form(features), labels, epochs=2, device="cpu").suspects
        for form, labels in (
            (np.asarray, noisy),
            (pd.DataFrame, pd.Series(noisy)),
            (np.ndarray.tolist, torch.tensor(noisy)),
        )
    ]
    assert len(results[0])
    for other in results[1:]:
        pd.testing.assert_frame_equal(results[0], other)


def test_the_auditor_fits_what_scan_takes() -> None:
    images = GRAY[:, None] / np.float32(255)
    expected = labelaudit.LabelAuditor(epochs=1, device="cpu").fit(GRAY, LABELS)
    for given, labels in (
        (torch.tensor(images), torch.tensor(LABELS)),
        (list(GRAY), LABELS),
        (Pairs(list(GRAY), LABELS), None),
        (Raw(GRAY, LABELS), None),
    ):
        found = labelaudit.LabelAuditor(epochs=1, device="cpu").fit(given, labels)
        np.testing.assert_array_equal(found.suspect_score_, expected.suspect_score_)
        assert len(found.classes_) == 3


def test_a_class_without_a_name_is_warned_of():
    source = labelaudit.source_from_arrays(None, [0, 1, 2, 0], class_names=["cat", "", "dog"])
    assert source.manifest.noisy_labels.tolist() == [0, -1, 2, 0]
    assert "class 1 has no name; its samples are taken as unlabeled" in source.warnings[0]


def test_files_whose_names_are_not_utf8_have_ids_that_can_be_written(tmp_path):
    names = [os.fsencode(tmp_path) + b"/" + name for name in (b"a/1.png", b"b/\xff.png")]
    for name in names:
        os.makedirs(os.path.dirname(name))  # noqa: PTH103, PTH120
        with open(name, "wb") as file:  # noqa: PTH123
            Image.new("L", (4, 4)).save(file, "PNG")
    source = read_samples(ImageFolder(str(tmp_path)))
    assert source.manifest.sample_ids.tolist() == ["a/1.png", "b/\\udcff.png"]

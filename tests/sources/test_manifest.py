"""Arrays as a source, numbered classes, and what is left of a manifest."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from labelaudit.errors import SourceError
from labelaudit.sources.arrays import source_from_arrays
from labelaudit.sources.classes import check_trainable
from labelaudit.sources.manifest import Verified

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
    assert source.clean_labels.tolist() == ["bird", "", "dog"]
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
        (np.full((2, 2, 2), 1.5), {}, "floats go from 1.5 to 1.5; scale"),
        (np.full((2, 2, 2), np.nan), {}, r"scale them to \[0, 1\]"),
        (np.zeros((2, 2, 2), np.int64), {}, "the type is int64; give uint8"),
        (np.zeros((2, 4), np.uint8), {}, r"shape is \(2, 4\)"),
        (np.zeros((2, 5, 8, 8), np.uint8), {}, "C = 1 or 3, or 4 where the channels are last"),
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


# --- verified labels ---------------------------------------------------------------------------


def test_verified_labels_stay_with_their_images() -> None:
    mask = np.array([True, False, True, True])
    source = source_from_arrays(pixels(4, 2, 2), ["a", "b", "", "b"], verified=mask)
    assert source.verified is not None
    assert source.verified.tolist() == [True, False, False, True]  # no label, nothing verified
    assert source.warnings == (
        '1 sample is marked as verified without a label: "2"; taken as unlabeled',
    )
    assert source.verified_labels is not None
    assert source.verified_labels.labels.tolist() == [True, False, True]
    assert source.verified_labels.first_given.tolist() == [-1, -1, -1]
    assert source.subset(np.array([3, 1])).verified.tolist() == [True, False]
    assert source.subset(np.array([1, 2])).verified is None
    left = source.without_unreadable({0: "broken"})
    assert left.verified.tolist() == [False, False, True]


def test_a_fingerprint_knows_of_verified_labels_where_there_are_any() -> None:
    labels = ["a", "b", "", "b"]
    plain = source_from_arrays(pixels(4, 2, 2), labels)
    none = source_from_arrays(pixels(4, 2, 2), labels, verified=np.zeros(4, bool))
    one, other = (
        source_from_arrays(pixels(4, 2, 2), labels, verified=np.arange(4) == i) for i in (0, 1)
    )
    assert plain.fingerprint() == none.fingerprint() == plain.manifest.fingerprint()
    prints = [plain.fingerprint(), one.fingerprint(), other.fingerprint()]
    first = np.array(["b", "", "", ""], dtype=object)
    prints.append(replace(one, first_labels=first).fingerprint())
    assert len(set(prints)) == 4
    assert one.manifest.fingerprint() == plain.manifest.fingerprint()


def test_first_labels_are_classes_as_far_as_these_are_known() -> None:
    first = np.array(["b", "gone", "", "new"], dtype=object)
    mask = np.array([True, True, True, True])
    source = source_from_arrays(pixels(4, 2, 2), ["a", "b", "", "b"], verified=mask)
    assert source.first_given is None
    source = replace(source, first_labels=first)
    assert source.first_given.tolist() == [1, -1, -1, -1]
    assert source.verified_labels.first_given.tolist() == [1, -1, -1]
    assert source.subset(np.array([3, 0])).first_given.tolist() == [-1, 1]
    # Predictions may bring more classes.
    more = replace(source.manifest, class_names=("a", "b", "new"))
    assert replace(source, manifest=more).first_given.tolist() == [1, -1, -1, 2]


def test_labels_as_first_given() -> None:
    verified = Verified(np.array([True, True, False]), np.array([2, -1, 2]))
    assert verified.as_given(np.array([0, 1, 0])).tolist() == [2, 1, 0]
    assert Verified.of_mask(np.zeros(3, bool)) is None


@pytest.mark.parametrize("mask", [[True], [0, 1, 1, 0], [[True] * 4]])
def test_what_is_no_mask_of_the_labels_is_refused(mask: object) -> None:
    with pytest.raises(SourceError, match="give one True or False for each of the 4 labels"):
        source_from_arrays(pixels(4, 2, 2), ["a", "b", "a", "b"], verified=mask)

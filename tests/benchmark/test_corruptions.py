import hashlib

import numpy as np
import pytest

from labelaudit import OptionError
from labelaudit.benchmark.corruptions import (
    CIFAR10_MAP,
    MNIST_MAP,
    corrupt_asymmetric,
    corrupt_by_instance,
    corrupt_by_matrix,
    corrupt_pair,
    corrupt_symmetric,
    read_transition_matrix,
    realised_matrix,
)

LABELS = np.repeat(np.arange(5), [40, 30, 20, 11, 1])


@pytest.mark.parametrize("corrupt", [corrupt_symmetric, corrupt_pair])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
def test_counts_are_exact_in_each_class(corrupt, rate):
    noisy = corrupt(LABELS, rate, 5, seed=3)
    for cls in range(5):
        members = LABELS == cls
        expected = int(rate * members.sum() + 0.5)
        assert (noisy[members] != cls).sum() == expected
    assert noisy.min() >= 0
    assert noisy.max() < 5


def test_pair_goes_to_the_next_class_and_around():
    noisy = corrupt_pair(LABELS, 1.0, 5, seed=0)
    np.testing.assert_array_equal(noisy, (LABELS + 1) % 5)


def test_symmetric_spreads_over_the_other_classes_evenly():
    labels = np.zeros(8000, dtype=np.int64)
    noisy = corrupt_symmetric(labels, 0.5, 5, seed=0)
    counts = np.bincount(noisy, minlength=5)
    assert counts[0] == 4000
    np.testing.assert_allclose(counts[1:], 1000, atol=120)  # four standard deviations


@pytest.mark.parametrize("class_map", [CIFAR10_MAP, MNIST_MAP])
def test_asymmetric_flips_a_share_of_the_affected_classes_alone(class_map):
    labels = np.repeat(np.arange(10), 50)
    matrix = realised_matrix(labels, corrupt_asymmetric(labels, 0.3, 10, 1, class_map), 10)
    for cls in range(10):
        expected = np.zeros(10)
        expected[cls] = 0.7 if cls in class_map else 1.0
        if cls in class_map:
            expected[class_map[cls]] = 0.3
        np.testing.assert_allclose(matrix[cls], expected)


def test_matrix_noise_follows_its_matrix_to_the_nearest_whole_number():
    rng = np.random.default_rng(0)
    matrix = rng.dirichlet(np.ones(5), 5)
    noisy = corrupt_by_matrix(LABELS, matrix, seed=2)
    for cls in range(5):
        members = LABELS == cls
        counts = np.bincount(noisy[members], minlength=5)
        assert np.abs(counts - matrix[cls] * members.sum()).max() < 1
    exact = np.full((5, 5), 0.05) + 0.75 * np.eye(5)
    np.testing.assert_allclose(
        realised_matrix(np.repeat(np.arange(5), 40), corrupt_by_matrix(np.repeat(np.arange(5), 40), exact, 0), 5),  # noqa: E501
        exact,
    )  # fmt: skip


def test_instance_noise_has_about_its_rate_and_follows_the_image():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 6000)
    images = rng.integers(0, 256, (6000, 1, 4, 4)).astype(np.uint8)
    noisy = corrupt_by_instance(labels, images, 0.3, 4, seed=1)
    # N(0.3, 0.1²) truncated to [0, 1] has mean 0.3004; four standard errors.
    assert (noisy != labels).mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 6000))
    # The same image with the same label goes to the same few classes, whatever the draw.
    same = np.repeat(images[:1], 2000, axis=0)
    flipped = corrupt_by_instance(np.zeros(2000, int), np.concatenate([same[:1000], images[:1000]]), 0.5, 4, 3)  # noqa: E501  # fmt: skip
    alike = np.bincount(flipped[:1000][flipped[:1000] > 0], minlength=4)[1:]
    varied = np.bincount(flipped[1000:][flipped[1000:] > 0], minlength=4)[1:]
    assert alike.max() / alike.sum() > 1.2 * varied.max() / varied.sum()
    np.testing.assert_array_equal(corrupt_by_instance(labels, images, 0.0, 4, 1), labels)


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("symmetric", "c2102032ae3cb860"),
        ("pair", "e762c00d964d9aff"),
        ("asymmetric", "25581c517e1bb5b3"),
        ("matrix", "83f1ee251dde5863"),
    ],
)
def test_golden_hashes_pin_the_flips(kind, digest):
    labels = np.arange(1000) % 10
    matrix = np.full((10, 10), 0.02) + 0.8 * np.eye(10)
    noisy = {
        "symmetric": lambda: corrupt_symmetric(labels, 0.3, 10, 7),
        "pair": lambda: corrupt_pair(labels, 0.3, 10, 7),
        "asymmetric": lambda: corrupt_asymmetric(labels, 0.3, 10, 7, MNIST_MAP),
        "matrix": lambda: corrupt_by_matrix(labels, matrix, 7),
    }[kind]()
    assert hashlib.sha256(noisy.astype("<i8").tobytes()).hexdigest()[:16] == digest


def test_seeds_decide_and_the_input_is_kept():
    before = LABELS.copy()
    first = corrupt_symmetric(LABELS, 0.3, 5, seed=1)
    np.testing.assert_array_equal(first, corrupt_symmetric(LABELS, 0.3, 5, seed=1))
    assert not np.array_equal(first, corrupt_symmetric(LABELS, 0.3, 5, seed=2))
    np.testing.assert_array_equal(LABELS, before)


def test_unlabeled_stays_unlabeled():
    labels = np.array([-1, 0, 1, 0, 1, -1])
    swapped = [-1, 1, 0, 1, 0, -1]
    np.testing.assert_array_equal(corrupt_symmetric(labels, 1.0, 2, seed=0), swapped)
    np.testing.assert_array_equal(corrupt_by_matrix(labels, 1 - np.eye(2), seed=0), swapped)
    noisy = corrupt_by_instance(labels, np.zeros((6, 2, 2)), 1.0, 2, seed=0)
    np.testing.assert_array_equal(noisy, swapped)


def test_impossible_rates_are_refused():
    with pytest.raises(OptionError, match="rate"):
        corrupt_symmetric(LABELS, 1.2, 5, seed=0)
    with pytest.raises(OptionError, match="two classes"):
        corrupt_pair(LABELS, 0.1, 1, seed=0)


def test_transition_matrices_are_read_and_checked(tmp_path):
    matrix = np.array([[0.9, 0.1], [0.25, 0.75]])
    np.save(tmp_path / "t.npy", matrix)
    (tmp_path / "t.csv").write_text("0.9,0.1\n0.25,0.75\n")
    (tmp_path / "t.txt").write_text("0.9 0.1\n\n0.25 0.75\n")
    for name in ("t.npy", "t.csv", "t.txt"):
        np.testing.assert_allclose(read_transition_matrix(tmp_path / name, 2), matrix)
    with pytest.raises(OptionError, match="3x3"):
        read_transition_matrix(tmp_path / "t.csv", 3)
    (tmp_path / "bad.csv").write_text("0.9,0.3\n0.25,0.75\n")
    with pytest.raises(OptionError, match=r"row 0 .* sums to 1.2"):
        read_transition_matrix(tmp_path / "bad.csv", 2)
    (tmp_path / "negative.csv").write_text("1.5,-0.5\n0,1\n")
    with pytest.raises(OptionError, match="probabilities"):
        read_transition_matrix(tmp_path / "negative.csv", 2)
    with pytest.raises(OptionError, match="cannot be read"):
        read_transition_matrix(tmp_path / "nowhere.csv", 2)

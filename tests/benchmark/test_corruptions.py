import numpy as np
import pytest

from labelaudit import OptionError
from labelaudit.benchmark.corruptions import corrupt_pair, corrupt_symmetric

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


def test_seeds_decide_and_the_input_is_kept():
    before = LABELS.copy()
    first = corrupt_symmetric(LABELS, 0.3, 5, seed=1)
    np.testing.assert_array_equal(first, corrupt_symmetric(LABELS, 0.3, 5, seed=1))
    assert not np.array_equal(first, corrupt_symmetric(LABELS, 0.3, 5, seed=2))
    np.testing.assert_array_equal(LABELS, before)


def test_unlabeled_stays_unlabeled():
    labels = np.array([-1, 0, 1, 0, 1, -1])
    noisy = corrupt_symmetric(labels, 1.0, 2, seed=0)
    np.testing.assert_array_equal(noisy, [-1, 1, 0, 1, 0, -1])


def test_impossible_rates_are_refused():
    with pytest.raises(OptionError, match="rate"):
        corrupt_symmetric(LABELS, 1.2, 5, seed=0)
    with pytest.raises(OptionError, match="two classes"):
        corrupt_pair(LABELS, 0.1, 1, seed=0)

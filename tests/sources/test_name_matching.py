"""Class names that are written in two ways."""

import numpy as np
import pytest

from labelaudit import source_from_arrays
from labelaudit.errors import SourceError
from labelaudit.sources.name_matching import agreement_warning, match_names, match_numbers


@pytest.mark.parametrize(
    ("texts", "names", "declared", "expected"),
    [
        (["1.0", "2.0", ""], ["1", "2"], (), {"1.0": "1", "2.0": "2"}),
        (["1", "1.0"], ["1", "2"], (), {"1.0": "1"}),
        (["1.5"], ["1", "2"], (), {}),
        (["01"], ["1", "01"], (), {}),
        (["1"], ["01", "1.0"], (), {}),  # it could be either
        (["Cat", "dog"], ["cat", "dog"], (), {"Cat": "cat"}),
        (["Cat", "cat"], ["cat", "dog"], (), {}),  # the texts tell them apart
        (["CAT"], ["cat", "Cat"], (), {}),
        (["ice  cream"], ["Ice Cream"], (), {"ice  cream": "Ice Cream"}),
        (["0", "2"], ["a", "b", "c"], ("a", "b", "c"), {"0": "a", "2": "c"}),
        (["0", "3"], ["a", "b", "c"], ("a", "b", "c"), {}),
        (["0", "a"], ["a", "b"], ("a", "b"), {}),
        (["True", "False"], ["1", "0"], (), {"True": "1", "False": "0"}),
        (["1", "0"], ["true", "false"], (), {"1": "true", "0": "false"}),
        (["x"], [], (), {}),
    ],
)
def test_which_class_is_meant(texts, names, declared, expected) -> None:
    assert match_names(texts, names, declared) == expected


def test_codes_are_no_numbers_where_a_class_is_chosen() -> None:
    assert match_numbers(["3.0", "03", "x"], ["3", "10"]) == {"3.0": "3"}


def test_agreement_no_better_than_by_chance() -> None:
    labels = ["a", "b", "c"] * 20
    assert agreement_warning(labels, labels) == ""
    assert agreement_warning(labels[:12], ["b"] * 12) == ""  # too few to tell
    shifted = [*labels[1:], "a"]
    assert "0 labels equal the clean label, of 60" in agreement_warning(labels, shifted)
    half = [labels[row] if row % 2 else shifted[row] for row in range(60)]
    assert agreement_warning(labels, half) == ""  # half of the labels are wrong


def test_clean_labels_in_python() -> None:
    images = np.zeros((6, 4, 4), np.uint8)
    given = ["1", "2"] * 3
    source = source_from_arrays(images, given, clean_labels=[1.0, 2.0] * 3)
    assert source.clean_labels.tolist() == given
    source = source_from_arrays(images, [1, 2] * 3, clean_labels=["1.0", "2.0"] * 3)
    assert source.clean_labels.tolist() == given
    with pytest.raises(SourceError, match=r'no clean label names a class.*"a", "b".*"1", "2"'):
        source_from_arrays(images, given, clean_labels=["a", "b"] * 3)

import numpy as np
import pandas as pd
import pytest
import torch

import labelaudit
from labelaudit.errors import OptionError, SourceError
from labelaudit.sources.annotators import annotator_columns, majority, separate_annotators
from labelaudit.sources.feature_tables import FeatureSource, TableSource
from labelaudit.sources.samples import read_samples

NAMES = ["anna", "bob", "carla"]


def write_votes(path, rows):
    pd.DataFrame(rows, columns=NAMES).to_csv(path, index_label="id")
    return path


def read_votes(path, columns=NAMES, **options):
    found = read_samples(path, label_columns=columns, predictions=["p.npy"], **options)
    assert isinstance(found, TableSource)
    return found.source


def test_the_label_is_what_most_annotators_chose(tmp_path):
    rows = [("cat", "cat", "dog"), ("dog", "", "dog"), ("", "owl", ""), ("", "", "")]
    source = read_votes(write_votes(tmp_path / "votes.csv", rows))
    assert source.manifest.class_names == ("cat", "dog", "owl")
    assert source.manifest.noisy_labels.tolist() == [0, 1, 2, -1]
    assert source.votes.annotators == ("anna", "bob", "carla")
    assert source.votes.labels.tolist() == [[0, 0, 1], [1, -1, 1], [-1, 2, -1], [-1, -1, -1]]
    assert not source.votes.tied.any()


def test_a_class_of_a_single_vote_is_a_class(tmp_path):
    rows = [("cat", "cat", "yak"), ("dog", "dog", "dog")]
    source = read_votes(write_votes(tmp_path / "votes.csv", rows))
    assert source.manifest.class_names == ("cat", "dog", "yak")
    assert source.manifest.noisy_labels.tolist() == [0, 1]


def test_one_column_is_read_like_a_column_of_labels(tmp_path):
    path = write_votes(tmp_path / "votes.csv", [("cat", "dog", "dog"), ("dog", "dog", "cat")])
    one = read_votes(path, "anna")
    other = read_samples(path, label_column="anna", predictions=["p.npy"]).source
    assert one.votes is None
    assert one.fingerprint() == other.fingerprint()


def test_the_fingerprint_depends_on_every_vote_and_name(tmp_path):
    path = write_votes(tmp_path / "votes.csv", [("cat", "cat", "dog"), ("dog", "dog", "dog")])
    prints = {read_votes(path, columns).fingerprint() for columns in (NAMES, ["anna", "bob"])}
    other = write_votes(tmp_path / "other.csv", [("cat", "dog", "cat"), ("dog", "dog", "dog")])
    prints.add(read_votes(other).fingerprint())
    assert len(prints) == 3


def test_ties_go_to_the_annotators_who_agree_more_often():
    # The third annotator mostly disagrees, so the tie of the last row is not decided by that one.
    agreeing = [[0, 0, 1], [1, 1, 0], [0, 0, 1], [1, 1, 1]]
    chosen, tied = majority(np.array([*agreeing, [-1, 1, 0]]))
    assert chosen.tolist() == [0, 1, 0, 1, 1]
    assert tied.tolist() == [False] * 4 + [True]


def test_other_ties_go_to_the_more_frequent_class_then_to_the_first_column():
    chosen, tied = majority(np.array([[0, 1], [1, 1]]))
    assert (chosen[0], tied[0]) == (1, True)
    chosen, _ = majority(np.array([[2, 0], [0, 2]]))
    assert chosen.tolist() == [2, 0]


def test_the_majority_does_not_depend_on_the_order_of_rows_or_on_missing_votes():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, (300, 5))
    chosen, tied = majority(labels)
    order = rng.permutation(300)
    np.testing.assert_array_equal(majority(labels[order])[0], chosen[order])
    for row, votes in enumerate(labels):
        counts = np.bincount(votes[votes >= 0], minlength=4)
        if not counts.any():
            assert chosen[row] == -1
            continue
        assert counts[chosen[row]] == counts.max()
        assert tied[row] == ((counts == counts.max()).sum() > 1)


def test_shards_vote_together(tmp_path):
    rng = np.random.default_rng(0)
    votes = pd.DataFrame(rng.choice(["cat", "dog"], (40, 3)), columns=NAMES)
    votes.loc[::2, "carla"] = None  # half of the rows may be ties
    votes["image"] = [f"{row}.png" for row in range(40)]
    for row in range(40):
        (tmp_path / f"{row}.png").write_bytes(b"")
    votes.to_csv(tmp_path / "votes.csv", index=False)
    shards = tmp_path / "shards"
    shards.mkdir()
    images = votes.assign(image=[{"bytes": b"x", "path": name} for name in votes["image"]])
    images[:9].to_parquet(shards / "0.parquet")
    images[9:].to_parquet(shards / "1.parquet")
    whole = read_samples(tmp_path / "votes.csv", label_columns=NAMES)
    parts = read_samples(shards, label_columns=NAMES)
    assert parts.votes.tied.any()
    np.testing.assert_array_equal(parts.manifest.noisy_labels, whole.manifest.noisy_labels)
    np.testing.assert_array_equal(parts.votes.labels, whole.votes.labels)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda rows: pd.DataFrame(rows), id="DataFrame"),
        pytest.param(np.array, id="array"),
        pytest.param(torch.tensor, id="tensor"),
        pytest.param(list, id="list of rows"),
        pytest.param(lambda rows: [np.array(row) for row in rows], id="list of arrays"),
    ],
)
def test_labels_in_memory_have_one_column_per_annotator(form):
    rows = [[0, 0, 1], [1, 1, 1], [2, -1, 2], [1, 0, 0]]
    found = labelaudit.source_from_arrays(None, form(rows))
    assert found.manifest.noisy_labels.tolist() == [0, 1, 2, 0]
    assert found.votes.labels.tolist() == rows
    features = read_samples(np.zeros((4, 2), np.float32), form(rows))
    assert isinstance(features, FeatureSource)
    assert features.source.votes.labels.tolist() == rows


def test_names_of_annotators_are_those_of_the_columns():
    frame = pd.DataFrame({"anna": ["cat", ""], "bob": ["dog", "dog"]})
    assert separate_annotators(frame) == {"anna": ["cat", ""], "bob": ["dog", "dog"]}
    assert list(separate_annotators(np.zeros((2, 2)))) == ["annotator 0", "annotator 1"]
    assert separate_annotators(np.zeros(3)) is None
    assert separate_annotators(["cat", "dog"]) is None


@pytest.mark.parametrize("rows", [np.eye(3), np.array([[0.6, 0.4], [0.7, 0.3]])])
def test_rows_of_probabilities_are_no_labels(rows):
    with pytest.raises(SourceError, match=r"argmax\(1\)"):
        separate_annotators(rows)


def test_the_option_takes_a_list_or_names_with_commas():
    assert annotator_columns("anna, bob", None, None) == (("anna", "bob"), None)
    assert annotator_columns(["a,b", "c"], None, None) == (("a,b", "c"), None)
    assert annotator_columns(["anna"], None, None) == ((), "anna")
    assert annotator_columns(None, "label", None) == ((), "label")
    for wrong in (3, [], [1, 2], {"anna": 1}):
        with pytest.raises(OptionError, match="columns of several annotators"):
            annotator_columns(wrong, None, None)


def test_arrays_have_no_columns_to_name():
    with pytest.raises(OptionError, match="array or a DataFrame"):
        read_samples(np.zeros((4, 2), np.float32), [0, 1, 0, 1], label_columns="a,b")

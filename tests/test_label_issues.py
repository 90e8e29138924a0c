import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax

import labelaudit
from labelaudit import LabelauditWarning, OptionError, SourceError, UntrustedResultWarning
from labelaudit.label_issues import LabelIssues

NAMES = ["ant", "bee", "cat"]


def predictions(total=600, classes=3, seed=0, sure=4.0):
    """Give out-of-sample probabilities of a good model, labels of which 60 are wrong, and which."""
    rng = np.random.default_rng(seed)
    right = rng.integers(0, classes, total)
    probs = softmax(sure * np.eye(classes)[right] + rng.normal(size=(total, classes)), axis=1)
    given = right.copy()
    given[:60] = (right[:60] + 1 + rng.integers(0, classes - 1, 60)) % classes
    return probs, given, given != right


@pytest.fixture(scope="module")
def found() -> LabelIssues:
    probs, given, _ = predictions()
    return labelaudit.find_label_issues(given, probs)


def test_wrong_labels_are_found_in_the_order_of_the_samples(found) -> None:
    _, given, wrong = predictions()
    flagged = found["is_label_issue"].to_numpy()
    assert (flagged & wrong).sum() > 50
    assert (flagged & ~wrong).sum() < 15
    assert found["given_label"].tolist() == [str(label) for label in given]
    assert found["rank"].nsmallest(40).index.isin(np.flatnonzero(wrong)).mean() > 0.9
    assert found.summary["expected_wrong"] == pytest.approx(60, abs=15)
    low, high = found.summary["expected_wrong_interval"]
    assert low < 60 < high
    assert found.summary["trust"]["trustworthy"]
    assert "look wrong" in repr(found)
    assert "look wrong" in found._repr_html_()


def test_the_frame_has_the_documented_columns(found) -> None:
    assert found.columns.tolist() == [
        "sample_id", "given_label", "predicted_label", "predicted_prob", "suggested_label",
        "suggested_prob", "suspect_score", "label_score", "is_label_issue", "rank", "ambiguity",
        "trusted",
    ]  # fmt: skip
    assert isinstance(found[found["is_label_issue"]], LabelIssues)
    assert found.sort_values("rank").summary is found.summary
    np.testing.assert_allclose(found["label_score"], 1 - found["suspect_score"])
    assert found["ambiguity"].between(0, 1).all()
    assert (found["suggested_label"] != found["given_label"]).all()


def forms(probs, given):
    """The same labels and predictions in the forms that people have them."""
    names = np.array(NAMES)[given]
    frame = pd.DataFrame(probs, columns=NAMES)
    return {
        "lists": (given.tolist(), probs.tolist(), {}),
        "float32": (given, probs.astype(np.float32), {}),
        "tensors": (torch.from_numpy(given), torch.from_numpy(probs), {}),
        "names, sorted columns": (names, probs, {}),
        "names and classes": (names.tolist(), probs[:, [2, 0, 1]], {"classes": ["cat", "ant", "bee"]}),
        "names and a frame": (pd.Series(names), frame[["bee", "cat", "ant"]], {}),
        "categories": (pd.Series(names, dtype="category"), frame, {}),
        "codes and classes": (given, probs, {"classes": NAMES}),
        "floats": (given.astype(float), probs, {}),
        "named numbers": (np.array([7, 8, 9])[given], probs, {"classes": [7, 8, 9]}),
    }  # fmt: skip


@pytest.mark.parametrize("form", list(forms(*predictions()[:2])))
def test_labels_and_predictions_come_as_people_have_them(form, found) -> None:
    probs, given, _ = predictions()
    labels, pred_probs, options = forms(probs, given)[form]
    got = labelaudit.find_label_issues(labels, pred_probs, **options)
    np.testing.assert_allclose(got["suspect_score"], found["suspect_score"], atol=2e-3)
    names = {"named numbers": ["7", "8", "9"]}.get(
        form, NAMES if "names" in form or "cat" in form or "classes" in form else ["0", "1", "2"]
    )
    assert got["given_label"].tolist() == [names[label] for label in given]
    if form == "names, sorted columns":
        assert "sorted order" in got.summary["warnings"][0]


def test_a_series_keeps_its_index() -> None:
    probs, given, _ = predictions()
    labels = pd.Series(given, index=[f"photo {i}" for i in range(600)])
    got = labelaudit.find_label_issues(labels, probs)
    assert got.index.equals(labels.index)
    assert got["sample_id"].iloc[3] == "photo 3"
    shuffled = pd.DataFrame(probs, index=labels.index[::-1])
    with pytest.raises(SourceError, match=r"pred_probs.loc\[labels.index\]"):
        labelaudit.find_label_issues(labels, shuffled)


@pytest.mark.parametrize("nothing", [-1, None, np.nan])
def test_unlabeled_samples_are_predicted_and_not_scored(nothing) -> None:
    probs, given, _ = predictions()
    labels = [nothing, *given[1:].tolist()]
    got = labelaudit.find_label_issues(labels, probs)
    assert pd.isna(got["given_label"].iloc[0])
    assert pd.isna(got["suspect_score"].iloc[0])
    assert got["predicted_label"].iloc[0] == str(probs[0].argmax())
    assert got.summary["num_unlabeled"] == 1
    others = labelaudit.find_label_issues(given[1:], probs[1:])
    np.testing.assert_allclose(got["suspect_score"][1:], others["suspect_score"], rtol=1e-6)


def test_several_models_find_more_than_one() -> None:
    first, given, wrong = predictions(sure=2.2, total=3000)
    rng = np.random.default_rng(9)
    noise = rng.normal(size=first.shape)
    second = softmax(2.2 * np.eye(3)[np.where(wrong, predictions(total=3000)[0].argmax(1), given)] + noise, 1)  # noqa: E501  # fmt: skip
    alone = labelaudit.find_label_issues(given, first)
    both = labelaudit.find_label_issues(given, [first, second])
    stacked = labelaudit.find_label_issues(given, np.stack([first, second]))
    pd.testing.assert_frame_equal(both, stacked)

    def found(issues) -> float:
        flagged = issues["is_label_issue"].to_numpy()
        return 2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum())

    assert found(both) > found(alone)


def test_features_help_a_weak_model() -> None:
    weak, given, wrong = predictions(sure=1.2, total=2000)
    right = np.where(wrong, -1, given)
    rng = np.random.default_rng(3)
    centers = rng.normal(size=(3, 20))
    truth = np.where(wrong, predictions(total=2000)[0].argmax(1), right)
    features = centers[truth] + 0.6 * rng.normal(size=(2000, 20))
    alone = labelaudit.find_label_issues(given, weak)
    helped = labelaudit.find_label_issues(given, weak, features=features)
    score = [
        ((i["rank"].to_numpy() <= 60) & wrong).sum() for i in (alone, helped)
    ]  # fmt: skip
    assert score[1] > score[0] + 10


BAD = {
    "shape": (lambda p, y: (y, p[0]), r"shape \(3,\)"),
    "rows": (lambda p, y: (y[:-1], p), "599 labels and 600 rows"),
    "one column": (lambda p, y: (y, p[:, :1]), "at least two classes"),
    "text": (lambda p, y: (y, [["a", "b"]] * 600), "no table of numbers"),
    "NaN": (lambda p, y: (y, np.where(np.arange(600)[:, None] == 5, np.nan, p)), "row 5 .* holds nan"),
    "negative": (lambda p, y: (y, np.where(np.arange(600)[:, None] == 7, -0.1, p)), "no probability"),
    "logits": (lambda p, y: (y, 9 * p - 3), r"scipy.special.softmax\(logits, axis=1\)"),
    "logs": (lambda p, y: (y, np.log(p)), "give numpy.exp"),
    "percentages": (lambda p, y: (y, 100 * p), "divide them by 100"),
    "half a class": (lambda p, y: ([2.5, *y[1:]], p), r"labels\[0\] is 2.5"),
    "infinite": (lambda p, y: ([np.inf, *y[1:]], p), r"labels\[0\] is inf"),
    "masked": (lambda p, y: (y, np.ma.masked_less(p, 0.5)), "masked"),
    "numbers as text": (lambda p, y: (np.array(["2", "10", "1"])[y], p), "numbers as text"),
    "sums": (lambda p, y: (y, p * 0.9), "row 0 of pred_probs sums to 0.9"),
    "code": (lambda p, y: (np.where(np.arange(600) == 4, 3, y), p), r"labels\[4\] is 3"),
    "code below": (lambda p, y: (np.where(np.arange(600) == 4, -2, y), p), r"labels\[4\] is -2"),
    "names": (lambda p, y: (np.array([*NAMES, "dog"])[np.r_[3, y[1:]]], p), "4 classes .* 3 columns"),
    "one class": (lambda p, y: (np.zeros(600, int), p), "at least two"),
    "none labeled": (lambda p, y: ([None] * 600, p), "none of the labels"),
    "two dimensions": (lambda p, y: (y[:, None, None], p), "one label per sample"),
    "objects": (lambda p, y: ([[1]] * 600, p), r"labels\[0\] is a list"),
    "models": (lambda p, y: (y, [p, p[:5]]), "different shapes"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_what_cannot_be_used_is_refused_in_one_line(case) -> None:
    probs, given, _ = predictions()
    make, words = BAD[case]
    labels, pred_probs = make(probs, given)
    with pytest.raises(SourceError, match=words) as told:
        labelaudit.find_label_issues(labels, pred_probs)
    assert "\n" not in str(told.value)


def test_names_that_do_not_match_are_named() -> None:
    probs, given, _ = predictions()
    names = np.array(["ant", "bee", "cow"])[given]
    with pytest.raises(SourceError, match=r'1 of the labels. classes .* classes: "cow"'):
        labelaudit.find_label_issues(names, probs, classes=NAMES)
    with pytest.raises(SourceError, match="columns of the predictions"):
        labelaudit.find_label_issues(names, pd.DataFrame(probs, columns=NAMES))
    with pytest.raises(SourceError, match="2 classes and 3 columns"):
        labelaudit.find_label_issues(given, probs, classes=NAMES[:2])
    with pytest.raises(SourceError, match="repeat"):
        labelaudit.find_label_issues(given, probs, classes=["a", "a", "b"])


def test_rows_that_sum_to_one_roughly_are_normalized_and_that_is_said(found) -> None:
    probs, given, _ = predictions()
    with pytest.warns(LabelauditWarning, match="sum to 1 only within"):
        got = labelaudit.find_label_issues(given, probs * 1.0005)
    assert "normalized" in got.summary["warnings"][0]
    np.testing.assert_allclose(got["suspect_score"], found["suspect_score"], atol=1e-5)


def test_predictions_that_have_seen_the_labels_are_noticed() -> None:
    probs, given, _ = predictions()
    by_heart = softmax(3 * np.eye(3)[given] + 0.3 * np.log(probs), axis=1)
    with pytest.warns(LabelauditWarning, match="cross_val_predict"):
        labelaudit.find_label_issues(given, by_heart)


def test_out_of_sample_predictions_get_no_warning() -> None:
    probs, given, _ = predictions()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labelaudit.find_label_issues(given, probs)


def test_a_model_that_knows_nothing_is_not_believed() -> None:
    rng = np.random.default_rng(0)
    probs, given = rng.dirichlet(np.ones(3), 600), rng.integers(0, 3, 600)
    with pytest.warns(UntrustedResultWarning, match="do not trust"):
        got = labelaudit.find_label_issues(given, probs)
    assert not got.summary["trust"]["trustworthy"]
    assert "DO NOT TRUST" in repr(got)
    assert not got["trusted"].any()


def test_thresholds_are_those_of_scan() -> None:
    probs, given, _ = predictions()
    worst = labelaudit.find_label_issues(given, probs, threshold="top:7")
    assert worst["is_label_issue"].sum() == 7
    low = labelaudit.find_label_issues(given, probs, threshold=0.1)
    assert low["is_label_issue"].sum() > 50
    with pytest.raises(labelaudit.OptionError, match="top:K"):
        labelaudit.find_label_issues(given, probs, threshold="best")


def test_a_mapped_file_is_read_in_blocks(tmp_path, monkeypatch, found) -> None:
    probs, given, _ = predictions()
    np.save(tmp_path / "p.npy", probs.astype(np.float32))
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    monkeypatch.setattr("labelaudit.suspects.label_model.BLOCK_VALUES", 90)
    got = labelaudit.find_label_issues(given, mapped)
    np.testing.assert_allclose(got["suspect_score"], found["suspect_score"], atol=1e-4)


def test_columns_with_names_are_not_taken_for_positions() -> None:
    probs, given, _ = predictions()
    frame = pd.DataFrame(probs, columns=[1, 2, 3])
    assert labelaudit.find_label_issues(given + 1, frame)["given_label"].iloc[0] == str(
        given[0] + 1
    )
    with pytest.raises(SourceError, match='not among the columns of the predictions: "0"'):
        labelaudit.find_label_issues(given, frame)
    named = pd.DataFrame(probs, columns=NAMES)
    with pytest.raises(SourceError, match="another order"):
        labelaudit.find_label_issues(given, named, classes=NAMES[::-1])
    with pytest.raises(SourceError, match="give a list of names"):
        labelaudit.find_label_issues(given, probs, classes=set(NAMES))


def test_categories_tell_the_columns() -> None:
    probs, given, _ = predictions()
    labels = pd.Series(pd.Categorical.from_codes(given, ["a", "b", "x"]))
    got = labelaudit.find_label_issues(labels, probs)
    assert got["given_label"].tolist() == [["a", "b", "x"][label] for label in given]
    # scikit-learn sorts the columns, whatever the order of the categories is.
    ordered = pd.Series(pd.Categorical.from_codes(given, ["low", "mid", "high"]))
    with pytest.raises(SourceError, match=r'order \("low", "mid", "high"\) is not the'):
        labelaudit.find_label_issues(ordered, probs)
    got = labelaudit.find_label_issues(ordered, probs, classes=["low", "mid", "high"])
    assert got["given_label"].tolist() == ordered.tolist()


def test_one_column_of_labels_is_that_of_a_single_annotator() -> None:
    probs, given, _ = predictions()
    alone = labelaudit.find_label_issues(given, probs)
    for column in (given[:, None], pd.DataFrame({"label": given})):
        pd.testing.assert_frame_equal(labelaudit.find_label_issues(column, probs), alone)


@pytest.mark.parametrize("seed", [-1, "a", None, True, 1.5])
def test_a_seed_that_cannot_be_used_is_one_line(seed) -> None:
    probs, given, _ = predictions()
    with pytest.raises(OptionError, match="`seed` must be a whole number, 0 or more"):
        labelaudit.find_label_issues(given, probs, seed=seed)


def test_two_labels_are_too_few_and_that_is_what_is_said() -> None:
    with pytest.warns(
        UntrustedResultWarning, match="2 labels are too few to tell this from chance"
    ):
        labelaudit.find_label_issues([0, 1], [[0.9, 0.1], [0.2, 0.8]])


def test_predictions_that_are_not_sure_enough_are_not_called_in_sample() -> None:
    probs, given, _ = predictions()
    dull = probs**0.1
    dull /= dull.sum(axis=1, keepdims=True)
    with pytest.warns(LabelauditWarning, match="far less sure than that"):
        labelaudit.find_label_issues(given, dull)


@pytest.mark.parametrize("scale", [1e-25, 1e17, 1e20, 1e25])
def test_features_count_at_every_scale(scale) -> None:
    probs, given, _ = predictions()
    clean = np.random.default_rng(0).integers(0, 3, 600)  # as in `predictions`
    dull = probs**0.3
    dull /= dull.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 8)).astype(np.float32)
    features[np.arange(600), clean] += 4

    def found(features):
        return labelaudit.find_label_issues(given, dull, features=features)["suspect_score"]

    np.testing.assert_allclose(found(features * np.float32(scale)), found(features), atol=0.05)


def test_how_often_annotators_are_right_is_known_of_verified_labels() -> None:
    probs, _, _ = predictions()
    clean = np.random.default_rng(0).integers(0, 3, 600)  # as in `predictions`
    rng = np.random.default_rng(3)
    wrong = rng.random((600, 3)) < [0.1, 0.2, 0.3]
    votes = np.where(wrong, (clean[:, None] + 1) % 3, clean[:, None])
    frame = pd.DataFrame(votes, columns=["ann", "bob", "cy"])
    got = labelaudit.find_label_issues(frame, probs, verified=np.ones(600, dtype=bool))
    given = got["given_label"].astype(int).to_numpy()
    expected = (votes == given[:, None]).mean(axis=0)
    told = [one.estimated_accuracy for one in got.summary.votes.annotators]
    np.testing.assert_allclose(told, expected)


def test_masked_labels_are_unlabeled() -> None:
    probs, given, _ = predictions()
    got = labelaudit.find_label_issues(np.ma.masked_array(given, np.arange(600) == 3), probs)
    assert pd.isna(got["given_label"].iloc[3])
    assert got.summary["num_unlabeled"] == 1


def test_a_class_that_is_never_predicted_is_named() -> None:
    probs, given, _ = predictions()
    never = np.column_stack([probs[:, :2] / probs[:, :2].sum(1, keepdims=True), np.zeros(600)])
    with pytest.warns(LabelauditWarning, match='no sample is predicted as "2"'):
        labelaudit.find_label_issues(given, never)


def test_classes_with_few_labels_are_warned_of() -> None:
    probs, given, _ = predictions()
    with pytest.warns(LabelauditWarning, match="fewer than 5 labels"):
        labelaudit.find_label_issues(np.where(np.arange(600) < 9, given, -1), probs)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.full((600, 2), np.nan), "NaN"),
        (np.zeros((5, 2)), r"shape \(5, 2\)"),
        ([["a"]] * 600, "no table of numbers"),
        (np.zeros((600, 0)), r"shape \(600, 0\)"),
    ],
)
def test_features_that_cannot_be_used_are_refused(features, words) -> None:
    probs, given, _ = predictions()
    with pytest.raises(SourceError, match=words):
        labelaudit.find_label_issues(given, probs, features=features)


def test_class_names_are_escaped_in_a_notebook() -> None:
    rng = np.random.default_rng(0)
    probs = np.tile([0.98, 0.01, 0.01], (600, 1))
    with pytest.warns(UntrustedResultWarning):
        got = labelaudit.find_label_issues(
            rng.integers(0, 3, 600), probs, classes=["<b>", "bee", "cat"]
        )
    assert "<b>" not in got._repr_html_()


@pytest.mark.parametrize("threshold", ["auto", "0", "top:600", "rate:1"])
def test_verified_labels_are_taken_as_right(threshold) -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(0, 3, 600)
    probs = softmax(3 * np.eye(3)[right] + rng.normal(size=(600, 3)), axis=1)
    given = np.where(np.arange(600) < 60, (right + 1) % 3, right)
    given[-10:] = -1
    verified = pd.Series(np.isin(np.arange(600), [0, 1, 2, 100]))
    labels = pd.Series(given)
    plain = labelaudit.find_label_issues(labels, probs, threshold=threshold)
    table = labelaudit.find_label_issues(labels, probs, verified=verified, threshold=threshold)
    assert table["verified"].tolist() == verified.tolist()
    assert not table.loc[verified, "is_label_issue"].any()
    assert (table.loc[verified, "suspect_score"] == 0).all()
    assert table.loc[verified, "rank"].min() == 587
    assert table.summary["num_verified"] == 4
    before = plain.loc[~verified, "suspect_score"].sum()
    assert table.summary["expected_wrong"] == pytest.approx(before)
    assert "verified" not in plain
    with pytest.raises(SourceError, match="one True or False for each of the 600"):
        labelaudit.find_label_issues(labels, probs, verified=np.zeros(600))
    with pytest.raises(SourceError, match="another index"):
        labelaudit.find_label_issues(labels, probs, verified=verified[::-1])

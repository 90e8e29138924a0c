import numpy as np
import pytest

from labelaudit import OptionError
from labelaudit.sources.manifest import Verified
from labelaudit.suspects.decision import (
    Threshold,
    decide,
    explain_review,
    review_curve,
    to_review,
)
from labelaudit.suspects.intervals import UNCERTAINTY_FACTOR, wrong_interval
from labelaudit.suspects.scores import Scores, trust_verified

VALUES = np.array([0.1, 0.9, 0.5, 0.51, 0.0])


def scores(values=VALUES, probability=True, default=0.5) -> Scores:
    order = np.argsort(-values, kind="stable")
    half, other = np.full(len(values), 0.5), np.ones(len(values), dtype=np.int64)
    return Scores(
        values, order, other, half, "test", "", default, probability, 0.2 * half, ambiguity=half
    )


@pytest.mark.parametrize(
    ("rule", "flagged"),
    [
        ("auto", [1, 3]),
        ("0.5", [1, 3]),  # strictly above
        ("0", [0, 1, 2, 3]),
        ("1", []),
        ("top:3", [1, 2, 3]),
        ("top:0", []),
        ("top:99", [0, 1, 2, 3, 4]),
        ("rate:0.4", [1, 3]),
        ("rate:0", []),
        (" top:1 ", [1]),
    ],
)
def test_rules_flag_what_they_say(rule, flagged):
    decision = decide(scores(), rule)
    assert np.flatnonzero(decision.is_label_issue).tolist() == flagged
    assert decision.explanation


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "1.5",
        "-0.1",
        "nan",
        "top",
        "top:",
        "top:-1",
        "top:1.5",
        "rate:2",
        "best:3",
        "x",
        "top:" + "9" * 400,
    ],
)
def test_other_rules_are_refused_in_words(rule):
    with pytest.raises(OptionError, match="top:K"):
        Threshold.parse(rule)


def test_a_number_is_a_score_and_the_rule_a_text():
    decision = decide(scores(), 0.5)
    assert decision.rule == "0.5"  # as summary.json holds it
    assert (decision.is_label_issue == decide(scores(), "0.5").is_label_issue).all()


def test_expected_wrong_is_the_sum_of_probabilities():
    decision = decide(scores())
    assert decision.expected_wrong == pytest.approx(2.01)
    assert decision.estimated_noise_rate == pytest.approx(2.01 / 5)
    assert "2 of 5 labels (40.2%)" in decision.explanation


def test_epsilon_is_no_probability_and_the_explanation_says_so():
    decision = decide(scores(probability=False, default=0.0), "auto")
    assert decision.is_label_issue.sum() == 4  # strictly above 0
    assert decision.expected_wrong == 4
    assert "no probability" in decision.explanation


def test_top_k_says_the_last_score():
    assert decide(scores(), "top:2").threshold == pytest.approx(0.51)


def test_the_interval_is_that_of_a_poisson_binomial_and_of_what_the_model_may_get_wrong():
    score = np.array([0.25] * 400)
    low, high = wrong_interval(score, np.full(400, 0.1))
    half = 1.645 * np.sqrt(400 * 0.25 * 0.75) + UNCERTAINTY_FACTOR * 40
    assert (low, high) == (pytest.approx(100 - half), pytest.approx(100 + half))
    assert wrong_interval(np.array([0.0, 1.0, 1.0]), np.zeros(3)) == pytest.approx((2, 2))
    assert wrong_interval(np.array([0.01, 0.99]), np.ones(2))[0] >= 0
    assert decide(scores(probability=False)).expected_wrong_interval is None


def test_the_review_curve_adds_up_what_is_expected_among_the_first():
    curve = review_curve(scores())
    assert [point["reviewed"] for point in curve] == [1, 2, 3, 4, 5]
    told = [point["expected_found"] for point in curve]
    assert told == pytest.approx([0.9, 1.41, 1.91, 2.01, 2.01])
    assert curve[-1]["expected_share"] == pytest.approx(1)
    assert curve[0]["expected_share"] == pytest.approx(0.9 / 2.01)
    assert review_curve(scores(probability=False)) == []


def test_how_many_to_look_at_for_a_share_of_the_wrong_labels():
    values = np.array([1.0] * 10 + [0.0] * 90)
    found = to_review(scores(values))
    assert found == {"0.5": 5, "0.9": 9, "0.99": 10}
    assert "90% among the first 9" in explain_review(found)
    assert to_review(scores(np.zeros(5))) is None
    assert to_review(scores(probability=False)) is None
    assert explain_review(None) == ""


VERIFIED = Verified(np.array([False, True, False, False, True]), np.full(5, -1))


@pytest.mark.parametrize("probability", [True, False])
@pytest.mark.parametrize("rule", ["auto", "0", "0.3", "top:2", "top:99", "rate:0.6", "rate:1"])
def test_verified_labels_are_never_flagged_nor_expected(rule, probability):
    trusted = trust_verified(scores(probability=probability, default=0.0), VERIFIED)
    decision = decide(trusted, rule)
    assert not decision.is_label_issue[VERIFIED.labels].any()
    assert decision.is_label_issue.any()
    if probability:
        assert decision.expected_wrong == pytest.approx(0.1 + 0.5 + 0.51)
        others = np.array([0.1, 0.5, 0.51])
        assert decision.expected_wrong_interval == wrong_interval(others, np.full(3, 0.1))


def test_nobody_needs_to_look_at_verified_labels():
    trusted = trust_verified(scores(), VERIFIED)
    assert trusted.order.tolist() == [3, 2, 0, 1, 4]
    curve = review_curve(trusted)
    assert curve[-1]["reviewed"] == 3
    assert curve[-1]["expected_share"] == pytest.approx(1.0)
    assert max(to_review(trusted).values()) <= 3


def test_where_all_labels_are_verified_nothing_is_left_to_say():
    trusted = trust_verified(scores(), Verified(np.ones(5, bool), np.full(5, -1)))
    decision = decide(trusted, "top:3")
    assert not decision.is_label_issue.any()
    assert decision.expected_wrong == 0
    assert decision.expected_wrong_interval[0] == 0
    assert review_curve(trusted) == []
    assert to_review(trusted) is None

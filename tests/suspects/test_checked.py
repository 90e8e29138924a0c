import numpy as np
import pytest
from scipy.special import expit, logit

from labelaudit.suspects.checked import (
    LEAST_FOR_SHIFT,
    SHIFT_DEVIATION,
    check_scores,
    fit_shift,
)
from labelaudit.suspects.intervals import wilson_interval
from labelaudit.typed_json import to_plain

NONE = np.empty(0)


def drawn(count, *, shift=0.0, seed=0):
    """Scores of `count` labels, and which are wrong if all log-odds are off by `shift`."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.05, 0.99, count)
    return scores, rng.random(count) < expit(logit(scores) + shift)


def test_what_was_expected_is_the_sum_of_scores_and_its_interval_nearly_always_holds() -> None:
    inside = []
    for seed in range(300):
        scores, wrong = drawn(80, seed=seed)
        checked = check_scores(scores, wrong, NONE)
        assert checked.expected == pytest.approx(scores.sum())
        assert (checked.looked_at, checked.wrong) == (80, wrong.sum())
        low, high = checked.interval
        inside.append(low <= checked.wrong <= high)
    assert 0.9 < np.mean(inside) < 0.98


def test_scores_that_are_right_are_called_so() -> None:
    scores = np.full(80, 0.925)
    checked = check_scores(scores, np.arange(80) < 71, np.full(100, 0.1))
    assert checked.explanation == (
        "Of 80 reviewed labels, 71 were wrong; the scores predicted 74. The scores are about right. Of"
        " the other 100 labels, about 10 are expected to be wrong, or 9 if their scores are off in the"
        " same way."
    )


@pytest.mark.parametrize(("shift", "word"), [(-2.0, "too high"), (2.0, "too low")])
def test_scores_that_are_off_are_noticed_and_recalibrated(shift, word) -> None:
    scores, wrong = drawn(400, shift=shift)
    remaining, still_wrong = drawn(4000, shift=shift, seed=1)
    checked = check_scores(scores, wrong, remaining)
    assert f"The scores are {word}: they predicted between" in checked.explanation
    assert 0.5 < checked.shift / shift < 1  # it leans on none
    assert checked.num_remaining == 4000
    off = abs(checked.expected_remaining - still_wrong.sum())
    assert abs(checked.recalibrated_remaining - still_wrong.sum()) < 0.6 * off


def test_the_shift_is_the_likeliest_under_its_prior() -> None:
    scores, wrong = drawn(60, shift=1.0)
    shift = fit_shift(scores, wrong)
    tried = np.linspace(-3, 3, 6001)
    said = expit(logit(scores)[:, None] + tried)
    said = 0.025 + 0.95 * np.where(wrong[:, None], said, 1 - said)
    likelihood = np.log(said).sum(0) * 50 / 60 - 0.5 * (tried / SHIFT_DEVIATION) ** 2
    assert shift == pytest.approx(tried[likelihood.argmax()], abs=2e-3)


def test_a_dozen_surprises_cannot_swing_it() -> None:
    assert check_scores(np.full(12, 0.9), np.zeros(12, bool), np.full(9, 0.1)).shift is None
    surprised = check_scores(np.full(24, 0.9), np.arange(24) >= 12, np.full(9, 0.1))
    assert -1.5 < surprised.shift < -0.5
    # Of very many as little.
    assert fit_shift(np.full(9000, 0.9), np.arange(9000) >= 4500) > -1.8


def test_a_slip_among_sure_labels_says_nothing() -> None:
    for score in (0.9999, 1.0):
        checked = check_scores(np.full(39, score), np.arange(39) > 0, NONE)
        assert "The scores are about right." in checked.explanation
        more = check_scores(np.full(39, score), np.arange(39) > 4, NONE)
        assert "too high: they predicted between 38 and 39 wrong labels" in more.explanation


@pytest.mark.parametrize("score", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("wrong", [True, False])
def test_sure_scores_and_one_sided_decisions_stay_finite(score, wrong) -> None:
    checked = check_scores(np.full(30, score), np.full(30, wrong), np.array([0.0, 0.3, 1.0]))
    assert np.isfinite([checked.shift, checked.recalibrated_remaining, *checked.interval]).all()
    assert 0 <= checked.recalibrated_remaining <= 3
    assert 0 <= checked.interval[0] <= checked.interval[1] <= 30


def test_nobody_has_looked_yet() -> None:
    checked = check_scores(NONE, np.empty(0, bool), np.array([0.2, 0.4]))
    assert checked.explanation == "No label has been reviewed yet."
    assert (checked.bins, checked.shift, checked.recalibrated_remaining) == ((), None, None)
    assert checked.expected_remaining == pytest.approx(0.6)


def test_few_decisions_say_little() -> None:
    checked = check_scores(np.array([0.9]), np.array([True]), NONE)
    assert checked.explanation == (
        "Of 1 reviewed label, 1 was wrong; the scores predicted 1. These are too few to check the"
        " scores."
    )


@pytest.mark.parametrize(("count", "bins"), [(7, 1), (19, 1), (20, 2), (49, 4), (200, 5)])
def test_bins_hold_ten_where_they_can(count, bins) -> None:
    scores, wrong = drawn(count)
    checked = check_scores(scores, wrong, NONE)
    assert len(checked.bins) == bins
    assert sum(one.count for one in checked.bins) == count
    assert bins == 1 or min(one.count for one in checked.bins) >= 10
    assert sum(one.count * one.share_wrong for one in checked.bins) == pytest.approx(wrong.sum())
    for one in checked.bins:
        assert one.low <= one.mean_score <= one.high
        assert one.interval[0] <= one.share_wrong <= one.interval[1]
    assert all(a.high <= b.low for a, b in zip(checked.bins, checked.bins[1:], strict=False))


def test_the_interval_of_a_share_is_wilson_s() -> None:
    z, n, p = 1.645, 10, 0.3
    for end in wilson_interval(3, 10):  # both solve (p̂ - p)² = z² p (1 - p) / n
        assert (p - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / n)
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == 1


def test_it_can_be_written_as_json() -> None:
    checked = check_scores(*drawn(LEAST_FOR_SHIFT), np.array([0.5]))
    plain = to_plain(checked)
    assert plain["explanation"] == checked.explanation
    assert plain["bins"][0]["interval"] == list(checked.bins[0].interval)


def test_scores_that_look_the_same_share_a_bin() -> None:
    scores = np.concatenate([np.linspace(0.5, 0.9, 40), np.full(200, 0.99999)])
    bins = check_scores(scores, np.ones(240, bool), NONE).bins
    assert sum(one.count for one in bins) == 240
    shown = [(round(one.low, 3), round(one.high, 3)) for one in bins]
    assert len(set(shown)) == len(shown)
    assert shown[-1] == (1.0, 1.0)
    assert bins[-1].count == 200


@pytest.mark.parametrize("wrong", [0, 17, 24, 30])
def test_the_shift_goes_where_the_numbers_do(wrong) -> None:
    # The surest labels were all found right: taken for slips, they must not turn the shift round.
    scores = np.concatenate([np.full(20, 0.6), np.full(40, 0.99999)])
    decided = np.arange(60) < wrong
    shift = fit_shift(scores, decided)
    assert shift <= 0

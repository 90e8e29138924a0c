import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from sklearn.metrics import f1_score, roc_auc_score

from labelaudit.sources.manifest import Verified
from labelaudit.suspects.calibration import calibrating_exponent, log_of, softening_exponent
from labelaudit.suspects.explanations import Explanation, average_explanations, channel_total
from labelaudit.suspects.intervals import count_interval
from labelaudit.suspects.label_model import FOLLOW_SHARES, fit_label_model, fit_rows
from labelaudit.suspects.noise_model import fit_noise_model
from labelaudit.suspects.sharpness_prior import SharpnessPrior


def simulate(*, soft=3.0, know=1.6, planted=0.0, apart=0.25, classes=6, total=6000, seed=0):
    """People see what the best classifier sees, less sharply, and know the right class a little.

    Gives log P of a classifier that has learned what people say, labels, which are wrong, and the
    oracle's probability of that.
    """
    rng = np.random.default_rng(seed)
    means = rng.normal(0, apart, (classes, 200))
    right = rng.integers(0, classes, total)
    points = means[right] + rng.normal(size=(total, 200))
    truth = points @ means.T - 0.5 * (means**2).sum(1)
    truth -= logsumexp(truth, axis=1, keepdims=True)
    channel = np.stack([softmax(truth / soft + know * one, 1) for one in np.eye(classes)], 1)
    channel = (1 - planted) * channel + planted * (1 - channel) / (classes - 1)  # (n, right, given)
    rows = np.arange(total)
    said = channel[rows, right]
    given = (said.cumsum(1) > rng.random((total, 1))).argmax(1)
    # What a classifier learns from such labels: P(ỹ | x).
    learned = np.einsum("nk,nkj->nj", np.exp(truth), channel)
    joint = np.exp(truth) * channel[rows, :, given]
    oracle = 1 - joint[rows, given] / joint.sum(1)
    return np.log(learned), given, given != right, oracle


def infer(log_probs, given, prior=None):
    model = fit_label_model(log_probs, given, prior)
    return model, model.infer(lambda part: log_probs[part], given)


def f1(wrong, prob):
    return f1_score(wrong, prob > 0.5)


def test_mistakes_of_people_are_found_and_counted() -> None:
    log_probs, given, wrong, oracle = simulate()
    assert 0.04 < wrong.mean() < 0.1
    model, quality = infer(log_probs, given)
    assert f1(wrong, quality.wrong_prob) > 0.93 * f1(wrong, oracle)
    assert quality.wrong_prob.sum() == pytest.approx(wrong.sum(), rel=0.2)
    low, high = quality.interval
    assert low <= wrong.sum() <= high
    assert model.kinds is not None
    assert model.kinds.follow_images > 0.5
    # With a transition matrix alone the labels are taken at their word.
    earlier = fit_noise_model(np.exp(log_probs), given).infer(np.exp(log_probs), given)
    assert f1(wrong, earlier.wrong_prob) < 0.6 * f1(wrong, oracle)


def test_planted_mistakes_are_found_and_counted_as_well() -> None:
    log_probs, given, wrong, oracle = simulate(soft=1, know=50, planted=0.2)
    assert wrong.mean() == pytest.approx(0.2, abs=0.02)
    model, quality = infer(log_probs, given)
    assert f1(wrong, quality.wrong_prob) > 0.95 * f1(wrong, oracle)
    assert quality.wrong_prob.sum() == pytest.approx(wrong.sum(), rel=0.1)
    assert quality.interval[0] <= wrong.sum() <= quality.interval[1]
    assert model.kinds is not None
    assert model.kinds.follow_nothing > 0.5


def test_mistakes_between_two_classes_are_told_from_others() -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(0, 4, 4000)
    logits = 6 * np.eye(4)[right] + rng.normal(size=(4000, 4))
    swapped = (right == 1) & (rng.random(4000) < 0.3)
    given = np.where(swapped, 2, right)
    learned = np.log(0.02 / 4 + 0.98 * softmax(logits, 1))
    model, quality = infer(learned, given)
    assert model.kinds is not None
    assert model.kinds.between_classes > 0.7
    assert f1(swapped, quality.wrong_prob) > 0.9


def test_clean_labels_of_a_sure_model_get_hardly_a_flag() -> None:
    rng = np.random.default_rng(1)
    right = rng.integers(0, 5, 4000)
    log_probs = np.log(softmax(9 * np.eye(5)[right] + rng.normal(size=(4000, 5)), 1))
    model, quality = infer(log_probs, right)
    assert (quality.wrong_prob > 0.5).mean() < 0.005
    assert model.kinds is None  # too few to say


def test_an_average_is_bayes_rule_within_each_explanation_and_weights_between() -> None:
    rng = np.random.default_rng(2)
    log_probs = np.log(rng.dirichlet(np.ones(3), 5))
    given = np.array([0, 1, 2, 0, 1])
    some = tuple(
        Explanation(weight, s, t, rng.normal(size=3), rng.uniform(0.2, 4, (3, 3)), -1.0)
        for weight, s, t in ((0.3, 2.0, 0.0), (0.7, 1.5, 0.6))
    )
    got = average_explanations(some, log_probs, given)
    clean = np.zeros((5, 3))
    for one in some:
        truth = softmax(one.sharpness * log_probs + one.class_bias, axis=1)
        alike = np.exp(one.follow * log_probs)[:, None, :] * one.confusion  # (n, k, j)
        channel = alike / alike.sum(2, keepdims=True)
        joint = truth * channel[np.arange(5), :, given]
        clean += one.weight * joint / joint.sum(1, keepdims=True)
    np.testing.assert_allclose(got.clean_probs, clean, rtol=1e-10)
    right = clean[np.arange(5), given]
    np.testing.assert_allclose(np.exp(got.log_right), right, rtol=1e-10)
    np.testing.assert_allclose(np.exp(got.log_wrong), 1 - right, rtol=1e-9)


def test_explanations_whose_weight_is_too_small_for_a_float_say_nothing() -> None:
    rng = np.random.default_rng(0)
    log_probs = np.log(rng.dirichlet(np.ones(3), 20))
    given = rng.integers(0, 3, 20)
    one, other = (
        Explanation(weight, 1.5, 0.0, rng.normal(size=3), rng.uniform(0.2, 4, (3, 3)), -1.0)
        for weight in (1.0, 0.0)
    )
    found = average_explanations((one, other), log_probs, given)
    alone = average_explanations((one,), log_probs, given)
    np.testing.assert_array_equal(found.log_wrong, alone.log_wrong)
    np.testing.assert_array_equal(found.clean_probs, alone.clean_probs)


def test_the_channel_sums_as_written_with_pairs_apart_or_not() -> None:
    rng = np.random.default_rng(3)
    alike = rng.uniform(size=(6, 4))
    confusion = rng.uniform(1, 2, (4, 4))
    np.testing.assert_allclose(channel_total(alike, confusion, True), alike @ confusion.T)
    confusion[~np.eye(4, dtype=bool)] = 1
    np.testing.assert_allclose(
        channel_total(alike, confusion, False), channel_total(alike, confusion, True)
    )


def planted_transitions(total=6000, certain=6.0, seed=0):
    """Log P of a classifier that knows the right classes, and labels drawn from a planted T."""
    rng = np.random.default_rng(seed)
    right = rng.integers(0, 4, total)
    log_probs = np.log(softmax(certain * np.eye(4)[right] + rng.normal(size=(total, 4)), 1))
    planted = np.array(
        [[0.8, 0.2, 0.0, 0.0], [0.0, 0.95, 0.0, 0.05], [0.1, 0.1, 0.7, 0.1], [0.0, 0.0, 0.3, 0.7]]
    )
    given = (planted[right].cumsum(1) > rng.random((total, 1))).argmax(1)
    return log_probs, given, planted


@pytest.mark.parametrize("follow", [(1, 0, 0, 0), (0, 0, 1, 0), (1, 1, 6, 6)])
def test_a_planted_transition_matrix_is_found(follow) -> None:
    log_probs, given, planted = planted_transitions()
    prior = SharpnessPrior(2.0, 0.2, follow, 50.0, "")
    found = fit_label_model(log_probs, given, prior).transition_matrix
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(found, planted, atol=0.03)


def test_without_following_images_the_transition_matrix_is_the_confusion_with_normalized_rows() -> (
    None
):
    log_probs, given, _ = planted_transitions(total=800)
    model = fit_label_model(log_probs, given, SharpnessPrior(2.0, 0.2, (1, 0, 0, 0), 50.0, ""))
    for one in model.explanations:
        rows = one.confusion / one.confusion.sum(1, keepdims=True)
        np.testing.assert_allclose(one.transition_matrix, rows, rtol=1e-5)


def test_fitting_climbs_and_explanations_are_weighed() -> None:
    log_probs, given, _, _ = simulate(total=1500)
    model = fit_label_model(log_probs, given, SharpnessPrior.of_cross_fitting(2.0))
    weights = np.array([one.weight for one in model.explanations])
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert {round(one.follow / model.calibration, 6) for one in model.explanations} == set(
        FOLLOW_SHARES
    )
    kept = model.likely_explanations()
    assert len(kept) < len(model.explanations)
    assert sum(one.weight for one in kept) == pytest.approx(1)


def test_scoring_in_blocks_changes_nothing(monkeypatch) -> None:
    log_probs, given, _, _ = simulate(total=1000)
    model, whole = infer(log_probs, given)
    monkeypatch.setattr("labelaudit.suspects.label_model.BLOCK_VALUES", 60)
    parts = model.infer(lambda part: log_probs[part], given)
    np.testing.assert_allclose(parts.wrong_prob, whole.wrong_prob, rtol=1e-5)
    np.testing.assert_array_equal(parts.suggested, whole.suggested)


def test_many_classes_are_fitted_without_telling_every_pair_apart(monkeypatch) -> None:
    monkeypatch.setattr("labelaudit.suspects.explanations.MANY_CLASSES", 5)
    log_probs, given, wrong, oracle = simulate(total=3000)
    model, quality = infer(log_probs, given)
    following = next(one for one in model.explanations if one.follow > 0)
    beside = following.confusion[~np.eye(6, dtype=bool)]
    np.testing.assert_allclose(beside, 1)
    assert f1(wrong, quality.wrong_prob) > 0.85 * f1(wrong, oracle)


def test_the_sharper_the_prior_the_more_is_wrong() -> None:
    log_probs, given, _, _ = simulate(total=2000)
    told = [
        infer(log_probs, given, SharpnessPrior(center, 0.05, (1, 0, 0, 0), 1.0, ""))[
            1
        ].wrong_prob.sum()
        for center in (1.0, 2.0, 4.0)
    ]
    assert told[0] < told[1] < told[2]


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_calibrating_exponent_is_found(exponent) -> None:
    rng = np.random.default_rng(5)
    probs = softmax(2 * rng.normal(size=(20_000, 4)), axis=1)
    labels = (probs.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    log_probs = np.log(probs) / exponent
    log_probs -= logsumexp(log_probs, axis=1, keepdims=True)
    assert calibrating_exponent(log_probs, labels) == pytest.approx(exponent, rel=0.05)
    lost = np.where(rng.random(20_000) < 0.3, rng.integers(0, 4, 20_000), labels)
    assert softening_exponent(log_probs, lost) == pytest.approx(exponent, rel=0.12)
    assert calibrating_exponent(log_probs, lost) < 0.8 * exponent


def test_ambiguity_is_how_often_two_people_would_differ() -> None:
    log_probs = np.log(np.array([[0.5, 0.5], [0.99, 0.01]] * 300))
    given = np.array([0, 0] * 150 + [1, 0] * 150)
    _, quality = infer(log_probs, given)
    assert quality.ambiguity[0] == pytest.approx(0.5, abs=1e-6)
    assert quality.ambiguity[1] < 0.1


def test_the_interval_spans_what_explanations_differ_in() -> None:
    one = count_interval(np.ones(1), np.array([100.0]), np.array([5.0]), np.zeros(1), 1000)
    assert one == pytest.approx((100 - 1.645 * 5, 100 + 1.645 * 5), rel=1e-3)
    two = count_interval(
        np.array([0.5, 0.5]), np.array([0.0, 200.0]), np.array([5.0, 5.0]), np.zeros(2), 1000
    )
    assert two[0] == 0
    assert two[1] > 200
    assert count_interval(np.ones(1), np.array([3.0]), np.zeros(1), np.zeros(1), 9) == (
        pytest.approx((3, 3))
    )


def test_the_ranking_is_no_worse_than_the_predictions_own() -> None:
    log_probs, given, wrong, _ = simulate(planted=0.05)
    _, quality = infer(log_probs, given)
    own = 1 - np.exp(log_probs[np.arange(len(given)), given])
    assert roc_auc_score(wrong, quality.log_odds) > roc_auc_score(wrong, own) - 0.002


def test_what_is_fitted_to_is_bounded_and_drawn_with_the_seed() -> None:
    assert len(fit_rows(100, 10, 0)) == 100
    assert len(fit_rows(10**6, 10, 0)) == 8000
    assert len(fit_rows(10**6, 100, 0)) == 4000
    assert len(fit_rows(10**6, 100, 0, 40_000)) == 20_000
    assert len(fit_rows(10**6, 1000, 0)) == 5000
    np.testing.assert_array_equal(fit_rows(10**5, 10, 1), fit_rows(10**5, 10, 1))
    assert not np.array_equal(fit_rows(10**5, 10, 1), fit_rows(10**5, 10, 2))


def test_logarithms_are_finite_and_normalized() -> None:
    logs = log_of(np.array([[0.0, 1.0], [0.5, 0.5]], dtype=np.float16))
    assert logs.dtype == np.float32
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(np.exp(logs).sum(1), 1, rtol=1e-6)


# --- verified labels ---------------------------------------------------------------------------


def rightly_labeled(total, seed):
    """Redo the draw of `simulate`, for its right classes."""
    rng = np.random.default_rng(seed)
    rng.normal(0, 0.25, (6, 200))
    return rng.integers(0, 6, total)


@pytest.mark.parametrize("settings", [{}, {"soft": 1, "know": 50, "planted": 0.2}])
def test_verified_suspects_leave_the_others_as_suspect_as_they_are(settings) -> None:
    log_probs, given, wrong, _ = simulate(total=4000, **settings)
    right = rightly_labeled(4000, 0)
    assert ((right != given) == wrong).all()
    _, before = infer(log_probs, given)
    mask = np.zeros(4000, bool)
    mask[np.argsort(-before.log_odds)[: int(0.5 * (before.wrong_prob > 0.5).sum())]] = True
    labels = np.where(mask, right, given)
    verified = Verified(mask, np.where(mask, given, -1))
    after = fit_label_model(log_probs, labels, verified=verified)
    quality = after.infer(lambda part: log_probs[part], labels, verified)
    rest = ~mask
    assert (
        f1(wrong[rest], quality.wrong_prob[rest]) > f1(wrong[rest], before.wrong_prob[rest]) - 0.01
    )
    expected = quality.wrong_prob[rest].sum()
    assert expected == pytest.approx(before.wrong_prob[rest].sum(), rel=0.1)
    assert quality.interval[0] < expected < quality.interval[1]
    assert quality.interval[1] < before.interval[1]


def test_verified_labels_are_certain_evidence() -> None:
    """A sample's right class counts for what it is, whatever the predictions say of it."""
    rng = np.random.default_rng(0)
    log_probs = np.log(rng.dirichlet(np.ones(2), 400))  # of no use
    given = rng.integers(0, 2, 400)
    right = np.where(rng.random(400) < 0.3, 1, given)  # of the zeros so many are ones
    mask = np.ones(400, bool)
    mask[:20] = False
    model = fit_label_model(log_probs, right, verified=Verified(mask, np.where(mask, given, -1)))
    expected = (given == 0)[mask & (right == 1)].mean()
    flat = [one for one in model.explanations if one.follow == 0]
    for one in flat:
        assert one.transition_matrix[1, 0] == pytest.approx(expected, abs=0.06)
        assert one.transition_matrix[0, 1] < 0.05


def test_labels_whose_first_is_not_known_are_fitted_as_any_other() -> None:
    log_probs, given, _, _ = simulate(total=1500)
    mask = np.arange(1500) < 200
    plain = fit_label_model(log_probs, given)
    marked = fit_label_model(log_probs, given, verified=Verified.of_mask(mask))
    for one, other in zip(plain.explanations, marked.explanations, strict=True):
        np.testing.assert_array_equal(one.confusion, other.confusion)
        assert one.weight == other.weight
    quality = marked.infer(lambda part: log_probs[part], given, Verified.of_mask(mask))
    assert quality.interval[1] < plain.infer(lambda part: log_probs[part], given).interval[1]


def test_what_was_found_impossible_and_is_so_breaks_nothing() -> None:
    log_probs = np.tile(np.log([1.0 - 1e-9, 1e-9]), (300, 1))
    log_probs[::2] = log_probs[::2, ::-1]
    given = np.tile([1, 0], 150)
    labels = given.copy()
    labels[:100] = 1 - given[:100]
    mask = np.arange(300) < 100
    model = fit_label_model(log_probs, labels, verified=Verified(mask, np.where(mask, given, -1)))
    assert np.isfinite([one.log_likelihood for one in model.explanations]).all()
    everything = Verified(np.ones(300, bool), given)
    model = fit_label_model(log_probs, labels, verified=everything)
    quality = model.infer(lambda part: log_probs[part], labels, everything)
    assert quality.interval == pytest.approx((0, 0), abs=1e-6)
    assert model.kinds is None

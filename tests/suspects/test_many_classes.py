"""With very many classes or features, what is fitted and held in memory stays bounded."""

import numpy as np
import pytest
import torch
from scipy.optimize import check_grad
from scipy.special import logsumexp, softmax
from sklearn.metrics import cohen_kappa_score, f1_score

from labelaudit.sources.manifest import Verified
from labelaudit.suspects import class_probs, condensed, label_model, noise_model, scores
from labelaudit.suspects import sparse_noise as sparse
from labelaudit.suspects.calibration import calibrating_exponent, log_of, softening_exponent
from labelaudit.suspects.class_probs import LazyProbs, whole
from labelaudit.suspects.condensed import condense, num_columns
from labelaudit.suspects.cross_fitting import cross_fit_classifiers
from labelaudit.suspects.label_evidence import average_neighbors
from labelaudit.suspects.label_model import condense_labels, fit_label_model, fit_rows
from labelaudit.suspects.nearest import Axes
from labelaudit.suspects.noise_model import fit_noise_model, fit_transition_matrix
from labelaudit.suspects.scores import score_out_of_sample
from labelaudit.suspects.sharpness_prior import SharpnessPrior
from labelaudit.suspects.trust import assess_trust

CPU = torch.device("cpu")


def draw(classes=120, per_class=8, noise=0.1, apart=6.0, seed=0, alike=False):
    """Draw class probabilities ``(n, C)``, given labels, and which of these are wrong.

    Wrong labels name any other class, or one of the four that resemble the right one.
    """
    rng = np.random.default_rng(seed)
    right = np.repeat(np.arange(classes), per_class)
    group = np.arange(classes) // 5
    logits = rng.normal(size=(len(right), classes)) + 1.5 * (group[right][:, None] == group)
    logits[np.arange(len(right)), right] += apart
    probs = softmax(logits, axis=1).astype(np.float32)
    wrong = rng.random(len(right)) < noise
    other = (right + rng.integers(1, classes, len(right))) % classes
    if alike:
        other = right // 5 * 5 + (right + rng.integers(1, 5, len(right))) % 5
    given = np.where(wrong, other, right)
    return probs, given, given != right


# --- condensed probabilities ----------------------------------------------------------------------


@pytest.mark.parametrize("classes", [131, 300, 700])
def test_condensed_probabilities_have_the_same_mass(classes) -> None:
    probs, given, _ = draw(classes, 1)
    logs = log_of(probs.astype(np.float64))
    short = condense(lambda rows: logs[rows], np.arange(classes), given, classes)
    assert len(short) == classes
    assert short.log_probs.shape == (classes, num_columns(classes))
    np.testing.assert_allclose(np.exp(short.log_sizes).sum(), classes)
    np.testing.assert_array_equal(short.given, given)
    np.testing.assert_allclose(short.log_probs[:, 0], logs[np.arange(classes), given])
    for exponent, error in ((0.5, 0.02), (1.0, 1e-12), (3.0, 1e-3)):
        found = logsumexp(exponent * short.log_probs + short.log_sizes, axis=1)
        np.testing.assert_allclose(found, logsumexp(exponent * logs, axis=1), atol=error)
    single = short.classes < classes
    assert (np.sort(short.classes[single].reshape(classes, -1)) < classes).all()
    places = np.nonzero(single)
    np.testing.assert_allclose(short.log_probs[places], logs[places[0], short.classes[places]])
    labels = np.zeros(classes, int)
    assert calibrating_exponent(short.log_probs, labels, short.log_sizes) == pytest.approx(
        calibrating_exponent(logs, given), rel=0.01
    )
    assert 0.05 < softening_exponent(short.log_probs, labels, short.log_sizes) < 50


def test_a_class_that_is_asked_for_is_kept_by_itself() -> None:
    probs, given, _ = draw(400, 1)
    logs = log_of(probs)
    least = probs.argmin(axis=1)
    asked = np.where(np.arange(400) < 300, least, -1)
    short = condense(lambda rows: logs[rows], np.arange(400), given, 400, kept=asked)
    assert (short.classes[:300] == least[:300, None]).any(axis=1).all()
    total = logsumexp(short.log_probs + short.log_sizes, axis=1)
    np.testing.assert_allclose(total, 0, atol=1e-5)


# --- the noise model ------------------------------------------------------------------------------


@pytest.mark.parametrize("alike", [False, True])
def test_the_sparse_noise_model_is_like_the_whole_one(alike, monkeypatch) -> None:
    probs, given, wrong = draw(alike=alike, classes=150, per_class=6)
    dense = fit_transition_matrix(probs, given)
    monkeypatch.setattr(noise_model, "FIT_VALUES", 300_000)
    short = fit_noise_model(probs, given)
    assert isinstance(short, sparse.SparseNoiseModel)
    assert short.sharpness == pytest.approx(dense.sharpness, rel=0.03)
    expected, found = dense.infer(probs, given), short.infer(probs, given)
    assert (
        f1_score(wrong, found.wrong_prob > 0.5) > f1_score(wrong, expected.wrong_prob > 0.5) - 0.01
    )
    np.testing.assert_allclose(found.class_shares, expected.class_shares, atol=2e-4)
    assert found.class_shares.sum() == pytest.approx(1, abs=1e-4)
    assert short.log_likelihood(probs, given) == pytest.approx(
        dense.log_likelihood(probs, given), abs=0.01
    )
    assert short.best_log_likelihood(found.class_shares) == pytest.approx(
        dense.best_log_likelihood(expected.class_shares), abs=0.03
    )


def test_the_gradient_is_that_of_the_loss() -> None:
    probs, given, _ = draw(140, 1)
    sample = condense(lambda rows: log_of(probs[rows]), np.arange(140), given, 140)
    pairs = sample.pairs()
    channel = sparse._channel(np.ones(140), np.ones(len(pairs.right)), pairs, 0.2)
    likelihood = sparse._likelihood(channel, 0.2, sample, pairs)
    start = np.random.default_rng(1).normal(size=141) * 0.1
    error = check_grad(
        lambda x: sparse._loss(x, sample, likelihood)[0],
        lambda x: sparse._loss(x, sample, likelihood)[1],
        start,
    )
    assert error < 1e-3


@pytest.mark.parametrize("classes", [320, 1000])
def test_a_fit_is_to_a_bounded_number_of_values(classes, monkeypatch) -> None:
    fitted = []

    def record(read, rows, *more):
        short = condense(read, rows, *more)
        fitted.append(short.log_probs.size)
        return short

    monkeypatch.setattr(sparse, "condense", record)
    monkeypatch.setattr(noise_model, "SPARSE_FIT_VALUES", 50_000)
    given = np.arange(4 * classes) % classes

    def read(rows):  # no array of all samples and classes exists
        values = np.full((len(given[rows]), classes), 0.2 / classes, np.float32)
        values[np.arange(len(values)), given[rows]] += 0.8
        return values

    lazy = LazyProbs((len(given), classes), read)
    model = fit_noise_model(lazy, given)
    assert 0.5 * 50_000 < fitted[0] <= 50_000
    assert len(model.channel.cells) <= 50_000
    assert model.infer(lazy, given).wrong_prob.max() < 0.5


# --- the label model ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alike", "prior"), [(True, None), (False, SharpnessPrior.of_neighbors(1.0))]
)
def test_the_label_model_is_like_the_one_with_all_pairs(alike, prior, monkeypatch) -> None:
    probs, given, wrong = draw(classes=140, per_class=6, alike=alike, noise=0.15)

    def score():
        return score_out_of_sample(
            lambda part: log_of(probs[part]), given, 140, prior, seed=0, name="", explanation=""
        )

    # As with more than 200 classes, a channel that follows the image has no pairs.
    monkeypatch.setattr("labelaudit.suspects.explanations.MANY_CLASSES", 100)
    monkeypatch.setattr(label_model, "FIT_SAMPLES_PER_CLASS", 10)
    dense = score()
    for module in (scores, label_model):
        monkeypatch.setattr(module, "MOST_PAIRED_CLASSES", 100)
    short = score()
    before, after = (f1_score(wrong, one.suspect_score > 0.5) for one in (dense, short))
    assert after > before - 0.02
    assert short.suspect_score.sum() == pytest.approx(dense.suspect_score.sum(), rel=0.1)
    assert short.interval[0] <= short.suspect_score.sum() <= short.interval[1]
    assert (short.suggested != given).all()
    assert dense.transition_matrix.shape == (140, 140)
    assert short.transition_matrix is None
    assert short.kinds is None


def test_verified_labels_are_certain_evidence_of_many_classes_too() -> None:
    probs, given, wrong = draw(classes=140, noise=0.3)
    right = np.repeat(np.arange(140), 8)
    verified = Verified(np.arange(len(given)) % 2 == 0, given)
    labels = np.where(verified.labels, right, given)
    logs = log_of(probs)
    short, rows = condense_labels(lambda part: logs[part], labels, 140, 0, verified)
    model = fit_label_model(short, labels[rows], verified=verified.subset(rows))
    sample = model.infer(lambda part: logs[part], labels, verified)
    rest = ~verified.labels
    expected = sample.wrong_prob[rest].sum()
    assert expected == pytest.approx(wrong[rest].sum(), rel=0.1)
    assert sample.interval[0] < expected < sample.interval[1]
    everything = Verified(np.ones(len(given), bool), given)
    short, rows = condense_labels(lambda part: logs[part], right, 140, 0, everything)
    model = fit_label_model(short, right[rows], verified=everything)
    assert model.infer(lambda part: logs[part], right, everything).interval == pytest.approx((0, 0))


def test_samples_that_need_all_classes_are_few() -> None:
    assert len(fit_rows(10**6, 1001, 0)) == len(fit_rows(10**6, 50_000, 0)) == 2000


# --- out-of-sample probabilities ------------------------------------------------------------------


@pytest.mark.parametrize("classes", [20, 330])
def test_probabilities_calculated_when_read_are_the_same(classes, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(660) % classes
    features = (rng.normal(size=(classes, 16))[labels] + rng.normal(size=(660, 16))).astype(
        np.float32
    )
    base = rng.dirichlet(np.ones(classes), 660).astype(np.float32)
    first = cross_fit_classifiers(features, labels, base, seed=0)
    monkeypatch.setattr(class_probs, "MOST_VALUES", 100)
    monkeypatch.setattr(class_probs, "BLOCK_VALUES", 100 * classes)
    second = cross_fit_classifiers(features, labels, base, seed=0)
    np.testing.assert_array_equal(second.probs, first.probs)
    assert second.mixing_weight == first.mixing_weight
    assert second.sharpness == first.sharpness


def test_averages_over_neighbors_are_blocked_by_classes(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    points, rows = rng.normal(size=(100, 4)).astype(np.float32), np.arange(100)
    probs = rng.dirichlet(np.ones(30), 100).astype(np.float32)
    expected = average_neighbors(points, probs, rows, rows, seed=0)
    monkeypatch.setattr("labelaudit.suspects.label_evidence.AVERAGED_VALUES", 30 * 6 * 7)
    np.testing.assert_array_equal(average_neighbors(points, probs, rows, rows, seed=0), expected)


def test_an_array_is_whole_already() -> None:
    array = np.ones((3, 2), np.float32)
    assert whole(array) is array
    np.testing.assert_array_equal(whole(LazyProbs((3, 2), lambda rows: array[rows])), array)


# --- wide features --------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [60, 700])
def test_axes_of_wide_features_take_no_square_matrix(samples, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    # Few directions have nearly all of the variance, and many features are constant.
    hidden = rng.normal(size=(samples, 40)) * np.linspace(3, 0.5, 40)
    features = hidden @ rng.normal(size=(40, 1600)) + 0.3 * rng.normal(size=(samples, 1600))
    features[:, ::5] = 1.0
    features, rows = features.astype(np.float32), np.arange(samples)
    monkeypatch.setattr("labelaudit.suspects.nearest.EXACT_FEATURES", 2000)
    exact = Axes.of(features, rows, unit=True).project(features, rows, CPU)
    monkeypatch.undo()
    monkeypatch.delattr(torch.linalg, "eigh")
    axes = Axes.of(features, rows, unit=True)
    found = axes.project(features, rows, CPU)
    assert axes.basis.shape == (1600, min(128, samples))
    np.testing.assert_allclose(axes.basis.T @ axes.basis, np.eye(axes.basis.shape[1]), atol=1e-4)
    np.testing.assert_allclose(torch.cdist(found, found), torch.cdist(exact, exact), atol=0.02)
    again = Axes.of(features, rows, unit=True)
    np.testing.assert_array_equal(again.basis, axes.basis)


def test_axes_of_wide_features_read_a_bounded_number_of_values(monkeypatch) -> None:
    monkeypatch.setattr("labelaudit.suspects.nearest.WIDE_VALUES", 1700 * 200)
    monkeypatch.setattr("labelaudit.suspects.nearest.WIDE_SAMPLE", 50)
    read = []
    real_read = np.ndarray.__getitem__

    class Recording(np.ndarray):
        def __getitem__(self, rows):
            values = np.asarray(real_read(self, rows))
            read.append(values.shape)
            return values

    features = np.random.default_rng(0).normal(size=(900, 1700)).astype(np.float32)
    Axes.of(features.view(Recording), np.arange(900))
    assert read == [(180, 1700)]


# --- trust ----------------------------------------------------------------------------------------


def test_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    given = rng.integers(0, 50, 400)
    predicted = np.where(rng.random(400) < 0.04, given, rng.integers(0, 50, 400))
    expected = cohen_kappa_score(predicted, given)
    reasons = assess_trust(predicted, given, tuple(map(str, range(50)))).reasons
    assert f"kappa {expected:.2f}" in reasons[0]


def test_bands_double_in_size() -> None:
    sizes = np.diff(condensed.band_edges(10_000))
    assert sizes.sum() == 10_000 - 1 - condensed.KEPT_CLASSES
    np.testing.assert_array_equal(sizes[:-1], 128 * 2 ** np.arange(len(sizes) - 1))
    assert num_columns(10**6) < 160

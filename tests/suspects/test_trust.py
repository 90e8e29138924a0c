import numpy as np

from labelaudit.sources.manifest import Verified
from labelaudit.suspects.trust import (
    assess_trust,
    few_labels_warning,
    share_of_information,
    unknown_first_warning,
)

NAMES = ("cat", "dog", "owl")


def test_a_model_that_agrees_with_most_labels_is_trusted():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    given = np.where(rng.random(300) < 0.5, rng.integers(0, 3, 300), truth)  # a third wrong
    trust = assess_trust(truth, given, NAMES)
    assert trust.trustworthy
    assert trust.reasons == ()


def test_a_model_at_chance_is_not_trusted():
    rng = np.random.default_rng(0)
    trust = assess_trust(rng.integers(0, 3, 300), rng.integers(0, 3, 300), NAMES)
    assert not trust.trustworthy
    assert "chance" in trust.reasons[0]


def test_a_constant_model_is_not_trusted_and_the_class_is_named():
    given = np.random.default_rng(0).integers(0, 3, 300)
    trust = assess_trust(np.ones(300, int), given, NAMES)
    assert not trust.trustworthy
    assert "'dog'" in trust.reasons[0]


def test_a_model_that_doubts_itself_is_not_trusted():
    given = np.random.default_rng(0).integers(0, 3, 300)
    assert assess_trust(given, given, NAMES, class_uncertainty=0.4).trustworthy
    trust = assess_trust(given, given, NAMES, class_uncertainty=0.6, advice="Read more.")
    assert not trust.trustworthy
    assert "60% of the samples" in trust.reasons[0]
    assert trust.reasons[-1] == "Read more."


def test_predictions_tell_nothing_if_they_are_the_same_for_all_samples():
    given = np.repeat([0, 1, 2], [50, 30, 20])
    probs = np.tile(np.array([0.5, 0.3, 0.2], dtype=np.float32), (100, 1))
    assert share_of_information(probs, given) < 1e-6
    assert share_of_information(np.eye(3, dtype=np.float32)[given], given) > 0.999
    unsure = 0.9 * probs + 0.1 * np.eye(3, dtype=np.float32)[given]
    assert 0.005 < share_of_information(unsure, given) < 0.1
    assert share_of_information(probs, np.zeros(100, dtype=int)) == 1


def test_a_network_that_did_not_learn_is_not_trusted_however_well_it_agrees():
    given = np.random.default_rng(0).integers(0, 3, 300)
    trust = assess_trust(given, given, NAMES, information=0.00001)
    assert not trust.trustworthy
    assert trust.reasons[0].startswith("The network did not learn the classes")


def test_imbalance_alone_is_no_reason_for_distrust():
    given = np.array([0] * 960 + [1] * 20 + [2] * 20)
    assert assess_trust(given, given, NAMES).trustworthy


def test_classes_with_few_labels_are_named():
    given = np.array([0] * 50 + [1] * 4 + [2] * 5)
    warning = few_labels_warning(given, NAMES)
    assert warning is not None
    assert "'dog'" in warning
    assert "'owl'" not in warning
    assert few_labels_warning(given[given == 0], ("cat",)) is None


def test_corrected_labels_of_which_the_first_is_not_known_are_warned_of():
    labels = np.arange(200) < 10
    assert unknown_first_warning(None) is None
    assert unknown_first_warning(Verified(labels, np.where(labels, 1, -1))) is None
    warning = unknown_first_warning(Verified(labels, np.full(200, -1)))
    assert warning.startswith("the first labels of 10 verified samples are not known")

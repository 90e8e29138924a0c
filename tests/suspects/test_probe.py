import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from labelaudit.suspects import probe
from labelaudit.suspects.probe import probe_probs


def test_wrong_labels_are_improbable_to_a_probe_that_did_not_see_them(gaussians) -> None:
    features, noisy, clean = gaussians
    probs = probe_probs(features, noisy, 4, seed=0)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    given = probs[np.arange(len(noisy)), noisy]
    assert roc_auc_score(noisy != clean, -given) > 0.95
    np.testing.assert_array_equal(probs, probe_probs(features, noisy, 4, seed=0))


def test_no_label_has_a_say_in_its_own_fold(gaussians) -> None:
    features, noisy, _ = gaussians
    changed = noisy.copy()
    changed[7] = (changed[7] + 1) % 4
    before, after = (probe_probs(features, labels, 4, seed=0) for labels in (noisy, changed))
    np.testing.assert_array_equal(before[7], after[7])
    assert (before != after).any()


def test_few_samples_and_absent_classes_break_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    np.testing.assert_allclose(probe_probs(features[:3], np.arange(3), 3, seed=0), 1 / 3)
    alone = probe_probs(features, np.array([0, 1] * 5 + [0, 4]), 6, seed=0)
    assert np.isfinite(alone).all()
    assert (alone[:, [2, 3, 5]] == 0).all()
    np.testing.assert_allclose(alone.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(probe_probs(features, np.zeros(12, int), 2, seed=0), 0.5)


def test_of_large_data_a_part_teaches(gaussians, monkeypatch: pytest.MonkeyPatch) -> None:
    features, noisy, clean = gaussians
    monkeypatch.setattr(probe, "MAX_PRODUCTS", 200 * 24 * 4)
    probs = probe_probs(features, noisy, 4, seed=0)
    given = probs[np.arange(len(noisy)), noisy]
    assert roc_auc_score(noisy != clean, -given) > 0.9

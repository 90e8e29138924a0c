import numpy as np
import pytest
import torch

from labelaudit.errors import OptionError
from labelaudit.methods.linear_probe import LinearProbe
from labelaudit.methods.task import Task

CPU = torch.device("cpu")


def test_classes_without_labels_have_no_probability(gaussians):
    features, noisy, clean = gaussians
    labels = np.where((np.arange(800) < 400) & (noisy != 2), noisy, -1)
    test = features[700:, :, None, None]
    task = Task(features[:, :, None, None], labels, 5, "features", CPU, 0, test_inputs=test)
    probs, test_probs = LinearProbe().pred_probs(task), LinearProbe().test_probs(task)
    assert probs.shape == (int((labels >= 0).sum()), 5)
    for one in (probs, test_probs):
        np.testing.assert_allclose(one.sum(axis=1), 1, rtol=1e-5)
        assert not one[:, [2, 4]].any()
    known = clean[700:] != 2
    assert (test_probs.argmax(axis=1) == clean[700:])[known].mean() > 0.8


def test_rare_classes_are_told_once(gaussians, lines):
    features = gaussians[0][:42, :, None, None]
    labels = np.array([0] * 20 + [1] * 20 + [2, 2])
    task = Task(features, labels, 3, "features", CPU, 0, reporter=lines)
    assert np.isfinite(LinearProbe().pred_probs(task)).all()
    assert len(lines.warned) == 1
    with pytest.raises(OptionError, match="no class has two labeled samples"):
        LinearProbe().pred_probs(Task(features[:2], np.arange(2), 3, "features", CPU, 0))

import numpy as np
import pytest

from labelaudit.suspects.metrics import (
    METRIC_NAMES,
    detection_metrics,
    expected_calibration_error,
    f1_at_true_count,
)


def test_metrics_by_hand():
    score = np.array([0.9, 0.8, 0.7, 0.2, 0.1])
    wrong = np.array([True, False, True, True, False])
    metrics = detection_metrics(score, score > 0.5, wrong)
    assert set(metrics) == set(METRIC_NAMES)
    assert metrics["precision"] == pytest.approx(2 / 3)
    assert metrics["recall"] == pytest.approx(2 / 3)
    assert metrics["f1"] == pytest.approx(2 / 3)
    assert metrics["auroc"] == pytest.approx(4 / 6)  # pairs (wrong, right) in the right order
    assert metrics["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_without_errors_there_is_nothing_to_recall():
    metrics = detection_metrics(np.array([0.1, 0.9]), np.array([False, True]), np.zeros(2, bool))
    assert metrics["precision"] == 0
    assert metrics["recall"] is metrics["f1"] is metrics["auroc"] is None


def test_nothing_flagged_is_no_crash():
    metrics = detection_metrics(np.array([0.1, 0.2]), np.zeros(2, bool), np.array([True, False]))
    assert metrics["precision"] == metrics["recall"] == metrics["f1"] == 0
    assert metrics["auroc"] == 0


def test_f1_at_true_count_is_the_share_of_wrong_among_the_worst():
    score = np.array([0.9, 0.8, 0.7, 0.2, 0.1])
    wrong = np.array([True, False, True, True, False])
    assert f1_at_true_count(score, wrong) == pytest.approx(2 / 3)
    assert f1_at_true_count(score, np.zeros(5, bool)) is None


def test_calibration_error_is_the_weighted_distance_between_predicted_and_seen():
    prob = np.array([0.1] * 10 + [0.9] * 30)
    outcome = np.array([True] * 2 + [False] * 8 + [True] * 24 + [False] * 6)
    assert expected_calibration_error(prob, outcome) == pytest.approx((10 * 0.1 + 30 * 0.1) / 40)
    assert expected_calibration_error(prob, outcome, between=(0.5, 1)) == pytest.approx(0.1)
    assert expected_calibration_error(prob, outcome, between=(0.4, 0.6)) is None
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0

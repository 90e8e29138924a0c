"""What is said about the time of a training."""

from dataclasses import replace

import numpy as np
import pytest

from labelaudit import source_from_arrays
from labelaudit.audit.announcement import tell_duration
from labelaudit.audit.plan import prepare
from labelaudit.options import AuditOptions
from labelaudit.progress import Reporter
from labelaudit.sources.feature_tables import features_of_rows
from labelaudit.training.duration import TrainingTime


@pytest.fixture(scope="module")
def plans():
    """Plans for photos, small gray images and features."""
    draw, labels = np.random.default_rng(0), np.arange(80) % 4
    options = AuditOptions(epochs=20, encoder="mlp", device="cpu")
    photos = source_from_arrays(draw.integers(0, 256, (80, 12, 12, 3), dtype=np.uint8), labels)
    digits = source_from_arrays(draw.integers(0, 256, (80, 8, 8), dtype=np.uint8), labels)
    features = features_of_rows(source_from_arrays(None, labels), draw.normal(size=(80, 6)))
    return {
        "photos": prepare(photos, options, Reporter()),
        "digits": prepare(digits, options, Reporter()),
        "features": prepare(features, replace(options, encoder="auto"), Reporter()),
    }


def said(lines, plan, step, minutes=None):
    """Give the lines about a training of 20 epochs with 50 steps of some seconds."""
    now = 0.0
    left = None if minutes is None else 60 * minutes
    plan = replace(plan, options=replace(plan.options, time_budget=minutes))
    duration = TrainingTime(plan.epochs, left, clock=lambda: now)
    duration.begin_epoch(1, 50)
    for _ in range(10):
        now += step
        duration.add_step()
    tell_duration(plan, duration, lines)
    return [*lines.said, *lines.warned]


def test_a_short_training_is_told_in_one_line(plans, lines):
    (line,) = said(lines, plans["photos"], 0.1)
    assert line.startswith("Training takes about ")
    assert line.endswith("Ctrl-C ends it early and keeps the ranking so far.")


@pytest.mark.parametrize(
    ("kind", "way", "not_way"),
    [
        ("photos", "`encoder='", "fine_tune"),
        ("digits", "`epochs=5`", "encoder"),
        ("features", "`time_budget=5`", "encoder"),
    ],
)
def test_a_long_training_is_told_with_the_ways_out(plans, lines, kind, way, not_way):
    first, second = said(lines, plans[kind], 2.0)
    assert " to " in first
    assert "min" in first
    assert way in second
    assert not_way not in second
    assert second.endswith("or a GPU.")


def test_a_time_budget_is_told_with_what_fits_into_it(plans, lines):
    (line,) = said(lines, plans["photos"], 0.5, minutes=3.0)
    assert line.endswith("it will stop within the 3 min that `time_budget` leaves.")


def test_a_time_budget_shorter_than_an_epoch_is_told(plans, lines):
    (line,) = said(lines, plans["photos"], 2.0, minutes=0.5)
    assert "one epoch takes about" in line
    assert "longer than `time_budget` allows" in line

"""Estimates of time, on simulated durations."""

import math
import random

import pytest

from labelaudit.estimates import Countdown, Range, format_seconds


def simulate(durations, noise=0.15):
    """Give for each item the time, the seconds that are truly left, and the estimate."""
    draw = random.Random(0)
    durations = [d * math.exp(draw.gauss(0, noise)) for d in durations]
    now, total, steps = 0.0, sum(durations), []
    count = Countdown(len(durations), clock=lambda: now)
    for number, duration in enumerate(durations, 1):
        now += duration
        count.reach(number)
        steps.append((now, total - now, count.rest()))
    return steps


def at(steps, moment):
    """Give the true rest and the estimate after some seconds."""
    return next((left, rest) for now, left, rest in steps if now >= moment)


def holds(rest, left):
    return 0.9 * rest.low <= left <= 1.1 * rest.high


def is_narrow(rest):
    return rest.high <= 1.3 * rest.low


def test_nothing_is_said_before_the_first_steps():
    steps = simulate([0.1] * 3000)
    assert steps[0][2] is None
    assert all(rest is not None for now, _, rest in steps if now > 1.0)


def test_a_constant_speed_gives_a_range_that_narrows_to_a_number():
    steps = simulate([0.1] * 3000)
    left, early = at(steps, 1.0)
    assert holds(early, left)
    assert early.high > 2 * early.low
    left, later = at(steps, 60.0)
    assert holds(later, left)
    assert is_narrow(later)
    assert " to " not in str(later)
    known = [(left, rest) for _, left, rest in steps if rest is not None and left > 1.0]
    assert sum(holds(rest, left) for left, rest in known) > 0.98 * len(known)


def test_slow_first_steps_are_forgotten():
    steps = simulate([3.0] + [1.0] * 3 + [0.1] * 2000)
    left, rest = at(steps, 12.0)
    assert holds(rest, left)
    assert rest.high < 2 * left


@pytest.mark.parametrize(("first", "second"), [(0.1, 0.4), (0.4, 0.1)])
def test_a_machine_that_becomes_busy_or_idle_is_noticed(first, second):
    steps = simulate([first] * 1000 + [second] * 2000)
    changed = 1000 * first
    soon = changed + max(0.2 * changed, 10.0)
    left, rest = at(steps, soon)
    assert holds(rest, left)
    assert not is_narrow(rest)
    assert all(
        rest.high < 4 * left and rest.low > left / 4
        for now, left, rest in steps
        if now > soon and left > 1.0
    )
    left, rest = at(steps, changed + 1900 * second)
    assert holds(rest, left)


def test_few_long_steps_have_a_wide_range():
    steps = simulate([30.0] * 6)
    for _, left, rest in steps[:-1]:
        assert holds(rest, left)
    assert steps[0][2].high > 2 * steps[0][2].low


def test_speeds_that_differ_keep_a_range_until_they_average_out():
    steps = simulate([0.1] * 3000, noise=1.0)
    left, rest = at(steps, 10.0)
    assert holds(rest, left)
    assert not is_narrow(rest)


def test_a_step_that_hangs_makes_the_rest_longer():
    now = 0.0
    count = Countdown(200, clock=lambda: now)
    for number in range(1, 101):
        now += 1.0
        count.reach(number)
    before = count.rest()
    now += 60.0
    assert count.rest().high > 1.5 * before.high


def test_work_that_is_repeated_and_work_without_end_are_no_error():
    now = 0.0
    count = Countdown(10, clock=lambda: now)
    for number in (1, 2, 3, 1, 2, 3):
        now += 1.0
        count.reach(number)
    assert holds(count.rest(), 7.0)
    assert Countdown(None).rest() is None


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (180, 470, "3 to 8 min"),
        (230, 250, "4 min"),
        (12, 43, "10 to 45 s"),
        (3, 7, "3 to 7 s"),
        (20, 130, "20 s to 2 min"),
        (70, 130, "1 to 2 min"),
        (1300, 2900, "20 to 50 min"),
        (2900, 6000, "1 to 1.5 h"),
        (1000, 20000, "17 min to 6 h"),
        (0, 0, "1 s"),
    ],
)
def test_ranges_in_words(low, high, said):
    assert str(Range(low, high)) == said


def test_durations_in_words():
    assert [format_seconds(s) for s in (0.2, 40, 170, 7800)] == [
        "1 s",
        "40 s",
        "3 min",
        "2 h 10 min",
    ]

"""The time of a training from its steps and the pauses between its epochs, on simulated durations."""

import pytest

from labelaudit.training.duration import TrainingProgress, TrainingTime


def simulate(steps, pause, *, epochs=10, factor=lambda epoch: 1.0, most=None):
    """Give for each step the true rest and the estimate; `steps` are the durations in an epoch."""
    now, seen = 0.0, []
    duration = TrainingTime(epochs, most, clock=lambda: now)
    for epoch in range(1, epochs + 1):
        duration.begin_epoch(epoch, len(steps))
        for seconds in steps:
            now += seconds * factor(epoch)
            duration.add_step()
            seen.append((now, duration.rest(), duration.well_known))
        duration.end_steps()
        now += pause * factor(epoch)
    return [(now - then, rest, known) for then, rest, known in seen]


def test_pauses_between_epochs_count():
    seen = simulate([0.1] * 100, pause=8.0)
    left, rest, _ = seen[250]
    assert rest.low <= left <= rest.high
    assert rest.high < 1.3 * rest.low


def test_before_the_first_pause_the_range_is_wide_enough():
    seen = simulate([0.1] * 100, pause=2.5)
    left, rest, known = next(one for one in seen if one[2])
    assert known
    assert rest.low <= left <= rest.high
    assert seen[1][1] is None


def test_a_machine_that_becomes_busy_is_noticed_within_an_epoch():
    seen = simulate([0.1] * 100, pause=2.0, factor=lambda epoch: 1.0 if epoch < 5 else 4.0)
    for left, rest, _ in seen[500:]:
        assert rest.low <= 1.1 * left <= 1.5 * rest.high


def test_long_steps_are_told_after_the_second():
    seen = simulate([60.0] * 5, pause=20.0, epochs=4)
    assert [known for *_, known in seen[:2]] == [True, True]
    left, rest, _ = seen[1]
    assert rest.low <= left <= rest.high


def test_a_training_that_must_stop_is_not_told_to_take_longer():
    seen = simulate([0.1] * 100, pause=2.0, most=30.0)
    assert max(rest.high for _, rest, _ in seen if rest is not None) <= 30.0


@pytest.mark.parametrize("again", [False, True])
def test_the_bar_ends_at_its_total_though_batches_become_smaller(again):
    class Bar:
        def __init__(self):
            self.at = []

        def reach(self, done):
            self.at.append(done)

        def describe(self, text):
            self.text = text

    bar, told, now = Bar(), [], 0.0
    duration = TrainingTime(2, clock=lambda: now)
    progress = TrainingProgress(bar, 20, duration, told.append)
    for epoch, steps in ((1, 10), *([(2, 5), (2, 20)] if again else [(2, 10)])):
        progress.begin_epoch(epoch, steps, f"epoch {epoch}/2")
        for _ in range(steps):
            now += 1.0
            progress.add_step()
        progress.end_steps()
    assert bar.at[-1] == 20
    assert max(bar.at) == 20
    assert bar.text == "epoch 2/2"
    assert told == [duration]

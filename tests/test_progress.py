"""What people see of progress: bars in a terminal of 80 columns, and a few lines in a log."""

import io

import pytest
from rich.console import Console

from labelaudit.estimates import Range
from labelaudit.progress import ConsoleReporter, Reporter


class Watch:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def log_of(paces, text="reading images", **settings):
    """Give the lines, with their time, of a log in which each item takes the given seconds."""
    watch, file, lines = Watch(), io.StringIO(), []
    reporter = ConsoleReporter(Console(file=file, width=80), clock=watch)
    with reporter.bar(text, len(paces), **settings) as bar:
        for pace in paces:
            watch.now += pace
            bar.advance()
            if written := file.getvalue():
                lines.append((watch.now, written.rstrip("\n")))
                file.seek(0)
                file.truncate()
    return lines


def test_short_work_leaves_no_line_in_a_log():
    assert log_of([0.01] * 1500) == []
    assert log_of([1.0] * 30) == []


def test_long_work_says_a_line_early_and_then_rarely():
    lines = log_of([0.5] * 2400)
    assert 20 <= lines[0][0] <= 25
    assert lines[0][1].startswith("reading images: 4")
    assert lines[0][1].endswith("of 2,400, 20 min left.")
    assert [round(later - 20) for later, _ in lines[1:]] == [300, 600, 900]


def test_a_log_is_corrected_when_the_machine_becomes_busy():
    lines = log_of([0.1] * 1500 + [0.4] * 1500)
    corrected = [line for now, line in lines if 150 < now < 200]
    assert len(corrected) == 1
    assert "to" in corrected[0]
    assert len(lines) <= 5


def test_a_log_says_the_estimate_that_the_work_gives_itself():
    assert log_of([1.0] * 30, rest=lambda: Range(180, 480))[0][1].endswith("3 to 8 min left.")


def shown(text, total, done, rest=None):
    """Give what a terminal of 80 columns shows of a bar."""
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    with ConsoleReporter(console).bar(text, total, rest=rest) as bar:
        bar.reach(done)
    return file.getvalue()


@pytest.mark.parametrize("text", ["epoch 12/120", "training classifiers, round 1 of 2"])
def test_a_bar_fits_into_80_columns_with_its_time(text):
    seen = shown(text, 50_000, 12_000, lambda: Range(1300, 2900))
    assert f"{text} " in seen
    assert "12,000/50,000 20 to 50 min left" in seen


def test_a_bar_without_a_total_shows_the_time_so_far():
    seen = shown("loading libraries", None, 0)
    assert "loading libraries" in seen
    assert "1 s" in seen
    assert "/" not in seen.replace("\x1b", "")


def test_bars_follow_each_other():
    class Steps(Reporter):
        def __init__(self):
            self.begun = []

        def bar(self, text, total=None, done=0, rest=None):
            self.begun.append((text, total))
            return super().bar(text, total, done, rest)

    steps = Steps()
    with steps.bars() as bars:
        bars.begin("finding similar samples")
        bars.begin("scoring labels", 100).advance(50)
    assert steps.begun == [("finding similar samples", None), ("scoring labels", 100)]

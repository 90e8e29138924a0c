"""The parts of a step in benchmarks/speed.py, on a few random images."""

import importlib
import time

import numpy as np
import pytest
import torch


@pytest.fixture
def step_parts():
    return importlib.import_module("step_parts")


def test_a_part_within_another_counts_for_itself_only(step_parts):
    watch = step_parts.Stopwatch()

    def work(seconds: float) -> None:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass

    with watch.part("outer"):
        work(0.01)
        with watch.part("inner"):
            work(0.03)
        work(0.01)
    watch.end_step()
    ((outer,), (inner,), (whole,)) = watch.seconds.values()
    assert outer == pytest.approx(0.02, rel=0.2)
    assert inner == pytest.approx(0.03, rel=0.2)
    assert whole == outer + inner


def test_parts_make_up_the_step_and_leave_nothing_patched(step_parts, monkeypatch):
    for name, count in (("WARM_UP", 1), ("TIMED", 3), ("REPETITIONS", 2)):
        monkeypatch.setattr(step_parts, name, count)
    monkeypatch.setattr(step_parts.UMN, "compile", lambda umn: None)  # it takes a minute
    backward = torch.Tensor.backward
    rng = np.random.default_rng(0)
    pixels = (255 * rng.integers(0, 2, (2000, 1, 28, 28))).astype(np.uint8)
    found = {what: figure for what, figure, _ in step_parts.parts(pixels, np.arange(2000) % 10)}
    shares = [share for what, share in found.items() if what.endswith(": share")]
    floor = found["the step's matrix products alone: share"]
    assert sum(shares) - floor == pytest.approx(1, abs=0.2)  # medians need not add up
    assert len(shares) == 12
    assert found["the step's matrix products"] == pytest.approx(1.03, rel=0.01)
    assert torch.Tensor.backward is backward

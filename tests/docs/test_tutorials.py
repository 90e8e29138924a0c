"""Tutorials in Python are run as they are written."""

import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(cells: list[str]) -> dict:
    """Run pieces of code one after the other; give the names that they leave."""
    names: dict = {}
    for number, cell in enumerate(cells, start=1):
        exec(compile(cell, f"cell {number}", "exec"), names)
    return names


@pytest.mark.slow  # the scripts in examples/ do nearly the same, and are quicker
def test_the_notebook_finds_planted_mistakes(monkeypatch):
    mpl.use("agg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    notebook = json.loads((TUTORIALS / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    names = run(cells)
    wrong = names["labels"] != names["true_labels"]
    assert np.count_nonzero(wrong) == 180
    low, high = names["result"].summary["expected_wrong_interval"]
    assert low <= 180 <= high
    assert 150 < np.count_nonzero(wrong[names["flagged"]]) <= len(names["flagged"]) < 230


def test_the_notebook_is_small():
    assert (TUTORIALS / "notebook.ipynb").stat().st_size < 60_000


def test_the_tutorial_of_predictions_gives_its_numbers():
    text = (TUTORIALS / "predictions.md").read_text(encoding="utf-8")
    pieces = CODE.findall(text)
    names = run(pieces[:5])
    assert abs(names["flagged"].sum() - 227) < 15
    assert abs(names["issues"].summary["expected_wrong"] - 249) < 15
    names = run(pieces)
    assert abs(names["flagged"].sum() - 209) < 15

"""Rows of benchmarks that a stopped command has left."""

import importlib
from pathlib import Path


def test_rows_are_kept_and_commits_stay_text(tmp_path: Path) -> None:
    rows = importlib.import_module("finished_rows")
    file = tmp_path / "rows.csv"
    assert list(rows.read_rows(file, "seed")) == ["seed"]
    assert not rows.is_done(file, {"seed": 1})
    rows.keep_row(file, {"seed": 1, "f1": 0.5, "commit": "7649289"})
    rows.keep_row(file, {"seed": 2, "f1": 0.6, "commit": "12e3456"})
    assert rows.is_done(file, {"seed": 2})
    assert not rows.is_done(file, {"seed": 2, "f1": 0.5})
    assert rows.read_rows(file)["commit"].tolist() == ["7649289", "12e3456"]

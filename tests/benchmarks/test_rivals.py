"""The comparison of UMN's rivals with supervised training."""

import importlib
from types import ModuleType

import pandas as pd
import pytest


@pytest.fixture
def rivals() -> ModuleType:
    return importlib.import_module("rivals")


def row(method: str, seed: int, error: float, rate: float = 0.1) -> dict[str, object]:
    return {
        "data": "digits",
        "labels": 100,
        "rate": rate,
        "seed": seed,
        "method": method,
        "test_error": error,
        "f1": 1 - error,
        "auroc": 1 - error,
        "commit": "0123456",
    }


def test_a_rival_is_compared_with_supervised_on_the_cells_that_both_have(
    rivals: ModuleType,
) -> None:
    rows = [
        row("supervised", 100, 0.20),
        row("supervised", 101, 0.40),
        row("supervised", 100, 0.30, 0.2),
        row("reweight", 100, 0.10),
        row("reweight", 102, 0.90),  # supervised has not run with this seed
        row("reweight", 100, 0.35, 0.2),
    ]
    lines = rivals.beside_baseline(pd.DataFrame(rows))
    gain = "1 of 2 | +0.025 (-0.050 to +0.100)"
    assert lines == [f"| reweight | {gain} | {gain} | {gain} |"]
    assert "| digits | 100 | reweight | 0.500 | 0.350 | – | – | – | 2 |" in rivals.report(
        pd.DataFrame(rows)
    )


def test_the_first_seed_comes_first_and_every_cell_once(rivals: ModuleType) -> None:
    cells = list(rivals.trials(range(100, 103), None))
    assert len(set(cells)) == len(cells) == 3 * 3 * 5 * 6
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert {cell.data for cell in rivals.trials(range(100, 101), "digits")} == {"digits"}

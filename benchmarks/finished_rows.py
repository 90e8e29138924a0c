"""The finished rows of a benchmark, kept in a CSV file, so that a stopped command can be continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelaudit.files import atomic_write


def read_rows(file: Path, *columns: str) -> pd.DataFrame:
    """Return the rows so far. If there are none, the table has these columns.

    Abbreviated commits are text. Some consist of digits alone, or look like 12e3456.
    """
    if not file.exists():
        return pd.DataFrame(columns=list(columns))
    return pd.read_csv(file, dtype={"commit": str})


def is_done(file: Path, cell: dict[str, Any]) -> bool:
    """Whether there is a row with all these values."""
    done = read_rows(file, *cell)
    return bool(np.logical_and.reduce([done[key] == value for key, value in cell.items()]).any())


def keep_row(file: Path, row: dict[str, Any]) -> None:
    """Print a row, and add it to the file."""
    print(row, flush=True)
    done, new = read_rows(file), pd.DataFrame([row])
    with atomic_write(file) as partial:
        (new if done.empty else pd.concat([done, new])).to_csv(partial, index=False)

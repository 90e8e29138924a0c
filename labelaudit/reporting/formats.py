"""Format numbers and names for the report."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd


def shown_name(value: Any) -> str:
    """Return a label for the report; a missing or empty one becomes words in parentheses."""
    return "(none)" if pd.isna(value) else str(value) or "(empty name)"


def percent(share: float | None) -> str:
    """Format a fraction in [0, 1]: "2.1%", "<0.1%", and a dash if it is not known."""
    if share is None or not math.isfinite(share):
        return "–"
    return "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def decimal(value: float | None) -> str:
    """Format a number with three decimals, and a dash if it is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def count(value: float | None) -> str:
    """Format a whole number with commas, and a dash if it is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Format a number of seconds: "48 s", "12 min 5 s", "3 h 20 min"."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shorten(text: str, most: int) -> str:
    """Cut text to at most `most` characters; the last one is then an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"

"""What all exports to other tools share: their input, and how they write files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from labelaudit.corrections.run import Run
from labelaudit.errors import OptionError

Writer = Callable[[Path], None]
"""A function that writes one file to a path."""


@dataclass(frozen=True, eq=False)
class Export:
    """The input of an export: the run, the K samples to export, and the options."""

    run: Run
    frame: pd.DataFrame
    image_root_url: str | None
    all_samples: bool


def require_files(run: Run, frame: pd.DataFrame, tool: str) -> list[str]:
    """Return the absolute paths of the images; raise if the samples are not image files."""
    if (frame["path"] == "").any():
        raise OptionError(
            f"{tool} needs image files, but the samples of this run are not files; save the images as"
            " files and scan their folder, or use `to='csv'`"
        )
    return run.image_files(frame)


def text_writer(text: str) -> Writer:
    """Return a function that writes a text in UTF-8."""

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8", newline="\n")

    return write


def json_writer(value: object) -> Writer:
    """Return a function that writes a value as JSON in UTF-8."""
    return text_writer(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

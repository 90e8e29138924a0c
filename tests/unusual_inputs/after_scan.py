"""Commands that read what a scan wrote: run folders, decisions and label files, damaged, hostile or foreign."""

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
from unusual_input import UnusualInput, write_images

import labelaudit

HEADER = "sample_id,decision,corrected_label"
WRONG = ("class1/005.png", "class0/002.png", "class0/005.png")  # as suspects.csv lists them
REVIEW = ["review", "run", "--no-browser"]
APPLY = ["apply", "labels.csv", "run"]
FIXED = [*APPLY, "-o", "fixed.csv"]


@functools.cache
def _finished() -> tempfile.TemporaryDirectory:
    """Return a folder with photos, labels.csv, probs.csv and the finished run of both in ``run``."""
    place = tempfile.TemporaryDirectory(prefix="labelaudit-after-scan-")
    folder = Path(place.name)
    write_images(folder / "photos", classes=2, each=15)
    truth = np.repeat([0, 1], 15)
    given = truth.copy()
    given[[2, 5, 20]] ^= 1
    ids = [f"class{right}/{row % 15:03d}.png" for row, right in enumerate(truth)]
    rows = [f"{one},{'ab'[label]}" for one, label in zip(ids, given, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    rows = [f"{one},{0.97 - 0.94 * right:.2f},{0.03 + 0.94 * right:.2f}" for one, right in zip(ids, truth)]
    (folder / "probs.csv").write_text("\n".join(["path,a,b", *rows]) + "\n")
    with chdir(folder):
        labelaudit.scan(
            "photos", "labels.csv", pred_probs="probs.csv", out="run", verbose=False
        )
    return place


def after(command: list[str], *changes: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    """Return what makes a row: a copy of the finished run, the changes to it, and the command."""

    def make(folder: Path) -> list[str]:
        shutil.copytree(_finished().name, folder, dirs_exist_ok=True)
        for change in changes:
            change(folder)
        return command

    return make


def decide(*rows: str, header: str = HEADER) -> Callable[[Path], object]:
    """Write the decisions of a run."""
    text = "\n".join([header, *rows]) + "\n"
    return lambda folder: (folder / "run" / "corrections.csv").write_text(text)


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    """Write a file, whatever was there."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def delete(name: str) -> Callable[[Path], object]:
    """Delete a file or folder."""

    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def cut(name: str, share: float = 0.5) -> Callable[[Path], object]:
    """Keep only the beginning of a file."""

    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return change


def set_json(name: str, **values: object) -> Callable[[Path], object]:
    """Set values of a JSON file."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def edit_samples(edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], object]:
    """Edit the samples of a run."""

    def change(folder: Path) -> None:
        path = folder / "run" / "samples.parquet"
        edit(pd.read_parquet(path)).to_parquet(path)

    return change

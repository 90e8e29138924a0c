"""The files of a run folder: their names, the marker that lists them, and how they are moved.

Only files with these names are ever moved or deleted, and never through a link. Whatever a marker says,
it cannot name another file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelaudit.errors import OutputError
from labelaudit.files import remove_partial_files
from labelaudit.typed_json import MismatchError, from_plain

MARKER = "labelaudit.json"
CORRECTIONS_FILE = "corrections.csv"
"""File of the decisions about the run's samples. It belongs to the people who decide."""
BEFORE_FILE = "corrections.before.csv"
"""File of decisions about samples or labels of a replaced run that the new run does not have."""
CHECKPOINTS = ("checkpoint.pt", "checkpoint.before.pt")
"""States from which an unfinished run is continued."""
EARLIER = "earlier-run"
"""Folder of the results that an unfinished run replaces."""
MOVING = ".labelaudit-moving"
"""File in `EARLIER` while files are moved there."""
UNFINISHED = ("running", "writing")
"""The `status` of a run that has not ended. While it is "writing", its files do not fit together."""

NAMES = (
    "suspects.csv",
    "samples.parquet",
    "skipped.csv",
    "duplicates.csv",
    "pred_probs.npy",
    "embeddings.npy",
    "model.pt",
    "summary.json",
    "report.html",
    *CHECKPOINTS,
)
FOLDERS = {
    "epsilon": re.compile(r"epoch-\d{5,}\.parquet"),
    "plots": re.compile(r"(class_pairs|review|epsilon|embedding|precision_recall)\.png"),
    "report-data": re.compile(r"(index|chunk-\d{5,})\.js"),
}

Files = Mapping[str, str | None]


@dataclass(frozen=True)
class Marker:
    """The content of `MARKER`.

    Attributes
    ----------
    labelaudit
        Version of labelaudit.
    status
        One of `UNFINISHED`; or "complete", "interrupted", "out of time" or "diverged" when the results
        are there.
    fingerprint, config
        The data, and the settings that must be the same for a run to be continued.
    files
        The files of the results, by their path in the folder, with the sha256 of tables that people may
        edit, and None of others. None while the run is running, or if an earlier version wrote it.
    """

    labelaudit: str
    status: str = "complete"
    fingerprint: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str | None] | None = None


def read_marker(folder: Path) -> Marker | None:
    """Read the marker of a folder; None if there is none.

    Raises
    ------
    OutputError
        It is damaged, or is not a file of labelaudit.
    """
    path = folder / MARKER
    if not os.path.lexists(path):
        return None
    try:
        if not path.is_file():
            raise MismatchError("it is not a file")
        return from_plain(Marker, json.loads(path.read_text(encoding="utf-8")))  # type: ignore[no-any-return]
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # MismatchError and JSON's errors among them
        raise OutputError(
            f"{path} is damaged ({str(error) or 'too deep'}), so what is in the folder is not known;"
            " move the folder away, or choose another `out`"
        ) from error


def own_files(folder: Path) -> list[str]:
    """Return the files with names of labelaudit in a folder, as relative paths with slashes, sorted."""
    found = [name for name in NAMES if _is_file_or_link(folder / name)]
    for name, pattern in FOLDERS.items():
        below = folder / name
        if not below.is_symlink() and below.is_dir():
            there = (entry.name for entry in os.scandir(below) if _is_entry(entry))
            found += [f"{name}/{one}" for one in there if pattern.fullmatch(one)]
    return sorted(found)


def is_own_name(name: str) -> bool:
    """Whether a relative path with slashes is the name of a file of a run."""
    folder, _, file = name.rpartition("/")
    if folder:
        return folder in FOLDERS and FOLDERS[folder].fullmatch(file) is not None
    return name in (*NAMES, MARKER)


def _is_file_or_link(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _is_entry(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or entry.is_file()


def described(folder: Path, names: Iterable[str]) -> dict[str, str | None]:
    """Return the list of files for a marker."""
    return {name: _digest(folder / name) for name in names}


def _digest(path: Path) -> str | None:
    """Return the sha256 of a table, which a person may edit; None for other files."""
    if path.suffix != ".csv":
        return None
    if path.is_symlink() or not path.is_file():
        return "not a file"  # reading it might never end
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def edited_files(folder: Path, marker: Marker) -> list[str]:
    """Return the tables of a finished run that a person has edited since."""
    listed = marker.files or {}
    return [
        name
        for name in own_files(folder)
        if listed.get(name) is not None and _digest(folder / name) != listed[name]
    ]


def move_files(names: Collection[str], source: Path, target: Path) -> None:
    """Move files to another folder on the same disk; delete subfolders that are empty then."""
    for name in names:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(place)
    remove_empty_folders(source)


def remove_files(names: Collection[str], folder: Path) -> None:
    """Delete files from a folder, and subfolders that are empty then."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    remove_empty_folders(folder)


def remove_empty_folders(folder: Path) -> None:
    """Delete the subfolders of a run that are empty."""
    for name in FOLDERS:
        below = folder / name
        if not below.is_symlink() and below.is_dir() and not any(below.iterdir()):
            below.rmdir()


def remove_leftovers(folder: Path) -> None:
    """Delete unfinished files of processes that were killed."""
    remove_partial_files(folder)
    for name in FOLDERS:
        if not (folder / name).is_symlink():
            remove_partial_files(folder / name)


def move_aside(path: Path, folder: Path | None = None) -> Path:
    """Rename a file so that it is kept, in its folder or in another one; return its new path."""
    folder = path.parent if folder is None else folder
    number = 0
    while True:
        mark = f".kept-{number}" if number else ".kept"
        new = folder / f"{path.stem}{mark}{path.suffix}"
        if not os.path.lexists(new):
            path.rename(new)
            return new
        number += 1

"""Folders that Hugging Face's `datasets` has written: by `save_to_disk`, or as its cache.

They hold Arrow files and JSON files that say which split they belong to. `datasets` is not needed.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelaudit.errors import SourceError
from labelaudit.files import check_regular, suffix_of
from labelaudit.sources.splits import shard_splits
from labelaudit.sources.wording import some

DATASET_DICT, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_OF_MANY = re.compile(r"-\d{5}-of-\d{5}$")


def find_arrow_splits(folder: Path, files: Sequence[str]) -> dict[str, list[str]]:
    """Return the Arrow files of each split of a data set.

    Parameters
    ----------
    folder : Path
        The folder that the user gave. The data set may be in one of its subfolders.
    files : sequence of str
        All files below the folder, as relative paths.

    Returns
    -------
    dict of str to list of str
        Relative paths by the name of the split, which is "" if the data set has none. Empty if the
        folder holds no Arrow file.

    Raises
    ------
    SourceError
        Several data sets are in the folder, or files of the data set are missing or damaged.
    """
    if not any(suffix_of(file) == "arrow" for file in files):
        return {}
    marks = [file for file in files if file.rpartition("/")[2] == DATASET_DICT]
    inside = tuple(f"{_parent(mark)}/" if _parent(mark) else "" for mark in marks)
    places = [_parent(mark) for mark in marks]
    for mark in files:
        if mark.rpartition("/")[2] == INFO and not (inside and mark.startswith(inside)):
            places.append(_parent(mark))
    if len(places) > 1:
        raise SourceError(
            f"{folder} holds {len(places)} data sets: {some([place or '.' for place in places])};"
            " give the folder of one of them"
        )
    if not places:
        arrows = [file for file in files if suffix_of(file) == "arrow" and not _is_temporary(file)]
        return _grouped(arrows, shard_splits(arrows))
    base = f"{places[0]}/" if places[0] else ""
    if marks:
        splits = _read_json(folder / marks[0]).get("splits")
        if not isinstance(splits, list) or not splits:
            raise SourceError(f"{folder / marks[0]} names no splits; save the data set again")
        return {str(split): _saved_files(folder, f"{base}{split}/", files) for split in splits}
    if f"{base}{STATE}" in files:
        return {"": _saved_files(folder, base, files)}
    return _cached_files(folder, base, files)


def _parent(file: str) -> str:
    return file.rpartition("/")[0]


def _is_temporary(file: str) -> bool:
    """Return whether `datasets` wrote a file for the result of a `map` or `filter`."""
    return file.rpartition("/")[2].startswith(("cache-", "tmp"))


def _saved_files(folder: Path, base: str, files: Sequence[str]) -> list[str]:
    """Return the files of a data set that `save_to_disk` wrote, in their order."""
    state = folder / f"{base}{STATE}"
    listed = _read_json(state).get("_data_files")
    names = [
        base + str(one.get("filename"))
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict)
    ]
    there = set(files)
    missing = [name for name in names if name not in there]
    if not names:
        raise SourceError(f"{state} names no files; save the data set again")
    if missing:
        raise SourceError(
            f"{state} names files that are not there: {some(missing)}; copy the whole folder"
        )
    return names


def _cached_files(folder: Path, base: str, files: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of a data set in the cache of `datasets`, called NAME-SPLIT.arrow."""
    arrows = [
        file
        for file in files
        if _parent(file) == base.rstrip("/")
        and suffix_of(file) == "arrow"
        and not _is_temporary(file)
    ]
    known = _read_json(folder / f"{base}{INFO}").get("splits")
    splits = [str(name) for name in known] if isinstance(known, dict) else []
    # The longest name first, for "test" is also the end of "pre-test".
    splits.sort(key=len, reverse=True)
    split_of = {}
    for file in arrows:
        stem = _OF_MANY.sub("", file.rpartition("/")[2].removesuffix(".arrow"))
        named = next((one for one in splits if stem == one or stem.endswith(f"-{one}")), None)
        split_of[file] = stem.rpartition("-")[2] if named is None else named
    return _grouped(arrows, split_of)


def _grouped(files: Sequence[str], split_of: dict[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for file in sorted(files):
        groups.setdefault(split_of.get(file, ""), []).append(file)
    return groups


def _read_json(file: Path) -> dict[str, Any]:
    check_regular(file)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{file} is damaged: {error}; save the data set again") from error
    return found if isinstance(found, dict) else {}

"""The splits of one data set: subfolders, shards or a column named "split"."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError
from labelaudit.sources.cells import VERIFIED_COLUMN
from labelaudit.sources.label_tables import LabelTable

SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
_SHARD_OF_MANY = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
_SHARD_NAMED = re.compile(rf"(?P<split>{'|'.join(SPLIT_NAMES)})(?=[-_.\d]|$)", re.IGNORECASE)


def choose_split(
    there: Sequence[str], split: str | None, where: Path | str, warnings: list[str]
) -> str:
    """Return the split to read.

    Parameters
    ----------
    there : sequence of str
        The splits that exist.
    split : str, or None
        The requested split. By default the only one, or "train".
    where : Path or str
        The source, for messages.
    warnings : list of str
        A warning is added if "train" was chosen among several.

    Raises
    ------
    SourceError
        The split does not exist, or none is "train".
    """
    if split is not None:
        if split in there:
            return split
        known = f"its splits are {', '.join(there)}" if there else "it has no splits"
        raise SourceError(f'{where} has no split "{split}"; {known}')
    if len(there) == 1:
        return there[0]
    for default in ("train", "training"):
        if default in there:
            others = ", ".join(name for name in there if name != default)
            warnings.append(
                f'{where}: only the split "{default}" was read, not {others}; `split` chooses another'
            )
            return default
    raise SourceError(
        f"{where} has several splits, none of them train: {', '.join(there)}; "
        "choose one with `split`"
    )


def rows_of_split(
    table: LabelTable, split: str | None, warnings: list[str]
) -> npt.NDArray[np.bool_]:
    """Return the mask (R,) of the rows to read; warn if marks of verified labels are ignored."""
    if table.marks_passed_over:
        warnings.append(
            f"{table.where} has a column of verified labels, which is ignored; to take these labels as"
            f" right, use `verified_column={VERIFIED_COLUMN}`"
        )
    there = sorted(set(table.splits or ()) - {""})
    if not there and split is None:
        return np.ones(len(table.labels), bool)
    chosen = choose_split(there, split, table.where, warnings)
    assert table.splits is not None
    if there and (bare := sum(not name for name in table.splits)):
        warnings.append(
            f"{table.where}: {bare:,} {'row names' if bare == 1 else 'rows name'} no split and"
            f" {'is' if bare == 1 else 'are'} not read"
        )
    return np.array([name == chosen for name in table.splits], bool)


def split_folders(images: Iterable[str]) -> list[str]:
    """Return the top folders that are splits of one data set; [] if they are classes.

    They are splits if all of them have the names of splits, or if at least two do that hold only
    subfolders. A single such folder may be a class, such as "train" among vehicles.
    """
    nested: dict[str, bool] = {}
    for file in images:
        top, below, rest = file.partition("/")
        if below:
            nested[top] = nested.get(top, True) and "/" in rest
    named = sorted(top for top in nested if top.lower() in SPLIT_NAMES)
    if len(named) == len(nested):
        return named
    named = [top for top in named if nested[top]]
    return named if len(named) > 1 else []


def shard_splits(shards: Sequence[str]) -> dict[str, str]:
    """Return the split of each shard; {} if none is named after a split."""
    splits = {}
    for shard in shards:
        path = PurePosixPath(shard)
        match = _SHARD_OF_MANY.fullmatch(path.stem) or _SHARD_NAMED.match(path.stem)
        if match:
            splits[shard] = match["split"]
        elif path.parent.name.lower() in SPLIT_NAMES:
            splits[shard] = path.parent.name
    return {shard: splits.get(shard, PurePosixPath(shard).stem) for shard in shards if splits}

"""The label files that a path stands for, with their rows numbered consecutively."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePosixPath

from labelaudit.corrections.label_files import (
    YES,
    Edit,
    LabelFile,
    read_label_file,
    vote_together,
)
from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.sources.cells import Columns
from labelaudit.sources.file_tree import IMAGE_SUFFIXES, FileTree
from labelaudit.sources.folders import METADATA_FILES, read_source
from labelaudit.sources.manifest import Manifest
from labelaudit.sources.splits import choose_split, shard_splits, split_folders
from labelaudit.sources.tar_shards import expand_range
from labelaudit.sources.texts import read_rows

# Suffixes of files that are never written; their corrected labels become a table.
LISTED = ("arrow", "tar")
ABSOLUTE = re.compile(r"[\\/]|[A-Za-z]:[\\/]")


@dataclass(frozen=True, eq=False)
class OpenedLabels:
    """The label files of a path. Their rows are numbered consecutively, from 0.

    Attributes
    ----------
    path : Path
        The path that was given.
    files : tuple of LabelFile
        The files.
    shards : tuple of str
        Names of the files relative to `path`, if that is a folder of shards.
    splits : list of str, or None
        The split of each row, if there are splits.
    split : str or None
        The requested split.
    stems : mapping of str to sequence of int
        The files that a name such as "train-00000-of-00001:5" may refer to, by stem.
    """

    path: Path
    files: tuple[LabelFile, ...]
    shards: tuple[str, ...] = ()
    splits: list[str] | None = None
    split: str | None = None
    stems: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @cached_property
    def starts(self) -> list[int]:
        """The first row of each file, followed by the total number of rows."""
        return list(accumulate((len(file.labels) for file in self.files), initial=0))

    @cached_property
    def labels(self) -> list[str]:
        """The labels of all rows, "" where there is none."""
        return [label for file in self.files for label in file.labels]

    @property
    def name(self) -> str:
        """Name of the labels in messages."""
        return str(self.path if self.shards else self.files[0].path)

    def of_file(self, number: int, edits: Mapping[int, Edit]) -> dict[int, Edit]:
        """Return the edits of one file, by the rows of this file."""
        start, end = self.starts[number : number + 2]
        return {row - start: edits[row] for row in range(start, end) if row in edits}

    def columns(self) -> list[list[str]]:
        """Return the columns that may identify rows, each with one cell per row of all files."""
        names = dict.fromkeys(name for file in self.files for name in file.ids)
        return [
            [text for file in self.files for text in file.ids.get(name, [""] * len(file.labels))]
            for name in names
        ]


def open_labels(
    path: Path, columns: Columns, id_column: str | None, split: str | None, ids: Sequence[str]
) -> OpenedLabels:
    """Find the label files that a scan of `path` reads, and read their rows.

    The ids of the corrected samples may show which split was scanned. Raises SourceError if there are
    no labels, or they cannot be read.
    """

    def read(file: Path, base: str = "") -> LabelFile:
        table = read_label_file(
            file,
            label_column=columns.label,
            image_column=columns.image,
            id_column=id_column,
            annotators=columns.annotators,
        )
        if not base or table.embedded:
            return table
        moved = {
            name: [text if not text or ABSOLUTE.match(text) else base + text for text in texts]
            for name, texts in table.ids.items()
        }
        return replace(table, ids=moved)

    if expand_range(path) or suffix_of(path.name) in LISTED:
        return _listed(path, columns, split)
    if not path.exists():
        raise SourceError(f"{path} does not exist; check the path of the labels")
    if not path.is_dir():
        file = read(path)
        stems = {path.stem: [0]} if file.format == "parquet" else {}
        return OpenedLabels(path, (file,), (), file.splits, split, stems)
    files = FileTree(path).walk()
    images = [name for name in files if suffix_of(name) in IMAGE_SUFFIXES]
    if not images and any(suffix_of(name) in LISTED for name in files):
        return _listed(path, columns, split)
    if not images:
        return _open_shards(
            path, [name for name in files if suffix_of(name) == "parquet"], read, split
        )
    base = ""
    metadata = [name for name in METADATA_FILES if name in files]
    if not metadata and (splits := split_folders(images)):
        tops = {name.partition("/")[0] for name in ids}
        if split is None and len(tops) == 1:
            split = next(iter(tops.intersection(splits)), None)
        split = choose_split(splits, split, path, [])
        base = f"{split}/"
        metadata = [base + name for name in METADATA_FILES if base + name in files]
    if metadata:
        file = read(path / metadata[0], base)
        return OpenedLabels(path, (file,), (), file.splits, None if base else split)
    columns.refuse(f"{path} is read as one subfolder per class")
    return _listed(path, columns, split)


def _manifest(path: Path, columns: Columns, split: str | None) -> Manifest:
    """Return the samples and labels of a source of images, or of Arrow files without images."""
    try:
        return read_source(
            path,
            image_column=columns.image,
            label_column=columns.label,
            split=split,
            require_labels=False,
        ).manifest
    except SourceError:
        if expand_range(path) or suffix_of(path.name) == "tar":
            raise
        try:
            return read_rows(path, replace(columns, image=None), split).manifest
        except SourceError:
            pass
        raise


def _listed(path: Path, columns: Columns, split: str | None) -> OpenedLabels:
    """Return the labels of a source that has no table; corrected labels are written as one."""
    found = _manifest(path, columns, split)
    names = (*found.class_names, "")
    listed = LabelFile(
        path=path,
        format="csv",
        label_column="label",
        labels=[names[number] for number in found.noisy_labels],
        ids={"path": found.sample_ids.tolist()},
        splits=None,
        declared=found.class_names,
        verified_column=None,
        verified=[""] * found.num_samples,
        yes=YES,
        first_column=None,
        first=[""] * found.num_samples,
        listed=True,
    )
    return OpenedLabels(path, (listed,))


def _open_shards(
    path: Path, shards: Sequence[str], read: Callable[[Path, str], LabelFile], split: str | None
) -> OpenedLabels:
    """Read the parquet files of a folder. Rows of different splits are named independently."""
    if not shards:
        raise SourceError(
            f"{path} contains neither images nor parquet files; give the table of labels"
        )
    files = []
    for shard in shards:
        base = shard.rpartition("/")[0]
        files.append(read(path / shard, f"{base}/" if base else ""))
    split_of = shard_splits(list(shards))
    for group in dict.fromkeys(split_of.get(shard, "") for shard in shards):
        members = [i for i, shard in enumerate(shards) if split_of.get(shard, "") == group]
        together = vote_together([files[i] for i in members], str(path))
        for i, file in zip(members, together, strict=True):
            files[i] = file
    splits: list[str] | None = None
    if len(set(split_of.values())) > 1:
        splits = [
            split_of[shard] for shard, file in zip(shards, files, strict=True) for _ in file.labels
        ]
    elif any(file.splits is not None for file in files):
        splits = [text for file in files for text in file.splits or [""] * len(file.labels)]
    stems: dict[str, list[int]] = {}
    for group in dict.fromkeys(split_of.get(shard, "") for shard in shards):
        members = [i for i, shard in enumerate(shards) if split_of.get(shard, "") == group]
        called = [PurePosixPath(shards[i]).stem for i in members]
        if len(set(called)) < len(called):
            called = [str(PurePosixPath(shards[i]).with_suffix("")) for i in members]
        for stem, number in zip(called, members, strict=True):
            stems.setdefault(stem, []).append(number)
    return OpenedLabels(path, tuple(files), tuple(shards), splits, split, stems)

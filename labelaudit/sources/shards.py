"""Parquet files that hold the images, in Hugging Face's schema, or name them."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from labelaudit.images.containers import Indices, ParquetImages
from labelaudit.sources.cells import Columns
from labelaudit.sources.classes import make_source, text_array
from labelaudit.sources.file_tree import FileTree, source_name
from labelaudit.sources.image_tables import source_of_rows
from labelaudit.sources.label_tables import LabelTable, concatenate, read_table
from labelaudit.sources.manifest import Source
from labelaudit.sources.splits import choose_split, rows_of_split, shard_splits


def read_shards(
    source: Path, root: Path, shards: list[str], columns: Columns, split: str | None
) -> Source:
    """Read parquet files as one source.

    Parameters
    ----------
    source : Path
        The path that the user gave, which names the source.
    root : Path
        The folder that the paths of the shards are relative to.
    shards : list of str
        The files, of one split or of several.
    columns : Columns
        The requested columns.
    split : str, or None
        Which split to read.

    Raises
    ------
    SourceError
        There is no such split, or a file is not a table of images and labels.
    """
    warnings: list[str] = []
    split_of = shard_splits(shards)
    splits = sorted(set(split_of.values()))
    if len(splits) > 1:
        chosen = choose_split(splits, split, source, warnings)
        shards = [shard for shard in shards if split_of[shard] == chosen]
        split = None
    tables = []
    for shard in shards:
        base = shard.rpartition("/")[0]
        table = read_table(root / shard, columns)
        tables.append(table if table.embedded else table.moved_into(f"{base}/" if base else ""))
    table = concatenate(tables)
    if table.splits is None and split in splits:
        split = None  # the one file is that split
    rows = rows_of_split(table, split, warnings)
    if table.embedded is None:
        return source_of_rows(source, FileTree(root), table, rows, warnings)
    indices = np.flatnonzero(rows)
    return make_source(
        name=source_name(source),
        where=str(source),
        ids=_embedded_ids(source, shards, table, indices),
        paths=text_array([""] * len(indices)),
        images=ParquetImages(
            table.files, table.embedded, table.file_of[indices], table.rows[indices]
        ),
        labels=[table.labels[i] for i in indices],
        clean=None if table.clean is None else [table.clean[i] for i in indices],
        marks=None if table.marks is None else [table.marks[i] for i in indices],
        first=None if table.first is None else [table.first[i] for i in indices],
        declared=table.declared,
        warnings=warnings,
    )


def _embedded_ids(
    source: Path, shards: Sequence[str], table: LabelTable, indices: Indices
) -> list[str]:
    names = [table.images[i].replace("\\", "/") for i in indices]
    if all(names) and len(set(names)) == len(names):
        return names
    if source.is_file():
        return [str(row) for row in table.rows[indices]]
    stems = [PurePosixPath(shard).stem for shard in shards]
    if len(set(stems)) < len(stems):  # data/a/0.parquet, data/b/0.parquet
        stems = [str(PurePosixPath(shard).with_suffix("")) for shard in shards]
    return [f"{stems[table.file_of[i]]}:{table.rows[i]}" for i in indices]

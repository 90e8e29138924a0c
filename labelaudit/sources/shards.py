"""Files that hold images and labels, or name the images: parquet, Arrow, and tar of WebDataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from labelaudit.files import suffix_of
from labelaudit.images.containers import Images, Indices, ParquetImages
from labelaudit.images.tar_images import TarImages
from labelaudit.sources.arrow_tables import images_of_arrow
from labelaudit.sources.cells import ID_COLUMNS, Columns
from labelaudit.sources.classes import make_source, text_array
from labelaudit.sources.file_tree import FileTree, source_name
from labelaudit.sources.image_tables import source_of_rows
from labelaudit.sources.label_tables import LabelTable, concatenate, read_table
from labelaudit.sources.manifest import Source
from labelaudit.sources.shard_labels import relabel
from labelaudit.sources.splits import choose_split, rows_of_split, shard_splits
from labelaudit.sources.tar_shards import TarIndex, columns_of_tar, index_tar


def read_shards(
    source: Path,
    root: Path,
    shards: list[str],
    columns: Columns,
    split: str | None,
    split_of: Mapping[str, str] | None = None,
    labels: Path | None = None,
) -> Source:
    """Read parquet, Arrow or tar files as one source.

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
    split_of : mapping of str to str, optional
        The split of each shard. By default what the names of the shards say.
    labels : Path, optional
        A table of labels, whose ids are those of the samples. By default the shards hold the labels.

    Raises
    ------
    SourceError
        There is no such split, or a file is not a table of images and labels.
    """
    split_of = shard_splits(shards) if split_of is None else split_of
    if labels is None:
        return _read(source, root, shards, columns, split, split_of, require_classes=True)
    table = read_table(labels, columns, ID_COLUMNS)
    none = Columns(None, None, None)
    own = _read(source, root, shards, none, split, split_of, require_classes=False)
    return relabel(own, table, split, source)


def _read(
    source: Path,
    root: Path,
    shards: list[str],
    columns: Columns,
    split: str | None,
    split_of: Mapping[str, str],
    require_classes: bool,
) -> Source:
    """Read shards with their own labels."""
    warnings: list[str] = []
    splits = sorted(set(split_of.values()))
    if len(splits) > 1:
        chosen = choose_split(splits, split, source, warnings)
        shards = [shard for shard in shards if split_of[shard] == chosen]
        split = None
    tables, tars = [], list[TarIndex]()
    for shard in shards:
        base = shard.rpartition("/")[0]
        if suffix_of(shard) == "tar":
            tars.append(index_tar(root / shard, columns))
            asked = columns_of_tar(columns, tars[-1].cells)
            tables.append(read_table(tars[-1].cells, asked))
            warnings += tars[-1].warnings
            continue
        table = read_table(root / shard, columns, named=source)
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
        ids=ids_of_rows(source, shards, table, indices),
        paths=text_array([""] * len(indices)),
        images=_embedded_images(table, table.embedded, tars, indices),
        labels=[table.labels[i] for i in indices],
        clean=None if table.clean is None else [table.clean[i] for i in indices],
        marks=None if table.marks is None else [table.marks[i] for i in indices],
        first=None if table.first is None else [table.first[i] for i in indices],
        votes=None if table.votes is None else table.votes.rows(indices.tolist()),
        declared=table.declared,
        warnings=warnings,
        require_classes=require_classes,
        hint="" if any(table.labels) else tars[0].without_labels if tars else "",
    )


def _embedded_images(
    table: LabelTable, column: str, tars: Sequence[TarIndex], indices: Indices
) -> Images:
    """Return the images that the rows at `indices` of a table hold themselves."""
    file_of, rows = table.file_of[indices], table.rows[indices]
    if tars:
        places = np.concatenate([tar.places for tar in tars])
        return TarImages(table.files, file_of, places[indices])
    if suffix_of(table.files[0].name) == "arrow":
        return images_of_arrow(table.files, column, file_of, rows)
    return ParquetImages(table.files, column, file_of, rows)


def ids_of_rows(
    source: Path, shards: Sequence[str], table: LabelTable, indices: Indices
) -> list[str]:
    """Return ids (M,) of the rows at `indices` of a table that was read from shards.

    They are the table's own if these are unique. Otherwise they say the row, and its shard.
    """
    names = [table.images[i].replace("\\", "/") for i in indices]
    if all(names) and len(set(names)) == len(names):
        return names
    if source.is_file():
        return [str(row) for row in table.rows[indices]]
    if suffix_of(shards[0]) == "arrow":  # the row in the data set of Hugging Face
        starts = np.searchsorted(table.file_of, table.file_of[indices])
        return [str(row) for row in starts + table.rows[indices]]
    stems = [PurePosixPath(shard).stem for shard in shards]
    if len(set(stems)) < len(stems):  # data/a/0.parquet, data/b/0.parquet
        stems = [str(PurePosixPath(shard).with_suffix("")) for shard in shards]
    return [f"{stems[table.file_of[i]]}:{table.rows[i]}" for i in indices]

"""Sources on disk: their files, their splits, and the label of each image.

A source is a folder with one subfolder per class or with a table of labels, or a table whose rows name
image files. It may also be parquet files in Hugging Face's schema. `read_source` finds its images and
labels without opening an image.
"""

from pathlib import Path

from labelaudit.errors import SourceError
from labelaudit.files import check_regular, exists, suffix_of
from labelaudit.images.containers import ImageFiles
from labelaudit.sources.arrow_datasets import find_arrow_splits
from labelaudit.sources.cells import IMAGE_COLUMNS, Columns
from labelaudit.sources.classes import make_source
from labelaudit.sources.file_tree import IMAGE_SUFFIXES, RESULTS_MARKER, FileTree, source_name
from labelaudit.sources.image_tables import source_of_rows
from labelaudit.sources.label_tables import LabelTable, read_table
from labelaudit.sources.manifest import Source
from labelaudit.sources.passed_over import (
    PassedOver,
    find_other_folders,
    find_passed_over,
    kinds_of,
)
from labelaudit.sources.shards import read_shards
from labelaudit.sources.splits import choose_split, rows_of_split, split_folders
from labelaudit.sources.table_formats import TABLE_FORMATS
from labelaudit.sources.table_kinds import advice_for_table
from labelaudit.sources.tar_shards import expand_range

# Suffixes of files that hold images and labels.
SHARDS = ("parquet", "arrow", "tar")
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def read_source(
    source: str | Path,
    labels: str | Path | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    verified_column: str | None = None,
    label_columns: tuple[str, ...] = (),
    require_labels: bool = True,
) -> Source:
    """Find the images and the labels of a source; no image is opened.

    Parameters
    ----------
    source : str or Path
        A folder of images: one subfolder per class, or with Hugging Face's metadata.csv (.jsonl,
        .parquet), or with `labels`. Or a table (CSV, TSV, JSONL, parquet) whose rows name image
        files relative to its folder. Or a parquet file, or a folder of them, that holds the
        images.
    labels : str or Path, optional
        A table of labels for a folder of images. Images without a row or without a label are used as
        unlabeled.
    image_column, label_column : str, optional
        Columns of the table. By default the first column named in `IMAGE_COLUMNS`, `LABEL_COLUMNS`.
    split : str, optional
        Which split to read if there are several: subfolders, shards or a column named
        "split". By default "train", with a warning.
    clean_label_column : str, optional
        Column of true labels, for benchmarks.
    verified_column : str, optional
        Column that says which labels a person has verified ("yes", "true", "1"), and which samples to
        leave out ("excluded"). Verified labels are taken as right. A column "first_label" holds the
        labels that were given to these samples at first.
    label_columns : tuple of str
        Columns of several annotators; see `labelaudit.sources.annotators`.
    require_labels : bool
        Whether a folder of images without a table is refused if it has fewer than two classes. Tables
        always need labels of two classes.

    Raises
    ------
    SourceError
        The source does not exist, cannot be read, contradicts itself, or has fewer than two classes.
    """
    path = Path(source)
    columns = Columns(
        image_column,
        label_column,
        clean_label_column,
        verified=verified_column,
        annotators=label_columns,
    )
    table = None if labels is None else Path(labels)
    if not exists(path):
        if shards := expand_range(path):
            names = [file.name for file in shards]
            return read_shards(path, path.parent, names, columns, split, labels=table)
        raise SourceError(f"{path} does not exist; check the path of the source")
    if path.is_dir():
        return _read_folder(path, table, columns, split, require_labels)
    check_regular(path)
    if suffix_of(path.name) in SHARDS:
        return read_shards(path, path.parent, [path.name], columns, split, labels=table)
    if labels is not None:
        raise SourceError(
            f"{labels}: a table of labels needs a folder of images, but {path} is a file; "
            "give its folder as the source, or leave the labels out"
        )
    return _read_lone_table(path, columns, split)


def _read_folder(
    path: Path, labels: Path | None, columns: Columns, split: str | None, require_labels: bool
) -> Source:
    if (path / RESULTS_MARKER).is_file():
        raise SourceError(
            f"{path} holds results of labelaudit ({RESULTS_MARKER}) and is no source; give the folder"
            " of the images"
        )
    folder = FileTree(path)
    files = folder.walk()
    images = [file for file in files if suffix_of(file) in IMAGE_SUFFIXES]
    if not images and (source := _read_shard_folder(path, files, columns, split, labels)):
        return source
    if not images and (labels is None or not files):
        there = f" ({kinds_of(files)})" if files else ""
        lone = [path / file for file in files if suffix_of(file) in TABLE_FORMATS]
        advice = advice_for_table(lone[0]) if len(lone) == 1 else ""
        raise SourceError(
            f"no image found in {path}{there}; looked for .png, .jpg and the like"
            f"{advice and '; '}{advice}"
        )
    warnings: list[str] = []
    if labels is not None:
        table = read_table(labels, columns)
        return _join_folder(path, folder, images, table, split, warnings)
    tables = [file for file in files if "/" not in file and suffix_of(file) in TABLE_FORMATS]
    metadata = [file for file in METADATA_FILES if file in tables]
    base = ""
    if not metadata and (splits := split_folders(images)):
        chosen = choose_split(splits, split, path, warnings)
        warnings += find_other_folders(folder, files, splits, chosen)
        base = f"{chosen}/"
        images = [file for file in images if file.startswith(base)]
        metadata = [file for file in METADATA_FILES if f"{base}{file}" in folder]
        split = None
    if metadata:
        table = read_table(path / base / metadata[0], columns, ("file_name", *IMAGE_COLUMNS))
        return _join_folder(path, folder, images, table.moved_into(base), split, warnings)
    if split is not None:
        choose_split([], split, path, warnings)
    columns.refuse(f"{path} is read as one subfolder per class")
    left = find_passed_over(folder, files, base)
    left.warnings[:0] = warnings
    return _from_class_folders(path, folder, images, base, tables, left, require_labels)


def _read_shard_folder(
    path: Path, files: list[str], columns: Columns, split: str | None, labels: Path | None
) -> Source | None:
    """Read a folder of parquet, Arrow or tar files; None if there are none."""
    if splits := find_arrow_splits(path, files):
        split_of = {file: name for name, group in splits.items() for file in group if name}
        shards = [file for group in splits.values() for file in group]
        return read_shards(path, path, shards, columns, split, split_of, labels)
    for suffix in SHARDS:
        shards = [file for file in files if suffix_of(file) == suffix]
        if shards:
            return read_shards(path, path, shards, columns, split, labels=labels)
    return None


def _from_class_folders(
    path: Path,
    folder: FileTree,
    images: list[str],
    base: str,
    tables: list[str],
    left: PassedOver,
    require_labels: bool,
) -> Source:
    labels = []
    for file in images:
        first, nested, _ = file[len(base) :].partition("/")
        labels.append(first if nested else "")
    hint = "sort them into one subfolder per class, or give a table of labels"
    if tables:
        hint = (
            f"the folder holds {tables[0]}: if this is the table of labels, give it as the labels"
        )
    paths = folder.open_paths(images)
    return make_source(
        name=source_name(path),
        where=str(path / base),
        ids=images,
        paths=paths,
        images=ImageFiles(paths),
        labels=labels,
        warnings=[*left.warnings, *folder.warnings()],
        skipped=[*left.rows, *folder.skipped],
        hint=hint,
        require_classes=require_labels,
    )


def _join_folder(
    path: Path,
    folder: FileTree,
    images: list[str],
    table: LabelTable,
    split: str | None,
    warnings: list[str],
) -> Source:
    """Join a table of labels to the images of a folder; those without a row are unlabeled."""
    within = ""
    if split is not None and table.splits is None:
        within = choose_split(split_folders(images), split, path, warnings) + "/"
        split = None
    rows = rows_of_split(table, split, warnings)
    return source_of_rows(path, folder, table, rows, warnings, images, within)


def _read_lone_table(path: Path, columns: Columns, split: str | None) -> Source:
    if suffix_of(path.name) in IMAGE_SUFFIXES:
        raise SourceError(f"{path} is a single image; give the folder that contains it")
    table = read_table(path, columns, split=split)
    warnings: list[str] = []
    rows = rows_of_split(table, split, warnings)
    return source_of_rows(path, FileTree(path.parent), table, rows, warnings)

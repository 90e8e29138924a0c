"""Sources on disk: which files there are, which splits, and which label belongs to which image.

A source is a folder (one subfolder a class, or with a table of labels), a table whose rows name
image files, or parquet files in Hugging Face's schema. `read_source` finds its images and labels
without opening an image; how a table is read is `labelaudit.sources.label_tables`'s matter.
"""

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError
from labelaudit.images.containers import ImageFiles, Indices, ParquetImages
from labelaudit.sources.label_tables import (
    IMAGE_COLUMNS,
    TABLE_SUFFIXES,
    VERIFIED_COLUMN,
    Columns,
    LabelTable,
    concatenate,
    read_table,
    suffix_of,
)
from labelaudit.sources.manifest import Source, Texts, count, make_source, some, text_array

IMAGE_SUFFIXES = frozenset({
    "apng", "avif", "bmp", "dib", "gif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg",
    "pbm", "pcx", "pgm", "png", "pnm", "ppm", "sgi", "tga", "tif", "tiff", "webp",
})  # fmt: skip
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
_SHARD_OF_MANY = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
_SHARD_NAMED = re.compile(rf"(?P<split>{'|'.join(SPLIT_NAMES)})(?=[-_.\d]|$)", re.IGNORECASE)

_WINDOWS_ROOT = re.compile(r"[A-Za-z]:/|//")


def read_source(
    source: str | Path,
    labels: str | Path | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
    verified_column: str | None = None,
    require_labels: bool = True,
) -> Source:
    """Find the images and the labels of a source; no image is opened.

    Parameters
    ----------
    source : str or Path
        A folder of images: one subfolder a class, or with Hugging Face's metadata.csv (.jsonl,
        .parquet), or with `labels`. Or a table (CSV, TSV, JSONL, parquet) whose rows name image
        files relative to its folder. Or a parquet file, or a folder of them, that holds the
        images.
    labels : str or Path, optional
        A table of labels for a folder of images. Images without a row, or whose label is empty,
        are unlabeled and stay in.
    image_column, label_column : str, optional
        Columns of the table; by default the first there of `IMAGE_COLUMNS`, `LABEL_COLUMNS`.
    split : str, optional
        Which split to read where there are several: subfolders, shards or a column named
        "split". By default "train", with a warning.
    clean_label_column : str, optional
        Column of true labels, for benchmarks.
    verified_column : str, optional
        Column that says which labels a person has verified ("yes", "true", "1"), and which samples to
        leave out ("excluded"). Verified labels are taken as right. Where the table has a column
        "first_label", it says what they were at first.
    require_labels : bool
        Whether a folder of images, or of one subfolder a class, without labels or with those of one
        class is refused. Tables and metadata always need labels.

    Raises
    ------
    SourceError
        The source is not there, not readable, contradicts itself, or has fewer than two classes.
    """
    path = Path(source)
    columns = Columns(image_column, label_column, clean_label_column, verified=verified_column)
    if not path.exists():
        raise SourceError(f"{path} does not exist; check the path of the source")
    if path.is_dir():
        table = None if labels is None else Path(labels)
        return _read_folder(path, table, columns, split, require_labels)
    if labels is not None:
        raise SourceError(
            f"{labels}: a table of labels goes with a folder of images, and {path} is a file; "
            "give its folder as the source, or leave the labels out"
        )
    if suffix_of(path.name) == "parquet":
        return _read_shards(path, path.parent, [path.name], columns, split)
    return _read_lone_table(path, columns, split)


def source_name(source: str | Path) -> str:
    """Return what a source on disk is called: its folder's name, or its file's without suffix."""
    path = Path(source)
    resolved = path.resolve()
    return (resolved.name if path.is_dir() else resolved.stem) or "source"


# --- the files below a folder ------------------------------------------------------------------


class _Folder:
    """The visible files below a folder, each directory listed once, when first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # With and without symbolic links resolved: a table may have either.
        self._absolute = tuple(
            dict.fromkeys(p.as_posix().rstrip("/") for p in (root.absolute(), root.resolve()))
        )
        # Joined as text, for building a million Path objects takes seconds.
        self._prefix = str(root / "x")[:-1]
        self._files: dict[str, frozenset[str]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}
        self.unnameable: list[tuple[str, str, str]] = []

    def walk(self) -> list[str]:
        """Return all visible files as sorted relative paths; linked folders are followed once."""
        files: list[str] = []
        seen: set[tuple[int, int]] = set()
        directories, links = [""], list[str]()
        while directories or links:
            # Links last, so that a folder is found where it is, not where a link shows it.
            directory = directories.pop() if directories else links.pop()
            status = (self.root / directory).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            below, linked = self._list(directory)
            directories += below
            links += sorted(linked, reverse=True)
            base = f"{directory}/" if directory else ""
            files += [base + name for name in self._files[directory]]
        return sorted(files)

    def _list(self, directory: str) -> tuple[list[str], list[str]]:
        """List a directory's files into `_files`; return its subfolders and its linked ones."""
        base = f"{directory}/" if directory else ""
        names, below, linked = list[str](), list[str](), list[str]()
        try:
            with os.scandir(self.root / directory) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith("."):
                        continue
                    if not (name.isascii() or _is_utf8(name)):
                        # It could not be written into any result, nor named in a table.
                        shown = os.fsencode(base + name).decode("utf-8", "backslashreplace")
                        reason = "the file's name is not UTF-8; rename it"
                        self.unnameable.append((shown, self._prefix + shown, reason))
                    elif entry.is_dir():
                        (linked if entry.is_symlink() else below).append(base + name)
                    elif entry.is_file() or entry.is_symlink():
                        names.append(name)  # a broken link is reported as an unreadable image
        except OSError as error:
            raise SourceError(
                f"the folder {self.root / directory} cannot be read: {error.strerror}"
            ) from error
        self._files[directory] = frozenset(names)
        return below, linked

    def _files_in(self, directory: str) -> frozenset[str]:
        if directory not in self._files:
            hidden = any(part.startswith(".") for part in directory.split("/"))
            try:
                there = not hidden and (self.root / directory).is_dir()
            except OSError:  # a cell of prose, say, too long to be a path
                there = False
            if there:
                self._list(directory)
            else:
                self._files[directory] = frozenset()
        return self._files[directory]

    def __contains__(self, file: str) -> bool:
        directory, _, name = file.rpartition("/")
        return name in self._files_in(directory)

    def any_image(self) -> str | None:
        """Return an image of those seen, for an example in a message."""
        for directory in sorted({"", *self._files}):
            for name in sorted(self._files_in(directory)):
                if suffix_of(name) in IMAGE_SUFFIXES:
                    return f"{directory}/{name}" if directory else name
        return None

    def find(self, file: str) -> tuple[str, str]:
        """Return the file that a table means by a relative path, or "" and the reason why not."""
        if file in self:
            return file, ""
        directory, _, stem = file.rpartition("/")
        if suffix_of(stem) not in IMAGE_SUFFIXES:
            names = self._stems_in(directory).get(stem, [])
            base = f"{directory}/" if directory else ""
            if len(names) == 1:
                return base + names[0], ""
            if names:
                return "", f"several images could be meant: {', '.join(names)}"
        return "", "no such image in the folder"

    def _stems_in(self, directory: str) -> dict[str, list[str]]:
        if directory not in self._stems:
            stems: dict[str, list[str]] = {}
            for name in sorted(self._files_in(directory)):
                stem, _, suffix = name.rpartition(".")
                if suffix.lower() in IMAGE_SUFFIXES:
                    stems.setdefault(stem, []).append(name)
            self._stems[directory] = stems
        return self._stems[directory]

    def relative(self, path: str) -> str | None:
        """Return a table's path, with forward slashes, relative to the folder; None outside it."""
        plain = posixpath.normpath(path)
        for root in self._absolute:
            if plain.startswith(f"{root}/"):
                return plain[len(root) + 1 :]
        if plain.startswith(("/", "../")) or plain == ".." or _WINDOWS_ROOT.match(plain):
            return None
        return plain

    def unnameable_warning(self) -> list[str]:
        """Return one line on the files whose names cannot be written, or none."""
        if not self.unnameable:
            return []
        names = [file for file, _, _ in self.unnameable]
        return [f"{count(names, 'file', 'files')} left out, the name is not UTF-8: {some(names)}"]

    def open_paths(self, files: Sequence[str]) -> Texts:
        """Return the paths (N,) that open these files."""
        return text_array([self._prefix + file.replace("/", os.sep) for file in files])


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- folders of images -------------------------------------------------------------------------


def _read_folder(
    path: Path, labels: Path | None, columns: Columns, split: str | None, require_labels: bool
) -> Source:
    folder = _Folder(path)
    files = folder.walk()
    images = [file for file in files if suffix_of(file) in IMAGE_SUFFIXES]
    if not images and (labels is None or not files):
        shards = [file for file in files if suffix_of(file) == "parquet"]
        if labels is None and shards:
            return _read_shards(path, path, shards, columns, split)
        raise SourceError(f"no image found in {path}; looked for .png, .jpg and the like")
    warnings: list[str] = []
    if labels is not None:
        table = read_table(labels, columns)
        return _join_folder(path, folder, images, table, split, warnings)
    tables = [file for file in files if "/" not in file and suffix_of(file) in TABLE_SUFFIXES]
    metadata = [file for file in METADATA_FILES if file in tables]
    base = ""
    if not metadata and (splits := _split_folders(images)):
        chosen = _choose_split(splits, split, path, warnings)
        base = f"{chosen}/"
        images = [file for file in images if file.startswith(base)]
        metadata = [file for file in METADATA_FILES if f"{base}{file}" in folder]
        split = None
    if metadata:
        table = read_table(path / base / metadata[0], columns, ("file_name", *IMAGE_COLUMNS))
        return _join_folder(path, folder, images, table.moved_into(base), split, warnings)
    if split is not None:
        _choose_split([], split, path, warnings)
    columns.refuse(f"{path} is read as one subfolder a class")
    return _from_class_folders(path, folder, images, base, tables, warnings, require_labels)


def _from_class_folders(
    path: Path,
    folder: _Folder,
    images: list[str],
    base: str,
    tables: list[str],
    warnings: list[str],
    require_labels: bool,
) -> Source:
    labels = []
    for file in images:
        first, nested, _ = file[len(base) :].partition("/")
        labels.append(first if nested else "")
    hint = "sort them into one subfolder a class, or give a table of labels"
    if tables:
        hint = f"should {tables[0]}, which lies there, be given as the labels?"
    paths = folder.open_paths(images)
    return make_source(
        name=source_name(path),
        where=str(path / base),
        ids=images,
        paths=paths,
        images=ImageFiles(paths),
        labels=labels,
        warnings=[*warnings, *folder.unnameable_warning()],
        skipped=folder.unnameable,
        hint=hint,
        require_classes=require_labels,
    )


def _join_folder(
    path: Path,
    folder: _Folder,
    images: list[str],
    table: LabelTable,
    split: str | None,
    warnings: list[str],
) -> Source:
    """Join a table of labels to the images of a folder; those without a row are unlabeled."""
    within = ""
    if split is not None and table.splits is None:
        within = _choose_split(_split_folders(images), split, path, warnings) + "/"
        split = None
    rows = rows_of_split(table, split, warnings)
    return _from_table(path, folder, table, rows, warnings, images, within)


# --- tables whose rows name image files --------------------------------------------------------


def _read_lone_table(path: Path, columns: Columns, split: str | None) -> Source:
    if suffix_of(path.name) in IMAGE_SUFFIXES:
        raise SourceError(f"{path} is a single image; give the folder that it lies in")
    table = read_table(path, columns)
    warnings: list[str] = []
    rows = rows_of_split(table, split, warnings)
    return _from_table(path, _Folder(path.parent), table, rows, warnings)


def _from_table(
    source: Path,
    folder: _Folder,
    table: LabelTable,
    chosen: npt.NDArray[np.bool_],
    warnings: list[str],
    images: list[str] | None = None,
    within: str = "",
) -> Source:
    """Join the chosen rows to the files they name.

    With `images`, the folder's, all of them below `within` are samples, sorted, but for those
    that only rows not chosen name; without, the rows are the samples, in their order.
    """
    found, missing = _locate(table, folder)
    first: dict[str, int] = {}  # file -> its row
    elsewhere: set[str] = set()
    repeated: list[str] = []
    for row, file in enumerate(found):
        if not file:
            continue
        if not chosen[row] or not file.startswith(within):
            elsewhere.add(file)
            continue
        kept = first.setdefault(file, row)
        if kept != row:
            _refuse_contradiction(table, file, kept, row)
            repeated.append(file)
    skipped = [
        (file, folder.open_paths([file])[0] if file else "", reason)
        for row, (file, reason) in missing.items()
        if chosen[row] and file.startswith(within)
    ]
    if not first:
        raise SourceError(_nothing_matches(table, chosen, folder))
    if repeated:
        warnings.append(
            f"{count(repeated, 'row', 'rows')} in {table.where} repeat another: "
            f"{some(list(dict.fromkeys(repeated)))}; each image is kept once"
        )
    if skipped:
        warnings.append(
            f"{count(skipped, 'label', 'labels')} in {table.where} left out, the image is not "
            f"there: {some([file for file, _, _ in skipped])}"
        )
    samples = list(first)
    if images is not None:
        below = {file for file in images if file.startswith(within)}
        samples = sorted((below - elsewhere) | first.keys())
    rows = [first.get(file) for file in samples]
    clean, marks, given = table.clean, table.marks, table.first
    paths = folder.open_paths(samples)
    return make_source(
        name=source_name(source),
        where=table.where,
        ids=samples,
        paths=paths,
        images=ImageFiles(paths),
        labels=["" if row is None else table.labels[row] for row in rows],
        clean=None if clean is None else ["" if row is None else clean[row] for row in rows],
        marks=None if marks is None else ["" if row is None else marks[row] for row in rows],
        first=None if given is None else ["" if row is None else given[row] for row in rows],
        declared=table.declared,
        warnings=[*warnings, *folder.unnameable_warning()],
        skipped=[*folder.unnameable, *skipped],
    )


def _locate(table: LabelTable, folder: _Folder) -> tuple[list[str], dict[int, tuple[str, str]]]:
    """Find each row's file: its relative path, "" where it is missing; and why those are.

    A Windows path of another machine is found by its tail, where just one tail is a file here.
    What then stands before it is taken as the folder's place there, so that other paths below
    that place are missing images and not paths that leave the folder.
    """
    found = [""] * len(table.images)
    missing: dict[int, tuple[str, str]] = {}
    foreign: list[int] = []
    places: set[str] = set()
    for row, text in enumerate(table.images):
        path = text.replace("\\", "/")
        relative = folder.relative(path)
        if path != path.strip() and (relative is None or relative not in folder):
            path = path.strip()
            relative = folder.relative(path)
        if not path:
            missing[row] = ("", f"{table.place(row)} names no image")
        elif relative is not None:
            found[row], reason = folder.find(relative)
            if reason:
                missing[row] = (relative, reason)
        elif _WINDOWS_ROOT.match(path) and ".." not in path.split("/"):
            parts = path.split("/")
            tails = ["/".join(parts[start:]) for start in range(1, len(parts))]
            here = [tail for tail in tails if tail and tail in folder]
            if len(here) > 1:
                raise SourceError(
                    f'{table.place(row)}: the path "{text}" could mean {some(here)}; '
                    "write paths relative to the folder"
                )
            if here:
                found[row] = here[0]
                places.add(path[: -len(here[0])])
            else:
                foreign.append(row)
        else:
            raise _leaves_folder(table, row, folder)
    for row in foreign:
        path = table.images[row].replace("\\", "/").strip()
        place = next((place for place in sorted(places) if path.startswith(place)), None)
        if place is None:
            raise _leaves_folder(table, row, folder)
        missing[row] = (path[len(place) :], "no such image in the folder")
    return found, missing


def _leaves_folder(table: LabelTable, row: int, folder: _Folder) -> SourceError:
    return SourceError(
        f'{table.place(row)}: the path "{table.images[row]}" leaves the folder {folder.root}; '
        "write paths relative to it"
    )


def _refuse_contradiction(table: LabelTable, file: str, kept: int, row: int) -> None:
    for what, texts in (
        ("label", table.labels),
        ("clean label", table.clean),
        ("verified mark", table.marks),
        ("first label", table.first),
    ):
        if texts is not None and texts[kept] != texts[row]:
            one, other = (f'"{texts[i]}"' if texts[i] else "none" for i in (kept, row))
            raise SourceError(
                f'"{file}" has two {what}s: {one} in {table.place(kept)} and {other} in '
                f"{table.place(row)}; keep one of the rows"
            )


def _nothing_matches(table: LabelTable, chosen: npt.NDArray[np.bool_], folder: _Folder) -> str:
    named = table.images[int(np.flatnonzero(chosen)[0])]
    there = folder.any_image()
    example = f'e.g. "{there}"' if there else "no image"
    return (
        f"none of the images that {table.where} names is in {folder.root}: the table has e.g. "
        f'"{named}", the folder {example}; paths are relative to the folder'
    )


# --- parquet files that hold the images, or name them ------------------------------------------


def _read_shards(
    source: Path, root: Path, shards: list[str], columns: Columns, split: str | None
) -> Source:
    """Read parquet files, paths relative to `root`, as one source."""
    warnings: list[str] = []
    split_of = _shard_splits(shards)
    splits = sorted(set(split_of.values()))
    if len(splits) > 1:
        chosen = _choose_split(splits, split, source, warnings)
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
        return _from_table(source, _Folder(root), table, rows, warnings)
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


# --- splits of one data set --------------------------------------------------------------------


def _choose_split(
    there: Sequence[str], split: str | None, where: Path | str, warnings: list[str]
) -> str:
    """Return the split to read, warning where it was a choice; SourceError where there is none."""
    if split is not None:
        if split in there:
            return split
        known = f"splits there: {', '.join(there)}" if there else "it has no splits"
        raise SourceError(f'{where} has no split "{split}"; {known}')
    if len(there) == 1:
        return there[0]
    for default in ("train", "training"):
        if default in there:
            others = ", ".join(name for name in there if name != default)
            warnings.append(
                f'{where}: read the split "{default}" only, not {others}; '
                "choose with split (--split)"
            )
            return default
    raise SourceError(
        f"{where} has several splits, none of them train: {', '.join(there)}; "
        "choose one with split (--split)"
    )


def rows_of_split(
    table: LabelTable, split: str | None, warnings: list[str]
) -> npt.NDArray[np.bool_]:
    """Return the mask (R,) of the rows to read; warn where labels are verified and nobody asked."""
    if table.marks_passed_over:
        warnings.append(
            f"{table.where} says which labels are verified, and that is passed over; take them as right"
            f" with verified_column (--verified-column {VERIFIED_COLUMN})"
        )
    there = sorted(set(table.splits or ()) - {""})
    if not there and split is None:
        return np.ones(len(table.labels), bool)
    chosen = _choose_split(there, split, table.where, warnings)
    assert table.splits is not None
    return np.array([name == chosen for name in table.splits], bool)


def _split_folders(images: Iterable[str]) -> list[str]:
    """Return the top folders that are splits of one data set, [] where they are classes.

    They are where all of them are named as splits, or at least two are that hold nothing but
    subfolders: among vehicles, "train" may be a class.
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


def _shard_splits(shards: Sequence[str]) -> dict[str, str]:
    """Return the split of each shard; {} where none is named as one: then they are one whole."""
    splits = {}
    for shard in shards:
        path = PurePosixPath(shard)
        match = _SHARD_OF_MANY.fullmatch(path.stem) or _SHARD_NAMED.match(path.stem)
        if match:
            splits[shard] = match["split"]
        elif path.parent.name.lower() in SPLIT_NAMES:
            splits[shard] = path.parent.name
    return {shard: splits.get(shard, PurePosixPath(shard).stem) for shard in shards if splits}

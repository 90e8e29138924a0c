"""Any source of images and labels -> `Manifest`: ids, labels, classes, and where the images lie.

A source is a folder (one subfolder a class, or with a table of labels), a table whose rows name
image files, parquet files in Hugging Face's schema, or arrays. Whatever it is, labels pass
through here as text, exactly as written, and become class numbers in one place (`_encode`). Only
an empty cell means unlabeled: "NA", "null" and "001" are names.

Clean labels, where a source has them, stay outside the manifest, so that they cannot reach
training.
"""

import csv
import hashlib
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labelaudit.data.images import ImageArrays, ImageFiles, Images, Indices, ParquetImages
from labelaudit.errors import SourceError

__all__ = [
    "UNLABELED",
    "ImageArrays",
    "ImageFiles",
    "Images",
    "Manifest",
    "ParquetImages",
    "Source",
    "check_trainable",
    "read_source",
    "source_from_arrays",
]

UNLABELED = -1

# Tried in this order, whatever their case.
IMAGE_COLUMNS = ("path", "file_name", "filename", "image", "file", "id")
LABEL_COLUMNS = ("label", "class", "target", "category")
SPLIT_COLUMN = "split"

IMAGE_SUFFIXES = frozenset({
    "apng", "avif", "bmp", "dib", "gif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg",
    "pbm", "pcx", "pgm", "png", "pnm", "ppm", "sgi", "tga", "tif", "tiff", "webp",
})  # fmt: skip
TABLE_SUFFIXES = ("csv", "tsv", "jsonl", "ndjson", "parquet")
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
_SHARD_OF_MANY = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
_SHARD_NAMED = re.compile(rf"(?P<split>{'|'.join(SPLIT_NAMES)})(?=[-_.\d]|$)", re.IGNORECASE)

_WINDOWS_ROOT = re.compile(r"[A-Za-z]:/|//")
_INTEGER = re.compile(r"-?[0-9]{1,18}")

Texts = npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Manifest:
    """What there is to audit: N images in a fixed order, and the labels given to them.

    Attributes
    ----------
    name : str
        The source's name, a folder's or a file's stem.
    sample_ids : array (N,) object of str
        Unique; for files the path relative to the source, with forward slashes.
    paths : array (N,) object of str
        Path of the file as a person would open it; "" where the image lies in a table or array.
    noisy_labels : array (N,) int64
        The given labels, indices into `class_names`; `UNLABELED` where there is none.
    class_names : tuple of str
        Names of the C classes.
    images : Images
        The images themselves, read only when asked for.
    """

    name: str
    sample_ids: Texts
    paths: Texts
    noisy_labels: Indices
    class_names: tuple[str, ...]
    images: Images

    @property
    def num_samples(self) -> int:
        """How many images there are, labeled or not."""
        return len(self.sample_ids)

    @property
    def labeled(self) -> npt.NDArray[np.bool_]:
        """Mask (N,) bool of the images that have a label."""
        mask: npt.NDArray[np.bool_] = self.noisy_labels != UNLABELED
        return mask

    @property
    def num_labeled(self) -> int:
        """How many images have a label."""
        return int(np.count_nonzero(self.labeled))

    @property
    def num_classes(self) -> int:
        """How many classes there are, those without an image among them."""
        return len(self.class_names)

    def subset(self, keep: npt.NDArray[Any]) -> "Manifest":
        """Return the images that `keep` picks, with the same class names.

        Parameters
        ----------
        keep : array (M,) int or (N,) bool
            Indices in the order wanted, or a mask.
        """
        indices = _as_indices(keep, self.num_samples)
        return Manifest(
            name=self.name,
            sample_ids=self.sample_ids[indices],
            paths=self.paths[indices],
            noisy_labels=self.noisy_labels[indices],
            class_names=self.class_names,
            images=self.images.subset(indices),
        )

    def fingerprint(self) -> str:
        """Return a sha256 (hex) of ids, labels and class names, to notice changed data.

        The pixels are not part of it: reading them all only to refuse a resume costs too much.
        """
        texts = [list(self.class_names), self.sample_ids.tolist()]
        digest = hashlib.sha256(json.dumps(texts).encode())
        digest.update(self.noisy_labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Source:
    """A manifest, and what came with it that training must not or need not see.

    Attributes
    ----------
    manifest : Manifest
        What to audit.
    clean_labels : array (N,) object of str, or None
        The names of the true classes where the source has them, "" where unknown. They are names,
        not numbers, so that a class that no given label names adds nothing to `class_names`:
        training never learns of it.
    warnings : tuple of str
        One readable line each.
    skipped : DataFrame
        Labels and files that are not part of the manifest: columns sample_id, path, reason.
    """

    manifest: Manifest
    clean_labels: Texts | None
    warnings: tuple[str, ...]
    skipped: pd.DataFrame

    def subset(self, keep: npt.NDArray[Any]) -> "Source":
        """Return the images that `keep` picks: (M,) indices or an (N,) mask."""
        indices = _as_indices(keep, self.manifest.num_samples)
        clean = None if self.clean_labels is None else self.clean_labels[indices]
        return replace(self, manifest=self.manifest.subset(indices), clean_labels=clean)

    def without_unreadable(self, unreadable: Mapping[int, str]) -> "Source":
        """Return the images that could be read; the others are listed as skipped, with a warning.

        Parameters
        ----------
        unreadable : mapping of int to str
            Why an image could not be read, by its index.
        """
        gone = sorted(unreadable)
        manifest = self.manifest
        rows = pd.DataFrame(
            {
                "sample_id": manifest.sample_ids[gone],
                "path": manifest.paths[gone],
                "reason": [unreadable[index] for index in gone],
            },
            dtype=str,
        )
        examples = _some([str(name) for name in manifest.sample_ids[gone]])
        warning = f"{_count(gone, 'image', 'images')} could not be read and left out: {examples}"
        left = self.subset(np.delete(np.arange(manifest.num_samples), gone))
        return replace(
            left,
            warnings=(*self.warnings, warning),
            skipped=pd.concat([self.skipped, rows], ignore_index=True),
        )


def source_name(source: str | Path) -> str:
    """Return what a source on disk is called: its folder's name, or its file's without suffix."""
    return _name_of(Path(source))


def _as_indices(keep: npt.NDArray[Any], num_samples: int) -> Indices:
    chosen = np.asarray(keep)
    if chosen.dtype == np.bool_:
        assert chosen.shape == (num_samples,), (chosen.shape, num_samples)
        return np.flatnonzero(chosen).astype(np.int64)
    return chosen.astype(np.int64)


def read_source(
    source: str | Path,
    labels: str | Path | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    clean_label_column: str | None = None,
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

    Raises
    ------
    SourceError
        The source is not there, not readable, contradicts itself, or has fewer than two classes.
    """
    path = Path(source)
    columns = _Columns(image_column, label_column, clean_label_column)
    if not path.exists():
        raise SourceError(f"{path} does not exist; check the path of the source")
    if path.is_dir():
        return _read_folder(path, None if labels is None else Path(labels), columns, split)
    if labels is not None:
        raise SourceError(
            f"{labels}: a table of labels goes with a folder of images, and {path} is a file; "
            "give its folder as the source, or leave the labels out"
        )
    if _suffix(path.name) == "parquet":
        return _read_shards(path, path.parent, [path.name], columns, split)
    return _read_lone_table(path, columns, split)


def source_from_arrays(
    images: npt.ArrayLike,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    sample_ids: Sequence[str] | None = None,
    clean_labels: Any = None,
    name: str = "arrays",
) -> Source:
    """Make a source of images in memory.

    Parameters
    ----------
    images : array (N, H, W) or (N, H, W, C)
        uint8, or floats in [0, 1], which are rounded to uint8. C is 1, 3 or 4 (with alpha).
        An array of uint8 is not copied.
    labels : array or sequence (N,)
        Integers, -1 where unlabeled, or strings, "" or None where unlabeled.
    class_names : sequence of str, optional
        With integer labels the name of each class, in order; with strings the names allowed, in
        the order wanted. By default the labels themselves, sorted.
    sample_ids : sequence of str, optional
        Unique names of the images; by default their row numbers.
    clean_labels : array or sequence (N,), optional
        True labels, in the form of `labels`.
    name : str
        What to call the source.

    Raises
    ------
    SourceError
        Shapes, types or ranges do not fit, ids repeat, or fewer than two classes have labels.
    """
    pixels = _checked_pixels(np.asarray(images))
    total = len(pixels)
    declared = tuple(class_names or ())
    if len(set(declared)) < len(declared):
        raise SourceError(f"class_names repeat: {_some(_repeated(declared))}; make them unique")
    texts = _array_labels(labels, total, declared, "labels")
    clean = (
        None
        if clean_labels is None
        else _array_labels(clean_labels, total, declared, "clean_labels")
    )
    ids = [str(i) for i in (range(total) if sample_ids is None else sample_ids)]
    if len(ids) != total:
        raise SourceError(f"there are {len(ids)} sample_ids and {total} images; give one for each")
    if len(set(ids)) < total:
        raise SourceError(f"sample_ids repeat: {_some(_repeated(ids))}; make them unique")
    return _make_source(
        name=name,
        where=name,
        ids=ids,
        paths=_texts([""] * total),
        labels=texts,
        clean=clean,
        declared=declared,
        images=ImageArrays(pixels),
        warnings=[],
    )


def check_trainable(source: Source) -> Source:
    """Check that what is left after dropping unreadable images can be trained on.

    Parameters
    ----------
    source : Source
        With only the images that will be used.

    Returns
    -------
    Source
        The same with warnings added: classes with one labeled image or none, and class names
        that differ only in case or spaces.

    Raises
    ------
    SourceError
        No labeled image is left, or those left are all of one class.
    """
    manifest = source.manifest
    counts = _require_classes(manifest, manifest.name)
    names = np.array(manifest.class_names, dtype=object)
    added = []
    if (single := names[counts == 1].tolist()) != []:
        added.append(
            f"{_count(single, 'class has', 'classes have')} a single labeled image: "
            f"{_some(single)}; one image says little about a class"
        )
    if (none_left := names[counts == 0].tolist()) != []:
        added.append(
            f"{_count(none_left, 'class has', 'classes have')} no labeled image: {_some(none_left)}"
        )
    alike: dict[str, list[str]] = {}
    for class_name in manifest.class_names:
        alike.setdefault("".join(class_name.split()).casefold(), []).append(class_name)
    groups = [" / ".join(f'"{n}"' for n in group) for group in alike.values() if len(group) > 1]
    if groups:
        added.append(
            f"class names differ only in case or spaces: {_some(groups, quote=False)}; "
            "they are taken as different classes: rename them if they are not"
        )
    return replace(source, warnings=tuple(dict.fromkeys((*source.warnings, *added))))


# --- folders of images -------------------------------------------------------------------------


def _read_folder(path: Path, labels: Path | None, columns: "_Columns", split: str | None) -> Source:
    folder = _Folder(path)
    files = folder.walk()
    images = [file for file in files if _suffix(file) in IMAGE_SUFFIXES]
    if not images and (labels is None or not files):
        shards = [file for file in files if _suffix(file) == "parquet"]
        if labels is None and shards:
            return _read_shards(path, path, shards, columns, split)
        raise SourceError(f"no image found in {path}; looked for .png, .jpg and the like")
    if labels is not None:
        table = _pick_columns(_read_cells(labels, columns), columns)
        return _join_folder(path, folder, images, table, split)
    tables = [file for file in files if "/" not in file and _suffix(file) in TABLE_SUFFIXES]
    metadata = [file for file in METADATA_FILES if file in tables]
    warnings: list[str] = []
    base = ""
    if not metadata and (splits := _split_folders(images)):
        chosen = _choose_split(splits, split, path, warnings)
        base = f"{chosen}/"
        images = [file for file in images if file.startswith(base)]
        metadata = [file for file in METADATA_FILES if f"{base}{file}" in folder]
        split = None
    if metadata:
        cells = _read_cells(path / base / metadata[0], columns)
        table = _pick_columns(cells, columns, ("file_name", *IMAGE_COLUMNS)).moved_into(base)
        return _join_folder(path, folder, images, table, split, warnings)
    if split is not None:
        _choose_split([], split, path, warnings)
    columns.refuse(f"{path} is read as one subfolder a class")
    return _from_class_folders(path, folder, images, base, tables, warnings)


def _from_class_folders(
    path: Path,
    folder: "_Folder",
    images: list[str],
    base: str,
    tables: list[str],
    warnings: list[str],
) -> Source:
    labels = []
    for file in images:
        first, nested, _ = file[len(base) :].partition("/")
        labels.append(first if nested else "")
    hint = "sort them into one subfolder a class, or give a table of labels"
    if tables:
        hint = f"should {tables[0]}, which lies there, be given as the labels?"
    return _make_source(
        name=_name_of(path),
        where=str(path / base),
        ids=images,
        paths=folder.open_paths(images),
        labels=labels,
        warnings=warnings,
        skipped=folder.unnameable,
        hint=hint,
    )


def _join_folder(
    path: Path,
    folder: "_Folder",
    images: list[str],
    table: "_Table",
    split: str | None,
    warnings: list[str] | None = None,
) -> Source:
    """Join a table of labels to the images of a folder; those without a row are unlabeled."""
    warnings = [] if warnings is None else warnings
    within = ""
    if split is not None and table.splits is None:
        within = _choose_split(_split_folders(images), split, path, warnings) + "/"
        split = None
    rows = _rows_of_split(table, split, warnings)
    return _from_table(path, folder, table, rows, warnings, images, within)


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
                if _suffix(name) in IMAGE_SUFFIXES:
                    return f"{directory}/{name}" if directory else name
        return None

    def find(self, file: str) -> tuple[str, str]:
        """Return the file that a table means by a relative path, or "" and the reason why not."""
        if file in self:
            return file, ""
        directory, _, stem = file.rpartition("/")
        if _suffix(stem) not in IMAGE_SUFFIXES:
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

    def open_paths(self, files: Sequence[str]) -> Texts:
        """Return the paths (N,) that open these files."""
        if os.sep == "/":
            return _texts([self._prefix + file for file in files])
        return _texts([self._prefix + file.replace("/", os.sep) for file in files])


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def _name_of(path: Path) -> str:
    resolved = path.resolve()
    return (resolved.name if path.is_dir() else resolved.stem) or "source"


# --- tables whose rows name image files --------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """The columns asked for by name; None where they are to be recognized."""

    image: str | None
    label: str | None
    clean: str | None

    def may_be_needed(self, name: str) -> bool:
        known = (*IMAGE_COLUMNS, *LABEL_COLUMNS, SPLIT_COLUMN)
        return name in (self.image, self.label, self.clean) or name.strip().lower() in known

    def refuse(self, why: str) -> None:
        """Raise where a column was asked for and there is no table."""
        asked = {
            "image_column": self.image,
            "label_column": self.label,
            "clean_label_column": self.clean,
        }
        for option, value in asked.items():
            if value is not None:
                raise SourceError(
                    f'{option} is "{value}", but {why}, without a table; give the table too'
                )


@dataclass(frozen=True, eq=False)
class _Table:
    """Rows of labels, as text, from one file or several.

    `images` are paths as written; where the images lie in the table itself, `embedded` is their
    column and `images` what the table calls them, or "". `declared` are class names that the
    schema lists, in its order.
    """

    files: tuple[Path, ...]
    file_of: Indices  # (R,) index into files
    rows: Indices  # (R,) as a person counts them
    row_word: str
    images: list[str]
    labels: list[str]
    clean: list[str] | None
    splits: list[str] | None
    declared: tuple[str, ...]
    embedded: str | None = None

    @property
    def where(self) -> str:
        return str(self.files[0]) if len(self.files) == 1 else str(self.files[0].parent)

    def place(self, row: int) -> str:
        return f"{self.files[self.file_of[row]].name} {self.row_word} {self.rows[row]}"

    def moved_into(self, base: str) -> "_Table":
        """Return the table with relative paths below `base`, "" or a folder with its slash."""
        if not base:
            return self
        moved = [
            text if not text or re.match(r"[\\/]|[A-Za-z]:[\\/]", text) else base + text
            for text in self.images
        ]
        return replace(self, images=moved)


def _read_lone_table(path: Path, columns: _Columns, split: str | None) -> Source:
    if _suffix(path.name) in IMAGE_SUFFIXES:
        raise SourceError(f"{path} is a single image; give the folder that it lies in")
    table = _pick_columns(_read_cells(path, columns), columns)
    warnings: list[str] = []
    rows = _rows_of_split(table, split, warnings)
    return _from_table(path, _Folder(path.parent), table, rows, warnings)


def _rows_of_split(table: _Table, split: str | None, warnings: list[str]) -> npt.NDArray[np.bool_]:
    """Return the mask (R,) of the rows to read."""
    there = sorted(set(table.splits or ()) - {""})
    if not there and split is None:
        return np.ones(len(table.labels), bool)
    chosen = _choose_split(there, split, table.where, warnings)
    assert table.splits is not None
    return np.array([name == chosen for name in table.splits], bool)


def _from_table(
    source: Path,
    folder: _Folder,
    table: _Table,
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
            f"{_count(repeated, 'row', 'rows')} in {table.where} repeat another: "
            f"{_some(list(dict.fromkeys(repeated)))}; each image is kept once"
        )
    if skipped:
        warnings.append(
            f"{_count(skipped, 'label', 'labels')} in {table.where} left out, the image is not "
            f"there: {_some([file for file, _, _ in skipped])}"
        )
    samples = list(first)
    if images is not None:
        below = {file for file in images if file.startswith(within)}
        samples = sorted((below - elsewhere) | first.keys())
    rows = [first.get(file) for file in samples]
    clean = table.clean
    return _make_source(
        name=_name_of(source),
        where=table.where,
        ids=samples,
        paths=folder.open_paths(samples),
        labels=["" if row is None else table.labels[row] for row in rows],
        clean=None if clean is None else ["" if row is None else clean[row] for row in rows],
        declared=table.declared,
        warnings=warnings,
        skipped=[*folder.unnameable, *skipped],
    )


def _locate(table: _Table, folder: _Folder) -> tuple[list[str], dict[int, tuple[str, str]]]:
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
                    f'{table.place(row)}: the path "{text}" could mean {_some(here)}; '
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


def _leaves_folder(table: _Table, row: int, folder: _Folder) -> SourceError:
    return SourceError(
        f'{table.place(row)}: the path "{table.images[row]}" leaves the folder {folder.root}; '
        "write paths relative to it"
    )


def _refuse_contradiction(table: _Table, file: str, kept: int, row: int) -> None:
    for what, texts in (("label", table.labels), ("clean label", table.clean)):
        if texts is not None and texts[kept] != texts[row]:
            one, other = (f'"{texts[i]}"' if texts[i] else "none" for i in (kept, row))
            raise SourceError(
                f'"{file}" has two {what}s: {one} in {table.place(kept)} and {other} in '
                f"{table.place(row)}; keep one of the rows"
            )


def _nothing_matches(table: _Table, chosen: npt.NDArray[np.bool_], folder: _Folder) -> str:
    named = table.images[int(np.flatnonzero(chosen)[0])]
    there = folder.any_image()
    example = f'e.g. "{there}"' if there else "no image"
    return (
        f"none of the images that {table.where} names is in {folder.root}: the table has e.g. "
        f'"{named}", the folder {example}; paths are relative to the folder'
    )


# --- parquet files that hold the images, or name them ------------------------------------------


def _read_shards(
    source: Path, root: Path, shards: list[str], columns: _Columns, split: str | None
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
        cells = _read_cells(root / shard, columns)
        table = _pick_columns(cells, columns)
        tables.append(table if table.embedded else table.moved_into(f"{base}/" if base else ""))
    table = _concatenate(tables)
    if table.splits is None and split in splits:
        split = None  # the one file is that split
    rows = _rows_of_split(table, split, warnings)
    if table.embedded is None:
        return _from_table(source, _Folder(root), table, rows, warnings)
    indices = np.flatnonzero(rows)
    return _make_source(
        name=_name_of(source),
        where=str(source),
        ids=_embedded_ids(source, shards, table, indices),
        paths=_texts([""] * len(indices)),
        labels=[table.labels[i] for i in indices],
        clean=None if table.clean is None else [table.clean[i] for i in indices],
        declared=table.declared,
        images=ParquetImages(
            table.files, table.embedded, table.file_of[indices], table.rows[indices]
        ),
        warnings=warnings,
    )


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


def _embedded_ids(
    source: Path, shards: Sequence[str], table: _Table, indices: Indices
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


def _concatenate(tables: Sequence[_Table]) -> _Table:
    first = tables[0]
    files = tuple(table.files[0] for table in tables)
    for table in tables:
        if table.embedded != first.embedded or (table.splits is None) != (first.splits is None):
            raise SourceError(
                f"{table.files[0]} and {files[0]} differ in their columns of images or splits; "
                "read them one by one"
            )
    sizes = [len(table.labels) for table in tables]
    return replace(
        first,
        files=files,
        file_of=np.repeat(np.arange(len(tables)), sizes),
        rows=np.concatenate([table.rows for table in tables]),
        images=_join(table.images for table in tables),
        labels=_join(table.labels for table in tables),
        clean=None if first.clean is None else _join(table.clean or [] for table in tables),
        splits=None if first.splits is None else _join(table.splits or [] for table in tables),
        declared=tuple(dict.fromkeys(name for table in tables for name in table.declared)),
    )


def _join(parts: Iterable[list[str]]) -> list[str]:
    return list(chain.from_iterable(parts))


# --- reading a table's cells as text -----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Cells:
    """The columns of one file that may be needed, as text, "" where empty."""

    file: Path
    names: tuple[str, ...]  # of all columns, for messages
    texts: dict[str, list[str]]
    rows: Indices  # (R,) as a person counts them: lines from 1, a parquet file's rows from 0
    row_word: str
    declared: dict[str, tuple[str, ...]]  # class names by column
    image: str | None = None  # column recognized by its type
    embedded: bool = False  # whether it holds the images themselves


def _pick_columns(
    cells: _Cells, columns: _Columns, image_names: Sequence[str] = IMAGE_COLUMNS
) -> _Table:
    label = _find_column(cells, columns.label, LABEL_COLUMNS, "the labels", "label_column")
    assert label is not None
    clean = None
    if columns.clean is not None:
        clean = _find_column(cells, columns.clean, (), "true labels", "clean_label_column")
    split = _find_column(cells, None, (SPLIT_COLUMN,), "", None)
    image = cells.image
    if image is None:
        image = _find_column(cells, columns.image, image_names, "the images", "image_column")
        assert image is not None
    if not len(cells.rows):
        raise SourceError(f"{cells.file} is empty: it has no rows below its header")
    return _Table(
        files=(cells.file,),
        file_of=np.zeros(len(cells.rows), np.int64),
        rows=cells.rows,
        row_word=cells.row_word,
        images=cells.texts[image],
        labels=cells.texts[label],
        clean=None if clean is None else cells.texts[clean],
        splits=None if split is None else cells.texts[split],
        declared=tuple(
            dict.fromkeys((*cells.declared.get(label, ()), *cells.declared.get(clean or "", ())))
        ),
        embedded=image if cells.embedded else None,
    )


def _find_column(
    cells: _Cells, asked: str | None, known: Sequence[str], what: str, option: str | None
) -> str | None:
    """Return the column asked for, or the first that is known; without `option` it may lack."""
    there = f"columns there: {', '.join(cells.names) or 'none'}"
    mend = f"name it with {option} (--{(option or '').replace('_', '-')})"
    if asked is not None:
        column = asked if asked in cells.names else None
        if column is None:
            raise SourceError(f'{cells.file} has no column "{asked}" for {what}; {there}')
    else:
        lowered = {name.strip().lower(): name for name in reversed(cells.names)}
        column = next((lowered[name] for name in known if name in lowered), None)
        if column is None and option is None:
            return None
        if column is None:
            raise SourceError(
                f"{cells.file} has no column for {what} ({', '.join(known)}); {there}; {mend}"
            )
    if column not in cells.texts:
        raise SourceError(
            f'the column "{column}" of {cells.file} holds neither text nor numbers; {there}; {mend}'
        )
    return column


def _read_cells(file: Path, columns: _Columns) -> _Cells:
    suffix = _suffix(file.name)
    if not file.exists():
        raise SourceError(f"{file} does not exist; check the path of the table")
    if file.is_dir() or suffix not in TABLE_SUFFIXES:
        raise SourceError(
            f"{file} is not a table that can be read; give one of {', '.join(TABLE_SUFFIXES)}"
        )
    read = {"csv": _read_csv, "tsv": _read_csv, "parquet": _read_parquet}.get(suffix, _read_jsonl)
    try:
        return read(file, columns)
    except UnicodeDecodeError as error:
        raise SourceError(f"{file} is not a text table in UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror or error}") from error


def _read_csv(file: Path, columns: _Columns) -> _Cells:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        start = stream.readline()
        if "\0" in start:
            raise SourceError(f"{file} is not a text table; save it as CSV in UTF-8")
        stream.seek(0)
        lines = csv.reader(stream, delimiter=_delimiter(file, start), strict=True)
        names, rows, texts = [], list[int](), dict[str, list[str]]()
        try:
            names = [name.strip() for name in next(lines, [])]
            width = len(names)
            needed = [(i, name) for i, name in enumerate(names) if columns.may_be_needed(name)]
            for _, name in needed:
                if names.count(name) > 1:
                    raise SourceError(f'{file} has two columns "{name}"; rename one')
                texts[name] = []
            for cells in lines:
                if not cells:
                    continue
                if any(cells[width:]):
                    raise SourceError(
                        f"{file} line {lines.line_num} has {len(cells)} cells and the header has "
                        f"{width}; quote cells that hold a {lines.dialect.delimiter!r}"
                    )
                rows.append(lines.line_num)
                for i, name in needed:
                    texts[name].append(cells[i] if i < len(cells) else "")
        except csv.Error as error:
            raise SourceError(f"{file} line {lines.line_num} is not CSV: {error}") from error
    return _Cells(file, tuple(names), texts, np.array(rows, np.int64), "line", {})


def _delimiter(file: Path, header: str) -> str:
    if _suffix(file.name) == "tsv":
        return "\t"
    # Where the comma is the decimal sign, spreadsheets save "CSV" with semicolons.
    return next((sign for sign in ",;\t" if sign in header), ",")


def _read_jsonl(file: Path, columns: _Columns) -> _Cells:
    names: dict[str, None] = {}
    texts: dict[str, list[str]] = {}
    rows: list[int] = []
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise SourceError(f"{file} line {number} is not JSON: {error}") from error
            if not isinstance(record, dict):
                raise SourceError(
                    f"{file} line {number} is not a JSON object; write one "
                    '{"file_name": ..., "label": ...} a line'
                )
            for name in record:
                if name not in names:
                    names[name] = None
                    if columns.may_be_needed(name):
                        texts[name] = [""] * len(rows)
            for name, cells in texts.items():
                try:
                    cells.append(_text(record.get(name)))
                except TypeError as error:
                    raise SourceError(f'{file} line {number}: "{name}" is {error}') from error
            rows.append(number)
    return _Cells(file, tuple(names), texts, np.array(rows, np.int64), "line", {})


def _read_parquet(file: Path, columns: _Columns) -> _Cells:
    try:
        with pq.ParquetFile(file) as opened:
            schema, footer = opened.schema_arrow, opened.metadata
            image = _typed_image_column(file, schema, columns)
            class_names = _declared_names(schema)
            texts: dict[str, list[str]] = {}
            for field in schema:
                if columns.may_be_needed(field.name) or field.name == image:
                    cells = _parquet_texts(file, opened, field, class_names.get(field.name))
                    if cells is not None:
                        texts[field.name] = cells
    except pa.ArrowInvalid as error:
        raise SourceError(f"{file} is not a parquet file, or a damaged one: {error}") from error
    rows = np.arange(footer.num_rows, dtype=np.int64)
    # Where all bytes are null the column only names files, and is as good as a column of paths.
    embedded = image is not None and not _all_null(footer, f"{image}.bytes")
    return _Cells(file, tuple(schema.names), texts, rows, "row", class_names, image, embedded)


def _typed_image_column(file: Path, schema: pa.Schema, columns: _Columns) -> str | None:
    """Return the column whose type is made for encoded images; None where there is none."""
    names: list[str] = []
    for field in schema:
        binary = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        named = field.name == columns.image or field.name.strip().lower() in IMAGE_COLUMNS
        struct = pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
        if (struct or (binary and named)) and columns.image in (None, field.name):
            names.append(field.name)
    if len(names) > 1:
        names = [name for name in names if name.strip().lower() == "image"] or names
    if len(names) > 1:
        raise SourceError(
            f"{file} has several columns of images: {', '.join(names)}; "
            "choose one with image_column (--image-column)"
        )
    return names[0] if names else None


def _all_null(footer: pq.FileMetaData, leaf: str) -> bool:
    """Say from a file's statistics whether a column is null throughout; False if they lack."""
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    columns = [g.column(j) for g in groups for j in range(g.num_columns)]
    nulls = [
        column.num_values > 0
        and column.statistics is not None
        and column.statistics.has_null_count
        and column.statistics.null_count == column.num_values
        for column in columns
        if column.path_in_schema == leaf
    ]
    return len(nulls) > 0 and all(nulls)


def _declared_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the class names of the columns that Hugging Face's metadata calls ClassLabel."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {
            column: tuple(str(name) for name in feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}  # no metadata, or of a form unknown here: then labels are their own names


def _parquet_texts(
    file: Path, opened: pq.ParquetFile, field: pa.Field, class_names: tuple[str, ...] | None
) -> list[str] | None:
    """Read a column as text; None where it has none. Of images only their paths are read."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_struct(kind):
        if kind.get_field_index("path") < 0:
            return [""] * opened.metadata.num_rows
        cells = opened.read(columns=[f"{field.name}.path"]).column(0).to_pylist()
        return [_text(cell and cell["path"]) for cell in cells]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [""] * opened.metadata.num_rows
    if pa.types.is_nested(kind):
        return None
    cells = opened.read(columns=[field.name]).column(0).to_pylist()
    if class_names is None or not pa.types.is_integer(kind):
        try:
            return [_text(cell) for cell in cells]
        except TypeError:
            return None
    for row, cell in enumerate(cells):
        if cell is not None and not UNLABELED <= cell < len(class_names):
            raise SourceError(
                f'{file.name} row {row}: "{field.name}" is {cell}, and the schema has '
                f"{len(class_names)} class names; correct the row or the schema"
            )
    return ["" if cell is None or cell == UNLABELED else class_names[cell] for cell in cells]


def _text(value: object) -> str:
    """Return a cell's value as the text that a class name is; "" where it is empty.

    Raises TypeError, with what it is, for lists and objects.
    """
    if isinstance(value, str):
        return str(value)
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isnan(number):
            return ""
        # A column of integers with empty cells arrives as floats: its 3.0 is the class "3".
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"a {type(value).__name__}, not text or a number")


# --- arrays ------------------------------------------------------------------------------------


def _checked_pixels(images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return images as (N, H, W) or (N, H, W, C) uint8."""
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        raise SourceError(
            f"images have the shape {images.shape}; give (N, H, W), or (N, H, W, C) with channels "
            "last and C in 1, 3, 4"
        )
    if 0 in images.shape:
        raise SourceError(f"no image found in an array of shape {images.shape}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise SourceError(f"images are {images.dtype}; give uint8, or floats in [0, 1]")
    pixels = np.empty(images.shape, np.uint8)
    # In blocks, for in one go the intermediate floats would take several times the images' memory.
    for start in range(0, len(images), 1024):
        block = images[start : start + 1024]
        if not ((block >= 0) & (block <= 1)).all():  # NaN fails too
            raise SourceError(
                f"images are floats from {block.min():g} to {block.max():g}; scale them to "
                "[0, 1], or give uint8"
            )
        pixels[start : start + 1024] = np.rint(block * 255)
    return pixels


def _array_labels(labels: Any, total: int, declared: tuple[str, ...], what: str) -> list[str]:
    """Return labels given from Python as text: numbers index `declared` where there is one."""
    # Lists are not made arrays: in ["cat", nan] NumPy would turn the NaN into the text "nan".
    values = list(labels) if isinstance(labels, list | tuple) else np.asarray(labels).tolist()
    if not isinstance(values, list) or len(values) != total:
        size = len(values) if isinstance(values, list) else 1
        raise SourceError(f"there are {size} {what} and {total} images; give one for each")
    known = set(declared)
    texts = []
    for row, value in enumerate(values):
        try:
            text = _text(value)
        except TypeError as error:
            raise SourceError(f"{what}[{row}] is {error}") from error
        if not isinstance(value, str) and text.startswith("-"):
            if text != str(UNLABELED):
                raise SourceError(f"{what}[{row}] is {text}; give -1 where there is no label")
            text = ""
        elif not isinstance(value, str) and text and declared:
            if not (text.isdecimal() and int(text) < len(declared)):
                raise SourceError(
                    f"{what}[{row}] is {text}, and there are {len(declared)} class_names"
                )
            text = declared[int(text)]
        elif text and declared and text not in known:
            raise SourceError(f'{what}[{row}] is "{text}", which is not among class_names')
        texts.append(text)
    return texts


# --- from text to class numbers ----------------------------------------------------------------


def _make_source(
    *,
    name: str,
    where: str,
    ids: list[str],
    paths: Texts,
    labels: list[str],
    clean: list[str] | None = None,
    declared: tuple[str, ...] = (),
    images: Images | None = None,
    warnings: list[str],
    skipped: Sequence[tuple[str, str, str]] = (),
    hint: str = "",
) -> Source:
    """Build a source, its classes numbered; refuse what cannot be trained on before decoding."""
    class_names = _class_names(set(labels), declared)
    manifest = Manifest(
        name=name,
        sample_ids=_texts(ids),
        paths=paths,
        noisy_labels=_encode(labels, class_names),
        class_names=class_names,
        images=ImageFiles(paths) if images is None else images,
    )
    _require_classes(manifest, where, hint)
    unnameable = [file for file, _, reason in skipped if "UTF-8" in reason]
    if unnameable:
        warnings.append(
            f"{_count(unnameable, 'file', 'files')} left out, the name is not UTF-8: "
            f"{_some(unnameable)}"
        )
    minus_one = labels.count(str(UNLABELED))
    if minus_one and str(UNLABELED) not in declared:
        warnings.append(
            f'{where}: "-1" is taken as a class of that name ({minus_one:,} labels); '
            "leave the label empty where there is none"
        )
    return Source(
        manifest=manifest,
        clean_labels=None if clean is None else _texts(clean),
        warnings=tuple(warnings),
        skipped=pd.DataFrame(list(skipped), columns=["sample_id", "path", "reason"], dtype=str),
    )


def _class_names(texts: set[str], declared: tuple[str, ...]) -> tuple[str, ...]:
    """Return the declared names, then the others: sorted as numbers if all are, else as text."""
    others = texts - {"", *declared}
    if all(_INTEGER.fullmatch(text) for text in others):
        return declared + tuple(sorted(others, key=lambda text: (int(text), text)))
    return declared + tuple(sorted(others))


def _encode(texts: list[str], class_names: tuple[str, ...]) -> Indices:
    index = {name: i for i, name in enumerate(class_names)}
    index[""] = UNLABELED
    return np.fromiter((index[text] for text in texts), np.int64, count=len(texts))


def _require_classes(manifest: Manifest, where: str, hint: str = "") -> Indices:
    """Return the labeled images of each class, (C,) int64; SourceError if under two have any."""
    labels = manifest.noisy_labels[manifest.labeled]
    counts = np.bincount(labels, minlength=manifest.num_classes)
    mend = f"; {hint}" if hint else ""
    if not len(labels):
        raise SourceError(
            f"{where}: none of the {manifest.num_samples:,} images has a label"
            f"{mend or '; at least two classes need some'}"
        )
    if np.count_nonzero(counts) == 1:
        only = manifest.class_names[int(labels[0])]
        raise SourceError(
            f'{where}: all {len(labels):,} labeled images are of one class, "{only}"'
            f"{mend or '; at least two are needed'}"
        )
    return counts


# --- wording -----------------------------------------------------------------------------------


def _texts(texts: Sequence[str]) -> Texts:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _some(texts: Sequence[str], quote: bool = True) -> str:
    """Name up to three, and say how many more there are."""
    shown = ", ".join(f'"{text}"' if quote else text for text in texts[:3])
    return shown if len(texts) <= 3 else f"{shown} and {len(texts) - 3:,} more"


def _count(things: Sequence[object], one: str, many: str) -> str:
    return f"{len(things):,} {one if len(things) == 1 else many}"


def _repeated(texts: Iterable[str]) -> list[str]:
    return [text for text, times in Counter(texts).items() if times > 1]

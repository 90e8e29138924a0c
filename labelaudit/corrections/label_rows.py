"""Labels as they lie on disk, and which of their rows each sample has."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePosixPath

from labelaudit.corrections.label_files import YES, Edit, LabelFile, read_label_file
from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.sources.cells import Columns
from labelaudit.sources.file_tree import IMAGE_SUFFIXES, FileTree
from labelaudit.sources.folders import METADATA_FILES, read_source
from labelaudit.sources.splits import choose_split, shard_splits, split_folders
from labelaudit.sources.wording import some

_ABSOLUTE = re.compile(r"[\\/]|[A-Za-z]:[\\/]")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")

# The rows of each sample, by its id.
Found = dict[str, list[int]]


# --- the labels as they are --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class OpenedLabels:
    """The label files that were pointed at; their rows are numbered through, from 0.

    `shards` are the names of the files relative to the folder `path`, where it is one of shards.
    `splits` are those of the rows, where there are any, and `split` the one that was asked for.
    `stems` says which files a name such as "train-00000-of-00001:5" may mean.
    """

    path: Path
    files: tuple[LabelFile, ...]
    shards: tuple[str, ...] = ()
    splits: list[str] | None = None
    split: str | None = None
    stems: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @cached_property
    def starts(self) -> list[int]:
        """The first row of each file, and behind them how many rows there are."""
        return list(accumulate((len(file.labels) for file in self.files), initial=0))

    @property
    def name(self) -> str:
        """What messages call the labels."""
        return str(self.path if self.shards else self.files[0].path)

    def of_file(self, number: int, edits: Mapping[int, Edit]) -> dict[int, Edit]:
        """Return the edits of one file, by its own rows."""
        start, end = self.starts[number : number + 2]
        return {row - start: edit for row, edit in edits.items() if start <= row < end}

    def columns(self) -> list[list[str]]:
        """Return the columns that may name rows, each with a cell for every row of all files."""
        names = dict.fromkeys(name for file in self.files for name in file.ids)
        return [
            [text for file in self.files for text in file.ids.get(name, [""] * len(file.labels))]
            for name in names
        ]


def open_labels(
    path: Path, columns: Columns, id_column: str | None, split: str | None, ids: Sequence[str]
) -> OpenedLabels:
    """Find the label files that a scan of `path` reads, and read their rows."""

    def read(file: Path, base: str = "") -> LabelFile:
        table = read_label_file(
            file, label_column=columns.label, image_column=columns.image, id_column=id_column
        )
        if not base or table.embedded:
            return table
        moved = {
            name: [text if not text or _ABSOLUTE.match(text) else base + text for text in texts]
            for name, texts in table.ids.items()
        }
        return replace(table, ids=moved)

    if not path.exists():
        raise SourceError(f"{path} does not exist; check the path of the labels")
    if not path.is_dir():
        file = read(path)
        stems = {path.stem: [0]} if file.format == "parquet" else {}
        return OpenedLabels(path, (file,), (), file.splits, split, stems)
    files = FileTree(path).walk()
    images = [name for name in files if suffix_of(name) in IMAGE_SUFFIXES]
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
    columns.refuse(f"{path} is read as one subfolder a class")
    found = read_source(path, split=split, require_labels=False).manifest
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
    )
    return OpenedLabels(path, (listed,))


def _open_shards(
    path: Path, shards: Sequence[str], read: Callable[[Path, str], LabelFile], split: str | None
) -> OpenedLabels:
    """Read the parquet files of a folder; each of several splits has its own names for rows."""
    if not shards:
        raise SourceError(f"{path} has neither images nor parquet files; give the table of labels")
    files = []
    for shard in shards:
        base = shard.rpartition("/")[0]
        files.append(read(path / shard, f"{base}/" if base else ""))
    split_of = shard_splits(list(shards))
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


# --- which rows a sample has -------------------------------------------------------------------


# Finds rows of samples in one column; of the others, some may be missing.
Way = Callable[["_Names", Sequence[str]], Found]


@dataclass(frozen=True, eq=False)
class _Names:
    """What some rows are called in one column."""

    column: Sequence[str]
    rows: Sequence[int]

    @property
    def are_unique(self) -> bool:
        """Whether each row has a name of its own."""
        return sum(map(len, self.exact.values())) == len(self.exact) == len(self.rows)

    @cached_property
    def exact(self) -> dict[str, list[int]]:
        """Rows by cell, as it is written."""
        found: dict[str, list[int]] = {}
        for row in self.rows:
            if self.column[row]:
                found.setdefault(self.column[row], []).append(row)
        return found

    @cached_property
    def plain(self) -> dict[str, list[int]]:
        """Rows by cell, written as sample ids are."""
        found: dict[str, list[int]] = {}
        for text, rows in self.exact.items():
            found.setdefault(_plain(text), []).extend(rows)
        return found


def find_rows(
    opened: OpenedLabels, ids: Sequence[str], droppable: Collection[str], *, by_id: bool
) -> Found:
    """Find the rows of each sample, in the first way of naming rows by which all are found.

    Samples of `droppable` may be missing if others are there: they were dropped before.
    """
    if not ids:
        return {}
    columns = opened.columns()
    parts = _parts(opened)
    named = {split: [_Names(column, rows) for column in columns] for split, rows in parts.items()}
    if not by_id:
        # As a scan does: where ids are missing or repeat, rows are called by their number.
        numbered = {
            split: _by_number(opened, ids, rows)
            for split, rows in parts.items()
            if not (columns and named[split][0].are_unique)
        }
        if found := _of_one_split(opened, numbered, ids):
            return found
    ways = _ways(opened, ids, extend=not droppable)
    needs = [list(ids)]
    if droppable:
        needs.append([name for name in ids if name not in droppable])
    best: Found = {}
    for needed in needs:
        for way in ways:
            tried = {split: _best(way, names, needed) for split, names in named.items()}
            if found := _of_one_split(opened, tried, needed):
                return found
            best = max(best, *tried.values(), key=len)
    if opened.splits is not None and opened.split is None:
        # Corrections may come from scans of several splits.
        everything = [_Names(column, range(opened.starts[-1])) for column in columns]
        for way in ways:
            found = _best(way, everything, ids)
            if len(found) == len(ids):
                return _each_in_one_split(opened, found)
    if not best and not by_id:
        rows = range(opened.starts[-1]) if opened.split is None else next(iter(parts.values()))
        best = _by_number(opened, ids, rows)
        if len(best) == len(ids):
            return _each_in_one_split(opened, best)
    raise _unknown(opened, columns, [name for name in ids if name not in best], len(ids))


def _parts(opened: OpenedLabels) -> dict[str, Sequence[int]]:
    """Return the rows of each split, or of the one that was asked for; all rows where none is."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(opened.splits or ()):
        rows.setdefault(name, []).append(row)
    there = sorted(rows.keys() - {""})
    if not there:
        return {"": range(opened.starts[-1])}
    if opened.split is None:
        return {name: rows[name] for name in there}
    if opened.split not in there:
        raise SourceError(
            f'{opened.name} has no split "{opened.split}"; splits there: {", ".join(there)}'
        )
    return {opened.split: rows[opened.split]}


def _of_one_split(
    opened: OpenedLabels, tried: Mapping[str, Found], needed: Sequence[str]
) -> Found | None:
    """Return what was found of the split that has all samples; as in a scan, train goes first."""
    fitting = {split: found for split, found in tried.items() if _has_all(found, needed)}
    for usual in ("train", "training"):
        if usual in fitting:
            return fitting[usual]
    if len(fitting) > 1:
        first = next(iter(next(iter(fitting.values()))))
        raise _in_several_splits(opened, first, sorted(fitting))
    return next(iter(fitting.values()), None)


def _each_in_one_split(opened: OpenedLabels, found: Found) -> Found:
    for name, rows in found.items():
        there = sorted({opened.splits[row] for row in rows} if opened.splits is not None else ())
        if len(there) > 1:
            raise _in_several_splits(opened, name, there)
    return found


def _in_several_splits(opened: OpenedLabels, name: str, splits: Sequence[str]) -> SourceError:
    return SourceError(
        f'"{name}" is in several splits of {opened.name}: {", ".join(splits)}; choose the one that'
        " was scanned with split (--split)"
    )


def _ways(opened: OpenedLabels, ids: Sequence[str], *, extend: bool) -> list[Way]:
    """Return the ways to name rows, in the order in which they are tried."""
    folder = opened.files[0].path.absolute().parent.as_posix()

    def by_place(names: _Names, needed: Sequence[str], stems: bool) -> Found:
        # "a.png" may have been dropped, and must not be taken for "b/a.png" then.
        return _by_place(names, ids, needed, folder, stems=stems, extend=extend)

    return [
        lambda names, _: _as_written(names, ids),
        lambda names, _: _look_up(names, ids, stems=False),
        lambda names, needed: by_place(names, needed, False),
        lambda names, _: _distinct(_look_up(names, ids, stems=True)),
        lambda names, needed: by_place(names, needed, True),
    ]


def _best(way: Way, columns: Sequence[_Names], needed: Sequence[str]) -> Found:
    """Return what is found in the first column that has all samples, or else the most."""
    found = [way(names, needed) for names in columns]
    return max(found, key=lambda one: (_has_all(one, needed), len(one)), default={})


def _has_all(found: Found, needed: Sequence[str]) -> bool:
    return bool(found) and all(name in found for name in needed)


def _plain(path: str) -> str:
    """Write a path as sample ids are: forward slashes, no spaces around it, no "./"."""
    stripped = path.replace("\\", "/").strip()
    return posixpath.normpath(stripped) if stripped else ""


def _forms(name: str, stems: bool) -> list[str]:
    """Return how a table may write a sample's file: with and, if asked for, without its suffix."""
    suffix = suffix_of(name)
    if not stems or suffix not in IMAGE_SUFFIXES:
        return [name]
    stem = name[: -len(suffix) - 1]
    # A scan takes "a.png" for a whole name, and never for the stem of "a.png.jpg".
    return [name] if suffix_of(stem) in IMAGE_SUFFIXES else [name, stem]


def _rows_named(names: _Names, name: str, stems: bool) -> list[int]:
    return next((names.plain[form] for form in _forms(name, stems) if form in names.plain), [])


def _as_written(names: _Names, ids: Sequence[str]) -> Found:
    """Find rows by their cells; where these name images, with the other rows of the same image."""
    return {
        name: names.plain[_plain(name)] if suffix_of(name) in IMAGE_SUFFIXES else names.exact[name]
        for name in ids
        if name in names.exact
    }


def _look_up(names: _Names, ids: Sequence[str], *, stems: bool) -> Found:
    found = {name: _rows_named(names, _plain(name), stems) for name in ids}
    return {name: rows for name, rows in found.items() if rows}


def _distinct(found: Found) -> Found:
    """Return what was found, or nothing where two samples share a row."""
    rows = [row for places in found.values() for row in places]
    return found if len(set(rows)) == len(rows) else {}


def _by_place(
    names: _Names,
    ids: Sequence[str],
    needed: Sequence[str],
    folder: str,
    *,
    stems: bool,
    extend: bool,
) -> Found:
    """Find rows whose paths begin elsewhere than the ids: those of a table may be absolute, say.

    Either the same text stands before all ids in the table, or all ids begin with a text that the
    table does not have. If several such texts fit all ids, it is that of the table's own folder.
    Only with `extend` may relative paths of the table be longer than the ids.
    """
    plain = {name: _plain(name) for name in ids}
    odd = next((plain[i] for i in needed if not _rows_named(names, plain[i], stems)), None)
    if odd is None:
        return _distinct(_look_up(names, ids, stems=stems))

    def rows_at(start: tuple[str, str], name: str) -> list[int]:
        before, missing = start
        moved = before + name.removeprefix(missing)
        rows = _rows_named(names, moved, stems) if name.startswith(missing) else []
        # Beside absolute paths there may be others; but in "a.png" and "b/a.png", a scan of "b"
        # would not find the one that is called "a.png".
        return rows or (_rows_named(names, name, stems) if _ABSOLUTE.match(before) else [])

    starts = {s for form in _forms(odd, stems) for cell in names.plain if (s := _start(form, cell))}
    if not extend:
        starts = {start for start in starts if start[1] or _ABSOLUTE.match(start[0])}
    fitting = [start for start in starts if all(rows_at(start, plain[i]) for i in needed)]
    if len(fitting) > 1:
        fitting = [start for start in fitting if start[1] and f"{folder}/".endswith(f"/{start[1]}")]
    if len(fitting) != 1:
        return {}
    found = {name: rows_at(fitting[0], text) for name, text in plain.items()}
    return _distinct({name: rows for name, rows in found.items() if rows})


def _start(name: str, cell: str) -> tuple[str, str] | None:
    """Return what stands before an id in a table, and what of the id is missing there instead."""
    if cell.endswith(f"/{name}"):
        return cell[: -len(name)], ""
    if name.endswith(f"/{cell}"):
        return "", name[: -len(cell)]
    return None


def _by_number(opened: OpenedLabels, ids: Sequence[str], rows: Sequence[int]) -> Found:
    """Find rows that are called by their number: "5", or "train-00000-of-00001:5" in shards."""
    starts = opened.starts
    inside = rows if isinstance(rows, range) else set(rows)
    found: Found = {}
    for name in ids:
        stem, colon, digits = name.rpartition(":")
        files = opened.stems.get(stem, ()) if colon else range(len(opened.files) == 1)
        if _NUMBER.fullmatch(digits):
            number = int(digits)
            places = [starts[i] + number for i in files if number < starts[i + 1] - starts[i]]
            places = [row for row in places if row in inside]
            if places:
                found[name] = places
    return found


def _unknown(
    opened: OpenedLabels, columns: Sequence[Sequence[str]], unknown: Sequence[str], total: int
) -> SourceError:
    example = next((text for column in columns[:1] for text in column if text), "")
    called = f'its rows are called e.g. "{example}"' if example else "its rows have no names"
    return SourceError(
        f"{opened.name} has no row for {len(unknown):,} of {total:,} samples: {some(unknown)};"
        f" {called}; give the labels that were scanned, and name their column of ids with id_column"
        " (--id-column) if need be"
    )

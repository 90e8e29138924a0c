"""Which rows of the label files belong to each sample.

Samples are identified by ids, by the paths of their images, or by row numbers, as in a scan. Tables may
write paths in other ways than sample ids do, so several ways of matching are tried. Where the labels of
all samples in the audit are known, only rows that have these labels are taken.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from urllib.parse import unquote

from labelaudit.corrections.audited import MOST_CHANGED, AuditedLabels
from labelaudit.corrections.opened_labels import ABSOLUTE, OpenedLabels
from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.sources.file_tree import IMAGE_SUFFIXES
from labelaudit.sources.path_matching import folded, is_absolute, path_of
from labelaudit.sources.wording import some

_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")

# The rows of each sample, by sample id.
Found = dict[str, list[int]]


# Finds the rows of samples in one column. The second argument names the samples that are required.
Way = Callable[["_Names", Sequence[str]], Found]


@dataclass(frozen=True, eq=False)
class _Names:
    """The names of some rows in one column."""

    column: Sequence[str]
    rows: Sequence[int]

    @property
    def are_unique(self) -> bool:
        """Whether every row has a name and no two rows share one."""
        return sum(map(len, self.exact.values())) == len(self.exact) == len(self.rows)

    @cached_property
    def exact(self) -> dict[str, list[int]]:
        """Rows by the exact text of their cell."""
        found: dict[str, list[int]] = {}
        for row in self.rows:
            if self.column[row]:
                found.setdefault(self.column[row], []).append(row)
        return found

    @cached_property
    def plain(self) -> dict[str, list[int]]:
        """Rows by the path in their cell, normalized as in sample ids."""
        found: dict[str, list[int]] = {}
        for text, rows in self.exact.items():
            found.setdefault(_plain(text), []).extend(rows)
        return found

    def folded(self, *, absolute: bool) -> dict[str, list[int]]:
        """Rows by the path in their cell, without case, Unicode form and percent-encoding.

        Only absolute paths and addresses, or all. Forms that different paths share are left out.
        """
        meant: dict[str, str] = {}
        for text in self.exact:
            if is_absolute(text) or not absolute:
                path = _plain(path_of(text))
                for form in {folded(path), folded(unquote(path))}:
                    meant[form] = "" if meant.get(form, path) != path else path
        rows: dict[str, list[int]] = {}
        for text, places in self.exact.items():
            rows.setdefault(_plain(path_of(text)), []).extend(places)
        return {form: rows[path] for form, path in meant.items() if path}


def find_rows(
    opened: OpenedLabels,
    ids: Sequence[str],
    droppable: Collection[str],
    *,
    by_id: bool,
    audited: AuditedLabels,
) -> Found:
    """Find the rows of each sample, in the first way of matching that finds all samples.

    If the whole audit is known, these are all of its samples, and few may have other labels now. If
    there is no such way, for example because rows were removed, it is enough to find `ids`. Then
    they are not found by number, because numbers have become those of other rows.

    Parameters
    ----------
    opened : OpenedLabels
        The labels.
    ids : sequence of str
        Sample ids.
    droppable : collection of str
        Samples that may be missing, because an earlier run may have dropped them.
    by_id : bool
        Whether rows are identified by ids only, and never by their numbers.
    audited : AuditedLabels
        The labels in the audit.

    Raises
    ------
    SourceError
        A sample has no row, or is in several splits, or the table is not the one that was audited.
    """
    if not ids:
        return {}
    columns = opened.columns()
    parts = _parts(opened)
    named = {split: [_Names(column, rows) for column in columns] for split, rows in parts.items()}
    if audited.are_complete:
        found = _as_audited(opened, ids, parts, named, audited, by_id)
        if found is not None and all(name in found for name in ids):
            return {name: found[name] for name in ids}
    by_number = not by_id and not audited.are_complete
    if by_number:
        # As in a scan: if ids are missing or not unique, rows are identified by their number.
        numbered = {
            split: _by_number(opened, ids, rows)
            for split, rows in parts.items()
            if not (columns and named[split][0].are_unique)
        }
        if found := _of_one_split(opened, numbered, ids, audited):
            return found
    ways = _ways(opened, ids, extend=not droppable)
    needs = [list(ids)]
    if droppable:
        needs.append([name for name in ids if name not in droppable])
    best: Found = {}
    for needed in needs:
        for way in ways:
            tried = {split: _best(way, names, needed) for split, names in named.items()}
            if found := _of_one_split(opened, tried, needed, audited):
                return found
            best = max(best, *tried.values(), key=len)
    if opened.splits is not None and opened.split is None:
        # The corrections may come from scans of several splits.
        everything = [_Names(column, range(opened.starts[-1])) for column in columns]
        for way in ways:
            found = _best(way, everything, ids)
            if len(found) == len(ids):
                return _each_in_one_split(opened, found)
    if not best and not by_id:
        rows = range(opened.starts[-1]) if opened.split is None else next(iter(parts.values()))
        best = _by_number(opened, ids, rows)
        if len(best) == len(ids) and by_number:
            return _each_in_one_split(opened, best)
        if len(best) == len(ids):
            raise _other_table(opened, audited, rows)
    raise _unknown(opened, columns, [name for name in ids if name not in best], len(ids))


def _as_audited(
    opened: OpenedLabels,
    ids: Sequence[str],
    parts: Mapping[str, Sequence[int]],
    named: Mapping[str, Sequence[_Names]],
    audited: AuditedLabels,
    by_id: bool,
) -> Found | None:
    """Find the rows of `ids` and of all samples with labels in an audit.

    Return those of the way of matching in which fewest labels have changed.
    """
    labeled = list(audited.labels)
    names = list(dict.fromkeys([*labeled, *ids]))

    def by_number(unique: bool) -> dict[str, Found]:
        return {
            split: _by_number(opened, names, rows)
            for split, rows in parts.items()
            if not by_id and unique == bool(named[split] and named[split][0].are_unique)
        }

    def by(way: Way) -> dict[str, Found]:
        return {split: _best(way, columns, labeled) for split, columns in named.items()}

    ways = [partial(by, way) for way in _ways(opened, names, extend=True)]
    best: tuple[tuple[int, bool], Found] | None = None
    # As in a scan: if ids are missing or not unique, rows are identified by their number.
    for tried in (partial(by_number, False), *ways, partial(by_number, True)):
        fitting = {}
        for split, found in tried().items():
            changed = audited.changes(found, opened.labels)
            if changed is None or changed > MOST_CHANGED * len(labeled):
                continue
            # Where rows have been added or removed, numbers are those of other rows.
            numbered = tried.func is by_number
            doubtful = numbered and not _reaches_the_end(opened, found, parts[split])
            if changed == 0 or not doubtful:
                fitting[split] = ((changed, doubtful), found)
        least = min((rank for rank, _ in fitting.values()), default=None)
        if least is None or (best is not None and least >= best[0]):
            continue
        alike = [split for split, (rank, _) in fitting.items() if rank == least]
        if len(alike) > 1:
            raise _in_several_splits(opened, names[0], sorted(alike))
        best = fitting[alike[0]]
        if least == (0, False):
            break
    return None if best is None else best[1]


def _reaches_the_end(opened: OpenedLabels, found: Found, rows: Sequence[int]) -> bool:
    """Whether the last row of each file is that of a sample."""

    def last_by_file(numbers: Iterable[int]) -> dict[int, int]:
        last: dict[int, int] = {}
        for row in numbers:
            file = bisect_right(opened.starts, row)
            last[file] = max(row, last.get(file, row))
        return last

    last = last_by_file(rows)
    of_samples = last_by_file(row for places in found.values() for row in places)
    return all(last[file] == row for file, row in of_samples.items())


def _parts(opened: OpenedLabels) -> dict[str, Sequence[int]]:
    """Return the rows of each split, or of the requested split; all rows if there are no splits."""
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
            f'{opened.name} has no split "{opened.split}"; its splits are {", ".join(there)}'
        )
    return {opened.split: rows[opened.split]}


def _of_one_split(
    opened: OpenedLabels,
    tried: Mapping[str, Found],
    needed: Sequence[str],
    audited: AuditedLabels,
) -> Found | None:
    """Return the rows in the one split that has all samples, with the labels that they had."""
    fitting = {split: found for split, found in tried.items() if _has_all(found, needed)}
    if len(fitting) > 1:
        same = [
            split
            for split, found in fitting.items()
            if audited.changes(found, opened.labels, needed) == 0
        ]
        if len(same) == 1:
            return fitting[same[0]]
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
        f'"{name}" is in several splits of {opened.name}: {", ".join(splits)}; name the split that'
        " was scanned with `split`"
    )


def _ways(opened: OpenedLabels, ids: Sequence[str], *, extend: bool) -> list[Way]:
    """Return the ways to match samples and rows, in the order in which they are tried."""
    folder = opened.files[0].path.absolute().parent.as_posix()

    def by_place(names: _Names, needed: Sequence[str], stems: bool) -> Found:
        # "a.png" may have been dropped, and must then not be matched with "b/a.png".
        return _by_place(names, ids, needed, folder, stems=stems, extend=extend)

    return [
        lambda names, _: _as_written(names, ids),
        lambda names, _: _look_up(names, ids, stems=False),
        lambda names, needed: by_place(names, needed, False),
        lambda names, _: _distinct(_look_up(names, ids, stems=True)),
        lambda names, needed: by_place(names, needed, True),
        lambda names, _: _distinct(_look_up_folded(names, ids)),
        lambda names, _: _distinct(_by_end(names, ids)),
    ]


def _best(way: Way, columns: Sequence[_Names], needed: Sequence[str]) -> Found:
    """Return the rows in the first column that has all samples, or else in the best column."""
    found = [way(names, needed) for names in columns]
    return max(found, key=lambda one: (_has_all(one, needed), len(one)), default={})


def _has_all(found: Found, needed: Sequence[str]) -> bool:
    return bool(found) and all(name in found for name in needed)


def _plain(path: str) -> str:
    """Normalize a path as in sample ids: forward slashes, no surrounding spaces, no "./"."""
    stripped = path.replace("\\", "/").strip()
    return posixpath.normpath(stripped) if stripped else ""


def _forms(name: str, stems: bool) -> list[str]:
    """Return how a table may name a file: with its suffix and, if `stems`, without it."""
    suffix = suffix_of(name)
    if not stems or suffix not in IMAGE_SUFFIXES:
        return [name]
    stem = name[: -len(suffix) - 1]
    # A scan reads "a.png" as a complete name, and never as the stem of "a.png.jpg".
    return [name] if suffix_of(stem) in IMAGE_SUFFIXES else [name, stem]


def _rows_named(names: _Names, name: str, stems: bool) -> list[int]:
    return next((names.plain[form] for form in _forms(name, stems) if form in names.plain), [])


def _as_written(names: _Names, ids: Sequence[str]) -> Found:
    """Find rows by the exact text of their cells; for images, also other rows of the image."""
    return {
        name: names.plain[_plain(name)] if suffix_of(name) in IMAGE_SUFFIXES else names.exact[name]
        for name in ids
        if name in names.exact
    }


def _look_up(names: _Names, ids: Sequence[str], *, stems: bool) -> Found:
    found = {name: _rows_named(names, _plain(name), stems) for name in ids}
    return {name: rows for name, rows in found.items() if rows}


def _look_up_folded(names: _Names, ids: Sequence[str]) -> Found:
    """Find paths that differ in case, Unicode form or percent-encoding, as a scan matches them."""
    forms = names.folded(absolute=False)
    return {name: forms[form] for name in ids if (form := folded(_plain(name))) in forms}


def _by_end(names: _Names, ids: Sequence[str]) -> Found:
    """Find absolute paths and addresses of other machines by their ends, as a scan matches them."""
    forms = names.folded(absolute=True)
    by_name: dict[str, list[str]] = {}
    for form in forms:
        by_name.setdefault(form.rpartition("/")[2], []).append(form)
    found: Found = {}
    for name in ids:
        end = folded(_plain(name))
        fitting = [
            form
            for form in by_name.get(end.rpartition("/")[2], ())
            if f"/{form}".endswith(f"/{end}")
        ]
        if len(fitting) == 1:
            found[name] = forms[fitting[0]]
    return found


def _distinct(found: Found) -> Found:
    """Return the rows that were found, or nothing if two samples share a row."""
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
    """Find rows whose paths start at another folder than the ids, for example at the root.

    Either the table has the same prefix before all ids, or all ids begin with a prefix that the table
    does not have. If several prefixes fit all ids, that of the table's own folder is used. Relative
    paths of the table may be longer than the ids only if `extend` is set.
    """
    plain = {name: _plain(name) for name in ids}
    odd = next((plain[i] for i in needed if not _rows_named(names, plain[i], stems)), None)
    if odd is None:
        return _distinct(_look_up(names, ids, stems=stems))

    def rows_at(start: tuple[str, str], name: str) -> list[int]:
        before, missing = start
        moved = before + name.removeprefix(missing)
        rows = _rows_named(names, moved, stems) if name.startswith(missing) else []
        # A table may have relative paths beside absolute ones. But with "a.png" and "b/a.png", a scan
        # of "b" would not find the file that is named "a.png".
        return rows or (_rows_named(names, name, stems) if ABSOLUTE.match(before) else [])

    starts = {s for form in _forms(odd, stems) for cell in names.plain if (s := _start(form, cell))}
    if not extend:
        starts = {start for start in starts if start[1] or ABSOLUTE.match(start[0])}
    fitting = [start for start in starts if all(rows_at(start, plain[i]) for i in needed)]
    if len(fitting) > 1:
        fitting = [start for start in fitting if start[1] and f"{folder}/".endswith(f"/{start[1]}")]
    if len(fitting) != 1:
        return {}
    found = {name: rows_at(fitting[0], text) for name, text in plain.items()}
    return _distinct({name: rows for name, rows in found.items() if rows})


def _start(name: str, cell: str) -> tuple[str, str] | None:
    """Return the prefix of an id in a table, and the part of the id that the table lacks."""
    if cell.endswith(f"/{name}"):
        return cell[: -len(name)], ""
    if name.endswith(f"/{cell}"):
        return "", name[: -len(cell)]
    return None


def _by_number(opened: OpenedLabels, ids: Sequence[str], rows: Sequence[int]) -> Found:
    """Find rows that are identified by number: "5", or "train-00000-of-00001:5" in shards."""
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


def _other_table(opened: OpenedLabels, audited: AuditedLabels, rows: Sequence[int]) -> SourceError:
    """Return the error about numbers that are not those of the rows of this table."""
    total = len(audited.labels)
    changed = audited.changes(_by_number(opened, list(audited.labels), rows), opened.labels)
    if changed is None:
        why = f"it has {len(rows):,} rows, and not one for each of {total:,} samples"
    else:
        why = f"{changed:,} of {total:,} labels differ"
    return SourceError(
        f"samples go by number, but the rows of {opened.name} are not those that were audited ({why});"
        " give the labels that were scanned, name their column of ids with `id_column`, or scan again"
    )


def _unknown(
    opened: OpenedLabels, columns: Sequence[Sequence[str]], unknown: Sequence[str], total: int
) -> SourceError:
    example = next((text for column in columns[:1] for text in column if text), "")
    called = f'its rows have ids such as "{example}"' if example else "its rows have no ids"
    return SourceError(
        f"{opened.name} has no row for {len(unknown):,} of {total:,} samples: {some(unknown)};"
        f" {called}; give the labels that were scanned and, if necessary, name their column of ids with"
        " `id_column`"
    )

"""Tables whose rows name image files, joined to these files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError
from labelaudit.images.containers import ImageFiles
from labelaudit.sources.classes import make_source
from labelaudit.sources.file_tree import FileTree, source_name
from labelaudit.sources.join_advice import Join
from labelaudit.sources.label_tables import LabelTable
from labelaudit.sources.manifest import Source
from labelaudit.sources.path_matching import is_absolute, locate
from labelaudit.sources.wording import count, some


def source_of_rows(
    source: Path,
    folder: FileTree,
    table: LabelTable,
    chosen: npt.NDArray[np.bool_],
    warnings: list[str],
    images: list[str] | None = None,
    within: str = "",
) -> Source:
    """Join the rows of a table to the image files that they name.

    Parameters
    ----------
    source : Path
        The path that the user gave, which names the source.
    folder : FileTree
        Where the files are.
    table : LabelTable
        R rows.
    chosen : array (R,) bool
        The rows to read.
    warnings : list of str
        Warnings so far; more are added.
    images : list of str, optional
        The images of the folder. All of those below `within` are then samples, sorted, except those
        that only other rows name. By default the rows are the samples, in their order.
    within : str
        A folder with its slash, or "".

    Raises
    ------
    SourceError
        No file is found, or rows contradict each other.
    """
    located = locate(table.images, folder, images)
    found, missing = located.files, located.missing
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
        _skipped(table, folder, row, *missing[row])
        for row in sorted(missing)
        if chosen[row] and missing[row][0].startswith(within)
    ]
    join = Join(source, folder, table, chosen, located, images)
    if not first:
        raise SourceError(join.nothing_matches())
    if repeated:
        warnings.append(
            f"{count(repeated, 'row', 'rows')} in {table.where} repeat another: "
            f"{some(list(dict.fromkeys(repeated)))}; each image is kept once"
        )
    absent = [file for file, path, _ in skipped if path or not file]
    if absent:
        warnings.append(
            f"{count(absent, 'label', 'labels')} in {table.where} left out, because the image does "
            f"not exist: {some(absent)}"
        )
    outside = [f'"{file}" ({reason})' for file, path, reason in skipped if file and not path]
    if outside:
        warnings.append(
            f"{count(outside, 'label', 'labels')} in {table.where} left out:"
            f" {some(outside, quote=False)}"
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
        votes=None if table.votes is None else table.votes.rows(rows),
        declared=table.declared,
        warnings=[*warnings, *located.warnings, *join.few_match(), *folder.warnings()],
        skipped=[*folder.skipped, *skipped],
        hint=_hint(skipped),
    )


def _hint(skipped: Sequence[tuple[str, str, str]]) -> str:
    """Return advice if too few labels are left."""
    if not skipped:
        return ""
    examples = [f'"{file}" ({reason})' for file, _, reason in skipped]
    return (
        f"{count(skipped, 'row of the table is', 'rows of the table are')} left out:"
        f" {some(examples, quote=False)}"
    )


def _skipped(
    table: LabelTable, folder: FileTree, row: int, file: str, reason: str
) -> tuple[str, str, str]:
    """Return the id, path and reason of a row without an image; "" where there is none."""
    if not file:
        return "", "", f"{table.place(row)} names no image"
    outside = folder.relative(file) is None or is_absolute(file)
    return file, "" if outside else folder.open_paths([file])[0], reason


def _refuse_contradiction(table: LabelTable, file: str, kept: int, row: int) -> None:
    for what, texts in (
        ("label", table.labels if table.votes is None else table.votes.described()),
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

"""Tables whose rows name image files, joined to these files."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError
from labelaudit.images.containers import ImageFiles
from labelaudit.sources.classes import make_source
from labelaudit.sources.file_tree import WINDOWS_ROOT, FileTree, source_name
from labelaudit.sources.label_tables import LabelTable
from labelaudit.sources.manifest import Source
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
        A path leaves the folder, no file is found, or rows contradict each other.
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
            f"{count(skipped, 'label', 'labels')} in {table.where} left out, because the image does "
            f"not exist: {some([file for file, _, _ in skipped])}"
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
        warnings=[*warnings, *folder.warnings()],
        skipped=[*folder.skipped, *skipped],
    )


def _locate(table: LabelTable, folder: FileTree) -> tuple[list[str], dict[int, tuple[str, str]]]:
    """Find the file of each row: its relative path, or "" and the reason why it is missing.

    A Windows path of another machine is found by its end, if exactly one such end is a file here.
    The part before it is taken as the place of the folder on that machine. Other paths below that
    place are then missing images, and not paths that leave the folder.
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
        elif WINDOWS_ROOT.match(path) and ".." not in path.split("/"):
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


def _leaves_folder(table: LabelTable, row: int, folder: FileTree) -> SourceError:
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


def _nothing_matches(table: LabelTable, chosen: npt.NDArray[np.bool_], folder: FileTree) -> str:
    named = table.images[int(np.flatnonzero(chosen)[0])]
    there = folder.any_image()
    if not there:
        return (
            f"there is no image in {folder.root}, where the paths in {table.where} begin; give the"
            " folder of the images as the source, and the table as the labels"
        )
    return (
        f"none of the images that {table.where} names is in {folder.root}: the table has e.g. "
        f'"{named}", the folder e.g. "{there}"; paths are relative to the folder'
    )

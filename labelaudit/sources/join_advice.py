"""What is said if few or no rows of a table name an image: examples, and what mends it."""

import posixpath
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError
from labelaudit.files import suffix_of
from labelaudit.sources.cells import Columns
from labelaudit.sources.file_tree import IMAGE_SUFFIXES, FileTree
from labelaudit.sources.label_tables import LabelTable
from labelaudit.sources.path_matching import Located, ends_of, is_absolute, locate
from labelaudit.sources.table_formats import read_cells
from labelaudit.sources.table_kinds import advice_for_table
from labelaudit.sources.wording import count, some

# With a smaller share of rows that name an image, the table probably does not fit the folder.
FEW = 0.5
TRIED_ROWS = 200
SEARCHED_FOLDERS = 200
MANY_COLUMNS = 1000


@dataclass(frozen=True, eq=False)
class Join:
    """A table of R rows joined to the images of a folder.

    Attributes
    ----------
    source : Path
        The path that the user gave.
    folder : FileTree
        Where the images are.
    table : LabelTable
        The table.
    chosen : array (R,) bool
        The rows to read.
    located : Located
        The files of the rows.
    images : sequence of str, or None
        The images of the folder; None if the rows of the table are all that is read.
    """

    source: Path
    folder: FileTree
    table: LabelTable
    chosen: npt.NDArray[np.bool_]
    located: Located
    images: Sequence[str] | None

    def nothing_matches(self) -> str:
        """Return a message for a table of which no row names an image."""
        unmatched, there = self._unmatched(), self._examples()
        advice = self._advice(unmatched, there)
        if not there:
            advice = advice or (
                "give the folder of the images as the source, and the table as the labels"
            )
            return (
                f"there is no image in {self.folder.root}, where the paths in {self.table.where}"
                f" begin, such as {some(unmatched)}; {advice}"
            )
        return (
            f"none of the images that {self.table.where} names is in {self.folder.root}: the table has"
            f" e.g. {_three(unmatched)}, the folder e.g. {_three(there)};"
            f" {advice or 'paths are relative to the folder'}"
        )

    def few_match(self) -> list[str]:
        """Return a warning if fewer than half of the rows name an image, or an empty list."""
        rows = [
            row for row in np.flatnonzero(self.chosen).tolist() if self.table.images[row].strip()
        ]
        matched = sum(bool(self.located.files[row]) for row in rows)
        if not rows or matched >= FEW * len(rows):
            return []
        named = set(self.located.files)
        unmatched = self._unmatched()
        there = [file for file in self._examples() if file not in named]
        left = f", and images without a row are e.g. {_three(there)}" if there else ""
        advice = self._advice(unmatched, there)
        return [
            f"only {matched:,} of {count(rows, 'row', 'rows')} in {self.table.where} name an image in"
            f" {self.folder.root}: rows without an image are e.g. {_three(unmatched)}{left}"
            f"{f'; {advice}' if advice else ''}"
        ]

    def _unmatched(self) -> list[str]:
        """Return some paths of the rows that name no image."""
        rows = np.flatnonzero(self.chosen).tolist()
        texts = (self.table.images[row] for row in rows if not self.located.files[row])
        found = dict.fromkeys(text.strip() for text in texts if text.strip())
        return list(found)[:TRIED_ROWS]

    def _examples(self) -> list[str]:
        """Return images of the folder, those first that no row names."""
        if self.images is None:
            return list(_some_images(self.folder.root))
        named = set(self.located.files)
        return [file for file in self.images if file not in named] or list(self.images)

    def _advice(self, unmatched: Sequence[str], there: Sequence[str]) -> str:
        relative = [text.replace("\\", "/") for text in unmatched if not is_absolute(text)]
        return (
            self._other_column()
            or self._other_folder(relative, there)
            or _other_suffix(relative, there)
            or self._advice_for_table()
        )

    def _advice_for_table(self) -> str:
        """Return advice for a table of features that is read as one of images."""
        if self.images is not None or not _are_ids(self._unmatched()):
            return ""
        several = len(self.table.files) > 1
        return advice_for_table(self.table.files[0], self.source if several else None)

    def _scan(self, source: Path) -> str:
        """Return the command that scans another folder with the same table."""
        table = "" if self._is_metadata() else f" {shlex.quote(str(self.table.files[0]))}"
        return f"`labelaudit scan {shlex.quote(str(source))}{table}`"

    def _is_metadata(self) -> bool:
        return self.images is not None and self.table.files[0].parent == self.folder.root

    def _other_folder(self, relative: Sequence[str], there: Sequence[str]) -> str:
        """Return advice if paths begin in a folder above the source, or in one of its subfolders."""
        cut = [text for text in relative if any(end in self.folder for end in ends_of(text))]
        if len(cut) > FEW * len(relative):
            end = next(end for end in ends_of(cut[0]) if end in self.folder)
            head = cut[0][: -len(end)].rstrip("/")
            root = self.folder.root.resolve()
            if root.as_posix().endswith(f"/{posixpath.normpath(head)}"):
                above = root.parents[head.count("/")]
                return (
                    f'the paths begin with "{head}/", so give the folder above: {self._scan(above)}'
                )
            return f'the images are found without "{head}/" in their paths, so take it out of them'
        below: Counter[str] = Counter()
        tried = set(relative)
        for file in there:
            ends = [end for end in ends_of(file) if end in tried]
            below.update(file[: -len(end)].rstrip("/") for end in ends[:1])
        if below and below.total() > FEW * min(len(relative), len(there)):
            top = below.most_common(1)[0][0]
            if len(below) == 1:
                inner = self._scan(self.folder.root / top)
                return f'the images lie in its folder "{top}", so give that: {inner}'
            return f'the paths lack the folder of the image, such as "{top}/"; write it before them'
        return ""

    def _other_column(self) -> str:
        """Return advice if another column of the table names the images."""
        try:
            cells = read_cells(self.table.files[0], Columns(None, None, None, others=MANY_COLUMNS))
        except SourceError:
            return ""
        for name, texts in cells.texts.items():
            tried = [text for text in texts[:TRIED_ROWS] if text.strip()]
            if not tried or texts == self.table.images or _are_ids(tried):
                continue
            found = locate(tried, self.folder, self.images).files
            if sum(map(bool, found)) > FEW * len(tried):
                return f'the column "{name}" names the images: `image_column={name}`'
        return ""


def _three(texts: Sequence[str]) -> str:
    return some(list(texts)[:3])


def _are_ids(texts: Sequence[str]) -> bool:
    """Return whether texts are probably no paths: without a folder and a suffix of images."""
    return not any("/" in text or suffix_of(text) in IMAGE_SUFFIXES for text in texts)


def _other_suffix(relative: Sequence[str], there: Sequence[str]) -> str:
    """Return advice if the images differ from the paths only in their suffix."""
    stems = {file.rpartition(".")[0]: suffix_of(file) for file in there}
    wrong = [text for text in relative if text.rpartition(".")[0] in stems]
    if not wrong or len(wrong) <= FEW * len(relative):
        return ""
    suffix = stems[wrong[0].rpartition(".")[0]]
    return (
        f"the images have the suffix .{suffix} and the paths .{suffix_of(wrong[0])}; write the paths"
        " without a suffix, or with that one"
    )


def _some_images(root: Path) -> Iterator[str]:
    """Yield images below a folder, from its first folders and in their order."""
    folders, visited = [""], 0
    while folders and visited < SEARCHED_FOLDERS:
        folder = folders.pop(0)
        visited += 1
        try:
            entries = sorted((root / folder).iterdir(), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                continue
            if suffix_of(entry.name) in IMAGE_SUFFIXES and entry.is_file():
                yield path
            elif entry.is_dir() and not entry.is_symlink():
                folders.append(path)

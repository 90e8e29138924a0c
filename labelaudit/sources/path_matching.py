"""The files that the paths in a table refer to, in whatever way another machine has written them.

A path is taken as it is, if there is such a file. Otherwise it may differ from a file in case, Unicode
form or percent-encoding. An absolute path of another machine is found by its end.
"""

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from labelaudit.sources.file_tree import WINDOWS_ROOT, FileTree
from labelaudit.sources.wording import count

# Longest end of a path, in parts, that is looked for. Longer texts are prose and no paths.
MAX_DEPTH = 16
NO_SUCH_IMAGE = "no such image in the folder"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Located:
    """The file of each of R paths.

    Attributes
    ----------
    files : list of str
        The file, relative to the folder; "" where there is none.
    missing : dict of int to (str, str)
        For paths without a file, by row: a name for the file, and the reason.
    warnings : list of str
        How paths were matched that are written in another way than the files.
    """

    files: list[str]
    missing: dict[int, tuple[str, str]]
    warnings: list[str]


@dataclass(eq=False)
class _Search:
    """What is known of the R paths so far."""

    files: list[str]
    missing: dict[int, tuple[str, str]] = field(default_factory=dict)
    foreign: dict[int, str] = field(default_factory=dict)  # absolute paths, by row
    respelled: dict[int, tuple[str, str]] = field(default_factory=dict)  # (path, file), by row


def locate(paths: Sequence[str], folder: FileTree, images: Sequence[str] | None = None) -> Located:
    """Find the files of paths as a table writes them.

    Parameters
    ----------
    paths : sequence of str
        R paths, relative to the folder or absolute, of any system.
    folder : FileTree
        Where the files are.
    images : sequence of str, optional
        The images of the folder, if they are known. The end of another machine's path may then begin
        in any subfolder. Otherwise it begins in the folder itself.
    """
    search = _Search([""] * len(paths))
    forms = _OtherForms(folder.root)
    for row, text in enumerate(paths):
        path = _plain(text)
        relative = folder.relative(path)
        if path != path.strip() and (relative is None or relative not in folder):
            path = path.strip()
            relative = folder.relative(path)
        if not path:
            search.missing[row] = ("", "it names no image")
        elif relative is None or _SCHEME.match(path):
            search.foreign[row] = path_of(path)
        else:
            search.files[row], reason = folder.find(relative)
            if not reason:
                continue
            if reason == NO_SUCH_IMAGE and (file := forms.find(relative, folder)):
                search.respelled[row] = (relative, file)
            else:
                search.missing[row] = (relative, reason)
    warnings = _take_respelled(search, paths)
    matched = _match_foreign(search, folder, forms, images)
    if matched:
        row = matched[0]
        warnings.append(
            f"{count(matched, 'path is', 'paths are')} of another machine, such as"
            f' "{paths[row]}"; they were matched to the images here by their ends, such as'
            f' "{search.files[row]}"'
        )
    return Located(search.files, search.missing, warnings)


def _take_respelled(search: _Search, paths: Sequence[str]) -> list[str]:
    """Match paths that are written another way than a file, unless another path is written like it."""
    exact = set(search.files)
    matched = []
    for row, (relative, file) in search.respelled.items():
        if file in exact:
            search.missing[row] = (relative, NO_SUCH_IMAGE)
        else:
            search.files[row] = file
            matched.append(row)
    if not matched:
        return []
    return [
        f"{count(matched, 'path differs', 'paths differ')} from the name of the file in case, Unicode"
        f' form or percent-encoding, such as "{paths[matched[0]]}" from'
        f' "{search.files[matched[0]]}"; they were matched'
    ]


def path_of(text: str) -> str:
    """Return what an address says before its query; a path as it is."""
    return re.split(r"[?#]", text)[0] if _SCHEME.match(text) else text


def _plain(text: str) -> str:
    """Return a path with forward slashes; of a file's URL, the path that it means."""
    path = text.replace("\\", "/")
    if not path.strip().lower().startswith("file:"):
        return path
    path = unquote(path.strip()[len("file:") :])
    local = re.match(r"//(localhost)?(?=/)", path)
    path = path[local.end() :] if local else path
    return path[1:] if re.match(r"/[A-Za-z]:/", path) else path


# --- other forms -------------------------------------------------------------------------------


class _OtherForms:
    """The visible names below a folder by a form without case and composition of characters."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, dict[str, list[str]]] = {}

    def find(self, relative: str, folder: FileTree) -> str:
        """Return the only file that is probably meant by a relative path; "" if there is none."""
        for path in dict.fromkeys((relative, unquote(relative))):
            if path in folder:
                return path
            parts = path.split("/")
            if ".." in parts or "" in parts:
                continue
            found = [file for file in self._alike(parts) if file in folder]
            same = [file for file in found if _composed(file) == _composed(path)]
            if len(same or found) == 1:
                return (same or found)[0]
        return ""

    def _alike(self, parts: Sequence[str]) -> list[str]:
        places = [""]
        for part in parts:
            places = [
                f"{place}/{name}" if place else name
                for place in places
                for name in self._in(place).get(folded(part), [])
            ]
        return places

    def _in(self, directory: str) -> dict[str, list[str]]:
        if directory not in self._names:
            names: dict[str, list[str]] = {}
            try:
                listed = sorted(path.name for path in (self._root / directory).iterdir())
            except (OSError, ValueError):  # a file, no permission, or no name for a path
                listed = []
            for name in listed:
                if not name.startswith("."):
                    names.setdefault(folded(name), []).append(name)
            self._names[directory] = names
        return self._names[directory]


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """Return a name without the differences of case and of Unicode form."""
    return _composed(_composed(text).casefold())


# --- paths of another machine ------------------------------------------------------------------


def _match_foreign(
    search: _Search, folder: FileTree, forms: _OtherForms, images: Sequence[str] | None
) -> list[int]:
    """Find absolute paths by their ends; return the rows of those found.

    The part before the end is the place of the folder on the other machine. If two paths end alike, the
    one from the place with more images is meant.
    """
    by_name: dict[str, list[str]] = {}
    for file in images or ():
        by_name.setdefault(folded(file.rpartition("/")[2]), []).append(file)
    ends: dict[int, tuple[str, int]] = {}  # the file of a row, and its number of common parts
    for row, path in search.foreign.items():
        parts = [part for part in path.split("/") if part]
        if ".." in parts or _is_here(path):
            search.missing[row] = (path, f"the path leaves the folder {folder.root}")
            continue
        found = _longest_end(parts, by_name) or _whole_end(parts, folder, forms)
        if len(found) == 1:
            ends[row] = found[0]
        elif found:
            names = ", ".join(file for file, _ in found[:3])
            search.missing[row] = (path, f"several images could be meant: {names}")
    places = {row: _place(search.foreign[row], common) for row, (_, common) in ends.items()}
    sizes = Counter(places.values())
    taken = {file for file in search.files if file}
    best: dict[str, str] = {}  # file -> the path that means it
    for row in sorted(ends, key=lambda row: -sizes[places[row]]):
        file, path = ends[row][0], search.foreign[row]
        if file in taken or best.setdefault(file, path) != path:
            reason = f"its end fits {file}, which another path names"
            search.missing[row] = (path, reason)
        else:
            search.files[row] = file
    for row in search.foreign.keys() - ends.keys() - search.missing.keys():
        path = search.foreign[row]
        place = next((place for place in _folders_of(path) if place in sizes), None)
        outside = f"the path leaves the folder {folder.root}"
        search.missing[row] = (
            (path, outside) if place is None else (path[len(place) :], NO_SUCH_IMAGE)
        )
    return [row for row in sorted(ends) if search.files[row]]


def _is_here(path: str) -> bool:
    """Return whether an absolute path names something on this machine, outside the folder."""
    try:
        return path.startswith("/") and not path.startswith("//") and os.path.lexists(path)
    except ValueError:
        return False


def _longest_end(parts: Sequence[str], by_name: dict[str, list[str]]) -> list[tuple[str, int]]:
    """Return the images with the longest common end with a path, and its number of parts."""
    if not parts:
        return []
    common: dict[str, int] = {}
    for file in by_name.get(folded(parts[-1]), []) or by_name.get(folded(unquote(parts[-1])), []):
        ours = file.split("/")
        pairs = zip(reversed(parts), reversed(ours), strict=False)
        same = 0
        for one, other in pairs:
            if folded(one) != folded(other) and folded(unquote(one)) != folded(other):
                break
            same += 1
        common[file] = same
    longest = max(common.values(), default=0)
    return [(file, longest) for file, same in common.items() if same == longest]


def _whole_end(parts: Sequence[str], folder: FileTree, forms: _OtherForms) -> list[tuple[str, int]]:
    """Return the file that is the longest end of a path, with its number of parts, or nothing."""
    for start in range(max(0, len(parts) - MAX_DEPTH), len(parts)):
        end = "/".join(parts[start:])
        file = folder.find(end)[0] or forms.find(end, folder)
        if file:
            return [(file, len(parts) - start)]
    return []


def _folders_of(path: str) -> Iterator[str]:
    """Yield the folders above a path with their slashes, the innermost first."""
    folder = path
    while "/" in folder:
        folder = folder.rpartition("/")[0]
        yield f"{folder}/"


def _place(path: str, common: int) -> str:
    """Return a path without the `common` last parts, with its slash."""
    plain = path.rstrip("/")
    for _ in range(common):
        plain = plain.rpartition("/")[0].rstrip("/")
    return f"{plain}/"


def is_absolute(text: str) -> bool:
    """Return whether a path in a table begins at a root, of this or another machine."""
    path = text.strip().replace("\\", "/")
    return bool(path.startswith("/") or WINDOWS_ROOT.match(path) or _SCHEME.match(path))


def ends_of(path: str) -> Iterator[str]:
    """Yield the ends of a relative path that lack one or more of its first folders."""
    rest = posixpath.normpath(path)
    while "/" in rest:
        rest = rest.partition("/")[2]
        yield rest

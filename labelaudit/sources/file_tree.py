"""The visible files below a folder, and the file that a path in a table refers to."""

import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

from labelaudit.errors import SourceError
from labelaudit.files import suffix_of, well_formed
from labelaudit.sources.classes import text_array
from labelaudit.sources.manifest import Texts
from labelaudit.sources.wording import count, some

IMAGE_SUFFIXES = frozenset({
    "apng", "avif", "bmp", "dib", "gif", "heic", "heif", "hif", "ico", "j2k", "jfif", "jp2", "jpe",
    "jpeg", "jpg", "mpo", "pbm", "pcx", "pgm", "png", "pnm", "ppm", "sgi", "tga", "tif", "tiff",
    "webp",
})  # fmt: skip
# Folders of other programs, in lower case, which hold thumbnails, copies or deleted files. Like hidden
# ones they are not read.
SYSTEM_FOLDERS = frozenset({
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler",
    "__macosx", "__pycache__", "lost+found", "system volume information",
})  # fmt: skip
# The marker of a folder that labelaudit has written, see `labelaudit.reporting.run_folder`. Results are
# no samples.
RESULTS_MARKER = "labelaudit.json"
WINDOWS_ROOT = re.compile(r"[A-Za-z]:/|//")


def source_name(source: str | Path) -> str:
    """Return the name of a source on disk: that of its folder, or of its file without the suffix."""
    path = Path(source)
    resolved = path.resolve()
    return well_formed(resolved.name if path.is_dir() else resolved.stem) or "source"


class FileTree:
    """The visible files below a folder. Each directory is listed once, when it is first needed.

    Not visible are hidden folders, those of `SYSTEM_FOLDERS`, and results of labelaudit.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # With and without symbolic links resolved, because a table may have either form.
        self._absolute = tuple(
            dict.fromkeys(p.as_posix().rstrip("/") for p in (root.absolute(), root.resolve()))
        )
        # Joined as text, because building a million Path objects takes seconds.
        self._prefix = str(root / "x")[:-1]
        self._files: dict[str, frozenset[str]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}
        self._invisible: dict[str, bool] = {"": False}
        self.unnameable: list[tuple[str, str, str]] = []
        self.unlisted: list[tuple[str, str, str]] = []

    def walk(self) -> list[str]:
        """Return all visible files as sorted relative paths; linked folders are followed once."""
        files: list[str] = []
        seen: set[tuple[int, int]] = set()
        directories, links = [""], list[str]()
        linked_folders: set[str] = set()
        while directories or links:
            # Links last, so that a folder is listed at its own place and not at that of a link.
            directory = directories.pop() if directories else links.pop()
            try:
                status = (self.root / directory).stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                below, linked = self._list(directory)
            except OSError as error:
                reason = error.strerror or str(error)
                if directory not in linked_folders:
                    raise SourceError(
                        f"the folder {self.root / directory} cannot be read: {reason}"
                    ) from error
                # One bad link is no reason to refuse all other files.
                self.unlisted.append((directory, self._prefix + directory, reason))
                continue
            directories += below
            links += sorted(linked, reverse=True)
            linked_folders.update(linked)
            base = f"{directory}/" if directory else ""
            files += [base + name for name in self._files[directory]]
        return sorted(files)

    def _list(self, directory: str) -> tuple[list[str], list[str]]:
        """List a directory's files into `_files`; return its subfolders and its linked ones."""
        base = f"{directory}/" if directory else ""
        names, below, linked = list[str](), list[str](), list[str]()
        unnameable: list[tuple[str, str, str]] = []
        with os.scandir(self.root / directory) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if not (name.isascii() or _is_utf8(name)):
                    # Such a name can neither be written into results nor occur in a table.
                    shown = os.fsencode(base + name).decode("utf-8", "backslashreplace")
                    reason = "the file's name is not UTF-8; rename it"
                    unnameable.append((shown, self._prefix + shown, reason))
                elif _is_folder(entry):
                    if name.lower() not in SYSTEM_FOLDERS:
                        (linked if entry.is_symlink() else below).append(base + name)
                elif entry.is_symlink() or entry.is_file() or suffix_of(name) in IMAGE_SUFFIXES:
                    # A broken link, or a named pipe, is reported as an unreadable image.
                    names.append(name)
        if directory and RESULTS_MARKER in names:
            names, below, linked, unnameable = [], [], [], []
            self._invisible[directory] = True
        self.unnameable += unnameable
        self._files[directory] = frozenset(names)
        return below, linked

    def folders(self, base: str = "") -> list[str]:
        """Return the names of the visible folders directly in `base` ("" or with its slash), sorted.

        Call `walk` before.
        """
        inside = [
            name[len(base) :] for name in self._files if name.startswith(base) and name != base
        ]
        return sorted(
            name
            for name in inside
            if name and "/" not in name and not self._invisible.get(base + name, False)
        )

    def _is_invisible(self, directory: str) -> bool:
        """Whether a directory is hidden, one of `SYSTEM_FOLDERS`, or in results of labelaudit."""
        if directory not in self._invisible:
            parent, _, name = directory.rpartition("/")
            self._invisible[directory] = (
                name.startswith(".")
                or name.lower() in SYSTEM_FOLDERS
                or self._is_invisible(parent)
                or (self.root / directory / RESULTS_MARKER).is_file()
            )
        return self._invisible[directory]

    def _files_in(self, directory: str) -> frozenset[str]:
        if directory not in self._files:
            try:
                there = not self._is_invisible(directory) and (self.root / directory).is_dir()
                if there:
                    self._list(directory)
            except (OSError, ValueError):
                there = False  # for example prose that is too long to be a path
            if not there:
                self._files[directory] = frozenset()
        return self._files[directory]

    def __contains__(self, file: str) -> bool:
        directory, _, name = file.rpartition("/")
        return name in self._files_in(directory)

    def find(self, file: str) -> tuple[str, str]:
        """Return the file that a relative path in a table refers to; or "" and the reason."""
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
        if plain.startswith(("/", "../")) or plain == ".." or WINDOWS_ROOT.match(plain):
            return None
        return plain

    @property
    def skipped(self) -> list[tuple[str, str, str]]:
        """Files whose names are not UTF-8 and linked folders that cannot be read, as `skipped` rows."""
        return [*self.unnameable, *self.unlisted]

    def warnings(self) -> list[str]:
        """Return a warning for each kind of `skipped`."""
        found = []
        if names := [file for file, _, _ in self.unnameable]:
            found.append(
                f"{count(names, 'file', 'files')} left out, the name is not UTF-8: {some(names)}"
            )
        if links := [link for link, _, _ in self.unlisted]:
            found.append(
                f"{count(links, 'link', 'links')} to a folder left out, which cannot be read:"
                f" {some(links)}"
            )
        return found

    def open_paths(self, files: Sequence[str]) -> Texts:
        """Return paths (N,) that open these files."""
        return text_array([self._prefix + file.replace("/", os.sep) for file in files])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or to where nobody may look
        return False


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

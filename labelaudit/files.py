"""Files that are written completely or not at all, and by one process at a time."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from labelaudit.errors import OutputError, SourceError, WriteError
from labelaudit.memory import in_words

if TYPE_CHECKING:
    from filelock import BaseFileLock

if sys.platform != "win32":
    import fcntl

# Names of unfinished files. `remove_partial_files` deletes those of processes that were killed.
PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial(\.\w+)?")
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of the operating system if a file cannot become larger."""
LEAST_ROOM = 1 << 20  # bytes; a disk with less is full
# Begin of the messages of torch's writer, which raises a RuntimeError if the disk is full.
TORCH_WRITER = "inline_container"
LOCK_SECONDS = 10.0  # how long to wait for another process that writes the same file
FOLDER_LOCK = ".labelaudit.lock"  # in a folder, if no file can be made beside it
LONGEST_LOCKED_NAME = 200  # bytes of a folder's name in the name of its lock


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file so that a reader sees the old content or the complete new content.

    ``with atomic_write(path) as temporary:`` yields a path in the same folder, which the block writes
    by any means. When the block ends, the file is flushed to the disk and renamed to `path`. If the
    block raises, the temporary file is removed and `path` stays as it was.

    Parameters
    ----------
    path : Path
        The file to write; its folder must exist.

    Yields
    ------
    Path
        Where to write, an empty file. It has the suffix of `path`, because writers such as `numpy.save`
        append their own suffix if it is missing.

    Raises
    ------
    WriteError
        The operating system reports an error in the block or after it (no such folder, no
        permission, disk full), or the block wrote nothing.
    """
    path = Path(path)
    # tempfile.mkstemp would make files that only their owner can read, but results are shared.
    temporary = path.with_name(f".{secrets.token_hex(8)}.partial{path.suffix}")
    with _writing(path):
        held = _create(temporary)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                # Without this, a power failure after the rename could leave an empty file.
                os.fsync(file.fileno())
                if file.seek(0, os.SEEK_END) == 0:
                    raise OSError("nothing was written")
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            if held is not None:
                os.close(held)


def _create(temporary: Path) -> int | None:
    """Create a file that is locked as long as the descriptor is open, so until this process ends."""
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    if sys.platform == "win32":  # where an open file cannot be renamed
        os.close(descriptor)
        return None
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk, and others of the operating system, into a WriteError."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error
    except RuntimeError as error:
        if TORCH_WRITER not in str(error):
            raise
        raise cannot_write(path, OSError()) from error
    except UnicodeEncodeError as error:
        if is_utf8(path):
            raise
        # Python's own functions can write it, but Arrow's cannot.
        raise OutputError(f"cannot write {path}: its name is not UTF-8; choose another") from error


def is_utf8(path: Path) -> bool:
    """Whether all characters of a path are Unicode."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def cannot_write(path: Path, error: OSError) -> WriteError:
    """Return the error for people of a file or folder that cannot be written."""
    reason = error.strerror or ""
    if error.errno is None:
        # NumPy and torch do not say why a file is incomplete.
        reason = "it could not be written completely"
        with suppress(OSError):
            if shutil.disk_usage(path.absolute().parent).free < LEAST_ROOM:
                reason = "No space left on device"
    return WriteError(f"cannot write {path}: {reason}; make room or choose another output folder")


def check_room(folder: Path, needed: int) -> None:
    """Raise WriteError if the disk of a folder, which need not exist, has less room than needed."""
    folder = folder.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WriteError(
            f"at least {in_words(needed)} will be written, but {folder} has only {in_words(free)} left;"
            " make room, or write to another disk with `out`"
        )


def remove_partial_files(folder: Path) -> None:
    """Delete the unfinished files that killed processes have left in a folder.

    A file that another process is writing is locked, and stays.
    """
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if PARTIAL.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _remove_if_unlocked(Path(entry.path))


def _remove_if_unlocked(partial: Path) -> None:
    with suppress(OSError):
        if sys.platform != "win32":
            descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.close(descriptor)
        partial.unlink()  # on Windows this fails while the file is open


# --- locks --------------------------------------------------------------------------------------


class Lock:
    """A lock file, held by one process at a time and released by the system if the process dies.

    Parameters
    ----------
    path
        The lock file. It is created, and deleted when the lock is released.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: BaseFileLock | None = None

    def acquire(self, seconds: float = 0.0) -> bool:
        """Take the lock. Return False if another process holds it for this long.

        Raises OSError if the lock file cannot be created.
        """
        # Imported here, because it takes longer than the rest of the command line.
        from filelock import FileLock, Timeout

        if self.path.is_symlink():
            # A link could lead to a file of the user, which a lock must not touch.
            raise OSError(f"{self.path} is a link")
        lock = FileLock(self.path, timeout=seconds, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            if not self.path.exists():
                # A folder in which no file can be created looks like one with a lock to filelock.
                with tempfile.TemporaryFile(dir=self.path.parent):
                    pass
            return False
        self._held = lock
        return True

    def release(self) -> None:
        """Delete the lock file and release the lock."""
        if self._held is None:
            return
        if sys.platform != "win32":
            # Deleted while it is held. A process that waits notices that, and opens the path anew.
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            self._held.release()
        else:
            self._held.release()
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        self._held = None


def folder_lock(folder: Path) -> Lock:
    """Return the lock of a folder: a file beside it, so that the folder need not exist yet.

    If no file can be made beside it, as on a mounted volume, the lock is the file `FOLDER_LOCK` in it.
    """
    if not folder.name or (folder.is_dir() and not os.access(folder.parent, os.W_OK)):
        return Lock(folder / FOLDER_LOCK)
    name = folder.name
    if len(os.fsencode(name)) > LONGEST_LOCKED_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return Lock(folder.with_name(f".{name}.lock"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let only one process at a time read a file, change its content and write it.

    Meanwhile there is a lock file beside it. Raises OutputError if the folder cannot be written to, or
    if another process does not end within `LOCK_SECONDS`.
    """
    lock = Lock(path.with_name(f".{path.name}.lock"))
    try:
        taken = lock.acquire(LOCK_SECONDS)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    if not taken:
        raise OutputError(f"cannot write {path}: another process is writing it; try again later")
    try:
        yield
    finally:
        lock.release()


def check_regular(path: Path) -> None:
    """Check that a path is a regular file or a link to one, without opening it.

    Opening anything else may wait for ever (a named pipe), never end (a device), or change something.

    Raises
    ------
    SourceError
        It is something else, does not exist, or cannot be looked at, such as a link to itself.
    """
    try:
        kind = kind_of_file(path.stat().st_mode)
    except FileNotFoundError:
        reason = "does not exist" if not path.is_symlink() else "is a link to nothing"
        raise SourceError(f"{path} {reason}; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{path} cannot be opened: {reason}") from None
    if kind != "a regular file":
        raise SourceError(f"{path} is not a regular file (it is {kind}); give a file")


def kind_of_file(mode: int) -> str:
    """Return what a file is, in words, by the `st_mode` of its status."""
    kinds = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")


def suffix_of(name: str) -> str:
    """Return a file name's suffix in lower case and without its dot; "csv.gz" of a packed file."""
    *_, inner, suffix = ("", "", *name.lower().split("."))
    if "." not in name:
        return ""
    packed = suffix == "gz" and name.count(".") > 1
    return f"{inner}.{suffix}" if packed else suffix


def well_formed(text: str) -> str:
    r"""Return a text with halves of surrogate pairs, which no file can hold, written as "\\udcff".

    JSON may hold them as escapes, and so do names of files that are not UTF-8.
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def exists(path: Path) -> bool:
    """Return whether there is such a file or folder; False if its name is too long for the system."""
    return os.path.exists(path)  # noqa: PTH110 -- pathlib raises an OSError then


def is_file(path: Path) -> bool:
    """Return whether there is such a file; False if its name is too long for the system."""
    return os.path.isfile(path)  # noqa: PTH113 -- pathlib raises an OSError then

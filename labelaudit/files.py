"""Files that are written completely or not at all, and by one process at a time."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labelaudit.errors import OutputError, SourceError


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
        Where to write. It has the suffix of `path`, because writers such as `numpy.save` append
        their own suffix if it is missing.

    Raises
    ------
    OutputError
        The operating system reports an error in the block or after it (no such folder, no
        permission, disk full), or the block wrote nothing.
    """
    path = Path(path)
    # tempfile.mkstemp would make files that only their owner can read, but results are shared.
    temporary = path.with_name(f".{secrets.token_hex(8)}.partial{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            # Without this, a power failure after the rename could leave an empty file.
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}; make room or choose another output folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


LOCK_SECONDS = 10.0  # how long to wait; a lock that stays longer was left by a killed process


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let only one process at a time read a file, change its content and write it.

    Meanwhile there is a lock file beside it. The lock file of a killed process is removed after
    `LOCK_SECONDS`. Raises OutputError if the folder cannot be written to.
    """
    lock = path.with_name(f".{path.name}.lock")
    started = time.monotonic()
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            if time.monotonic() - started > LOCK_SECONDS:
                with suppress(OSError):
                    lock.unlink()
                started = time.monotonic()
            time.sleep(0.01)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()


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

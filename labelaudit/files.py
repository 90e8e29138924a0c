"""Files that are whole or not there at all."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labelaudit.errors import OutputError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file so that a reader sees the old content or the whole new one, never a part.

    ``with atomic_write(path) as temporary:`` yields a path in the same folder, to be written by
    any means. When the block ends the file is flushed to the disk and renamed over `path`; when
    it raises, the temporary file is removed and `path` is left as it was.

    Parameters
    ----------
    path : Path
        The file to write; its folder must exist.

    Yields
    ------
    Path
        Where to write. It has the suffix of `path`, because writers such as `numpy.save` append
        theirs where it is missing.

    Raises
    ------
    OutputError
        If the operating system refuses, in the block or after it (no such folder, no permission,
        disk full), or if the block wrote nothing.
    """
    path = Path(path)
    # Not tempfile.mkstemp: its files are readable by their owner alone, and results are shared.
    temporary = path.with_name(f".{secrets.token_hex(8)}.partial{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            # Without it a power cut after the rename can leave an empty file under the new name.
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


LOCK_SECONDS = 10.0  # waited for somebody else; a lock that is older was left behind


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time read a file, change what it holds, and write it.

    A lock file lies beside it meanwhile. One that a killed process has left is taken over.

    Parameters
    ----------
    path : Path
        The file; it need not be there.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
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


def suffix_of(name: str) -> str:
    """Return a file name's suffix in lower case and without its dot."""
    return name.rpartition(".")[2].lower() if "." in name else ""

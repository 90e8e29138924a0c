"""The memory that is free, so that what needs more is refused before it is read."""

from contextlib import suppress
from pathlib import Path

from labelaudit.errors import SourceError

_GIB = 1 << 30
# Bytes that the text of a cell needs at least: the object, and its place in a list.
BYTES_PER_CELL = 57
SMALL = 1 << 28  # bytes that are never refused
CONTROL_GROUP = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Return the bytes of memory that this process can still get; None if the system does not say."""
    found = [_available(), _left_in_group()]
    return min((size for size in found if size is not None), default=None)


def refuse_larger(what: str, needed: int, advice: str) -> None:
    """Raise SourceError if something needs more bytes of memory than there are.

    Parameters
    ----------
    what : str
        What is read, as the subject of a sentence.
    needed : int
        Bytes, at least.
    advice : str
        What to do about it.
    """
    if needed < SMALL:
        return
    free = free_memory()
    if free is not None and needed > free:
        raise SourceError(
            f"{what} needs at least {needed / _GIB:,.1f} GiB of memory, and {free / _GIB:,.1f} GiB are"
            f" free; {advice}"
        )


def _available() -> int | None:
    """Return what Linux estimates to be available without swapping."""
    return _read_counts(Path("/proc/meminfo")).get("MemAvailable:")


def _left_in_group() -> int | None:
    """Return what the control group of a container leaves. Cached files are given up when needed."""
    folder = CONTROL_GROUP
    with suppress(OSError, ValueError):
        limit = int(
            (folder / "memory.max").read_text(encoding="ascii")
        )  # or "max", which is no limit
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = _read_counts(folder / "memory.stat")
        return limit - used + stat.get("inactive_file", 0) + stat.get("active_file", 0)
    return None


def _read_counts(file: Path) -> dict[str, int]:
    """Return the bytes that a file of the system counts, by name; empty if there is none."""
    counts = dict[str, int]()
    with suppress(OSError, ValueError):
        for line in file.read_text(encoding="ascii").splitlines():
            name, number, *unit = line.split()
            counts[name] = int(number) * (1024 if unit == ["kB"] else 1)
    return counts

"""The memory that is free on this machine, errors before it is too late, and work in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from labelaudit.errors import SourceError

MEMORY_INFO = Path("/proc/meminfo")
# Limit and use of the container, for both versions of Linux's control groups.
CONTAINER_FILES = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.stat")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.stat"),
    ),
)
# Names of what a container uses and the system cannot take back.
USED = ("anon", "total_rss")


def free_bytes() -> int | None:
    """Return how many bytes are free, with swap space; None where that is not known.

    Linux says it, for the machine and for the container. Other systems are not asked.
    """
    found = [free for free in (_free_on_machine(), _free_in_container()) if free is not None]
    return min(found, default=None)


def check_memory(
    needed: int,
    what: str,
    advice: str = "use fewer samples or numbers per sample, or a machine with more memory",
) -> None:
    """Raise SourceError if fewer bytes are free than are needed.

    Parameters
    ----------
    needed
        A low estimate, so that nothing is refused that would fit.
    what
        What needs them, such as "5,000,000 samples with 4,096 features".
    advice
        What to do about it.
    """
    free = free_bytes()
    if free is not None and needed > free:
        raise SourceError(
            f"{what} would take at least {in_words(needed)} of memory, but only {in_words(free)} are"
            f" free; {advice}"
        )


def row_blocks(num_rows: int, row_values: int, most_values: int) -> Iterator[slice]:
    """Cut rows into blocks, for work that must not hold them all in memory.

    Parameters
    ----------
    num_rows
        Number of rows; 0 gives no blocks.
    row_values
        Number of values per row, at least 1.
    most_values
        Largest number of values in a block. A block has at least one row, however long it is.

    Yields
    ------
    slice
        The rows of a block. Blocks are in order, and their stops are at most `num_rows`.
    """
    rows = max(1, most_values // row_values)
    for start in range(0, num_rows, rows):
        yield slice(start, min(start + rows, num_rows))


def in_words(number: int) -> str:
    """Return a number of bytes in words, such as "3.2 GiB"."""
    if number >= 2**30:
        return f"{number / 2**30:,.1f} GiB"
    return f"{number / 2**20:,.{0 if number >= 10 * 2**20 else 1}f} MiB"


def _free_on_machine() -> int | None:
    values = _read_table(MEMORY_INFO)
    if "MemAvailable:" not in values:
        return None
    return 1024 * (values["MemAvailable:"] + values.get("SwapFree:", 0))


def _free_in_container() -> int | None:
    for limit_file, use_file in CONTAINER_FILES:
        try:
            limit = int(limit_file.read_text())
        except (OSError, ValueError):  # no container, or "max"
            continue
        use = _read_table(use_file)
        used = next((use[name] for name in USED if name in use), 0)
        return max(0, limit - used)
    return None


def _read_table(path: Path) -> dict[str, int]:
    """Return the numbers of a file with a name and a number in each line."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}

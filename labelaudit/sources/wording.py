"""Names and numbers of things in messages."""

from collections import Counter
from collections.abc import Iterable, Sequence

from labelaudit.files import suffix_of

LONGEST = 120  # characters of a name in a list of names


def some(texts: Sequence[str], quote: bool = True, shown: int = 3) -> str:
    """Return up to `shown` texts, shortened if they are long, and the number of the others."""
    short = [text if len(text) <= LONGEST else f"{text[:LONGEST]}…" for text in texts[:shown]]
    listed = ", ".join(f'"{text}"' if quote else text for text in short)
    return listed if len(texts) <= shown else f"{listed} and {len(texts) - shown:,} more"


def count(things: Sequence[object], one: str, many: str) -> str:
    """Return "1 image", "1,234 images"."""
    return f"{len(things):,} {one if len(things) == 1 else many}"


def kind_of_name(name: str) -> str:
    """Return the suffix of a file's name for a message: ".heic"; "no suffix" without one."""
    suffix = suffix_of(name.rpartition("/")[2])
    return f".{suffix}" if suffix else "no suffix"


def repeated(texts: Iterable[str]) -> list[str]:
    """Return the texts that occur more than once, without duplicates, in their order."""
    return [text for text, times in Counter(texts).items() if times > 1]

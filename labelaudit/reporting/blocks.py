"""The review page's data, in blocks that a browser reads as they are looked at.

The block `INDEX` has a column for each property that is needed to list, search and sort all suspects.
The blocks ``chunk-00001`` and so on hold pictures and neighbors of some suspects each. All of them lie
in the folder `DATA_FOLDER` beside the page, as scripts, for a page that was opened from disk may read
no other files. The page carries the first ones as well, so that a small report can be sent alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelaudit.errors import OutputError, SourceError
from labelaudit.files import atomic_write

DATA_FOLDER = "report-data"
INDEX = "index"
INLINE_BYTES = 1_500_000  # of blocks that the page carries itself
# Formats that browsers show, by suffix.
SHOWN_BY_BROWSERS = frozenset(
    {"apng", "avif", "bmp", "gif", "ico", "jfif", "jpe", "jpeg", "jpg", "png", "webp"}
)
_BEFORE, _AFTER = "labelauditData(", ");\n"


@dataclass(frozen=True)
class Block:
    """A part of the data: its name and its text, JSON without the sign "<"."""

    name: str
    json: str


def read_block(folder: Path, name: str) -> Any:
    """Read what a block of a run folder holds.

    Raises
    ------
    SourceError
        If it is not there or not a block.
    """
    path = folder / DATA_FOLDER / f"{name}.js"
    try:
        return json.loads(_stripped(path.read_text(encoding="utf-8"), name))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def block_json(folder: Path, name: str) -> str:
    """Give the JSON text of a block; see `read_block`."""
    return block_text(read_block(folder, name))


def _stripped(text: str, name: str) -> str:
    start = f"{_BEFORE}{json.dumps(name)}, "
    if not (text.startswith(start) and text.endswith(_AFTER)):
        raise ValueError("it is not a block of a report")
    return text[len(start) : -len(_AFTER)]


def stored_blocks(folder: Path, index: Any) -> list[Block]:
    """Read the blocks that a page carries itself from a run folder.

    Parameters
    ----------
    folder : Path
        The run folder.
    index : object
        What its block `INDEX` holds.
    """
    inline = InlineBlocks()
    inline.add(Block(INDEX, block_text(index)))
    for path in sorted((folder / DATA_FOLDER).glob("chunk-*.js")):
        if inline.full:
            break
        inline.add(Block(path.stem, block_json(folder, path.stem)))
    return inline.blocks


class InlineBlocks:
    """Blocks that the page carries, as long as there is room: the first ones, without gaps."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.full = False
        self._left = INLINE_BYTES

    def add(self, block: Block) -> None:
        """Take a block if there is still room."""
        self._left -= len(block.json.encode("utf-8", errors="replace"))
        self.full = self.full or self._left < 0
        if not self.full:
            self.blocks.append(block)


def empty_data_folder(place: Path) -> None:
    """Make the folder, without blocks of an earlier run that was gone on with.

    Raises
    ------
    OutputError
        If that cannot be done.
    """
    try:
        place.mkdir(exist_ok=True)
        for old in [*place.glob("chunk-*.js"), place / f"{INDEX}.js"]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {place}: {error.strerror or error}; choose another output folder"
        ) from error


def write_block(place: Path, block: Block, inline: InlineBlocks) -> None:
    """Write a block into the data folder, and offer it to the page."""
    inline.add(block)
    with atomic_write(place / f"{block.name}.js") as path:
        text = f"{_BEFORE}{json.dumps(block.name)}, {block.json}{_AFTER}"
        # A file name that is not Unicode must not cost the report: it is shown with "?" instead.
        path.write_bytes(text.encode("utf-8", errors="replace"))


def block_text(value: Any) -> str:
    """Write JSON that can stand in a page: nothing in it ends a script."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")

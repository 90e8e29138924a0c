"""The data of the review page, in blocks that the browser reads when they are needed.

The block `INDEX` has one column for each property that is needed to list, search and sort the suspects.
The blocks ``chunk-00001`` and so on hold the pictures and neighbors of some suspects each. All blocks
are files in a folder beside the page, `DATA_FOLDER` in a run folder. They are scripts, because a page
that is opened from disk may not read other files. The page also contains the first blocks itself, so
that a small report can be sent as one file.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelaudit.errors import OutputError, SourceError
from labelaudit.files import atomic_write

DATA_FOLDER = "report-data"
INDEX = "index"
INLINE_BYTES = 1_500_000  # total size of the blocks that the page itself contains
# Suffixes of the image formats that browsers show.
SHOWN_BY_BROWSERS = frozenset(
    {"apng", "avif", "bmp", "gif", "ico", "jfif", "jpe", "jpeg", "jpg", "png", "webp"}
)
_BEFORE, _AFTER = "labelauditData(", ");\n"


@dataclass(frozen=True)
class Block:
    """One part of the data: its name and its text, which is JSON without the character "<"."""

    name: str
    json: str


def read_block(folder: Path, name: str) -> Any:
    """Read the content of a block of a run folder.

    Raises SourceError if the file is missing or is not a block.
    """
    path = folder / DATA_FOLDER / f"{name}.js"
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise ValueError("it is not a regular file")
        return json.loads(_stripped(path.read_text(encoding="utf-8"), name))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            f"{path} cannot be read ({error}); scan again with `force=True`"
        ) from error


def block_json(folder: Path, name: str) -> str:
    """Return the JSON text of a block; see `read_block`."""
    return block_text(read_block(folder, name))


def _stripped(text: str, name: str) -> str:
    start = f"{_BEFORE}{json.dumps(name)}, "
    if not (text.startswith(start) and text.endswith(_AFTER)):
        raise ValueError("it is not a block of a report")
    return text[len(start) : -len(_AFTER)]


def stored_blocks(folder: Path, index: Any) -> list[Block]:
    """Read the blocks that the page itself contains from a run folder, given the content of `INDEX`."""
    inline = InlineBlocks()
    inline.add(Block(INDEX, block_text(index)))
    for path in sorted((folder / DATA_FOLDER).glob("chunk-*.js")):
        if inline.full:
            break
        inline.add(Block(path.stem, block_json(folder, path.stem)))
    return inline.blocks


class InlineBlocks:
    """The blocks that the page itself contains: the first ones, without gaps, while there is room."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.full = False
        self._left = INLINE_BYTES

    def add(self, block: Block) -> None:
        """Add a block if there is still room."""
        self._left -= len(block.json.encode("utf-8", errors="replace"))
        self.full = self.full or self._left < 0
        if not self.full:
            self.blocks.append(block)


def refuse_other_files(place: Path) -> None:
    """Raise OutputError if a folder holds anything but blocks of an earlier report."""
    if not os.path.lexists(place):
        return
    try:
        for file in [place] if place.is_symlink() or not place.is_dir() else place.iterdir():
            with file.open("rb") as opened:
                start = opened.read(len(_BEFORE))
            if file.suffix != ".js" or start != _BEFORE.encode():
                raise OutputError(
                    f"{place} holds {file.name}, which is not of a report; choose another name for the"
                    " page, or move that folder away"
                )
    except OSError as error:
        raise OutputError(
            f"{place} is not a folder of a report ({error.strerror or error}); choose another name for"
            " the page, or move it away"
        ) from error


def remove_data_folder(place: Path) -> None:
    """Delete the folder of blocks that the page contains itself."""
    with suppress(OSError):
        for block in place.glob("*.js"):
            block.unlink()
        place.rmdir()


def empty_data_folder(place: Path) -> None:
    """Create the folder, and delete the blocks of an interrupted run in it.

    Raises OutputError if the folder cannot be created or emptied.
    """
    try:
        if place.is_symlink():
            raise OSError("it is a link, which may lead to files of yours")
        place.mkdir(exist_ok=True)
        for old in [*place.glob("chunk-*.js"), place / f"{INDEX}.js"]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {place}: {error.strerror or error}; choose another output folder"
        ) from error


def write_block(place: Path, block: Block, inline: InlineBlocks) -> None:
    """Write a block into the data folder, and add it to those in the page if there is room."""
    inline.add(block)
    with atomic_write(place / f"{block.name}.js") as path:
        text = f"{_BEFORE}{json.dumps(block.name)}, {block.json}{_AFTER}"
        # A file name that is not Unicode is shown with "?". It must not prevent the report.
        path.write_bytes(text.encode("utf-8", errors="replace"))


def block_text(value: Any) -> str:
    """Return a value as JSON that is safe inside a script element: it contains no "<"."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")

"""Tar files in the manner of WebDataset: `key.jpg` is an image, and `key.cls` or `key.json` its label.

Members are read from their places in the file. Only regular ones are read, and nothing is unpacked.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from labelaudit.errors import SourceError
from labelaudit.files import check_regular, suffix_of
from labelaudit.sources.cells import LABEL_COLUMNS, Cells, Columns
from labelaudit.sources.classes import as_text
from labelaudit.sources.file_tree import IMAGE_SUFFIXES
from labelaudit.sources.wording import count, some

# Columns that hold labels if none is asked for: suffixes of members, and keys of JSON.
LABEL_FIELDS = ("cls", *LABEL_COLUMNS, "cls.txt", "label.txt", "class.txt", "txt")
# Suffixes of members that hold text.
TEXTS = frozenset({"cls", "txt", "text", "id", "index", "key", "label", "class", "target", "split"})
# Name of the column of the members that are images.
IMAGE = "image"
NO_LABEL = "no label"  # the column of labels if there is none
MAX_TEXT = 1 << 20  # bytes of a member that holds text
MAX_IMAGE = 1 << 30  # bytes of a member that is an image
MAX_HEADER = 1 << 24  # bytes of a header of the tar file, such as one for a long name
# If more of the texts than this are different, they are captions and no labels.
SHARE_OF_CAPTIONS = 0.5
FEWEST_CAPTIONS = 20
_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
MAX_SHARDS = 100_000


@dataclass(eq=False)
class _Sample:
    images: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # name, first byte, size
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TarIndex:
    """The samples of one tar file.

    Attributes
    ----------
    cells : Cells
        Their texts, one row per sample, and the names of their images in the column `IMAGE`.
    places : array (R, 2) int64
        First byte of each image in the file, and its number of bytes; -1 if there is none.
    warnings : list of str
        One readable line each.
    """

    cells: Cells
    places: npt.NDArray[np.int64]
    warnings: list[str]

    @property
    def without_labels(self) -> str:
        """Advice for a file without labels."""
        names = [name for name in self.cells.names if name != NO_LABEL]
        return (
            f"no member such as 0001.cls or 0001.json holds it; there are {', '.join(names)}: name one"
            " with `label_column`, or give a table of labels"
        )


def index_tar(file: Path, columns: Columns) -> TarIndex:
    """Find the samples of a tar file; only its headers and short texts are read.

    Parameters
    ----------
    file : Path
        An uncompressed tar file.
    columns : Columns
        The requested columns: suffixes of members, such as "cls", or keys of JSON members.

    Raises
    ------
    SourceError
        The file is not such a tar file, or a damaged one, or its images are ambiguous.
    """
    check_regular(file)
    samples: dict[str, _Sample] = {}
    names: dict[str, None] = {}
    damaged: list[str] = []
    with file.open("rb") as opened:
        for member in _members(file):
            match = _KEY.fullmatch(member.name)
            if match is None:
                continue
            key, suffix = match[1], match[2].lower()
            sample = samples.setdefault(key, _Sample())
            if suffix_of(suffix) in IMAGE_SUFFIXES or suffix in IMAGE_SUFFIXES:
                if member.size <= MAX_IMAGE:
                    place = (member.name, member.offset_data, member.size)
                    sample.images.setdefault(suffix, place)
            elif member.size <= MAX_TEXT and _holds_text(suffix, columns):
                opened.seek(member.offset_data)
                try:
                    texts = _texts(suffix, opened.read(member.size))
                except (ValueError, RecursionError):
                    damaged.append(member.name)
                    continue
                names.update(dict.fromkeys(texts))
                sample.texts |= texts
    there = {key: one for key, one in samples.items() if one.images or one.texts}
    found = list(there.values())
    if not any(sample.images for sample in found):
        raise SourceError(
            f"{file} holds no images; a tar file of WebDataset has members such as 0001.jpg and"
            " 0001.cls"
        )
    chosen = _chosen_images(file, found, columns.image)
    wanted = {*LABEL_FIELDS, *columns.of_interest(list(names))}
    columns_of_text = {
        name: [sample.texts.get(name, "") for sample in found] for name in names if name in wanted
    }
    if columns.label is None and not _label_field(names):
        columns_of_text[NO_LABEL] = [""] * len(found)
    columns_of_text[IMAGE] = [name or key for key, (name, _, _) in zip(there, chosen, strict=True)]
    cells = Cells(
        file=file,
        names=(IMAGE, *names, *([NO_LABEL] if NO_LABEL in columns_of_text else [])),
        texts=columns_of_text,
        rows=np.arange(len(found), dtype=np.int64),
        row_word="sample",
        declared={},
        image=IMAGE,
        embedded=True,
    )
    warnings = []
    if damaged:
        warnings.append(
            f"{count(damaged, 'member', 'members')} of {file} left out, because they are not text in"
            f" UTF-8 or not JSON: {some(damaged)}"
        )
    places = np.array([place for _, *place in chosen], np.int64).reshape(-1, 2)
    return TarIndex(cells, places, warnings)


def columns_of_tar(columns: Columns, cells: Cells) -> Columns:
    """Return the requested columns with that of the labels, if it has a usual name.

    Raises SourceError if the only texts are captions.
    """
    columns = replace(columns, image=IMAGE)
    if columns.label is not None:
        return columns
    label = _label_field(cells.names)
    if label is None:
        return replace(columns, label=NO_LABEL)
    there = [text for text in cells.texts[label] if text]
    distinct = len(set(there))
    if label == "txt" and distinct >= max(FEWEST_CAPTIONS, SHARE_OF_CAPTIONS * len(there)):
        raise SourceError(
            f"{cells.file}: the texts in its .txt members look like captions, such as"
            f" {some(there[:1])}, and there is no .cls member; name the suffix or JSON key of the"
            f" labels with `label_column` (there are: {', '.join(cells.names)})"
        )
    return replace(columns, label=label)


def _label_field(names: Iterable[str]) -> str | None:
    """Return the column of labels, if it has a usual name."""
    lowered = {name.lower(): name for name in reversed(list(names))}
    return next((lowered[name] for name in LABEL_FIELDS if name in lowered), None)


def expand_range(path: Path) -> list[Path]:
    """Return the files that a pattern such as "train-{000000..000009}.tar" names; [] if it is none."""
    match = _RANGE.search(path.name)
    if match is None or suffix_of(path.name) != "tar":
        return []
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < MAX_SHARDS:
        raise SourceError(f'the range "{match[0]}" in {path} names no shards; write first..last')
    return [
        path.with_name(
            f"{path.name[: match.start()]}{i:0{len(match[1])}d}{path.name[match.end() :]}"
        )
        for i in range(first, last + 1)
    ]


class _Headers(io.BufferedReader):
    """A tar file of which only headers are read, so that none can fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError("a header is too large")
        return super().read(size)


def _members(file: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the regular members of a tar file."""
    try:
        with _Headers(io.FileIO(file)) as opened:
            total = file.stat().st_size
            start = opened.peek(2)[:2]
            if start in _COMPRESSED:
                raise SourceError(
                    f"{file} is compressed with {_COMPRESSED[start]}, so single images cannot be read"
                    " from it; decompress it to a plain .tar file"
                )
            with tarfile.open(fileobj=opened, mode="r:") as tar:
                for member in tar:
                    cast(Any, tar).members = []  # otherwise it keeps all of them
                    if member.offset_data + member.size > total:
                        raise tarfile.ReadError(f"it is cut off in {member.name}")
                    if member.isreg() and not member.issparse():
                        yield member
                opened.seek(tar.offset)
                if opened.read(tarfile.BLOCKSIZE).strip(b"\0"):
                    raise tarfile.ReadError(f"there is no header at byte {tar.offset:,}")
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{file} is not a tar file, or a damaged one: {error}") from error


def _holds_text(suffix: str, columns: Columns) -> bool:
    last = suffix.rpartition(".")[2]
    asked = (columns.label, columns.clean, columns.verified)
    return last == "json" or last in TEXTS or suffix in asked


def _texts(suffix: str, data: bytes) -> dict[str, str]:
    """Return the texts of a member by the names of their columns; ValueError if it is damaged."""
    text = data.decode("utf-8-sig")
    if suffix.rpartition(".")[2] != "json":
        return {suffix: text.strip("\r\n \t\0")}
    record = json.loads(text)
    pairs = record.items() if isinstance(record, dict) else [("json", record)]
    scalar = str | int | float | bool | None
    return {key: as_text(value) for key, value in pairs if isinstance(value, scalar)}


def _chosen_images(
    file: Path, samples: Sequence[_Sample], asked: str | None
) -> list[tuple[str, int, int]]:
    """Return the image of each sample: its name, first byte and size; ("", -1, -1) if it has none."""
    kinds = dict.fromkeys(kind for sample in samples for kind in sample.images)
    if asked is not None and asked not in (*kinds, IMAGE):
        raise SourceError(
            f'{file} has no images "{asked}"; the suffixes of its images: {", ".join(kinds)}'
        )
    chosen = []
    for sample in samples:
        there = list(sample.images)
        if asked in kinds:
            there = [asked] if asked in sample.images else []
        plain = [kind for kind in there if "." not in kind]
        if len(there) > 1 and len(plain) != 1:
            raise SourceError(
                f"{file}: samples have several images, {', '.join(there)}; choose one with"
                " `image_column`"
            )
        kind = (plain if len(plain) == 1 else there)[:1]
        chosen.append(sample.images[kind[0]] if kind else ("", -1, -1))
    return chosen

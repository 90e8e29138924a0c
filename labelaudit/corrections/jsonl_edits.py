"""Edits of single values of a JSONL table. All other characters stay as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from labelaudit.corrections.label_files import Edit, LabelFile, changed_error, misfit_error
from labelaudit.sources.classes import as_text

_LINE_END = re.compile(r"\r\n|\n|\r")
_JSON_SPACE = re.compile(r"[ \t\n\r]*")
_JSON_ESCAPE = re.compile(r"\\u(?!00[0-7])[0-9a-fA-F]{4}")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class _Record:
    """The positions of the values in a line that holds one JSON object.

    `values` are the spans of its values by key. Another key can be inserted at `end`, with `comma`
    before it and `colon` after it.
    """

    values: dict[str, tuple[int, int]]
    end: int
    comma: str
    colon: str


def edit_jsonl(file: LabelFile, text: str, edits: Mapping[int, Edit]) -> str:
    """Return the text of a table with edited rows.

    Raises SourceError if the table has changed since it was read, or a label does not fit the type of
    its column.
    """
    literals = {} if file.votes is not None else _json_literals(file, text)
    ascii_file = text.isascii()
    pieces: list[str] = []
    done = 0
    for row, (start, line, end) in enumerate(_json_lines(text)):
        edit = edits.get(row, Edit())
        if edit.drop:
            pieces.append(text[done:start])
            done = end
            continue
        if not file.added and edit == Edit():
            continue
        # Non-ASCII characters are escaped if the line escapes them, or if the whole file is ASCII.
        as_ascii = line.isascii() and (ascii_file or _JSON_ESCAPE.search(line) is not None)
        record = _json_record(line)
        changes: dict[str, str] = {}
        if edit.label is not None:
            old = line[slice(*record.values.get(file.label_column, (0, 0)))]
            changes[file.label_column] = _json_label(file, edit.label, old, literals, as_ascii)
        elif file.label_column in file.added:
            changes[file.label_column] = "null"
        for name, cell, typed in (
            (file.verified_name, edit.verified, file.typed),
            (file.first_name, edit.first, False),
        ):
            if cell is not None:
                changes[name] = cell if typed else json.dumps(cell, ensure_ascii=as_ascii)
            elif name in file.added:
                changes[name] = "null"
        _, after = record.values.get(file.verified_name, (0, record.end))
        pieces += [text[done:start], _json_changed(line, record, changes, after, as_ascii)]
        done = start + len(line)
    return "".join([*pieces, text[done:]])


def _json_lines(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield the lines that are not blank: start, text without line end, and end with it."""
    start = 0
    while start < len(text):
        match = _LINE_END.search(text, start)
        stop, end = (len(text), len(text)) if match is None else match.span()
        line = text[start:stop]
        if line.strip():
            yield start, line, end
        start = end


def _json_record(line: str) -> _Record:
    """Find the values of the object in a line that is known to be a JSON object."""

    def skip(position: int) -> int:
        match = _JSON_SPACE.match(line, position)
        assert match is not None
        return match.end()

    values: dict[str, tuple[int, int]] = {}
    position = end = skip(0) + 1  # after the brace
    comma, colon = "", ": "
    position = skip(position)
    while line[position] != "}":
        key, position = _DECODER.raw_decode(line, position)
        start = skip(skip(position) + 1)
        colon = line[position:start]
        _, end = _DECODER.raw_decode(line, start)
        values[key] = (start, end)
        position = skip(end)
        if line[position] == ",":
            position = skip(position + 1)
            comma = line[end:position]
    if values and not comma:
        comma = ", " if colon.endswith(" ") else ","
    return _Record(values, end, comma, colon)


def _json_changed(
    line: str, record: _Record, changes: Mapping[str, str], after: int, as_ascii: bool
) -> str:
    """Replace values, and insert new keys at the position `after`."""
    edits = [(*record.values[key], word) for key, word in changes.items() if key in record.values]
    added = [
        f"{json.dumps(key, ensure_ascii=as_ascii)}{record.colon}{word}"
        for key, word in changes.items()
        if key not in record.values
    ]
    if added:
        before = record.comma if record.values else ""
        edits.append((after, after, before + (record.comma or ", ").join(added)))
    for start, end, word in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        line = line[:start] + word + line[end:]
    return line


def _json_literals(file: LabelFile, text: str) -> dict[str, dict[type, str]]:
    """Return how each label is written, by type; raise if labels are not those that were read."""
    literals: dict[str, dict[type, str]] = {}
    count = 0
    for _, line, _ in _json_lines(text):
        span = _json_record(line).values.get(file.label_column)
        value = None if span is None else json.loads(line[slice(*span)])
        label = as_text(value)
        if count >= len(file.labels) or file.labels[count] != label:
            raise changed_error(file)
        count += 1
        if label and span is not None:
            literals.setdefault(label, {}).setdefault(type(value), line[slice(*span)])
    if count != len(file.labels):
        raise changed_error(file)
    return literals


def _json_label(
    file: LabelFile, label: str, old: str, literals: Mapping[str, dict[type, str]], as_ascii: bool
) -> str:
    """Return a label as JSON, in the type that it has elsewhere, else in the type of all labels."""
    written = literals.get(label, {})
    kinds = {kind for known in literals.values() for kind in known}
    kind = type(json.loads(old)) if old else str
    if written and kind not in written:
        kind = next(iter(written))
    elif not written:
        kind = kinds.pop() if len(kinds) == 1 else str
    if kind is str:
        return json.dumps(label, ensure_ascii=as_ascii)
    if written:
        return written[kind]
    try:
        value = json.loads(label)
        if type(value) is kind and as_text(value) == label:
            return label
    except (ValueError, TypeError):
        pass
    raise misfit_error(file, label, f"values of type {kind.__name__}")

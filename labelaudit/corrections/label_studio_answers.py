"""Decisions that were made in Label Studio, read from its exports: JSON, JSON-MIN, CSV and TSV.

The tasks must be those of `labelaudit.corrections.label_studio`. The interface has three controls:
`LABEL_CONTROL` for the right class, `OUTCOME_CONTROL` for samples that get no class, and
`NOTE_CONTROL`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from labelaudit.corrections.table import (
    ACCEPT,
    CORRECTION_COLUMNS,
    EXCLUDE,
    GIVEN_LABEL,
    KEEP,
    RELABEL,
    UNSURE,
)
from labelaudit.errors import SourceError
from labelaudit.reporting.tables import read_text, separator_of
from labelaudit.sources.text_tables import long_cells

LABEL_CONTROL = "label"
# Its name is not "decision": the controls are columns of Label Studio's CSV, and a column of that name
# would make the file look like a table of corrections.
OUTCOME_CONTROL = "set_aside"
NOTE_CONTROL = "note"
OUTCOMES = (EXCLUDE, UNSURE)
NOT_IN_XML = "\x00-\x1f\ud800-\udfff\ufffe\uffff"
"""Characters that XML cannot represent or that its readers change, for a regular expression's class."""

# What a value in the interface cannot be: it has characters that XML cannot represent; "$word", which
# Label Studio reads as a field of the task; or the beginning of several choices in one cell of its CSV.
_NOT_KEPT = re.compile(f"[{NOT_IN_XML}\x7f]")
_FIELD = re.compile(r"\$[\w\[\].{}]")
_BLANK_EDGE = re.compile(r"\A\s|\s\Z")
SEVERAL = re.compile(r'\[?\{"choices"')


def read_json(path: Path) -> pd.DataFrame:
    """Read decisions from an export of Label Studio, as JSON or JSON-MIN.

    Returns
    -------
    DataFrame
        One row per annotation that decides about a sample, in the order of the file, with the columns
        of corrections.csv and ``given_label``, all text. Cancelled and empty annotations are skipped.

    Raises
    ------
    SourceError
        The file cannot be read, is not such an export, or its tasks are not from labelaudit.
    """
    text = read_text(path)
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON: {error}; export it again") from error
    items = items if isinstance(items, list) else [items]
    try:
        return _decisions_of(items, path)
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError) as error:
        raise SourceError(
            f"{path} is not an export of Label Studio, or it is damaged; export it again"
        ) from error


def _decisions_of(items: list[Any], path: Path) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    for item in items:
        if not isinstance(item, dict):
            raise SourceError(
                f"{path} is not an export of Label Studio: it has no list of tasks; export as JSON,"
                " JSON-MIN or CSV"
            )
        if isinstance(item.get("data"), dict):
            rows += _decisions_of_task(item, path)
        else:
            rows += _decision(item, item, path)
    return _frame(rows)


def read_table(text: str, path: Path) -> pd.DataFrame:
    """Read decisions from an export of Label Studio as CSV or TSV; returns a table as `read_json` does.

    Label Studio's quotes do not distinguish text from numbers, so every cell is read as text: a class
    "1.50" is not 1.5. Raises SourceError as `read_json`.
    """
    sign = separator_of(text)
    try:
        with long_cells():
            cells = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=sign, strict=True))
    except csv.Error as error:
        raise SourceError(f"{path} is not CSV: {error}; export it again") from error
    _check_is_ours(cells[0] if cells else {"sample_id": ""}, path)
    rows: list[dict[str, str]] = []
    for row in cells:
        several = SEVERAL.match(row.get(LABEL_CONTROL) or "")
        try:
            values = {**row, LABEL_CONTROL: json.loads(row[LABEL_CONTROL])} if several else row
        except ValueError as error:
            raise SourceError(
                f"{path} has a damaged cell {row[LABEL_CONTROL]!r}; export it again"
            ) from error
        rows += _decision(values, row, path)
    return _frame(rows)


def choice_value(name: str) -> str:
    """Return the value that represents a class name in the interface, mostly the name itself."""
    kept = bool(name) and not any(
        pattern.search(name) for pattern in (_NOT_KEPT, _FIELD, _BLANK_EDGE)
    )
    if kept and not SEVERAL.match(name) and not is_json_text(name):
        return name
    text = json.dumps(name, ensure_ascii=False)
    return re.sub(rf"[{NOT_IN_XML}\x7f$]", lambda m: f"\\u{ord(m[0]):04x}", text)


def class_name(value: str) -> str:
    """Return the class name that a value in the interface represents; undoes `choice_value`."""
    if not is_json_text(value):
        return value
    name: str = json.loads(value)
    # A person may have added a name with quotes to the interface.
    return name if choice_value(name) == value else value


def is_json_text(text: str) -> bool:
    """Return whether a text is a JSON string, in quotes."""
    if not text.startswith('"') or not text.endswith('"'):
        return False
    try:
        return isinstance(json.loads(text), str)
    except ValueError:
        return False


def _decisions_of_task(task: Mapping[str, Any], path: Path) -> list[dict[str, str]]:
    """Read the annotations of a task in the JSON export."""
    rows = []
    data: Mapping[str, Any] = task["data"]
    _check_is_ours(data, path)
    for annotation in task.get("annotations") or task.get("completions") or []:
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            continue
        values: dict[str, list[Any]] = {}
        for result in annotation.get("result") or []:
            values.setdefault(str(result.get("from_name")), []).append(result.get("value"))
        rows += _decision(values, {**annotation, **data}, path)
    return rows


def _decision(
    values: Mapping[str, Any], about: Mapping[str, Any], path: Path
) -> list[dict[str, str]]:
    """Return one row for an annotation, or none if it decides nothing.

    `values` are the entries by control. `about` has the data of the task, the annotator and the time.
    """
    _check_is_ours(about, path)
    sample = str(about["sample_id"])
    given, suggested = _text(about.get("given_label")), _text(about.get("suggested_label"))
    labels = [class_name(value) for value in _entered(values.get(LABEL_CONTROL), "choices")]
    outcomes = _entered(values.get(OUTCOME_CONTROL), "choices")
    for what, entered in (("labels", labels), ("outcomes", outcomes)):
        if len(set(entered)) > 1:
            raise SourceError(
                f'{path}: {len(set(entered))} {what} are chosen for "{sample}"; choose only one of them'
                " in Label Studio and export again"
            )
    if outcomes:
        decision = outcomes[0]
    elif labels:
        decision = {given: KEEP, suggested: ACCEPT}.get(labels[0], RELABEL)
    else:
        return []
    return [
        {
            "sample_id": sample,
            "decision": decision,
            "corrected_label": labels[0] if decision in (ACCEPT, RELABEL) else "",
            "note": "\n".join(_entered(values.get(NOTE_CONTROL), "text")),
            "reviewer": _reviewer(about),
            "reviewed_at": _text(about.get("updated_at")) or _text(about.get("created_at")),
            "given_label": given,
        }
    ]


def _entered(value: Any, kind: str) -> list[str]:
    """Return the texts that were entered into a control, from any form of export."""
    if value is None or value == "":
        return []
    if isinstance(value, Mapping):
        return _entered(value.get(kind), kind)
    if isinstance(value, list):
        return [text for part in value for text in _entered(part, kind)]
    return [str(value)]


def _reviewer(about: Mapping[str, Any]) -> str:
    author = about.get("completed_by", about.get("annotator"))
    if isinstance(author, Mapping):
        author = author.get("email") or author.get("id")
    return _text(author)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _check_is_ours(names: Iterable[Any], path: Path) -> None:
    if "sample_id" not in names:
        raise SourceError(
            f'{path} has a task without "sample_id"; the tasks must be those that'
            " `labelaudit export --to label-studio` wrote"
        )


def _frame(rows: list[dict[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*CORRECTION_COLUMNS, GIVEN_LABEL], dtype="str")

"""Label Studio: tasks to import there, the labeling interface, and the way back.

A task's data holds ``sample_id``, ``given_label``, ``suggested_label``, ``suspect_score``, and the
address of the ``image`` or a ``text``. The interface has three controls: `LABEL_CONTROL` for the right
class, `OUTCOME_CONTROL` for samples that get none, and `NOTE_CONTROL`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pandas as pd

from labelaudit.corrections.run import Run, rows_of
from labelaudit.corrections.table import (
    ACCEPT,
    CORRECTION_COLUMNS,
    EXCLUDE,
    KEEP,
    RELABEL,
    UNSURE,
)
from labelaudit.errors import SourceError

LABEL_CONTROL = "label"
# Not "decision": in Label Studio's CSV the controls are columns, and a column of that name would make
# the file look like a table of corrections.
OUTCOME_CONTROL = "set_aside"
NOTE_CONTROL = "note"
OUTCOMES = (EXCLUDE, UNSURE)
SAMPLE = "sample"
"""What the interface calls the image or the text, so that the controls can refer to it."""

# From this many classes on, a list to choose from is easier to use than a field of buttons.
MANY_CLASSES = 30

# What a value in the interface cannot hold: XML has no sign for it, Label Studio takes "$word" for a
# field of the task, or it begins as Label Studio writes several choices into one cell of a CSV file.
_NOT_IN_XML = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_FIELD = re.compile(r"\$[\w\[\].{}]")
_SEVERAL = re.compile(r'\[?\{"choices"')
_BLANK_EDGE = re.compile(r"\A\s|\s\Z")
_QUOTE = {'"': "&quot;"}


def tasks(
    run: Run, image_root_url: str | None = None, *, all_samples: bool = False
) -> list[dict[str, Any]]:
    """Make the tasks to import into Label Studio, the most suspect first.

    A suspect is labeled in advance with the suggested label, any other sample with its given label, so
    that submitting a task unchanged agrees with labelaudit.

    Parameters
    ----------
    run : Run
        See `labelaudit.corrections.run.read_run`.
    image_root_url : str, optional
        Address of the folder of images on a server; an image's address is this and its sample id.
        Without it the images are served from Label Studio's local storage:
        ``/data/local-files/?d=`` and the absolute path without its leading slash, which is right where
        ``LOCAL_FILES_DOCUMENT_ROOT`` is ``/``.
    all_samples : bool, optional
        All labeled samples instead of the suspects.

    Returns
    -------
    list of dict
        Where the samples have neither an image file nor an address, ``text`` is the sample id.

    Raises
    ------
    SourceError
        The paths of the images are relative, and the images are not found.
    """
    frame = run.labeled.sort_values("rank", kind="stable") if all_samples else run.suspects
    rows = rows_of(frame)
    for row, address in zip(rows, _addresses(run, frame, image_root_url), strict=True):
        row["address"] = address
    model = f"labelaudit {run.version}" + ("" if run.trusted else " (not trusted)")
    return [_task(row, model, trusted=run.trusted) for row in rows]


def labeling_config(class_names: Sequence[str], *, is_text: bool = False) -> str:
    """Write the labeling interface that goes with `tasks`.

    Parameters
    ----------
    class_names : sequence of str
        The classes to choose from.
    is_text : bool, optional
        Whether the tasks show a text and no image; see `shows_text`.

    Returns
    -------
    str
        XML. A class name that Label Studio would not keep as it is stands there in quotes, as a string
        of JSON; `read_json` and `read_table` give the name back.
    """
    shown = "Text" if is_text else "Image"
    layout = "select" if len(class_names) > MANY_CLASSES else "inline"
    lines = [
        "<View>",
        _tag("Header", value="Given label: $given_label", size="4"),
        _tag("Header", value="Suggested label: $suggested_label", size="4"),
        _tag(shown, name=SAMPLE, value="$text" if is_text else "$image"),
        _tag("Header", value="Right label", size="5"),
        *_choices(LABEL_CONTROL, map(choice_value, class_names), layout),
        _tag("Header", value="Or set the sample aside", size="5"),
        *_choices(OUTCOME_CONTROL, OUTCOMES, "inline"),
        _tag(
            "TextArea",
            name=NOTE_CONTROL,
            toName=SAMPLE,
            rows="1",
            maxSubmissions="1",
            editable="true",
            required="false",
            placeholder="Note (optional)",
        ),
        "</View>",
    ]
    return "\n".join(lines) + "\n"


def shows_text(run: Run, image_root_url: str | None = None) -> bool:
    """Say whether the tasks of a run show a text, for there are no images to show."""
    return image_root_url is None and not (run.labeled["path"] != "").all()


def choice_value(name: str) -> str:
    """Give the value that stands for a class name in the interface; mostly the name itself."""
    kept = bool(name) and not any(
        pattern.search(name) for pattern in (_NOT_IN_XML, _FIELD, _BLANK_EDGE)
    )
    if kept and not _SEVERAL.match(name) and not _is_json_text(name):
        return name
    text = json.dumps(name, ensure_ascii=False)
    return re.sub(r"[\x7f\ud800-\udfff\ufffe\uffff$]", lambda m: f"\\u{ord(m[0]):04x}", text)


def class_name(value: str) -> str:
    """Give the class name that a value in the interface stands for; undoes `choice_value`."""
    if not _is_json_text(value):
        return value
    name: str = json.loads(value)
    # A name that a person added to the interface may have quotes of its own.
    return name if choice_value(name) == value else value


def read_json(path: Path) -> pd.DataFrame:
    """Read decisions from an export of Label Studio, as JSON or JSON-MIN.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    DataFrame
        One row for each annotation that decides about a sample, in the order of the file: the columns
        of corrections.csv and ``given_label``, all text. Cancelled and empty annotations decide
        nothing.

    Raises
    ------
    SourceError
        The file cannot be read, is no such export, or its tasks are not those that labelaudit wrote.
    """
    try:
        items = json.loads(_read_text(path))
    except ValueError as error:
        raise SourceError(f"{path} is not JSON: {error}; export it anew") from error
    items = items if isinstance(items, list) else [items]
    rows: list[dict[str, str]] = []
    for item in items:
        if not isinstance(item, dict):
            raise SourceError(
                f"{path} is no export of Label Studio: it has no list of tasks; export as JSON,"
                " JSON-MIN or CSV"
            )
        if isinstance(item.get("data"), dict):
            rows += _decisions_of_task(item, path)
        else:
            rows += _decision(item, item, path)
    return _frame(rows)


def read_table(path: Path) -> pd.DataFrame:
    """Read decisions from an export of Label Studio as CSV or TSV.

    Parameters
    ----------
    path : Path
        The file. Label Studio does not quote text in a way that tells it from numbers, so every cell is
        text here: a class "1.50" is not 1.5.

    Returns
    -------
    DataFrame
        As `read_json`.

    Raises
    ------
    SourceError
        As `read_json`.
    """
    text = _read_text(path)
    header = text.partition("\n")[0]
    sign = next((sign for sign in "\t;," if sign in header), ",")
    try:
        cells = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=sign, strict=True))
    except csv.Error as error:
        raise SourceError(f"{path} is not CSV: {error}; export it anew") from error
    _check_is_ours(cells[0] if cells else {"sample_id": ""}, path)
    rows: list[dict[str, str]] = []
    for row in cells:
        several = _SEVERAL.match(row.get(LABEL_CONTROL) or "")
        values = {**row, LABEL_CONTROL: json.loads(row[LABEL_CONTROL])} if several else row
        rows += _decision(values, row, path)
    return _frame(rows)


# --- to Label Studio ---------------------------------------------------------------------------


def _addresses(run: Run, frame: pd.DataFrame, image_root_url: str | None) -> list[str | None]:
    """Give the address of each image; None for each where the tasks show a text."""
    if shows_text(run, image_root_url):
        return [None] * len(frame)
    if image_root_url is not None:
        root = image_root_url.rstrip("/")
        return [f"{root}/{quote(sample)}" for sample in frame["sample_id"]]
    return [f"/data/local-files/?d={quote(file.lstrip('/'))}" for file in run.image_files(frame)]


def _task(row: Mapping[str, Any], model: str, *, trusted: bool) -> dict[str, Any]:
    flagged = row["is_label_issue"] and row["suggested_label"] is not None
    address = row["address"]
    return {
        "data": {
            "sample_id": row["sample_id"],
            **({"text": row["sample_id"]} if address is None else {"image": address}),
            "given_label": row["given_label"],
            "suggested_label": row["suggested_label"] or "",
            "suspect_score": row["suspect_score"],
        },
        "meta": {"labelaudit_trusted": trusted},
        "predictions": [
            {
                "model_version": model,
                "score": row["suggested_prob"] if flagged else row["label_score"],
                "result": [
                    {
                        "id": LABEL_CONTROL,
                        "from_name": LABEL_CONTROL,
                        "to_name": SAMPLE,
                        "type": "choices",
                        "value": {
                            "choices": [
                                choice_value(row["suggested_label" if flagged else "given_label"])
                            ]
                        },
                    }
                ],
            }
        ],
    }


def _choices(name: str, values: Iterable[str], layout: str) -> list[str]:
    # "single" shows boxes that a second click clears; a wrong click on "single-radio" would stay.
    head = _tag(
        "Choices", name=name, toName=SAMPLE, choice="single", required="false", layout=layout
    )
    return [
        head.removesuffix("/>") + ">",
        *("  " + _tag("Choice", value=value) for value in values),
        "</Choices>",
    ]


def _tag(tag: str, **attributes: str) -> str:
    """Write an XML element without content.

    Quotes are always double and escaped inside: Label Studio looks for ``name="..."`` in the raw text.
    """
    cells = (f'{name}="{escape(value, _QUOTE)}"' for name, value in attributes.items())
    return f"<{tag} {' '.join(cells)}/>"


def _is_json_text(text: str) -> bool:
    """Say whether this is a string as JSON writes it, in quotes."""
    if not text.startswith('"') or not text.endswith('"'):
        return False
    try:
        return isinstance(json.loads(text), str)
    except ValueError:
        return False


# --- from Label Studio -------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path} is not UTF-8 text (byte {error.start}); export it anew"
        ) from error


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
    """Read one annotation: a row, or none where it decides nothing.

    Parameters
    ----------
    values
        What was entered, by control.
    about
        The data of the task, and who annotated it when.
    path
        For messages.
    """
    _check_is_ours(about, path)
    sample = str(about["sample_id"])
    given, suggested = _text(about.get("given_label")), _text(about.get("suggested_label"))
    labels = [class_name(value) for value in _entered(values.get(LABEL_CONTROL), "choices")]
    outcomes = _entered(values.get(OUTCOME_CONTROL), "choices")
    for what, entered in (("labels", labels), ("outcomes", outcomes)):
        if len(set(entered)) > 1:
            raise SourceError(
                f'{path}: {len(set(entered))} {what} are chosen for "{sample}" at once; choose one of'
                " them in Label Studio and export again"
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
    """Give the texts that were entered into a control, in whichever form they are exported."""
    if value is None or value == "":
        return []
    if isinstance(value, Mapping):
        return _entered(value.get(kind), kind)
    if isinstance(value, list):
        return [text for part in value for text in _entered(part, kind)]
    return [str(value)]


def _reviewer(about: Mapping[str, Any]) -> str:
    who = about.get("completed_by", about.get("annotator"))
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("id")
    return _text(who)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _check_is_ours(names: Iterable[Any], path: Path) -> None:
    if "sample_id" not in names:
        raise SourceError(
            f'{path} has a task without "sample_id"; the tasks must be those that'
            " `labelaudit export --to label-studio` wrote"
        )


def _frame(rows: list[dict[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*CORRECTION_COLUMNS, "given_label"], dtype="str")

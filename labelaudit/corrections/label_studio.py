"""Label Studio: the tasks to import, and the labeling interface.

The data of a task are ``sample_id``, ``given_label``, ``suggested_label``, ``suspect_score``, and
either the address of the ``image`` or a ``text``. The interface has three controls: `LABEL_CONTROL` for
the right class, `OUTCOME_CONTROL` for samples that get no class, and `NOTE_CONTROL`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pandas as pd

from labelaudit.corrections.label_studio_answers import (
    LABEL_CONTROL,
    NOTE_CONTROL,
    OUTCOME_CONTROL,
    OUTCOMES,
    choice_value,
)
from labelaudit.corrections.run import Run, rows_of
from labelaudit.reporting.tables import SAMPLE_TEXT

SAMPLE = "sample"
"""Name of the image or the text in the interface, which the controls refer to."""

# Above this number of classes a list is easier to use than buttons.
MANY_CLASSES = 30

_QUOTE = {'"': "&quot;"}


def tasks(
    run: Run, image_root_url: str | None = None, *, all_samples: bool = False
) -> list[dict[str, Any]]:
    """Return the tasks to import into Label Studio, the most suspect first.

    A suspect is pre-annotated with its suggested label, and any other sample with its given label. To
    submit a task unchanged is thus to agree with labelaudit.

    Parameters
    ----------
    run : Run
        From `labelaudit.corrections.run.read_run`.
    image_root_url : str, optional
        Address of the folder of images on a server. The address of an image is this, followed by the
        sample id. By default the images are served from Label Studio's local storage: their address
        is ``/data/local-files/?d=`` and the absolute path without its leading slash. This is correct if
        ``LOCAL_FILES_DOCUMENT_ROOT`` is ``/``.
    all_samples : bool, optional
        Return all labeled samples instead of the suspects.

    Returns
    -------
    list of dict
        One task per sample. If the sample has neither an image file nor an address, ``text`` is the
        sample itself where that is a text, and its id otherwise.

    Raises
    ------
    SourceError
        The paths of the images are relative, and the images are not found.
    """
    frame = run.chosen(all_samples=all_samples)
    rows = rows_of(frame)
    for row, address in zip(rows, _addresses(run, frame, image_root_url), strict=True):
        row["address"] = address
    model = f"labelaudit {run.version}" + ("" if run.trusted else " (not trusted)")
    return [_task(row, model, trusted=run.trusted) for row in rows]


def labeling_config(class_names: Sequence[str], *, is_text: bool = False) -> str:
    """Return the labeling interface for `tasks`.

    Returns
    -------
    str
        XML. A class name that Label Studio would change is written as a JSON string, in quotes.
        `read_json` and `read_table` return the original name.
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
    """Return whether the tasks of a run show a text, because there are no images to show."""
    return image_root_url is None and not (run.labeled["path"] != "").all()


# --- to Label Studio ---------------------------------------------------------------------------


def _addresses(run: Run, frame: pd.DataFrame, image_root_url: str | None) -> list[str | None]:
    """Return the address of each image; None for each sample if the tasks show a text."""
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
            **({"text": _shown(row)} if address is None else {"image": address}),
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


def _shown(row: Mapping[str, Any]) -> str:
    """Return the text that a task shows."""
    return str(row.get(SAMPLE_TEXT) or row["sample_id"])


def _choices(name: str, values: Iterable[str], layout: str) -> list[str]:
    # A second click clears a choice of "single". A choice of "single-radio" could not be cleared.
    head = _tag(
        "Choices", name=name, toName=SAMPLE, choice="single", required="false", layout=layout
    )
    return [
        head.removesuffix("/>") + ">",
        *("  " + _tag("Choice", value=value) for value in values),
        "</Choices>",
    ]


def _tag(tag: str, **attributes: str) -> str:
    """Return an XML element without content.

    Attributes always have double quotes, because Label Studio searches the raw text for ``name="..."``.
    """
    cells = (f'{name}="{escape(value, _QUOTE)}"' for name, value in attributes.items())
    return f"<{tag} {' '.join(cells)}/>"

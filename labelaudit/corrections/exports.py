"""Hand the suspects of a run to other tools: Label Studio, FiftyOne, cleanlab, CVAT, plain CSV."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from labelaudit.corrections.label_studio import labeling_config, shows_text, tasks
from labelaudit.corrections.run import Run, read_run, rows_of
from labelaudit.errors import OptionError, OutputError, UntrustedResultWarning
from labelaudit.files import atomic_write
from labelaudit.reporting.tables import escape, write_csv

Writer = Callable[[Path], None]
"""Writes one file to a path."""


@dataclass(frozen=True, eq=False)
class _Export:
    """What a format is given: the run, the samples to export (K rows), and the options."""

    run: Run
    frame: pd.DataFrame
    image_root_url: str | None
    all_samples: bool


FIFTYONE_VERSION = "1.0.0"
"""The revision of FiftyOne's format that is written; newer versions migrate it as they load it."""

_CSV_COLUMNS = (
    "sample_id",
    "path",
    "given_label",
    "suggested_label",
    "suspect_score",
    "is_label_issue",
    "rank",
    "ambiguity",
    "trusted",
    "decision",
    "corrected_label",
    "note",
)
_CVAT_ATTRIBUTES = ("suggested_label", "suspect_score", "decision", "corrected_label")
# XML has no sign for these, or readers change them.
_NOT_IN_XML = re.compile("[\x00-\x1f\ud800-\udfff\ufffe\uffff]")


def export_run(
    run_path: str | Path,
    to: str,
    out: str | Path | None = None,
    *,
    image_root_url: str | None = None,
    force: bool = False,
    all_samples: bool = False,
) -> list[Path]:
    """Write what a run found in the format of another tool; images are not copied.

    Parameters
    ----------
    run_path : str or Path
        A run folder that `labelaudit scan` wrote.
    to : str
        One of `FORMATS`:

        - "label-studio": ``tasks.json`` to import, and ``labeling_config.xml``, the interface.
        - "fiftyone": ``metadata.json`` and ``samples.json``, a dataset of the type
          `fiftyone.types.FiftyOneDataset`. The given label is the field ``ground_truth``.
        - "cleanlab": ``label_issues.csv`` for `cleanlab.classification.CleanLearning.fit`, with one row
          per labeled sample, in the order of the data set; and ``class_names.json``, whose order the
          integer labels follow.
        - "cvat": ``annotations.xml`` ("CVAT for images 1.1") with one tag per image, named after the
          sample id; and ``labels.json``, for the raw view of the label constructor.
        - "csv": ``suspects_plain.csv``.
    out : str or Path, optional
        The folder to write; by default ``export-<to>`` in the run folder.
    image_root_url : str, optional
        For Label Studio: address of the folder of images on a server; see
        `labelaudit.corrections.label_studio.tasks`.
    force : bool, optional
        Write into a folder that is there already. Files of the same names are replaced, others are
        left alone.
    all_samples : bool, optional
        All labeled samples instead of the suspects. For cleanlab it is always all of them.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    SourceError
        The folder is no finished run, or the images are not found.
    OptionError
        `to` is not known, or the format cannot hold this run.
    OutputError
        `out` is there already, or cannot be written.

    Warns
    -----
    UntrustedResultWarning
        The result of the run should not be trusted.
    """
    if to not in _BUILDERS:
        raise OptionError(f'--to is "{to}"; choose one of {", ".join(FORMATS)}')
    if image_root_url is not None and to != "label-studio":
        raise OptionError("--image-root-url is for --to label-studio only; leave it out")
    run = read_run(run_path)
    folder = Path(out) if out is not None else run.path / f"export-{to}"
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; choose another folder with --out")
    if folder.exists() and not force:
        raise OutputError(
            f"{folder} is there already: --force replaces the files of this export in it, --out names"
            " another"
        )
    frame = _chosen(run, all_samples=all_samples)
    writers = _BUILDERS[to](_Export(run, frame, image_root_url, all_samples))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be made ({error.strerror}); choose another --out"
        ) from error
    for name, write in writers.items():
        with atomic_write(folder / name) as partial:
            write(partial)
    if not run.trusted:
        reasons = run.summary["trust"].get("reasons") or ["Its summary.json says so."]
        warnings.warn(
            f"do not trust this result. {reasons[0]}", UntrustedResultWarning, stacklevel=2
        )
    return [folder / name for name in writers]


def _chosen(run: Run, *, all_samples: bool) -> pd.DataFrame:
    """Take the samples to export, the most suspect first, with what was decided about them."""
    frame = run.labeled.sort_values("rank", kind="stable") if all_samples else run.suspects
    decided = run.corrections.set_index("sample_id")
    joined = frame.reset_index(drop=True)
    for name in ("decision", "corrected_label", "note"):
        texts = joined["sample_id"].map(decided[name])
        joined[name] = texts.astype(object).where(texts.notna() & (texts != ""), None)
    return joined


# --- Label Studio ------------------------------------------------------------------------------


def _label_studio(export: _Export) -> dict[str, Writer]:
    run, url = export.run, export.image_root_url
    return {
        "tasks.json": _json(tasks(run, url, all_samples=export.all_samples)),
        "labeling_config.xml": _text(
            labeling_config(run.class_names, is_text=shows_text(run, url))
        ),
    }


# --- FiftyOne ----------------------------------------------------------------------------------


def _fiftyone(export: _Export) -> dict[str, Writer]:
    run, frame = export.run, export.frame
    files = _require_files(run, frame, "FiftyOne")
    samples = [_fiftyone_sample(row, file) for row, file in zip(rows_of(frame), files, strict=True)]
    name = str(run.summary.get("name") or "labelaudit")
    metadata = {
        "_id": _object_id("dataset", str(run.path)),
        "name": name,
        "version": FIFTYONE_VERSION,
        "sample_collection_name": f"samples.{_object_id('dataset', str(run.path))['$oid']}",
        "persistent": False,
        "media_type": "image",
        "group_media_types": {},
        "tags": [],
        "info": {"labelaudit": run.version, "labelaudit_trusted": run.trusted},
        "app_config": {},
        "classes": {"ground_truth": run.class_names, "suggestion": run.class_names},
        "default_classes": run.class_names,
        "mask_targets": {},
        "default_mask_targets": {},
        "skeletons": {},
        "sample_fields": _fiftyone_fields(),
        "frame_fields": [],
        "saved_views": [],
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }
    return {"metadata.json": _json(metadata), "samples.json": _json({"samples": samples})}


def _fiftyone_sample(row: Mapping[str, Any], file: str) -> dict[str, Any]:
    sample = row["sample_id"]
    flagged = bool(row["is_label_issue"])
    labels = {"ground_truth": (row["given_label"], None)}
    if row["suggested_label"] is not None:
        labels["suggestion"] = (row["suggested_label"], row["suggested_prob"])
    return {
        "_id": _object_id("sample", sample),
        "filepath": file,
        "tags": ["suspect"] if flagged else [],
        "_media_type": "image",
        # By the sample alone, so that an export is the same each time.
        "_rand": int(_object_id("random", sample)["$oid"][:12], 16) / 16**12,
        **{
            field: {
                "_id": _object_id(field, sample),
                "_cls": "Classification",
                "tags": [],
                "label": label,
                **({} if confidence is None else {"confidence": confidence}),
            }
            for field, (label, confidence) in labels.items()
        },
        **{name: row[name] for name in _FIFTYONE_PLAIN},
    }


_FIFTYONE_PLAIN = {
    "sample_id": "String",
    "suspect_score": "Float",
    "ambiguity": "Float",
    "is_label_issue": "Boolean",
    "rank": "Int",
    "decision": "String",
    "corrected_label": "String",
}


def _fiftyone_fields() -> list[dict[str, Any]]:
    """Describe the fields of a sample, as FiftyOne keeps them in its database."""

    def field(name: str, kind: str, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "ftype": f"fiftyone.core.fields.{kind}Field",
            "embedded_doc_type": None,
            "subfield": None,
            "fields": [],
            "db_field": "_id" if name == "id" else name,
            "description": None,
            "info": None,
            "read_only": False,
        } | more

    tags = field("tags", "List", subfield="fiftyone.core.fields.StringField")
    image = [
        field("size_bytes", "Int"),
        field("mime_type", "String"),
        field("width", "Int"),
        field("height", "Int"),
        field("num_channels", "Int"),
    ]
    label = [
        field("id", "ObjectId"),
        tags,
        field("label", "String"),
        field("confidence", "Float"),
        field("logits", "Vector"),
    ]
    document = "fiftyone.core.labels.Classification"
    metadata = "fiftyone.core.metadata.ImageMetadata"
    return [
        field("id", "ObjectId"),
        field("filepath", "String"),
        tags,
        field("metadata", "EmbeddedDocument", embedded_doc_type=metadata, fields=image),
        field("_media_type", "String"),
        field("_rand", "Float"),
        field("_dataset_id", "ObjectId"),
        field("created_at", "DateTime", read_only=True),
        field("last_modified_at", "DateTime", read_only=True),
        *(
            field(name, "EmbeddedDocument", embedded_doc_type=document, fields=label)
            for name in ("ground_truth", "suggestion")
        ),
        *(field(name, kind) for name, kind in _FIFTYONE_PLAIN.items()),
    ]


def _object_id(kind: str, name: str) -> dict[str, str]:
    return {"$oid": hashlib.sha256(f"{kind}\0{name}".encode()).hexdigest()[:24]}


# --- cleanlab ----------------------------------------------------------------------------------


def _cleanlab(export: _Export) -> dict[str, Writer]:
    # Not only the suspects, and in the order of the data set: rows are matched by place.
    labeled, class_names = export.run.labeled, export.run.class_names
    codes = {name: code for code, name in enumerate(class_names)}
    table = pd.DataFrame(
        {
            "is_label_issue": labeled["is_label_issue"].astype(bool),
            "label_quality": labeled["label_score"],
            "given_label": labeled["given_label"].map(codes).astype("int64"),
            "predicted_label": labeled["predicted_label"].map(codes).astype("int64"),
            "sample_id": labeled["sample_id"],
            "trusted": export.run.trusted,
        }
    )
    return {
        "label_issues.csv": lambda path: write_csv(table, path),
        "class_names.json": _json(class_names),
    }


# --- CVAT --------------------------------------------------------------------------------------


def _cvat(export: _Export) -> dict[str, Writer]:
    run, frame = export.run, export.frame
    files = _require_files(run, frame, "CVAT")
    for what, names in (("class", run.class_names), ("file", frame["sample_id"])):
        for name in names:
            if not name.strip() or _NOT_IN_XML.search(name):
                raise OptionError(
                    f"CVAT cannot hold the name {json.dumps(name)} of a {what}; rename it and scan"
                    " again, or choose another --to"
                )
    root = ET.Element("annotations")
    _element(root, "version", "1.1")
    meta = ET.SubElement(root, "meta")
    task = ET.SubElement(meta, "task")
    _element(task, "name", str(run.summary.get("name") or "labelaudit"))
    _element(task, "size", str(len(frame)))
    _element(task, "mode", "annotation")
    labels = ET.SubElement(task, "labels")
    for name in run.class_names:
        _cvat_label(labels, name)
    _element(meta, "labelaudit_trusted", str(run.trusted).lower())
    for number, (row, file) in enumerate(zip(rows_of(frame), files, strict=True)):
        described = {"id": str(number), "name": row["sample_id"], **_size(file)}
        image = ET.SubElement(root, "image", described)
        tag = ET.SubElement(image, "tag", label=row["given_label"], source="manual")
        for name in _CVAT_ATTRIBUTES:
            value = "" if row[name] is None else str(row[name])
            ET.SubElement(tag, "attribute", name=name).text = _NOT_IN_XML.sub("\ufffd", value)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return {
        "annotations.xml": _text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'),
        "labels.json": _json([_raw_label(name) for name in run.class_names]),
    }


def _cvat_label(labels: ET.Element, name: str) -> None:
    label = ET.SubElement(labels, "label")
    _element(label, "name", name)
    _element(label, "type", "tag")
    attributes = ET.SubElement(label, "attributes")
    for attribute in _CVAT_ATTRIBUTES:
        described = ET.SubElement(attributes, "attribute")
        _element(described, "name", attribute)
        _element(described, "mutable", "False")
        _element(described, "input_type", "text")
        _element(described, "default_value", "")
        _element(described, "values", "")


def _raw_label(name: str) -> dict[str, Any]:
    """Describe a label as the raw view of CVAT's label constructor takes it."""
    return {
        "name": name,
        "type": "tag",
        "attributes": [
            {
                "name": attribute,
                "mutable": False,
                "input_type": "text",
                "default_value": "",
                "values": [""],
            }
            for attribute in _CVAT_ATTRIBUTES
        ],
    }


def _element(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = _NOT_IN_XML.sub("\ufffd", text)


def _size(file: str) -> dict[str, str]:
    """Give width and height of an image, or nothing where it cannot be read."""
    try:
        with Image.open(file) as image:
            return {"width": str(image.width), "height": str(image.height)}
    except (OSError, ValueError, Image.DecompressionBombError):
        return {}


# --- plain CSV ---------------------------------------------------------------------------------


def _csv(export: _Export) -> dict[str, Writer]:
    table = export.frame.assign(trusted=export.run.trusted)[list(_CSV_COLUMNS)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for row in rows_of(table):
        writer.writerow(
            escape(value) if isinstance(value, str) else value for value in row.values()
        )
    return {"suspects_plain.csv": _text(out.getvalue())}


# --- all of them -------------------------------------------------------------------------------


def _require_files(run: Run, frame: pd.DataFrame, tool: str) -> list[str]:
    """Give the absolute paths of the images; raise where they lie in a table or an array."""
    if (frame["path"] == "").any():
        raise OptionError(
            f"{tool} needs image files, and this run's samples are not files; save the images as files"
            " and scan their folder, or use --to csv"
        )
    return run.image_files(frame)


def _text(text: str) -> Writer:
    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8", newline="\n")

    return write


def _json(value: object) -> Writer:
    return _text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


_BUILDERS: dict[str, Callable[[_Export], dict[str, Writer]]] = {
    "label-studio": _label_studio,
    "fiftyone": _fiftyone,
    "cleanlab": _cleanlab,
    "cvat": _cvat,
    "csv": _csv,
}
FORMATS = tuple(_BUILDERS)
"""What `export_run` can write."""

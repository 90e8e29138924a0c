"""Suspects as a dataset of FiftyOne."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from labelaudit.corrections.export_files import Export, Writer, json_writer, require_files
from labelaudit.corrections.run import rows_of

FIFTYONE_VERSION = "1.0.0"
"""The version of FiftyOne's format that is written. Newer versions convert it when they load it."""


def fiftyone_files(export: Export) -> dict[str, Writer]:
    """Prepare ``metadata.json`` and ``samples.json``.

    Raises OptionError if the samples are not image files.
    """
    run, frame = export.run, export.frame
    files = require_files(run, frame, "FiftyOne")
    samples = [_fiftyone_sample(row, file) for row, file in zip(rows_of(frame), files, strict=True)]
    name = run.summary.name or "labelaudit"
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
    return {
        "metadata.json": json_writer(metadata),
        "samples.json": json_writer({"samples": samples}),
    }


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
        # It depends only on the sample, so that repeated exports are equal.
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
    """Return the fields of a sample, as FiftyOne describes them in its database."""

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

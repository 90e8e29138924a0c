"""Suspects as annotations of CVAT."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from PIL import Image

from labelaudit.corrections.export_files import (
    Export,
    Writer,
    json_writer,
    require_files,
    text_writer,
)
from labelaudit.corrections.label_studio_answers import NOT_IN_XML
from labelaudit.corrections.run import rows_of
from labelaudit.errors import OptionError
from labelaudit.files import check_regular
from labelaudit.images.opening import readable_formats

_CVAT_ATTRIBUTES = ("suggested_label", "suspect_score", "decision", "corrected_label")
_NOT_IN_XML = re.compile(f"[{NOT_IN_XML}]")


def cvat_files(export: Export) -> dict[str, Writer]:
    """Prepare ``annotations.xml`` and ``labels.json``.

    Raises OptionError if CVAT cannot represent a name, or the samples are not image files.
    """
    run, frame = export.run, export.frame
    files = require_files(run, frame, "CVAT")
    for what, names in (("class", run.class_names), ("file", frame["sample_id"])):
        for name in names:
            if not name.strip() or _NOT_IN_XML.search(name):
                raise OptionError(
                    f"CVAT cannot represent the name {json.dumps(name)} of a {what}; rename it and scan"
                    " again, or choose another `to`"
                )
    root = ET.Element("annotations")
    _element(root, "version", "1.1")
    meta = ET.SubElement(root, "meta")
    task = ET.SubElement(meta, "task")
    _element(task, "name", run.summary.name or "labelaudit")
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
        "annotations.xml": text_writer(f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'),
        "labels.json": json_writer([_raw_label(name) for name in run.class_names]),
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
    """Return a label as the raw view of CVAT's label constructor accepts it."""
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
    """Return width and height of an image, or nothing if it cannot be read."""
    try:
        check_regular(Path(file))
        with Image.open(file, formats=readable_formats()) as image:
            return {"width": str(image.width), "height": str(image.height)}
    except (OSError, ValueError, Image.DecompressionBombError):
        return {}

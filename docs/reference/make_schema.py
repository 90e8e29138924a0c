"""Write docs/reference/summary.schema.json: ``python docs/reference/make_schema.py``.

A test fails when the file is not what this program writes.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from labelaudit.suspects.summary import Summary

FILE = Path(__file__).with_name("summary.schema.json")


def schema() -> str:
    """Return the JSON Schema of summary.json as text, with the first lines of docstrings."""
    written = msgspec.json.schema(Summary)
    written["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    for definition in written["$defs"].values():
        definition["description"] = definition.get("description", "").partition("\n")[0]
    return json.dumps(written, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema(), encoding="utf-8")

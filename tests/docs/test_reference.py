"""The reference of file formats is complete."""

import re
import runpy
from dataclasses import fields
from pathlib import Path

from labelaudit.suspects.summary import Summary

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_the_schema_of_summary_json_is_up_to_date():
    written = runpy.run_path(str(REFERENCE / "make_schema.py"))["schema"]()
    assert (REFERENCE / "summary.schema.json").read_text(encoding="utf-8") == written


def test_every_key_of_summary_json_is_described():
    text = (REFERENCE / "run-folder.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`(\w+)`", text.partition("## summary.json")[2]))
    assert {one.name for one in fields(Summary)} - described == set()

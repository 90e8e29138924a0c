"""Every link, anchor and path that the documentation and the code name must exist."""

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "docs/**/*.ipynb", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(\s*([^)\s]+)\s*\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
PATH = re.compile(r"\b(?:docs|examples|benchmarks)/[\w./-]+\.(?:md|py|ipynb)\b")
NAME = re.compile(r"`(labelaudit(?:\.\w+)+)")


def text_of(path: Path) -> str:
    """Read a page; of a notebook, its Markdown cells. Code is left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return FENCE.sub("", text)


def anchors_of(path: Path) -> set[str]:
    """Give the anchors of a page's headings, as code hosts make them."""
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text_of(path)))
    return {words.replace(" ", "-") for words in kept}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_exist(page):
    broken = []
    for link in LINK.findall(text_of(ROOT / page)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        there = (ROOT / page).parent / target if target else ROOT / page
        if not there.exists() or (anchor and anchor not in anchors_of(there)):
            broken.append(link)
    assert not broken


def test_paths_that_the_code_names_exist():
    broken = []
    for folder in ("labelaudit", "examples", "benchmarks", "tests", "docs"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in PATH.findall(path.read_text(encoding="utf-8")):
                if not (ROOT / name).exists():
                    broken.append(f"{path.relative_to(ROOT)}: {name}")
    assert not broken


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_package_exist(page):
    """Names in backticks can be imported, so that a renamed module is renamed in the text as well."""
    broken = []
    for name in set(NAME.findall(text_of(ROOT / page))) - {"labelaudit.json"}:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, attribute = name.rpartition(".")
            try:
                getattr(importlib.import_module(module), attribute)
            except (ModuleNotFoundError, AttributeError):
                broken.append(name)
    assert not broken


def test_the_map_of_the_package_is_true():
    """Each package is on it, and everything on it exists."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^ {6}(\w+/|\w+\.py) ", text, re.MULTILINE)
    assert [name for name in named if not (ROOT / "labelaudit" / name).exists()] == []
    packages = {path.parent.name + "/" for path in (ROOT / "labelaudit").glob("*/__init__.py")}
    assert packages - set(named) == set()


def test_every_page_is_in_the_navigation():
    """mkdocs --strict finds entries without a page; this finds pages without an entry."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = []
    for page in PAGES:
        if page.startswith(("docs/", "benchmarks/")):
            name = page.removeprefix("docs/").split(".")[0]
            whole_folder = f": {name.rpartition('/')[0]}/*"
            if name not in navigation and whole_folder not in navigation:
                missing.append(page)
    assert not missing

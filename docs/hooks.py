"""What mkdocs does besides: benchmarks, examples and the notebook become part of the site.

They lie outside ``docs/`` or are not Markdown. Links are written for a code host, relative to the file,
and are rewritten here for the site. The list of modules is made from their docstrings.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = ("benchmarks", "examples")
PAGES = ("SECURITY.md",)
SUFFIXES = {".md", ".csv", ".py", ".png"}
NOTEBOOK = "tutorials/notebook.ipynb"
MODULES = "<!-- modules -->"
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace ``folder/*`` in the navigation by the pages of the folder."""
    config.nav = [expand(entry) for entry in config.nav or []]
    return config


def expand(entry: Any) -> Any:
    """Return an entry of the navigation with its folders replaced."""
    if isinstance(entry, dict):
        return {title: expand(inside) for title, inside in entry.items()}
    if isinstance(entry, list):
        return [expand(inside) for inside in entry]
    if not entry.endswith("/*"):
        return entry
    names = sorted(path.name for path in (ROOT / "docs" / entry[:-1]).glob("*.md"))
    names.sort(key=lambda name: name != "index.md")
    return [entry[:-1] + name for name in names]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/, and the notebook as a page."""
    for folder in OUTSIDE:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                name = path.relative_to(ROOT).as_posix()
                added = File.generated(config, name, abs_src_path=str(path))
                added.inclusion = InclusionLevel.INCLUDED
                files.append(added)
    for name in PAGES:
        added = File.generated(config, name, abs_src_path=str(ROOT / name))
        added.inclusion = InclusionLevel.INCLUDED
        files.append(added)
    notebook = ROOT / "docs" / NOTEBOOK
    if notebook.is_file():
        text = as_markdown(json.loads(notebook.read_text(encoding="utf-8")))
        files.append(File.generated(config, NOTEBOOK.replace(".ipynb", ".md"), content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links between docs/ and the rest of the repository."""
    source = page.file.src_uri
    folder = posixpath.dirname(in_repository(source))

    def rewrite(link: re.Match[str]) -> str:
        before, target, anchor, after = link.groups()
        named = posixpath.normpath(posixpath.join(folder, target))
        on_site = named.removeprefix("docs/").replace(NOTEBOOK, NOTEBOOK.replace(".ipynb", ".md"))
        if files.get_file_from_path(on_site) is None:
            return link.group()  # mkdocs complains of it
        relative = posixpath.relpath(on_site, posixpath.dirname(source) or ".")
        return f"{before}{relative}{anchor or ''}{after}"

    if MODULES in markdown:
        markdown = markdown.replace(MODULES, list_of_modules())
    return LINK.sub(rewrite, markdown)


def in_repository(source: str) -> str:
    """Return where a page of the site lies in the repository."""
    return source if source.startswith((*OUTSIDE, *PAGES)) else f"docs/{source}"


def list_of_modules() -> str:
    """Write one table per package: its modules, and the first lines of their docstrings."""
    parts = []
    package = ROOT / "labelaudit"
    for folder in [package, *sorted(path.parent for path in package.glob("*/__init__.py"))]:
        parts.append(f"**{folder.relative_to(ROOT).as_posix()}/**\n\n| module | job |\n|---|---|")
        for path in sorted(folder.glob("*.py")):
            words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            if words and path.stem not in ("__init__", "__main__"):
                line = words.splitlines()[0].replace("|", "\\|")
                parts[-1] += f"\n| `{path.name}` | {line} |"
    return "\n\n".join(parts)


def as_markdown(notebook: dict) -> str:
    """Write a notebook's cells and their outputs as Markdown."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            text = "".join(data.get("text/plain", output.get("text", ""))).rstrip()
            if "image/png" in data:
                parts.append(f"![output](data:image/png;base64,{data['image/png'].strip()})")
            elif "text/html" in data:
                html = re.sub(r"\s*\n\s*", " ", "".join(data["text/html"]))
                parts.append(f'<div class="output">{html}</div>')
            elif text:
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n"

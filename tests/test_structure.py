"""The package as a house: imports run down, files stay short, and modules keep their secrets."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import labelaudit

PACKAGE = Path(labelaudit.__file__).parent

# From the top floor to the ground. A module may import from its own floor and from lower ones.
FLOORS = (
    "__init__ __main__",
    "cli cli_review",
    "scan_summary",
    "benchmark",
    "pipeline",
    "prediction_scan label_issues",
    "auditor",
    "audit",
    "terminal review scan_result",
    "options corrections",
    "reporting",
    "suspects",
    "methods",
    "networks",
    "features",
    "training",
    "sources",
    "images",
    "checksums estimates files memory option_fields progress typed_json version",
    "errors",
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 500


def room_of(module: str) -> str:
    """The package or top-level module, of "labelaudit.sources.cells" for example "sources"."""
    return module.split(".")[1]


def imports_of(path: Path) -> list[tuple[str, str]]:
    """Each name that a module imports from labelaudit, also inside functions, with its module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    found = []
    for node in nodes:
        if node.module == "labelaudit":
            found += [(f"labelaudit.{alias.name}", "") for alias in node.names]
        elif (node.module or "").startswith("labelaudit."):
            found += [(node.module, alias.name) for alias in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_down_and_private_names_stay_at_home(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module, name in imports_of(path):
        assert FLOOR[room_of(module)] >= FLOOR[room], f"{module} lies above {room}"
        assert not name.startswith("_"), f"{name} is private to {module}"


def test_every_room_has_a_floor():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert rooms == set(FLOOR)


def test_files_are_short():
    texts = [*MODULES, *(PACKAGE / "reporting" / "page").rglob("*.*")]
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in texts
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) >= MOST_LINES
    }
    assert not long


def third_party_imports() -> dict[str, list[str]]:
    """The packages of others that labelaudit imports, also inside functions, and where."""
    found: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for package in {name.partition(".")[0] for name in names}:
                if package != "labelaudit" and package not in sys.stdlib_module_names:
                    found.setdefault(package, []).append(path.name)
    return found


def test_every_import_is_declared_and_every_dependency_is_imported():
    """No package may be there only because another one happens to need it."""
    file = Path(__file__).parents[1] / "pyproject.toml"
    if not file.exists():
        pytest.skip("without the repository's pyproject.toml")
    project = tomllib.loads(file.read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]

    def names(requirements):
        # "-" and "_" are the same in the name of a package.
        named = (re.split(r"[<>=!~\[ ;]", text)[0].lower() for text in requirements)
        return {name.replace("_", "-") for name in named}

    needed = names(project["project"]["dependencies"])
    declared = needed.union(*map(names, extras.values()))
    owners = packages_distributions()
    imports = third_party_imports()
    imported = {package: names(owners.get(package, [package])) for package in imports}
    assert not {
        package: imports[package] for package in imports if not imported[package] & declared
    }
    assert not needed.difference(*imported.values())

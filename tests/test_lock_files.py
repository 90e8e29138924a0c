"""The lock files name what pyproject.toml asks for, each version with its hashes."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = {"requirements.lock": ("heif", "photos"), "requirements-dev.lock": ("dev", "docs")}
ENTRY = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<rest>(?:.*\\\n)+.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _in_the_repository():
    if not (ROOT / "requirements.lock").exists():
        pytest.skip("without the repository's lock files")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _locked(lock: str) -> dict[str, set[str]]:
    """Return the versions of each package; there are several if platforms or Pythons differ."""
    found: dict[str, set[str]] = {}
    for entry in ENTRY.finditer((ROOT / lock).read_text(encoding="utf-8")):
        found.setdefault(_normal(entry["name"]), set()).add(entry["version"])
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry["rest"])
        assert hashes, f"{entry['name']} has no hash"
    return found


def _wanted(extras: tuple[str, ...]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted, asked = list(project["dependencies"]), list(extras)
    while asked:
        for one in project["optional-dependencies"][asked.pop()]:
            own = re.fullmatch(r"labelaudit\[([\w,-]+)\]", one)
            if own:
                asked += own[1].split(",")
            else:
                wanted.append(one)
    return wanted


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_wanted_is_locked_with_hashes(lock):
    requirements = pytest.importorskip("packaging.requirements")
    locked = _locked(lock)
    stale = []
    for text in _wanted(LOCKS[lock]):
        wanted = requirements.Requirement(text)
        versions = locked.get(_normal(wanted.name), set())
        if not versions or not all(wanted.specifier.contains(one) for one in versions):
            stale.append(text)
    assert not stale, f"run .ci/lock: {lock} lacks {stale}"


def test_tests_run_with_the_versions_that_are_locked_for_everybody():
    ours, developers = map(_locked, LOCKS)
    differ = {name: (ours[name], developers.get(name)) for name in ours}
    assert not {name: both for name, both in differ.items() if both[0] != both[1]}


def test_every_line_of_a_lock_file_belongs_to_a_version_with_hashes():
    for lock in LOCKS:
        text = ENTRY.sub("", (ROOT / lock).read_text(encoding="utf-8"))
        assert not [line for line in text.splitlines() if line and not line.startswith("#")]

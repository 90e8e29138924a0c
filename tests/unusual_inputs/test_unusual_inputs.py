"""Every row of the table: a right result, or one clear line, and nothing lost or half-written.

The modules of this folder named in `TOPICS` each hold a list `ROWS` of `UnusualInput`.
"""

import hashlib
import importlib.util
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from labelaudit.cli import app

FOLDER = Path(__file__).parent


def _module(file: str, name: str) -> ModuleType:
    """Import a file of this folder, which is not on the path: a topic may be named like a library."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{file}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_module("unusual_input", "unusual_input")  # which the topics import


TOPICS = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if path.stem != "unusual_input" and not path.stem.startswith("test_")
)
ROWS = [
    pytest.param(row, id=f"{topic}: {row.name}")
    for topic in TOPICS
    for row in _module(topic, f"unusual_{topic}").ROWS
]


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise in the main thread after this time."""

    def end(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _state(folder: Path) -> dict[Path, str]:
    """Name and content of every regular file, and the name of everything else."""
    found = {}
    for path in folder.rglob("*"):
        small = path.is_file() and not path.is_symlink() and path.stat().st_size < 2**26
        found[path] = hashlib.sha256(path.read_bytes()).hexdigest() if small else "not read"
    return found


def test_the_table_is_long_and_its_names_are_unique():
    names = [row.values[0].name for row in ROWS]
    assert len(set(names)) == len(names)


@pytest.fixture
def _stand_ins(request):
    """Stand-ins for the libraries that read texts, where the row is about texts."""
    if request.node.callspec.id.startswith("texts:"):
        request.getfixturevalue("fake_text_encoders")


@pytest.mark.usefixtures("_stand_ins")
@pytest.mark.parametrize("row", ROWS)
def test_unusual_input(row, tmp_path, monkeypatch):
    assert (row.message is None) != (row.check is None), "give a message or a check"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path.with_name(tmp_path.name + "-cache")))
    arguments = row.make(tmp_path)
    before = _state(tmp_path)
    with _limit(row.seconds):
        result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    after = _state(tmp_path)
    kept = before.keys() - {tmp_path / name for name in row.rewrites}
    changed = [path for path in kept if after.get(path) != before[path]]
    assert not changed, f"files of the user changed: {changed}"
    partial = [path for path in after if ".partial" in path.name or ".lock" in path.name]
    assert not partial, f"files left over: {partial}"
    if row.message is not None:
        assert result.exit_code == 2, result.output
        # What is told before the error is progress and warnings; the error is the last line alone.
        *_, last = result.stderr.strip().splitlines()
        assert last.lower().startswith("error: "), result.stderr  # "Error: " is how click spells it
        assert re.search(row.message, last), result.stderr
        assert after == before, "an error leaves nothing behind"
    else:
        assert result.exit_code == 0, result.output
        row.check(tmp_path, result.output)

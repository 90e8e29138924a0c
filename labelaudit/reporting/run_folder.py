"""The run folder: claimed before training, filled file by file, and replaced as a whole."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from labelaudit.errors import OutputError
from labelaudit.files import atomic_write
from labelaudit.typed_json import to_plain

MARKER = "labelaudit.json"
CORRECTIONS_FILE = "corrections.csv"
"""File of the decisions about the run's samples."""
BEFORE_FILE = "corrections.before.csv"
"""File of decisions about samples or labels of a replaced run that the new run does not have."""


class RunFolder:
    """A folder of results that labelaudit has written or is about to write.

    A marker file distinguishes it from other folders. Its `status` is "running" until the results are
    complete, interrupted or out of time.

    Parameters
    ----------
    path
        The folder.
    force
        Replace a folder that labelaudit wrote.
    resume
        Continue a run that was interrupted.

    Raises
    ------
    OutputError
        The folder exists and may not be used, or cannot be written.
    """

    def __init__(self, path: str | Path, *, force: bool = False, resume: bool = False) -> None:
        self.path = Path(path)
        self._replaced: Path | None = None
        self._claimed = False
        if force and resume:
            raise OutputError("`force` starts again and `resume` continues; give only one of them")
        marker = _read_marker(self.path)
        self.resuming = False
        if self.path.is_symlink() or self.path.exists():
            self._check_existing(marker, force=force, resume=resume)
        self._check_writable()
        if marker and resume:
            self.resuming = True
        self._marker = marker or {}
        if self.resuming and self._marker.get("replaces"):
            self._replaced = self.path.with_name(str(self._marker["replaces"]))

    def _check_existing(self, marker: dict[str, Any] | None, *, force: bool, resume: bool) -> None:
        if marker is None:
            what = "the folder" if self.path.is_dir() else "the file"
            raise OutputError(
                f"{what} {self.path} exists and was not written by labelaudit; choose another `out`"
            )
        if resume and marker.get("status") == "complete":
            raise OutputError(
                f"the run in {self.path} is complete, so there is nothing to resume;"
                " use `force=True` to replace it"
            )
        if not force and not resume:
            unfinished = marker.get("status") != "complete"
            raise OutputError(
                f"{self.path} already exists"
                + (
                    " and holds an unfinished run; continue it with `resume=True`,"
                    if unfinished
                    else ";"
                )
                + " replace it with `force=True`, or choose another `out`"
            )

    def _check_writable(self) -> None:
        parent = self.path.absolute().parent
        while not parent.exists():
            parent = parent.parent
        try:
            # Permissions alone do not show that a file system is read-only, so this tries to write.
            Path(tempfile.mkdtemp(prefix=".labelaudit-", dir=parent)).rmdir()
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written: no folder can be created in {parent}"
                f" ({error.strerror}); choose another `out`"
            ) from error

    def claim(self, version: str, fingerprint: str, config: dict[str, Any]) -> None:
        """Create the folder, or continue the unfinished run in it.

        Parameters
        ----------
        version
            Version of labelaudit.
        fingerprint
            Fingerprint of the data. An unfinished run on other data is not continued.
        config
            Settings that must be the same for a run to be continued.

        Raises
        ------
        OutputError
            The folder cannot be created, or the unfinished run has other data or settings.
        """
        # As it is read back from JSON, so that it can be compared with the marker.
        config = to_plain(config)
        if self.resuming:
            before = self._marker.get("config", {})
            changed = sorted(k for k in config if before.get(k) != config[k])
            if self._marker.get("fingerprint") != fingerprint:
                raise OutputError(
                    f"the images or labels have changed since the run in {self.path} began;"
                    " start again with `force=True`"
                )
            if changed:
                raise OutputError(
                    f"the run in {self.path} began with other settings ({', '.join(changed)});"
                    " give the same ones, or start again with `force=True`"
                )
        else:
            self._make()
        self._claimed = True
        self._marker = {
            "labelaudit": version,
            "status": "running",
            "fingerprint": fingerprint,
            "config": config,
            "replaces": self._replaced.name if self._replaced else None,
        }
        self._write_marker()

    def _make(self) -> None:
        try:
            if self.path.exists():
                # It is kept under another name until the new results are complete.
                self._replaced = self.path.with_name(f".{self.path.name}.replaced-{uuid4().hex}")
                self.path.replace(self._replaced)
            self.path.mkdir(parents=True)
            if self._replaced is not None:
                # Decisions of people must survive, however this run ends.
                for name in (CORRECTIONS_FILE, BEFORE_FILE):
                    if (self._replaced / name).is_file():
                        shutil.copy2(self._replaced / name, self.path / name)
        except OSError as error:
            self._restore()
            raise OutputError(
                f"{self.path} cannot be created ({error.strerror}); choose another `out`"
            ) from error

    def _restore(self) -> None:
        if self._replaced is not None and self._replaced.exists():
            self._replaced.replace(self.path)
        self._replaced = None

    def finish(self, status: str) -> None:
        """Record that the results are complete, and delete the folder that they replace."""
        aside = []
        while self._replaced is not None:
            aside.append(self._replaced)
            # An interrupted run may itself have set an older folder aside.
            older = (_read_marker(self._replaced) or {}).get("replaces")
            self._replaced = self.path.with_name(str(older)) if older else None
        for folder in reversed(aside):  # the newer ones name the older ones
            shutil.rmtree(folder, ignore_errors=True)
        self._marker |= {"status": status, "replaces": None}
        self._write_marker()

    def abandon(self) -> None:
        """Undo `claim`: delete the new folder, and restore the one that it was to replace."""
        if self._claimed and not self.resuming:
            shutil.rmtree(self.path, ignore_errors=True)
            self._restore()
        self._claimed = False

    def _write_marker(self) -> None:
        self.write_json(MARKER, self._marker)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Write a file into the folder atomically, through the path that is yielded."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as partial:
            yield partial

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file into the folder atomically."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        with self.file(name) as path:
            path.write_text(text, encoding="utf-8")


def _read_marker(folder: Path) -> dict[str, Any] | None:
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and "labelaudit" in marker else None

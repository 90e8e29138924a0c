"""The run folder: claimed before training, filled file by file, never half-replaced."""

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

MARKER = "labelaudit.json"
CORRECTIONS_FILE = "corrections.csv"
"""Decisions about the run's samples."""
BEFORE_FILE = "corrections.before.csv"
"""Decisions of a replaced run that do not hold for the new one, because samples or labels are gone."""


class RunFolder:
    """A folder of results that labelaudit wrote, or is about to.

    A marker file tells it from other folders; its `status` is "running" until results are complete,
    interrupted or out of time.

    Parameters
    ----------
    path
        The folder.
    force
        Replace a folder that labelaudit wrote.
    resume
        Go on with a run that was cut off.

    Raises
    ------
    OutputError
        If the folder is there and may not be used, or could not be written.
    """

    def __init__(self, path: str | Path, *, force: bool = False, resume: bool = False) -> None:
        self.path = Path(path)
        self._replaced: Path | None = None
        self._claimed = False
        if force and resume:
            raise OutputError("--force starts afresh and --resume goes on; give one of them")
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
                f"{what} {self.path} is there already and labelaudit did not write it;"
                " choose another --out"
            )
        if resume and marker.get("status") == "complete":
            raise OutputError(
                f"the run in {self.path} is complete, there is nothing to resume;"
                " use --force to replace it"
            )
        if not force and not resume:
            unfinished = marker.get("status") != "complete"
            raise OutputError(
                f"{self.path} is there already"
                + (" and holds an unfinished run: --resume goes on with it," if unfinished else ":")
                + " --force replaces it, --out names another"
            )

    def _check_writable(self) -> None:
        parent = self.path.absolute().parent
        while not parent.exists():
            parent = parent.parent
        try:
            # By trying: permissions alone do not tell of read-only or virtual file systems.
            Path(tempfile.mkdtemp(prefix=".labelaudit-", dir=parent)).rmdir()
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written: {parent} takes no new folder"
                f" ({error.strerror}); choose another --out"
            ) from error

    def claim(self, version: str, fingerprint: str, config: dict[str, Any]) -> None:
        """Make the folder, or take the unfinished one up again.

        Parameters
        ----------
        version
            labelaudit's.
        fingerprint
            Of the data: an unfinished run on other data is not taken up.
        config
            What must be the same for a run to be taken up.

        Raises
        ------
        OutputError
            If the folder cannot be made, or the unfinished run is another one.
        """
        # As JSON has it, so that it compares with what the marker holds.
        config = json.loads(json.dumps(config))
        if self.resuming:
            before = self._marker.get("config", {})
            changed = sorted(k for k in config if before.get(k) != config[k])
            if self._marker.get("fingerprint") != fingerprint:
                raise OutputError(
                    f"the images or labels have changed since the run in {self.path} began;"
                    " start afresh with --force"
                )
            if changed:
                raise OutputError(
                    f"the run in {self.path} began with other settings ({', '.join(changed)});"
                    " give the same, or start afresh with --force"
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
                # Kept aside until the new results are there.
                self._replaced = self.path.with_name(f".{self.path.name}.replaced-{uuid4().hex}")
                self.path.replace(self._replaced)
            self.path.mkdir(parents=True)
            if self._replaced is not None:
                # What a person has decided outlives the run, however this one ends.
                for name in (CORRECTIONS_FILE, BEFORE_FILE):
                    if (self._replaced / name).is_file():
                        shutil.copy2(self._replaced / name, self.path / name)
        except OSError as error:
            self._restore()
            raise OutputError(
                f"{self.path} cannot be made ({error.strerror}); choose another --out"
            ) from error

    def _restore(self) -> None:
        if self._replaced is not None and self._replaced.exists():
            self._replaced.replace(self.path)
        self._replaced = None

    def finish(self, status: str) -> None:
        """Mark the results as there; what they replace is removed now."""
        aside = []
        while self._replaced is not None:
            aside.append(self._replaced)
            # A run that was cut off may itself have set one aside.
            older = (_read_marker(self._replaced) or {}).get("replaces")
            self._replaced = self.path.with_name(str(older)) if older else None
        for folder in reversed(aside):  # the newer ones say where the older ones are
            shutil.rmtree(folder, ignore_errors=True)
        self._marker |= {"status": status, "replaces": None}
        self._write_marker()

    def abandon(self) -> None:
        """Undo `claim` where nothing worth keeping was made; what was to be replaced comes back."""
        if self._claimed and not self.resuming:
            shutil.rmtree(self.path, ignore_errors=True)
            self._restore()
        self._claimed = False

    def _write_marker(self) -> None:
        self.write_json(MARKER, self._marker)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Write a file into the folder through the path given, whole or not at all."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as partial:
            yield partial

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file into the folder, whole or not at all."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        with self.file(name) as path:
            path.write_text(text, encoding="utf-8")


def _read_marker(folder: Path) -> dict[str, Any] | None:
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and "labelaudit" in marker else None

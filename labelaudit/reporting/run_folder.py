"""The run folder: locked from the start, claimed before training, filled file by file.

A run that replaces another one moves its files into the subfolder `EARLIER`, and deletes them when the
new results are complete. Files of the user stay where they are. Wherever a process is killed, the next
one finds in the folder what is to be done; see `RunFolder`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labelaudit.errors import LabelauditError, OutputError, WriteError
from labelaudit.files import (
    FOLDER_LOCK,
    FULL_DISK,
    PARTIAL,
    Lock,
    atomic_write,
    cannot_write,
    folder_lock,
    is_utf8,
)
from labelaudit.progress import Reporter
from labelaudit.reporting.run_files import (
    BEFORE_FILE,
    CHECKPOINTS,
    CORRECTIONS_FILE,
    EARLIER,
    FOLDERS,
    MARKER,
    MOVING,
    UNFINISHED,
    Marker,
    described,
    edited_files,
    is_own_name,
    move_aside,
    move_files,
    own_files,
    read_marker,
    remove_files,
    remove_leftovers,
)
from labelaudit.typed_json import to_plain

__all__ = ["BEFORE_FILE", "CORRECTIONS_FILE", "MARKER", "RunFolder", "refuse_inputs"]

FOLLOW_DATA = {"features", "image_shape", "umn"}  # settings that change because the data did


class RunFolder:
    """A folder of results that labelaudit has written or is about to write.

    It is locked until it is closed, finished or abandoned, or the process ends. Used as a context
    manager, it is closed at the end, and abandoned if an error leaves nothing to continue.

    The folder is in one of these states, which the next command tells apart:

    - There is no folder, or an empty one: nothing has begun.
    - The marker has a status of `UNFINISHED`: `resume` continues the run, and `force` begins again. The
      results that it replaces, if any, are in `EARLIER`, with a marker of their own.
    - The marker has another status: the results are there. What is still in `EARLIER` is not needed.
    - `EARLIER` has the file `MOVING`, or a marker while the folder has none: the process was killed
      while files were moved. They are moved back.

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
        The folder exists and may not be used, cannot be written, or is used by another process.
    """

    def __init__(self, path: str | Path, *, force: bool = False, resume: bool = False) -> None:
        self.path = Path(path)
        self._notes: list[str] = []
        self.resuming = False
        self._claimed = False  # and neither finished nor abandoned
        self._made: list[Path] = []  # the folders that this run has made
        if force and resume:
            raise OutputError("`force` starts again and `resume` continues; give only one of them")
        if not is_utf8(self.path):
            raise OutputError(f"the name {self.path} is not UTF-8; choose another `out`")
        with self._in_words("cannot be used"):
            self._here = Path(os.path.realpath(self.path))
            self._earlier = self._here / EARLIER
            with suppress(FileNotFoundError):
                self._here.lstat()  # raises for names that are too long
            self._find_marker()  # raises if the folder is not labelaudit's, before a lock is made there
        self._lock = self._take_lock()
        try:
            with self._in_words("cannot be used"):
                self._recover()
                # Again, because another process may have written it until now.
                self._marker = self._find_marker()
                self._refuse(self._marker, force, resume)
        except BaseException:
            self.close()
            raise
        self.resuming = resume and self._marker is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        told = error
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            told = cannot_write(self.path, error)
        if self._claimed and self.can_continue:
            if isinstance(told, WriteError | KeyboardInterrupt):
                said = "Interrupted" if isinstance(told, KeyboardInterrupt) else str(told)
                told = type(told)(
                    f"{said}. What was trained so far is in {self.path}; `resume=True` continues it"
                )
        elif self._claimed:
            self.abandon()
        self.close()
        if told is not error and told is not None:
            raise told from error

    @property
    def can_continue(self) -> bool:
        """Whether there is a state from which training can be continued."""
        return any((self._here / name).is_file() for name in CHECKPOINTS)

    def close(self) -> None:
        """Release the lock, and delete the parents made for a folder that was not made."""
        self._claimed = False
        self._lock.release()
        for parent in reversed(self._made):
            with suppress(OSError):
                parent.rmdir()  # only if it is empty

    # --- what is there ---------------------------------------------------------------------------

    def _refuse(self, marker: Marker | None, force: bool, resume: bool) -> None:
        """Raise OutputError if there is a run that the options do not allow to use."""
        if marker is None:
            return
        unfinished = marker.status != "complete"
        if resume and not unfinished:
            raise OutputError(
                f"the run in {self.path} is complete, so there is nothing to resume;"
                " use `force=True` to replace it"
            )
        if force or resume:
            return
        kept = ""
        if marker.status in UNFINISHED and _has_marker(self._earlier):
            kept = f" (the results that it replaces are in {self.path / EARLIER})"
        middle = ";"
        if unfinished:
            middle = f" and holds an unfinished run{kept}; continue it with `resume=True`,"
        raise OutputError(
            f"{self.path} already exists{middle} replace it with `force=True`, or choose another `out`"
        )

    def _take_lock(self) -> Lock:
        """Lock the folder, which need not exist yet."""
        lock = self._lock = folder_lock(self._here)
        try:
            self._make_folders(self._here.parent)
            taken = lock.acquire()
        except OSError as error:
            self.close()
            raise OutputError(
                f"{self.path} cannot be written: no file can be created in {self._here.parent}"
                f" ({error.strerror or error}); choose another `out`"
            ) from error
        if not taken:
            raise OutputError(
                f"another labelaudit is writing to {self.path}; wait until it has ended, or choose"
                " another `out`"
            )
        return lock

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            self._made.append(one)

    def _recover(self) -> None:
        """Complete what a killed process has begun, where that decides nothing."""
        here, earlier = self._here, self._earlier
        if not here.is_dir():
            return
        top, kept = read_marker(here), _has_marker(earlier)
        if top is None and not kept:
            return
        remove_leftovers(here)
        if top is None or (_is_folder(earlier) and (earlier / MOVING).is_file()):
            self._put_back()
        elif top.status not in UNFINISHED and kept:
            self._drop_earlier()
        if top is not None and top.status == "complete":
            remove_files(CHECKPOINTS, here)

    def _put_back(self) -> None:
        """Move the files of the earlier run back, its marker last."""
        here, earlier = self._here, self._earlier
        move_files([n for n in own_files(earlier) if not os.path.lexists(here / n)], earlier, here)
        if _has_marker(earlier):
            (earlier / MARKER).replace(here / MARKER)
        self._remove_earlier()

    def _drop_earlier(self) -> None:
        """Delete the files of the earlier run, its marker last. What a person has edited is kept."""
        earlier = self._earlier
        with suppress(OutputError):  # a damaged marker
            marker = read_marker(earlier)
            for name in [] if marker is None else edited_files(earlier, marker):
                # Its decisions are in corrections.csv now, but there may be more in it.
                kept = move_aside(earlier / name, self._here)
                self._notes.append(
                    f"{name} of the earlier run was edited by hand; it is kept as {kept.name}"
                )
        remove_files(own_files(earlier), earlier)
        self._remove_earlier()

    def _remove_earlier(self) -> None:
        """Delete the marker of the earlier run, and its folder if the user has put nothing into it."""
        for name in (MARKER, MOVING):
            (self._earlier / name).unlink(missing_ok=True)
        with suppress(OSError):
            self._earlier.rmdir()

    # --- the life of a run -----------------------------------------------------------------------

    @property
    def begun_with(self) -> dict[str, Any]:
        """Settings of the unfinished run that is continued; empty for a new run."""
        return self._marker.config if self.resuming and self._marker is not None else {}

    def claim(
        self,
        version: str,
        fingerprint: str,
        config: dict[str, Any],
        reporter: Reporter | None = None,
    ) -> None:
        """Create the folder, or continue the unfinished run in it.

        Parameters
        ----------
        version
            Version of labelaudit.
        fingerprint
            Fingerprint of the data. An unfinished run on other data is not continued.
        config
            Settings that must be the same for a run to be continued.
        reporter
            Receives warnings about files of the user that were in the way.

        Raises
        ------
        OutputError
            The folder cannot be created, or the unfinished run has other data or settings.
        """
        # As it is read back from JSON, so that it can be compared with the marker.
        config = to_plain(config)
        if self.resuming:
            assert self._marker is not None
            self._refuse_changes(self._marker, fingerprint, config)
        with self._in_words("cannot be created"):
            if self._marker is None:
                self._make()
            elif self.resuming:
                self._refuse_links()
            else:
                self._set_aside(self._marker)
            self._claimed = True
            self._marker = Marker(version, "running", fingerprint, config)
            self._write_marker()
        self._tell(reporter)

    def _refuse_changes(self, before: Marker, fingerprint: str, config: dict[str, Any]) -> None:
        # A run of an earlier version does not have all settings of this one.
        old = before.config
        changed = {name for name in config if old.get(name, config[name]) != config[name]}
        other_data = before.fingerprint != fingerprint
        if other_data:
            changed -= FOLLOW_DATA
        if changed:
            raise OutputError(
                f"the run in {self.path} began with other settings ({', '.join(sorted(changed))});"
                " give the same ones, or start again with `force=True`"
            )
        if other_data:
            raise OutputError(
                f"the images or labels have changed since the run in {self.path} began;"
                " start again with `force=True`"
            )

    def _make(self) -> None:
        if os.path.lexists(self._here):
            if self._find_marker() is not None:
                raise OutputError(
                    f"another run has been written to {self.path} meanwhile; choose another `out`"
                )
            remove_leftovers(self._here)
        else:
            self._here.mkdir()
            self._made.append(self._here)

    def _refuse_links(self) -> None:
        """Raise OutputError if results would be written through a link."""
        for name in FOLDERS:
            if (self._here / name).is_symlink():
                raise OutputError(
                    f"{self.path / name} is a link to another folder; delete the link, or choose"
                    " another `out`"
                )

    def _set_aside(self, marker: Marker) -> None:
        """Move the files of the earlier run away, and the marker last."""
        here, earlier = self._here, self._earlier
        for name in (*FOLDERS, EARLIER):
            if os.path.lexists(here / name) and not _is_folder(here / name):
                self._keep(here / name)
        if marker.status in UNFINISHED and _has_marker(earlier):
            # This run was not finished. What it was to replace is kept until this one is.
            remove_files(own_files(here), here)
            return
        for name in own_files(here):
            if marker.files is not None and name not in marker.files:
                self._keep(here / name)  # it came later, from the user
        if _is_folder(earlier) and any(earlier.iterdir()):
            self._keep(earlier)
        earlier.mkdir(exist_ok=True)
        try:
            (earlier / MOVING).touch()
            move_files(own_files(here), here, earlier)
            (here / MARKER).replace(earlier / MARKER)
            (earlier / MOVING).unlink()
        except BaseException:
            self._put_back()
            raise

    def _keep(self, path: Path) -> None:
        """Rename a file or folder of the user that is in the way."""
        name = path.relative_to(self._here).as_posix()
        self._notes.append(
            f"{name} in {self.path} was not written by labelaudit; it is kept as"
            f" {move_aside(path).name}"
        )

    def begin_results(self) -> None:
        """Record that results are being written, so that nobody reads files of two runs together."""
        assert self._marker is not None
        self._marker = replace(self._marker, status="writing")
        self._write_marker()

    def finish(self, status: str, reporter: Reporter | None = None) -> None:
        """Record that the results are complete, and delete those that they replace.

        Raises OutputError if the marker cannot be written. The run can then be continued.
        """
        assert self._marker is not None
        with self._in_words("cannot be finished"):
            names = own_files(self._here)
            if status == "complete":
                names = [name for name in names if name not in CHECKPOINTS]
            listed = described(self._here, names)
            self._marker = replace(self._marker, status=status, files=listed)
            self._write_marker()
            self._claimed = False
            if _has_marker(self._earlier):
                self._drop_earlier()
            if status == "complete":
                remove_files(CHECKPOINTS, self._here)
        self.close()
        self._tell(reporter)

    def _tell(self, reporter: Reporter | None) -> None:
        """Report which files of the user were renamed."""
        for note in self._notes:
            (reporter or Reporter()).warn(note)
        self._notes.clear()

    def abandon(self) -> None:
        """Undo `claim`: delete the files of this run, and move those of the earlier run back."""
        if self._claimed and not self.resuming:
            with suppress(OSError):
                remove_leftovers(self._here)
                remove_files(own_files(self._here), self._here)
                (self._here / MARKER).unlink(missing_ok=True)
                if _has_marker(self._earlier):
                    self._put_back()
        self.close()

    # --- files -----------------------------------------------------------------------------------

    def _write_marker(self) -> None:
        assert self._marker is not None
        values = asdict(self._marker)
        if values["files"] is None:
            del values["files"]
        self.write_json(MARKER, values)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Write a file into the folder atomically, through the path that is yielded."""
        path = self.path / name
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(path.parent, error) from error
        with atomic_write(path) as partial:
            yield partial

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file into the folder atomically."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        with self.file(name) as path:
            path.write_text(text, encoding="utf-8")

    @contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        """Turn an error of the operating system into an OutputError."""
        try:
            yield
        except LabelauditError:
            raise
        except (OSError, ValueError) as error:  # a ValueError for a name with a null character
            reason = error.strerror if isinstance(error, OSError) else ""
            raise OutputError(
                f"{self.path} {what} ({reason or error}); choose another `out`"
            ) from error

    def _find_marker(self) -> Marker | None:
        """Return the marker of the run in the folder; None if there is no folder, or nothing in it.

        Raises OutputError if the folder holds something else.
        """
        here = self._here
        if not os.path.lexists(here):
            return None
        if not here.is_dir():
            raise OutputError(
                f"the file {self.path} exists and was not written by labelaudit; choose another `out`"
            )
        marker = read_marker(here)
        if marker is None and _has_marker(self._earlier):
            marker = read_marker(self._earlier)
        names = {one.name for one in here.iterdir() if not PARTIAL.fullmatch(one.name)}
        if marker is None and names - {FOLDER_LOCK}:
            raise OutputError(
                f"the folder {self.path} exists and was not written by labelaudit, because {MARKER} is"
                " missing; choose another `out`"
            )
        return marker


def _has_marker(folder: Path) -> bool:
    return _is_folder(folder) and (folder / MARKER).is_file()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def refuse_inputs(out: str | Path, inputs: Mapping[str, Any]) -> None:
    """Raise OutputError if an input, by the name of its option, is a file that a run replaces."""
    folder = os.path.realpath(out)
    for name, given in inputs.items():
        if not isinstance(given, str | Path):
            continue
        place = Path(os.path.realpath(given))
        if not place.is_relative_to(folder):
            continue
        inside = place.relative_to(folder)
        if is_own_name(inside.as_posix()) or inside.parts[:1] == (EARLIER,):
            raise OutputError(
                f"{given} ({name}) is one of the files that this run replaces in {out};"
                " copy it to another folder, or choose another `out`"
            )

"""`labelaudit review`: the report's page, served to this machine alone, which saves each decision.

Only somebody who knows the token in the address gets an answer, and only the page that this server
itself has sent may ask: requests that name another host or come from another origin get nothing. The
page runs the script of the installed package and no other, whatever the run folder holds.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from labelaudit.corrections.run import read_run
from labelaudit.corrections.table import (
    ACCEPT,
    CORRECTION_COLUMNS,
    CORRECTIONS_FILE,
    DECISIONS,
    GIVEN_LABEL,
    RELABEL,
    write_corrections,
)
from labelaudit.errors import LabelauditError, OptionError, SourceError
from labelaudit.files import locked, suffix_of
from labelaudit.reporting.blocks import (
    DATA_FOLDER,
    INDEX,
    SHOWN_BY_BROWSERS,
    block_json,
    read_block,
)
from labelaudit.reporting.html import page_text, source_hash
from labelaudit.reporting.tables import read_csv
from labelaudit.review.rerender import page_of

HOST = "127.0.0.1"
TOKEN_BYTES = 18
MOST_BYTES = 1 << 25  # of a request: decisions about all suspects at once
MOST_LETTERS = 10_000  # of a label or note
_BLOCK = re.compile(r"report-data/(index|chunk-\d{5})\.json")
_IMAGE = re.compile(r"image/(\d{1,9})")
Stamp = tuple[int, int, int]
_KINDS = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "ico": "x-icon"}


class CorrectionsFile:
    """The corrections.csv of a run folder, rewritten whole with every change.

    Parameters
    ----------
    path
        The file; it need not be there yet.
    given_labels
        Of the samples that may be decided about, by sample id.

    Raises
    ------
    SourceError
        If there is such a file and it cannot be read.
    """

    def __init__(self, path: Path, given_labels: Mapping[str, str]) -> None:
        self.path = path
        self._given = dict(given_labels)
        self._lock = threading.Lock()
        self._seen: Stamp | None = None
        self._rows: dict[str, dict[str, str]] = {}
        self._read()

    def rows(self) -> list[dict[str, str]]:
        """Give all rows, with the columns `CORRECTION_COLUMNS` and `GIVEN_LABEL`."""
        with self._lock:
            self._read()
            return list(self._rows.values())

    def update(
        self, changes: Sequence[Mapping[str, Any]], reviewer: str
    ) -> tuple[int, list[tuple[str, str]]]:
        """Write changed decisions; one without decision and note takes the row away.

        Parameters
        ----------
        changes
            With ``sample_id``, ``decision``, ``corrected_label`` and ``note``.
        reviewer
            Who decided.

        Returns
        -------
        tuple
            How many samples are decided about now; and the changes that make no sense, which are not
            written: the sample and why.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        refused = []
        with self._lock, locked(self.path):
            self._read()
            rows = dict(self._rows)
            for change in changes:
                told = {name: change.get(name, "") for name in CORRECTION_COLUMNS[:4]}
                trouble = self._trouble(told)
                if trouble:
                    refused.append((str(told["sample_id"]), trouble))
                    continue
                sample = told["sample_id"]
                if told["decision"] not in (ACCEPT, RELABEL):
                    told["corrected_label"] = ""
                if told["decision"] or told["note"]:
                    who = {"reviewer": reviewer, "reviewed_at": now}
                    rows[sample] = {**told, **who, GIVEN_LABEL: self._given[sample]}
                else:
                    rows.pop(sample, None)
            columns = [*CORRECTION_COLUMNS, GIVEN_LABEL]
            frame = pd.DataFrame(list(rows.values()), columns=columns, dtype="str").fillna("")
            write_corrections(frame, self.path)
            self._rows = rows
            self._seen = _stamp(self.path)
        return sum(row["decision"] != "" for row in rows.values()), refused

    def _trouble(self, told: Mapping[str, Any]) -> str:
        """Say why a change makes no sense, "" if it does."""
        if not all(isinstance(text, str) and len(text) <= MOST_LETTERS for text in told.values()):
            return "a decision is made of short texts"
        if told["sample_id"] not in self._given:
            return "this run does not list the sample"
        if told["decision"] not in ("", *DECISIONS):
            return f"a decision is one of {', '.join(DECISIONS)}"
        if told["decision"] in (ACCEPT, RELABEL) and not told["corrected_label"]:
            return "a label without a name cannot be set"
        return ""

    def _read(self) -> None:
        """Read the file again if something else has written it, so that nobody's decisions are lost."""
        state = _stamp(self.path)
        if state == self._seen:
            return
        self._rows = {}
        if state is not None:
            frame = read_csv(self.path)
            missing = [name for name in CORRECTION_COLUMNS if name not in frame]
            if missing:
                raise SourceError(
                    f"{self.path} has no column {missing[0]!r}; move it away, or mend its header"
                )
            frame[GIVEN_LABEL] = frame.get(GIVEN_LABEL, pd.Series("", index=frame.index))
            columns = [*CORRECTION_COLUMNS, GIVEN_LABEL]
            for row in frame[columns].fillna("").astype(str).to_dict("records"):
                told = {str(name): text for name, text in row.items()}
                told["decision"] = told["decision"].strip().lower()  # as a person may write it
                self._rows[told["sample_id"]] = told
        self._seen = state


class ReviewServer(ThreadingHTTPServer):
    """Serves one run folder's page on 127.0.0.1.

    Parameters
    ----------
    run
        The run folder.
    reviewer
        Who decides; stands in corrections.csv.
    port
        0 for any that is free.

    Raises
    ------
    SourceError
        If the folder has no page that this version can serve.
    OptionError
        If the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, run: str | Path, reviewer: str, port: int = 0) -> None:
        self.run = Path(run)
        self.reviewer = reviewer
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        found = read_run(run)
        # Rendered here and not read from the folder: whoever has sent it cannot have changed the page.
        self.page = page_of(found, live=True).encode("utf-8", errors="replace")
        self.policy = _policy()
        self._index_stamp = _stamp(self._index)
        try:
            index = read_block(self.run, INDEX)
            suspects, classes = index["suspects"], [*index["classes"], ""]
            given = {
                sample: classes[code]
                for sample, code in zip(suspects["id"], suspects["given"], strict=True)
            }
            links = suspects["link"] or [""] * len(suspects["id"])
            self.images = {
                rank: self.run / unquote(link)
                for rank, link in zip(suspects["rank"], links, strict=True)
                if link and suffix_of(unquote(link)) in SHOWN_BY_BROWSERS
            }
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise SourceError(
                f"{self.run} is damaged: its list of suspects is no such list; scan again with --force"
            ) from error
        self.corrections = CorrectionsFile(self.run / CORRECTIONS_FILE, given)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise OptionError(
                f"port {port} of {HOST} cannot be had ({error.strerror}); leave --port out for a free"
                " one"
            ) from error

    @property
    def address(self) -> str:
        """Where the page is, with its token."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    @property
    def is_stale(self) -> bool:
        """Whether the run was replaced by another one meanwhile."""
        return _stamp(self._index) != self._index_stamp

    @property
    def _index(self) -> Path:
        return self.run / DATA_FOLDER / f"{INDEX}.js"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a browser has gone away in the middle of an answer."""


def _stamp(path: Path) -> Stamp | None:
    """Give what changes where a file is written anew, None where there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _policy() -> str:
    script, style = source_hash(page_text("report.js")), source_hash(page_text("report.css"))
    return (
        f"default-src 'none'; img-src data: 'self'; style-src '{style}'; script-src '{script}';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: ReviewServer
    protocol_version = "HTTP/1.1"
    server_version = "labelaudit"
    sys_version = ""
    timeout = 60  # seconds; a connection that says nothing is closed

    def do_GET(self) -> None:
        """Send the page, a block of its data, an image, or the decisions so far."""
        path = self._path()
        if path is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        elif path == "":
            self._send(self.server.page, "text/html; charset=utf-8")
        elif path == "decisions":
            self._send_decisions()
        elif match := _BLOCK.fullmatch(path):
            try:
                self._send(block_json(self.server.run, match[1]).encode(), "application/json")
            except LabelauditError:
                self._refuse(HTTPStatus.NOT_FOUND)
        elif match := _IMAGE.fullmatch(path):
            self._send_image(int(match[1]))
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Save decisions."""
        path = self._path()
        own = f"http://{self.headers.get('Host', '')}"
        kind = self.headers.get("Content-Type", "").partition(";")[0]
        size = self.headers.get("Content-Length", "")
        if path != "decisions" or kind != "application/json" or self.headers.get("Origin") != own:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        if not size.isdecimal() or int(size) > MOST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        try:
            changes = json.loads(self.rfile.read(int(size)))
            if not isinstance(changes, list) or not all(isinstance(one, dict) for one in changes):
                raise OptionError("decisions come as a list of objects")
            if self.server.is_stale:
                raise OptionError("the run was replaced by another one; start the review again")
            saved, refused = self.server.corrections.update(changes, self.server.reviewer)
        except (ValueError, OSError, RecursionError) as error:  # LabelauditError among them
            self._complain(error)
            return
        self._send_json({"saved": saved, "refused": refused})

    def _send_decisions(self) -> None:
        try:
            rows = self.server.corrections.rows()
        except (ValueError, OSError) as error:
            self._complain(error)
            return
        self._send_json({"reviewer": self.server.reviewer, "rows": rows})

    def _complain(self, error: Exception) -> None:
        self._send(str(error).encode(), "text/plain; charset=utf-8", HTTPStatus.BAD_REQUEST)

    def _path(self) -> str | None:
        """Give what is asked for below the token, None to those who may not ask."""
        port = self.server.server_port
        # A name that somebody points at this machine is not ours (DNS rebinding).
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            return None
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers.get('Host')}":
            return None
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return None
        _, token, *rest = urlsplit(self.path).path.split("/", 2)
        if not rest or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            return None
        return rest[0]

    def _send_image(self, rank: int) -> None:
        """Send an original image as it lies on disk: of a listed suspect, and a regular file."""
        path = self.server.images.get(rank)
        try:
            if path is None:
                raise FileNotFoundError
            # Opening a pipe for reading would wait until somebody writes to it.
            with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise FileNotFoundError
                suffix = suffix_of(path.name)
                self._head(f"image/{_KINDS.get(suffix, suffix)}", found.st_size)
                shutil.copyfileobj(file, self.wfile)
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _send_json(self, value: object) -> None:
        self._send(json.dumps(value, ensure_ascii=False).encode(), "application/json")

    def _send(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._head(kind, len(content), status)
        self.wfile.write(content)

    def _head(self, kind: str, size: int, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(size)),
            ("Content-Security-Policy", self.server.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer with nothing but a number; what came with the request is not read."""
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal quiet: the address, with its token, would stand in every line."""

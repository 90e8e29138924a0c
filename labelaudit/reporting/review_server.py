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

from labelaudit.corrections.table import (
    ACCEPT,
    CORRECTION_COLUMNS,
    CORRECTIONS_FILE,
    DECISIONS,
    RELABEL,
    write_corrections,
)
from labelaudit.data.label_tables import suffix_of
from labelaudit.errors import LabelauditError, OptionError, SourceError
from labelaudit.reporting.blocks import INDEX, SHOWN_BY_BROWSERS, block_json, read_block
from labelaudit.reporting.html import page_text, source_hash
from labelaudit.reporting.tables import read_csv

HOST = "127.0.0.1"
TOKEN_BYTES = 18
MOST_BYTES = 1 << 25  # of a request: decisions about all suspects at once
MOST_LETTERS = 10_000  # of a label or note
_BLOCK = re.compile(r"report-data/(index|chunk-\d{5})\.json")
_IMAGE = re.compile(r"image/(\d{1,9})")
_POLICY_TAG = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
_KINDS = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "ico": "x-icon"}


class CorrectionsFile:
    """The corrections.csv of a run folder, rewritten whole with every change.

    Parameters
    ----------
    path
        The file; it need not be there yet.
    sample_ids
        Of the samples that may be decided about.

    Raises
    ------
    SourceError
        If there is such a file and it cannot be read.
    """

    def __init__(self, path: Path, sample_ids: Sequence[str]) -> None:
        self.path = path
        self._known = frozenset(sample_ids)
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._rows: dict[str, dict[str, str]] = {}
        self._read()

    def rows(self) -> list[dict[str, str]]:
        """Give all rows, with the columns `CORRECTION_COLUMNS`."""
        with self._lock:
            self._read()
            return list(self._rows.values())

    def update(self, changes: Sequence[Mapping[str, str]], reviewer: str) -> int:
        """Write changed decisions; one without decision and note takes the row away.

        Parameters
        ----------
        changes
            With ``sample_id``, ``decision``, ``corrected_label`` and ``note``.
        reviewer
            Who decided.

        Returns
        -------
        int
            How many samples are decided about now.

        Raises
        ------
        OptionError
            If a change makes no sense; nothing is written then.
        OutputError
            If the file cannot be written.
        """
        checked = [self._check(change) for change in changes]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._lock:
            self._read()
            rows = dict(self._rows)
            for change in checked:
                sample = change["sample_id"]
                if change["decision"] or change["note"]:
                    rows[sample] = {**change, "reviewer": reviewer, "reviewed_at": now}
                else:
                    rows.pop(sample, None)
            frame = pd.DataFrame(list(rows.values()), columns=list(CORRECTION_COLUMNS), dtype="str")
            write_corrections(frame, self.path)
            self._rows = rows
            self._seen = self._state()
        return sum(row["decision"] != "" for row in rows.values())

    def _check(self, change: Mapping[str, Any]) -> dict[str, str]:
        told = {name: change.get(name, "") for name in CORRECTION_COLUMNS[:4]}
        if not all(isinstance(text, str) and len(text) <= MOST_LETTERS for text in told.values()):
            raise OptionError("a decision is made of short texts")
        if told["sample_id"] not in self._known:
            raise OptionError("a decision names a sample that this run does not list")
        if told["decision"] not in ("", *DECISIONS):
            raise OptionError(f"a decision is one of {', '.join(DECISIONS)}")
        if told["decision"] not in (ACCEPT, RELABEL):
            told["corrected_label"] = ""
        elif not told["corrected_label"]:
            raise OptionError("a decision to relabel needs a label")
        return told

    def _state(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size

    def _read(self) -> None:
        """Read the file again if something else has written it, so that nobody's decisions are lost."""
        state = self._state()
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
            for row in frame[list(CORRECTION_COLUMNS)].fillna("").astype(str).to_dict("records"):
                self._rows[row["sample_id"]] = {str(name): text for name, text in row.items()}
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
        self.page = _live_page(self.run)
        index = read_block(self.run, INDEX)
        suspects = index["suspects"]
        self.corrections = CorrectionsFile(self.run / CORRECTIONS_FILE, suspects["id"])
        self.corrections.rows()
        links = suspects["link"] or [""] * len(suspects["id"])
        self.images = {
            rank: self.run / unquote(link)
            for rank, link in zip(suspects["rank"], links, strict=True)
            if link and suffix_of(unquote(link)) in SHOWN_BY_BROWSERS
        }
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

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a browser has gone away in the middle of an answer."""


def _live_page(run: Path) -> bytes:
    """Read the page, and let it talk to the server."""
    path = run / "report.html"
    mend = f"write it anew with: labelaudit report {run}"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read ({error}); {mend}") from error
    known = (
        f"<script>{page_text('report.js')}</script>",
        f"<style>{page_text('report.css')}</style>",
    )
    if not all(part in text for part in known):
        raise SourceError(f"{path} was written by another version of labelaudit; {mend}")
    # The policy goes into a header, which a run folder of somebody else cannot change.
    text = _POLICY_TAG.sub("", text, count=1)
    return text.replace('data-review="disk"', 'data-review="live"', 1).encode()


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
            self._send_json(self.server.corrections.rows())
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
            saved = self.server.corrections.update(changes, self.server.reviewer)
        except (ValueError, OSError) as error:  # LabelauditError among them
            self._send(str(error).encode(), "text/plain; charset=utf-8", HTTPStatus.BAD_REQUEST)
            return
        self._send_json({"saved": saved})

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
            ("Content-Security-Policy", _policy()),
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

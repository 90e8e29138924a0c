"""`labelaudit review`: a server that shows the report page to this machine only and saves decisions.

The server answers only requests with the token of its address that come from its own page. It refuses
requests that name another host or come from another origin. The page runs only the script of the
installed package, whatever the run folder contains.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from labelaudit.corrections.reading import file_of_decisions
from labelaudit.corrections.run import Run, read_run
from labelaudit.corrections.table import GIVEN_LABEL, write_corrections
from labelaudit.errors import LabelauditError, OptionError, SourceError
from labelaudit.files import cannot_write, remove_partial_files, suffix_of
from labelaudit.reporting.blocks import (
    DATA_FOLDER,
    INDEX,
    SHOWN_BY_BROWSERS,
    block_json,
    read_block,
)
from labelaudit.reporting.html import page_script, page_style, source_hash
from labelaudit.reporting.run_files import CORRECTIONS_FILE, move_aside
from labelaudit.review.corrections_file import CorrectionsFile, stamp
from labelaudit.review.rerender import page_of

HOST = "127.0.0.1"
TOKEN_BYTES = 18
MOST_BYTES = 1 << 25  # size of a request, which may decide about all suspects at once
_BLOCK = re.compile(r"report-data/(index|chunk-\d{5})\.json")
_IMAGE = re.compile(r"image/(\d{1,9})")
_KINDS = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "ico": "x-icon"}


class ReviewServer(ThreadingHTTPServer):
    """Serves the page of one run folder on 127.0.0.1.

    Decisions that are in suspects.csv are written to corrections.csv first. Then `taken_over` is the
    new path of suspects.csv; otherwise it is None.

    Parameters
    ----------
    run
        The run folder.
    reviewer
        Name of the person who decides, for corrections.csv.
    port
        The port, or 0 for any free one.

    Raises
    ------
    SourceError
        The folder has no page that this version can serve.
    OptionError
        The port cannot be used.
    """

    daemon_threads = True

    def __init__(self, run: str | Path, reviewer: str, port: int = 0) -> None:
        self.run = Path(run)
        self.reviewer = reviewer
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        found = read_run(run)
        self.taken_over = _take_over(found)
        remove_partial_files(self.run)
        # Rendered here and not read from the folder, where it might have been changed.
        index = read_block(self.run, INDEX)
        self.page = page_of(found, index, live=True).encode("utf-8", errors="replace")
        self.policy = _policy()
        self._index_stamp = stamp(self._index)
        try:
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
                f"{self.run} is damaged: its list of suspects cannot be read; scan again with"
                " `force=True`"
            ) from error
        self.corrections = CorrectionsFile(self.run / CORRECTIONS_FILE, given, found.suggestions)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise OptionError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); leave out `port` to use a"
                " free one"
            ) from error

    @property
    def address(self) -> str:
        """The address of the page, with its token."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def refuse_if_stale(self) -> None:
        """Raise OptionError if another run has replaced this one since the server started."""
        if stamp(self._index) != self._index_stamp:
            raise OptionError("another run has replaced this one; start the review again")

    @property
    def _index(self) -> Path:
        return self.run / DATA_FOLDER / f"{INDEX}.js"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing if a browser closes its connection before the answer is complete."""


def _take_over(run: Run) -> Path | None:
    """Write decisions that somebody has made in suspects.csv to corrections.csv.

    Two files with decisions would contradict each other, so suspects.csv is kept under another name.
    Return its new path, or None if it holds no decisions. Raises OutputError if that is not possible.
    """
    file = file_of_decisions(run.path)
    if file is None or file.name == CORRECTIONS_FILE:
        return None
    given = dict(zip(run.samples["sample_id"], run.samples["given_label"].fillna(""), strict=True))
    decided = run.corrections
    write_corrections(
        decided.assign(**{GIVEN_LABEL: [given.get(name, "") for name in decided["sample_id"]]}),
        run.path / CORRECTIONS_FILE,
    )
    try:
        return move_aside(file)
    except OSError as error:
        raise cannot_write(file, error) from error


def _policy() -> str:
    script, style = source_hash(page_script()), source_hash(page_style())
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
    timeout = 60  # seconds after which a silent connection is closed

    def do_GET(self) -> None:
        """Send the page, a block of its data, an image, or the decisions made so far."""
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
                raise OptionError("decisions must be a list of objects")
            saved, refused = self.server.corrections.update(
                changes, self.server.reviewer, self.server.refuse_if_stale
            )
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
        """Return the requested path below the token; None if the request must be refused."""
        port = self.server.server_port
        # Any other name may have been pointed at this machine by an attacker (DNS rebinding).
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
        """Send the original image file of a listed suspect, if it is a regular file."""
        path = self.server.images.get(rank)
        try:
            if path is None:
                raise FileNotFoundError
            # Without O_NONBLOCK, opening a pipe would wait for a writer.
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
        """Answer with a status and nothing else, without reading the body of the request."""
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: every line would show the address with its token."""

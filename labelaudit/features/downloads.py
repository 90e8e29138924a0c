"""What is said before weights are downloaded, and a quick answer where there is no network.

The libraries that download wait up to a minute for a network that is not there. Here the server of a
file is asked for its size first, for a few seconds at most.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from threading import Thread
from urllib.parse import urlsplit

# Seconds after which a server counts as out of reach.
PATIENCE = 5.0


@dataclass(frozen=True)
class Download:
    """A file of weights that a library can download.

    Attributes
    ----------
    url : str
        Address of the file.
    license : str
        License of the weights, as their library states it.
    """

    url: str
    license: str

    @property
    def host(self) -> str:
        """Name of the server."""
        return urlsplit(self.url).netloc


def ask_size(url: str, patience: float = PATIENCE) -> int | None:
    """Ask a server for the size of a file, in bytes. None if it answers but does not say.

    Raises OSError if the server cannot be reached within `patience` seconds.
    """
    answers: list[int | OSError | None] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=patience) as answer:
                headers = answer.headers
                size = headers.get("X-Linked-Size") or headers.get("Content-Length")
                answers.append(int(size) if size and size.isdecimal() else None)
        except urllib.error.HTTPError:
            answers.append(None)  # it is there, and may answer to another question
        except (OSError, HTTPException) as error:
            answers.append(error if isinstance(error, OSError) else OSError(str(error)))

    # The search for a server's address has no time limit of its own.
    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    answer = answers[0] if answers else TimeoutError(f"no answer within {patience:g} seconds")
    if isinstance(answer, OSError):
        raise answer
    return answer


def describe(name: str, download: Download, size: int | None) -> str:
    """Return what is said before a download."""
    much = "" if size is None else f"{size / 1e6:.0f} MB, "
    return (
        f"Downloading the weights of {name} from {download.host} ({much}license: {download.license})."
        " They are kept for the next time. `offline` forbids downloads."
    )

"""Pictures from other hosts, only from those that the server's owner has named. Follows no redirection."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from got_train.errors import RequestError

from .chat import KINDS
from .uploads import KINDS as SUFFIXES

SECONDS = 20  # for a whole picture
PIECE = 1 << 16


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None  # an error then


def fetch(url: str, hosts: Sequence[str], most_bytes: int) -> tuple[str, bytes]:
    """Name and bytes of a picture."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.lower()
    except ValueError as error:
        raise RequestError(f"image_url: {url[:80]!r} is no address ({error})") from error
    if parts.scheme not in ("http", "https") or host not in {name.lower() for name in hosts}:
        raise RequestError(
            f"image_url: {parts.scheme}://{host[:80]} is not a host that pictures are fetched from; send a "
            "data URL, or start the server with --allow-image-host"
        )
    end, data = time.monotonic() + SECONDS, b""
    opener = urllib.request.build_opener(_NoRedirection)
    try:
        with opener.open(urllib.request.Request(url), timeout=SECONDS) as answer:
            kind = answer.headers.get_content_type()
            while piece := answer.read1(PIECE):
                data += piece
                if len(data) > most_bytes:
                    raise RequestError(f"image_url: over {most_bytes / 2**20:g} MB; use a smaller file")
                if time.monotonic() > end:
                    raise TimeoutError(f"over {SECONDS} seconds")
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"image_url: {host} gave no picture ({error}); send a data URL") from error
    name = unquote(PurePosixPath(parts.path).name) or "picture"
    return name if name.lower().endswith(SUFFIXES) else name + KINDS.get(kind, ""), data

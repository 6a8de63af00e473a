"""Bodies of requests: read up to a limit, and the JSON in them. Knows the web, not what is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from got_train.errors import RequestError
from got_train.strict_files import strict_json

BODY_SECONDS = 60  # for a body to arrive


async def limited(request: Request, most: int, error: ValueError) -> AsyncIterator[bytes]:
    """The pieces of a body; `error` if it is longer than `most` bytes, whatever its head says."""
    size = request.headers.get("content-length", "0")
    seen = int(size) if size.isdecimal() and len(size) < 19 else most + 1
    if seen > most:
        raise error
    seen, end = 0, asyncio.get_running_loop().time() + BODY_SECONDS
    pieces = request.stream()
    while True:
        left = end - asyncio.get_running_loop().time()
        try:
            piece = await asyncio.wait_for(anext(pieces), max(left, 0))
        except StopAsyncIteration:
            return
        except (TimeoutError, asyncio.TimeoutError) as slow:
            raise RequestError(f"request: its body took over {BODY_SECONDS} seconds; send it again") from slow
        seen += len(piece)
        if seen > most:
            raise error
        yield piece


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def json_object(request: Request, most: int) -> dict[str, Any]:
    """The object of JSON in a request's body."""
    return parse_object(await json_body(request, most))


async def json_body(request: Request, most: int) -> bytes:
    """A body that says it is JSON."""
    if content_type(request) != "application/json":
        raise RequestError("content-type: not application/json")
    too_long = RequestError(f"request: over {most:,} bytes")
    return b"".join([piece async for piece in limited(request, most, too_long)])


def parse_json(text: bytes | str) -> Any:
    """The value of a JSON text. Raises ValueError, also for half a character, which no answer can repeat."""
    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    value = strict_json(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def parse_object(body: bytes | str) -> dict[str, Any]:
    try:
        value = parse_json(body)
    except (ValueError, RecursionError) as error:  # of numbers of over 4,300 digits too
        raise RequestError(f"request: no JSON ({error})") from error
    if not isinstance(value, dict):
        raise RequestError("request: no object of JSON")
    return value

"""Who may ask: only a page of this server, under a name that is its own. Knows headers, not what is asked.

Any site that is open in the same browser can send requests to a port of this machine, and can point its own
name at it (DNS rebinding); the headers `Host`, `Origin` and `Sec-Fetch-Site` tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# Styles in place: answers that are shown in a frame bring theirs. Nothing in the page is made from markup.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SHORT_BODY = 1 << 16  # bytes; a longer body of a refused request is not waited for
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/]+)(?::\d{1,5})?")


class Guard:
    """Refuses what comes under another name or from another page, and adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None = (), page: bool = True) -> None:
        """`hosts` are further names of this server, None: any. Without a `page`, programs ask, which tell no
        origin; what a browser sends for another site is refused all the same."""
        self.app, self.page = app, page
        self.hosts = None if hosts is None else frozenset(host.lower() for host in (*LOOPBACK, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close"})
            return

        headers, unread = Headers(scope=scope), True

        async def receive_and_note() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
                if unread and _has_long_body(headers):  # which the server would read to its end
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        reason = self.refusal(scope["method"], scope["path"], headers, scope.get("scheme", "http"))
        answer = self.app if reason is None else JSONResponse({"error": reason}, 403)
        await answer(scope, receive_and_note, send_with_headers)

    def refusal(self, method: str, path: str, headers: Headers, scheme: str = "http") -> str | None:
        """Why a request is refused; None if it is not."""
        hosts = headers.getlist("host")
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        known = self.hosts is None or (match is not None and match[1].lower() in self.hosts)
        if match is None or not known:
            return (
                f"host: {', '.join(hosts)!r} is no name of this page; start it with --allow-host to add one"
            )
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and not (
            method == "GET" and path == "/"
        ):  # a link may lead here
            return f"sec-fetch-site: {site}; only this page's own requests are answered"
        origin = headers.get("origin")
        if origin is None and (method in ("GET", "HEAD") or not self.page):
            return None
        schemes = [scheme] if match[1].lower() in LOOPBACK else [scheme, "https"]  # of a proxy in front
        if origin is None or origin.lower() not in [f"{scheme}://{hosts[0].lower()}" for scheme in schemes]:
            return f"origin: {origin!r}; only this page's own requests are answered"
        return None


def _has_long_body(headers: Headers) -> bool:
    size = headers.get("content-length", "0")
    return "transfer-encoding" in headers or not size.isdecimal() or len(size) > 9 or int(size) > SHORT_BODY

"""A port of this machine and the web server behind it. Knows no routes."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from got_train.errors import UsageError

HEAD_SECONDS = 20  # for a request's first line and headers to arrive


class PatientProtocol(AutoHTTPProtocol):
    """uvicorn waits for the rest of a request for ever; here a connection without a whole head is closed."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(error)

    def _wait(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:  # a request is being answered
            self._stop_waiting()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _close(self) -> None:
        self._timer = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


def open_port(host: str, port: int) -> socket.socket:
    """Taken before minutes are spent on loading."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        raise UsageError(f"--port: {host}:{port} cannot be opened ({error}); use another") from error
    return listener


def address(host: str, listener: socket.socket) -> str:
    return f"http://{in_address(host)}:{listener.getsockname()[1]}/"


def in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def serve(app: ASGIApp, listener: socket.socket, connections: int, shutdown_seconds: int) -> None:
    """Until the process is told to end; requests under way then have so many seconds."""
    uvicorn.Server(uvicorn_config(app, connections, shutdown_seconds)).run(sockets=[listener])


def uvicorn_config(app: ASGIApp, connections: int, shutdown_seconds: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=connections,
        timeout_graceful_shutdown=shutdown_seconds,
    )

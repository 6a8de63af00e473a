"""A port of this machine and the web server behind it. Knows no routes."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp

from got_train.errors import UsageError


def open_port(host: str, port: int) -> socket.socket:
    """Taken before minutes are spent on loading."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.socket(family)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
    except (OSError, OverflowError) as error:
        raise UsageError(f"--port: {host}:{port} cannot be opened ({error}); use another") from error
    return opened


def address(host: str, opened: socket.socket) -> str:
    return f"http://{in_address(host)}:{opened.getsockname()[1]}/"


def in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def serve(app: ASGIApp, opened: socket.socket, connections: int, shutdown_seconds: int) -> None:
    """Until the process is told to end; requests under way then have so many seconds."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=connections,
        timeout_graceful_shutdown=shutdown_seconds,
    )
    uvicorn.Server(config).run(sockets=[opened])

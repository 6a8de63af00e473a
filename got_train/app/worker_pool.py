"""Work off the event loop, and the end of a server that reads. Knows no routes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette

from got_train.inference.scheduler import Scheduler


class WorkerPool:
    """Two threads for pictures, files and JSON; at the server's end they close with the scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._threads = ThreadPoolExecutor(2, "workers")

    async def run(self, work: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(self._scheduler.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

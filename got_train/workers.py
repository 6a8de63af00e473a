"""Worker processes: they end with the one that started them, and share work in order. Needs no paddle."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

Result = TypeVar("Result")
MAX_CHUNK = 16  # items handed to a process at once
GRACE_SECONDS = 2  # for a worker whose work is over to end by itself


def exit_with_parent(parent: int, is_over: Callable[[], object] = lambda: False) -> None:
    """To be called in a worker: Ctrl-C, which reaches the whole group, is for the parent to answer.

    A parent that is killed takes the worker along; by itself it would wait for work for ever. So does one
    whose work `is_over`, after some seconds in which the worker may end by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent, is_over), daemon=True).start()


def _leave_with(parent: int, is_over: Callable[[], object]) -> None:
    while os.getppid() == parent:
        if is_over():
            time.sleep(GRACE_SECONDS)
            os._exit(0)
        time.sleep(1)
    os._exit(1)


def in_processes(
    function: Callable[..., Result], items: Sequence[tuple[Any, ...]], processes: int = 1
) -> Iterator[Result]:
    """The results of a module's function for each item's arguments, in order and as they are ready."""
    if processes == 1 or len(items) < 2:
        yield from (function(*item) for item in items)
        return
    chunk = max(1, min(MAX_CHUNK, len(items) // processes))
    # spawned, because a fork of a process with threads may never wake up
    with ProcessPoolExecutor(processes, get_context("spawn"), exit_with_parent, (os.getpid(),)) as pool:
        yield from pool.map(function, *zip(*items, strict=True), chunksize=chunk)

"""Much work of one sort in several processes, its results in order and as they are ready.

Knows no metric.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from got_train.workers import serve

Result = TypeVar("Result")
_TOGETHER = 16  # items handed to a process at once, at most


def in_processes(
    function: Callable[..., Result], items: Sequence[tuple[Any, ...]], processes: int = 1
) -> Iterator[Result]:
    """What the function, one of a module, makes of each item's arguments."""
    if processes == 1 or len(items) < 2:
        yield from (function(*item) for item in items)
        return
    together = max(1, min(_TOGETHER, len(items) // processes))
    # spawned, for a fork of a process with threads may never wake
    with ProcessPoolExecutor(processes, get_context("spawn"), serve, (os.getpid(),)) as pool:
        yield from pool.map(function, *zip(*items, strict=True), chunksize=together)

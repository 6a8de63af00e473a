"""What a worker process owes the one that started it; needs no paddle."""

from __future__ import annotations

import os
import signal
import threading
import time


def serve(parent: int) -> None:
    """To be called in a worker: Ctrl-C, which reaches the whole group, is for the parent to answer.

    A parent that is killed takes the worker along; by itself it would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)

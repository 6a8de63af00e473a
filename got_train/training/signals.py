"""Signals that ask a run to end: the first after the step under way and its checkpoint, the second at once.

Knows no Paddle, so that train.py can listen before it loads any.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

ECHO_SECONDS = 2.0  # seconds in which paddle.distributed.launch repeats SIGTERM, and passes Ctrl-C on as one


class Interrupted(KeyboardInterrupt):
    """A run that a signal has ended, in order or at once."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class SignalHandler:
    """Listens to Ctrl-C and to SIGTERM, which batch systems and containers send before SIGKILL."""

    def __init__(self, echo: float | None = None) -> None:
        launched = "PADDLE_TRAINER_ID" in os.environ
        self.echo = (ECHO_SECONDS if launched else 0.0) if echo is None else echo
        self.number = 0  # of the signal that came first
        self._came = 0.0
        self._graceful = False

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.on_signal)

    def on_signal(self, number: int, frame: object) -> None:
        if not self._graceful or (self.number and time.monotonic() - self._came >= self.echo):
            raise Interrupted(self.number or number)
        if not self.number:
            self.number, self._came = number, time.monotonic()
            # not print, in the midst of which the signal may have come
            os.write(2, b"train: ends after this step with a checkpoint; the same again ends at once\n")

    @contextmanager
    def graceful(self) -> Iterator[None]:
        """In here somebody looks at `number` after every step."""
        self.listen()  # again: Paddle, imported since, has put its own handler of SIGTERM there
        self._graceful = True
        try:
            yield
        finally:
            self._graceful = False

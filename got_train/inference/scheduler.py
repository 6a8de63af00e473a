"""The queue of requests and the one thread that all models run in: who joins a batch, who waits, who leaves.

Knows pipelines and readings; knows no tensors and no web.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from got_train.errors import RequestError

from .batch import OcrBatch, Reading
from .reader import OcrPipeline

# Hears in the model's thread: of a job that begins, grows, and ends with its result or its error.
Listener = Callable[["Job"], None]


class BusyError(RequestError):
    """More is asked for than will be read soon."""


class ClosingError(RequestError):
    """The server is about to end."""


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    batch_size: int = 8  # requests of a model that are decoded together
    max_waiting: int = 64  # requests that are let in and not decoded yet; more are refused
    wait_seconds: float = 0.005  # that an idle model waits for others to share the first pass
    timeout_seconds: float = 600.0  # of a request, from its arrival to its last token
    max_views: int = 16  # that are encoded at once while others wait for their next token


@dataclass(eq=False)
class Job:
    """A reading in the queue or in a batch. `error` says why it ended without a result."""

    model: str
    reading: Reading
    listener: Listener
    arrived: float  # seconds of time.monotonic, as the next
    begun: float | None = None
    first_token: float | None = None
    ended: float | None = None
    error: Exception | None = None
    cancelled: bool = False

    @property
    def is_done(self) -> bool:
        return self.error is not None or self.ended is not None


class Scheduler:
    """Requests join the batch of their model between two tokens; models take turns, a token each."""

    def __init__(
        self,
        load: Callable[[str], OcrPipeline],
        models: Sequence[str],
        config: SchedulerConfig | None = None,
        open_batch: Callable[[OcrPipeline], OcrBatch] = OcrBatch,
    ) -> None:
        """Loads the models in that thread, for Paddle keeps state by thread."""
        self.config = config or SchedulerConfig()
        self.pipelines: dict[str, OcrPipeline] = {}
        self.tokens = self.steps = 0  # of all answers; of all batches
        self._open_batch = open_batch
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: dict[str, list[Job]] = {name: [] for name in models}
        self._reserved = 0
        self._closing = False
        loaded: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(load, loaded), name="model", daemon=True)
        self._thread.start()
        loaded.result()

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self._running)

    @property
    def is_open(self) -> bool:
        return not self._closing and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        return len(self._waiting) + self._reserved

    @property
    def running(self) -> int:
        return sum(map(len, self._running.values()))

    def reserve(self) -> Reservation:
        """Room for one request before its body is read; refused if the queue is full."""
        with self._changed:
            self._check_open()
            if self.waiting >= self.config.max_waiting:
                raise BusyError(f"{self.waiting} requests are waiting; try again later")
            self._reserved += 1
        return Reservation(self)

    def close(self, seconds: float = 0.0) -> None:
        """Take no more requests; what has not ended after so many seconds is given up."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        deadline = time.monotonic() + seconds
        while self.running or self._waiting:
            if time.monotonic() >= deadline:
                break
            time.sleep(0.01)
        with self._changed:
            for job in (*self._waiting, *(job for jobs in self._running.values() for job in jobs)):
                job.cancelled = True
            self._changed.notify_all()
        self._thread.join(60)

    def cancel(self, job: Job) -> None:
        """Whoever asked has gone: it leaves the queue, or its batch after the token that is computed."""
        with self._changed:
            job.cancelled = True
            self._changed.notify_all()

    def _check_open(self) -> None:
        if not self.is_open:
            raise ClosingError("the server is shutting down; try another one")

    def _submit(self, model: str, reading: Reading, listener: Listener) -> Job:
        with self._changed:
            self._check_open()
            job = Job(model, reading, listener, time.monotonic())
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def _release(self) -> None:
        with self._changed:
            self._reserved -= 1

    # ---- in the model's thread

    def _run(self, load: Callable[[str], OcrPipeline], loaded: Future[None]) -> None:
        try:
            for name in self._running:
                self.pipelines[name] = load(name)
            batches = {name: self._open_batch(pipeline) for name, pipeline in self.pipelines.items()}
        except BaseException as error:
            loaded.set_exception(error)
            return
        loaded.set_result(None)
        while self._wait_for_work():
            self._remove_ended(batches)
            for name in batches:
                if not self._step(name, batches[name]):
                    batches[name] = self._open_batch(self.pipelines[name])
            self._remove_ended(batches)

    def _wait_for_work(self) -> bool:
        """Until there is work; False once there will be none. An idle model waits a little for company."""
        with self._changed:
            while not (self._waiting or self.running):
                if self._closing:
                    return False
                self._changed.wait()
            if not self.running:
                enough = self.config.batch_size
                self._changed.wait_for(lambda: len(self._waiting) >= enough, self.config.wait_seconds)
        return True

    def _admit(self, model: str) -> list[Job]:
        """The jobs that join now: the oldest first, while the batch and one encoder pass have room."""
        running, views, joining = self._running[model], 0, []
        with self._changed:
            for job in [job for job in self._waiting if job.model == model]:
                views += len(job.reading.prompt.views)
                full = len(running) + len(joining) >= self.config.batch_size
                if full or (joining and views > self.config.max_views):
                    break
                self._waiting.remove(job)
                joining.append(job)
            running += joining
        for job in joining:
            job.begun = time.monotonic()
            self._notify(job)
        return joining

    def _step(self, model: str, batch: OcrBatch) -> bool:
        """Let the next jobs join and decode a token of each; False if the batch is of no use any more.

        A fault in joining ends the jobs that joined, one in decoding all of the batch, and nothing else.
        """
        if joining := self._admit(model):
            try:
                batch.join([job.reading for job in joining])
            except Exception as error:
                batch.leave([job.reading for job in joining])
                self._fail(joining, error)
        jobs = [job for job in self._running[model] if not job.is_done]
        if not jobs:
            return True
        by_reading = {id(job.reading): job for job in jobs}
        try:
            self.tokens, self.steps = self.tokens + len(batch), self.steps + 1
            changed, now = batch.step(), time.monotonic()
            for job in jobs:
                job.first_token = job.first_token or now
            for reading in changed:
                by_reading[id(reading)].ended = now if reading.result else None
                self._notify(by_reading[id(reading)])
        except Exception as error:
            self._fail(jobs, error)
            return False
        return True

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        traceback.print_exception(error)
        for job in jobs:
            if not job.is_done:
                job.error = error
                self._notify(job)

    def _remove_ended(self, batches: dict[str, OcrBatch]) -> None:
        """Take out who has gone, whose time is over, and, from batches, who has ended."""
        now, changed, leaving = time.monotonic(), [], {}
        with self._changed:
            for job in (*self._waiting, *(job for jobs in self._running.values() for job in jobs)):
                late = now - job.arrived > self.config.timeout_seconds
                if not job.is_done and (job.cancelled or late):
                    job.error = self._reason(job)
                    changed.append(job)
            self._waiting = deque(job for job in self._waiting if not job.is_done)
            for name, running in self._running.items():
                leaving[name] = [job.reading for job in running if job.error is not None]
                self._running[name] = [job for job in running if not job.is_done]
        for name, readings in leaving.items():  # without the lock, for it may take a while
            try:
                if readings:
                    batches[name].leave(readings)
            except Exception as error:
                self._fail(self._running[name], error)
                batches[name] = self._open_batch(self.pipelines[name])
        for job in changed:
            self._notify(job)

    def _reason(self, job: Job) -> Exception:
        if not job.cancelled:
            return TimeoutError()
        return ClosingError("the server is shutting down") if self._closing else CancelledError()

    def _notify(self, job: Job) -> None:
        job.listener(job)


class CancelledError(Exception):
    """Whoever asked has gone."""


class Reservation:
    """Room in the queue for a request that is still arriving; to be used as a context."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self._held = scheduler, True

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._held = False
            self.scheduler._release()

    def submit(self, model: str, reading: Reading, listener: Listener) -> Job:
        """Put it into the queue; it takes the room that was kept."""
        job = self.scheduler._submit(model, reading, listener)
        self.__exit__()
        return job

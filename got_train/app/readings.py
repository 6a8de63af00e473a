"""A reading as web requests follow it, and what the page shows of an answer. Knows no routes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from got_train.errors import GotError
from got_train.formats import spots as spotting
from got_train.inference.output import ENDED
from got_train.inference.scheduler import Job, Reservation
from got_train.tokenizer import LINE_BREAK

if TYPE_CHECKING:
    from got_train.inference.batch import Reading
    from got_train.inference.reader import OcrPipeline, OcrResult

Event = dict[str, Any]


class PendingReading:
    """A reading in the queue and the request that waits for it.

    Only the state of the reading is given out, so a slow listener misses steps and nothing piles up.
    """

    def __init__(self, reservation: Reservation, model: str, reading: Reading) -> None:
        self._scheduler, self._changed = reservation.scheduler, asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._job = reservation.submit(model, reading, self._hear)

    def _hear(self, _: Job) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the reading
            self._loop.call_soon_threadsafe(self._changed.set)

    async def changes(self) -> AsyncIterator[tuple[Job, bool]]:
        """The job, whenever it has changed, and whether it is over, which comes last."""
        done = False
        while not done:
            await self._changed.wait()
            self._changed.clear()
            done = self._job.is_done
            yield self._job, done

    async def result(self) -> Job:
        """The job once it is over."""
        while not self._job.is_done:
            await self._changed.wait()
            self._changed.clear()
        return self._job

    def cancel(self) -> None:
        """Nobody waits any more; of no effect once it is over."""
        self._scheduler.cancel(self._job)


class ReadingStream(StreamingResponse):
    """Text that is made of a reading while it grows; the reading ends with the connection."""

    def __init__(self, pending: PendingReading, text: AsyncIterator[str], media_type: str) -> None:
        super().__init__(text, media_type=media_type)
        self.pending = pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.pending.cancel()


async def page_events(pending: PendingReading, pipeline: OcrPipeline) -> AsyncIterator[Event]:
    """{"begun"}, {"text"} as it grows, then {"answer"} or {"error"}."""
    begun, sent = False, 0
    async for job, done in pending.changes():
        if job.begun is not None and not begun:
            begun = True
            yield {"begun": True}
        text = job.reading.text
        if len(text) > sent:
            yield {"text": text[sent:]}
            sent = len(text)
        if done and job.error is not None:
            yield {"error": f"{job.reading.prompt.request}: {message(job.error)}"}
        elif done:
            yield {"answer": plain(job.reading.result, pipeline)}


def message(error: Exception) -> str:
    """Why a reading has no result, in words that may leave this machine."""
    if isinstance(error, TimeoutError):
        return "not finished within the time limit; ask for fewer tokens, or start with a larger --timeout"
    return str(error) if isinstance(error, GotError) else f"{type(error).__name__}: see the server's log"


def plain(answer: OcrResult, reader: OcrPipeline) -> Event:
    """What the page shows of an answer. Boxes are in thousandths of the image."""
    event: Event = {
        "text": answer.text,
        "task": answer.request.task,
        "words": words(answer, reader),
        "calibrated": reader.calibration is not None,
        "tokens": len(answer.ids),
        "seconds": round(answer.seconds, 2),
        "confidence": round(answer.confidence, 4),
        "ended": ENDED[answer.finished].removeprefix("; "),
        "boxes": [],
        "faults": [],
    }
    if answer.request.task == "spot":
        spots, faults = spotting.parse(answer.text)
        event["boxes"] = [{"text": spot.text, "box": spot.box} for spot in spots]
        event["faults"] = [str(fault) for fault in faults]
    return event


def words(answer: OcrResult, reader: OcrPipeline) -> list[tuple[str, float | None]]:
    """The text in pieces: words with their confidence, and what stands between them with none."""
    text = "".join(piece for piece, _ in reader.token_texts(answer)).strip()
    pieces, end = [], 0
    for word in reader.spans(answer, "word"):
        between = text[end : word.start]
        pieces += [(between, None)] * bool(between) + [(word.text, round(word.confidence, 4))]
        end = word.start + len(word.text)
    pieces += [(text[end:], None)] * (end < len(text))
    if text != answer.text:  # OPT writes line ends so
        pieces = [(piece.replace(LINE_BREAK, "\n"), sure) for piece, sure in pieces]
    return pieces if "".join(piece for piece, _ in pieces) == answer.text else [(answer.text, None)]

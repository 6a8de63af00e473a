"""Answers as a page hears them while they grow: events of one reading, all readings in one thread.

Knows readers and questions; no web.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from got_train.errors import RequestError
from got_train.formats import spots as spotting
from got_train.inference.output import ENDED
from got_train.tokenizer import LINE_BREAK

if TYPE_CHECKING:
    from got_train.inference.reader import OcrPipeline, OcrRequest, OcrResult

Event = dict[str, Any]
MOST_WAITING = 8  # readings in the queue; more are refused, so that nobody waits without end


class BusyError(RequestError):
    """More is asked for than will be read soon."""


class _StopReading(Exception):  # noqa: N818 - nothing went wrong
    """Whoever asked has gone."""


class Readings:
    """The models, and the one thread that they run in: one page at a time."""

    def __init__(self, load: Callable[[str], OcrPipeline], folders: list[str]) -> None:
        """Loads the checkpoints in that thread, for Paddle keeps state by thread."""
        self._thread = ThreadPoolExecutor(1, "model")
        self._lock = threading.Lock()
        self._waiting = 0
        self._closed = threading.Event()
        try:
            self._readers: Mapping[str, OcrPipeline] = {
                folder: self._thread.submit(load, folder).result() for folder in folders
            }
        except BaseException:
            self._thread.shutdown(wait=False, cancel_futures=True)
            raise
        self.models = tuple(self._readers)

    def start(
        self, model: str, question: OcrRequest, tell: Callable[[Event | None], None], gone: threading.Event
    ) -> Future:
        """Puts a question into the queue; `tell` hears every event of it, then None. `gone` ends it."""
        with self._lock:
            if self._waiting >= MOST_WAITING:
                raise BusyError(f"{self._waiting} pages are waiting to be read; try again later")
            self._waiting += 1
        future = self._thread.submit(self._read, self._readers[model], question, tell, gone)
        future.add_done_callback(lambda _: self._ended())  # of one that is cancelled too
        return future

    def close(self) -> None:
        """Ends what is being read at its next token."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ended(self) -> None:
        with self._lock:
            self._waiting -= 1

    def _read(
        self,
        reader: OcrPipeline,
        question: OcrRequest,
        tell: Callable[[Event | None], None],
        gone: threading.Event,
    ) -> None:
        from got_train.inference.reader import FailedRequest

        def hear(_: OcrRequest, text: str) -> None:
            if gone.is_set() or self._closed.is_set():
                raise _StopReading
            tell({"text": text})

        try:
            tell({"begun": True})
            result = next(reader.read([question], on_text=hear))
            tell(
                {"error": result.cause}
                if isinstance(result, FailedRequest)
                else {"answer": plain(result, reader)}
            )
        except _StopReading:
            pass
        except Exception as error:  # the page shall hear of it, and the thread go on
            tell({"error": f"{question}: {type(error).__name__}: {error}"})
            traceback.print_exc()
        finally:
            tell(None)


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

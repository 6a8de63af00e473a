"""Requests that one pipeline reads together: they join and leave while it decodes, and are told their text.

Knows tokens and texts; knows no thread, no queue and no web.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .reader import Decoding, OcrPipeline, OcrResult, Prompt, TextStreamer

if TYPE_CHECKING:
    from got_train.generation.hypothesis import Hypothesis


@dataclass(eq=False, kw_only=True)
class Reading:
    """One request while it is read. `text` is what is certain so far; `result` comes last."""

    prompt: Prompt
    decoding: Decoding = field(default_factory=Decoding)
    streamed: bool = False  # somebody looks on, so `text` only grows and a loop is not read again
    text: str = ""
    result: OcrResult | None = None


class OcrBatch:
    """The readings that are under way."""

    def __init__(self, pipeline: OcrPipeline) -> None:
        from got_train.generation.running_batch import RunningBatch

        pipeline.model.eval()
        self.pipeline = pipeline
        self._batch = RunningBatch(pipeline.model)
        self._rows: dict[int, _Row] = {}  # by the id of the answer

    def __len__(self) -> int:
        return len(self._rows)

    def join(self, readings: Sequence[Reading]) -> None:
        """Encode the pages of these and decode them with the others from now on."""
        self._join([_Row(reading, self.pipeline) for reading in readings])

    def step(self) -> list[Reading]:
        """One more token of each; returns the readings whose text grew or that ended."""
        changed, looped = [], []
        for answer, token in self._batch.step():
            row = self._rows[id(answer)]
            grown = row.add(token)
            if row.stopped and not answer.finish_reason:
                self._batch.leave([answer])
            if row.stopped or answer.finish_reason:
                del self._rows[id(answer)]
                if answer.finish_reason == "loop" and row.may_retry:
                    looped.append(row.again())
                    continue
                row.finish()
            if grown or row.reading.result:
                changed.append(row.reading)
        if looped:
            self._join(looped)
        return changed

    def leave(self, readings: Collection[Reading]) -> None:
        """Give up these, wherever they are."""
        leaving = set(map(id, readings))
        rows = [row for row in self._rows.values() if id(row.reading) in leaving]
        self._batch.leave([row.answer for row in rows])
        for row in rows:
            del self._rows[id(row.answer)]

    def _join(self, rows: Sequence[_Row]) -> None:
        tensors = self.pipeline.tensors([row.reading.prompt for row in rows])
        self._batch.join([row.answer for row in rows], *tensors)
        self._rows |= {id(row.answer): row for row in rows}


class _Row:
    """A reading with its growing answer; `looped` is the answer that is read again under a stronger rule."""

    def __init__(self, reading: Reading, pipeline: OcrPipeline, looped: Hypothesis | None = None) -> None:
        self.reading, self.pipeline, self.looped = reading, pipeline, looped
        self.answer = pipeline.hypothesis(reading.prompt, reading.decoding, retry=looped is not None)
        self.streamer = TextStreamer(pipeline.tokenizer, reading.decoding.stop)
        self.started = time.perf_counter()

    @property
    def stopped(self) -> bool:
        """Whether one of the texts that end it has come."""
        return self.streamer.stopped

    @property
    def may_retry(self) -> bool:
        return self.pipeline.retry_loops and not self.reading.streamed and self.looped is None

    def again(self) -> _Row:
        row = _Row(self.reading, self.pipeline, self.answer)
        row.started = self.started
        return row

    def add(self, token: int) -> bool:
        """Whether the reading's text grew."""
        if not (self.reading.streamed or self.reading.decoding.stop):
            return False
        new = self.streamer.add(token)
        self.reading.text += new
        return bool(new)

    def finish(self) -> None:
        answer, reason = self.answer, self.answer.finish_reason
        if self.looped is not None:
            answer, reason = (answer, "retried") if reason == "stop" else (self.looped, "loop")
        text = self.streamer.cut(self.pipeline.text_of(answer.ids))
        self.reading.text += self.streamer.flush(text)
        seconds = self.reading.prompt.seconds + time.perf_counter() - self.started
        self.reading.result = OcrResult(
            self.reading.prompt.request, text, answer.ids, answer.log_probs, reason or "stop", seconds
        )

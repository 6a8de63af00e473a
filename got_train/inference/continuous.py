"""Many requests through one running batch: where an answer ends, the next request joins; results in order.

Knows requests and results; knows no tensors, no files and no server, whose queue is in scheduler.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from .batch import OcrBatch, Reading
from .reader import FailedRequest, OcrPipeline, OcrRequest, OcrResult, Prompt

# Batches of requests that are begun while an earlier one has not ended. What is read out of turn is lost if
# the job is killed; and rows stay empty while one answer takes longer than so many others.
AHEAD = 16
# The next requests join when this part of the rows is empty: a few prompts together take less time than one
# after the other. Each join also copies the cache of all rows.
EMPTY = 0.25


def read_requests(
    pipeline: OcrPipeline,
    requests: Iterable[OcrRequest],
    batch_size: int = 1,
    on_text: Callable[[OcrRequest, str], None] | None = None,
) -> Iterator[OcrResult | FailedRequest]:
    """Results in the order of the requests, several at a time in the way that suits them.

    Beams start and end together, so they keep the pipeline's own batches.
    """
    if batch_size > 1 and pipeline.num_beams == 1:
        return read_continuously(pipeline, requests, batch_size, on_text)
    return pipeline.read(requests, batch_size, on_text)


def read_continuously(
    pipeline: OcrPipeline,
    requests: Iterable[OcrRequest],
    batch_size: int,
    on_text: Callable[[OcrRequest, str], None] | None = None,
) -> Iterator[OcrResult | FailedRequest]:
    """Results in the order of the requests, of which `batch_size` are decoded together.

    A request that cannot be prepared is a result of its own and takes no row. Until the last result is taken
    the model has no dropout.
    """
    from got_train.generation.generate import eval_mode

    with eval_mode(pipeline.model):
        yield from _Pass(pipeline, iter(requests), batch_size, on_text).results()


@dataclass(eq=False)
class _Row:
    """A request that is being read; `clock` is that of the pass when it joined."""

    index: int
    reading: Reading
    seconds: float = 0.0  # that preparing and joining took
    clock: float = 0.0
    told: int = 0  # characters of its text


class _Pass:
    def __init__(
        self,
        pipeline: OcrPipeline,
        requests: Iterator[OcrRequest],
        batch_size: int,
        on_text: Callable[[OcrRequest, str], None] | None,
    ) -> None:
        self.pipeline, self.requests, self.batch_size, self.on_text = pipeline, requests, batch_size, on_text
        self.batch = OcrBatch(pipeline)
        self.rows: dict[int, _Row] = {}  # by the id of the reading
        self.ended: dict[int, OcrResult | FailedRequest] = {}  # by index, not given out yet
        self.begun = self.given = 0  # requests; results
        self.clock = 0.0  # seconds of every step over the rows that it had: what one row takes of the time

    def results(self) -> Iterator[OcrResult | FailedRequest]:
        more = True
        while more or self.rows or self.ended:
            if more and self.batch_size - len(self.rows) >= self.batch_size * EMPTY:
                more = self._fill()
            if self.rows:
                self._step()
            while self.given in self.ended:
                result = self.ended.pop(self.given)
                self.given += 1
                yield result

    def _fill(self) -> bool:
        """Have requests join while there is room for them; False when there are no more."""
        joining: list[_Row] = []
        more = True
        while (
            len(self.rows) + len(joining) < self.batch_size
            and self.begun - self.given < self.batch_size * AHEAD
        ):
            request = next(self.requests, None)
            if request is None:
                more = False
                break
            prompt = self.pipeline.prepare(request)
            if isinstance(prompt, Prompt):
                reading = Reading(prompt=prompt, streamed=self.on_text is not None)
                joining.append(_Row(self.begun, reading, prompt.seconds))
            else:
                self.ended[self.begun] = prompt
            self.begun += 1
        joining.sort(key=_views)
        for _, rows in groupby(joining, _views):  # prompts of like length, so that there is little padding
            self._join(list(rows))
        return more

    def _join(self, rows: Sequence[_Row]) -> None:
        started = time.perf_counter()
        self.batch.join([row.reading for row in rows])
        seconds = (time.perf_counter() - started) / len(rows)
        for row in rows:
            row.seconds, row.clock = row.seconds + seconds, self.clock
            self.rows[id(row.reading)] = row

    def _step(self) -> None:
        started = time.perf_counter()
        changed = self.batch.step()
        self.clock += (time.perf_counter() - started) / len(self.rows)
        for reading in changed:
            row = self.rows[id(reading)]
            if self.on_text is not None and len(reading.text) > row.told:
                self.on_text(reading.prompt.request, reading.text[row.told :])
                row.told = len(reading.text)
            if reading.result is not None:
                seconds = row.seconds + self.clock - row.clock
                self.ended[row.index] = replace(reading.result, seconds=seconds)
                del self.rows[id(reading)]


def _views(row: _Row) -> int:
    return len(row.reading.prompt.views)

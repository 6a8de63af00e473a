"""Which record is the i-th of a run: a pure function of (seed, i), so that resuming needs only the step.

Without weights every row of every source comes once an epoch, in an order drawn again for each. With weights
the sources share a run in blocks of BLOCK draws, and each goes through its own rows in such epochs. Of a
stream an epoch goes through the rows in windows, each in an order drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .records import ConcatDataset, Record, RecordStream
from .streams import WINDOW

BLOCK = 1000  # draws over which the shares of weighted sources come out exact, to one draw
_REPLAY, _SPREAD = 2**31, 2**31 + 1  # no number of a source: other random numbers than those of an order
_ALL = -1  # stands for a source in the seed of an order that goes over all of them


class Mixture:
    """`mixture[i]` is the record of draw i, for any i >= 0; `len` is one pass over all rows."""

    def __init__(
        self,
        sources: Sequence[Sequence[Record] | RecordStream],
        weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if not sources:
            raise ValueError("data.train: no sources; give a file of records")
        if weights is not None and len(weights) != len(sources):
            raise ValueError(
                f"data.train: {len(weights)} weights for {len(sources)} sources; expected one for each"
            )
        if weights is not None and len(weights) > BLOCK:
            raise ValueError(f"data.train: {len(weights)} weighted sources; expected at most {BLOCK}")
        streams = [isinstance(source, RecordStream) for source in sources]
        if weights is None and any(streams):
            raise ValueError(
                "data.train: a stream without a weight; its rows are not counted, weigh all sources"
            )
        self.sources = list(sources)
        self.seed = seed
        self._starts = None if any(streams) else np.cumsum([0, *self.rows])
        self._counts = None if weights is None else _draws_per_block(weights)
        # of each source, the epoch (of a stream with its window) last asked for
        self._orders: dict[int, tuple[tuple[int, ...], np.ndarray]] = {}

    def __len__(self) -> int:
        if self.total is None:
            raise TypeError("a mixture with a stream has no length; its rows are not counted")
        return self.total

    @property
    def total(self) -> int | None:
        """Rows of one pass over all sources; None with a stream."""
        return None if self._starts is None else int(self._starts[-1])

    def __getitem__(self, draw: int) -> Record:
        source, row = self.place(draw)
        return self.sources[source][row]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_orders": {}}  # drawn again by who needs them; 4 bytes a row otherwise

    @property
    def rows(self) -> list[int | str]:
        """Of every source; of a stream what stands for it."""
        return [source.size if isinstance(source, RecordStream) else len(source) for source in self.sources]

    def place(self, draw: int) -> tuple[int, int]:
        """(source, row) of a draw."""
        if draw < 0:
            raise IndexError(f"draw {draw}: draws are counted from 0")
        if self._counts is None:
            epoch, position = divmod(draw, len(self))
            row = int(self._order(_ALL, (epoch,), len(self))[position])
            source = int(np.searchsorted(self._starts, row, side="right")) - 1
            return source, row - int(self._starts[source])
        block, position = divmod(draw, BLOCK)
        order, ranks = _schedule_block(self.seed, block, self._counts)
        source = int(order[position])
        drawn = block * self._counts[source] + int(ranks[position])
        if isinstance(self.sources[source], RecordStream):
            return source, self._stream_row(source, drawn)
        epoch, position = divmod(drawn, len(self.sources[source]))
        return source, int(self._order(source, (epoch,), len(self.sources[source]))[position])

    def _stream_row(self, source: int, drawn: int) -> int:
        """The row of a stream's draw; reads up to its window, or to the end to know where an epoch ends."""
        stream = self.sources[source]
        if stream.rows is None and drawn % WINDOW < stream.window_rows(drawn // WINDOW):
            epoch, position = 0, drawn
        else:  # that was the end, or it has been seen before
            epoch, position = divmod(drawn, stream.rows)
        window, offset = divmod(position, WINDOW)
        order = self._order(source, (epoch, window), stream.window_rows(window))
        return window * WINDOW + int(order[offset])

    def _order(self, source: int, epoch: tuple[int, ...], rows: int) -> np.ndarray:
        """The rows of a source, or of a window of it, in the order of an epoch."""
        kept = self._orders.get(source)
        if kept is None or kept[0] != epoch:
            generator = np.random.default_rng([self.seed, source + 1, *epoch])
            # the order that permutation(rows) has, in half of its memory
            numbers = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
            kept = self._orders[source] = epoch, generator.permutation(numbers)
        return kept[1]


class Subset(Sequence):
    """Some rows of a sequence of records, in their order."""

    def __init__(self, records: Sequence[Record], rows: np.ndarray) -> None:
        self._records, self._rows = records, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        return self._records[int(self._rows[index])]


def replay_subset(records: Sequence[Record], share: float, seed: int, source: int) -> Subset:
    """The share of a former stage's data that comes again: the same rows whenever it is asked for."""
    generator = np.random.default_rng([seed, _REPLAY, source, len(records)])
    count = max(1, round(share * len(records)))
    return Subset(records, np.sort(generator.permutation(len(records))[:count]))


def subsample(sources: Sequence[Sequence[Record]], most: int, seed: int) -> Sequence[Record]:
    """At most `most` of all rows, evenly spaced; the seed says where the first stands."""
    records = sources[0] if len(sources) == 1 else ConcatDataset(sources)
    if len(records) <= most:
        return records
    first = np.random.default_rng([seed, _SPREAD]).random()
    return Subset(records, ((np.arange(most) + first) * (len(records) / most)).astype(np.int64))


def _draws_per_block(weights: Sequence[float]) -> tuple[int, ...]:
    """Draws of each source in a block, by the largest remainder; each has at least one."""
    exact = np.asarray(weights, float) / np.sum(weights) * BLOCK
    counts = np.maximum(np.floor(exact), 1).astype(int)
    for source in np.argsort(counts - exact, kind="stable")[: max(0, BLOCK - counts.sum())]:
        counts[source] += 1
    counts[np.argmax(counts)] -= counts.sum() - BLOCK
    return tuple(int(count) for count in counts)


@lru_cache(maxsize=8)
def _schedule_block(seed: int, block: int, counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The source of every draw of a block, and how many draws of that source came before it in the block."""
    order = np.random.default_rng([seed, 0, block, BLOCK]).permutation(
        np.repeat(np.arange(len(counts)), counts)
    )
    ranks = np.empty(BLOCK, int)
    for source, count in enumerate(counts):
        ranks[order == source] = np.arange(count)
    return order, ranks

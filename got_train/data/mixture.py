"""Which record is the i-th of a run: a pure function of (seed, i), so that resuming needs only the step.

Without weights every row of every source comes once an epoch, in an order drawn anew for each. With weights
the sources share a run in blocks of BLOCK draws, and each goes through its own rows in such epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .records import Record

BLOCK = 1000  # draws over which the shares of weighted sources come out exact, to one draw
_ALL = -1  # stands for a source in the seed of an order that goes over all of them


class Mixture:
    """`mixture[i]` is the record of draw i, for any i >= 0; `len` is one pass over all rows."""

    def __init__(
        self, sources: Sequence[Sequence[Record]], weights: Sequence[float] | None = None, seed: int = 0
    ) -> None:
        if not sources:
            raise ValueError("data.train: no sources; give a file of records")
        if weights is not None and len(weights) != len(sources):
            raise ValueError(f"data.train: {len(weights)} weights for {len(sources)} sources; one for each")
        if weights is not None and len(weights) > BLOCK:
            raise ValueError(f"data.train: {len(weights)} weighted sources; at most {BLOCK}")
        self.sources = list(sources)
        self.seed = seed
        self._starts = np.cumsum([0, *self.rows])
        self._counts = None if weights is None else _shares(weights)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}  # of each source, the epoch last asked for

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, draw: int) -> Record:
        source, row = self.place(draw)
        return self.sources[source][row]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_orders": {}}  # drawn again by who needs them; 8 bytes a row otherwise

    @property
    def rows(self) -> list[int]:
        """Of every source."""
        return [len(source) for source in self.sources]

    def place(self, draw: int) -> tuple[int, int]:
        """(source, row) of a draw."""
        if draw < 0:
            raise IndexError(f"draw {draw}: draws are counted from 0")
        if self._counts is None:
            epoch, position = divmod(draw, len(self))
            row = int(self._order(_ALL, epoch, len(self))[position])
            source = int(np.searchsorted(self._starts, row, side="right")) - 1
            return source, row - int(self._starts[source])
        block, position = divmod(draw, BLOCK)
        order, ranks = _block(self.seed, block, self._counts)
        source = int(order[position])
        drawn = block * self._counts[source] + int(ranks[position])
        epoch, position = divmod(drawn, len(self.sources[source]))
        return source, int(self._order(source, epoch, len(self.sources[source]))[position])

    def _order(self, source: int, epoch: int, rows: int) -> np.ndarray:
        """The rows of a source in the order of an epoch."""
        kept = self._orders.get(source)
        if kept is None or kept[0] != epoch:
            generator = np.random.default_rng([self.seed, source + 1, epoch])
            kept = self._orders[source] = epoch, generator.permutation(rows)
        return kept[1]


def _shares(weights: Sequence[float]) -> tuple[int, ...]:
    """Draws of each source in a block, by the largest remainder; each has at least one."""
    exact = np.asarray(weights, float) / np.sum(weights) * BLOCK
    counts = np.maximum(np.floor(exact), 1).astype(int)
    for source in np.argsort(counts - exact, kind="stable")[: max(0, BLOCK - counts.sum())]:
        counts[source] += 1
    counts[np.argmax(counts)] -= counts.sum() - BLOCK
    return tuple(int(count) for count in counts)


@lru_cache(maxsize=8)
def _block(seed: int, block: int, counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The source of every draw of a block, and how many draws of that source came before it in the block."""
    order = np.random.default_rng([seed, 0, block, BLOCK]).permutation(
        np.repeat(np.arange(len(counts)), counts)
    )
    ranks = np.empty(BLOCK, int)
    for source, count in enumerate(counts):
        ranks[order == source] = np.arange(count)
    return order, ranks

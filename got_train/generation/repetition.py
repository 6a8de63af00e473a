"""Answers that repeat themselves without end: what counts as such a loop, and where it began. Ids only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The tail that counts as endless: a unit of tokens, repeated without a gap.

    Real pages repeat too (empty cells, equal rows, rests), hence both a least number and a least length.
    """

    unit: int = 64  # tokens, at most
    times: int = 16  # at least
    tokens: int = 256  # that all the times cover, at least


class Tail:
    """For every length of a unit: how many of the last tokens equal the one that far before them."""

    def __init__(self, loop: Loop):
        self.units = np.arange(1, loop.unit + 1)
        self.needed = np.maximum(loop.times * self.units, loop.tokens) - self.units
        self.equal = np.zeros_like(self.units)

    def surplus(self, ids: list[int]) -> int:
        """Tokens behind the first unit of a loop; 0 when there is none. To be called for every token."""
        before = ids[-2 : -2 - len(self.units) : -1]
        self.equal[: len(before)] += 1
        self.equal[: len(before)] *= np.array(before, dtype=np.int64) == ids[-1]
        looping = np.flatnonzero(self.equal >= self.needed)
        return int(self.equal[looping[0]]) if len(looping) else 0

    def branch(self) -> Tail:
        """As it is now, to go on with other tokens."""
        other = object.__new__(Tail)
        other.units, other.needed, other.equal = self.units, self.needed, self.equal.copy()
        return other

"""Answers that repeat themselves without end: what counts as such a loop, and where it began. Ids only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class RepetitionRule:
    """The tail that counts as endless: a unit of tokens, repeated without a gap.

    Real pages repeat too (empty cells, equal rows, rests), hence both a least number and a least length.
    """

    max_unit: int = 64  # tokens
    min_repeats: int = 16
    min_tokens: int = 256  # that all repeats cover


class RepetitionDetector:
    """For every length of a unit: how many of the last tokens equal the one that far before them."""

    def __init__(self, rule: RepetitionRule):
        self.units = np.arange(1, rule.max_unit + 1)
        self.min_equal = np.maximum(rule.min_repeats * self.units, rule.min_tokens) - self.units
        self.equal = np.zeros_like(self.units)

    def excess_tokens(self, ids: list[int]) -> int:
        """Tokens after the first unit of a loop; 0 when there is none. To be called for every token."""
        before = ids[-2 : -2 - len(self.units) : -1]
        self.equal[: len(before)] += 1
        self.equal[: len(before)] *= np.array(before, dtype=np.int64) == ids[-1]
        looping = np.flatnonzero(self.equal >= self.min_equal)
        return int(self.equal[looping[0]]) if len(looping) else 0

    def copy(self) -> RepetitionDetector:
        """As it is now, to go on with other tokens."""
        other = object.__new__(RepetitionDetector)
        other.units, other.min_equal, other.equal = self.units, self.min_equal, self.equal.copy()
        return other

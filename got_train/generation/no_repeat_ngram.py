"""Tokens that may not come next: those that would complete an n-gram again. Ids only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NoRepeat:
    """No n-gram of `size` tokens twice; the prompt counts, as in transformers.

    Only n-grams inside the last `window` tokens count, and `spared` tokens may always come: a table's
    separators come again and again. Without both it is the rule of the original and of transformers.
    """

    size: int = 0  # 0: off
    window: int = 0  # tokens; 0: all
    spared: Collection[int] = frozenset()


class Ngrams:
    """The n-grams of one row while it grows."""

    def __init__(self, rule: NoRepeat, prompt: Sequence[int]):
        self.rule = rule
        self.ids: list[int] = []
        self.followers: dict[tuple[int, ...], dict[int, int]] = {}  # of n - 1 tokens: token, where it began
        for token in prompt:
            self.add(token)

    def add(self, token: int) -> None:
        self.ids.append(token)
        size = self.rule.size
        if 0 < size <= len(self.ids):
            *before, last = self.ids[-size:]
            known = self.followers.get(tuple(before), {})  # never changed: branches share it
            self.followers[tuple(before)] = {
                **known,
                last: len(self.ids) - size,
            }

    def banned(self) -> Sequence[int]:
        if not self.followers:
            return ()
        found = self.followers.get(tuple(self.ids[len(self.ids) - self.rule.size + 1 :]), {})
        first = len(self.ids) - self.rule.window if self.rule.window else 0
        return sorted(
            token for token, start in found.items() if start >= first and token not in self.rule.spared
        )

    def branch(self) -> Ngrams:
        """As it is now, to go on with other tokens."""
        other = object.__new__(Ngrams)
        other.rule, other.ids, other.followers = self.rule, self.ids.copy(), self.followers.copy()
        return other

"""Tokens that may not come next: those that would complete an n-gram again. Ids only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NoRepeatNGram:
    """No n-gram of `size` tokens twice; the prompt counts, as in transformers.

    Only n-grams inside the last `window` tokens count, and `exempt_tokens` may always come: a table's
    separators come again and again. Without both it is the rule of the original and of transformers.
    """

    size: int = 0  # 0: off
    window: int = 0  # tokens; 0: all
    exempt_tokens: Collection[int] = frozenset()


class NoRepeatNGramProcessor:
    """The n-grams of one row while it grows."""

    def __init__(self, rule: NoRepeatNGram, prompt: Sequence[int]):
        self.rule = rule
        self.ids: list[int] = []
        self.next_tokens: dict[tuple[int, ...], dict[int, int]] = {}  # of n - 1 tokens: token, where it began
        for token in prompt:
            self.add(token)

    def add(self, token: int) -> None:
        self.ids.append(token)
        size = self.rule.size
        if 0 < size <= len(self.ids):
            *prefix, last = self.ids[-size:]
            known = self.next_tokens.get(tuple(prefix), {})  # never changed: copies share it
            self.next_tokens[tuple(prefix)] = {**known, last: len(self.ids) - size}

    def banned_tokens(self) -> Sequence[int]:
        if not self.next_tokens:
            return ()
        prefix = tuple(self.ids[len(self.ids) - self.rule.size + 1 :])
        first = len(self.ids) - self.rule.window if self.rule.window else 0
        return sorted(
            token
            for token, start in self.next_tokens.get(prefix, {}).items()
            if start >= first and token not in self.rule.exempt_tokens
        )

    def copy(self) -> NoRepeatNGramProcessor:
        """As it is now, to go on with other tokens."""
        other = object.__new__(NoRepeatNGramProcessor)
        other.rule, other.ids, other.next_tokens = self.rule, self.ids.copy(), self.next_tokens.copy()
        return other

"""Tokens by chance: a draw from the most probable ones, at a temperature. Knows one row of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from got_train.errors import GenerationError


class Sampler:
    """The draws of one answer; with the same seed they are the same, whatever is decoded beside it."""

    def __init__(self, temperature: float, top_p: float = 1.0, seed: int | Sequence[int] | None = None):
        if not 0 < temperature < float("inf"):
            raise GenerationError(f"temperature: {temperature}; expected above 0, or no sampler")
        if not 0 < top_p <= 1:
            raise GenerationError(f"top_p: {top_p}; expected above 0 and at most 1")
        self.temperature, self.top_p = temperature, top_p
        self.generator = np.random.default_rng(seed)

    def draw(self, logits: np.ndarray) -> int:
        """A token by softmax(logits / temperature), of the fewest that have `top_p` of it together."""
        scores = logits.astype(np.float64)
        probs = np.exp((scores - scores.max()) / self.temperature)
        # the order does not matter where none is left out, and sorting a large vocabulary takes long
        order = np.argsort(-probs, kind="stable") if self.top_p < 1 else np.arange(len(probs))
        sums = np.cumsum(probs[order])
        kept = int(np.searchsorted(sums, self.top_p * sums[-1])) + 1 if self.top_p < 1 else len(sums)
        drawn = np.searchsorted(sums[:kept], self.generator.random() * sums[kept - 1], side="right")
        return int(order[min(drawn, kept - 1)])

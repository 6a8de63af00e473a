"""One answer while it grows: its ids, their log-probabilities, and how it ended. It knows no tensors."""

from __future__ import annotations

import copy
import math

from got_train.errors import GenerationError

from .no_repeat_ngram import Ngrams
from .repetition import Loop, Tail


class Hypothesis:
    """`finished` is empty until the answer ends: "stop", "length", or "loop", cut after the first unit."""

    def __init__(self, limit: int, stops: frozenset[int], ngrams: Ngrams, loop: Loop | None):
        self.ids: list[int] = []
        self.log_probs: list[float] = []
        self.finished = ""
        self.total = 0.0  # of the log-probabilities, those that a loop took back too
        self.tokens = 0  # that were added
        self.limit, self.stops, self.ngrams = limit, stops, ngrams
        self.tail = None if loop is None else Tail(loop)

    def add(self, token: int, log_prob: float) -> None:
        if math.isnan(log_prob):
            raise GenerationError(
                f"token {len(self.ids) + 1}: the logits hold nan or inf; the weights are damaged or need "
                "float32"
            )
        self.ids.append(token)
        self.log_probs.append(log_prob)
        self.ngrams.add(token)
        self.total, self.tokens = self.total + log_prob, self.tokens + 1
        if token in self.stops:
            self.finished = "stop"
        elif self.tail is not None and (surplus := self.tail.surplus(self.ids)):
            self.finished = "loop"
            del self.ids[-surplus:], self.log_probs[-surplus:]
        elif len(self.ids) >= self.limit:
            self.finished = "length"

    def branch(self) -> Hypothesis:
        """As it is now, to go on with other tokens."""
        other = copy.copy(self)
        other.ids, other.log_probs = self.ids.copy(), self.log_probs.copy()
        other.ngrams = self.ngrams.branch()
        other.tail = None if self.tail is None else self.tail.branch()
        return other

"""One answer while it grows: its ids, their log-probabilities, and how it ended. It knows no tensors."""

from __future__ import annotations

import copy
import math

from got_train.errors import GenerationError

from .no_repeat_ngram import NoRepeatNGramProcessor
from .repetition import RepetitionDetector, RepetitionRule
from .sampling import Sampler


class Hypothesis:
    """`finish_reason` is empty until the answer ends: "stop", "length", or "loop" (cut after one unit)."""

    def __init__(
        self,
        max_tokens: int,
        eos_token_ids: frozenset[int],
        ngrams: NoRepeatNGramProcessor,
        repetition: RepetitionRule | None,
        sampler: Sampler | None = None,
    ):
        self.ids: list[int] = []
        self.log_probs: list[float] = []
        self.finish_reason = ""
        self.total = 0.0  # of the log-probabilities, those that a loop took back too
        self.tokens = 0  # that were added
        self.max_tokens, self.eos_token_ids, self.ngrams = max_tokens, eos_token_ids, ngrams
        self.repetition = None if repetition is None else RepetitionDetector(repetition)
        self.sampler = sampler  # None: the most probable token

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
        if token in self.eos_token_ids:
            self.finish_reason = "stop"
        elif self.repetition is not None and (excess := self.repetition.excess_tokens(self.ids)):
            self.finish_reason = "loop"
            del self.ids[-excess:], self.log_probs[-excess:]
        elif len(self.ids) >= self.max_tokens:
            self.finish_reason = "length"

    def copy(self) -> Hypothesis:
        """As it is now, to go on with other tokens."""
        other = copy.copy(self)
        other.ids, other.log_probs = self.ids.copy(), self.log_probs.copy()
        other.ngrams = self.ngrams.copy()
        other.repetition = None if self.repetition is None else self.repetition.copy()
        return other

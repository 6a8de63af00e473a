"""Continuous batching: answers that grow together; new ones join between two tokens, ended ones leave.

Knows ids and logits; knows no text, and not where prompts come from.
"""

# B rows that join  T prompt tokens  V views of all of them

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import paddle

from got_train.modeling.got import Got

from .decode import DecodingState, mask_tokens
from .hypothesis import Hypothesis


class RunningBatch:
    """The answers that have not ended, one row of the tensors each."""

    def __init__(self, model: Got):
        self.model = model
        self.answers: list[Hypothesis] = []
        self.state: DecodingState | None = None
        self._next: list[int] = []  # the last token of each row, which the model has not seen yet

    @paddle.no_grad()
    def join(
        self,
        answers: Sequence[Hypothesis],
        input_ids: np.ndarray,
        pixel_values: paddle.Tensor | np.ndarray | None,
        attention_mask: np.ndarray,
        image_features: paddle.Tensor | None = None,
    ) -> None:
        """Put in the prompts of new answers: (B, T), the padding on the left; and their views or features."""
        joining = DecodingState(self.model, input_ids, pixel_values, attention_mask, image_features)
        if self.state is None:
            self.state = joining
        else:
            self._feed()
            self.state.join(joining)
        self.answers += answers

    @paddle.no_grad()
    def step(self) -> list[tuple[Hypothesis, int]]:
        """Every answer's next token; the answers that end with it have left."""
        self._feed()
        tokens, log_probs = _choose(self.state.logits, self.answers)
        grown = list(zip(self.answers, tokens, strict=True))
        for (answer, token), log_prob in zip(grown, log_probs, strict=True):
            answer.add(token, log_prob)
        self._next = tokens
        self._keep([index for index, answer in enumerate(self.answers) if not answer.finish_reason])
        return grown

    def leave(self, answers: Collection[Hypothesis]) -> None:
        """Give up these answers, as they are."""
        gone = set(map(id, answers))
        self._keep([index for index, answer in enumerate(self.answers) if id(answer) not in gone])

    @paddle.no_grad()
    def _keep(self, rows: list[int]) -> None:
        if len(rows) == len(self.answers):
            return
        self.answers = [self.answers[row] for row in rows]
        self._next = [self._next[row] for row in rows] if self._next else []
        if rows:
            self.state.select_rows(rows)
        else:
            self.state = None

    def _feed(self) -> None:
        """Have the model see the last tokens, so that the logits are those of the next."""
        if self._next:
            self.state.step(self._next)
            self._next = []


def _choose(logits: paddle.Tensor, answers: Sequence[Hypothesis]) -> tuple[list[int], list[float]]:
    """Of each row the most probable token that is not banned, or a drawn one, and log p before any ban."""
    allowed = mask_tokens(logits, [answer.ngrams.banned_tokens() for answer in answers])
    tokens = allowed.argmax(axis=-1)
    drawn = [row for row, answer in enumerate(answers) if answer.sampler is not None]
    if drawn:
        chosen = tokens.tolist()
        for row in drawn:
            chosen[row] = answers[row].sampler.draw(allowed[row].numpy())
        tokens = paddle.to_tensor(chosen, dtype="int64")
    best = paddle.take_along_axis(logits, tokens.unsqueeze(1), axis=1).squeeze(1)
    return tokens.tolist(), (best - logits.logsumexp(axis=-1)).tolist()

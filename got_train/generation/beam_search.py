"""Beam search: of the answers that stay among the best at every token, the one with the highest score."""

# R rows of the tensors, one for each running beam of all prompts

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import paddle
import paddle.nn.functional as F

from .decode import Steps, without
from .hypothesis import Hypothesis


class _Offer(NamedTuple):
    """A token that may follow a beam; `total` is the sum of log p with it."""

    total: float
    row: int
    token: int
    log_prob: float


def search(
    steps: Steps, starts: Sequence[Hypothesis], beams: int, length_penalty: float = 1.0
) -> list[Hypothesis]:
    """The best answer to each prompt; its score is the sum of log p over tokens ** length_penalty.

    As in transformers, an answer that ends counts if it is among the best `beams` at that token, and a prompt
    is done once it has so many and the best running score beats none. A loop wins over its like only.
    """
    ended: list[list[Hypothesis]] = [[] for _ in starts]
    running = list(enumerate(starts))  # prompt and answer of each row
    while running:
        offers = _offers(steps.logits, [answer for _, answer in running], beams)
        rows: list[int] = []
        going = []
        for prompt in dict.fromkeys(prompt for prompt, _ in running):
            mine = sorted(
                (offer for row, (owner, _) in enumerate(running) if owner == prompt for offer in offers[row]),
                key=lambda offer: (-offer.total, offer.row, offer.token),
            )
            grown = _grown(mine, running, beams, ended[prompt])
            if not _done(ended[prompt], [answer for _, answer in grown], beams, length_penalty):
                rows += [row for row, _ in grown]
                going += [(prompt, answer) for _, answer in grown]
        running = going
        if running:
            steps.keep(rows)
            steps.step([answer.ids[-1] for _, answer in running])
    return [max(found, key=lambda answer: _rank(answer, length_penalty)) for found in ended]


def _offers(logits: paddle.Tensor, answers: Sequence[Hypothesis], beams: int) -> list[list[_Offer]]:
    """Of each row the best tokens that are allowed: so many that `beams` of them do not end the answer."""
    log_probs = F.log_softmax(logits, axis=-1)  # (R, vocabulary)
    allowed = without(log_probs, [answer.ngrams.banned() for answer in answers])
    width = min(beams + len(answers[0].stops), logits.shape[-1])
    values, tokens = paddle.topk(allowed, width, axis=-1)
    return [
        [
            _Offer(answer.total + value, row, token, value)
            for value, token in zip(*each, strict=True)
            if value > -math.inf or math.isnan(value)
        ]
        for row, (answer, *each) in enumerate(zip(answers, values.tolist(), tokens.tolist(), strict=True))
    ]


def _grown(
    offers: Sequence[_Offer],
    running: Sequence[tuple[int, Hypothesis]],
    beams: int,
    ended: list[Hypothesis],
) -> list[tuple[int, Hypothesis]]:
    """The best answers that go on, each with the row it comes from; those that end join `ended`."""
    grown: list[tuple[int, Hypothesis]] = []
    for rank, offer in enumerate(offers):
        answer = running[offer.row][1].branch()
        answer.add(offer.token, offer.log_prob)
        if not answer.finished:
            grown.append((offer.row, answer))
        elif rank < beams:
            ended.append(answer)
        if len(grown) == beams:
            break
    return grown


def _done(ended: list[Hypothesis], going: Sequence[Hypothesis], beams: int, length_penalty: float) -> bool:
    ended.sort(key=lambda answer: _rank(answer, length_penalty), reverse=True)
    del ended[beams:]
    if len(ended) < beams or not going:
        return not going
    return _rank(going[0], length_penalty) <= _rank(ended[-1], length_penalty)


def _rank(answer: Hypothesis, length_penalty: float) -> tuple[bool, float]:
    return answer.finished != "loop", answer.total / answer.tokens**length_penalty

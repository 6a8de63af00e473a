"""Beam search: of the answers that stay among the best at every token, the one with the highest score."""

# R rows of the tensors, one for each active beam of all prompts

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import paddle
import paddle.nn.functional as F

from .decode import DecodingState, mask_tokens
from .hypothesis import Hypothesis


class Candidate(NamedTuple):
    """A token that may follow a beam; `total` is the sum of log p with it."""

    total: float
    row: int
    token: int
    log_prob: float


def beam_search(
    state: DecodingState, starts: Sequence[Hypothesis], num_beams: int, length_penalty: float = 1.0
) -> list[Hypothesis]:
    """The best answer to each prompt; its score is the sum of log p over tokens ** length_penalty.

    As in transformers, an answer that ends counts if it is among the best `num_beams` at that token, and a
    prompt is done once it has so many and the best active score beats none. A loop wins over its like only.
    """
    finished: list[list[Hypothesis]] = [[] for _ in starts]
    active = list(enumerate(starts))  # prompt and answer of each row
    while active:
        candidates = _candidates(state.logits, [answer for _, answer in active], num_beams)
        rows: list[int] = []
        going_on = []
        for prompt in dict.fromkeys(prompt for prompt, _ in active):
            of_prompt = sorted(
                (
                    candidate
                    for row, (owner, _) in enumerate(active)
                    if owner == prompt
                    for candidate in candidates[row]
                ),
                key=lambda candidate: (-candidate.total, candidate.row, candidate.token),
            )
            extended = _extend(of_prompt, active, num_beams, finished[prompt])
            answers = [answer for _, answer in extended]
            if not _is_done(finished[prompt], answers, num_beams, length_penalty):
                rows += [row for row, _ in extended]
                going_on += [(prompt, answer) for answer in answers]
        active = going_on
        if active:
            state.select_rows(rows)
            state.step([answer.ids[-1] for _, answer in active])
    return [max(answers, key=lambda answer: _rank(answer, length_penalty)) for answers in finished]


def _candidates(
    logits: paddle.Tensor, answers: Sequence[Hypothesis], num_beams: int
) -> list[list[Candidate]]:
    """Of each row the best tokens that are allowed: so many that `num_beams` do not end the answer."""
    log_probs = F.log_softmax(logits, axis=-1)  # (R, vocabulary)
    allowed = mask_tokens(log_probs, [answer.ngrams.banned_tokens() for answer in answers])
    width = min(num_beams + len(answers[0].eos_token_ids), logits.shape[-1])
    values, tokens = paddle.topk(allowed, width, axis=-1)
    return [
        [
            Candidate(answer.total + value, row, token, value)
            for value, token in zip(row_values, row_tokens, strict=True)
            if value > -math.inf or math.isnan(value)
        ]
        for row, (answer, row_values, row_tokens) in enumerate(
            zip(answers, values.tolist(), tokens.tolist(), strict=True)
        )
    ]


def _extend(
    candidates: Sequence[Candidate],
    active: Sequence[tuple[int, Hypothesis]],
    num_beams: int,
    finished: list[Hypothesis],
) -> list[tuple[int, Hypothesis]]:
    """The best answers that go on, each with the row it comes from; those that end join `finished`."""
    extended: list[tuple[int, Hypothesis]] = []
    for rank, candidate in enumerate(candidates):
        answer = active[candidate.row][1].copy()
        answer.add(candidate.token, candidate.log_prob)
        if not answer.finish_reason:
            extended.append((candidate.row, answer))
        elif rank < num_beams:
            finished.append(answer)
        if len(extended) == num_beams:
            break
    return extended


def _is_done(
    finished: list[Hypothesis], active: Sequence[Hypothesis], num_beams: int, length_penalty: float
) -> bool:
    finished.sort(key=lambda answer: _rank(answer, length_penalty), reverse=True)
    del finished[num_beams:]
    if len(finished) < num_beams or not active:
        return not active
    return _rank(active[0], length_penalty) <= _rank(finished[-1], length_penalty)


def _rank(answer: Hypothesis, length_penalty: float) -> tuple[bool, float]:
    return answer.finish_reason != "loop", answer.total / answer.tokens**length_penalty

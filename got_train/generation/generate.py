"""Decoding: ids and views in, the most probable ids out. It knows no text, no prompt and no file."""

# B rows  T prompt tokens  V views of all rows

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from got_train.errors import GenerationError
from got_train.modeling.got import Got

from . import beam_search
from .decode import Steps, without
from .hypothesis import Hypothesis
from .no_repeat_ngram import Ngrams, NoRepeat
from .repetition import Loop

__all__ = ["Generated", "Loop", "NoRepeat", "evaluating", "generate"]


@dataclass(frozen=True)
class Generated:
    """Of each row: the ids (a stop token stays, as the last), log p of each, and how it ended.

    p is the model's own, before any token is banned. "loop" leaves the first of the repeated units.
    """

    ids: list[list[int]]
    log_probs: list[list[float]]
    finished: list[str]  # "stop", "length" or "loop"


@paddle.no_grad()
def generate(
    model: Got,
    input_ids: paddle.Tensor | np.ndarray,
    pixel_values: paddle.Tensor | np.ndarray | None = None,
    attention_mask: paddle.Tensor | np.ndarray | None = None,
    max_new_tokens: int | Sequence[int] | None = None,
    stop_tokens: Sequence[int] | None = None,
    no_repeat: int | NoRepeat = 0,
    loop: Loop | None = None,
    on_token: Callable[[int, int], None] | None = None,
    num_beams: int = 1,
    length_penalty: float = 1.0,
) -> Generated:
    """The most probable token, again and again, until each row has ended; or the best of several beams.

    input_ids (B, T) and attention_mask (B, T), 0 on the padding, which is on the left; the views of all rows
    one behind the other. max_new_tokens, of all rows or of each, is what the decoder's positions leave unless
    less is given; stop_tokens are the model's unless given; no_repeat is the n of n-grams, or a rule.
    `on_token(row, id)` hears every token at once, also those that a loop takes back; not with several beams.
    A row's answer does not depend on its neighbours.
    """
    ids = np.asarray(input_ids, dtype=np.int64)
    mask = np.ones_like(ids) if attention_mask is None else np.asarray(attention_mask, dtype=np.int64)
    rule = no_repeat if isinstance(no_repeat, NoRepeat) else NoRepeat(size=no_repeat)
    _check(ids, mask, rule, num_beams)
    _check_views(model, ids, 0 if pixel_values is None else len(pixel_values))
    if num_beams > 1 and on_token is not None:
        raise GenerationError(f"num_beams: {num_beams} with on_token; no token of a beam is certain")
    stops = frozenset(model.config.stop_tokens if stop_tokens is None else stop_tokens)
    prompts = [row[seen > 0].tolist() for row, seen in zip(ids, mask, strict=True)]
    answers = [
        Hypothesis(limit, stops, Ngrams(rule, prompt), loop)
        for limit, prompt in zip(_limits(model, prompts, max_new_tokens), prompts, strict=True)
    ]
    with evaluating(model):
        steps = Steps(model, ids, pixel_values, mask)
        if num_beams > 1:
            answers = beam_search.search(steps, answers, num_beams, length_penalty)
        else:
            _greedy(steps, answers, on_token)
    return Generated(
        [answer.ids for answer in answers],
        [answer.log_probs for answer in answers],
        [answer.finished for answer in answers],
    )


def _greedy(steps: Steps, answers: list[Hypothesis], on_token: Callable[[int, int], None] | None) -> None:
    """Grows every answer to its end."""
    going = list(range(len(answers)))  # the rows that the tensors still hold
    while True:
        tokens, log_probs = _best(steps.logits, [answers[row].ngrams.banned() for row in going])
        for row, token, log_prob in zip(going, tokens, log_probs, strict=True):
            answers[row].add(token, log_prob)
            if on_token is not None:
                on_token(row, token)
        kept = [place for place, row in enumerate(going) if not answers[row].finished]
        if not kept:
            return
        if len(kept) < len(going):
            steps.keep(kept)
            going = [going[place] for place in kept]
        steps.step([tokens[place] for place in kept])


def _best(logits: paddle.Tensor, banned: list[Sequence[int]]) -> tuple[list[int], list[float]]:
    """The most probable token of each row that is not banned, and log p of it before the ban."""
    chosen = without(logits, banned).argmax(axis=-1)
    best = paddle.take_along_axis(logits, chosen.unsqueeze(1), axis=1).squeeze(1)
    return chosen.tolist(), (best - logits.logsumexp(axis=-1)).tolist()


@contextlib.contextmanager
def evaluating(model: nn.Layer) -> Iterator[None]:
    """No dropout in here; afterwards every layer is as it was."""
    before = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        yield
    finally:
        for layer, training in before:
            layer.training = training


def _room(model: Got, tokens: int) -> int:
    positions = model.config.decoder.max_positions
    if tokens >= positions:
        raise GenerationError(f"prompt: {tokens} tokens leave no room in the decoder's {positions} positions")
    return positions - tokens


def _limits(model: Got, prompts: Sequence[Sequence[int]], most: int | Sequence[int] | None) -> list[int]:
    """Tokens of each answer, at most."""
    rooms = [_room(model, len(prompt)) for prompt in prompts]
    if most is None:
        return rooms
    wanted = [most] * len(rooms) if isinstance(most, int) else list(most)
    if len(wanted) != len(rooms) or min(wanted) < 1:
        raise GenerationError(f"max_new_tokens: {most}; at least 1, one for all rows or for each")
    return list(map(min, rooms, wanted))


def _check(ids: np.ndarray, mask: np.ndarray, rule: NoRepeat, num_beams: int) -> None:
    if ids.ndim != 2 or 0 in ids.shape:
        raise GenerationError(f"input_ids: shape {list(ids.shape)}; rows of tokens, (B, T)")
    if mask.shape != ids.shape:
        raise GenerationError(
            f"attention_mask: shape {list(mask.shape)}; that of input_ids, {list(ids.shape)}"
        )
    if not np.isin(mask, (0, 1)).all() or not (np.diff(mask, axis=1) >= 0).all() or not mask[:, -1].all():
        raise GenerationError("attention_mask: not zeros followed by ones; padding stands on the left")
    if num_beams < 1:
        raise GenerationError(f"num_beams: {num_beams}; at least 1")
    if rule.size < 0:
        raise GenerationError(f"no_repeat: n-grams of {rule.size}; 0 (off) or more")
    if 0 < rule.window < rule.size:
        raise GenerationError(f"no_repeat: a window of {rule.window} holds no n-gram of {rule.size}")


def _check_views(model: Got, ids: np.ndarray, views: int) -> None:
    """Before the encoder runs, which takes long."""
    holes, given = int((ids == model.config.image_token).sum()), views * model.config.vision.view_tokens
    if holes != given:
        raise GenerationError(f"input_ids: {holes} image tokens, but {views} views give {given}")

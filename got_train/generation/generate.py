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

from .beam_search import beam_search
from .decode import DecodingState
from .hypothesis import Hypothesis
from .no_repeat_ngram import NoRepeatNGram, NoRepeatNGramProcessor
from .repetition import RepetitionRule
from .running_batch import RunningBatch

__all__ = ["Generated", "NoRepeatNGram", "RepetitionRule", "eval_mode", "generate"]


@dataclass(frozen=True)
class Generated:
    """Of each row: the ids (an end token stays, as the last), log p of each, and how it ended.

    p is the model's own, before any token is banned. "loop" leaves the first of the repeated units.
    """

    ids: list[list[int]]
    log_probs: list[list[float]]
    finish_reasons: list[str]  # "stop", "length" or "loop"


@paddle.no_grad()
def generate(
    model: Got,
    input_ids: paddle.Tensor | np.ndarray,
    pixel_values: paddle.Tensor | np.ndarray | None = None,
    attention_mask: paddle.Tensor | np.ndarray | None = None,
    max_new_tokens: int | Sequence[int] | None = None,
    eos_token_ids: Sequence[int] | None = None,
    no_repeat_ngram: int | NoRepeatNGram = 0,
    repetition: RepetitionRule | None = None,
    on_token: Callable[[int, int], None] | None = None,
    num_beams: int = 1,
    length_penalty: float = 1.0,
) -> Generated:
    """The most probable token, again and again, until each row has ended; or the best of several beams.

    input_ids (B, T) and attention_mask (B, T), 0 on the padding, which is on the left; the views of all rows
    one after another. max_new_tokens, of all rows or of each, is what the decoder's positions leave unless
    less is given; eos_token_ids are the model's stop_tokens unless given; no_repeat_ngram is the n of n-grams
    or a rule. `on_token(row, id)` gets every token at once, also those that a loop takes back; not with
    several beams. A row's answer does not depend on its neighbours.
    """
    ids = np.asarray(input_ids, dtype=np.int64)
    mask = np.ones_like(ids) if attention_mask is None else np.asarray(attention_mask, dtype=np.int64)
    is_size = isinstance(no_repeat_ngram, int)
    rule = NoRepeatNGram(size=no_repeat_ngram) if is_size else no_repeat_ngram
    _check(ids, mask, rule, num_beams)
    _check_views(model, ids, 0 if pixel_values is None else len(pixel_values))
    if num_beams > 1 and on_token is not None:
        raise GenerationError(f"num_beams: {num_beams} with on_token: no token of a beam is certain; use 1")
    end = frozenset(model.config.stop_tokens if eos_token_ids is None else eos_token_ids)
    prompts = [row[visible > 0].tolist() for row, visible in zip(ids, mask, strict=True)]
    answers = [
        Hypothesis(max_tokens, end, NoRepeatNGramProcessor(rule, prompt), repetition)
        for max_tokens, prompt in zip(_max_tokens(model, prompts, max_new_tokens), prompts, strict=True)
    ]
    with eval_mode(model):
        if num_beams > 1:
            state = DecodingState(model, ids, pixel_values, mask)
            answers = beam_search(state, answers, num_beams, length_penalty)
        else:
            batch = RunningBatch(model)
            batch.join(answers, ids, pixel_values, mask)
            rows = {id(answer): row for row, answer in enumerate(answers)}
            while batch.answers:
                for answer, token in batch.step():
                    if on_token is not None:
                        on_token(rows[id(answer)], token)
    return Generated(
        [answer.ids for answer in answers],
        [answer.log_probs for answer in answers],
        [answer.finish_reason for answer in answers],
    )


@contextlib.contextmanager
def eval_mode(model: nn.Layer) -> Iterator[None]:
    """No dropout in here; afterwards every layer is as it was."""
    before = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        yield
    finally:
        for layer, training in before:
            layer.training = training


def _max_tokens(
    model: Got, prompts: Sequence[Sequence[int]], max_new_tokens: int | Sequence[int] | None
) -> list[int]:
    """Of each answer: what is asked for, and what positions are left."""
    positions = model.config.decoder.max_positions
    longest = max(map(len, prompts))
    if longest >= positions:
        raise GenerationError(
            f"prompt: {longest} tokens leave no room in the decoder's {positions} positions"
        )
    left = [positions - len(prompt) for prompt in prompts]
    if max_new_tokens is None:
        return left
    limits = [max_new_tokens] * len(left) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    if len(limits) != len(left) or min(limits) < 1:
        raise GenerationError(
            f"max_new_tokens: {max_new_tokens}; expected 1 or more, one for all rows or for each"
        )
    return list(map(min, left, limits))


def _check(ids: np.ndarray, mask: np.ndarray, rule: NoRepeatNGram, num_beams: int) -> None:
    if ids.ndim != 2 or 0 in ids.shape:
        raise GenerationError(f"input_ids: shape {list(ids.shape)}; expected rows of tokens, (B, T)")
    if mask.shape != ids.shape:
        raise GenerationError(
            f"attention_mask: shape {list(mask.shape)}; expected that of input_ids, {list(ids.shape)}"
        )
    if not np.isin(mask, (0, 1)).all() or not (np.diff(mask, axis=1) >= 0).all() or not mask[:, -1].all():
        raise GenerationError("attention_mask: not zeros followed by ones; expected padding on the left")
    if num_beams < 1:
        raise GenerationError(f"num_beams: {num_beams}; expected 1 or more")
    if rule.size < 0:
        raise GenerationError(f"no_repeat_ngram: n-grams of {rule.size}; expected 0 (off) or more")
    if 0 < rule.window < rule.size:
        raise GenerationError(f"no_repeat_ngram: a window of {rule.window} holds no n-gram of {rule.size}")


def _check_views(model: Got, ids: np.ndarray, views: int) -> None:
    """Before the encoder runs, which takes long."""
    image_tokens = int((ids == model.config.image_token).sum())
    given = views * model.config.vision.view_tokens
    if image_tokens != given:
        raise GenerationError(f"input_ids: {image_tokens} image tokens, but {views} views give {given}")

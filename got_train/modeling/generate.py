"""Greedy decoding with a cache: ids and views in, ids out. It knows no text, no prompt and no file."""

# B rows  T prompt tokens  V views of all rows  P tokens a view  D width

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from .decoders import KeyValueCache
from .got import Got

ENCODER_BYTES = 1 << 30  # of attention scores that exist at once; one view of GOT's makes 0.8 GB


class GenerateError(ValueError):
    """Prompts that cannot be decoded, or weights that give no numbers."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The tail that counts as endless: a unit of tokens, repeated without a gap.

    Real pages repeat too (empty cells, equal rows, rests), hence both a least number and a least length.
    """

    unit: int = 64  # tokens, at most
    times: int = 16  # at least
    tokens: int = 256  # that all the times cover, at least


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
    max_new_tokens: int = 4096,
    stop_tokens: Sequence[int] | None = None,
    no_repeat_ngram_size: int = 0,
    loop: Loop | None = None,
    on_token: Callable[[int, int], None] | None = None,
) -> Generated:
    """The most probable token, again and again, until each row has ended.

    input_ids (B, T) and attention_mask (B, T), 0 on the padding, which is on the left; the views of all rows
    one behind the other. stop_tokens are the model's unless given. `on_token(row, id)` hears every token at
    once, also those that a loop takes back. A row's answer does not depend on its neighbours.
    """
    ids = np.asarray(input_ids, dtype=np.int64)
    mask = np.ones_like(ids) if attention_mask is None else np.asarray(attention_mask, dtype=np.int64)
    _check(ids, mask, max_new_tokens, no_repeat_ngram_size)
    _check_views(model, ids, 0 if pixel_values is None else len(pixel_values))
    stops = frozenset(model.config.stop_tokens if stop_tokens is None else stop_tokens)
    prompts = [row[seen > 0].tolist() for row, seen in zip(ids, mask, strict=True)]
    limits = [min(max_new_tokens, _room(model, len(prompt))) for prompt in prompts]
    answers = [
        _Answer(limit, stops, _Ngrams(no_repeat_ngram_size, prompt), loop)
        for limit, prompt in zip(limits, prompts, strict=True)
    ]
    with evaluating(model):
        _decode(model, ids, pixel_values, mask, answers, on_token)
    return Generated(
        [answer.ids for answer in answers],
        [answer.log_probs for answer in answers],
        [answer.finished for answer in answers],
    )


def _decode(model, ids, pixel_values, mask, answers, on_token) -> None:
    decoder = model.decoder
    mask = paddle.to_tensor(mask)
    cache = KeyValueCache(model.config.decoder.layers, mask)
    places = (paddle.cumsum(mask, axis=1) - 1).clip(min=0)  # (B, T)
    x = model.embed(paddle.to_tensor(ids), _features(model, pixel_values))  # (B, T, D)
    hidden = decoder.step(x, places, cache)[:, -1]  # (B, D)
    places = places[:, -1:]
    going = list(range(len(answers)))  # the rows that the tensors still hold
    while True:
        logits = paddle.matmul(hidden, decoder.head, transpose_y=True).astype("float32")  # (B, vocabulary)
        chosen, log_probs = _best(logits, [answers[row].ngrams.banned() for row in going])
        for row, token, log_prob in zip(going, chosen.tolist(), log_probs.tolist(), strict=True):
            answers[row].add(token, log_prob)
            if on_token is not None:
                on_token(row, token)
        kept = [place for place, row in enumerate(going) if not answers[row].finished]
        if not kept:
            return
        if len(kept) < len(going):
            rows = paddle.to_tensor(kept)
            cache.keep(rows)
            chosen, places = paddle.gather(chosen, rows), paddle.gather(places, rows)
            going = [going[place] for place in kept]
        places = places + 1
        hidden = decoder.step(decoder.embed(chosen.unsqueeze(1)), places, cache)[:, -1]


def _best(logits: paddle.Tensor, banned: list[Sequence[int]]) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The most probable token of each row that is not banned, and log p of it before the ban."""
    allowed = logits
    pairs = [(row, token) for row, tokens in enumerate(banned) for token in tokens]
    if pairs:
        where = tuple(paddle.to_tensor(part) for part in zip(*pairs, strict=True))
        allowed = paddle.index_put(logits, where, paddle.full([len(pairs)], -math.inf))
    chosen = allowed.argmax(axis=-1)
    best = paddle.take_along_axis(logits, chosen.unsqueeze(1), axis=1).squeeze(1)
    return chosen, best - logits.logsumexp(axis=-1)


def _features(model: Got, pixel_values: paddle.Tensor | np.ndarray | None) -> paddle.Tensor | None:
    """The views' features (V, P, D), the encoder seeing as many views at once as ENCODER_BYTES allow."""
    if pixel_values is None:
        return None
    pixel_values = paddle.to_tensor(pixel_values)
    vision = model.config.vision
    at_once = max(1, ENCODER_BYTES // (4 * vision.heads * vision.grid**4))
    starts = range(0, pixel_values.shape[0], at_once)
    return paddle.concat([model.encode(pixel_values[start : start + at_once]) for start in starts])


class _Answer:
    """One row while it grows."""

    def __init__(self, limit: int, stops: frozenset[int], ngrams: _Ngrams, loop: Loop | None):
        self.ids: list[int] = []
        self.log_probs: list[float] = []
        self.finished = ""
        self.limit, self.stops, self.ngrams = limit, stops, ngrams
        self.tail = None if loop is None else _Tail(loop)

    def add(self, token: int, log_prob: float) -> None:
        if math.isnan(log_prob):
            raise GenerateError(
                f"token {len(self.ids) + 1}: the logits hold nan or inf; the weights are damaged or need "
                "float32"
            )
        self.ids.append(token)
        self.log_probs.append(log_prob)
        self.ngrams.add(token)
        if token in self.stops:
            self.finished = "stop"
        elif self.tail is not None and (surplus := self.tail.surplus(self.ids)):
            self.finished = "loop"
            del self.ids[-surplus:], self.log_probs[-surplus:]
        elif len(self.ids) >= self.limit:
            self.finished = "length"


class _Ngrams:
    """The tokens that would complete an n-gram a second time; the prompt counts, as in transformers."""

    def __init__(self, size: int, prompt: list[int]):
        self.size = size
        self.ids: list[int] = []
        self.followers: dict[tuple[int, ...], set[int]] = {}
        for token in prompt:
            self.add(token)

    def add(self, token: int) -> None:
        self.ids.append(token)
        if 0 < self.size <= len(self.ids):
            *before, last = self.ids[-self.size :]
            self.followers.setdefault(tuple(before), set()).add(last)

    def banned(self) -> Sequence[int]:
        if not self.followers:
            return ()
        return sorted(self.followers.get(tuple(self.ids[len(self.ids) - self.size + 1 :]), ()))


class _Tail:
    """For every length of a unit: how many of the last tokens equal the one that far before them."""

    def __init__(self, loop: Loop):
        self.units = np.arange(1, loop.unit + 1)
        self.needed = np.maximum(loop.times * self.units, loop.tokens) - self.units
        self.equal = np.zeros_like(self.units)

    def surplus(self, ids: list[int]) -> int:
        """Tokens behind the first unit of a loop; 0 when there is none. To be called for every token."""
        before = ids[-2 : -2 - len(self.units) : -1]
        self.equal[: len(before)] += 1
        self.equal[: len(before)] *= np.array(before, dtype=np.int64) == ids[-1]
        looping = np.flatnonzero(self.equal >= self.needed)
        return int(self.equal[looping[0]]) if len(looping) else 0


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
        raise GenerateError(f"prompt: {tokens} tokens leave no room in the decoder's {positions} positions")
    return positions - tokens


def _check(ids: np.ndarray, mask: np.ndarray, max_new_tokens: int, no_repeat_ngram_size: int) -> None:
    if ids.ndim != 2 or 0 in ids.shape:
        raise GenerateError(f"input_ids: shape {list(ids.shape)}; rows of tokens, (B, T)")
    if mask.shape != ids.shape:
        raise GenerateError(f"attention_mask: shape {list(mask.shape)}; that of input_ids, {list(ids.shape)}")
    if not np.isin(mask, (0, 1)).all() or not (np.diff(mask, axis=1) >= 0).all() or not mask[:, -1].all():
        raise GenerateError("attention_mask: not zeros followed by ones; padding stands on the left")
    if max_new_tokens < 1:
        raise GenerateError(f"max_new_tokens: {max_new_tokens}; at least 1")
    if no_repeat_ngram_size < 0:
        raise GenerateError(f"no_repeat_ngram_size: {no_repeat_ngram_size}; 0 (off) or more")


def _check_views(model: Got, ids: np.ndarray, views: int) -> None:
    """Before the encoder runs, which takes long."""
    holes, given = int((ids == model.config.image_token).sum()), views * model.config.vision.view_tokens
    if holes != given:
        raise GenerateError(f"input_ids: {holes} image tokens, but {views} views give {given}")

"""Attention of tokens over those before them in the same sample, which never holds all scores.

On the CPU blocks of queries stay in the processor's cache, see no key that the mask would hide from all of
them, and are made again for the gradients; a GPU gets Paddle's fused kernel.
"""

# B rows  T tokens of a row  H heads  K key-value heads  L = B*H lanes  d head width

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import paddle
import paddle.nn.functional as F

from got_train.cpu import kernels

from .layers import Function
from .rel_pos_attention import BLOCK_SCORES, joined, some

QUERIES = 128  # of a long row at once: enough for the products, few enough to leave hidden keys out


@dataclass(frozen=True)
class Block:
    """Queries of some rows, or of some heads of one row, and the keys that at least one of them sees.

    `first` (rows, queries), int32, is the first of the keys that each query sees.
    """

    lanes: slice
    queries: slice
    keys: slice
    first: np.ndarray


class Samples:
    """(B, T) of 0 (padding), 1, 2, ...: equal numbers are side by side and one sample; None: all are one.

    Samples packed into one row do not see one another; padding sees padding, which nobody reads.
    """

    def __init__(self, mask: paddle.Tensor | None, shape: tuple[int, int]):
        self.shape = tuple(shape)
        self.numbers = paddle.ones(self.shape, dtype="int64") if mask is None else mask

    @cached_property
    def _on_host(self) -> np.ndarray:
        return self.numbers.numpy()

    @cached_property
    def allowed(self) -> paddle.Tensor | None:
        """As `seen`; None: all before it, whatever the row."""
        return None if all(map(_is_one_sample, self._on_host)) else self.seen

    @property
    def seen(self) -> paddle.Tensor:
        """bool (B, 1, T, T): what each token may see."""
        tokens = self.shape[1]
        same = self.numbers.unsqueeze(1) == self.numbers.unsqueeze(2)  # (B, T, T)
        return (same & paddle.tril(paddle.ones([tokens, tokens], dtype="bool"))).unsqueeze(1)

    @cached_property
    def first(self) -> np.ndarray:
        """(B, T) int32: the first token of the sample that each belongs to."""
        numbers, places = self._on_host, np.arange(self.shape[1], dtype="int32")
        changes = np.diff(numbers, axis=1, prepend=-1) != 0
        for row, starts in zip(numbers, changes, strict=True):
            runs = row[starts & (row > 0)]
            if runs.size > np.unique(runs).size:
                raise ValueError(
                    f"attention_mask: samples {runs.tolist()} of a row; each of them in one piece"
                )
        return np.maximum.accumulate(np.where(changes, places, 0), axis=1, dtype="int32")

    def blocks(self, heads: int) -> Iterator[Block]:
        rows, tokens = self.shape
        if tokens <= QUERIES:
            at_once = max(1, BLOCK_SCORES // (heads * tokens**2))
            for start in range(0, rows, at_once):
                end, whole = min(rows, start + at_once), slice(0, tokens)
                yield Block(slice(start * heads, end * heads), whole, whole, self.first[start:end])
            return
        # few heads with many queries each: a product of few rows is slow, and each block copies its keys
        at_once = max(1, min(heads, BLOCK_SCORES // (QUERIES * tokens)))
        for row, first in enumerate(self.first):
            for head in range(0, heads, at_once):
                lanes = slice(row * heads + head, row * heads + min(head + at_once, heads))
                for start in range(0, tokens, QUERIES):
                    queries = slice(start, min(tokens, start + QUERIES))
                    keys = slice(int(first[start]), queries.stop)
                    yield Block(lanes, queries, keys, first[None, queries] - first[start])


def _is_one_sample(row: np.ndarray) -> bool:
    """Padding, if any, stands behind it, where the order alone hides it."""
    length = int((row > 0).sum())
    return bool((row[:length] == row[0]).all()) and row[0] > 0


def additive(allowed: paddle.Tensor, dtype: paddle.dtype) -> paddle.Tensor:
    """A bool mask as the number added to the scores: 0 where allowed, the type's minimum elsewhere."""
    return paddle.where(allowed, paddle.zeros([], dtype), paddle.full([], paddle.finfo(dtype).min, dtype))


def causal_attention(q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, samples: Samples) -> paddle.Tensor:
    """q (B, H, T, d), k and v (B, K, T, d) -> (B, H, T, d); scores are divided by the root of d."""
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = (paddle.repeat_interleave(x, group, axis=1) for x in (k, v))
    return CausalAttention(samples)(q, k, v)


class CausalAttention(Function):
    """Of as many keys and values as queries, (B, H, T, d) each."""

    def __init__(self, samples: Samples):
        self.samples = samples

    def plain(self, q, k, v):
        """By Paddle's fused kernel, which needs no mask where rows are not packed."""
        mask = self.samples.allowed
        mask, is_causal = (None, True) if mask is None else (additive(mask, q.dtype), False)
        q, k, v = (x.transpose([0, 2, 1, 3]) for x in (q, k, v))  # (B, T, H, d)
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal).transpose([0, 2, 1, 3])

    def forward(self, *qkv):
        (q, k, v), out = (x.flatten(0, 1) for x in qkv), []  # (L, T, d)
        for lanes, blocks in self._by_lanes(qkv[0].shape[1]):
            pieces = []
            for each in blocks:
                query, key, value = (
                    some(q, lanes, each.queries),
                    some(k, lanes, each.keys),
                    some(v, lanes, each.keys),
                )
                pieces.append(paddle.bmm(_weights(query, key, each), value))
            out.append(joined(pieces, 1))
        return joined(out, 0).reshape(qkv[0].shape)

    def backward(self, slope, *qkv):
        lanes = [x.flatten(0, 1) for x in (*qkv, slope)]
        grads = [
            _gradients(*(some(x, at_once) for x in lanes), blocks)
            for at_once, blocks in self._by_lanes(qkv[0].shape[1])
        ]
        return tuple(joined(each, 0).reshape(slope.shape) for each in zip(*grads, strict=True))

    def _by_lanes(self, heads: int) -> Iterator[tuple[slice, Iterator[Block]]]:
        """The blocks of the same lanes together."""
        return groupby(self.samples.blocks(heads), key=lambda block: block.lanes)


def _gradients(q, k, v, slope, blocks) -> tuple[paddle.Tensor, ...]:
    q_grads, k_grad, v_grad, every = [], None, None, slice(0, len(q))
    for each in blocks:
        query, down = some(q, every, each.queries), some(slope, every, each.queries)
        keys, values = some(k, every, each.keys), some(v, every, each.keys)
        weights = _weights(query, keys, each)
        v_grad = _more(v_grad, v, each.keys, paddle.matmul(weights, down, transpose_x=True))
        score = paddle.matmul(down, values, transpose_y=True)
        kernels.softmax_gradient(weights, score, _scale(q))
        k_grad = _more(k_grad, k, each.keys, paddle.matmul(score, query, transpose_x=True))
        q_grads.append(paddle.bmm(score, keys))
    return joined(q_grads, 1), k_grad, v_grad


def _more(total: paddle.Tensor | None, of, keys: slice, x) -> paddle.Tensor:
    """The gradient so far of all keys, or values, and what is new of some of them."""
    if total is None and x.shape == of.shape:
        return x
    total = paddle.zeros_like(of) if total is None else total
    total[:, keys] += x
    return total


def _weights(q, k, block) -> paddle.Tensor:
    scores = paddle.matmul(q, k, transpose_y=True)
    kernels.causal_softmax(scores, block.first, block.queries.start - block.keys.start, _scale(q))
    return scores


def _scale(q) -> np.float32:
    return np.float32(q.shape[-1] ** -0.5)

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
from paddle.autograd import PyLayer

from .attention import BLOCK_SCORES, through_softmax

QUERIES = 128  # of a long row at once: enough for the products, few enough to leave hidden keys out


@dataclass(frozen=True)
class Block:
    """Queries of some rows, or of some heads of one row, and the keys that at least one of them sees."""

    rows: slice
    lanes: slice
    queries: slice
    keys: slice


class Samples:
    """(B, T) of 0 (padding), 1, 2, ...: equal numbers of a row belong together; None: all are one sample.

    Samples packed into one row do not see one another; padding sees padding, which nobody reads.
    """

    def __init__(self, mask: paddle.Tensor | None, shape: tuple[int, int]):
        self.shape = tuple(shape)
        self.numbers = paddle.ones(self.shape, dtype="int64") if mask is None else mask
        self._kept: dict[tuple[int, int, int], paddle.Tensor] = {}

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

    def blocks(self, heads: int) -> Iterator[Block]:
        rows, tokens = self.shape
        if tokens <= QUERIES:
            at_once = max(1, BLOCK_SCORES // (heads * tokens**2))
            for start in range(0, rows, at_once):
                end = min(rows, start + at_once)
                whole = slice(0, tokens)
                yield Block(slice(start, end), slice(start * heads, end * heads), whole, whole)
            return
        # few heads with many queries each: a product of few rows is slow, and each block copies its keys
        at_once = max(1, min(heads, BLOCK_SCORES // (QUERIES * tokens)))
        for row in range(rows):
            for head in range(0, heads, at_once):
                lanes = slice(row * heads + head, row * heads + min(head + at_once, heads))
                for start in range(0, tokens, QUERIES):
                    keys = slice(self._first(row, start), min(tokens, start + QUERIES))
                    yield Block(slice(row, row + 1), lanes, slice(start, keys.stop), keys)

    def _first(self, row: int, query: int) -> int:
        """The first token of the sample that a token belongs to."""
        others = np.flatnonzero(self._on_host[row, :query] != self._on_host[row, query])
        return int(others[-1]) + 1 if others.size else 0

    def hidden(self, block: Block, heads: int) -> paddle.Tensor:
        """The number added to the scores of a block, (b * H, n, keys) or, for one row, (n, keys).

        All layers want the same ones, so those of rows that are not too long are kept.
        """
        key = (block.rows.start, block.queries.start, heads)
        if key in self._kept:
            return self._kept[key]
        made = self._hidden(block, heads)
        if self.shape[0] * self.shape[1] ** 2 <= 4 * BLOCK_SCORES:
            self._kept[key] = made
        return made

    def _hidden(self, block: Block, heads: int) -> paddle.Tensor:
        seen = self._on_host[block.rows, block.keys]
        if len(seen) == 1 and (seen == seen[0, 0]).all():  # comparing all numbers takes as long as attention
            return _later(block.queries.stop - block.queries.start, block.queries.start - block.keys.start)
        q, k = self.numbers[block.rows, block.queries], self.numbers[block.rows, block.keys]
        places = paddle.arange(self.shape[1])
        before = places[block.keys] <= places[block.queries].unsqueeze(1)  # (n, keys)
        allowed = (q.unsqueeze(2) == k.unsqueeze(1)) & before  # (b, n, keys)
        hidden = additive(allowed, paddle.float32)
        if hidden.shape[0] == 1:
            return hidden[0]
        # Paddle's broadcast over a middle axis takes fifteen times as long as a copy and a sum
        return hidden.unsqueeze(1).expand([hidden.shape[0], heads, *hidden.shape[1:]]).flatten(0, 1)


def _later(queries: int, before: int) -> paddle.Tensor:
    """What hides from each query the keys behind it, (queries, before + queries)."""
    order = additive(paddle.tril(paddle.ones([queries, queries], dtype="bool")), paddle.float32)
    return paddle.concat([paddle.zeros([queries, before]), order], axis=1)


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
    if q.place.is_gpu_place():
        return fused_attention(q, k, v, samples)
    return _BlockAttention.apply(q * q.shape[-1] ** -0.5, k, v, samples)


def fused_attention(q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, samples: Samples) -> paddle.Tensor:
    """As causal_attention, by Paddle's fused kernel, which needs no mask where rows are not packed."""
    q, k, v = (x.transpose([0, 2, 1, 3]) for x in (q, k, v))  # (B, T, H, d)
    mask = samples.allowed
    x = F.scaled_dot_product_attention(
        q, k, v, None if mask is None else additive(mask, q.dtype), is_causal=mask is None
    )
    return x.transpose([0, 2, 1, 3])


class _BlockAttention(PyLayer):
    """Of scaled q, block after block."""

    @staticmethod
    def forward(ctx, q, k, v, samples):
        shape, (q, k, v), out = q.shape, (x.flatten(0, 1) for x in (q, k, v)), []  # (L, T, d)
        for lanes, parts in _by_lanes(samples, shape[1]):
            queries, keys, values = q[lanes], k[lanes], v[lanes]
            pieces = [
                paddle.bmm(
                    _weights(queries[:, part.queries], keys[:, part.keys], hidden), values[:, part.keys]
                )
                for part, hidden in parts
            ]
            out.append(_joined(pieces, 1))
        out = _joined(out, 0)
        ctx.samples, ctx.heads = samples, shape[1]
        ctx.save_for_backward(q, k, v, out)
        return out.reshape(shape)

    @staticmethod
    def backward(ctx, slope):
        q, k, v, out = ctx.saved_tensor()
        shape, slope = slope.shape, slope.flatten(0, 1)
        shared = (slope * out).sum(-1, keepdim=True)  # (L, T, 1)
        grads = [
            _gradients(*(x[lanes] for x in (q, k, v, slope, shared)), parts)
            for lanes, parts in _by_lanes(ctx.samples, ctx.heads)
        ]
        return tuple(_joined(each, 0).reshape(shape) for each in zip(*grads, strict=True))


def _gradients(q, k, v, slope, shared, parts) -> tuple[paddle.Tensor, ...]:
    q_grads, k_grad, v_grad = [], paddle.zeros_like(k), paddle.zeros_like(v)
    for part, hidden in parts:
        query, down = q[:, part.queries], slope[:, part.queries]
        keys, values = k[:, part.keys], v[:, part.keys]
        weights = _weights(query, keys, hidden)
        v_grad[:, part.keys] += paddle.matmul(weights, down, transpose_x=True)
        score = through_softmax(weights, down, values, shared[:, part.queries])
        k_grad[:, part.keys] += paddle.matmul(score, query, transpose_x=True)
        q_grads.append(paddle.bmm(score, keys))
    return _joined(q_grads, 1), k_grad, v_grad


def _weights(q, k, hidden) -> paddle.Tensor:
    return F.softmax_(paddle.matmul(q, k, transpose_y=True).add_(hidden), axis=-1)


def _by_lanes(samples: Samples, heads: int) -> Iterator[tuple[slice, Iterator]]:
    """The blocks of the same lanes together, each with what it adds to its scores."""
    for lanes, blocks in groupby(samples.blocks(heads), key=lambda block: block.lanes):
        yield lanes, ((block, samples.hidden(block, heads)) for block in blocks)


def _joined(parts: list[paddle.Tensor], axis: int) -> paddle.Tensor:
    return parts[0] if len(parts) == 1 else paddle.concat(parts, axis=axis)

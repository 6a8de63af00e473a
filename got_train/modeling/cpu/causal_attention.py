"""Causal attention in blocks of queries that stay in the processor's cache, and of one token to cached ones.

A block sees no key that the mask would hide from all of its queries; the backward pass computes scores again.
"""

# B rows  T tokens of a row  H heads  K key-value heads  d head width  L room of a cache
# b sequences times heads, or some of them  n queries of a block  N keys that at least one of them sees

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import paddle
from paddle.autograd import PyLayer

from got_train.cpu import kernels
from got_train.cpu.parallel_jit import as_numpy
from got_train.modeling.causal_attention import PackedMask, repeat_kv
from got_train.modeling.causal_attention import decode_attention as decode_attention_of_many

from .autograd import masked, needs_grad
from .blocks import BLOCK_SCORES, cat, narrow

BLOCK_QUERIES = 128  # of a long row at once: enough for the products, few enough to leave hidden keys out


@dataclass(frozen=True)
class Block:
    """Queries of some rows, or of some heads of one row, and the keys that at least one of them sees.

    `heads` are numbered over all rows; `segment_start` (rows, n), int32, is the first key of each query.
    """

    heads: slice
    queries: slice
    keys: slice
    segment_start: np.ndarray


def causal_attention(q, k, v, mask: PackedMask) -> paddle.Tensor:
    """As modeling.causal_attention."""
    return CausalAttention.apply(q, *repeat_kv(k, v, q.shape[1]), mask)


class CausalAttention(PyLayer):
    """Of as many keys and values as queries, (B, H, T, d) each."""

    @staticmethod
    def forward(ctx, q, k, v, mask):
        ctx.needs_input_grad, ctx.mask = needs_grad(q, k, v), mask
        ctx.save_for_backward(q, k, v)
        shape, out = q.shape, []
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))  # (B*H, T, d)
        for heads, blocks in _by_heads(mask, shape[1]):
            block_outputs = []
            for block in blocks:
                q_block = narrow(q, heads, block.queries)
                k_block, v_block = narrow(k, heads, block.keys), narrow(v, heads, block.keys)
                block_outputs.append(paddle.bmm(_attn_weights(q_block, k_block, block), v_block))
            out.append(cat(block_outputs, 1))
        return cat(out, 0).reshape(shape)

    @staticmethod
    def backward(ctx, grad_output):
        inputs = [x.flatten(0, 1) for x in (*ctx.saved_tensor(), grad_output)]  # (B*H, T, d) each
        grads = [
            _backward(*(narrow(x, heads) for x in inputs), blocks)
            for heads, blocks in _by_heads(ctx.mask, grad_output.shape[1])
        ]
        grads = [cat(list(parts), 0).reshape(grad_output.shape) for parts in zip(*grads, strict=True)]
        return masked(grads, ctx.needs_input_grad)


def _by_heads(mask: PackedMask, heads: int) -> Iterator[tuple[slice, Iterator[Block]]]:
    """The blocks of the same heads together."""
    return groupby(_blocks(mask, heads), key=lambda block: block.heads)


def _blocks(mask: PackedMask, heads: int) -> Iterator[Block]:
    (rows, tokens), segment_start = mask.shape, mask.segment_start
    if tokens <= BLOCK_QUERIES:
        batch_rows = max(1, BLOCK_SCORES // (heads * tokens**2))
        for start in range(0, rows, batch_rows):
            end, whole = min(rows, start + batch_rows), slice(0, tokens)
            yield Block(slice(start * heads, end * heads), whole, whole, segment_start[start:end])
        return
    # few heads with many queries each: a product of few rows is slow, and each block copies its keys
    batch_heads = max(1, min(heads, BLOCK_SCORES // (BLOCK_QUERIES * tokens)))
    for row, first in enumerate(segment_start):
        for head in range(0, heads, batch_heads):
            block_heads = slice(row * heads + head, row * heads + min(head + batch_heads, heads))
            for start in range(0, tokens, BLOCK_QUERIES):
                queries = slice(start, min(tokens, start + BLOCK_QUERIES))
                keys = slice(int(first[start]), queries.stop)
                yield Block(block_heads, queries, keys, first[None, queries] - first[start])


def _attn_weights(q, k, block: Block) -> paddle.Tensor:
    """(b, n, d), (b, N, d) -> (b, n, N)."""
    scores = paddle.matmul(q, k, transpose_y=True)
    kernels.causal_softmax(scores, block.segment_start, block.queries.start - block.keys.start, _scale(q))
    return scores


def _backward(q, k, v, grad_output, blocks) -> tuple[paddle.Tensor, ...]:
    """By q, k and v of some heads, (b, T, d) each."""
    grad_q, grad_k, grad_v, all_heads = [], None, None, slice(0, len(q))
    for block in blocks:
        q_block, grad_block = (narrow(x, all_heads, block.queries) for x in (q, grad_output))
        k_block, v_block = (narrow(x, all_heads, block.keys) for x in (k, v))
        attn_weights = _attn_weights(q_block, k_block, block)
        grad_v = _accumulate(grad_v, v, block.keys, paddle.matmul(attn_weights, grad_block, transpose_x=True))
        dscore = paddle.matmul(grad_block, v_block, transpose_y=True)
        kernels.softmax_backward(attn_weights, dscore, _scale(q))
        grad_k = _accumulate(grad_k, k, block.keys, paddle.matmul(dscore, q_block, transpose_x=True))
        grad_q.append(paddle.bmm(dscore, k_block))
    return cat(grad_q, 1), grad_k, grad_v


def _accumulate(total: paddle.Tensor | None, whole, keys: slice, x) -> paddle.Tensor:
    """The gradient so far of all keys, or values, and what is new of some of them."""
    if total is None and x.shape == whole.shape:
        return x
    total = paddle.zeros_like(whole) if total is None else total
    total[:, keys] += x
    return total


def _scale(q) -> np.float32:
    return np.float32(q.shape[-1] ** -0.5)


def decode_attention(q, k, v, mask: paddle.Tensor) -> paddle.Tensor:
    """As modeling.causal_attention.decode_attention: of one new token by a kernel."""
    batch, heads, tokens, width = q.shape
    if tokens > 1:
        return decode_attention_of_many(q, k, v, mask)
    out, attn_weights = paddle.empty(q.shape), paddle.empty([batch * k.shape[1], mask.shape[-1]])
    grouped_q, grouped_out = (as_numpy(x).reshape(batch, k.shape[1], -1, width) for x in (q, out))
    kernels.decode_attention(grouped_q, k, v, mask.flatten(1), _scale(q), attn_weights, grouped_out)
    return out

"""Attention with decomposed relative positions in blocks of scores that stay in the processor's cache.

GOT's four global layers make 12 x 4096 x 4096 scores a view, 805 MB in float32, and autograd would keep them
twice; here the backward pass computes them again.
"""

# B windows times heads  b some of them  w window size  N = w*w patches  d head width
# n queries of some rows of a window

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import paddle
from paddle.autograd import PyLayer

from got_train.cpu import kernels

from .autograd import masked, needs_grad
from .blocks import BLOCK_SCORES, accumulate, cat, narrow


class RelPosAttention(PyLayer):
    """modeling.rel_pos_attention: q, k, v (B, N, d), tables of all distances (2w - 1, d) -> (B, N, d)."""

    @staticmethod
    def forward(ctx, q, k, v, rel_pos_h, rel_pos_w):
        ctx.needs_input_grad = needs_grad(q, k, v, rel_pos_h, rel_pos_w)
        ctx.save_for_backward(q, k, v, rel_pos_h, rel_pos_w)
        rel_pos, out = reversed_rel_pos(rel_pos_h, rel_pos_w), []
        for heads, query_blocks in _blocks(len(q), rel_pos_h.shape[0]):
            keys, values = narrow(k, heads), narrow(v, heads)
            for queries in query_blocks:
                attn_weights = _attn_weights(narrow(q, heads, queries), keys, rel_pos, queries.start)
                out.append(paddle.bmm(attn_weights, values).flatten(0, 1))
        return cat(out, 0).reshape(q.shape)

    @staticmethod
    def backward(ctx, grad_output):
        q, k, v, rel_pos_h, rel_pos_w = ctx.saved_tensor()
        rel_pos, grads = reversed_rel_pos(rel_pos_h, rel_pos_w), []
        rel_pos_grad = paddle.zeros_like(rel_pos)
        for heads, query_blocks in _blocks(len(q), rel_pos_h.shape[0]):
            inputs = [narrow(x, heads) for x in (q, k, v, grad_output)]
            grads.append(_backward(*inputs, rel_pos, rel_pos_grad, query_blocks))
        qkv_grads = [cat(list(parts), 0) for parts in zip(*grads, strict=True)]
        return masked((*qkv_grads, *rel_pos_grad.flip(0).chunk(2)), ctx.needs_input_grad)


def reversed_rel_pos(rel_pos_h: paddle.Tensor, rel_pos_w: paddle.Tensor) -> paddle.Tensor:
    """What a key so many columns, then rows after its query has: (2 * (2w - 1), d), in the order of keys."""
    return paddle.concat([rel_pos_h, rel_pos_w]).flip(0)


def _attn_weights(q, k, rel_pos, start: int) -> paddle.Tensor:
    """Softmax of some queries' scores over all keys: (b, n, d), (b, N, d) -> (b, n, N)."""
    scores, rel_terms = paddle.matmul(q, k, transpose_y=True), paddle.matmul(q, rel_pos, transpose_y=True)
    kernels.rel_pos_softmax(scores, rel_terms, start, np.float32(q.shape[-1] ** -0.5))
    return scores


def _backward(q, k, v, grad_output, rel_pos, rel_pos_grad, query_blocks) -> tuple[paddle.Tensor, ...]:
    """By q, k and v of some heads, (b, N, d) each; what rel_pos gets is added to rel_pos_grad."""
    grad_q, grad_k, grad_v, scale = [], None, None, np.float32(q.shape[-1] ** -0.5)
    all_heads = slice(0, len(q))
    for queries in query_blocks:
        q_block, grad_block = narrow(q, all_heads, queries), narrow(grad_output, all_heads, queries)
        attn_weights = _attn_weights(q_block, k, rel_pos, queries.start)
        grad_v = accumulate(grad_v, paddle.matmul(attn_weights, grad_block, transpose_x=True))
        dscore = paddle.matmul(grad_block, v, transpose_y=True)
        dterms = paddle.empty([*dscore.shape[:2], rel_pos.shape[0]])
        kernels.rel_pos_softmax_backward(attn_weights, dscore, queries.start, scale, dterms)
        grad_k = accumulate(grad_k, paddle.matmul(dscore, q_block, transpose_x=True))
        grad_q.append(paddle.bmm(dscore, k).add_(paddle.matmul(dterms, rel_pos)))
        rel_pos_grad.add_(paddle.matmul(dterms.flatten(0, 1), q_block.flatten(0, 1), transpose_x=True))
    return cat(grad_q, 1), grad_k, grad_v


def _blocks(heads: int, distances: int) -> Iterator[tuple[slice, list[slice]]]:
    """Some heads of windows, and their queries block by block."""
    side = (distances + 1) // 2
    batch_heads = max(1, BLOCK_SCORES // side**4)
    rows = max(1, min(side, BLOCK_SCORES // side**3))
    query_blocks = [slice(row * side, min(row + rows, side) * side) for row in range(0, side, rows)]
    for start in range(0, heads, batch_heads):
        yield slice(start, min(start + batch_heads, heads)), query_blocks

"""Attention over squares of patches with decomposed relative positions, which never holds all scores.

GOT's four global layers make 12 x 4096 x 4096 scores a view, 805 MB in float32, and autograd would keep them
twice. On the CPU blocks of them stay in the processor's cache and the backward pass makes them again; a GPU
gets one fused kernel.
"""

# B squares times heads  N patches of a square  w its side, N = w*w  d head width

from __future__ import annotations

from collections.abc import Iterator

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

BLOCK_SCORES = 4 << 20  # that exist at once; 16 MB in float32


def square_attention(
    q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, by_row: paddle.Tensor, by_column: paddle.Tensor
) -> paddle.Tensor:
    """Softmax of q.k + by_row[query, the key's row] + by_column[query, the key's column], times v.

    q (scaled already), k and v are (B, N, d), the position terms (B, N, w); gives (B, N, d).
    """
    if q.place.is_gpu_place():
        return folded_attention(q, k, v, by_row, by_column)
    return _BlockAttention.apply(q, k, v, by_row, by_column)


def folded_attention(
    q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, by_row: paddle.Tensor, by_column: paddle.Tensor
) -> paddle.Tensor:
    """As square_attention, by Paddle's fused kernel: [q, by_row, by_column] times [k, onehot, onehot].

    The kernel wants one width for q, k and v, a multiple of 8, and divides the scores by its root.
    """
    used = q.shape[-1] + 2 * by_row.shape[-1]
    width = -(-used // 8) * 8
    q = paddle.concat([q, by_row, by_column], axis=-1) * width**0.5
    places = _places(by_row.shape[-1]).astype(k.dtype).expand([k.shape[0], -1, -1])
    k = paddle.concat([k, places], axis=-1)  # (B, N, d + 2w)
    q, k, v_wide = (_widened(x, width).unsqueeze(2) for x in (q, k, v))  # (B, N, 1, width)
    return F.scaled_dot_product_attention(q, k, v_wide).squeeze(2)[:, :, : v.shape[-1]]


def _places(side: int) -> paddle.Tensor:
    """(1, N, 2w): a one in the row and in the column of each patch."""
    rows = F.one_hot(paddle.arange(side), side).unsqueeze(1).expand([side, side, side])
    return paddle.concat([rows, rows.transpose([1, 0, 2])], axis=-1).reshape([1, side * side, 2 * side])


def _widened(x: paddle.Tensor, width: int) -> paddle.Tensor:
    return paddle.concat([x, paddle.zeros([*x.shape[:2], width - x.shape[2]], x.dtype)], axis=-1)


class _BlockAttention(PyLayer):
    """square_attention, block after block of some squares or of some queries of one square."""

    @staticmethod
    def forward(ctx, q, k, v, by_row, by_column):
        out = []
        for squares, parts in _blocks(*q.shape[:2]):
            query, rows, columns = q[squares], by_row[squares], by_column[squares]
            keys, values = k[squares], v[squares]
            for part in parts:
                weights = _weights(query[:, part], keys, rows[:, part], columns[:, part])
                out.append(paddle.bmm(weights, values).flatten(0, 1))
        out = paddle.concat(out).reshape(v.shape)
        ctx.save_for_backward(q, k, v, by_row, by_column, out)
        return out

    @staticmethod
    def backward(ctx, slope):
        *inputs, out = ctx.saved_tensor()
        # what the weights of a query lose together, as they sum to 1
        shared = (slope * out).sum(-1, keepdim=True)  # (B, N, 1)
        grads = [
            _gradients(*(x[squares] for x in (*inputs, slope, shared)), parts)
            for squares, parts in _blocks(*out.shape[:2])
        ]
        return tuple(map(paddle.concat, zip(*grads, strict=True)))


def _gradients(q, k, v, by_row, by_column, slope, shared, parts) -> tuple[paddle.Tensor, ...]:
    """Of the five inputs for some squares, from the gradient of their output."""
    k_grad, v_grad, by_query = paddle.zeros_like(k), paddle.zeros_like(v), []
    for part in parts:
        query, down = q[:, part], slope[:, part]
        weights = _weights(query, k, by_row[:, part], by_column[:, part])
        v_grad.add_(paddle.matmul(weights, down, transpose_x=True))
        score = paddle.matmul(down, v, transpose_y=True).subtract_(shared[:, part]).multiply_(weights)
        k_grad.add_(paddle.matmul(score, query, transpose_x=True))
        placed = _on_square(score)
        by_query.append((paddle.bmm(score, k), placed.sum(-1), placed.sum(-2)))
    q_grad, row_grad, column_grad = (paddle.concat(each, axis=1) for each in zip(*by_query, strict=True))
    return q_grad, k_grad, v_grad, row_grad, column_grad


def _weights(q, k, by_row, by_column) -> paddle.Tensor:
    """Softmax of some queries' scores over all keys: (b, n, d), (b, N, d), twice (b, n, w) -> (b, n, N)."""
    scores = _on_square(paddle.matmul(q, k, transpose_y=True))  # (b, n, w, w)
    scores.add_(by_row.unsqueeze(-1))
    # Paddle's broadcast over a middle axis takes fifteen times as long as a copy and a sum
    scores.add_(by_column.unsqueeze(-2).expand(scores.shape))
    return F.softmax(scores.flatten(2), axis=-1)


def _on_square(x: paddle.Tensor) -> paddle.Tensor:
    side = round(x.shape[-1] ** 0.5)
    return x.reshape([*x.shape[:-1], side, side])


def _blocks(squares: int, tokens: int) -> Iterator[tuple[slice, list[slice]]]:
    """Some squares, and the parts of their queries that are taken one after the other."""
    at_once = max(1, BLOCK_SCORES // tokens**2)
    queries = max(1, min(tokens, BLOCK_SCORES // tokens))
    for start in range(0, squares, at_once):
        yield slice(start, start + at_once), [slice(q, q + queries) for q in range(0, tokens, queries)]

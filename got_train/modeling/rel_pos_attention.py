"""Attention over squares of patches with decomposed relative positions, which never holds all scores.

GOT's four global layers make 12 x 4096 x 4096 scores a view, 805 MB in float32, and autograd would keep them
twice. On the CPU blocks of them stay in the processor's cache and the backward pass makes them again; a GPU
gets one fused kernel.
"""

# B squares times heads  w side of a square  N = w*w patches  m some rows of it, n = m*w  d head width

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import paddle
import paddle.nn.functional as F

from got_train.cpu import kernels

from .layers import Function

BLOCK_SCORES = 4 << 20  # that exist at once; 16 MB in float32
STATIC_QUERIES = 512


class SquareAttention(Function):
    """Softmax of q.k * d^-0.5 + q.by_row[row - key's row] + q.by_column[column - key's column], times v.

    q, k, v and the result are (B, N, d); the vectors of all distances from 1 - w on are (2w - 1, d) each.
    """

    def plain(self, q, k, v, by_row, by_column):
        attend = folded_attention if paddle.in_dynamic_mode() else parted_attention
        return attend(q, k, v, *(_between(table) for table in (by_row, by_column)))

    def forward(self, q, k, v, by_row, by_column):
        tables, out = _behind(by_row, by_column), []
        for squares, parts in _blocks(len(q), by_row.shape[0]):
            keys, values = some(k, squares), some(v, squares)
            for part in parts:
                weights = _weights(some(q, squares, part), keys, tables, part.start)
                out.append(paddle.bmm(weights, values).flatten(0, 1))
        return joined(out, 0).reshape(q.shape)

    def backward(self, slope, q, k, v, by_row, by_column):
        tables, grads = _behind(by_row, by_column), []
        table_grad = paddle.zeros_like(tables)
        for squares, parts in _blocks(len(q), by_row.shape[0]):
            inputs = [some(each, squares) for each in (q, k, v, slope)]
            grads.append(_gradients(*inputs, tables, table_grad, parts))
        return (*(joined(list(kind), 0) for kind in zip(*grads, strict=True)), *table_grad.flip(0).chunk(2))


square_attention = SquareAttention()


def _behind(by_row: paddle.Tensor, by_column: paddle.Tensor) -> paddle.Tensor:
    """What a key so many columns, then rows behind its query has: (2 * (2w - 1), d), in the order of keys."""
    return paddle.concat([by_row, by_column]).flip(0)


def _weights(q, k, tables, start) -> paddle.Tensor:
    """Softmax of some queries' scores over all keys: (b, n, d), (b, N, d) -> (b, n, N)."""
    scores, distances = paddle.matmul(q, k, transpose_y=True), paddle.matmul(q, tables, transpose_y=True)
    kernels.square_softmax(scores, distances, start, np.float32(q.shape[-1] ** -0.5))
    return scores


def _gradients(q, k, v, slope, tables, table_grad, parts) -> tuple[paddle.Tensor, ...]:
    """Of the q, k and v of some squares, (b, N, d) each; those of the positions are added to theirs."""
    q_grads, k_grad, v_grad, scale = [], None, None, np.float32(q.shape[-1] ** -0.5)
    every = slice(0, len(q))
    for part in parts:
        query, down = some(q, every, part), some(slope, every, part)
        weights = _weights(query, k, tables, part.start)
        v_grad = _more(v_grad, paddle.matmul(weights, down, transpose_x=True))
        score = paddle.matmul(down, v, transpose_y=True)
        terms = paddle.empty([*score.shape[:2], tables.shape[0]])
        kernels.square_softmax_gradients(weights, score, part.start, scale, terms)
        k_grad = _more(k_grad, paddle.matmul(score, query, transpose_x=True))
        q_grads.append(paddle.bmm(score, k).add_(paddle.matmul(terms, tables)))
        table_grad.add_(paddle.matmul(terms.flatten(0, 1), query.flatten(0, 1), transpose_x=True))
    return joined(q_grads, 1), k_grad, v_grad


def _more(total: paddle.Tensor | None, x: paddle.Tensor) -> paddle.Tensor:
    return x if total is None else total.add_(x)


def some(x: paddle.Tensor, lanes: slice, part: slice | None = None) -> paddle.Tensor:
    """x[lanes, part], which Paddle would copy even where that is all of x."""
    part = part or slice(0, x.shape[1])
    every = [each.stop - each.start for each in (lanes, part)] == x.shape[:2]
    return x if every else x[lanes, part]


def joined(parts: list[paddle.Tensor], axis: int) -> paddle.Tensor:
    return parts[0] if len(parts) == 1 else paddle.concat(parts, axis=axis)


def _blocks(squares: int, distances: int) -> Iterator[tuple[slice, list[slice]]]:
    """Some squares, and the parts of their queries taken one after the other."""
    side = (distances + 1) // 2
    at_once = max(1, BLOCK_SCORES // side**4)
    rows = max(1, min(side, BLOCK_SCORES // side**3))
    parts = [slice(row * side, min(row + rows, side) * side) for row in range(0, side, rows)]
    for start in range(0, squares, at_once):
        yield slice(start, min(start + at_once, squares)), parts


def _between(table: paddle.Tensor) -> paddle.Tensor:
    """The vectors of all distances (2w - 1, d) -> those between any two rows, or columns, (w, w, d)."""
    side = (table.shape[0] + 1) // 2
    steps = paddle.arange(side)
    distance = (steps[:, None] - steps[None, :] + side - 1).flatten()
    return paddle.gather(table, distance).reshape([side, side, -1])


def folded_attention(q, k, v, by_row: paddle.Tensor, by_column: paddle.Tensor) -> paddle.Tensor:
    """As square_attention, with (w, w, d) vectors, by Paddle's fused kernel.

    It wants one width for q, k and v, a multiple of 8, and divides the scores by its root.
    """
    q, k = _folded(q, k, by_row, by_column)
    own, width = v.shape[-1], -(-q.shape[-1] // 8) * 8
    q, k, v_wide = (_widened(x, width).unsqueeze(2) for x in (q * width**0.5, k, v))  # (B, N, 1, width)
    return F.scaled_dot_product_attention(q, k, v_wide).squeeze(2)[:, :, :own]


def parted_attention(q, k, v, by_row: paddle.Tensor, by_column: paddle.Tensor) -> paddle.Tensor:
    """The same in operators that a static graph can have; some queries after the others."""
    q, k = _folded(q, k, by_row, by_column)
    parts = []
    for start in range(0, q.shape[1], STATIC_QUERIES):
        scores = paddle.matmul(q[:, start : start + STATIC_QUERIES], k, transpose_y=True)
        parts.append(paddle.matmul(F.softmax(scores, axis=-1), v))
    return joined(parts, 1)


def _folded(q, k, by_row, by_column) -> tuple[paddle.Tensor, paddle.Tensor]:
    """q with its position terms behind it, (B, N, d + 2w); k with the places that these are for."""
    rows, columns = _terms(q, by_row, by_column)
    q = paddle.concat([q * q.shape[-1] ** -0.5, rows, columns], axis=-1)
    places = _places(by_row.shape[0]).astype(k.dtype).expand([k.shape[0], -1, -1])
    return q, paddle.concat([k, places], axis=-1)


def _terms(q, by_row, by_column) -> tuple[paddle.Tensor, paddle.Tensor]:
    """What a key's row and column add for each query: (b, N, d) -> twice (b, N, w)."""
    side = by_column.shape[0]
    q = q.reshape([q.shape[0], -1, side, q.shape[-1]])  # (b, w, w, d)
    rows = _line_by_line(q, by_row)
    columns = _line_by_line(q.transpose([0, 2, 1, 3]), by_column).transpose([0, 2, 1, 3])
    return rows.flatten(1, 2), columns.flatten(1, 2)


def _line_by_line(q, vectors) -> paddle.Tensor:
    """(b, m, l, d) with a line's vectors (m, w, d) -> (b, m, l, w).

    bmm: a product of operands of unequal rank has a broken backward on Paddle's CPU.
    """
    lines = q.transpose([1, 0, 2, 3]).flatten(1, 2)  # (m, b * l, d)
    found = paddle.matmul(lines, vectors, transpose_y=True)  # (m, b * l, w)
    return found.reshape([found.shape[0], q.shape[0], -1, found.shape[-1]]).transpose([1, 0, 2, 3])


def _places(side: int) -> paddle.Tensor:
    """(1, N, 2w): a one in the row and in the column of each patch."""
    rows = F.one_hot(paddle.arange(side), side).unsqueeze(1).expand([side, side, side])
    return paddle.concat([rows, rows.transpose([1, 0, 2])], axis=-1).reshape([1, side * side, 2 * side])


def _widened(x: paddle.Tensor, width: int) -> paddle.Tensor:
    return paddle.concat([x, paddle.zeros([*x.shape[:2], width - x.shape[2]], x.dtype)], axis=-1)

"""Attention over squares of patches with decomposed relative positions, which never holds all scores.

GOT's four global layers make 12 x 4096 x 4096 scores a view, 805 MB in float32, and autograd would keep them
twice. On the CPU blocks of them stay in the processor's cache and the backward pass makes them again; a GPU
gets one fused kernel.
"""

# B squares times heads  w side of a square  N = w*w patches  m some rows of it, n = m*w  d head width

from __future__ import annotations

from collections.abc import Iterator

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

BLOCK_SCORES = 4 << 20  # that exist at once; 16 MB in float32
STATIC_QUERIES = 512


def square_attention(qkv: paddle.Tensor, by_row: paddle.Tensor, by_column: paddle.Tensor) -> paddle.Tensor:
    """Softmax of q.k * d^-0.5 + q.by_row[its row, the key's row] + q.by_column[its column, the key's column].

    qkv is (3, B, N, d), the vectors of relative positions are (w, w, d) each; gives (B, N, d), times v.
    """
    if not paddle.in_dynamic_mode():
        return parted_attention(qkv, by_row, by_column)
    if qkv.place.is_gpu_place():
        return folded_attention(qkv, by_row, by_column)
    return _BlockAttention.apply(qkv, by_row, by_column)


def folded_attention(qkv: paddle.Tensor, by_row: paddle.Tensor, by_column: paddle.Tensor) -> paddle.Tensor:
    """As square_attention, by Paddle's fused kernel.

    It wants one width for q, k and v, a multiple of 8, and divides the scores by its root.
    """
    q, k, v = _folded(qkv, by_row, by_column)
    own, width = v.shape[-1], -(-q.shape[-1] // 8) * 8
    q, k, v_wide = (_widened(x, width).unsqueeze(2) for x in (q * width**0.5, k, v))  # (B, N, 1, width)
    return F.scaled_dot_product_attention(q, k, v_wide).squeeze(2)[:, :, :own]


def parted_attention(qkv: paddle.Tensor, by_row: paddle.Tensor, by_column: paddle.Tensor) -> paddle.Tensor:
    """As square_attention, in operators that a static graph can have; some queries after the others."""
    q, k, v = _folded(qkv, by_row, by_column)
    parts = []
    for start in range(0, q.shape[1], STATIC_QUERIES):
        scores = paddle.matmul(q[:, start : start + STATIC_QUERIES], k, transpose_y=True)
        parts.append(paddle.matmul(F.softmax(scores, axis=-1), v))
    return paddle.concat(parts, axis=1) if len(parts) > 1 else parts[0]


def _folded(qkv, by_row, by_column) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """q with its position terms behind it, (B, N, d + 2w); k with the places that these are for; and v."""
    q, k, v = qkv[0], qkv[1], qkv[2]
    rows, columns = _terms(q, by_row, by_column)
    q = paddle.concat([q * q.shape[-1] ** -0.5, rows, columns], axis=-1)
    places = _places(by_row.shape[0]).astype(k.dtype).expand([k.shape[0], -1, -1])
    return q, paddle.concat([k, places], axis=-1), v


def _terms(q, by_row, by_column) -> tuple[paddle.Tensor, paddle.Tensor]:
    """What a key's row and column add for some rows of queries: (b, n, d) -> twice (b, n, w)."""
    side = by_column.shape[0]
    q = q.reshape([q.shape[0], -1, side, q.shape[-1]])  # (b, m, w, d)
    rows = _line_by_line(q, by_row)
    columns = _line_by_line(q.transpose([0, 2, 1, 3]), by_column).transpose([0, 2, 1, 3])
    return rows.flatten(1, 2), columns.flatten(1, 2)


def _line_by_line(q, vectors) -> paddle.Tensor:
    """(b, m, l, d) with a line's vectors (m, w, d) -> (b, m, l, w).

    bmm: a product of operands of unequal rank has a broken backward on Paddle's CPU.
    """
    found = paddle.matmul(_lines(q), vectors, transpose_y=True)  # (m, b * l, w)
    return found.reshape([found.shape[0], q.shape[0], -1, found.shape[-1]]).transpose([1, 0, 2, 3])


def _lines(x) -> paddle.Tensor:
    """(b, m, l, d) -> (m, b * l, d)."""
    return x.transpose([1, 0, 2, 3]).flatten(1, 2)


def _places(side: int) -> paddle.Tensor:
    """(1, N, 2w): a one in the row and in the column of each patch."""
    rows = F.one_hot(paddle.arange(side), side).unsqueeze(1).expand([side, side, side])
    return paddle.concat([rows, rows.transpose([1, 0, 2])], axis=-1).reshape([1, side * side, 2 * side])


def _widened(x: paddle.Tensor, width: int) -> paddle.Tensor:
    return paddle.concat([x, paddle.zeros([*x.shape[:2], width - x.shape[2]], x.dtype)], axis=-1)


class _BlockAttention(PyLayer):
    """square_attention, block after block of some squares or of some rows of queries of one square."""

    @staticmethod
    def forward(ctx, qkv, by_row, by_column):
        out = []
        for squares, parts in _blocks(qkv.shape[1], by_row.shape[0]):
            q, k, v = qkv[:, squares].unbind(0)
            for rows, part in parts:
                weights = _weights(q[:, part], k, by_row[rows], by_column)
                out.append(paddle.bmm(weights, v).flatten(0, 1))
        out = paddle.concat(out).reshape(qkv.shape[1:])
        ctx.wanted = [not x.stop_gradient for x in (qkv, by_row, by_column)]
        ctx.save_for_backward(qkv, by_row, by_column, out)
        return out

    @staticmethod
    def backward(ctx, slope):
        qkv, by_row, by_column, out = ctx.saved_tensor()
        shared = (slope * out).sum(-1, keepdim=True)  # (B, N, 1)
        grads, row_grad, column_grad = [], paddle.zeros_like(by_row), paddle.zeros_like(by_column)
        for squares, parts in _blocks(qkv.shape[1], by_row.shape[0]):
            held = (qkv[:, squares], slope[squares], shared[squares])
            grads.append(_gradients(*held, by_row, by_column, row_grad, column_grad, parts))
        found = (paddle.concat(grads, axis=1), row_grad, column_grad)
        return tuple(grad if wanted else None for grad, wanted in zip(found, ctx.wanted, strict=True))


def _gradients(qkv, slope, shared, by_row, by_column, row_grad, column_grad, parts) -> paddle.Tensor:
    """Of the q, k and v of some squares, (3, b, N, d); those of the positions are added to theirs."""
    (q, k, v), q_grads = qkv.unbind(0), []
    k_grad, v_grad, scale = paddle.zeros_like(k), paddle.zeros_like(v), q.shape[-1] ** -0.5
    for rows, part in parts:
        query, down = q[:, part], slope[:, part]
        weights = _weights(query, k, by_row[rows], by_column)
        v_grad.add_(paddle.matmul(weights, down, transpose_x=True))
        score = through_softmax(weights, down, v, shared[:, part])
        k_grad.add_(paddle.matmul(score, query * scale, transpose_x=True))
        q_grad = paddle.bmm(score, k).scale_(scale)
        q_grads.append(
            q_grad.add_(_through_positions(query, score, rows, by_row, by_column, row_grad, column_grad))
        )
    return paddle.stack([paddle.concat(q_grads, axis=1), k_grad, v_grad])


def through_softmax(weights, slope, values, shared) -> paddle.Tensor:
    """The gradient of scores (b, n, N), from the weights that they make and the gradient of weights x values.

    `shared` (b, n, 1) is slope x output summed: what the weights of a query lose together, as they sum to 1.
    """
    score = paddle.matmul(slope, values, transpose_y=True)
    return score.subtract_(shared.expand(score.shape)).multiply_(weights)


def _through_positions(q, score, rows, by_row, by_column, row_grad, column_grad) -> paddle.Tensor:
    """The gradient of q by the terms of its positions; those of their vectors are added to the totals."""
    side = by_column.shape[0]
    q, placed = (
        x.reshape([x.shape[0], -1, side, *tail]) for x, tail in ((q, [q.shape[-1]]), (score, [side, side]))
    )
    first, row_own = _line_gradients(q, _over_columns(placed), by_row[rows])
    second, column_own = _line_gradients(
        q.transpose([0, 2, 1, 3]), _over_rows(placed).transpose([0, 2, 1, 3]), by_column
    )
    row_grad[rows] += row_own
    column_grad.add_(column_own)
    return first.add_(second.transpose([0, 2, 1, 3])).flatten(1, 2)


def _line_gradients(q, term, vectors) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Of q (b, m, l, d) and of the vectors (m, w, d), from that of their product (b, m, l, w)."""
    term = _lines(term)  # (m, b * l, w)
    q_grad = paddle.bmm(term, vectors).reshape([q.shape[1], q.shape[0], q.shape[2], -1])
    return q_grad.transpose([1, 0, 2, 3]), paddle.matmul(term, _lines(q), transpose_x=True)


def _over_columns(placed) -> paddle.Tensor:
    """(b, m, w, w, w) summed over the keys' columns; Paddle's own sum takes four times as long."""
    return paddle.matmul(placed, paddle.ones([placed.shape[-1], 1])).squeeze(-1)


def _over_rows(placed) -> paddle.Tensor:
    """The same over the keys' rows."""
    ones = paddle.ones([1, 1, placed.shape[-1]]).expand([placed[..., 0, 0].size, 1, -1])
    return paddle.bmm(ones, placed.flatten(0, 2)).reshape([*placed.shape[:3], -1])


def _weights(q, k, by_row, by_column) -> paddle.Tensor:
    """Softmax of some rows of queries' scores over all keys: (b, n, d), (b, N, d) -> (b, n, N)."""
    side = by_column.shape[0]
    scores = paddle.matmul(q * q.shape[-1] ** -0.5, k, transpose_y=True)
    scores = scores.reshape([*scores.shape[:2], side, side])
    rows, columns = _terms(q, by_row, by_column)
    scores.add_(rows.unsqueeze(-1))
    # Paddle's broadcast over a middle axis takes fifteen times as long as a copy and a sum
    scores.add_(columns.unsqueeze(-2).expand(scores.shape))
    return F.softmax_(scores.flatten(2), axis=-1)


def _blocks(squares: int, side: int) -> Iterator[tuple[slice, list[tuple[slice, slice]]]]:
    """Some squares, and the parts of their queries taken one after the other, as rows and as patches."""
    at_once = max(1, BLOCK_SCORES // side**4)
    rows = max(1, min(side, BLOCK_SCORES // side**3))
    parts = [slice(row, min(row + rows, side)) for row in range(0, side, rows)]
    for start in range(0, squares, at_once):
        yield (
            slice(start, start + at_once),
            [(part, slice(part.start * side, part.stop * side)) for part in parts],
        )

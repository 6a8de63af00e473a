"""Attention over windows of patches with decomposed relative positions, by Paddle's fused attention.

GOT's four global layers make 12 x 4096 x 4096 scores a view, 805 MB in float32, which a fused kernel never
holds. It takes no matrix of biases for each head, so the position terms become further channels of q and k.
"""

# B windows times heads  w window size  N = w*w patches  d head width

from __future__ import annotations

import paddle
import paddle.nn.functional as F


def rel_pos_attention(q, k, v, rel_pos_h, rel_pos_w):
    """Softmax of q.k * d^-0.5 + q.R_h[row - key's row] + q.R_w[column - key's column], times v.

    q, k, v and the result are (B, N, d), the vectors of all distances from 1 - w on (2w - 1, d) each. As in
    segment-anything the position terms take the unscaled q.
    """
    q, k = fold_rel_pos(q, k, rel_pos_h, rel_pos_w)  # (B, N, d + 2w)
    # the kernel wants one width for q, k and v, a multiple of 8, and divides the scores by its root
    head_width, width = v.shape[-1], -(-q.shape[-1] // 8) * 8
    q = q * width**0.5
    q, k, v = (F.pad(x, [0, 0, 0, 0, 0, width - x.shape[-1]]).unsqueeze(2) for x in (q, k, v))  # (B, N, 1, .)
    return F.scaled_dot_product_attention(q, k, v).squeeze(2)[:, :, :head_width]


def get_rel_pos(size: int, rel_pos: paddle.Tensor) -> paddle.Tensor:
    """The vectors of all distances (2w - 1, d) -> those between any two rows, or columns, (w, w, d)."""
    steps = paddle.arange(size)
    distance = steps[:, None] - steps[None, :] + size - 1
    # not gather, whose gradient a GPU adds up in any order
    return F.embedding(distance, rel_pos)


def fold_rel_pos(q, k, rel_pos_h, rel_pos_w) -> tuple[paddle.Tensor, paddle.Tensor]:
    """q and k (B, N, d) -> (B, N, d + 2w), whose products are the scores with their position terms.

    q gets what a key in each row and in each column adds; k a one for its own row and for its own column.
    """
    size = (rel_pos_h.shape[0] + 1) // 2
    r_q = q.reshape([q.shape[0], size, size, q.shape[-1]])  # (B, w, w, d)
    rel_h = _query_terms(r_q, get_rel_pos(size, rel_pos_h))  # (B, w, w, w), of the key's row
    rel_w = _query_terms(r_q.transpose([0, 2, 1, 3]), get_rel_pos(size, rel_pos_w)).transpose([0, 2, 1, 3])
    q = paddle.concat([q * q.shape[-1] ** -0.5, rel_h.flatten(1, 2), rel_w.flatten(1, 2)], axis=-1)
    row = F.one_hot(paddle.arange(size), size).unsqueeze(1).expand([size, size, size])
    row_and_column = paddle.concat([row, row.transpose([1, 0, 2])], axis=-1)  # (w, w, 2w)
    one_hot = row_and_column.reshape([1, size * size, 2 * size]).astype(k.dtype)
    return q, paddle.concat([k, one_hot.expand([k.shape[0], -1, -1])], axis=-1)


def _query_terms(q, vectors):
    """einsum("bmld,mwd->bmlw"): queries (B, m, l, d) of line m by that line's vectors (m, w, d).

    By bmm, as a product of operands of unequal rank has a broken backward on Paddle's CPU.
    """
    lines = q.transpose([1, 0, 2, 3]).flatten(1, 2)  # (m, B * l, d)
    terms = paddle.matmul(lines, vectors, transpose_y=True)  # (m, B * l, w)
    return terms.reshape([terms.shape[0], q.shape[0], -1, terms.shape[-1]]).transpose([1, 0, 2, 3])

"""Attention on a GPU: Paddle's fused kernels in half precision, blocks of queries in what these do not take.

Packed rows go to FlashMask, which reads for each key the first later token that does not see it, so memory
is linear in tokens. Float32, and GPUs before compute capability 8.0, take blocks, whose scores are made again
in the backward pass. Blocks are plain Paddle and run on a CPU, where tests compare them.
"""

# B rows  T tokens of a row  H heads  K key-value heads  d head width
# G rows or windows, times heads  N queries and keys of each  c width of q and k

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

from got_train import compat
from got_train.modeling import causal_attention as plain
from got_train.modeling.causal_attention import PackedMask

BLOCK_QUERIES = 512
BLOCK_BYTES = 128 << 20  # of float32 scores that exist at once; a view's 805 MB in GOT otherwise
MIN_CAPABILITY = (8, 0)  # of flash attention; paddle/nn/functional/sdpa.py, MINIMUM_SM_VERSION
MAX_HEAD_WIDTH = 256  # of flash attention, which wants a multiple of 8; sdpa.py, check_head_dim_size_flash


def has_fused_kernel(dtype: paddle.dtype, head_width: int) -> bool:
    """Whether Paddle's flash attention, and FlashMask, take such heads on this GPU."""
    return (
        dtype in (paddle.float16, paddle.bfloat16)
        and head_width % 8 == 0
        and head_width <= MAX_HEAD_WIDTH
        and compat.has_flash_attention()
        and paddle.device.cuda.get_device_capability() >= MIN_CAPABILITY
    )


def causal_attention(q, k, v, mask: PackedMask, dropout: float = 0.0) -> paddle.Tensor:
    """As modeling.causal_attention; dropout of the weights by the fused kernels alone."""
    k, v = repeat_kv(k, v, q.shape[1])
    if not has_fused_kernel(q.dtype, q.shape[-1]):
        return blockwise_causal_attention(q, k, v, mask)
    if mask.is_causal and not dropout:
        return plain.causal_attention(q, k, v, mask)  # Paddle's flash attention
    q, k, v = (x.transpose([0, 2, 1, 3]) for x in (q, k, v))  # (B, T, H, d)
    x = F.flashmask_attention(q, k, v, startend_row_indices(mask), dropout=dropout, causal=True)
    return x.transpose([0, 2, 1, 3])


def startend_row_indices(mask: PackedMask) -> paddle.Tensor:
    """(B, 1, T, 1) int32, FlashMask's form of a causal mask: from this token on nobody sees the key."""
    return paddle.to_tensor(mask.segment_end).unsqueeze([1, 3])


def repeat_kv(k: paddle.Tensor, v: paddle.Tensor, heads: int) -> tuple[paddle.Tensor, paddle.Tensor]:
    """As modeling.causal_attention's, by expand: repeat_interleave's gradient is summed in any order."""
    group = heads // k.shape[1]
    if group == 1:
        return k, v
    return tuple(x.unsqueeze(2).expand([-1, -1, group, -1, -1]).flatten(1, 2) for x in (k, v))


def blockwise_causal_attention(q, k, v, mask: PackedMask) -> paddle.Tensor:
    """q, k and v (B, H, T, d) -> (B, H, T, d)."""
    heads = q.shape[1]
    q, k, v = (x.flatten(0, 1) for x in (q * q.shape[-1] ** -0.5, k, v))  # (B*H, T, d)
    first = paddle.to_tensor(mask.segment_start.repeat(heads, axis=0))  # (B*H, T)
    return BlockwiseAttention.apply(q, k, v, first).reshape([-1, heads, *v.shape[1:]])


def blockwise_attention(q, k, v) -> paddle.Tensor:
    """Of scores q.k that need no scale: q and k (G, N, c), v (G, N, d) -> (G, N, d)."""
    return BlockwiseAttention.apply(q, k, v, None)


class BlockwiseAttention(PyLayer):
    """Softmax of q.k over all keys, or over those from `first` (G, N) up to the query's own, times v."""

    @staticmethod
    def forward(ctx, q, k, v, first):
        ctx.needs_grad, ctx.first = [not x.stop_gradient for x in (q, k, v)], first
        ctx.save_for_backward(q, k, v)
        out = []
        for group in _groups(q):
            rows = [
                paddle.bmm(_attn_weights(q, k, first, group, queries), v[group, _keys(first, queries)])
                for queries in _queries(q)
            ]
            out.append(paddle.concat(rows, axis=1))
        return paddle.concat(out)

    @staticmethod
    def backward(ctx, grad_output):
        q, k, v = ctx.saved_tensor()
        grads = [[], [], []]
        for group in _groups(q):
            grad_q, grad_k, grad_v = [], paddle.zeros_like(k[group]), paddle.zeros_like(v[group])
            for queries in _queries(q):
                keys, grad = _keys(ctx.first, queries), grad_output[group, queries]
                weights = _attn_weights(q, k, ctx.first, group, queries)
                grad_v[:, keys] += paddle.matmul(weights, grad, transpose_x=True)
                grad_weights = paddle.matmul(grad, v[group, keys], transpose_y=True)
                weighted = (weights * grad_weights).astype("float32")
                grad_scores = weighted - weights * weighted.sum(-1, keepdim=True)
                grad_scores = grad_scores.astype(q.dtype)
                grad_q.append(paddle.bmm(grad_scores, k[group, keys]))
                grad_k[:, keys] += paddle.matmul(grad_scores, q[group, queries], transpose_x=True)
            for parts, part in zip(grads, (paddle.concat(grad_q, axis=1), grad_k, grad_v), strict=True):
                parts.append(part)
        grads = [
            paddle.concat(parts) if needed else None
            for parts, needed in zip(grads, ctx.needs_grad, strict=True)
        ]
        return tuple(grads) if ctx.first is None else (*grads, None)


def _groups(q) -> list[slice]:
    count, keys = q.shape[:2]
    size = max(1, BLOCK_BYTES // (4 * min(keys, BLOCK_QUERIES) * keys))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _queries(q) -> list[slice]:
    tokens = q.shape[1]
    return [slice(start, min(start + BLOCK_QUERIES, tokens)) for start in range(0, tokens, BLOCK_QUERIES)]


def _keys(first, queries: slice) -> slice:
    """Those that some of the queries may see; without a mask all."""
    return slice(None) if first is None else slice(0, queries.stop)


def _attn_weights(q, k, first, group: slice, queries: slice) -> paddle.Tensor:
    """(g, n, keys), in the type of q."""
    scores = paddle.matmul(q[group, queries], k[group, _keys(first, queries)], transpose_y=True)
    scores = scores.astype("float32")
    if first is not None:
        positions = paddle.arange(queries.stop, dtype=first.dtype)
        allowed = positions >= first[group, queries].unsqueeze(-1)  # (g, n, keys)
        allowed &= positions <= positions[queries].unsqueeze(-1)
        scores = paddle.where(allowed, scores, paddle.full([], paddle.finfo(scores.dtype).min))
    return F.softmax(scores, axis=-1).astype(q.dtype)

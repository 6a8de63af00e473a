"""Attention of tokens over those before them in the same segment, and of new tokens over cached ones."""

# B rows  T tokens of a row  H heads  K key-value heads  d head width  L tokens that a cache has room for

from __future__ import annotations

from functools import cached_property

import numpy as np
import paddle
import paddle.nn.functional as F


class PackedMask:
    """Segment ids (B, T) of 0 (padding), 1, 2, ...: equal ids stand together, one segment; None: all one.

    Samples packed into one row do not see one another; padding sees padding, which nobody reads.
    """

    def __init__(self, segment_ids: paddle.Tensor | None, shape: tuple[int, int]):
        self.shape = tuple(shape)
        self.segment_ids = paddle.ones(self.shape, dtype="int64") if segment_ids is None else segment_ids

    @cached_property
    def is_causal(self) -> bool:
        """Whether the order of tokens says all: one segment a row, and padding, if any, after it."""
        return all(map(_is_one_segment, self._on_host))

    @property
    def causal_mask(self) -> paddle.Tensor:
        """bool (B, 1, T, T): what each token may see."""
        tokens = self.shape[1]
        same_segment = self.segment_ids.unsqueeze(1) == self.segment_ids.unsqueeze(2)  # (B, T, T)
        return (same_segment & paddle.tril(paddle.ones([tokens, tokens], dtype="bool"))).unsqueeze(1)

    @cached_property
    def segment_start(self) -> np.ndarray:
        """(B, T) int32: the first token of the segment that each belongs to."""
        starts = np.where(self._is_first, np.arange(self.shape[1], dtype="int32"), 0)
        return np.maximum.accumulate(starts, axis=1, dtype="int32")

    @cached_property
    def segment_end(self) -> np.ndarray:
        """(B, T) int32: the token after the last of the segment that each belongs to."""
        tokens = self.shape[1]
        is_last = np.roll(self._is_first, -1, axis=1)
        is_last[:, -1] = True
        ends = np.where(is_last, np.arange(1, tokens + 1, dtype="int32"), tokens)[:, ::-1]
        return np.ascontiguousarray(np.minimum.accumulate(ends, axis=1, dtype="int32")[:, ::-1])

    @cached_property
    def _is_first(self) -> np.ndarray:
        """(B, T) bool: where a segment begins."""
        segment_ids = self._on_host
        is_first = np.diff(segment_ids, axis=1, prepend=-1) != 0
        for row, starts in zip(segment_ids, is_first, strict=True):
            segments = row[starts & (row > 0)]
            if segments.size > np.unique(segments).size:
                raise ValueError(
                    f"attention_mask: segments {segments.tolist()} of a row; expected each in one piece"
                )
        return is_first

    @cached_property
    def _on_host(self) -> np.ndarray:
        return self.segment_ids.numpy()


def _is_one_segment(row: np.ndarray) -> bool:
    length = int((row > 0).sum())
    return bool((row[:length] == row[0]).all()) and row[0] > 0


def to_additive_mask(allowed: paddle.Tensor, dtype: paddle.dtype) -> paddle.Tensor:
    """A bool mask as the number added to the scores: 0 where allowed, the type's minimum elsewhere."""
    return paddle.where(allowed, paddle.zeros([], dtype), paddle.full([], paddle.finfo(dtype).min, dtype))


def repeat_kv(k: paddle.Tensor, v: paddle.Tensor, heads: int) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Keys and values (B, K, T, d) for every head of their group, (B, H, T, d)."""
    group = heads // k.shape[1]
    return (k, v) if group == 1 else tuple(paddle.repeat_interleave(x, group, axis=1) for x in (k, v))


def causal_attention(q, k, v, mask: PackedMask) -> paddle.Tensor:
    """q (B, H, T, d), k and v (B, K, T, d) -> (B, H, T, d); scores are divided by the root of d."""
    k, v = repeat_kv(k, v, q.shape[1])
    attn_mask = None if mask.is_causal else to_additive_mask(mask.causal_mask, q.dtype)
    q, k, v = (x.transpose([0, 2, 1, 3]) for x in (q, k, v))  # (B, T, H, d)
    x = F.scaled_dot_product_attention(q, k, v, attn_mask, is_causal=mask.is_causal)
    return x.transpose([0, 2, 1, 3])


def decode_attention(q, k, v, mask: paddle.Tensor) -> paddle.Tensor:
    """Queries (B, H, T, d) over the first N keys (B, K, L, d) and values (B, K, d, L) -> (B, H, T, d).

    The heads of a group share their keys, so they are read as further queries and the cache is not repeated.
    The mask (B, 1, T, N) joins in float32: float16 would turn a hidden score into -inf and padding into nan.
    """
    batch, heads, tokens, width = q.shape
    group, length = heads // k.shape[1], mask.shape[-1]
    k, v = k[:, :, :length], v[:, :, :, :length]
    if group > 1:
        q = q.reshape([batch, -1, group * tokens, width])
        mask = mask.tile([1, 1, group, 1])
    scores = paddle.matmul(q * width**-0.5, k, transpose_y=True).astype("float32")
    # Paddle's broadcast over a middle axis takes ten times as long as a copy
    attn_weights = F.softmax(scores + mask.expand(scores.shape), axis=-1)
    x = paddle.matmul(attn_weights.astype(v.dtype), v, transpose_y=True)
    return x.reshape([batch, heads, tokens, width])

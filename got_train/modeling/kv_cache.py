"""Keys and values of the tokens that a decoder has read, for every layer. Computes nothing."""

# B batch  T new tokens  L cached tokens  K key-value heads  d head width

from __future__ import annotations

import paddle

from .causal_attention import to_additive_mask

CACHE_BLOCK = 64  # tokens by which a cache grows


class KVCache:
    """Allocated in blocks of CACHE_BLOCK tokens and written in place.

    Values stand as (B, K, d, L): a product of a few weights with them takes two thirds of the time so.
    `attention_mask` (B, T) of the prompt, 0 on padding, which stays hidden for good.
    """

    def __init__(self, layers: int, attention_mask: paddle.Tensor):
        self.keys: list = [None] * layers
        self.values: list = [None] * layers
        self.length = 0
        self.padding = attention_mask == 0  # (B, T) bool

    def update(self, layer: int, k: paddle.Tensor, v: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Add (B, K, T, d) after the cached ones; returns all up to the capacity, zeros at the end."""
        v = v.transpose([0, 1, 3, 2])
        for buffers, new, axis in ((self.keys, k, 2), (self.values, v, 3)):
            buffers[layer] = self._append(buffers[layer], new, axis)
        return self.keys[layer], self.values[layer]

    def _append(self, buffer: paddle.Tensor | None, new: paddle.Tensor, axis: int) -> paddle.Tensor:
        end = self.length + new.shape[axis]
        capacity = -(-end // CACHE_BLOCK) * CACHE_BLOCK
        if buffer is None:
            return _pad(new, capacity, axis)
        buffer = _pad(buffer, capacity, axis)
        self.write(buffer, (*[slice(None)] * axis, slice(self.length, end)), new)
        return buffer

    def write(self, buffer: paddle.Tensor, index: tuple[slice, ...], new: paddle.Tensor) -> None:
        buffer[index] = new

    def mask(self, tokens: int) -> paddle.Tensor:
        """What new tokens may see, as a number added to the scores: (B, 1, T, length), float32."""
        end = self.length + tokens
        allowed = paddle.arange(end) <= paddle.arange(self.length, end).unsqueeze(1)  # (T, length)
        answer = paddle.zeros([self.padding.shape[0], end - self.padding.shape[1]], dtype="bool")
        hidden = paddle.concat([self.padding, answer], axis=1)  # (B, length)
        return to_additive_mask(allowed & ~hidden.unsqueeze([1, 2]), paddle.float32)

    def advance(self, tokens: int) -> None:
        """To be called when all layers have added their new tokens."""
        self.length += tokens

    def select_rows(self, rows: paddle.Tensor) -> None:
        """Go on with these rows of the batch only, in this order: finished ones leave, beams branch."""
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):  # one by one, so that one layer at most exists twice
                buffers[layer] = paddle.gather(buffer, rows)
        self.padding = paddle.gather(self.padding.astype("int32"), rows).astype("bool")

    def join(self, other: KVCache) -> None:
        """Go on with another cache's rows after these.

        Rows are as long as the longest of all: shorter ones get padding on the left, and what was padding in
        every row is dropped.
        """
        padding, theirs = self._whole_padding(), other._whole_padding()
        drop, drop_theirs = _shared_padding(padding), _shared_padding(theirs)
        length = max(self.length - drop, other.length - drop_theirs)
        capacity = -(-length // CACHE_BLOCK) * CACHE_BLOCK
        for ours, added, axis in ((self.keys, other.keys, 2), (self.values, other.values, 3)):
            for layer in range(len(ours)):  # one by one, so that one layer at most exists twice
                rows = [
                    _place(buffer, cache.length, length, capacity, axis)
                    for buffer, cache in ((ours[layer], self), (added[layer], other))
                ]
                ours[layer], added[layer] = paddle.concat(rows), None
        self.padding = paddle.concat(
            [
                _align(padding.astype("int32"), length, 1, fill=1),
                _align(theirs.astype("int32"), length, 1, fill=1),
            ]
        ).astype("bool")
        self.length = length

    def _whole_padding(self) -> paddle.Tensor:
        """(B, length) bool: the prompt's padding; answers have none."""
        answer = paddle.zeros([self.padding.shape[0], self.length - self.padding.shape[1]], dtype="bool")
        return paddle.concat([self.padding, answer], axis=1)


def _shared_padding(padding: paddle.Tensor) -> int:
    """Columns at the start that are padding in every row."""
    return int((~padding).any(axis=0).astype("int64").argmax())


def _align(x: paddle.Tensor, tokens: int, axis: int, fill: int = 0) -> paddle.Tensor:
    """The last `tokens` of x, with padding on the left if it has fewer."""
    surplus = x.shape[axis] - tokens
    if surplus > 0:
        return x[(*[slice(None)] * axis, slice(surplus, None))]
    shape = list(x.shape)
    shape[axis] = -surplus
    return paddle.concat([paddle.full(shape, fill, x.dtype), x], axis=axis) if surplus else x


def _place(buffer: paddle.Tensor, used: int, tokens: int, capacity: int, axis: int) -> paddle.Tensor:
    """The used part of a buffer at the end of `tokens`, in one of another capacity."""
    return _pad(_align(buffer[(*[slice(None)] * axis, slice(0, used))], tokens, axis), capacity, axis)


def _pad(x: paddle.Tensor, tokens: int, axis: int) -> paddle.Tensor:
    """With zeros up to so many tokens, contiguous: it is written through its memory."""
    shape = list(x.shape)
    shape[axis] = tokens - x.shape[axis]
    return paddle.concat([x, paddle.zeros(shape, x.dtype)], axis=axis) if shape[axis] else x.contiguous()

"""Keys and values of the tokens read so far, grown in blocks, and attention over them."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F

from got_train.cpu import kernels
from got_train.cpu.parallel_jit import array
from got_train.modeling.causal_attention import Samples, additive, causal_attention
from got_train.modeling.decoder import Attend
from got_train.modeling.layers import on_cpu

CACHE_BLOCK = 64  # tokens by which a cache grows


class KeyValueCache:
    """Keys and values of all layers, allocated in blocks of CACHE_BLOCK tokens and written in place.

    Values stand as (B, K, d, L): a product of a few weights with them takes two thirds of the time so.
    `attention_mask` (B, T) of the prompt, 0 on padding, which stays hidden for good.
    """

    def __init__(self, layers: int, attention_mask: paddle.Tensor):
        self.keys: list = [None] * layers
        self.values: list = [None] * layers
        self.length = 0
        self.padding = attention_mask == 0  # (B, T) bool

    def attention(self, new: int) -> Attend:
        """How `new` tokens of a layer see the cached ones and each other; writes their keys and values."""
        if self.length == 0:
            samples = Samples((~self.padding).astype("int64"), self.padding.shape)

            def attend(layer, q, k, v):
                self.write(layer, k, v)
                return causal_attention(q, k, v, samples)

            return attend
        mask = self.mask(new)
        return lambda layer, q, k, v: attend_cached(q, *self.write(layer, k, v), mask)

    def mask(self, new: int) -> paddle.Tensor:
        """What `new` tokens may see, as a number added to the scores: (B, 1, new, length), float32."""
        end = self.length + new
        places = paddle.arange(end)
        allowed = places <= paddle.arange(self.length, end).unsqueeze(1)  # (new, length)
        behind = paddle.zeros([self.padding.shape[0], places.shape[0] - self.padding.shape[1]], dtype="bool")
        hidden = paddle.concat([self.padding, behind], axis=1)  # (B, length)
        return additive(allowed & ~hidden.unsqueeze([1, 2]), paddle.float32)

    def write(self, layer: int, k: paddle.Tensor, v: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Add (B, K, T, d) behind the cached ones; returns all up to the capacity, zeros at the end."""
        v = v.transpose([0, 1, 3, 2])
        for store, new, axis in ((self.keys, k, 2), (self.values, v, 3)):
            store[layer] = self._extended(store[layer], new, axis)
        return self.keys[layer], self.values[layer]

    def _extended(self, old: paddle.Tensor | None, new: paddle.Tensor, axis: int) -> paddle.Tensor:
        """With the new ones behind what is there, and zeros behind these up to the capacity."""
        end = self.length + new.shape[axis]
        if old is None:
            return _lengthened(new, _capacity(end), axis)
        old = _lengthened(old, _capacity(end), axis)
        place = (*[slice(None)] * axis, slice(self.length, end))
        if on_cpu(old):
            array(old)[place] = array(new)  # Paddle takes ten times as long
        else:
            old[place] = new
        return old

    def advance(self, new: int) -> None:
        """To be called when all layers have written their `new` tokens."""
        self.length += new

    def keep(self, rows: paddle.Tensor) -> None:
        """Go on with these rows of the batch only (finished ones leave)."""
        for store in (self.keys, self.values):
            for layer, tensor in enumerate(store):  # one by one, so that one layer at most exists twice
                store[layer] = paddle.gather(tensor, rows)
        self.padding = paddle.gather(self.padding.astype("int32"), rows).astype("bool")


def _capacity(tokens: int) -> int:
    return -(-tokens // CACHE_BLOCK) * CACHE_BLOCK


def _lengthened(x: paddle.Tensor, tokens: int, axis: int) -> paddle.Tensor:
    """With zeros up to so many tokens, contiguous: it is written through its memory."""
    shape = list(x.shape)
    shape[axis] = tokens - x.shape[axis]
    return paddle.concat([x, paddle.zeros(shape, x.dtype)], axis=axis) if shape[axis] else x.contiguous()


def attend_cached(q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Queries (B, H, T, d) over the first N keys (B, K, L, d) and values (B, K, d, L) -> (B, H, T, d).

    The heads of a group share their keys, so they are read as further queries and the cache is not repeated.
    The mask (B, 1, T, N) joins in float32: float16 would turn a hidden score into -inf and padding into nan.
    """
    batch, heads, tokens, width = q.shape
    group = heads // k.shape[1]
    if tokens == 1 and on_cpu(q):
        return _attend_cached(q, k, v, mask)
    k, v = k[:, :, : mask.shape[-1]], v[:, :, :, : mask.shape[-1]]
    if group > 1:
        q = q.reshape([batch, -1, group * tokens, width])
        mask = mask.tile([1, 1, group, 1])
    scores = paddle.matmul(q * width**-0.5, k, transpose_y=True).astype("float32")
    # Paddle's broadcast over a middle axis takes ten times as long as a copy
    weights = F.softmax(scores + mask.expand(scores.shape), axis=-1)
    x = paddle.matmul(weights.astype(v.dtype), v, transpose_y=True)
    return x.reshape([batch, heads, tokens, width])


def _attend_cached(q, k, v, mask):
    """Of one new token on the CPU."""
    batch, heads, _, width = q.shape
    out, shares = paddle.empty(q.shape), paddle.empty([batch * k.shape[1], mask.shape[-1]])
    queries, found = (array(x).reshape(batch, k.shape[1], -1, width) for x in (q, out))
    kernels.attend_cached(queries, k, v, mask.flatten(1), np.float32(width**-0.5), shares, found)
    return out

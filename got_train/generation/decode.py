"""The model token by token: a prompt goes in once, then one token a row; logits come out. Chooses nothing."""

# R rows  T prompt tokens  V views of all rows  P tokens a view  D width

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle

from got_train.modeling.got import Got
from got_train.modeling.layers import row_products

from .kv_cache import KeyValueCache

ENCODER_BYTES = 1 << 30  # of attention scores that exist at once; one view of GOT's makes 0.8 GB


class Steps:
    """The rows that are still read, their cache and the places of their last tokens."""

    def __init__(
        self,
        model: Got,
        ids: np.ndarray,
        pixel_values: paddle.Tensor | np.ndarray | None,
        mask: np.ndarray,
    ):
        self.decoder = model.decoder
        mask = paddle.to_tensor(mask)
        self.cache = KeyValueCache(model.config.decoder.layers, mask)
        places = (paddle.cumsum(mask, axis=1) - 1).clip(min=0)  # (R, T)
        x = model.embed(paddle.to_tensor(ids), features(model, pixel_values))  # (R, T, D)
        self.logits = self._logits(x, places)  # (R, vocabulary), of the next token
        self.places = places[:, -1:]  # (R, 1)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order; one may be there several times."""
        chosen = paddle.to_tensor(list(rows))
        self.cache.keep(chosen)
        self.places = paddle.gather(self.places, chosen)

    def step(self, tokens: Sequence[int]) -> None:
        """Each row's next token."""
        self.places = self.places + 1
        x = self.decoder.embed(paddle.to_tensor(list(tokens), dtype="int64").unsqueeze(1))  # (R, 1, D)
        self.logits = self._logits(x, self.places)

    def _logits(self, x: paddle.Tensor, places: paddle.Tensor) -> paddle.Tensor:
        hidden = self.decoder.step(x, places, self.cache)[:, -1]  # (R, D)
        return row_products(hidden, self.decoder.head).astype("float32")


def features(model: Got, pixel_values: paddle.Tensor | np.ndarray | None) -> paddle.Tensor | None:
    """The views' features (V, P, D), the encoder seeing as many views at once as ENCODER_BYTES allow."""
    if pixel_values is None:
        return None
    pixel_values = paddle.to_tensor(pixel_values)
    vision = model.config.vision
    at_once = max(1, ENCODER_BYTES // (4 * vision.heads * vision.grid**4))
    starts = range(0, pixel_values.shape[0], at_once)
    return paddle.concat([model.encode(pixel_values[start : start + at_once]) for start in starts])


def without(logits: paddle.Tensor, banned: Sequence[Sequence[int]]) -> paddle.Tensor:
    """The logits with -inf at each row's banned tokens."""
    pairs = [(row, token) for row, tokens in enumerate(banned) for token in tokens]
    if not pairs:
        return logits
    where = tuple(paddle.to_tensor(part) for part in zip(*pairs, strict=True))
    return paddle.index_put(logits, where, paddle.full([len(pairs)], float("-inf")))

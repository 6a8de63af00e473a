"""The model token by token: a prompt goes in once, then one token a row; logits come out. Chooses nothing."""

# R rows  T prompt tokens  V views of all rows  P tokens a view  D width

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle

from got_train.modeling.got import Got

ENCODER_BYTES = 1 << 30  # of attention scores that exist at once; one view of GOT's has 0.8 GB of them


class DecodingState:
    """The rows that are still active, their KV cache and the positions of their last tokens."""

    def __init__(
        self,
        model: Got,
        input_ids: np.ndarray,
        pixel_values: paddle.Tensor | np.ndarray | None,
        attention_mask: np.ndarray,
        image_features: paddle.Tensor | None = None,  # projected, where they are known already
    ):
        self.decoder = model.decoder
        mask = paddle.to_tensor(attention_mask)
        self.cache = self.decoder.new_cache(mask)
        position_ids = (paddle.cumsum(mask, axis=1) - 1).clip(min=0)  # (R, T)
        features = encode_views(model, pixel_values) if image_features is None else image_features
        x = model.embed(paddle.to_tensor(input_ids), features)  # (R, T, D)
        self.logits = self._logits(x, position_ids)  # (R, vocabulary), of the next token
        self.position_ids = position_ids[:, -1:]  # (R, 1)

    def select_rows(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order (reorder_cache); one may be there several times."""
        index = paddle.to_tensor(list(rows))
        self.cache.select_rows(index)
        self.logits = paddle.gather(self.logits, index)
        self.position_ids = paddle.gather(self.position_ids, index)

    def join(self, other: DecodingState) -> None:
        """Go on with the rows of another state too, after these."""
        self.cache.join(other.cache)
        self.logits = paddle.concat([self.logits, other.logits])
        self.position_ids = paddle.concat([self.position_ids, other.position_ids])

    def step(self, tokens: Sequence[int]) -> None:
        """Each row's next token."""
        self.position_ids = self.position_ids + 1
        x = self.decoder.embed(paddle.to_tensor(list(tokens), dtype="int64").unsqueeze(1))  # (R, 1, D)
        self.logits = self._logits(x, self.position_ids)

    def _logits(self, x: paddle.Tensor, position_ids: paddle.Tensor) -> paddle.Tensor:
        hidden = self.decoder.step(x, position_ids, self.cache)[:, -1]  # (R, D)
        return self.decoder.lm_head(hidden).astype("float32")


def encode_views(model: Got, pixel_values: paddle.Tensor | np.ndarray | None) -> paddle.Tensor | None:
    """The views' features (V, P, D), as many views at once as ENCODER_BYTES allow."""
    if pixel_values is None:
        return None
    pixel_values = paddle.to_tensor(pixel_values)
    vision = model.config.vision
    batch_views = max(1, ENCODER_BYTES // (4 * vision.heads * vision.grid**4))
    starts = range(0, pixel_values.shape[0], batch_views)
    return paddle.concat([model.encode(pixel_values[start : start + batch_views]) for start in starts])


def mask_tokens(logits: paddle.Tensor, banned: Sequence[Sequence[int]]) -> paddle.Tensor:
    """The logits with -inf at each row's banned tokens."""
    pairs = [(row, token) for row, tokens in enumerate(banned) for token in tokens]
    if not pairs:
        return logits
    index = tuple(paddle.to_tensor(axis) for axis in zip(*pairs, strict=True))
    return paddle.index_put(logits, index, paddle.full([len(pairs)], float("-inf")))

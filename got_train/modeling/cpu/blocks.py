"""Blocks of attention scores: how large they are, and tensors cut and joined without needless copies."""

from __future__ import annotations

import paddle

BLOCK_SCORES = 4 << 20  # that exist at once; 16 MB in float32


def narrow(x: paddle.Tensor, heads: slice, tokens: slice | None = None) -> paddle.Tensor:
    """x[heads, tokens], which Paddle would copy even where that is all of x."""
    tokens = tokens or slice(0, x.shape[1])
    is_all = [part.stop - part.start for part in (heads, tokens)] == x.shape[:2]
    return x if is_all else x[heads, tokens]


def cat(tensors: list[paddle.Tensor], axis: int) -> paddle.Tensor:
    return tensors[0] if len(tensors) == 1 else paddle.concat(tensors, axis=axis)


def accumulate(total: paddle.Tensor | None, x: paddle.Tensor) -> paddle.Tensor:
    return x if total is None else total.add_(x)

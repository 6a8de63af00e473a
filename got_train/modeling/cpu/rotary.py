"""Rotary positions as a PyLayer, which moves the heads in the same pass."""

# B batch  T tokens  H heads  d head width

from __future__ import annotations

import paddle
from paddle.autograd import PyLayer

from got_train.cpu import kernels


class RotaryEmbedding(PyLayer):
    """x (B, T, H, d) by cosines and sines of the positions, (B, 1, T, d) -> (B, H, T, d)."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        batch, tokens, heads, width = x.shape
        ctx.save_for_backward(cos, sin)
        out = paddle.empty([batch, heads, tokens, width])
        kernels.apply_rope(x, cos.squeeze(1), sin.squeeze(1), out)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        cos, sin = ctx.saved_tensor()
        batch, heads, tokens, width = grad_output.shape
        grad_x = paddle.empty([batch, tokens, heads, width])
        kernels.apply_rope_backward(grad_output, cos.squeeze(1), sin.squeeze(1), grad_x)
        return grad_x, None, None

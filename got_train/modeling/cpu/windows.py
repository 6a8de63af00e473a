"""Heads of the windows of a map, cut out and put together again in one pass each, as PyLayers."""

# V views  S side of a map  w window size  W windows of all views  H heads  d head width  K parts: q, k and v
# E width

from __future__ import annotations

from dataclasses import dataclass

import paddle
from paddle.autograd import PyLayer

from got_train.cpu import kernels
from got_train.cpu.parallel_jit import as_numpy

from .autograd import linear, linear_input_grad, linear_param_grads, masked, needs_grad


@dataclass(frozen=True)
class WindowHeads:
    """The sizes of a map's windows and heads."""

    side: int
    window_size: int
    heads: int
    head_width: int

    def split(self, x, pad_value) -> tuple[paddle.Tensor, ...]:
        """x (V, S, S, K*H*d) -> K times (W*H, w*w, d); pad_value (K*H*d,) fills up the windows."""
        parts = x.shape[3] // (self.heads * self.head_width)
        shape = [x.shape[0] * self._per_view, self.window_size**2, self.head_width]
        outs = tuple(paddle.empty(shape) for _ in range(parts))
        for part, out in enumerate(outs):
            kernels.split_heads(x, pad_value, self.window_size, part, out)
        return outs

    def merge(self, *parts) -> paddle.Tensor:
        """The inverse, without the padding: K times (W*H, w*w, d) -> (V, S, S, K*H*d)."""
        views, width = parts[0].shape[0] // self._per_view, self.heads * self.head_width
        out = paddle.empty([views, self.side, self.side, len(parts) * width])
        for part, x in enumerate(parts):
            kernels.merge_heads(x, self.window_size, part, out)
        return out

    def pad_value_grad(self, *grads) -> paddle.Tensor:
        """By the pad_value of split, (K*H*d,)."""
        total = paddle.empty([len(grads), self.heads, self.head_width])
        for grad, out in zip(grads, as_numpy(total), strict=True):
            kernels.padding_grad(grad, grad.shape[0] // self._per_view, self.side, self.window_size, out)
        return total.flatten()

    @property
    def _per_view(self) -> int:
        """Windows times heads."""
        return (-(-self.side // self.window_size)) ** 2 * self.heads


class SplitHeads(PyLayer):
    """qkv (V, S, S, 3*E) and its bias, which fills up the windows -> q, k, v, (W*H, w*w, d) each."""

    @staticmethod
    def forward(ctx, qkv, bias, windows):
        ctx.needs_input_grad, ctx.windows = needs_grad(qkv, bias), windows
        return windows.split(qkv, bias)

    @staticmethod
    def backward(ctx, *grad_outputs):
        grads = ctx.windows.merge(*grad_outputs), ctx.windows.pad_value_grad(*grad_outputs)
        return masked(grads, ctx.needs_input_grad)


class MergeHeads(PyLayer):
    """x (W*H, w*w, d) -> (V, S, S, E)."""

    @staticmethod
    def forward(ctx, x, windows):
        ctx.windows = windows
        return windows.merge(x)

    @staticmethod
    def backward(ctx, grad_output):
        return split_one(ctx.windows, grad_output)


class MergeHeadsLinear(PyLayer):
    """The attention's proj after MergeHeads; keeps the heads alone."""

    @staticmethod
    def forward(ctx, x, windows, weight, bias):
        ctx.needs_input_grad, ctx.windows = needs_grad(x, weight, bias), windows
        ctx.save_for_backward(x, weight)
        return linear(windows.merge(x), weight, bias)

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensor()
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grads = linear_param_grads(ctx.windows.merge(x) if needs_weight else None, grad_output, [needs_bias])
        grad_x = split_one(ctx.windows, linear_input_grad(grad_output, weight)) if needs_x else None
        return (grad_x, *grads)


def split_one(windows: WindowHeads, x) -> paddle.Tensor:
    (out,) = windows.split(x, paddle.zeros(x.shape[-1:]))
    return out

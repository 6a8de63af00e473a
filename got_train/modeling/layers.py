"""Linear layers, norms, activations with Paddle's parameters: Paddle's operators, on the CPU our kernels.

Paddle's CPU kernels take one thread and many passes, sum over rows (the gradient of every bias and scale)
fifty times as slowly as a product with ones, and autograd keeps what takes less time to make again.
"""

# R rows of all leading axes  D width
# V views  S side of a map  C channels  k side of a convolution's squares  T side of what it gives

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer
from paddle.distributed.fleet.utils import recompute

from got_train.cpu import kernels
from got_train.cpu.parallel_jit import flat, rows

FEW = 16  # rows, up to which a loop that reads words once is faster than MKL's product


def on_cpu(x: paddle.Tensor) -> bool:
    """Whether kernels compute this: not a GPU, no static graph, no type that only a GPU has operators for."""
    return paddle.in_dynamic_mode() and not x.place.is_gpu_place() and x.dtype == paddle.float32


class Function:
    """A step of the model in two forms that give the same: Paddle's operators, and loops for the CPU.

    `plain(*inputs)` is the first. Of the second, `forward(*inputs)` makes the result and `backward(slope,
    *kept(*inputs))` a gradient for each input; where there are several results, so are slopes.
    """

    def __call__(self, *inputs: paddle.Tensor) -> paddle.Tensor:
        if not on_cpu(inputs[0]):
            return self.plain(*inputs)
        return _Applied.apply(self, *inputs) if paddle.is_grad_enabled() else self.forward(*inputs)

    def plain(self, *inputs: paddle.Tensor) -> paddle.Tensor:
        raise NotImplementedError

    def forward(self, *inputs: paddle.Tensor) -> paddle.Tensor:
        raise NotImplementedError

    def kept(self, *inputs: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        return inputs

    def backward(self, slope: paddle.Tensor, *kept: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        raise NotImplementedError


class _Applied(PyLayer):
    """A function by itself."""

    @staticmethod
    def forward(ctx, function, *inputs):
        ctx.function, ctx.wanted = function, [not x.stop_gradient for x in inputs]
        ctx.save_for_backward(*function.kept(*inputs))
        return function.forward(*inputs)

    @staticmethod
    def backward(ctx, *slopes):
        slope = slopes if len(slopes) > 1 else slopes[0]
        return _asked(ctx.function.backward(slope, *ctx.saved_tensor()), ctx.wanted)


def _asked(grads, wanted) -> tuple[paddle.Tensor | None, ...]:
    """Paddle takes None alone where no gradient is asked for."""
    return tuple(grad if is_asked else None for grad, is_asked in zip(grads, wanted, strict=True))


def column_sums(x: paddle.Tensor) -> paddle.Tensor:
    """(..., D) -> (D,)."""
    rows = x.flatten(0, -2)  # (R, D)
    return paddle.matmul(paddle.ones([1, rows.shape[0]], x.dtype), rows).squeeze(0)


class Linear(nn.Linear):
    """Paddle's layer; with a function `before` it takes that function's inputs, and keeps only these."""

    def forward(self, *inputs: paddle.Tensor, before: Function | None = None) -> paddle.Tensor:
        if not on_cpu(inputs[0]):
            return F.linear(before(*inputs) if before else inputs[0], self.weight, self.bias)
        return _Product.apply(self.weight, self.bias, before, *inputs)


def after(linear: nn.Layer, before: Function, *inputs: paddle.Tensor) -> paddle.Tensor:
    """linear(before(*inputs)), whatever kind of layer it is (adapters want the values themselves)."""
    if isinstance(linear, Linear):
        return linear(*inputs, before=before)
    return linear(before(*inputs))


class _Product(PyLayer):
    """before(*inputs) times weight (D, E), plus bias (E,)."""

    @staticmethod
    def forward(ctx, weight, bias, before, *inputs):
        x = before.forward(*inputs) if before else inputs[0]
        ctx.before, ctx.has_bias = before, bias is not None
        ctx.wanted = [not (each is None or each.stop_gradient) for each in (weight, bias, *inputs)]
        ctx.save_for_backward(weight, *inputs)
        y = paddle.matmul(x, weight)
        if ctx.has_bias:
            kernels.add_bias(rows(y), bias)
        return y

    @staticmethod
    def backward(ctx, slope):
        weight, *inputs = ctx.saved_tensor()
        for_weight, for_bias, *for_inputs = ctx.wanted
        grads = [None, *[None] * ctx.has_bias]
        if for_weight:
            x = ctx.before.forward(*inputs) if ctx.before else inputs[0]
            grads[0] = paddle.matmul(x.flatten(0, -2), slope.flatten(0, -2), transpose_x=True)
        if for_bias:
            grads[1] = column_sums(slope)
        if not any(for_inputs):
            return (*grads, *[None] * len(inputs))
        down = paddle.matmul(slope, weight, transpose_y=True)
        found = ctx.before.backward(down, *ctx.before.kept(*inputs)) if ctx.before else [down]
        return (*grads, *_asked(found, for_inputs))


@dataclass(frozen=True)
class Unfolded(Function):
    """The squares that a convolution sees: x (V, S, S, C) -> (V, T, T, k*k*C), zeros beyond the map."""

    size: int
    stride: int
    padding: int

    def forward(self, x):
        views, side, _, channels = x.shape
        count = (side + 2 * self.padding - self.size) // self.stride + 1
        out = paddle.empty([views, count, count, self.size, self.size * channels])
        kernels.unfold(x, self.stride, self.padding, out)
        return out.flatten(3)

    def backward(self, slope, x):
        squares, out = slope.reshape([*slope.shape[:3], self.size, -1]), paddle.empty_like(x)
        kernels.fold(squares, self.stride, self.padding, out)
        return (out,)


class Convolution(nn.Conv2D):
    """Paddle's layer over maps with the channels last, (V, S, S, C) -> (V, T, T, D); on the CPU a product."""

    def __init__(
        self, channels: int, width: int, size: int, stride: int = 1, padding: int = 0, biased: bool = True
    ):
        super().__init__(channels, width, size, stride, padding, bias_attr=None if biased else False)
        self.before = Unfolded(size, stride, padding) if size > 1 else None

    def forward(self, x):
        if not on_cpu(x):
            return super().forward(x.transpose([0, 3, 1, 2])).transpose([0, 2, 3, 1])
        weight = self.weight.transpose([2, 3, 1, 0]).flatten(0, 2)  # (k*k*C, D)
        return _Product.apply(weight, self.bias, self.before, x)


class LayerNormalised(Function):
    """x (..., D) with mean 0 and variance 1 along D, times weight (D,), plus bias (D,)."""

    def __init__(self, epsilon: float):
        self.epsilon = epsilon

    def plain(self, x, weight, bias):
        return F.layer_norm(x, x.shape[-1], weight, bias, self.epsilon)

    def forward(self, x, weight, bias):
        out = paddle.empty_like(x)
        kernels.layer_norm(rows(x), weight, bias, np.float32(self.epsilon), rows(out))
        return out

    def backward(self, slope, x, weight, bias):
        return _norm_gradients(slope, x, weight, self.epsilon, centred=True)


class RmsNormalised(Function):
    """x (..., D) with a mean square of 1, taken in float32, times weight (D,)."""

    def __init__(self, epsilon: float):
        self.epsilon = epsilon

    def plain(self, x, weight):
        with paddle.amp.auto_cast(False):
            wide = x.astype("float32")
            wide = wide * paddle.rsqrt((wide * wide).mean(-1, keepdim=True) + self.epsilon)
        return wide.astype(weight.dtype) * weight

    def forward(self, x, weight):
        out = paddle.empty_like(x)
        kernels.rms_norm(rows(x), weight, np.float32(self.epsilon), rows(out))
        return out

    def backward(self, slope, x, weight):
        return _norm_gradients(slope, x, weight, self.epsilon, centred=False)[:2]


def _norm_gradients(slope, x, weight, epsilon, centred) -> tuple[paddle.Tensor, ...]:
    grad, sums = paddle.empty_like(x), [paddle.empty([kernels.SLICES, x.shape[-1]]) for _ in range(2)]
    kernels.norm_gradients(rows(x), weight, rows(slope), np.float32(epsilon), centred, rows(grad), *sums)
    return (grad, *map(column_sums, sums))


class Gelu(Function):
    """The exact one (erf)."""

    def plain(self, x):
        return F.gelu(x)

    def forward(self, x):
        out = paddle.empty_like(x)
        kernels.gelu(flat(x), flat(out))
        return out

    def backward(self, slope, x):
        out = paddle.empty_like(x)
        kernels.gelu_gradient(flat(x), flat(slope), flat(out))
        return (out,)


class SwiGlu(Function):
    """silu(gate) * up."""

    def plain(self, gate, up):
        return F.swiglu(gate, up)

    def forward(self, gate, up):
        out = paddle.empty_like(gate)
        kernels.swiglu(flat(gate), flat(up), flat(out))
        return out

    def backward(self, slope, gate, up):
        grads = paddle.empty_like(gate), paddle.empty_like(up)
        kernels.swiglu_gradients(*map(flat, (gate, up, slope, *grads)))
        return grads


class Sum(Function):
    """x + y of one shape; Paddle copies its gradient twice."""

    def plain(self, x, y):
        return x + y

    def forward(self, x, y):
        out = paddle.empty_like(x)
        kernels.add(flat(x), flat(y), flat(out))
        return out

    def kept(self, x, y):
        return ()

    def backward(self, slope):
        return slope, slope


add = Sum()


class LayerNorm(nn.LayerNorm):
    """Paddle's layer over the last axis, with its parameters."""

    def forward(self, x):
        return self.function(*self.inputs(x))

    @property
    def function(self) -> Function:
        """What it does, for a linear layer that makes it again instead of keeping it."""
        return LayerNormalised(self._epsilon)

    def inputs(self, x: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        return x, self.weight, self.bias


class RmsNorm(nn.Layer):
    """Qwen2's norm with paddlenlp's parameter: its pow(2) takes a hundred times as long as a product."""

    def __init__(self, norm: nn.Layer):
        super().__init__()
        self.weight, self.function = norm.weight, RmsNormalised(norm.variance_epsilon)

    def forward(self, x):
        return self.function(x, self.weight)


def row_products(x: paddle.Tensor, matrix: paddle.Tensor) -> paddle.Tensor:
    """x (R, D) times the rows of a matrix (N, D) -> (R, N).

    Without gradients on the CPU the matrix may stand in bfloat16, which MKL does not know; and a loop reads
    it once for a few rows, where MKL packs it.
    """
    if not on_cpu(x) or paddle.is_grad_enabled():
        return paddle.matmul(x, matrix, transpose_y=True)
    narrow = matrix.dtype == paddle.bfloat16
    if x.shape[0] <= FEW and (narrow or x.shape[0] > 1):
        out = paddle.empty([x.shape[0], matrix.shape[0]])
        kernels.few_products(x, matrix, out)
        return out
    return paddle.matmul(x, widened(matrix) if narrow else matrix, transpose_y=True)


def widened(matrix: paddle.Tensor) -> paddle.Tensor:
    """bfloat16 (N, D) as float32."""
    out = paddle.empty(matrix.shape)
    kernels.widen(matrix, out)
    return out


def run_layer(layer: nn.Layer, x: paddle.Tensor, *others: object, again: bool) -> paddle.Tensor:
    """layer(x, *others), which with `again` keeps its input alone and runs anew for the gradients.

    Under LoRA the patches have no gradient, and Paddle gives none to what it recomputes from such.
    """
    return recompute(layer, x, *others) if again and not x.stop_gradient else layer(x, *others)


def use_own_layers(model: nn.Layer) -> None:
    """Have a model of paddlenlp's run these linear layers and norms, with the parameters it has."""
    own = {nn.Linear: Linear, nn.LayerNorm: LayerNorm}
    for layer in model.sublayers():
        layer.__class__ = own.get(type(layer), type(layer))

"""Linear layers and norms with Paddle's parameters, whose backward pass on the CPU keeps little and is fast.

Paddle's CPU kernels sum over rows (the gradient of every bias and scale) fifty times as slowly as a product
with ones, and autograd keeps what takes less time to make again. A GPU runs Paddle's own kernels.
"""

# R rows of all leading axes  D width

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer
from paddle.distributed.fleet.utils import recompute

Activation = Callable[..., paddle.Tensor]


def on_cpu(x: paddle.Tensor) -> bool:
    """Whether what is computed now is computed on the CPU: not on a GPU, and not drawn as a static graph."""
    return paddle.in_dynamic_mode() and not x.place.is_gpu_place()


def column_sums(x: paddle.Tensor) -> paddle.Tensor:
    """(..., D) -> (D,)."""
    rows = x.flatten(0, -2)  # (R, D)
    return paddle.matmul(paddle.ones([1, rows.shape[0]], x.dtype), rows).squeeze(0)


class Linear(nn.Linear):
    """Paddle's layer; with an `activation` it takes that function's inputs, and keeps only these."""

    def forward(self, *inputs: paddle.Tensor, activation: Activation | None = None) -> paddle.Tensor:
        if not on_cpu(inputs[0]):
            x = activation(*inputs) if activation else inputs[0]
            return F.linear(x, self.weight, self.bias)
        return _Product.apply(self.weight, self.bias, activation, *inputs)


def activated(linear: nn.Layer, activation: Activation, *inputs: paddle.Tensor) -> paddle.Tensor:
    """linear(activation(*inputs)), whatever kind of layer it is (adapters want the values themselves)."""
    if isinstance(linear, Linear):
        return linear(*inputs, activation=activation)
    return linear(activation(*inputs))


class _Product(PyLayer):
    """activation(*inputs) times weight (D, E), plus bias (E,)."""

    @staticmethod
    def forward(ctx, weight, bias, activation, *inputs):
        x = activation(*inputs) if activation else inputs[0]
        ctx.activation, ctx.has_bias = activation, bias is not None
        ctx.wanted = [not (each is None or each.stop_gradient) for each in (weight, bias, *inputs)]
        ctx.save_for_backward(weight, *inputs)
        y = paddle.matmul(x, weight)
        return y.add_(bias) if ctx.has_bias else y

    @staticmethod
    def backward(ctx, slope):
        weight, *inputs = ctx.saved_tensor()
        for_weight, for_bias, *for_inputs = ctx.wanted
        grads, x = [None, *[None] * ctx.has_bias], None
        if for_weight or ctx.activation:
            x, inputs = _again(ctx.activation, inputs, for_inputs)
        if for_weight:
            grads[0] = paddle.matmul(x.detach().flatten(0, -2), slope.flatten(0, -2), transpose_x=True)
        if for_bias:
            grads[1] = column_sums(slope)
        if not any(for_inputs):
            return (*grads, *[None] * len(inputs))
        down = paddle.matmul(slope, weight, transpose_y=True)
        return (*grads, *(_pulled(x, inputs, for_inputs, down) if ctx.activation else [down]))


def _again(activation, inputs, wanted) -> tuple[paddle.Tensor, list[paddle.Tensor]]:
    """The activation's result, and the inputs that its gradients are asked of."""
    if activation is None:
        return inputs[0], inputs
    fresh = [x.detach() for x in inputs]
    for x, asked in zip(fresh, wanted, strict=True):
        x.stop_gradient = not asked
    with paddle.enable_grad():
        return activation(*fresh), fresh


def _pulled(x, inputs, wanted, slope) -> list[paddle.Tensor | None]:
    asked = [each for each, is_asked in zip(inputs, wanted, strict=True) if is_asked]
    found = iter(paddle.grad([x], asked, [slope]))
    return [next(found) if is_asked else None for is_asked in wanted]


class LayerNorm(nn.LayerNorm):
    """Paddle's layer over the last axis, with its parameters."""

    def forward(self, x):
        return self.function(*self.inputs(x))

    @property
    def function(self) -> Activation:
        """What it does, for a linear layer that makes it again instead of keeping it."""
        return partial(layer_norm, epsilon=self._epsilon)

    def inputs(self, x: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        return x, self.weight, self.bias


def layer_norm(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, epsilon: float) -> paddle.Tensor:
    """(..., D) with mean 0 and variance 1, times weight (D,), plus bias (D,)."""
    if not on_cpu(x):
        return F.layer_norm(x, x.shape[-1], weight, bias, epsilon)
    return _Normed.apply(x, weight, bias, epsilon)


class RmsNorm(nn.Layer):
    """Qwen2's norm with paddlenlp's parameter: its pow(2) takes a hundred times as long as a product."""

    def __init__(self, norm: nn.Layer):
        super().__init__()
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon

    def forward(self, x):
        if not on_cpu(x):
            return _scaled_to_unit(x, self.weight, self.epsilon)
        return _Normed.apply(x, self.weight, None, self.epsilon)


def _scaled_to_unit(x, weight, epsilon):
    """(..., D) with a mean square of 1, taken in float32, times weight (D,)."""
    with paddle.amp.auto_cast(False):
        wide = x.astype("float32")
        shrink = paddle.rsqrt(_row_means(wide * wide) + epsilon)
        x = wide * shrink.expand(wide.shape)
    return x.astype(weight.dtype) * weight


def _row_means(x: paddle.Tensor) -> paddle.Tensor:
    """(..., D) -> (..., 1); on the CPU a product takes a tenth of the time of Paddle's mean."""
    if not on_cpu(x):
        return x.mean(-1, keepdim=True)
    return paddle.matmul(x, paddle.full([x.shape[-1], 1], 1 / x.shape[-1], x.dtype))


class _Normed(PyLayer):
    """LayerNorm; without a bias RMSNorm, which does not subtract the mean."""

    @staticmethod
    def forward(ctx, x, weight, bias, epsilon):
        ctx.epsilon, ctx.centred = epsilon, bias is not None
        ctx.wanted = [not each.stop_gradient for each in (x, weight, bias) if each is not None]
        ctx.save_for_backward(x, weight)
        if bias is None:
            return _scaled_to_unit(x, weight, epsilon)
        return F.layer_norm(x, x.shape[-1], weight, bias, epsilon)

    @staticmethod
    def backward(ctx, slope):
        # in place, and columns copied to full width first: both take a fraction of the time on the CPU
        x, weight = ctx.saved_tensor()
        x = x - _row_means(x).expand(x.shape) if ctx.centred else x.clone()
        shrink = paddle.rsqrt(_row_means(x * x) + ctx.epsilon).expand(x.shape)
        x.multiply_(shrink)
        along = slope * x
        grads = [None, column_sums(along), *([column_sums(slope)] if ctx.centred else [])]
        lost = _row_means(along.multiply_(weight)).expand(x.shape)
        grad = (slope * weight).subtract_(x.multiply_(lost))
        if ctx.centred:
            grad.subtract_(_row_means(grad).expand(grad.shape))
        grads[0] = grad.multiply_(shrink)
        return tuple(grad if wanted else None for grad, wanted in zip(grads, ctx.wanted, strict=True))


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

"""Linear layers, norms, activations, convolutions as PyLayers over the CPU's kernels.

Paddle's CPU kernels take one thread and many passes, sum over rows (the gradient of every bias and scale)
fifty times as slowly as a product with ones, and autograd keeps what takes less time to compute again. A
fused layer such as LayerNormLinear keeps the norm's input alone and normalizes again in backward.
"""

# R rows of all leading axes  D, E widths  N rows of a matrix
# V views  S side of a map  C channels  k side of a convolution's kernel  T side of what it gives

from __future__ import annotations

import numpy as np
import paddle
from paddle.autograd import PyLayer

from got_train.cpu import kernels
from got_train.cpu.parallel_jit import as_1d, as_2d

SMALL_BATCH_ROWS = 16  # up to which a kernel that reads the matrix once is faster than MKL's product


# ---- what the PyLayers compute


def needs_grad(*tensors: paddle.Tensor | None) -> list[bool]:
    """ctx.needs_input_grad: Paddle takes a gradient for each tensor, and None alone where none is needed."""
    return [not x.stop_gradient for x in tensors if x is not None]


def masked(grads, needs_input_grad) -> tuple[paddle.Tensor | None, ...]:
    return tuple(grad if needed else None for grad, needed in zip(grads, needs_input_grad, strict=True))


def linear(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor | None) -> paddle.Tensor:
    """x (..., D) times weight (D, E), plus bias (E,)."""
    y = paddle.matmul(x, weight)
    if bias is not None:
        kernels.add_bias(as_2d(y), bias)
    return y


def weight_grad(x: paddle.Tensor, grad_output: paddle.Tensor) -> paddle.Tensor:
    """(..., D), (..., E) -> (D, E)."""
    return paddle.matmul(x.flatten(0, -2), grad_output.flatten(0, -2), transpose_x=True)


def bias_grad(grad_output: paddle.Tensor) -> paddle.Tensor:
    """(..., D) -> (D,), summed over rows by a product with ones."""
    rows = grad_output.flatten(0, -2)  # (R, D)
    return paddle.matmul(paddle.ones([1, rows.shape[0]], rows.dtype), rows).squeeze(0)


def layer_norm(x, weight, bias, epsilon: float) -> paddle.Tensor:
    out = paddle.empty_like(x)
    kernels.layer_norm(as_2d(x), weight, bias, np.float32(epsilon), as_2d(out))
    return out


def rms_norm(x, weight, epsilon: float) -> paddle.Tensor:
    out = paddle.empty_like(x)
    kernels.rms_norm(as_2d(x), weight, np.float32(epsilon), as_2d(out))
    return out


def norm_backward(grad_output, x, weight, epsilon: float, centered: bool) -> tuple[paddle.Tensor, ...]:
    """By x, weight and bias."""
    grad_x = paddle.empty_like(x)
    partial_sums = [paddle.empty([kernels.NUM_PARTIALS, x.shape[-1]]) for _ in range(2)]
    arguments = as_2d(x), weight, as_2d(grad_output), np.float32(epsilon), centered
    kernels.norm_backward(*arguments, as_2d(grad_x), *partial_sums)
    return (grad_x, *map(bias_grad, partial_sums))


def gelu(x) -> paddle.Tensor:
    out = paddle.empty_like(x)
    kernels.gelu(as_1d(x), as_1d(out))
    return out


def gelu_backward(grad_output, x) -> paddle.Tensor:
    grad_x = paddle.empty_like(x)
    kernels.gelu_backward(as_1d(x), as_1d(grad_output), as_1d(grad_x))
    return grad_x


def swiglu(gate, up) -> paddle.Tensor:
    out = paddle.empty_like(gate)
    kernels.swiglu(as_1d(gate), as_1d(up), as_1d(out))
    return out


def swiglu_backward(grad_output, gate, up) -> tuple[paddle.Tensor, paddle.Tensor]:
    grads = paddle.empty_like(gate), paddle.empty_like(up)
    kernels.swiglu_backward(*map(as_1d, (gate, up, grad_output, *grads)))
    return grads


def im2col(x, size: int, stride: int, padding: int) -> paddle.Tensor:
    """The patches that a convolution sees: x (V, S, S, C) -> (V, T, T, k*k*C), zeros beyond the map."""
    views, side, _, channels = x.shape
    count = (side + 2 * padding - size) // stride + 1
    out = paddle.empty([views, count, count, size, size * channels])
    kernels.im2col(x, stride, padding, out)
    return out.flatten(3)


def col2im(grad_columns, x, size: int, stride: int, padding: int) -> paddle.Tensor:
    """The gradient by x of im2col(x)."""
    grad_x = paddle.empty_like(x)
    kernels.col2im(grad_columns.reshape([*grad_columns.shape[:3], size, -1]), stride, padding, grad_x)
    return grad_x


def lm_head_logits(x: paddle.Tensor, matrix: paddle.Tensor) -> paddle.Tensor:
    """x (R, D) times the rows of a matrix (N, D) -> (R, N), without gradients.

    The matrix may stand in bfloat16, which MKL does not know; and for a few rows a kernel reads it once,
    where MKL packs it.
    """
    is_bfloat16 = matrix.dtype == paddle.bfloat16
    if x.shape[0] <= SMALL_BATCH_ROWS and (is_bfloat16 or x.shape[0] > 1):
        out = paddle.empty([x.shape[0], matrix.shape[0]])
        kernels.small_batch_matmul(x, matrix, out)
        return out
    return paddle.matmul(x, to_float32(matrix) if is_bfloat16 else matrix, transpose_y=True)


def to_float32(matrix: paddle.Tensor) -> paddle.Tensor:
    """bfloat16 (N, D) as float32."""
    out = paddle.empty(matrix.shape)
    kernels.to_float32(matrix, out)
    return out


# ---- a step by itself


class ResidualAdd(PyLayer):
    """x + y of one shape; Paddle copies its gradient twice."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.needs_input_grad = needs_grad(x, y)
        out = paddle.empty_like(x)
        kernels.add(as_1d(x), as_1d(y), as_1d(out))
        return out

    @staticmethod
    def backward(ctx, grad_output):
        return masked((grad_output, grad_output), ctx.needs_input_grad)


class LayerNormFunction(PyLayer):
    """x (..., D) with mean 0 and variance 1 along D, times weight (D,), plus bias (D,)."""

    @staticmethod
    def forward(ctx, x, weight, bias, epsilon):
        ctx.needs_input_grad, ctx.epsilon = needs_grad(x, weight, bias), epsilon
        ctx.save_for_backward(x, weight)
        return layer_norm(x, weight, bias, epsilon)

    @staticmethod
    def backward(ctx, grad_output):
        grads = norm_backward(grad_output, *ctx.saved_tensor(), ctx.epsilon, centered=True)
        return masked(grads, ctx.needs_input_grad)


class RMSNormFunction(PyLayer):
    """x (..., D) with a mean square of 1 along D, times weight (D,)."""

    @staticmethod
    def forward(ctx, x, weight, epsilon):
        ctx.needs_input_grad, ctx.epsilon = needs_grad(x, weight), epsilon
        ctx.save_for_backward(x, weight)
        return rms_norm(x, weight, epsilon)

    @staticmethod
    def backward(ctx, grad_output):
        grad_x, grad_weight, _ = norm_backward(grad_output, *ctx.saved_tensor(), ctx.epsilon, centered=False)
        return masked((grad_x, grad_weight), ctx.needs_input_grad)


class Gelu(PyLayer):
    """The exact one (erf)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return gelu(x)

    @staticmethod
    def backward(ctx, grad_output):
        return gelu_backward(grad_output, *ctx.saved_tensor())


class SwiGLU(PyLayer):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx, gate, up):
        ctx.needs_input_grad = needs_grad(gate, up)
        ctx.save_for_backward(gate, up)
        return swiglu(gate, up)

    @staticmethod
    def backward(ctx, grad_output):
        return masked(swiglu_backward(grad_output, *ctx.saved_tensor()), ctx.needs_input_grad)


# ---- a step and the linear layer after it: inputs of the step, then weight and bias of the layer


class LinearFunction(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.needs_input_grad = needs_grad(x, weight, bias)
        ctx.save_for_backward(x, weight)
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensor()
        needs_x, needs_weight, *needs_bias = ctx.needs_input_grad
        grads = linear_param_grads(x if needs_weight else None, grad_output, needs_bias)
        return (linear_input_grad(grad_output, weight) if needs_x else None, *grads)


def linear_param_grads(x, grad_output, needs_bias: list[bool]) -> list[paddle.Tensor | None]:
    """By the weight, if its input x (..., D) is given, and by the bias, if there is one."""
    grad_weight = None if x is None else weight_grad(x, grad_output)
    return [grad_weight, *(bias_grad(grad_output) if needed else None for needed in needs_bias)]


def linear_input_grad(grad_output, weight) -> paddle.Tensor:
    return paddle.matmul(grad_output, weight, transpose_y=True)


class LayerNormLinear(PyLayer):
    @staticmethod
    def forward(ctx, x, norm_weight, norm_bias, epsilon, weight, bias):
        ctx.needs_input_grad, ctx.epsilon = needs_grad(x, norm_weight, norm_bias, weight, bias), epsilon
        ctx.save_for_backward(x, norm_weight, norm_bias, weight)
        return linear(layer_norm(x, norm_weight, norm_bias, epsilon), weight, bias)

    @staticmethod
    def backward(ctx, grad_output):
        x, norm_weight, norm_bias, weight = ctx.saved_tensor()
        *needs_norm, needs_weight, needs_bias = ctx.needs_input_grad
        normalized = layer_norm(x, norm_weight, norm_bias, ctx.epsilon) if needs_weight else None
        grads = linear_param_grads(normalized, grad_output, [needs_bias])
        if not any(needs_norm):
            return (None, None, None, *grads)
        grad_normalized = linear_input_grad(grad_output, weight)
        norm_grads = norm_backward(grad_normalized, x, norm_weight, ctx.epsilon, centered=True)
        return (*masked(norm_grads, needs_norm), *grads)


class GeluLinear(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.needs_input_grad = needs_grad(x, weight, bias)
        ctx.save_for_backward(x, weight)
        return linear(gelu(x), weight, bias)

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensor()
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grads = linear_param_grads(gelu(x) if needs_weight else None, grad_output, [needs_bias])
        grad_x = gelu_backward(linear_input_grad(grad_output, weight), x) if needs_x else None
        return (grad_x, *grads)


class SwiGLULinear(PyLayer):
    """Qwen2's down_proj, which has no bias."""

    @staticmethod
    def forward(ctx, gate, up, weight):
        ctx.needs_input_grad = needs_grad(gate, up, weight)
        ctx.save_for_backward(gate, up, weight)
        return linear(swiglu(gate, up), weight, None)

    @staticmethod
    def backward(ctx, grad_output):
        gate, up, weight = ctx.saved_tensor()
        *needs_inputs, needs_weight = ctx.needs_input_grad
        (grad_weight,) = linear_param_grads(swiglu(gate, up) if needs_weight else None, grad_output, [])
        if not any(needs_inputs):
            return None, None, grad_weight
        grads = swiglu_backward(linear_input_grad(grad_output, weight), gate, up)
        return (*masked(grads, needs_inputs), grad_weight)


class Im2ColLinear(PyLayer):
    """A convolution over maps with the channels last; weight (k*k*C, D)."""

    @staticmethod
    def forward(ctx, x, size, stride, padding, weight, bias):
        ctx.needs_input_grad, ctx.kernel = needs_grad(x, weight, bias), (size, stride, padding)
        ctx.save_for_backward(x, weight)
        return linear(im2col(x, *ctx.kernel), weight, bias)

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensor()
        needs_x, needs_weight, *needs_bias = ctx.needs_input_grad
        grads = linear_param_grads(im2col(x, *ctx.kernel) if needs_weight else None, grad_output, needs_bias)
        grad_x = col2im(linear_input_grad(grad_output, weight), x, *ctx.kernel) if needs_x else None
        return (grad_x, *grads)

"""Qwen2's layers cut over the processes of a tensor-parallel group; everything else stays whole in each.

q, k, v, gate and up keep a share of their outputs (heads, MLP units), o and down the rows that read them.
Knows neither the trainer nor files: whoever saves or loads joins the parts first, so that checkpoints are the
same whatever the degree. Paddle's own mpu layers are not used: they need a GPU, these run over gloo as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import nn
from paddle.autograd import PyLayer

from .decoder import Qwen2Decoder

_BY_OUTPUT = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
_BY_INPUT = ("o_proj", "down_proj")


class TensorParallelError(ValueError):
    """A decoder that cannot be cut as wanted."""


@dataclass(frozen=True)
class Cut:
    """Which part of a parameter this process has; hangs at the parameter as `cut`."""

    axis: int
    rank: int
    degree: int
    group: Any = None  # of paddle.distributed

    def own(self, whole: Any) -> Any:
        """This process's part of an array or tensor."""
        size = whole.shape[self.axis] // self.degree
        return whole[(slice(None),) * self.axis + (slice(self.rank * size, (self.rank + 1) * size),)]

    def whole(self, own: paddle.Tensor) -> paddle.Tensor:
        """All processes' parts joined; every process of the group must come here."""
        parts: list[paddle.Tensor] = []
        paddle.distributed.all_gather(parts, own.contiguous(), group=self.group)
        return paddle.concat(parts, axis=self.axis)


def cut_axis(name: str) -> int | None:
    """The axis along which a parameter of Qwen2 is cut; weights are [in, out]. None: it stays whole."""
    layer, _, kind = name.rpartition(".")
    if layer.endswith(_BY_OUTPUT):
        return 1 if kind == "weight" else 0
    return 0 if layer.endswith(_BY_INPUT) and kind == "weight" else None


class _Copied(PyLayer):
    """x goes into every process's share of a layer, so its gradient is the sum over them."""

    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        grad = grad.clone()
        paddle.distributed.all_reduce(grad, group=ctx.group)
        return grad


class _Summed(PyLayer):
    """Every process's share of a layer gives one term of the result."""

    @staticmethod
    def forward(ctx, x, group):
        x = x.clone()
        paddle.distributed.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


def check(decoder: nn.Layer, degree: int) -> None:
    """Refuse a decoder that cannot be cut into `degree` parts."""
    config = decoder.config
    if not isinstance(decoder, Qwen2Decoder):
        raise TensorParallelError(f"tensor_parallel ({degree}): a decoder of kind {config.kind}; qwen2 only")
    for key in ("heads", "kv_heads", "mlp_width"):
        if getattr(config, key) % degree:
            raise TensorParallelError(
                f"tensor_parallel ({degree}) must divide decoder.{key} ({getattr(config, key)})"
            )


def split(decoder: Qwen2Decoder, rank: int, degree: int, group: Any = None) -> None:
    """Leave this process its share of every layer, cut from the whole weights."""
    check(decoder, degree)
    for layer in decoder.model.layers:
        for name, linear in layer.named_sublayers():
            if name.endswith(_BY_OUTPUT + _BY_INPUT):
                _keep_part(linear, name, rank, degree, group)
        layer.self_attn.num_heads //= degree
        layer.self_attn.num_key_value_heads //= degree
        # the norms feed q, k, v and gate, up, and nothing else
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.register_forward_post_hook(lambda _layer, _inputs, x: _Copied.apply(x, group))
        for last in (layer.self_attn.o_proj, layer.mlp.down_proj):
            last.register_forward_post_hook(lambda _layer, _inputs, x: _Summed.apply(x, group))


def _keep_part(linear: nn.Linear, name: str, rank: int, degree: int, group: Any) -> None:
    for kind, whole in list(linear._parameters.items()):
        if whole is None:
            continue
        cut = Cut(cut_axis(f"{name}.{kind}"), rank, degree, group)
        values = cut.own(whole.detach())
        part = _parameter(linear, values)
        part.stop_gradient = whole.stop_gradient
        part.cut, part.is_distributed = cut, True  # the latter has Paddle's clipping sum over the group
        linear._parameters[kind] = part


def _parameter(layer: nn.Layer, values: paddle.Tensor) -> paddle.Tensor:
    zeros = nn.initializer.Constant(0.0)  # draws nothing: what is random later is as without a split
    made = layer.create_parameter(values.shape, dtype=values.dtype, default_initializer=zeros)
    made.set_value(values)
    return made


@contextlib.contextmanager
def joined(model: nn.Layer) -> Iterator[None]:
    """Within, every parameter is whole; afterwards each process has its part of what they are then.

    Every process of the group must come here. All whole weights exist beside the parts meanwhile.
    """
    cut = [
        (layer, kind, part)
        for layer in model.sublayers()
        for kind, part in layer._parameters.items()
        if hasattr(part, "cut")
    ]
    for layer, kind, part in cut:
        values = part.cut.whole(part.detach())
        layer._parameters[kind] = _parameter(layer, values)
    try:
        yield
    finally:
        for layer, kind, part in cut:
            part.set_value(part.cut.own(layer._parameters[kind].detach()))
            layer._parameters[kind] = part

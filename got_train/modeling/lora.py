"""LoRA: low-rank matrices beside linear layers (Hu et al., 2021)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paddle
from paddle import nn

from got_train.errors import CheckpointError

from .layers import linear_names

if TYPE_CHECKING:
    from .got import Got


MATRICES = (".lora_A", ".lora_B")


@dataclass(frozen=True)
class Adapter:
    """What adapter.json tells; the weights beside it are the matrices, and all of the parts in `whole`."""

    base: str  # the folder of the whole model
    base_sha256: str  # of its weights, in whatever layout
    prompt_template: str
    rank: int
    alpha: float
    dropout: float
    layers: tuple[str, ...]  # that have matrices
    whole: tuple[str, ...] = ()  # parts that trained as a whole


def target_layers(model: Got, parts: Sequence[str], targets: Sequence[str] = ()) -> tuple[str, ...]:
    """The linear layers of these parts whose names end with one of the targets; without targets all."""
    linears = [name.removesuffix(".weight") for name in sorted(linear_names(model))]
    linears = [name for name in linears if name.partition(".")[0] in parts]
    for target in targets:
        if not any(_fits(name, target) for name in linears):
            ends = ", ".join(sorted({name.rpartition(".")[2] for name in linears}))
            raise CheckpointError(
                f"lora.targets: no layer of {', '.join(parts)} is {target!r}; there are {ends}"
            )
    return tuple(name for name in linears if not targets or any(_fits(name, named) for named in targets))


def _fits(name: str, target: str) -> bool:
    return re.search(rf"(?:^|\.)(?:{target})$", name) is not None


def attach(model: Got, adapter: Adapter) -> None:
    """Put matrices beside the layers: A random, B zero, so that nothing changes yet. Weights are shared."""
    for name in adapter.layers:
        _put(model, name, _lora_linear(_layer(model, name), adapter))


def detach(model: Got, fold: bool = False) -> Got:
    """Take the matrices off again; with `fold` their product stays, added to the weights."""
    from paddlenlp.peft.lora.lora_layers import LoRALinear

    for name, layer in list(model.named_sublayers()):
        if isinstance(layer, LoRALinear):
            if fold:
                layer.weight.set_value(layer.weight + layer.get_delta_weight())
            layer.base_layer.training = layer.training
            _put(model, name, layer.base_layer)
    return model


def _lora_linear(linear: nn.Linear, adapter: Adapter) -> nn.Linear:
    """paddlenlp's layer with the very weights of this one, which it keeps as `base_layer`."""
    from paddlenlp.peft.lora.lora_layers import LoRALinear

    before = paddle.get_default_dtype()
    paddle.set_default_dtype(linear.weight.dtype)
    try:
        lora = LoRALinear(
            *linear.weight.shape,
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            weight_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0.0)),  # random takes longer
            bias_attr=False,
        )
    finally:
        paddle.set_default_dtype(before)
    lora.weight, lora.bias = linear.weight, linear.bias
    lora.train() if linear.training else lora.eval()
    object.__setattr__(lora, "base_layer", linear)  # not a sublayer: its weights are these already
    return lora


def _layer(model: nn.Layer, name: str) -> nn.Layer:
    for step in name.split("."):
        if not hasattr(model, step):
            raise CheckpointError(
                f"adapter: this model has no layer {name}; expected an adapter of the same sizes"
            )
        model = getattr(model, step)
    return model


def _put(model: nn.Layer, name: str, layer: nn.Layer) -> None:
    parent, _, last = name.rpartition(".")
    setattr(_layer(model, parent) if parent else model, last, layer)


def _is_kept(name: str, adapter: Adapter) -> bool:
    return name.endswith(MATRICES) or name.partition(".")[0] in adapter.whole

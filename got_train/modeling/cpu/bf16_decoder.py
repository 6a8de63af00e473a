"""A decoder whose weights stand in bfloat16 and that computes in float32: for reading on the CPU.

A token of one sequence takes as long as the weights take to come from memory, so half the bytes are nearly
half the time. Released checkpoints are bfloat16 already and lose nothing; others are rounded.
"""

# R rows of all leading axes  D, E widths

from __future__ import annotations

import paddle
from paddle import nn

from got_train.cpu import kernels
from got_train.errors import RequirementError
from got_train.modeling.decoder import Decoder

from .accelerate import CpuLinear, accelerate
from .autograd import lm_head_logits
from .int8_decoder import is_int8


class BF16Linear(nn.Layer):
    """x (..., D) float32 times a weight in bfloat16, plus bias (E,), without gradients."""

    def __init__(self, layer: nn.Layer):
        super().__init__()
        self.register_buffer("weight_t", layer.weight.t().astype("bfloat16"))  # (E, D)
        self.bias = layer.bias

    @paddle.no_grad()
    def forward(self, x):
        y = lm_head_logits(x.flatten(0, -2), self.weight_t)  # (R, E)
        if self.bias is not None:
            kernels.add_bias(y, self.bias)
        return y.reshape([*x.shape[:-1], -1])


def cast_decoder_to_bf16(decoder: Decoder) -> None:
    """Round its linear weights and word embeddings, which are the head's too; adapters stay as they are."""
    if not paddle.get_device().startswith("cpu"):
        raise RequirementError(
            f"decoder in bfloat16: {paddle.get_device()} is not a CPU; use --dtype bfloat16 there"
        )
    if is_int8(decoder):
        raise RequirementError("decoder in bfloat16: this checkpoint's is int8 already; leave it so")
    accelerate(decoder)  # Paddle computes nothing with such weights on the CPU
    for parent in decoder.sublayers(include_self=True):
        for name, layer in parent.named_children():
            if type(layer) is CpuLinear:
                setattr(parent, name, BF16Linear(layer))
            elif getattr(layer, "weight", None) is decoder.head:
                layer.to(dtype="bfloat16")

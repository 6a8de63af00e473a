"""Puts the CPU's forwards on a model, from outside: every layer takes a class with the same parameters.

What is computed stays the same but for rounding; tests/modeling/test_accelerate.py compares all of it.
"""

# V views  S side of a map  E width  B batch  T tokens  H heads  d head width

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddlenlp.transformers.qwen2.modeling import Qwen2MLP, Qwen2RMSNorm

from got_train import compat
from got_train.cpu import settings
from got_train.cpu.parallel_jit import as_numpy
from got_train.modeling.decoder import OptDecoder, Qwen2Decoder, Qwen2Layer, merge_heads, split_heads
from got_train.modeling.got import Got
from got_train.modeling.kv_cache import KVCache
from got_train.modeling.layers import LayerNorm
from got_train.modeling.vision import Attention, Block, Mlp, Vision

from .autograd import (
    Gelu,
    GeluLinear,
    Im2ColLinear,
    LayerNormFunction,
    LayerNormLinear,
    LinearFunction,
    ResidualAdd,
    RMSNormFunction,
    SwiGLU,
    SwiGLULinear,
    lm_head_logits,
)
from .causal_attention import causal_attention, decode_attention
from .rel_pos_attention import RelPosAttention
from .rotary import RotaryEmbedding
from .windows import MergeHeads, MergeHeadsLinear, SplitHeads, WindowHeads


def accelerate(model: nn.Layer) -> None:
    """Have a Got, or an encoder, a decoder or a block, compute with the CPU's kernels from now on.

    Layers of other classes stay as they are: those with adapters, and Got's projector, one product a view.
    """
    for layer in _layers(model):
        layer.__class__ = CPU_CLASSES.get(type(layer), type(layer))


def restore(model: nn.Layer) -> None:
    """Undo accelerate."""
    plain_classes = {accelerated: plain for plain, accelerated in CPU_CLASSES.items()}
    for layer in _layers(model):
        layer.__class__ = plain_classes.get(type(layer), type(layer))


def accelerate_if_tuned(model: nn.Layer) -> None:
    """accelerate in a process on the CPU that called got_train.cpu.settings.tune."""
    if settings.is_tuned() and paddle.get_device() == "cpu":
        accelerate(model)


def _layers(model: nn.Layer) -> list[nn.Layer]:
    parts = (model.vision, model.decoder) if isinstance(model, Got) else (model,)
    layers = [layer for part in parts for layer in part.sublayers(include_self=True)]
    return layers + [layer.base_layer for layer in layers if hasattr(layer, "base_layer")]  # below adapters


class CpuLinear(nn.Linear):
    def forward(self, x):
        return LinearFunction.apply(x, self.weight, self.bias)


class CpuConv2D(nn.Conv2D):
    """Over maps with the channels last, (V, S, S, C) -> (V, T, T, D), as a matrix product."""

    def forward(self, x):
        weight = self.weight.transpose([2, 3, 1, 0]).flatten(0, 2)  # (k*k*C, D)
        size, stride, padding = compat.conv_geometry(self)
        if size == 1:
            return LinearFunction.apply(x, weight, self.bias)
        return Im2ColLinear.apply(x, size, stride, padding, weight, self.bias)


class CpuLayerNorm(LayerNorm):
    def forward(self, x):
        return LayerNormFunction.apply(x, self.weight, self.bias, compat.layer_norm_epsilon(self))


class CpuRMSNorm(Qwen2RMSNorm):
    """paddlenlp's pow(2) takes a hundred times as long as a product."""

    def forward(self, x):
        return RMSNormFunction.apply(x, self.weight, self.variance_epsilon)


# ---- the encoder


def layer_norm_linear(x, norm: LayerNorm, linear: nn.Layer) -> paddle.Tensor:
    """linear(norm(x)), fused unless the linear layer has an adapter, as in the next two."""
    if not isinstance(linear, CpuLinear):
        return linear(norm(x))
    epsilon = compat.layer_norm_epsilon(norm)
    return LayerNormLinear.apply(x, norm.weight, norm.bias, epsilon, linear.weight, linear.bias)


def gelu_linear(x, linear: nn.Layer) -> paddle.Tensor:
    if not isinstance(linear, CpuLinear):
        return linear(Gelu.apply(x))
    return GeluLinear.apply(x, linear.weight, linear.bias)


def merge_heads_linear(x, windows: WindowHeads, linear: nn.Layer) -> paddle.Tensor:
    if not isinstance(linear, CpuLinear):
        return linear(MergeHeads.apply(x, windows))
    return MergeHeadsLinear.apply(x, windows, linear.weight, linear.bias)


class CpuAttention(Attention):
    """Takes the block's map and the norm before it, so that only the map is kept for the backward pass."""

    def forward(self, x, norm):  # (V, S, S, E)
        windows = WindowHeads(x.shape[1], self.window_size, self.heads, self.head_width)
        qkv = layer_norm_linear(x, norm, self.qkv)
        q, k, v = SplitHeads.apply(qkv, self.qkv.bias, windows)  # (W*H, N, d) each
        x = RelPosAttention.apply(q, k, v, self.rel_pos_h, self.rel_pos_w)
        return merge_heads_linear(x, windows, self.proj)


class CpuMlp(Mlp):
    def forward(self, x, norm):
        return gelu_linear(layer_norm_linear(x, norm, self.lin1), self.lin2)


class CpuBlock(Block):
    def forward(self, x):
        x = ResidualAdd.apply(x, self.attn(x, self.norm1))
        return ResidualAdd.apply(x, self.mlp(x, self.norm2))


class CpuVision(Vision):
    def add_position_embeddings(self, x):
        # Paddle's own broadcast is five times slower backward
        return ResidualAdd.apply(x, self.pos_embed.expand(x.shape))


# ---- the decoders


class CpuQwen2MLP(Qwen2MLP):
    def forward(self, x):
        gate, up, down = self.gate_proj(x), self.up_proj(x), self.down_proj
        if not isinstance(down, CpuLinear):
            return down(SwiGLU.apply(gate, up))
        return SwiGLULinear.apply(gate, up, down.weight)


class CpuQwen2Layer(Qwen2Layer):
    def forward(self, x, cos, sin, attend):
        x = ResidualAdd.apply(x, self.attention(self.input_layernorm(x), cos, sin, attend))
        return ResidualAdd.apply(x, self.mlp(self.post_attention_layernorm(x)))

    def attention(self, x, cos, sin, attend):
        attn = self.self_attn
        shape = [*x.shape[:2], -1, attn.head_dim]
        q, k = (
            RotaryEmbedding.apply(proj(x).reshape(shape), cos, sin) for proj in (attn.q_proj, attn.k_proj)
        )
        return attn.o_proj(merge_heads(attend(q, k, split_heads(attn.v_proj(x), attn.head_dim))))


class CpuKVCache(KVCache):
    def write(self, buffer, index, new):
        as_numpy(buffer)[index] = as_numpy(new)  # Paddle takes ten times as long


class _CpuDecoder:
    """What both decoders do otherwise."""

    causal_attention = staticmethod(causal_attention)
    decode_attention = staticmethod(decode_attention)

    def embed(self, ids):
        """The gradient of the table, which is the head's too, is added to the head's in its place.

        Paddle's dense one is a second table. Nothing on the CPU computes in bfloat16 (bf16_decoder.py).
        """
        x = F.embedding(ids, self.head, sparse=True)
        return x.astype("float32") if x.dtype == paddle.bfloat16 else x

    def lm_head(self, x):
        return super().lm_head(x) if paddle.is_grad_enabled() else lm_head_logits(x, self.head)

    def new_cache(self, attention_mask):
        return CpuKVCache(self.config.layers, attention_mask)


class CpuQwen2Decoder(_CpuDecoder, Qwen2Decoder):
    """Qwen2Decoder with the CPU's attention, embeddings and head."""


class CpuOptDecoder(_CpuDecoder, OptDecoder):
    """OptDecoder with the CPU's embeddings and head; its attention over whole rows is paddlenlp's."""


CPU_CLASSES = {
    nn.Linear: CpuLinear,
    nn.Conv2D: CpuConv2D,
    LayerNorm: CpuLayerNorm,
    Qwen2RMSNorm: CpuRMSNorm,
    Attention: CpuAttention,
    Mlp: CpuMlp,
    Block: CpuBlock,
    Vision: CpuVision,
    Qwen2MLP: CpuQwen2MLP,
    Qwen2Layer: CpuQwen2Layer,
    Qwen2Decoder: CpuQwen2Decoder,
    OptDecoder: CpuOptDecoder,
}

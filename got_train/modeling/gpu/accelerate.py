"""Puts a GPU's attention on a model, from outside: layers take a class with the same parameters."""

from __future__ import annotations

import paddle
from paddle import nn
from paddlenlp.transformers.opt.modeling import TransformerDecoderLayer

from got_train.modeling.causal_attention import PackedMask
from got_train.modeling.decoder import OptDecoder, Qwen2Decoder, merge_heads, split_heads
from got_train.modeling.rel_pos_attention import fold_rel_pos
from got_train.modeling.vision import Attention

from .attention import blockwise_attention, causal_attention, has_fused_kernel


def accelerate_on_gpu(model: nn.Layer) -> None:
    """accelerate where Paddle has a GPU; on a CPU nothing."""
    if paddle.get_device().startswith("gpu"):
        accelerate(model)


def accelerate(model: nn.Layer) -> None:
    """Have a model's attention run as GPUs want it; what is computed stays the same but for rounding."""
    for layer in model.sublayers(include_self=True):
        layer.__class__ = GPU_CLASSES.get(type(layer), type(layer))


def restore(model: nn.Layer) -> None:
    """Undo accelerate."""
    plain_classes = {accelerated: plain for plain, accelerated in GPU_CLASSES.items()}
    for layer in model.sublayers(include_self=True):
        layer.__class__ = plain_classes.get(type(layer), type(layer))


class GpuAttention(Attention):
    """Where no fused kernel takes the windows, their scores exist in blocks."""

    def attend(self, q, k, v):
        side = self.window_size
        if has_fused_kernel(q.dtype, -(-(self.head_width + 2 * side) // 8) * 8):
            return super().attend(q, k, v)
        return blockwise_attention(*fold_rel_pos(q, k, self.rel_pos_h, self.rel_pos_w), v)


class GpuQwen2Decoder(Qwen2Decoder):
    causal_attention = staticmethod(causal_attention)


class GpuOptDecoder(OptDecoder):
    """Layers get the segments of rows instead of a matrix of what each token may see."""

    causal_attention = staticmethod(causal_attention)

    def layer_mask(self, mask: PackedMask, dtype: paddle.dtype) -> PackedMask:
        return mask


class GpuOptLayer(TransformerDecoderLayer):
    """paddlenlp's layer of a decoder that normalizes first, without the scores of all pairs."""

    def forward(self, x, memory, mask: PackedMask):
        attn, hidden = self.self_attn, self.norm1(x)
        q, k, v = (
            split_heads(proj(hidden), attn.head_dim) for proj in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        dropout = attn.dropout if self.training and has_fused_kernel(q.dtype, attn.head_dim) else 0.0
        x = x + self.dropout1(attn.out_proj(merge_heads(causal_attention(q, k, v, mask, dropout))))
        return x + self.dropout2(self.linear2(self.activation(self.linear1(self.norm2(x)))))


GPU_CLASSES = {
    Attention: GpuAttention,
    Qwen2Decoder: GpuQwen2Decoder,
    OptDecoder: GpuOptDecoder,
    TransformerDecoderLayer: GpuOptLayer,
}

"""The two decoders, Qwen2 and OPT, both paddlenlp's layers behind one small interface. They know no pixels.

Each offers `embed(ids)`, a training pass over whole rows, `step`, the same layers over new tokens with a
KVCache, and `lm_head`, whose matrix is that of the word embeddings.
"""

# B batch  T new tokens  D width  H heads  K key-value heads  d head width

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import paddle
import paddle.nn.functional as F
from paddle import nn

from .causal_attention import PackedMask, causal_attention, decode_attention, to_additive_mask
from .config import DecoderConfig
from .kv_cache import KVCache
from .layers import LayerNorm, checkpoint_layer

# (index of the layer, q (B, H, T, d), k and v (B, K, T, d)) -> (B, H, T, d)
Attention = Callable[[int, paddle.Tensor, paddle.Tensor, paddle.Tensor], paddle.Tensor]


def split_heads(x: paddle.Tensor, head_dim: int) -> paddle.Tensor:
    """(B, T, H * d) -> (B, H, T, d)."""
    return x.reshape([*x.shape[:2], -1, head_dim]).transpose([0, 2, 1, 3])


def merge_heads(x: paddle.Tensor) -> paddle.Tensor:
    """(B, H, T, d) -> (B, T, H * d)."""
    return x.transpose([0, 2, 1, 3]).flatten(2)


def apply_rope(x: paddle.Tensor, cos: paddle.Tensor, sin: paddle.Tensor) -> paddle.Tensor:
    """Rotary positions: x (B, H, T, d) by cosines and sines of the positions, (B, 1, T, d)."""
    first, second = x.chunk(2, axis=-1)
    return x * cos + paddle.concat([-second, first], axis=-1) * sin


def init_weights(layer: nn.Layer, std: float) -> None:
    """Linear and embedding weights from N(0, std), biases zero: the start of both published decoders."""
    for sub in layer.sublayers():
        if isinstance(sub, (nn.Linear, nn.Embedding)):
            nn.initializer.Normal(std=std)(sub.weight)
        if isinstance(sub, nn.Linear) and sub.bias is not None:
            nn.initializer.Constant(0.0)(sub.bias)


class Decoder(nn.Layer):
    """What both decoders share: word embeddings, which are the head too, and attention to cached tokens."""

    def __init__(self, config: DecoderConfig, model: nn.Layer):
        super().__init__()
        self.config, self.model = config, model
        self.enable_recompute = False  # set by the trainer
        self._observed_layer: int | None = None  # within observe_attention
        self._observed: list[paddle.Tensor] = []
        init_weights(model, config.init_std)
        for layer in model.sublayers():
            if type(layer) is nn.LayerNorm:  # built by paddlenlp: same weights, our forward
                layer.__class__ = LayerNorm

    def embed(self, ids):
        """Word embeddings of ids, (B, T, D)."""
        return F.embedding(ids, self.head)

    def lm_head(self, x):
        """States (R, D) -> logits (R, vocabulary)."""
        return paddle.matmul(x, self.head, transpose_y=True)

    def new_cache(self, attention_mask) -> KVCache:
        return KVCache(self.config.layers, attention_mask)

    # attributes of the class, in whose place the CPU's decoder (cpu/accelerate.py) has its own
    causal_attention = staticmethod(causal_attention)
    decode_attention = staticmethod(decode_attention)

    def attention(self, mask: PackedMask) -> Attention:
        """How the tokens of whole rows see each other."""

        def attend(layer, q, k, v):
            if layer == self._observed_layer:
                self._observed[:] = q, k
            return self.causal_attention(q, k, v, mask)

        return attend

    @contextmanager
    def observe_attention(self, layer: int) -> Iterator[list[paddle.Tensor]]:
        """A list that takes q (B, H, T, d) and k (B, K, T, d) of a layer, for a loss of where it looks.

        Only of Qwen2, and not of layers that are computed twice: OPT's layers are paddlenlp's.
        """
        self._observed_layer, self._observed = layer, []
        try:
            yield self._observed
        finally:
            self._observed_layer, self._observed = None, []

    def cached_attention(self, cache: KVCache, tokens: int) -> Attention:
        """How new tokens see the cached ones and each other; the cache takes their keys and values."""
        if cache.length == 0:  # the prompt: nothing is cached, its tokens see each other
            prompt = PackedMask((~cache.padding).astype("int64"), cache.padding.shape)

            def attend(layer, q, k, v):
                cache.update(layer, k, v)
                return self.causal_attention(q, k, v, prompt)

            return attend
        mask = cache.mask(tokens)
        return lambda layer, q, k, v: self.decode_attention(q, *cache.update(layer, k, v), mask)


class Qwen2Layer(nn.Layer):
    """The parts of paddlenlp's layer, run in the same way over whole rows and with a cache."""

    def __init__(self, layer: nn.Layer):
        super().__init__()
        self.self_attn, self.mlp = layer.self_attn, layer.mlp
        self.input_layernorm = layer.input_layernorm
        self.post_attention_layernorm = layer.post_attention_layernorm

    def forward(self, x, cos, sin, attend):  # (B, T, D)
        x = x + self.attention(self.input_layernorm(x), cos, sin, attend)
        return x + self.mlp(self.post_attention_layernorm(x))

    def attention(self, x, cos, sin, attend):
        attn = self.self_attn
        q, k, v = (split_heads(proj(x), attn.head_dim) for proj in (attn.q_proj, attn.k_proj, attn.v_proj))
        q, k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)
        return attn.o_proj(merge_heads(attend(q, k, v)))


class Qwen2Decoder(Decoder):
    """paddlenlp's Qwen2Model; GOT's sizes are those of Qwen1.5-0.5B (16 of 16 heads, no grouping)."""

    def __init__(self, config: DecoderConfig):
        from paddlenlp.transformers import Qwen2Config, Qwen2Model

        model = Qwen2Model(
            Qwen2Config(
                vocab_size=config.vocab_size,
                hidden_size=config.width,
                intermediate_size=config.mlp_width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads,
                max_position_embeddings=config.max_positions,
                rope_theta=config.rope_theta,
                rms_norm_eps=config.norm_eps,
                tie_word_embeddings=True,
                use_cache=False,
                use_flash_attention=False,
                use_fused_rms_norm=False,
                use_fused_rope=False,
            )
        )
        super().__init__(config, model)
        # one rope table for all layers: paddlenlp makes an equal one for each, 17 MB in GOT
        self._rotary = model.layers[0].self_attn.rotary_emb
        for index, layer in enumerate(model.layers):
            del layer.self_attn.rotary_emb
            model.layers[index] = Qwen2Layer(layer)

    @property
    def head(self) -> paddle.Tensor:
        return self.model.embed_tokens.weight

    @property
    def layers(self) -> nn.LayerList:
        return self.model.layers

    def forward(self, x, attention_mask=None, position_ids=None):
        """Embeddings (B, T, D) -> last states (B, T, D), after the final norm."""
        if position_ids is None:
            position_ids = paddle.arange(x.shape[1]).expand(x.shape[:2])
        mask = PackedMask(attention_mask, x.shape[:2])
        return self._last_states(x, position_ids, self.attention(mask))

    def step(self, x, position_ids, cache):
        """Embeddings of new tokens (B, T, D) -> their last states; the cache keeps their keys and values."""
        tokens = x.shape[1]
        x = self._last_states(x, position_ids, self.cached_attention(cache, tokens))
        cache.advance(tokens)
        return x

    def _last_states(self, x, position_ids, attend):
        rope_tables = self._rotary.cos_cached, self._rotary.sin_cached  # (1, positions, 1, d) each
        rows = [F.embedding(position_ids, table[0, :, 0]) for table in rope_tables]  # (B, T, d) each
        cos, sin = (row.unsqueeze(1).astype(x.dtype) for row in rows)  # (B, 1, T, d) each
        recompute = self.enable_recompute and self.training
        for index, layer in enumerate(self.layers):
            x = checkpoint_layer(layer, x, cos, sin, partial(attend, index), recompute=recompute)
        return self.model.norm(x)


class OptDecoder(Decoder):
    """paddlenlp's OPTModel (stage 1). Its forward takes no packed rows: masks and positions are made here.

    Its layers have no cache of ours either, so `step` calls their parts itself.
    """

    def __init__(self, config: DecoderConfig):
        from paddlenlp.transformers import OPTConfig, OPTModel

        model = OPTModel(
            OPTConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.width,
                word_embed_proj_dim=config.width,
                intermediate_size=config.mlp_width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=config.max_positions,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
                hidden_act="relu",
                normalize_before=True,
                initializer_range=config.init_std,
            )
        )
        super().__init__(config, model)

    @property
    def head(self) -> paddle.Tensor:
        return self.model.embeddings.word_embeddings.weight

    @property
    def layers(self) -> nn.LayerList:
        return self.model.decoder.layers

    def forward(self, x, attention_mask=None, position_ids=None):
        """As Qwen2Decoder.forward."""
        if position_ids is None:
            position_ids = paddle.arange(x.shape[1]).expand(x.shape[:2])
        mask = self.layer_mask(PackedMask(attention_mask, x.shape[:2]), x.dtype)
        x = self.add_position_embeddings(x, position_ids)
        for (
            layer
        ) in self.layers:  # None: paddlenlp's layer could look at an encoder's states, and has none here
            x = checkpoint_layer(layer, x, None, mask, recompute=self.enable_recompute and self.training)
        return self.model.decoder.final_layer_norm(x)

    def layer_mask(self, mask: PackedMask, dtype: paddle.dtype):
        """What paddlenlp's layers take: a number added to each score, (B, 1, T, T)."""
        return to_additive_mask(mask.causal_mask, dtype)

    def step(self, x, position_ids, cache):
        """As Qwen2Decoder.step."""
        x = self.add_position_embeddings(x, position_ids)
        tokens = x.shape[1]
        attend = self.cached_attention(cache, tokens)
        for index, layer in enumerate(self.layers):
            attn, hidden = layer.self_attn, layer.norm1(x)
            q, k, v = (
                split_heads(proj(hidden), attn.head_dim) for proj in (attn.q_proj, attn.k_proj, attn.v_proj)
            )
            x = x + attn.out_proj(merge_heads(attend(index, q, k, v)))
            x = x + layer.linear2(layer.activation(layer.linear1(layer.norm2(x))))
        cache.advance(tokens)
        return self.model.decoder.final_layer_norm(x)

    def add_position_embeddings(self, x, position_ids):
        table = self.model.embeddings.position_embeddings
        longest = int(position_ids.max()) + 1
        if longest > self.config.max_positions:
            raise ValueError(
                f"decoder: {longest} tokens in a row; OPT has {self.config.max_positions} positions"
            )
        x = x + F.embedding(position_ids + table.offset, table.weight)
        return self.model.embeddings.dropout(x)


def build_decoder(config: DecoderConfig) -> Decoder:
    return {"qwen2": Qwen2Decoder, "opt": OptDecoder}[config.kind](config)

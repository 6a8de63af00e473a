"""The two decoders, Qwen2 and OPT, both paddlenlp's layers behind one small interface. They know no pixels.

Each offers `embed(ids)`, `head` (the tied output matrix), a training pass over whole rows, and `step`, the
same layers over new tokens with a KeyValueCache.
"""

# B batch  T new tokens  L cached tokens  D width  H heads  K key-value heads  d head width

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import paddle
import paddle.nn.functional as F
from paddle import nn

from got_train.cpu import kernels

from .causal_attention import Samples, additive, causal_attention
from .config import DecoderConfig
from .layers import Function, RmsNorm, SwiGlu, add, after, on_cpu, run_layer, use_own_layers

# layer, q (B, H, T, d), k and v (B, K, T, d) -> (B, H, T, d)
Attend = Callable[[int, paddle.Tensor, paddle.Tensor, paddle.Tensor], paddle.Tensor]


def _heads(x: paddle.Tensor, width: int) -> paddle.Tensor:
    """(B, T, H * d) -> (B, H, T, d)."""
    return x.reshape([*x.shape[:2], -1, width]).transpose([0, 2, 1, 3])


def _together(x: paddle.Tensor) -> paddle.Tensor:
    """(B, H, T, d) -> (B, T, H * d)."""
    return x.transpose([0, 2, 1, 3]).flatten(2)


class Turned(Function):
    """Rotary positions: x (B, T, H, d) by cosines and sines of the places, (B, 1, T, d) -> (B, H, T, d)."""

    def plain(self, x, cos, sin):
        x = x.transpose([0, 2, 1, 3])
        first, second = x.chunk(2, axis=-1)
        return x * cos + paddle.concat([-second, first], axis=-1) * sin

    def forward(self, x, cos, sin):
        batch, tokens, heads, width = x.shape
        out = paddle.empty([batch, heads, tokens, width])
        kernels.turn_into_heads(x, cos.squeeze(1), sin.squeeze(1), out)
        return out

    def kept(self, x, cos, sin):
        return cos, sin

    def backward(self, slope, cos, sin):
        batch, heads, tokens, width = slope.shape
        grad = paddle.empty([batch, tokens, heads, width])
        kernels.turn_back(slope, cos.squeeze(1), sin.squeeze(1), grad)
        return grad, None, None


turned = Turned()


def _rows(table: paddle.Tensor, ids: paddle.Tensor) -> paddle.Tensor:
    """The word embeddings of ids, (B, T, D); the table is the head's too.

    On the CPU their gradient is added to the head's in its place; Paddle's dense one is a second table. A GPU
    cannot do that in half precision. Nothing on the CPU computes in bfloat16 (narrow_decoder.py).
    """
    x = F.embedding(ids, table, sparse=on_cpu(table))
    return x.astype("float32") if table.place.is_cpu_place() and x.dtype == paddle.bfloat16 else x


def _normal(layer: nn.Layer, std: float) -> None:
    """Linear and embedding weights from N(0, std), biases zero: the start of both published decoders."""
    for sub in layer.sublayers():
        if isinstance(sub, (nn.Linear, nn.Embedding)):
            nn.initializer.Normal(std=std)(sub.weight)
        if isinstance(sub, nn.Linear) and sub.bias is not None:
            nn.initializer.Constant(0.0)(sub.bias)


class Qwen2Layer(nn.Layer):
    """The parts of paddlenlp's layer, run in the same way over whole rows and with a cache."""

    def __init__(self, layer: nn.Layer):
        super().__init__()
        self.self_attn, self.mlp = layer.self_attn, layer.mlp
        self.input_layernorm = RmsNorm(layer.input_layernorm)
        self.post_attention_layernorm = RmsNorm(layer.post_attention_layernorm)

    def forward(self, x, cos, sin, attend):
        x = add(x, self.attended(self.input_layernorm(x), cos, sin, attend))
        return add(x, self.fed(self.post_attention_layernorm(x)))

    def attended(self, x, cos, sin, attend):
        own = self.self_attn
        shape = [*x.shape[:2], -1, own.head_dim]
        q, k = (turned(f(x).reshape(shape), cos, sin) for f in (own.q_proj, own.k_proj))
        return own.o_proj(_together(attend(q, k, _heads(own.v_proj(x), own.head_dim))))

    def fed(self, x):
        mlp = self.mlp
        return after(mlp.down_proj, SwiGlu(), mlp.gate_proj(x), mlp.up_proj(x))


class Qwen2Decoder(nn.Layer):
    """paddlenlp's Qwen2Model; GOT's sizes are those of Qwen1.5-0.5B (16 of 16 heads, no grouping)."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        from paddlenlp.transformers import Qwen2Config, Qwen2Model

        self.config = config
        self.model = Qwen2Model(
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
        _normal(self.model, config.init_std)
        use_own_layers(self.model)
        self.enable_recompute = False  # set by the trainer
        # paddlenlp makes equal tables for each layer, 17 MB in GOT
        self._rotary = self.model.layers[0].self_attn.rotary_emb
        for index, layer in enumerate(self.model.layers):
            del layer.self_attn.rotary_emb
            self.model.layers[index] = Qwen2Layer(layer)
        self.model.norm = RmsNorm(self.model.norm)

    @property
    def head(self) -> paddle.Tensor:
        return self.model.embed_tokens.weight

    def embed(self, ids):
        return _rows(self.head, ids)

    def forward(self, x, attention_mask=None, position_ids=None):
        """Embeddings (B, T, D) -> last states (B, T, D), after the final norm."""
        samples = Samples(attention_mask, x.shape[:2])
        if position_ids is None:
            position_ids = paddle.arange(x.shape[1]).expand(x.shape[:2])
        return self._states(x, position_ids, lambda layer, q, k, v: causal_attention(q, k, v, samples))

    def step(self, x, position_ids, cache):
        """Embeddings of new tokens (B, T, D) -> their last states; the cache keeps their keys and values."""
        x = self._states(x, position_ids, cache.attention(x.shape[1]))
        cache.advance(x.shape[1])
        return x

    def _states(self, x, position_ids, attend):
        angles = self._angles(position_ids, x.dtype)
        again = self.enable_recompute and self.training
        for index, layer in enumerate(self.model.layers):
            x = run_layer(layer, x, *angles, partial(attend, index), again=again)
        return self.model.norm(x)

    def _angles(self, position_ids, dtype):
        """Cosine and sine of every place, (B, 1, T, d); the tables are the same in all layers."""
        tables = (self._rotary.cos_cached, self._rotary.sin_cached)
        return [F.embedding(position_ids, table[0, :, 0]).unsqueeze(1).astype(dtype) for table in tables]


class OptDecoder(nn.Layer):
    """paddlenlp's OPTModel (stage 1). Its forward takes no packed rows: masks and positions are made here."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        from paddlenlp.transformers import OPTConfig, OPTModel

        self.config = config
        self.model = OPTModel(
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
        _normal(self.model, config.init_std)
        use_own_layers(self.model)
        self.enable_recompute = False  # set by the trainer

    @property
    def head(self) -> paddle.Tensor:
        return self.model.embeddings.word_embeddings.weight

    def embed(self, ids):
        return _rows(self.head, ids)

    def forward(self, x, attention_mask=None, position_ids=None):
        if position_ids is None:
            position_ids = paddle.arange(x.shape[1]).expand(x.shape[:2])
        mask = additive(Samples(attention_mask, x.shape[:2]).seen, x.dtype)
        x = self._placed(x, position_ids)
        for layer in self.model.decoder.layers:
            x = run_layer(layer, x, None, mask, again=self.enable_recompute and self.training)
        return self.model.decoder.final_layer_norm(x)

    def step(self, x, position_ids, cache):
        """As Qwen2Decoder.step."""
        x = self._placed(x, position_ids)
        tokens, attend = x.shape[1], cache.attention(x.shape[1])
        for index, layer in enumerate(self.model.decoder.layers):
            attention = layer.self_attn
            h = layer.norm1(x)
            q, k, v = (
                _heads(f(h), attention.head_dim)
                for f in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            x = x + attention.out_proj(_together(attend(index, q, k, v)))
            x = x + layer.linear2(layer.activation(layer.linear1(layer.norm2(x))))
        cache.advance(tokens)
        return self.model.decoder.final_layer_norm(x)

    def _placed(self, x, position_ids):
        table = self.model.embeddings.position_embeddings
        last = int(position_ids.max())
        if last >= self.config.max_positions:
            raise ValueError(
                f"decoder: {last + 1} tokens in a row; OPT has {self.config.max_positions} positions"
            )
        x = x + F.embedding(position_ids + table.offset, table.weight)
        return self.model.embeddings.dropout(x)


def build_decoder(config: DecoderConfig) -> nn.Layer:
    return {"qwen2": Qwen2Decoder, "opt": OptDecoder}[config.kind](config)

"""The two decoders, Qwen2 and OPT, both paddlenlp's layers behind one small interface. They know no pixels.

Each offers `embed(ids)`, `head` (the tied output matrix), a training pass over whole rows, and `step`, the same
layers over new tokens with a KeyValueCache.
"""

# B batch  T new tokens  L cached tokens  D width  H heads  K key-value heads  d head width

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from .config import DecoderConfig

CACHE_BLOCK = 256  # tokens by which a cache grows


def additive(allowed: paddle.Tensor, dtype: paddle.dtype) -> paddle.Tensor:
    """A bool mask as the number added to the scores: 0 where allowed, the type's minimum elsewhere."""
    return paddle.where(allowed, paddle.zeros([], dtype), paddle.full([], paddle.finfo(dtype).min, dtype))


def causal(attention_mask: paddle.Tensor) -> paddle.Tensor:
    """(B, T) of 0 (padding), 1, 2, ... -> bool (B, 1, T, T): what each token may see.

    Equal positive numbers belong together, so that several samples packed into one row do not see one another.
    """
    tokens = attention_mask.shape[1]
    same = attention_mask.unsqueeze(1) == attention_mask.unsqueeze(2)  # (B, T, T)
    seen = same & (attention_mask > 0).unsqueeze(1)
    return (seen & paddle.tril(paddle.ones([tokens, tokens], dtype="bool"))).unsqueeze(1)


class KeyValueCache:
    """Keys and values of all layers, allocated in blocks of CACHE_BLOCK tokens and written in place."""

    def __init__(self, layers: int):
        self.keys: list = [None] * layers
        self.values: list = [None] * layers
        self.length = 0
        self.padding = None  # (B, L) bool: tokens of the prompt that are padding

    def write(self, layer: int, k: paddle.Tensor, v: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Add (B, K, T, d) behind the cached ones; returns everything up to the capacity."""
        end = self.length + k.shape[2]
        for store, new in ((self.keys, k), (self.values, v)):
            if store[layer] is None or store[layer].shape[2] < end:
                store[layer] = self._grown(store[layer], new, end)
            store[layer][:, :, self.length : end] = new
        return self.keys[layer], self.values[layer]

    @staticmethod
    def _grown(old: paddle.Tensor | None, new: paddle.Tensor, end: int) -> paddle.Tensor:
        capacity = -(-end // CACHE_BLOCK) * CACHE_BLOCK
        have = 0 if old is None else old.shape[2]
        room = paddle.zeros([new.shape[0], new.shape[1], capacity - have, new.shape[3]], new.dtype)
        return room if old is None else paddle.concat([old, room], axis=2)

    def visible(self, attention_mask: paddle.Tensor | None, new: int, dtype: paddle.dtype) -> paddle.Tensor:
        """The additive mask (B or 1, 1, T, capacity) for `new` tokens; the first call names the padding."""
        end = self.length + new
        capacity = -(-end // CACHE_BLOCK) * CACHE_BLOCK
        places = paddle.arange(capacity)
        allowed = (places.unsqueeze(0) <= paddle.arange(self.length, end).unsqueeze(1)).unsqueeze([0, 1])
        if attention_mask is not None:
            self.padding = attention_mask == 0
        if self.padding is not None:
            behind = paddle.zeros([self.padding.shape[0], capacity - self.padding.shape[1]], dtype="bool")
            hidden = paddle.concat([self.padding, behind], axis=1).unsqueeze([1, 2])
            allowed = allowed & ~hidden
        return additive(allowed, dtype)

    def keep(self, rows: paddle.Tensor) -> None:
        """Go on with these rows of the batch only (finished ones leave)."""
        self.keys = [paddle.gather(store, rows) for store in self.keys]
        self.values = [paddle.gather(store, rows) for store in self.values]
        if self.padding is not None:
            self.padding = paddle.gather(self.padding.astype("int32"), rows).astype("bool")


def scores_to_values(q, k, v, mask):
    """(B, H, T, d) x (B, H, L, d) -> (B, T, H*d); q is scaled already, mask is additive."""
    weights = F.softmax((paddle.matmul(q, k, transpose_y=True) + mask).astype("float32"), axis=-1)
    x = paddle.matmul(weights.astype(v.dtype), v).transpose([0, 2, 1, 3])  # (B, T, H, d)
    return x.flatten(2)


def _normal(layer: nn.Layer, std: float) -> None:
    """Linear and embedding weights from N(0, std), biases zero: the start of both published decoders."""
    for sub in layer.sublayers():
        if isinstance(sub, (nn.Linear, nn.Embedding)):
            nn.initializer.Normal(std=std)(sub.weight)
        if isinstance(sub, nn.Linear) and sub.bias is not None:
            nn.initializer.Constant(0.0)(sub.bias)


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

    @property
    def head(self) -> paddle.Tensor:
        return self.model.embed_tokens.weight

    def embed(self, ids):
        return self.model.embed_tokens(ids)

    def forward(self, x, attention_mask=None, position_ids=None):
        """Embeddings (B, T, D) -> last states (B, T, D), after the final norm."""
        mask = None if attention_mask is None else causal(attention_mask)
        return self.model(inputs_embeds=x, attention_mask=mask, position_ids=position_ids, return_dict=False)[0]

    def step(self, x, position_ids, cache, mask):
        for index, layer in enumerate(self.model.layers):
            attention = layer.self_attn
            h = layer.input_layernorm(x)
            batch, tokens = h.shape[:2]
            shape = [batch, tokens, -1, attention.head_dim]
            q, k, v = (f(h).reshape(shape) for f in (attention.q_proj, attention.k_proj, attention.v_proj))
            q, k = self._rotate(attention, q, k, position_ids)
            k, v = cache.write(index, k.transpose([0, 2, 1, 3]), v.transpose([0, 2, 1, 3]))
            group = attention.num_key_value_groups
            if group > 1:
                k, v = (paddle.repeat_interleave(y, group, axis=1) for y in (k, v))
            q = q.transpose([0, 2, 1, 3]) * attention.head_dim**-0.5
            x = x + attention.o_proj(scores_to_values(q, k, v, mask))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.model.norm(x)

    def _rotate(self, attention, q, k, position_ids):
        from paddlenlp.transformers.qwen2.modeling import apply_rotary_pos_emb

        cos, sin = attention.rotary_emb(q, seq_len=self.config.max_positions)
        return apply_rotary_pos_emb(q, k, cos, sin, position_ids)


class OptDecoder(nn.Layer):
    """paddlenlp's OPTModel (stage 1). Its own forward takes no packed rows, so masks and positions are made here."""

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

    @property
    def head(self) -> paddle.Tensor:
        return self.model.embeddings.word_embeddings.weight

    def embed(self, ids):
        return self.model.embeddings.word_embeddings(ids)

    def forward(self, x, attention_mask=None, position_ids=None):
        batch, tokens = x.shape[:2]
        if attention_mask is None:
            attention_mask = paddle.ones([batch, tokens], dtype="int64")
        if position_ids is None:
            position_ids = paddle.arange(tokens).expand([batch, tokens])
        mask = additive(causal(attention_mask), x.dtype)
        return self.model.decoder(self._placed(x, position_ids), None, tgt_mask=mask)

    def step(self, x, position_ids, cache, mask):
        x = self._placed(x, position_ids)
        for index, layer in enumerate(self.model.decoder.layers):
            attention = layer.self_attn
            h = layer.norm1(x)
            shape = [h.shape[0], h.shape[1], attention.num_heads, attention.head_dim]
            q, k, v = (
                f(h).reshape(shape).transpose([0, 2, 1, 3])
                for f in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            k, v = cache.write(index, k, v)
            x = x + attention.out_proj(scores_to_values(q * attention.head_dim**-0.5, k, v, mask))
            x = x + layer.linear2(layer.activation(layer.linear1(layer.norm2(x))))
        return self.model.decoder.final_layer_norm(x)

    def _placed(self, x, position_ids):
        table = self.model.embeddings.position_embeddings
        if position_ids.shape[1] > self.config.max_positions:
            raise ValueError(
                f"decoder: {position_ids.shape[1]} tokens in a row; OPT has {self.config.max_positions} positions"
            )
        x = x + F.embedding(position_ids + table.offset, table.weight)
        return self.model.embeddings.dropout(x)


def build_decoder(config: DecoderConfig) -> nn.Layer:
    return {"qwen2": Qwen2Decoder, "opt": OptDecoder}[config.kind](config)

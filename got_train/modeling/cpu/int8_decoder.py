"""A decoder whose weights stand in int8, a scale for each row, and that computes in float32: for reading.

A token of one sequence takes as long as the weights take to come from memory, so a quarter of the bytes.
Activations are not rounded. A prompt's many rows take the weights as float32, one matrix after the other.
"""

# R rows of all leading axes  N rows of a matrix, D, E widths

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from got_train.cpu import kernels
from got_train.cpu.parallel_jit import as_numpy
from got_train.errors import RequirementError
from got_train.modeling.decoder import Decoder
from got_train.modeling.int8 import quantize

from .accelerate import CpuLinear, CpuOptDecoder, CpuQwen2Decoder, accelerate
from .autograd import SMALL_BATCH_ROWS


class Int8Matrix(nn.Layer):
    """weight (N, D) int8 and scale (N,) of its rows."""

    def __init__(self, weight: np.ndarray, scale: np.ndarray):
        super().__init__()
        self.register_buffer("weight", paddle.to_tensor(weight))
        self.register_buffer("scale", paddle.to_tensor(scale))

    def matmul(self, x):
        """x (R, D) times the rows -> (R, N)."""
        if x.shape[0] <= SMALL_BATCH_ROWS:
            out = paddle.empty([x.shape[0], self.weight.shape[0]])
            kernels.int8_matmul(x, self.weight, self.scale, out)
            return out
        matrix = paddle.empty(self.weight.shape)
        kernels.dequantize(self.weight, self.scale, matrix)
        return paddle.matmul(x, matrix, transpose_y=True)


class Int8Linear(Int8Matrix):
    """x (..., D) float32 times a weight in int8, plus bias (E,), without gradients."""

    def __init__(self, weight: np.ndarray, scale: np.ndarray, bias: paddle.Tensor | None):
        super().__init__(weight, scale)
        self.bias = bias

    @paddle.no_grad()
    def forward(self, x):
        y = self.matmul(x.flatten(0, -2))  # (R, E)
        if self.bias is not None:
            kernels.add_bias(y, self.bias)
        return y.reshape([*x.shape[:-1], -1])


class Int8Embedding(Int8Matrix):
    """Words by their ids, (...,) -> (..., D) float32."""

    @paddle.no_grad()
    def forward(self, ids):
        indices = ids.numpy()
        rows = as_numpy(self.weight)[indices].astype("float32") * as_numpy(self.scale)[indices][..., None]
        return paddle.to_tensor(rows)


class _Int8Decoder:
    """The word embeddings, which are the head too."""

    def embed(self, ids):
        return self.embedding(ids)

    @paddle.no_grad()
    def lm_head(self, x):
        return self.embedding.matmul(x)


class Int8Qwen2Decoder(_Int8Decoder, CpuQwen2Decoder):
    @property
    def embedding(self) -> Int8Embedding:
        return self.model.embed_tokens


class Int8OptDecoder(_Int8Decoder, CpuOptDecoder):
    @property
    def embedding(self) -> Int8Embedding:
        return self.model.embeddings.word_embeddings


INT8_CLASSES = {CpuQwen2Decoder: Int8Qwen2Decoder, CpuOptDecoder: Int8OptDecoder}


def is_int8(decoder: nn.Layer) -> bool:
    return isinstance(decoder, _Int8Decoder)


Rows = tuple[np.ndarray, np.ndarray]  # int8 (N, D), and the scale of each


def quantize_decoder(decoder: Decoder, stored: dict[str, Rows] | None = None) -> None:
    """Round its linear weights and word embeddings, or take what a file has of them, by parameter's name.

    Adapters stay as they are. Parameters that `stored` replaces need not have been filled.
    """
    if not paddle.get_device().startswith("cpu"):
        raise RequirementError(
            f"decoder in int8: {paddle.get_device()} is not a CPU; use --dtype bfloat16 there"
        )
    if is_int8(decoder):
        return
    accelerate(decoder)
    for prefix, parent in list(decoder.named_sublayers(include_self=True)):
        for child, layer in list(parent.named_children()):
            name = ".".join(filter(None, (prefix, child, "weight")))
            if type(layer) is CpuLinear:
                rows = (stored or {}).get(name) or quantize(layer.weight.numpy().T)
                setattr(parent, child, Int8Linear(*rows, layer.bias))
            elif getattr(layer, "weight", None) is decoder.head:
                rows = (stored or {}).get(name) or quantize(layer.weight.numpy())
                embedding = (parent, child, Int8Embedding(*rows))
    setattr(*embedding)  # last, as the head tells it apart
    decoder.__class__ = INT8_CLASSES[type(decoder)]

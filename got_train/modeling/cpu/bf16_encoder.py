"""The encoder as a static graph in bfloat16, by paddle.inference: for reading on CPUs with such units.

The same Vision, traced by Paddle; knows no text, and trains nothing.
"""

# V views  P tokens a view  D out width  B windows times heads  N patches of a window  d head width

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import inference, nn

from got_train import compat
from got_train.cpu import settings
from got_train.errors import RequirementError
from got_train.modeling.rel_pos_attention import fold_rel_pos
from got_train.modeling.vision import Attention, Vision

from .accelerate import restore

# the first drops a reshape that is needed, the second takes linear layers away from oneDNN (paddle 3.3.1)
BROKEN_PASSES = ("operator_reshape_onednn_fuse_pass", "matmul_add_act_fuse_pass")
CHUNK_QUERIES = 512


class ExportedVisionEncoder:
    """Vision's forward pass, view by view: (V, 3, side, side) float32 -> (V, P, D) float32."""

    def __init__(self, vision: Vision, threads: int) -> None:
        if not paddle.get_device().startswith("cpu") or not settings.has_bfloat16():
            raise RequirementError(
                f"encoder in bfloat16: {paddle.get_device()} is not a CPU with avx512_bf16 or amx_bf16; "
                "use float32"
            )
        self.vision, self.threads = vision, threads
        with tempfile.TemporaryDirectory() as folder:
            self._predictor = _load(export(vision, Path(folder)), threads)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def attach(self) -> None:
        """From now on whoever calls the encoder is served from here."""
        self.vision.forward = self

    def __call__(self, pixels: paddle.Tensor) -> paddle.Tensor:
        features = [self._encode(view) for view in pixels.numpy()]
        settings.set_threads(self.threads)  # a run sets all of Paddle to one thread
        return paddle.to_tensor(np.stack(features))

    def _encode(self, view: np.ndarray) -> np.ndarray:
        self._input.copy_from_cpu(view[None])
        self._predictor.run()
        return self._output.copy_to_cpu()[0]


class StaticAttention(Attention):
    """A static graph has no fused attention on the CPU: some queries after the others."""

    def attend(self, q, k, v):
        q, k = fold_rel_pos(q, k, self.rel_pos_h, self.rel_pos_w)
        return chunked_attention(q, k, v)


def chunked_attention(q, k, v) -> paddle.Tensor:
    """q and k (B, N, .), already scaled, and v (B, N, d) -> (B, N, d), CHUNK_QUERIES queries at a time."""
    chunks = []
    for start in range(0, q.shape[1], CHUNK_QUERIES):
        scores = paddle.matmul(q[:, start : start + CHUNK_QUERIES], k, transpose_y=True)
        chunks.append(paddle.matmul(F.softmax(scores, axis=-1), v))
    return chunks[0] if len(chunks) == 1 else paddle.concat(chunks, axis=1)


class StaticConv2D(nn.Conv2D):
    """oneDNN's convolutions take the channels first."""

    def forward(self, x):
        _, stride, padding = compat.conv_geometry(self)
        x = F.conv2d(x.transpose([0, 3, 1, 2]), self.weight, self.bias, stride, padding)
        return x.transpose([0, 2, 3, 1])


STATIC_CLASSES = {Attention: StaticAttention, nn.Conv2D: StaticConv2D}


def export(vision: Vision, folder: Path) -> Path:
    """The files of the graph of one view, without their endings; leaves the encoder as a plain one."""
    restore(vision)
    side, stem = vision.config.image_side, folder / "vision"
    spec = [paddle.static.InputSpec([1, 3, side, side], "float32")]
    plain = [(layer, type(layer)) for layer in vision.sublayers()]
    for layer, layer_class in plain:
        layer.__class__ = STATIC_CLASSES.get(layer_class, layer_class)
    try:
        paddle.jit.save(paddle.jit.to_static(vision, input_spec=spec, full_graph=True), str(stem))
    finally:
        vision.__dict__.pop("forward", None)  # to_static leaves itself there
        for layer, layer_class in plain:
            layer.__class__ = layer_class
    return stem


def _load(stem: Path, threads: int) -> inference.Predictor:
    config = inference.Config(f"{stem}.json", f"{stem}.pdiparams")
    config.disable_gpu()
    config.enable_mkldnn()
    config.enable_mkldnn_bfloat16()
    config.set_cpu_math_library_num_threads(threads)
    config.disable_glog_info()
    for name in BROKEN_PASSES:
        config.delete_pass(name)
    return inference.create_predictor(config)

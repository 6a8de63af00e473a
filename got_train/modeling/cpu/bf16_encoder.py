"""The encoder as a static graph in bfloat16, by paddle.inference: for reading on CPUs with such units.

The same Vision, drawn by Paddle's own tracing; knows no text, and trains nothing.
"""

# V views  P tokens a view  D out width

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import paddle
from paddle import inference

from got_train.cpu import settings
from got_train.errors import RequirementError
from got_train.modeling.vision import Vision

# the first drops a reshape that is needed, the second takes linear layers away from oneDNN (paddle 3.3.1)
BROKEN_PASSES = ("operator_reshape_onednn_fuse_pass", "matmul_add_act_fuse_pass")


class StaticVision:
    """Vision's forward pass, view by view: (V, 3, side, side) float32 -> (V, P, D) float32."""

    def __init__(self, vision: Vision, threads: int) -> None:
        if not paddle.get_device().startswith("cpu") or not settings.has_bfloat16():
            raise RequirementError(
                f"encoder in bfloat16: {paddle.get_device()} is no CPU with avx512_bf16 or amx_bf16; float32"
            )
        self.vision, self.threads = vision, threads
        with tempfile.TemporaryDirectory() as folder:
            self._predictor = _predictor(_exported(vision, Path(folder)), threads)
        made = self._predictor
        self._input = made.get_input_handle(made.get_input_names()[0])
        self._output = made.get_output_handle(made.get_output_names()[0])

    def attach(self) -> None:
        """From now on whoever calls the encoder is served from here."""
        self.vision.forward = self

    def __call__(self, pixels: paddle.Tensor) -> paddle.Tensor:
        found = [self._of_view(view) for view in pixels.numpy()]
        settings.set_threads(self.threads)  # a run sets all of Paddle to one thread
        return paddle.to_tensor(np.stack(found))

    def _of_view(self, view: np.ndarray) -> np.ndarray:
        self._input.copy_from_cpu(view[None])
        self._predictor.run()
        return self._output.copy_to_cpu()[0]


def _exported(vision: Vision, folder: Path) -> Path:
    """The files of the graph of one view, without their endings."""
    side, stem = vision.config.image_side, folder / "vision"
    spec = [paddle.static.InputSpec([1, 3, side, side], "float32")]
    try:
        paddle.jit.save(paddle.jit.to_static(vision, input_spec=spec, full_graph=True), str(stem))
    finally:
        vision.__dict__.pop("forward", None)  # to_static leaves itself there
    return stem


def _predictor(stem: Path, threads: int) -> inference.Predictor:

    config = inference.Config(f"{stem}.json", f"{stem}.pdiparams")
    config.disable_gpu()
    config.enable_mkldnn()
    config.enable_mkldnn_bfloat16()
    config.set_cpu_math_library_num_threads(threads)
    config.disable_glog_info()
    for name in BROKEN_PASSES:
        config.delete_pass(name)
    return inference.create_predictor(config)

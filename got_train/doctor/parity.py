"""Does the model compute here what transformers computed? By a tiny random GOT that comes with the package.

Differences are relative: of a stage to its largest value, of gradients by the norm over a part's parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import paddle
from safetensors.numpy import load_file

from got_train.checkpoint import layouts
from got_train.checkpoint.weights import load_model
from got_train.modeling.causal_attention import PackedMask, causal_attention
from got_train.modeling.config import PARTS
from got_train.modeling.cpu.accelerate import accelerate_if_tuned
from got_train.modeling.got import Got
from got_train.modeling.gpu import attention as gpu_attention
from got_train.modeling.gpu.accelerate import accelerate_on_gpu
from got_train.modeling.layers import linear_names
from got_train.modeling.rel_pos_attention import fold_rel_pos, rel_pos_attention

from .checks import Check, Measured, Skipped

GOT_TINY = Path(__file__).with_name("got_tiny")
MAPS = ("vision.neck", "vision.net_2", "vision.net_3")  # transformers has their channels first
STAGES = {
    **{f"vision.blocks.{i}": f"out.vision.layer{i}" for i in range(4)},
    **{name: f"out.{name}" for name in MAPS},
    "projector": "out.projected",
    "decoder.model.layers.0": "out.text.layer0",
    "decoder.model.layers.1": "out.text.layer1",
    "decoder.model.norm": "out.text.norm",
}
FLOAT32 = "transformers' own float32 is up to 5e-6 from float64"
TF32 = "a GPU of 8.0 rounds factors of float32 products to 11 bits (TF32); NVIDIA_TF32_OVERRIDE=0 stops it"
BFLOAT16 = "bfloat16 has 8 bits, and every layer rounds again"
ROUNDED = "a CPU has no bfloat16 kernels: weights were rounded to it, and computed with in float32"


def on_gpu() -> bool:
    return paddle.get_device().startswith("gpu")


def limit(dtype: str, exact: float, rounded: float) -> tuple[float, str]:
    """What a difference may be, and why: in float32 on a CPU, and in bfloat16."""
    if dtype == "bfloat16":
        return rounded, BFLOAT16 if on_gpu() else f"{BFLOAT16}; {ROUNDED}"
    return (max(exact, 5e-3), TF32) if on_gpu() else (exact, FLOAT32)


def parity_checks(quick: bool) -> dict[str, Check]:
    checks = {}
    for dtype in ("float32", "bfloat16"):
        checks |= {
            f"encoder and decoder, stage by stage, {dtype}": partial(check_stages, dtype),
            f"logits and loss, {dtype}": partial(check_logits, dtype),
            f"gradients of every parameter, {dtype}": partial(check_gradients, dtype),
        }
    checks["two samples packed into one row"] = check_packing
    tokens, side = (256, 12) if quick or not on_gpu() else (2048, 64)  # GOT's own on a GPU
    for dtype in ("float32", "bfloat16"):
        checks[f"attention of packed rows, {tokens} tokens, {dtype}"] = partial(
            check_causal_attention, dtype, tokens
        )
        checks[f"attention with relative positions, {side} x {side} patches, {dtype}"] = partial(
            check_rel_pos_attention, dtype, side
        )
    return checks


def tiny_model(dtype: str) -> Got:
    """As a run would have it here."""
    if dtype == "bfloat16" and not on_gpu():
        model = load_model(GOT_TINY)
        for parameter in model.parameters():
            parameter.set_value(parameter.astype("bfloat16").astype("float32"))
    else:
        model = load_model(GOT_TINY, dtype)
    accelerate_if_tuned(model)
    accelerate_on_gpu(model)
    return model


def expected() -> dict[str, np.ndarray]:
    return load_file(GOT_TINY / "single.safetensors")


def inputs() -> dict[str, paddle.Tensor]:
    case = expected()
    given = {name: case[name] for name in ("input_ids", "attention_mask", "labels")}
    given["pixel_values"] = load_file(GOT_TINY / "pixels.safetensors")["pixel_values"][:1]
    return {name: paddle.to_tensor(value) for name, value in given.items()}


def as_array(x: paddle.Tensor) -> np.ndarray:
    return x.detach().astype("float32").numpy()


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def check_stages(dtype: str) -> Measured:
    model, seen, theirs = tiny_model(dtype), {}, expected()
    for name, layer in model.named_sublayers():
        if name in STAGES:

            def keep(layer: object, arguments: object, output: paddle.Tensor, name: str = name) -> None:
                seen[name] = as_array(output)

            layer.register_forward_post_hook(keep)
    model(**inputs())
    differences = {}
    for name, key in STAGES.items():
        value = theirs[key].transpose(0, 2, 3, 1) if name in MAPS else theirs[key]
        differences[name] = relative(seen[name], value)
    return Measured(max(differences.values()), *limit(dtype, 1e-5, 0.05), differences)


def check_logits(dtype: str) -> Measured:
    output, theirs = tiny_model(dtype)(**inputs()), expected()
    read = theirs["attention_mask"] > 0
    logits = relative(as_array(output.logits)[read], theirs["logits"][read])
    loss = abs(float(output.loss) - float(theirs["loss_float64"]))
    return Measured(logits, *limit(dtype, 1e-5, 0.05), {"loss": float(output.loss), "loss apart": loss})


def check_gradients(dtype: str) -> Measured:
    model, theirs = tiny_model(dtype), load_file(GOT_TINY / "single_grads.safetensors")
    model(**inputs()).loss.backward()
    linears, differences = linear_names(model), {}
    for part in PARTS:
        apart = size = 0.0
        for name, parameter in model.named_parameters():
            if name.startswith(f"{part}."):
                ours, true = as_array(parameter.grad), theirs[layouts.to_theirs(name, "transformers")]
                apart += float((((ours.T if name in linears else ours) - true) ** 2).sum())
                size += float((true**2).sum())
        differences[part] = (apart / size) ** 0.5
    return Measured(max(differences.values()), *limit(dtype, 1e-5, 0.1), differences)


def check_packing() -> Measured:
    """The logits of two samples in one row, and of each alone."""
    model = tiny_model("float32")
    image, generator = model.config.image_token, np.random.default_rng(1)
    view_tokens = model.config.vision.view_tokens
    rows = [[5, *[image] * view_tokens, *generator.integers(2, image, 9 - 4 * i)] for i in range(2)]
    views = inputs()["pixel_values"]
    views = paddle.concat([views, -views])
    packed = model(
        paddle.to_tensor([rows[0] + rows[1]]),
        views,
        attention_mask=paddle.to_tensor([[1] * len(rows[0]) + [2] * len(rows[1])]),
        position_ids=paddle.to_tensor([[*range(len(rows[0])), *range(len(rows[1]))]]),
    ).logits[0]
    alone = [model(paddle.to_tensor([row]), views[i : i + 1]).logits[0] for i, row in enumerate(rows)]
    return Measured(relative(as_array(packed), as_array(paddle.concat(alone))), *limit("float32", 1e-5, 0))


# ---- a GPU's attention beside the plain one


def check_causal_attention(dtype: str, tokens: int) -> Measured | Skipped:
    """Three samples and padding in a row; nobody reads the padding."""
    lengths = [tokens // 2, tokens // 8, tokens // 4]
    ids = np.repeat([1, 2, 3, 0], [*lengths, tokens - sum(lengths)])[None]
    mask = PackedMask(paddle.to_tensor(ids), ids.shape)
    read = paddle.to_tensor((ids > 0).astype("float32")).unsqueeze([1, 3])
    values = [np.random.default_rng(i).normal(size=[1, 16, tokens, 64]) for i in range(3)]
    return _compare(
        dtype,
        values,
        lambda q, k, v: gpu_attention.causal_attention(q, k, v, mask) * read.astype(q.dtype),
        lambda q, k, v: causal_attention(q, k, v, mask) * read,
    )


def check_rel_pos_attention(dtype: str, side: int) -> Measured | Skipped:
    """Twelve heads of a global layer."""
    generator, distances = np.random.default_rng(0), 2 * side - 1
    shapes = [[12, side**2, 64]] * 3 + [[distances, 64]] * 2
    values = [generator.normal(size=shape) * (1.0 if len(shape) == 3 else 0.1) for shape in shapes]

    def ours(q, k, v, rel_pos_h, rel_pos_w):  # noqa: ANN001, ANN202
        if gpu_attention.has_fused_kernel(q.dtype, -(-(64 + 2 * side) // 8) * 8):
            return rel_pos_attention(q, k, v, rel_pos_h, rel_pos_w)
        return gpu_attention.blockwise_attention(*fold_rel_pos(q, k, rel_pos_h, rel_pos_w), v)

    return _compare(dtype, values, ours, rel_pos_attention)


def _compare(dtype: str, values: Sequence[np.ndarray], ours: Callable, plain: Callable) -> Measured | Skipped:
    """Value and gradients of both; the plain one in float32."""
    if dtype == "bfloat16" and not on_gpu():
        return Skipped("a CPU has no bfloat16 kernels")
    true, _ = _value_and_gradients(plain, values, "float32")
    outputs, seconds = _value_and_gradients(ours, values, dtype)
    apart = [relative(a, b) for a, b in zip(outputs, true, strict=True)]
    names = ("value", "q", "k", "v", "rows", "columns")
    numbers = dict(zip(names, apart, strict=False)) | {"milliseconds": 1e3 * seconds}
    return Measured(max(apart), *limit(dtype, 2e-5, 0.05), numbers)


def _value_and_gradients(
    function: Callable, values: Sequence[np.ndarray], dtype: str
) -> tuple[list[np.ndarray], float]:
    """And the seconds of a second pass, when everything is loaded."""
    given = [paddle.to_tensor(value, dtype="float32").astype(dtype) for value in values]
    for tensor in given:
        tensor.stop_gradient = False
    outputs, seconds = [], 0.0
    for _ in range(2):
        began = time.monotonic()
        value = function(*given)
        outputs = [as_array(tensor) for tensor in (value, *paddle.grad(value.astype("float32").sum(), given))]
        seconds = time.monotonic() - began
    return outputs, seconds

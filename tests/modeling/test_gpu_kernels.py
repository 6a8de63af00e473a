"""Every operator that a model runs has a GPU kernel for the types that it meets there, by Paddle's source.

The CPU tells which operators run; which types their GPU kernels have was read in Paddle's repository, below
paddle/phi/kernels, at commit 5c049cc705bf870ce97a631880390f7592fe8f40 (January 2025, on the way to 3.0: the
last state that could be had whole; types are added to kernels, hardly ever taken away). Lines are of it.
An operator that is not in the table fails the test until somebody has looked it up.
"""

import re

import numpy as np
import paddle
import pytest
from paddle import profiler

from got_train.generation.decode import DecodingState
from got_train.modeling.cpu.accelerate import restore
from got_train.modeling.gpu import accelerate as gpu

from .test_accelerate import batch

HALF = {"f2", "bf2", "f4"}  # what a model in mixed precision may hand to an operator of numbers
KERNELS = {
    "adamw": "f2 bf2 f4",  # gpu/adamw_kernel.cu:404
    "add": "b1 i4 i8 f2 bf2 f4",  # kps/elementwise_kernel.cu:304
    "add_grad": "i4 i8 f2 bf2 f4",  # gpu/elementwise_grad_kernel.cu:361
    "argmax": "i4 i8 f2 bf2 f4",  # gpu/arg_min_max_kernel.cu:275
    "arange_tensor": "i4 i8 f2 bf2 f4",  # gpu/arange_kernel.cu:107
    "assign": "all",  # assign_kernel.cc:145
    "bitwise_and": "b1 i4 i8",  # kps/bitwise_kernel.cu:94
    "bitwise_not": "b1 i4 i8",  # kps/bitwise_kernel.cu:127
    "bmm": "f2 bf2 f4",  # gpu/bmm_kernel.cu:21
    "cast": "b1 i4 i8 f2 bf2 f4",  # gpu/cast_kernel.cu:43
    "clip": "i4 i8 f2 bf2 f4",  # gpu/clip_kernel.cu:22
    "concat": "b1 i4 i8 f2 bf2 f4",  # gpu/concat_kernel.cu:114
    "concat_grad": "b1 i4 i8 f2 bf2 f4",  # gpu/concat_grad_kernel.cu:24
    "conv2d": "f2 bf2 f4",  # gpudnn/conv_kernel.cu:610
    "conv2d_grad": "f2 bf2 f4",  # gpudnn/conv_grad_kernel.cu:1493
    "cross_entropy_with_softmax": "f2 f4",  # gpu/cross_entropy_kernel.cu:1460
    "cross_entropy_with_softmax_grad": "f2 f4",  # gpu/cross_entropy_grad_kernel.cu:290
    "cumsum": "i4 i8 f2 bf2 f4",  # gpu/cum_kernel.cu:450
    "divide": "b1 i4 i8 f2 bf2 f4",  # kps/elementwise_kernel.cu:338
    "dropout": "f2 bf2 f4",  # gpu/dropout_kernel.cu:84
    "dropout_grad": "f2 bf2 f4",  # gpu/dropout_grad_kernel.cu:66
    "embedding": "f2 bf2 f4",  # gpu/embedding_kernel.cu:131
    "embedding_grad": "f2 bf2 f4",  # gpu/embedding_grad_kernel.cu:262
    "equal": "b1 i4 i8 f2 bf2 f4",  # kps/compare_kernel.cu:190
    "expand": "b1 i4 i8 f2 bf2 f4",  # gpu/expand_kernel.cu:88
    "expand_grad": "b1 i4 i8 f2 bf2 f4",  # gpu/expand_grad_kernel.cu:44
    "flash_attn": "f2 bf2",  # gpu/flash_attn_kernel.cu:804
    "flash_attn_grad": "f2 bf2",  # gpu/flash_attn_grad_kernel.cu:1197
    "flashmask_attention": "f2 bf2",  # gpu/flash_attn_kernel.cu:824
    "flashmask_attention_grad": "f2 bf2",  # gpu/flash_attn_grad_kernel.cu:1215
    "flatten": "i4 i8 f2 bf2 f4",  # flatten_kernel.cc:81
    "flatten_grad": "i4 i8 f2 bf2 f4",  # flatten_grad_kernel.cc:54
    "full": "b1 i4 i8 f2 bf2 f4",  # gpu/full_kernel.cu:125
    "full_like": "b1 i4 i8 f2 bf2 f4",  # gpu/full_kernel.cu:144
    "gather": "b1 i4 i8 f2 bf2 f4",  # gpu/gather_kernel.cu:67
    "gather_grad": "i4 i8 f2 bf2 f4",  # gpu/gather_grad_kernel.cu:69
    "gather_nd": "b1 i4 i8 f2 bf2 f4",  # gpu/gather_nd_kernel.cu:52
    "gelu": "f2 bf2 f4",  # gpu/gelu_kernel.cu:90
    "gelu_grad": "f2 bf2 f4",  # gpu/gelu_grad_kernel.cu:96
    "greater_equal": "b1 i4 i8 f2 bf2 f4",  # kps/compare_kernel.cu:188
    "index_put": "b1 i4 i8 f2 bf2 f4",  # gpu/index_put_kernel.cu:176
    "layer_norm": "f2 bf2 f4",  # gpu/layer_norm_kernel.cu:682
    "layer_norm_grad": "f2 bf2 f4",  # gpu/layer_norm_grad_kernel.cu:127
    "less_equal": "b1 i4 i8 f2 bf2 f4",  # kps/compare_kernel.cu:186
    "log": "i4 i8 f2 bf2 f4",  # gpu/activation_kernel.cu:322
    "logical_and": "b1 i4 i8 f2 bf2 f4",  # kps/logical_kernel.cu:129
    "logical_not": "b1 i4 i8 f2 bf2 f4",  # kps/logical_kernel.cu:131
    "logsumexp": "f2 bf2 f4",  # gpu/logsumexp_kernel.cu:170
    "matmul": "i4 i8 f2 bf2 f4",  # gpu/matmul_kernel.cu:24
    "matmul_grad": "f2 bf2 f4",  # gpu/matmul_grad_kernel.cu:21
    "max": "i4 i8 f2 bf2 f4",  # kps/reduce_kernel.cu:409
    "maximum": "i4 i8 f2 bf2 f4",  # kps/elementwise_kernel.cu:183
    "mean": "b1 i4 i8 f2 bf2 f4",  # reduce_mean_kernel.cc:48
    "mean_grad": "b1 i4 i8 f2 bf2 f4",  # gpu/reduce_kernel.cu:346
    "multiply": "b1 i4 i8 f2 bf2 f4",  # kps/elementwise_kernel.cu:355
    "multiply_grad": "b1 i4 i8 f2 bf2 f4",  # gpu/elementwise_grad_kernel.cu:431
    "nonzero": "b1 i4 i8 f2 bf2 f4",  # gpu/nonzero_kernel.cu:77
    "not_equal": "b1 i4 i8 f2 bf2 f4",  # kps/compare_kernel.cu:191
    "one_hot": "i4 i8",  # gpu/one_hot_kernel.cu:71
    "pad": "i4 i8 f2 bf2 f4",  # gpu/pad_kernel.cu:22
    "pad_grad": "f2 bf2 f4",  # gpu/pad_grad_kernel.cu:21
    "pow": "i4 i8 f2 bf2 f4",  # gpu/activation_kernel.cu:370
    "pow_grad": "i4 i8 f2 bf2 f4",  # gpu/activation_grad_kernel.cu:536
    "relu": "f2 bf2 f4",  # gpu/activation_kernel.cu:213
    "relu_grad": "f2 bf2 f4",  # gpu/activation_grad_kernel.cu:318
    "repeat_interleave": "i4 i8 bf2 f4",  # gpu/repeat_interleave_kernel.cu:21
    "repeat_interleave_grad": "i4 i8 bf2 f4",  # gpu/repeat_interleave_grad_kernel.cu:30
    "reshape": "all",  # reshape_kernel.cc:57
    "reshape_grad": "all",  # reshape_grad_kernel.cc:69
    "rsqrt": "f2 bf2 f4",  # gpu/activation_kernel.cu:265
    "rsqrt_grad": "f2 bf2 f4",  # gpu/activation_grad_kernel.cu:391
    "scale": "b1 i4 i8 f2 bf2 f4",  # gpu/scale_kernel.cu:69
    "set_value_with_tensor": "b1 i4 i8 f2 bf2 f4",  # gpu/set_value_kernel.cu:38
    "slice": "b1 i4 i8 f2 bf2 f4",  # gpu/slice_kernel.cu.cc:21
    "slice_grad": "b1 i4 i8 f2 bf2 f4",  # gpu/slice_grad_kernel.cu.cc:21
    "softmax": "f2 bf2 f4",  # gpudnn/softmax_kernel.cu:53
    "softmax_grad": "f2 bf2 f4",  # gpu/softmax_grad_kernel.cu:23
    "split_with_num": "b1 i4 i8 f2 bf2 f4",  # gpu/split_kernel.cu:38
    "sqrt": "f2 bf2 f4",  # gpu/activation_kernel.cu:264
    "squared_l2_norm": "f2 bf2 f4",  # gpu/squared_l2_norm_kernel.cu:38
    "squeeze": "b1 i4 i8 f2 bf2 f4",  # squeeze_kernel.cc:82
    "squeeze_grad": "b1 i4 i8 f2 bf2 f4",  # squeeze_grad_kernel.cc:57
    "stack": "b1 i4 i8 f2 bf2 f4",  # gpu/stack_kernel.cu:33
    "subtract": "i4 i8 f2 bf2 f4",  # kps/elementwise_kernel.cu:369
    "sum": "b1 i4 i8 f2 bf2 f4",  # reduce_sum_kernel.cc:60
    "swiglu": "f2 bf2 f4",  # gpu/swiglu_kernel.cu:125
    "swiglu_grad": "f2 bf2 f4",  # gpu/swiglu_grad_kernel.cu:189
    "tile": "b1 i4 i8 f2 bf2 f4",  # gpu/tile_kernel.cu:101
    "transpose": "b1 i4 i8 f2 bf2 f4",  # gpu/transpose_kernel.cu:54
    "transpose_grad": "b1 i4 i8 f2 bf2 f4",  # gpu/transpose_grad_kernel.cu:22
    "tril": "b1 i4 i8 f2 bf2 f4",  # gpu/tril_triu_kernel.cu:47
    "triu": "b1 i4 i8 f2 bf2 f4",  # gpu/tril_triu_kernel.cu:33
    "unsqueeze": "b1 i4 i8 f2 bf2 f4",  # unsqueeze_kernel.cc:84
    "unsqueeze_grad": "b1 i4 i8 f2 bf2 f4",  # unsqueeze_grad_kernel.cc:56
    "where": "i4 i8 f2 bf2 f4",  # gpu/where_kernel.cu:48
    "where_grad": "i4 i8 f2 bf2 f4",  # gpu/where_grad_kernel.cu:60
}
# operators of ids, masks and places, which never see a number of the model
OF_IDS = {
    "arange_tensor": {"i8"},
    "bitwise_and": {"b1"},
    "bitwise_not": {"b1"},
    "clip": {"i8"},
    "cumsum": {"i8"},
    "equal": {"i8", "b1"},
    "greater_equal": {"i8", "i4"},
    "less_equal": {"i8", "i4"},
    "logical_and": {"b1"},
    "logical_not": {"b1"},
    "nonzero": {"b1"},
    "not_equal": {"i8"},
    "one_hot": {"i8"},
}
IN_FLOAT32 = {"cross_entropy_with_softmax", "cross_entropy_with_softmax_grad"}  # cast before, in the trainer
FUSED = {"flash_attn", "flash_attn_grad", "flashmask_attention", "flashmask_attention_grad"}
# groups of heads, of which a GPU's attention makes other use (repeat_kv); no GOT has any
NEVER_IN_FLOAT16 = {"repeat_interleave", "repeat_interleave_grad"}
ASIDE = {"div_scale"}  # x / number: scale's kernel, by its own name in the tracer


def needed(operator):
    if operator in OF_IDS:
        return OF_IDS[operator]
    if operator in IN_FLOAT32:
        return {"f4"}
    if operator in FUSED:
        return {"f2", "bf2"}
    return HALF - {"f2"} if operator in NEVER_IN_FLOAT16 else HALF


@pytest.mark.parametrize("operator", KERNELS)
def test_the_kernel_has_the_types_that_are_needed(operator):
    types = set(KERNELS[operator].split())
    assert "all" in types or needed(operator) <= types, sorted(needed(operator) - types)


def launched(work):
    """The names of the kernels that run meanwhile."""
    tracer = profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=lambda _: None)
    tracer.start()
    work()
    tracer.stop()
    names = set()

    def walk(node):
        if found := re.fullmatch(r"(\w+) kernel launch", node.name):
            names.add(found[1])
        for child in node.children_node:
            walk(child)

    for root in tracer.profiler_result.get_data().values():
        walk(root)
    return names


def train_and_read(model):
    """A step on padded and on packed rows, and two tokens of an answer."""
    optimizer = paddle.optimizer.AdamW(
        1e-3, parameters=model.parameters(), grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0)
    )
    model.train()
    for packed in (False, True):
        model(**batch(model, packed)).loss.backward()
    optimizer.step()
    model.eval()
    inputs = batch(model)
    with paddle.no_grad():
        ids, seen = (inputs[name].numpy() for name in ("input_ids", "attention_mask"))
        state = DecodingState(model, ids, inputs["pixel_values"], np.ones_like(seen))
        state.step([2, 3])
        state.logits.argmax(-1)


@pytest.mark.parametrize("attention", ["plain", "blocks"])
@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_no_operator_runs_that_was_not_looked_up(random_model, kind, attention):
    model = random_model(kind, decoder={"dropout": 0.1} if kind == "opt" else None)
    restore(model)
    if attention == "blocks":
        gpu.accelerate(model)
    seen = launched(lambda: train_and_read(model))
    assert {"matmul", "matmul_grad", "embedding", "softmax", "layer_norm_grad"} <= seen
    assert seen - KERNELS.keys() - ASIDE == set()

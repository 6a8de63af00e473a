"""A GPU's attention, as far as a CPU shows it: what FlashMask is handed, and the blocks of all else."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from got_train import compat
from got_train.modeling import causal_attention as plain
from got_train.modeling.causal_attention import PackedMask
from got_train.modeling.cpu.accelerate import restore as without_cpu_kernels
from got_train.modeling.gpu import accelerate as gpu
from got_train.modeling.gpu import attention
from got_train.modeling.rel_pos_attention import fold_rel_pos, rel_pos_attention
from got_train.modeling.vision import Attention

from .test_accelerate import batch, values_and_gradients

SEGMENTS = {
    "one sample": [[1] * 12],
    "padding after": [[1] * 12, [1] * 8 + [0] * 4],
    "padding before": [[0] * 3 + [1] * 9],
    "packed": [[1] * 5 + [2] * 1 + [3] * 4 + [0] * 2, [1] * 2 + [2] * 10],
    "single tokens": [list(range(1, 13))],
    "one token": [[1]],
}


def dense(startend_row_indices):
    """What Paddle's documentation says that causal FlashMask with one bound hides, (B, 1, T, T) bool."""
    rows, _, tokens, bounds = startend_row_indices.shape
    assert bounds == 1
    seen = np.zeros([rows, 1, tokens, tokens], bool)
    for row in range(rows):
        for key in range(tokens):
            seen[row, 0, key : startend_row_indices[row, 0, key, 0], key] = True
    return seen


@pytest.mark.parametrize("segment_ids", SEGMENTS.values(), ids=SEGMENTS)
def test_the_indices_for_flashmask_stand_for_the_dense_mask(segment_ids):
    ids = np.array(segment_ids)
    mask = PackedMask(paddle.to_tensor(ids), ids.shape)
    indices = attention.startend_row_indices(mask)
    assert indices.dtype == paddle.int32
    assert indices.shape == [len(ids), 1, ids.shape[1], 1]
    assert np.array_equal(dense(indices.numpy()), mask.causal_mask.numpy())
    query, key = np.mgrid[: ids.shape[1], : ids.shape[1]]
    expected = (ids[:, query] == ids[:, key]) & (key <= query)
    assert np.array_equal(dense(indices.numpy())[:, 0], expected)


def test_a_row_of_8192_tokens_takes_32_kilobytes_where_the_mask_took_128_megabytes():
    ids = np.repeat(np.arange(1, 17), 512)[None]
    mask = PackedMask(paddle.to_tensor(ids), ids.shape)
    assert attention.startend_row_indices(mask).numpy().nbytes == 4 * 8192
    assert 2 * mask.causal_mask.size == 128 << 20  # as a number in bfloat16 that is added to the scores


def test_segments_in_two_pieces_are_refused():
    ids = paddle.to_tensor([[1, 2, 1]])
    with pytest.raises(ValueError, match=r"segments \[1, 2, 1\] of a row; expected each in one piece"):
        attention.startend_row_indices(PackedMask(ids, ids.shape))


def gradients(function, inputs, grad_output):
    inputs = [each.detach() for each in inputs]
    for each in inputs:
        each.stop_gradient = False
    value = function(*inputs)
    return [value, *paddle.grad(value, inputs, grad_output)]


def assert_close(ours, expected, tolerance=1e-5):
    for a, b in zip(ours, expected, strict=True):
        difference = float((a - b).abs().max() / b.abs().max().clip(min=0.1))
        assert difference < tolerance, difference


BLOCKS = [(512, 128 << 20), (5, 128 << 20), (5, 1), (12, 4 * 12 * 12 * 3)]


@pytest.mark.parametrize("segment_ids", SEGMENTS.values(), ids=SEGMENTS)
@pytest.mark.parametrize(("queries", "size"), BLOCKS)
def test_causal_attention_in_blocks_equals_the_plain_one(segment_ids, queries, size, monkeypatch):
    """Value and gradients of q and of shared keys and values; nobody reads the padding."""
    monkeypatch.setattr(attention, "BLOCK_QUERIES", queries)
    monkeypatch.setattr(attention, "BLOCK_BYTES", size)
    ids = paddle.to_tensor(segment_ids)
    mask = PackedMask(ids, ids.shape)
    paddle.seed(0)
    inputs = [paddle.randn([ids.shape[0], heads, ids.shape[1], 8]) for heads in (4, 2, 2)]
    read = (ids > 0).astype("float32").unsqueeze([1, 3])
    grad_output = read * paddle.randn(inputs[0].shape)
    ours, expected = (
        gradients(lambda q, k, v, attend=attend: read * attend(q, k, v, mask), inputs, grad_output)
        for attend in (attention.causal_attention, plain.causal_attention)
    )
    assert_close(ours, expected)


@pytest.mark.parametrize(("queries", "size"), [(512, 128 << 20), (7, 1), (7, 4 * 25 * 7 * 2)])
def test_relative_positions_in_blocks_equal_the_plain_ones(queries, size, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK_QUERIES", queries)
    monkeypatch.setattr(attention, "BLOCK_BYTES", size)
    paddle.seed(1)
    inputs = [paddle.randn(shape) for shape in [[5, 25, 8]] * 3 + [[9, 8]] * 2]
    grad_output = paddle.randn([5, 25, 8])

    def blocks(q, k, v, rel_pos_h, rel_pos_w):
        return attention.blockwise_attention(*fold_rel_pos(q, k, rel_pos_h, rel_pos_w), v)

    assert_close(*(gradients(each, inputs, grad_output) for each in (blocks, rel_pos_attention)))


def test_what_does_not_train_gets_no_gradient():
    q, k, v = (paddle.randn([2, 3, 6, 8]) for _ in range(3))
    k.stop_gradient = False
    attention.causal_attention(q, k, v, PackedMask(None, (2, 6))).sum().backward()
    assert q.grad is None
    assert v.grad is None
    assert k.grad.shape == k.shape


def test_a_view_of_got_has_128_megabytes_of_scores_at_most():
    """Its global layers have 12 heads of 4096 x 4096, 805 MB in float32; its windows 300 of 196 x 196."""
    for shape in ([12, 4096, 192], [300, 196, 92], [16, 8192, 64]):
        q = paddle.empty([shape[0], shape[1], 1])
        largest = max(group.stop - group.start for group in attention._groups(q))
        queries = max(each.stop - each.start for each in attention._queries(q))
        assert 4 * largest * queries * shape[1] <= attention.BLOCK_BYTES
        assert sum(group.stop - group.start for group in attention._groups(q)) == shape[0]


# ---- whole models


def flashmask_on_cpu(q, k, v, startend_row_indices, dropout, causal):
    """Stands for Paddle's kernel: the mask that its documentation tells, by plain attention."""
    assert causal
    mask = paddle.to_tensor(dense(startend_row_indices.numpy()))
    x = F.scaled_dot_product_attention(q, k, v, plain.to_additive_mask(mask, q.dtype))
    return x * (1 - dropout)


@pytest.fixture
def fused(monkeypatch):
    """A CPU that says that it has the kernels of a GPU; calls of FlashMask, by their dropout."""
    calls = []

    def flashmask(*args, dropout, causal):
        calls.append(dropout)
        return flashmask_on_cpu(*args, dropout, causal)

    for module in (attention, gpu):
        monkeypatch.setattr(module, "has_fused_kernel", lambda dtype, width: True)
    monkeypatch.setattr(F, "flashmask_attention", flashmask)
    return calls


def assert_same(model, inputs):
    without_cpu_kernels(model)
    expected, expected_gradients = values_and_gradients(model, inputs)
    gpu.accelerate(model)
    values, found = values_and_gradients(model, inputs)
    gpu.restore(model)
    for name, value in expected.items():
        assert np.abs(values[name] - value).max() < 1e-5 * np.abs(value).max(), name
    scale = max(np.abs(each).max() for each in expected_gradients.values())
    for name, gradient in expected_gradients.items():
        largest = max(np.abs(gradient).max(), 1e-3 * scale)  # biases of keys have none but rounding
        assert np.abs(found[name] - gradient).max() < 1e-4 * largest, name


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_a_model_with_blocks_equals_the_plain_model(random_model, kind, recompute, packed):
    model = random_model(kind)
    model.train()
    model.vision.enable_recompute = model.decoder.enable_recompute = recompute
    assert_same(model, batch(model, packed))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_a_model_with_fused_kernels_equals_the_plain_model(random_model, kind, packed, fused):
    """FlashMask is asked once a layer where rows are packed, and not where they are not."""
    model = random_model(kind)
    assert_same(model, batch(model, packed))
    assert fused == [0.0] * (2 if packed else 0)


def test_the_dropout_of_opts_attention_goes_to_flashmask_in_training_alone(random_model, fused):
    model = random_model("opt", decoder={"dropout": 0.1})
    gpu.accelerate(model)
    inputs = batch(model)
    for training in (True, False):
        (model.train if training else model.eval)()
        model(**inputs)
    assert fused == [0.1, 0.1]


def test_only_half_precision_on_a_gpu_of_8_0_has_fused_kernels(monkeypatch):
    has = attention.has_fused_kernel
    assert not has(paddle.bfloat16, 64)  # a CPU
    monkeypatch.setattr(compat, "has_flash_attention", lambda: True)
    capability = (8, 0)
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: capability)
    assert has(paddle.bfloat16, 64)
    assert has(paddle.float16, 192)  # GOT's global layers with their positions
    assert not has(paddle.float32, 64)
    assert not has(paddle.bfloat16, 92)  # no multiple of 8
    assert not has(paddle.bfloat16, 264)
    capability = (7, 5)
    assert not has(paddle.float16, 64)


def test_a_cpu_keeps_the_plain_model(random_model, monkeypatch):
    model = random_model()
    gpu.accelerate_on_gpu(model)
    assert not any(type(layer).__name__.startswith("Gpu") for layer in model.sublayers(include_self=True))
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    gpu.accelerate_on_gpu(model)
    assert type(model.decoder) is gpu.GpuQwen2Decoder
    assert type(model.vision.blocks[0].attn) is gpu.GpuAttention
    gpu.restore(model)
    assert type(model.vision.blocks[0].attn) is Attention

"""The CPU's kernels against Paddle's operators, which know the same functions, and against float64."""

import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numba
import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn
from scipy.special import erf as true_erf

from got_train.cpu import kernels, parallel_jit
from got_train.cpu.jit import jit
from got_train.modeling import causal_attention, rel_pos_attention
from got_train.modeling.causal_attention import PackedMask, decode_attention
from got_train.modeling.cpu import autograd
from got_train.modeling.cpu import causal_attention as cpu_causal_attention
from got_train.modeling.cpu.accelerate import accelerate
from got_train.modeling.cpu.rel_pos_attention import RelPosAttention
from got_train.modeling.cpu.rotary import RotaryEmbedding
from got_train.modeling.cpu.windows import MergeHeads, MergeHeadsLinear, SplitHeads, WindowHeads
from got_train.modeling.decoder import apply_rope
from got_train.modeling.vision import window_partition, window_unpartition

ROOT = Path(__file__).parents[2]
EPSILON = 1e-6


def rms_norm(x, weight):
    return x * paddle.rsqrt((x * x).mean(-1, keepdim=True) + EPSILON) * weight


def split_heads(windows, parts, x, pad_value):
    """By segment-anything's windows: x (V, S, S, K*H*d) -> (K, W*H, w*w, d)."""
    x = window_partition(x, windows.window_size, pad_value)
    x = x.reshape([x.shape[0], windows.window_size**2, parts, windows.heads, windows.head_width])
    return x.transpose([2, 0, 3, 1, 4]).flatten(1, 2)


def merge_heads(windows, x):
    x = x.reshape([-1, windows.heads, windows.window_size, windows.window_size, windows.head_width])
    return window_unpartition(x.transpose([0, 2, 3, 1, 4]).flatten(3), windows.side)


PADDED, WHOLE = WindowHeads(8, 3, 2, 4), WindowHeads(4, 4, 3, 2)
# PyLayer as it is called, the same in Paddle's operators, shapes of the inputs
FUNCTIONS = {
    "add": (autograd.ResidualAdd.apply, paddle.add, [[4, 33], [4, 33]]),
    "layer norm": (
        lambda *inputs: autograd.LayerNormFunction.apply(*inputs, EPSILON),
        lambda x, weight, bias: F.layer_norm(x, 24, weight, bias, EPSILON),
        [[3, 37, 24], [24], [24]],
    ),
    "rms norm": (
        lambda *inputs: autograd.RMSNormFunction.apply(*inputs, EPSILON),
        rms_norm,
        [[3, 37, 24], [24]],
    ),
    "gelu": (autograd.Gelu.apply, F.gelu, [[5, 7, 9]]),
    "swiglu": (autograd.SwiGLU.apply, F.swiglu, [[4, 33], [4, 33]]),
    "padded windows": (
        lambda x, pad_value: paddle.stack(SplitHeads.apply(x, pad_value, PADDED)),
        partial(split_heads, PADDED, 3),
        [[2, 8, 8, 24], [24]],
    ),
    "one window": (
        lambda x, pad_value: paddle.stack(SplitHeads.apply(x, pad_value, WHOLE)),
        partial(split_heads, WHOLE, 3),
        [[2, 4, 4, 18], [18]],
    ),
    "merged windows": (
        lambda x: MergeHeads.apply(x, PADDED),
        partial(merge_heads, PADDED),
        [[2 * 9 * 2, 9, 4]],
    ),
    "linear": (autograd.LinearFunction.apply, F.linear, [[3, 5, 12], [12, 7], [7]]),
    "linear without bias": (
        lambda x, weight: autograd.LinearFunction.apply(x, weight, None),
        F.linear,
        [[3, 5, 12], [12, 7]],
    ),
    "layer norm, linear": (
        lambda x, scale, shift, *linear: autograd.LayerNormLinear.apply(x, scale, shift, EPSILON, *linear),
        lambda x, scale, shift, *linear: F.linear(F.layer_norm(x, 24, scale, shift, EPSILON), *linear),
        [[3, 37, 24], [24], [24], [24, 7], [7]],
    ),
    "gelu, linear": (
        autograd.GeluLinear.apply,
        lambda x, *linear: F.linear(F.gelu(x), *linear),
        [[3, 5, 12], [12, 7], [7]],
    ),
    "swiglu, linear": (
        autograd.SwiGLULinear.apply,
        lambda gate, up, weight: F.linear(F.swiglu(gate, up), weight),
        [[3, 5, 12], [3, 5, 12], [12, 7]],
    ),
    "merged windows, linear": (
        lambda x, *linear: MergeHeadsLinear.apply(x, PADDED, *linear),
        lambda x, *linear: F.linear(merge_heads(PADDED, x), *linear),
        [[2 * 9 * 2, 9, 4], [8, 5], [5]],
    ),
}


def value_and_gradients(function, inputs, grad_output, frozen=()):
    """The gradient is 0 where Paddle gives none: padding that no window needs."""
    inputs = [x.clone().detach() for x in inputs]
    for index, x in enumerate(inputs):
        x.stop_gradient = index in frozen
    out = function(*inputs)
    (out * grad_output).sum().backward()
    return [out.numpy(), *(np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in inputs)]


def random_inputs(name):
    paddle.seed(0)
    return [2 * paddle.randn(shape) for shape in FUNCTIONS[name][2]]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_gradients_equal_paddles_operators_to_3e_6(name):
    function, reference, _ = FUNCTIONS[name]
    inputs = random_inputs(name)
    grad_output = paddle.randn(function(*inputs).shape)
    pairs = zip(
        *(value_and_gradients(each, inputs, grad_output) for each in (function, reference)), strict=True
    )
    for ours, expected in pairs:
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() <= 3e-6 * np.abs(expected).max()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_frozen_input_gets_no_gradient_and_the_others_get_the_same(name):
    function, _, shapes = FUNCTIONS[name]
    inputs = random_inputs(name)
    grad_output = paddle.randn(function(*inputs).shape)
    all_train = value_and_gradients(function, inputs, grad_output)
    for frozen in range(len(shapes) if len(shapes) > 1 else 0):
        out = value_and_gradients(function, inputs, grad_output, frozen=(frozen,))
        assert not out.pop(1 + frozen).any()
        expected = all_train[: 1 + frozen] + all_train[2 + frozen :]
        assert all(np.array_equal(*pair) for pair in zip(out, expected, strict=True))


@pytest.mark.parametrize(
    "side, size, stride, padding, biased",
    [
        (16, 4, 4, 0, True),
        (8, 1, 1, 0, False),
        (7, 3, 1, 1, False),
        (8, 3, 2, 1, False),
        (5, 4, 3, 2, True),
    ],
)
def test_a_convolution_and_its_gradients_equal_paddles(side, size, stride, padding, biased):
    paddle.seed(0)
    bias = None if biased else False
    layer = nn.Conv2D(3, 6, size, stride, padding, bias_attr=bias, data_format="NHWC")
    x = paddle.randn([2, side, side, 3])
    grad_output, results = paddle.randn(layer(x).shape), []
    for _ in range(2):
        layer.clear_gradients()
        results.append(value_and_gradients(layer, [x], grad_output))
        results[-1] += [parameter.grad.numpy() for parameter in layer.parameters()]
        accelerate(layer)
    for expected, ours in zip(*results, strict=True):
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() <= 2e-6 * np.abs(expected).max()


def test_rope_that_moves_the_heads_equals_paddles_operators():
    """Cosine and sine of one angle for both halves, as the transposed rotation has it."""
    paddle.seed(0)
    x, angles = paddle.randn([2, 5, 3, 8]), paddle.randn([2, 1, 5, 4])
    angles = paddle.concat([angles, angles], axis=-1)
    cos, sin, grad_output = angles.cos(), angles.sin(), paddle.randn([2, 3, 5, 8])
    ours = value_and_gradients(lambda x: RotaryEmbedding.apply(x, cos, sin), [x], grad_output)
    plain = value_and_gradients(lambda x: apply_rope(x.transpose([0, 2, 1, 3]), cos, sin), [x], grad_output)
    assert all(np.abs(a - b).max() < 2e-6 for a, b in zip(ours, plain, strict=True))


@pytest.mark.parametrize("side, heads, block_scores", [(14, 7, 3 * 196**2), (16, 3, 100 * 256)])
def test_attention_in_blocks_of_heads_or_queries_equals_the_plain_one(side, heads, block_scores, monkeypatch):
    """The output and the gradients of all five inputs, of blocks that do not divide evenly."""
    monkeypatch.setattr("got_train.modeling.cpu.rel_pos_attention.BLOCK_SCORES", block_scores)
    paddle.seed(0)
    shapes = [[heads, side**2, 8]] * 3 + [[2 * side - 1, 8]] * 2
    inputs, grad_output = [paddle.randn(shape) for shape in shapes], paddle.randn([heads, side**2, 8])
    ours = value_and_gradients(RelPosAttention.apply, inputs, grad_output)
    plain = value_and_gradients(rel_pos_attention.rel_pos_attention, inputs, grad_output)
    for a, b in zip(ours, plain, strict=True):
        assert np.abs(a - b).max() < 1e-5 * np.abs(b).max()


@pytest.mark.parametrize(
    "segment_ids",
    [
        [[1] * 23],
        [[1] * 23, [1] * 15 + [0] * 8],  # padding after: no mask is needed
        [[0] * 5 + [1] * 18, [1] * 7 + [2] * 9 + [3] * 7],  # padding before, and a packed row
    ],
)
@pytest.mark.parametrize(
    "block_queries, block_scores", [(6, 6 * 23 * 3), (6, 1 << 20), (128, 23 * 23 * 4), (128, 1 << 20)]
)
def test_causal_attention_in_blocks_of_queries_equals_the_plain_one_on_every_token(
    segment_ids, block_queries, block_scores, monkeypatch
):
    """The output and the gradients of q and of shared keys and values; nobody reads the padding.

    Blocks of three of four heads, of all, of one row and of all.
    """
    monkeypatch.setattr(cpu_causal_attention, "BLOCK_QUERIES", block_queries)
    monkeypatch.setattr(cpu_causal_attention, "BLOCK_SCORES", block_scores)
    ids = paddle.to_tensor(segment_ids)
    mask = PackedMask(ids, ids.shape)
    assert mask.is_causal == all(row[0] == 1 and 2 not in row for row in segment_ids)
    read = (ids > 0).astype("float32").unsqueeze([1, 3])
    paddle.seed(2)
    inputs = [paddle.randn([len(segment_ids), heads, 23, 8]) for heads in (4, 2, 2)]
    grad_output = read * paddle.randn(inputs[0].shape)
    results = [
        value_and_gradients(lambda q, k, v, attend=attend: read * attend(q, k, v, mask), inputs, grad_output)
        for attend in (cpu_causal_attention.causal_attention, causal_attention.causal_attention)
    ]
    for ours, plain in zip(*results, strict=True):
        assert np.abs(ours - plain).max() < 1e-5 * np.abs(plain).max()


def test_exp_and_erf_are_within_4e_7_of_float64():
    x = np.linspace(-87, 88, 200_001, dtype="float32")
    expected = np.exp(x.astype("float64"))
    assert np.abs(np.array([kernels.exp(each) for each in x]) / expected - 1).max() < 4e-7
    x = np.linspace(-6, 6, 100_001, dtype="float32")
    assert np.abs(np.array([kernels.erf(each) for each in x]) - true_erf(x.astype("float64"))).max() < 4e-7


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["layer norm", "rms norm", "gelu", "swiglu", "add"])
def test_nan_and_infinity_come_out_where_paddle_has_them(name, bad):
    """A training that diverges must be seen."""
    function, reference, shapes = FUNCTIONS[name]
    inputs = [paddle.ones(shape) for shape in shapes]
    inputs[0][0, 0] = bad
    ours, expected = (np.isfinite(each(*inputs).numpy()) for each in (function, reference))
    assert (ours == expected).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_softmax_of_nan_or_infinity_is_nan(bad):
    scores = paddle.zeros([1, 1, 5])
    scores[0, 0, 2] = bad
    kernels.causal_softmax(scores, np.zeros([1, 1], "int32"), 4, np.float32(1))
    assert np.isnan(scores.numpy()).any()


def test_causal_softmax_sees_the_keys_from_the_segments_first_to_its_own_position():
    """Two heads of each of two rows; three queries after one key; by hand from exponentials."""
    scores = np.random.default_rng(0).normal(size=[4, 3, 4]).astype("float32")
    first = np.array([[0, 0, 2], [1, 1, 1]], "int32")
    found = paddle.to_tensor(scores)
    kernels.causal_softmax(found, first, 1, np.float32(0.5))
    for head in range(4):
        for query in range(3):
            seen = np.zeros(4, bool)
            seen[first[head // 2, query] : query + 2] = True
            expected = np.where(seen, np.exp(0.5 * scores[head, query].astype("float64")), 0)
            assert np.abs(found.numpy()[head, query] - expected / expected.sum()).max() < 2e-7


@pytest.mark.parametrize("group", [1, 2])
def test_one_query_over_the_cache_equals_the_product_of_many(group):
    """The last of two queries read at once is the one read alone; padded rows, and room after the keys."""
    paddle.seed(3)
    q, k, v = paddle.randn([2, 2 * group, 2, 8]), paddle.randn([2, 2, 16, 8]), paddle.randn([2, 2, 8, 16])
    mask = paddle.zeros([2, 1, 2, 11])
    mask[1, :, :, :4] = float(np.finfo("float32").min)
    both = decode_attention(q, k, v, mask).numpy()
    alone = cpu_causal_attention.decode_attention(q[:, :, 1:], k, v, mask[:, :, 1:]).numpy()
    assert np.abs(both[:, :, 1:] - alone).max() < 1e-6


@pytest.mark.parametrize("rows", [1, 2, 4, 7, 16, 17])
def test_scores_of_words_equal_the_product_in_float64(rows):
    rng = np.random.default_rng(rows)
    states, words = rng.normal(size=[rows, 40]), rng.normal(size=[11, 40])
    with paddle.no_grad():
        logits = autograd.lm_head_logits(*(paddle.to_tensor(x.astype("float32")) for x in (states, words)))
    assert np.abs(logits.numpy() - states @ words.T).max() < 1e-5


def test_a_tensor_that_is_not_contiguous_is_read_in_its_order():
    x = paddle.randn([6, 4])
    assert (parallel_jit.as_numpy(x.transpose([1, 0])) == x.numpy().T).all()
    assert (autograd.gelu(x.transpose([1, 0])).numpy() == autograd.gelu(x).numpy().T).all()


def test_where_no_cache_can_be_written_kernels_are_compiled_all_the_same(monkeypatch):
    whole = numba.njit

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'twice': no locator available for file 'kernels.py'")
        return whole(**options)

    monkeypatch.setattr(numba, "njit", njit)
    x = np.float32(3)
    assert jit(lambda x: x + x)(x) == 6


THREADS = """
import hashlib, os, sys
from got_train.cpu import settings
settings.tune(int(sys.argv[1]))
import paddle
from got_train.modeling.cpu.autograd import Gelu, LayerNormFunction, SwiGLU
paddle.seed(0)
inputs = [paddle.randn(shape) for shape in ([1001, 47], [47], [47], [1001, 47])]
for each in inputs:
    each.stop_gradient = False
before = len(os.listdir("/proc/self/task"))
SwiGLU.apply(Gelu.apply(LayerNormFunction.apply(*inputs[:3], 1e-6)), inputs[3]).square().sum().backward()
paddle.matmul(inputs[0], inputs[0], transpose_x=True)
started = len(os.listdir("/proc/self/task")) - before
print(hashlib.sha256(b"".join(each.grad.numpy().tobytes() for each in inputs)).hexdigest(), started)
"""


def printed_by(threads, environment=None):
    """The bits of gradients, and how many threads the kernels and a product started."""
    command = [sys.executable, "-c", THREADS, str(threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    bits, started = done.stdout.split()
    return bits, int(started), done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_one_thread_and_two_give_the_same_bits_and_two_start_one_more():
    """Sums over rows do not depend on who takes which; MKL's thread is the kernels' thread."""
    (one, alone, _), (two, together, _) = printed_by(1), printed_by(2)
    assert one == two
    assert (alone, together) == (0, 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_a_run_that_finds_no_compiled_kernels_gives_the_same_bits_as_those_after_it(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    (first, _, told), (second, _, silent) = printed_by(1, environment), printed_by(1, environment)
    assert first == second == printed_by(1)[0]
    assert told.count("compiling the CPU's kernels, once") == 1
    assert "compiling the CPU's kernels" not in silent

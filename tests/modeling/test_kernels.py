"""The CPU's loops against Paddle's operators, which know the same functions, and against float64."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import paddle
import pytest
from paddle import nn
from scipy.special import erf as true_erf

from got_train.cpu import kernels, parallel_jit
from got_train.cpu.jit import native
from got_train.generation.kv_cache import attend_cached
from got_train.modeling.decoder import Turned
from got_train.modeling.layers import (
    Convolution,
    Gelu,
    LayerNormalised,
    RmsNormalised,
    Sum,
    SwiGlu,
    row_products,
)
from got_train.modeling.vision import CutIntoHeads, JoinedHeads

ROOT = Path(__file__).parents[2]

FUNCTIONS = {
    "layer norm": (LayerNormalised(1e-6), [[3, 37, 24], [24], [24]]),
    "rms norm": (RmsNormalised(1e-6), [[3, 37, 24], [24]]),
    "gelu": (Gelu(), [[5, 7, 9]]),
    "swiglu": (SwiGlu(), [[4, 33], [4, 33]]),
    "sum": (Sum(), [[4, 33], [4, 33]]),
    "windows with an edge": (CutIntoHeads(8, 3, 2, 4), [[2, 8, 8, 24], [24]]),
    "one window": (CutIntoHeads(4, 4, 3, 2), [[2, 4, 4, 18], [18]]),
    "windows joined": (JoinedHeads(CutIntoHeads(8, 3, 2, 4)), [[2 * 9 * 2, 9, 4]]),
}


def stacked(results):
    return paddle.stack(results) if isinstance(results, tuple) else results


def applied(function, inputs, slope):
    inputs = [x.clone().detach() for x in inputs]
    for each in inputs:
        each.stop_gradient = False
    out = stacked(function(*inputs))
    (out * slope).sum().backward()
    # an edge that no window reaches has no gradient from Paddle
    return [out.numpy(), *(np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in inputs)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_gradients_equal_paddles_operators_to_2e_6(name):
    function, shapes = FUNCTIONS[name]
    paddle.seed(0)
    inputs = [2 * paddle.randn(shape) for shape in shapes]
    slope = paddle.randn(stacked(function(*inputs)).shape)
    found = applied(function, inputs, slope)
    expected = applied(function.plain, inputs, slope)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 2e-6 * np.abs(theirs).max()


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
def test_a_convolution_and_its_gradients_equal_paddles_with_the_channels_first(
    side, size, stride, padding, biased
):
    paddle.seed(0)
    layer, x = Convolution(3, 6, size, stride, padding, biased), paddle.randn([2, side, side, 3])
    slope = paddle.randn(layer(x).shape)

    def applied_by(convolve):
        layer.clear_gradients()
        found = applied(convolve, [x], slope)
        return [*found, *(each.grad.numpy() for each in layer.parameters())]

    theirs = applied_by(lambda x: nn.Conv2D.forward(layer, x.transpose([0, 3, 1, 2])).transpose([0, 2, 3, 1]))
    for found, expected in zip(applied_by(layer), theirs, strict=True):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()


def test_rotary_positions_into_heads_equal_paddles_operators():
    """Cosine and sine of one angle for both halves, as the transposed rotation has it."""
    paddle.seed(0)
    x, angles = paddle.randn([2, 5, 3, 8]), paddle.randn([2, 1, 5, 4])
    angles = paddle.concat([angles, angles], axis=-1)
    cos, sin, slope = angles.cos(), angles.sin(), paddle.randn([2, 3, 5, 8])
    found = applied(lambda x: Turned()(x, cos, sin), [x], slope)
    expected = applied(lambda x: Turned().plain(x, cos, sin), [x], slope)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() < 2e-6


def test_exp_and_erf_are_within_4e_7_of_float64():
    x = np.linspace(-87, 88, 200_001, dtype="float32")
    expected = np.exp(x.astype("float64"))
    assert np.abs(np.array([kernels.exp(each) for each in x]) / expected - 1).max() < 4e-7
    x = np.linspace(-6, 6, 100_001, dtype="float32")
    assert np.abs(np.array([kernels.erf(each) for each in x]) - true_erf(x.astype("float64"))).max() < 4e-7


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["layer norm", "rms norm", "gelu", "swiglu", "sum"])
def test_nan_and_infinity_come_out_where_paddle_has_them(name, bad):
    """A training that diverges must be seen."""
    function, shapes = FUNCTIONS[name]
    inputs = [paddle.ones(shape) for shape in shapes]
    inputs[0][0, 0] = bad
    ours, theirs = (np.isfinite(run(*inputs).numpy()) for run in (function, function.plain))
    assert (ours == theirs).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_softmax_of_nan_or_infinity_is_nan(bad):
    scores = paddle.zeros([1, 1, 5])
    scores[0, 0, 2] = bad
    kernels.causal_softmax(scores, np.zeros([1, 1], "int32"), 4, np.float32(1))
    assert np.isnan(scores.numpy()).any()


def test_causal_softmax_sees_the_keys_from_the_first_to_its_own_place():
    """Two heads of each of two rows; three queries behind one key; by hand from exponentials."""
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
    """The last of two queries read at once is the one read alone; padded rows, and room behind the keys."""
    paddle.seed(3)
    q, k, v = paddle.randn([2, 2 * group, 2, 8]), paddle.randn([2, 2, 16, 8]), paddle.randn([2, 2, 8, 16])
    mask = paddle.zeros([2, 1, 2, 11])
    mask[1, :, :, :4] = float(np.finfo("float32").min)
    both = attend_cached(q, k, v, mask).numpy()
    alone = attend_cached(q[:, :, 1:], k, v, mask[:, :, 1:]).numpy()
    assert np.abs(both[:, :, 1:] - alone).max() < 1e-6


@pytest.mark.parametrize("rows", [1, 2, 4, 7, 16, 17])
def test_scores_of_words_equal_the_product_in_float64(rows):
    rng = np.random.default_rng(rows)
    states, words = rng.normal(size=[rows, 40]), rng.normal(size=[11, 40])
    with paddle.no_grad():
        found = row_products(*(paddle.to_tensor(x.astype("float32")) for x in (states, words)))
    assert np.abs(found.numpy() - states @ words.T).max() < 1e-5


def test_a_tensor_that_is_not_contiguous_is_read_in_its_order():
    x = paddle.randn([6, 4])
    assert (parallel_jit.array(x.transpose([1, 0])) == x.numpy().T).all()
    assert (Gelu()(x.transpose([1, 0])).numpy() == Gelu()(x).numpy().T).all()


def test_where_no_cache_can_be_written_loops_are_compiled_all_the_same(monkeypatch):
    whole = numba.njit

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'twice': no locator available for file 'kernels.py'")
        return whole(**options)

    monkeypatch.setattr(numba, "njit", njit)
    x = np.float32(3)
    assert native(lambda x: x + x)(x) == 6


THREADS = """
import hashlib, os, sys
from got_train import cpu
cpu.tune(int(sys.argv[1]))
import paddle
from got_train.modeling.layers import Gelu, LayerNormalised, SwiGlu
paddle.seed(0)
inputs = [paddle.randn(shape) for shape in ([1001, 47], [47], [47], [1001, 47])]
for each in inputs:
    each.stop_gradient = False
before = len(os.listdir("/proc/self/task"))
SwiGlu()(Gelu()(LayerNormalised(1e-6)(*inputs[:3])), inputs[3]).square().sum().backward()
paddle.matmul(inputs[0], inputs[0], transpose_x=True)
started = len(os.listdir("/proc/self/task")) - before
print(hashlib.sha256(b"".join(each.grad.numpy().tobytes() for each in inputs)).hexdigest(), started)
"""


def printed_by(threads, environment=None):
    """The bits of gradients, and how many threads the loops and a product started."""
    command = [sys.executable, "-c", THREADS, str(threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    bits, started = done.stdout.split()
    return bits, int(started), done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_one_thread_and_two_give_the_same_bits_and_two_start_one_more():
    """Sums over rows do not depend on who takes which; MKL's thread is the loops' thread."""
    (one, alone, _), (two, together, _) = printed_by(1), printed_by(2)
    assert one == two
    assert (alone, together) == (0, 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_a_run_that_finds_no_compiled_loops_gives_the_same_bits_as_those_after_it(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    (first, _, told), (second, _, silent) = printed_by(1, environment), printed_by(1, environment)
    assert first == second == printed_by(1)[0]
    assert told.count("compiling the CPU's loops, once") == 1
    assert "compiling the CPU's loops" not in silent

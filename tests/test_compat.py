"""What we use of private interfaces is there and does what it says, in the versions it was read in."""

import importlib.metadata

import numba
import numpy as np
import paddle
import pytest
from paddle import nn

from got_train import compat
from got_train.cpu import kernels  # noqa: F401  its kernels are what numba caches


@pytest.mark.parametrize("package", compat.VERSIONS)
def test_the_versions_are_those_whose_private_interfaces_were_read(package):
    """With others look at each function of got_train/compat.py before you change VERSIONS."""
    installed = paddle.__version__ if package == "paddle" else importlib.metadata.version(package)
    assert f"{installed}.".startswith(f"{compat.VERSIONS[package]}.")


def test_rows_of_a_tensor_are_written_in_its_memory():
    x = paddle.zeros([4, 3])
    compat.rows_view(x, 1, 3).add_(paddle.ones([2, 3]))
    assert x.numpy().sum(axis=1).tolist() == [0, 3, 3, 0]


def test_the_sum_of_squares_equals_numpys():
    x = np.random.default_rng(0).normal(size=1000).astype("float32")
    squares = x.astype("float64") ** 2
    assert float(compat.squared_l2_norm(paddle.to_tensor(x))) == pytest.approx(squares.sum())


def test_a_layer_norm_and_a_convolution_tell_their_settings():
    assert compat.layer_norm_epsilon(nn.LayerNorm(3, epsilon=0.25)) == 0.25
    assert compat.conv_geometry(nn.Conv2D(3, 4, 5, stride=2, padding=1)) == (5, 2, 1)


def test_mixed_precision_leaves_a_marked_layer_alone():
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    compat.keep_buffers_float32(layers[1])
    kept = [layer._cast_to_low_precision for layer in layers]
    assert kept == [True, False]


def test_numba_keeps_code_for_the_types_that_were_compiled(tmp_path, monkeypatch):
    source = tmp_path / "doubled.py"
    source.write_text("def doubled(x):\n    return x + x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import doubled

    function = numba.njit(cache=True)(doubled.doubled)
    whole, real = (numba.typeof(1),), (numba.typeof(1.0),)
    assert not compat.is_cached(function, whole)
    assert function(21) == 42
    again = numba.njit(cache=True)(doubled.doubled)
    assert (compat.is_cached(again, whole), compat.is_cached(again, real)) == (True, False)


def test_numbas_pool_has_the_size_that_was_set():
    before = compat.numba_pool_size()
    compat.set_numba_pool_size(before)
    assert compat.numba_pool_size() == before == numba.np.ufunc.parallel.NUM_THREADS

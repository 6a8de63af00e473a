"""Private interfaces of Paddle, paddlenlp and numba that have no public counterpart, each behind a function.

Read in the sources of VERSIONS; tests/test_compat.py fails when others are installed, so that somebody looks
at each before a change of theirs is met in a run. Imports nothing of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import paddle
    from paddle import nn

VERSIONS = {"paddle": "3.3", "paddlenlp": "3.0.0b4", "numba": "0.68"}  # with any patch number


# ---- numba


def set_numba_pool_size(threads: int) -> None:
    """Threads that numba starts with the first parallel kernel; numba.set_num_threads cannot go above."""
    from numba.np.ufunc import parallel

    parallel.NUM_THREADS = threads


def numba_pool_size() -> int:
    from numba.np.ufunc import parallel

    return parallel.NUM_THREADS


def is_cached(dispatcher: Any, types: tuple) -> bool:
    """Whether numba finds compiled code of these argument types on disk, or keeps none at all."""
    if not dispatcher.stats.cache_path:
        return True
    return dispatcher._cache.load_overload(types, dispatcher.targetctx) is not None


# ---- Paddle


def set_matmul_threads(threads: int) -> None:
    """OpenMP threads of MKL; paddle.set_num_threads does not exist."""
    import paddle

    paddle.base.core.set_num_threads(threads)


def rows_view(x: paddle.Tensor, start: int, stop: int) -> paddle.Tensor:
    """x[start:stop] in the same memory, where stride kernels are off and indexing copies."""
    return x._slice(start, stop)


def squared_l2_norm(x: paddle.Tensor) -> paddle.Tensor:
    """The sum of squares without a tensor of squares."""
    import paddle

    return paddle._C_ops.squared_l2_norm(x)


def flag(name: str) -> bool | int | float | str | None:
    """The value of one of Paddle's flags; None where this build does not know it."""
    import paddle

    return paddle.framework._global_flags().get(name, None)


def has_flash_attention() -> bool:
    """Whether this build of Paddle has the kernels; one for CPUs does not know the flag."""
    return bool(flag("FLAGS_flash_attn_available"))


def keep_buffers_float32(layer: nn.Layer) -> None:
    """Mixed precision (paddle.amp.decorate) leaves this layer's own parameters and buffers as they are."""
    layer._cast_to_low_precision = False


def layer_norm_epsilon(norm: nn.LayerNorm) -> float:
    return norm._epsilon


def conv_geometry(conv: nn.Conv2D) -> tuple[int, int, int]:
    """Kernel size, stride and padding of a square convolution."""
    return conv._kernel_size[0], conv._stride[0], conv._updated_padding[0]

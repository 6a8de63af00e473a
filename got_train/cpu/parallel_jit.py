"""Kernels that numba compiles for this processor, over the memory of Paddle's tensors, in its MKL's threads.

Paddle's own CPU kernels for norms, activations, softmax and copies run on one thread, in several passes.
"""

from __future__ import annotations

import ctypes
import math
import subprocess
import sys
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from threading import Lock

import numba
import numpy as np
import paddle

from got_train import compat

from .jit import jit

# sums in any order and fused products; nan and inf stay what they are, as training looks for them
RELAXED = {"reassoc", "contract", "arcp", "nsz", "afn"}

_TYPES = {
    paddle.float32: (ctypes.c_float, np.float32),
    paddle.bfloat16: (ctypes.c_uint16, np.uint16),
    paddle.int8: (ctypes.c_int8, np.int8),
}

_compiles_here = False  # whether kernels that are not in the cache are compiled in this process
_threads = 1  # Paddle starts with one, too
_lock = Lock()  # numba's simplest threads end the process when two callers share them


def set_threads(threads: int) -> None:
    """As many as Paddle's; once a kernel has run, at most as many as then."""
    global _threads
    _threads = threads


@cache
def _share_threads() -> None:
    """Run in the OpenMP threads of Paddle's MKL: those of another library would wait for the same cores."""
    library = Path(paddle.__file__).parent / "libs" / "libiomp5.so"
    if library.exists():
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)  # its GOMP_parallel comes before libgomp's
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
    compat.set_numba_pool_size(_threads)  # that are started now, and take a core each while they wait


def as_numpy(x: paddle.Tensor) -> np.ndarray:
    """The memory of a tensor on the CPU, or of a contiguous copy, as an array of its shape.

    Of float32, int8, or the bits of bfloat16, which are the upper half of a float32's.
    """
    x = x if x.is_contiguous() else x.contiguous()
    shape = x.shape
    c_type, dtype = _TYPES[x.dtype]
    memory = (c_type * math.prod(shape)).from_address(x.data_ptr())
    memory.owner = x
    return np.frombuffer(memory, dtype).reshape(shape)


def as_2d(x: paddle.Tensor) -> np.ndarray:
    """as_numpy, all leading axes as rows: (R, D)."""
    array = as_numpy(x)
    return array.reshape(-1, array.shape[-1])


def as_1d(x: paddle.Tensor) -> np.ndarray:
    """as_numpy, in one axis."""
    return as_numpy(x).reshape(-1)


@cache
def precompile() -> None:
    """Have another process compile and keep all kernels.

    What a process compiles itself rounds last bits otherwise than what it loads, and a run that is resumed
    must not differ.
    """
    if not _compiles_here:
        print("compiling the CPU's kernels, once (half a minute)", file=sys.stderr)
        program = "import sys; from got_train.cli import precompile; sys.exit(precompile.main([]))"
        subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True)


def compile_in_this_process() -> None:
    """This process is the one that compiles and keeps the kernels."""
    global _compiles_here
    _compiles_here = True


def parallel_jit(kernel: Callable) -> Callable:
    """The parallel form of a kernel over arrays, some of which it writes; takes tensors for arrays."""
    compiled, loaded = jit(kernel, fastmath=RELAXED, parallel=True, nogil=True), set()

    def load(arguments: list) -> None:
        types = tuple(map(numba.typeof, arguments))
        if not compat.is_cached(compiled, types):
            precompile()
        compiled.compile(types)

    @wraps(kernel)
    def call(*arguments: object) -> None:
        arrays = [as_numpy(x) if isinstance(x, paddle.Tensor) else x for x in arguments]
        with _lock:
            _share_threads()
            numba.set_num_threads(min(_threads, compat.numba_pool_size()))
            # numba's own names of their types take ten times as long
            dtypes = tuple(getattr(x, "dtype", type(x)) for x in arrays)
            if dtypes not in loaded:
                load(arrays)
                loaded.add(dtypes)
            compiled(*arrays)

    return call

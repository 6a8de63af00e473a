"""Loops that numba compiles for this processor, over the memory of Paddle's tensors and in its MKL's threads.

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
from numba.np.ufunc import parallel

from .jit import native

# sums in any order and fused products; nan and inf stay what they are, as training looks for them
RELAXED = {"reassoc", "contract", "arcp", "nsz", "afn"}

_NUMBERS = {paddle.float32: (ctypes.c_float, np.float32), paddle.bfloat16: (ctypes.c_uint16, np.uint16)}

_compiles = False  # whether what is not kept is compiled here
_threads = 1  # Paddle starts with one, too
_running = Lock()  # numba's simplest threads end the process when two callers share them


def set_threads(threads: int) -> None:
    """As many as Paddle's; once loops have run, at most as many as then."""
    global _threads
    _threads = threads


@cache
def _share_threads() -> None:
    """Run in the OpenMP threads of Paddle's MKL: those of another library would wait for the same cores."""
    library = Path(paddle.__file__).parent / "libs" / "libiomp5.so"
    if library.exists():
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)  # its GOMP_parallel comes before libgomp's
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
    parallel.NUM_THREADS = _threads  # that are started now, and take a core each while they wait


def array(x: paddle.Tensor) -> np.ndarray:
    """The memory of a tensor on the CPU, or of a contiguous copy, as an array of its shape.

    Of float32, or the bits of bfloat16, which are the upper half of a float32's.
    """
    x = x if x.is_contiguous() else x.contiguous()
    shape = x.shape
    in_memory, number = _NUMBERS[x.dtype]
    memory = (in_memory * math.prod(shape)).from_address(x.data_ptr())
    memory.owner = x
    return np.frombuffer(memory, number).reshape(shape)


def rows(x: paddle.Tensor) -> np.ndarray:
    """The same as (R, D)."""
    found = array(x)
    return found.reshape(-1, found.shape[-1])


def flat(x: paddle.Tensor) -> np.ndarray:
    """The same in one axis."""
    return array(x).reshape(-1)


@cache
def compile_all() -> None:
    """Have another process compile and keep all loops.

    What a process compiles itself rounds last bits otherwise than what it loads, and a run that is resumed
    must not differ.
    """
    if not _compiles:
        print("compiling the CPU's loops, once (half a minute)", file=sys.stderr)
        program = "from got_train.cli import precompile; precompile.main()"
        subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True)


def compile_here() -> None:
    """This process is the one that compiles."""
    global _compiles
    _compiles = True


def compiled(loop: Callable) -> Callable:
    """The parallel form of a loop over arrays, some of which it writes; takes tensors for arrays."""
    run, loaded = native(loop, fastmath=RELAXED, parallel=True, nogil=True), set()

    def load(arguments: list) -> None:
        types = tuple(map(numba.typeof, arguments))
        if run.stats.cache_path and not run._cache.load_overload(types, run.targetctx):
            compile_all()
        run.compile(types)

    @wraps(loop)
    def call(*arguments: object) -> None:
        arrays = [array(each) if isinstance(each, paddle.Tensor) else each for each in arguments]
        with _running:
            _share_threads()
            numba.set_num_threads(min(_threads, parallel.NUM_THREADS))
            # numba's own names of their types take ten times as long
            kinds = tuple(getattr(each, "dtype", type(each)) for each in arrays)
            if kinds not in loaded:
                load(arrays)
                loaded.add(kinds)
            run(*arrays)

    return call

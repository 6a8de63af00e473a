"""How Paddle should use this CPU: threads, memory allocator, kernels. Nothing here changes what is computed.

Paddle starts with one thread; its MKL takes slow paths on processors that are not Intel's; glibc gives every
large tensor back to the kernel; transposes through stride kernels run at a fraction of memory speed.
"""

from __future__ import annotations

import os
from pathlib import Path

from got_train import compat

from . import heap

MKL_AVX2, MKL_AVX512 = "5", "7"  # values of MKL_DEBUG_CPU_TYPE, which the MKL 2019 inside Paddle reads

_tuned = False


def tune(threads: int | None = None) -> int:
    """Set threads (default: the cores this process may use), allocator and kernels; returns the threads set.

    To be called before the first matrix product: MKL chooses its code path there.
    """
    global _tuned
    choose_mkl_path()
    import paddle

    threads = threads or usable_cores()
    set_threads(threads)
    paddle.set_flags({"FLAGS_use_stride_kernel": False})
    heap.keep_freed_memory()
    _tuned = True
    return threads


def is_tuned() -> bool:
    """Whether this process tuned Paddle for the CPU; models then run with their CPU kernels."""
    return _tuned


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(threads: int) -> None:
    """Threads of Paddle's matrix products and of the kernels; to be set again after paddle.inference ran."""
    import paddle

    from . import parallel_jit

    compat.set_matmul_threads(threads)
    paddle.set_flags({"FLAGS_paddle_num_threads": threads})
    parallel_jit.set_threads(threads)


def choose_mkl_path() -> None:
    """On AMD's processors, have MKL use the vector units that are there (three times as fast on an EPYC)."""
    text = _processor()
    if "AuthenticAMD" in text and "avx2" in text:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", MKL_AVX512 if "avx512f" in text else MKL_AVX2)


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself; others would take longer than with float32."""
    text = _processor()
    return "avx512_bf16" in text or "amx_bf16" in text


def _processor() -> str:
    """What Linux says of it; nothing elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text(errors="replace") if cpuinfo.exists() else ""

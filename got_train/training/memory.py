"""How much memory the process has used at most."""

from __future__ import annotations

import resource
import sys

import paddle


def peak_memory() -> int:
    """Bytes: of the GPU what Paddle has allocated, on the CPU the process's resident memory."""
    if paddle.get_device().startswith("gpu"):
        return paddle.device.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in KiB

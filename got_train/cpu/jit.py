"""Functions over numbers and arrays compiled by numba for this processor and kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numba


def jit(function: Callable, **options: bool | str | set) -> Callable:
    """numba.njit with a cache next to the function's file, or in the user's cache."""
    options = {"error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither can be written: every process compiles again
        return numba.njit(**options)(function)


# part of every kernel that calls it: else a process calls the copy of whichever kernel it loaded first
jit_inline = partial(jit, inline="always")

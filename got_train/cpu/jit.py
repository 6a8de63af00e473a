"""Functions over numbers and arrays as machine code for this processor, which numba makes and keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numba


def native(function: Callable, **options: bool | str | set) -> Callable:
    """The function as machine code, which is kept beside its file or in the user's cache."""
    options = {"error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither can be written: every process compiles anew
        return numba.njit(**options)(function)


# part of every loop that calls it: else the process decides by what it loaded first whose copy is called
inlined = partial(native, inline="always")

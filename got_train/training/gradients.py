"""Where a parameter's gradient is in every mode, and the norm of many."""

from __future__ import annotations

import math

import paddle

from got_train import compat


def gradient(parameter: paddle.Tensor) -> paddle.Tensor | None:
    """Mixed precision keeps it in float32 at `main_grad`, ZeRO stage 3 a shard at `bw_storage`."""
    shard = getattr(parameter, "bw_storage", None)
    return getattr(parameter, "main_grad", parameter.grad) if shard is None else shard


def global_norm(grads: list[paddle.Tensor]) -> float:
    """Of all gradients together, by the operator that clipping uses.

    It makes no squares; paddle.linalg.norm and paddle.dot lose 7 % and 14 % of 50 million numbers.
    """
    if not grads:
        return 0.0
    squares = [compat.squared_l2_norm(grad.astype("float32")) for grad in grads]
    return math.sqrt(float(paddle.add_n(squares)))

"""A layer norm that is right where it does not train; layers recomputed, linear weights by name."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.distributed.fleet.utils import recompute as run_and_recompute

from got_train import compat


class LayerNorm(nn.LayerNorm):
    """Over the last axis. Paddle 3.3.1 leaves a frozen scale out of the gradient of x on the CPU."""

    def forward(self, x):
        if self.weight.stop_gradient:
            normalized = F.layer_norm(x, x.shape[-1], epsilon=compat.layer_norm_epsilon(self))
            return normalized * self.weight + self.bias
        return super().forward(x)


def checkpoint_layer(layer: nn.Layer, x: paddle.Tensor, *args: object, recompute: bool) -> paddle.Tensor:
    """layer(x, *args); with `recompute` only x is kept, and the layer runs again for the gradients.

    Under LoRA the patches have no gradient, and Paddle gives none to what it recomputes from such.
    """
    return run_and_recompute(layer, x, *args) if recompute and not x.stop_gradient else layer(x, *args)


def linear_names(model: nn.Layer) -> set[str]:
    """The weights of linear layers, which Paddle has as (in, out) and everybody else as (out, in)."""
    return {f"{name}.weight" for name, layer in model.named_sublayers() if isinstance(layer, nn.Linear)}

"""Trims the heap between a model's layers, forward and backward; knows no training loop."""

from __future__ import annotations

from functools import partial

import paddle
from paddle import nn

from got_train.cpu.heap import trim_heap
from got_train.modeling.got import Got


def trim_between_layers(model: Got) -> None:
    """Nothing that is computed changes; where settings.tune was not called nothing at all does."""
    blocks, layers = model.vision.blocks, model.decoder.layers
    # a block's attention too, as the parts of a block do not fit into the free memory that others leave
    for layer in [*blocks, *(block.attn for block in blocks), *layers]:
        layer.register_forward_post_hook(_after_forward)
    layers[-1].register_forward_post_hook(partial(_before_loss, model.decoder.head))


def _after_forward(layer: nn.Layer, inputs: tuple, output: paddle.Tensor) -> None:
    if layer.training:
        trim_heap()
        if not output.stop_gradient:
            output.register_hook(_before_backward)


def _before_backward(grad: paddle.Tensor) -> None:
    trim_heap()


def _before_loss(head: paddle.Tensor, layer: nn.Layer, inputs: tuple, output: paddle.Tensor) -> None:
    """The loss asks for the gradient of the head's matrix in one piece."""
    if layer.training and not head.stop_gradient:
        trim_heap(ahead=4 * head.size)

"""Gives holes in the heap back between a model's layers, forward and backward; knows no training loop."""

from __future__ import annotations

from functools import partial

import paddle
from paddle import nn

from got_train.cpu.heap import give_back_holes
from got_train.modeling.got import Got


def give_back_between_layers(model: Got) -> None:
    """Nothing that is computed changes; where got_train.cpu.tune was not called nothing at all does."""
    decoder = model.decoder.model
    blocks, layers = model.vision.blocks, getattr(decoder, "decoder", decoder).layers
    # a block's attention too, as the parts of a block find no room in each other's holes
    for layer in [*blocks, *(block.attn for block in blocks), *layers]:
        layer.register_forward_post_hook(_after)
    layers[-1].register_forward_post_hook(partial(_before_the_loss, model.decoder.head))


def _after(layer: nn.Layer, inputs: tuple, output: paddle.Tensor) -> None:
    if layer.training:
        give_back_holes()
        if not output.stop_gradient:
            output.register_hook(_before_backward)


def _before_backward(grad: paddle.Tensor) -> None:
    give_back_holes()


def _before_the_loss(head: paddle.Tensor, layer: nn.Layer, inputs: tuple, output: paddle.Tensor) -> None:
    """Which makes the gradient of the head's matrix in one piece."""
    if layer.training and not head.stop_gradient:
        give_back_holes(ahead=4 * head.size)

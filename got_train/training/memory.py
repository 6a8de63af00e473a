"""Memory: what the process has used at most, and estimates of what weights, state and activations will take.

The estimates know sizes only, no model and no device; what they leave out stands with each.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import paddle

from got_train.modeling.config import DecoderConfig, VisionConfig

Precision = Literal["float32", "bfloat16", "float16"]
Sharding = Literal["", "stage1", "stage2", "stage3"]

_SLICED = 1 << 20  # numbers, above which Paddle's stage 3 slices a parameter
_CHUNK = 128 << 20  # bytes of float32 logits that the loss holds at once


def peak_memory() -> int:
    """Bytes: of the GPU what Paddle has allocated, on the CPU the process's resident memory."""
    if paddle.get_device().startswith("gpu"):
        return paddle.device.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in KiB


@dataclass(frozen=True)
class StateBytes:
    """What a process holds all the time while it trains."""

    weights: int
    gradients: int
    masters: int  # the float32 weights that a half-precision run updates
    moments: int  # AdamW's two

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.masters + self.moments


def state_bytes(
    trained: Sequence[int],
    frozen: Sequence[int] = (),
    precision: Precision = "float32",
    sharding: Sharding = "",
    processes: int = 1,
) -> StateBytes:
    """Of the process that holds most, from the sizes (numbers) of the parameters that train and do not.

    For n numbers, of which t train: weights 4 n (half precision 2 n); gradients 4 t (float16 2 t; bfloat16
    sums them in float32); masters 0 (half precision 4 t); moments 8 t. Over N processes stage 1 shares out
    masters and moments, stage 2 gradients too, by whole parameters, so that no share is below the largest;
    stage 3 cuts parameters of more than a million numbers into N slices, weights included.

    Left out: what a stage gathers for a moment (stage 3 the weights of the layer that runs), alignment, norms
    that stay in float32, buffers of the communication library.
    """
    half = precision != "float32"
    own = held = sum(trained)
    everything = own + sum(frozen)
    if processes > 1 and sharding == "stage3":
        own = held = sum(_slice(size, processes) for size in trained)
        everything = own + sum(_slice(size, processes) for size in frozen)
    elif processes > 1 and sharding:
        # stage 1 deals out the largest first, stage 2 takes them as they come
        own = _largest_share(sorted(trained, reverse=True) if sharding == "stage1" else trained, processes)
        held = own if sharding == "stage2" else held
    return StateBytes(
        weights=(2 if half else 4) * everything,
        gradients=(2 if precision == "float16" else 4) * held,
        masters=4 * own if half else 0,
        moments=8 * own,
    )


def _slice(size: int, processes: int) -> int:
    return -(-size // processes) if size > _SLICED else size


def _largest_share(sizes: Sequence[int], processes: int) -> int:
    """Each parameter goes to whoever has least so far, as in Paddle's sharding optimizers."""
    shares = [0] * processes
    for size in sizes:
        shares[shares.index(min(shares))] += size
    return max(shares)


@dataclass(frozen=True)
class Activations:
    """Bytes that a forward pass keeps for the backward pass, and what exists for a moment besides."""

    kept: int
    moment: int  # the largest block or layer once more: its gradients, or what is recomputed of it


def view_activations(
    config: VisionConfig, precision: Precision = "float32", recompute: bool = False, fused: bool = False
) -> Activations:
    """Of one view through an encoder that trains; an estimate by counting what Paddle's own kernels keep.

    A block of N patches keeps N (5 E + 2 M) numbers around its linear layers, and for each of the Q places of
    its windows 6 E + 2 H w (q, k, v, output, q in two orders, position terms) where scores are made in
    blocks, or 2 E + 4 H d' in the fused kernel, whose heads are d' = d + 2 w wide. With recompute a block
    keeps N E, its input, and one block exists at a time.
    """
    number, patches = 4 if precision == "float32" else 2, config.grid**2
    blocks = []
    for index in range(config.layers):
        side = config.grid if index in config.global_layers else config.window
        places = (-(-config.grid // side) * side) ** 2
        wide = -(-(config.width // config.heads + 2 * side) // 8) * 8
        attention = 2 * config.width + 4 * config.heads * wide
        if not fused:
            attention = 6 * config.width + 2 * config.heads * side
        linear = 5 * config.width + 2 * config.mlp_width
        blocks.append(number * (patches * linear + places * attention))
    ends = number * patches * (config.width + 6 * config.neck_width)  # patches, neck and convolutions
    inputs = number * patches * config.width * config.layers
    moment = (2 if recompute else 1) * max(blocks)
    return Activations((inputs if recompute else sum(blocks)) + ends, moment)


def decoder_activations(
    config: DecoderConfig, rows: Sequence[int], precision: Precision = "float32", recompute: bool = False
) -> Activations:
    """Of rows of so many tokens, padded or packed, through a decoder; an estimate by counting tensors.

    A Qwen2 layer keeps 11 D + 3 F numbers a token, of which its two norms keep 2 D in float32 whatever the
    precision; its fused attention keeps no weights. With recompute it keeps D, its input, and one layer
    exists at a time. OPT's layers know neither: 8 D + F a token and H T^2 weights of attention a row, in half
    precision again as float32; dropout keeps a byte for each number that it saw, and the weights once more.
    """
    number, tokens = 4 if precision == "float32" else 2, sum(rows)
    width, hidden, dropped = config.width, config.mlp_width, config.dropout > 0
    if config.kind == "qwen2":
        layer = tokens * (number * (11 * width + 3 * hidden) + (4 - number) * 2 * width)
        if recompute:
            return Activations(number * tokens * width * config.layers, 2 * layer)
        return Activations(config.layers * layer, layer)
    layer = tokens * (number * (8 * width + hidden) + 2 * width * dropped)
    score = (number if number == 4 else 4 + number) + (number + 1) * dropped
    layer += config.heads * sum(row**2 for row in rows) * score
    return Activations(config.layers * layer, layer)


def head_bytes(config: DecoderConfig, precision: Precision = "float32") -> int:
    """Of the loss while it runs, if the decoder trains: an estimate.

    Four times a chunk of logits, the gradient of the head's matrix in float32 and in the weights' precision,
    and both again of a chunk's share in it.
    """
    number = 4 if precision == "float32" else 2
    return 4 * _CHUNK + 2 * (4 + number) * config.width * config.vocab_size

"""Memory: what the process has used at most, and estimates of what weights, state and activations will take.

The estimates know sizes only, no model and no device; what they leave out stands with each.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import paddle

from got_train.cpu.heap import MIN_TRIM_BYTES
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.modeling.loss import CHUNK_BYTES, GRAD_ROWS

Precision = Literal["float32", "bfloat16", "float16"]
Sharding = Literal["", "stage1", "stage2", "stage3"]
Device = Literal["cpu", "gpu"]

# of what comes and goes in a step on the CPU: a tensor does not fit where one of its size has been, as Paddle
# asks for aligned memory, and holes are given back between layers only (training/holes.py)
_HOLES = 1.1
_KEPT_HOLES = 1.9  # of what is so little that holes are kept
_SLICED = 1 << 20  # numbers, above which Paddle's stage 3 slices a parameter


def peak_memory() -> int:
    """Bytes: of the GPU what Paddle has allocated, on the CPU resident memory; 0 where nobody tells it."""
    if paddle.get_device().startswith("gpu"):
        return paddle.device.cuda.max_memory_allocated()
    with suppress(OSError, IndexError):  # getrusage begins at the peak of what started the process
        return 1024 * int(Path("/proc/self/status").read_text(encoding="utf-8").split("VmHWM:")[1].split()[0])
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # KiB elsewhere


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
    own = kept = sum(trained)
    everything = own + sum(frozen)
    if processes > 1 and sharding == "stage3":
        own = kept = sum(_slice(size, processes) for size in trained)
        everything = own + sum(_slice(size, processes) for size in frozen)
    elif processes > 1 and sharding:
        # stage 1 deals out the largest first, stage 2 takes them as they come
        own = _largest_share(sorted(trained, reverse=True) if sharding == "stage1" else trained, processes)
        kept = own if sharding == "stage2" else kept
    return StateBytes(
        weights=(2 if half else 4) * everything,
        gradients=(2 if precision == "float16" else 4) * kept,
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
    # gradients of the largest block or layer, with recompute also what is made of it again: so many times
    # what it keeps; on the CPU, whose kernels keep less than they make, that was measured
    moment: int

    @staticmethod
    def times(recompute: bool, device: Device) -> float:
        return (2 if recompute else 1) * (1.5 if device == "cpu" else 1)


def view_activations(
    config: VisionConfig, precision: Precision = "float32", recompute: bool = False, device: Device = "cpu"
) -> Activations:
    """Of one view through an encoder that trains; an estimate by counting tensors.

    N patches, Q places of their windows, H heads of d numbers in windows of w x w. A block keeps on a GPU,
    where kernels are Paddle's, N (5 E + 2 M) numbers around its linear layers and Q (2 E + 4 H d') in the
    fused kernel, whose heads are d' = d + 2 w wide. Our layers on the CPU keep N (2 E + M), as norms and
    activation are made again, and Q 4 E: q, k, v and output. With recompute a block keeps N E, its input.
    """
    number, patches = _number(precision), config.grid**2
    width, hidden = config.width, config.mlp_width
    blocks = []
    for index in range(config.layers):
        side = config.grid if index in config.global_layers else config.window
        window_patches = (-(-config.grid // side) * side) ** 2
        wide = -(-(width // config.heads + 2 * side) // 8) * 8
        if device == "gpu":
            own = patches * (5 * width + 2 * hidden) + window_patches * (2 * width + 4 * config.heads * wide)
        else:
            own = patches * (2 * width + hidden) + window_patches * 4 * width
        blocks.append(number * own)
    ends = number * patches * (width + 6 * config.neck_width)  # patches, neck and convolutions
    inputs = number * patches * width * config.layers
    moment = round(Activations.times(recompute, device) * max(blocks))
    return Activations((inputs if recompute else sum(blocks)) + ends, moment)


def decoder_activations(
    config: DecoderConfig,
    rows: Sequence[int],
    precision: Precision = "float32",
    recompute: bool = False,
    device: Device = "cpu",
) -> Activations:
    """Of rows of so many tokens, padded or packed, through a decoder; an estimate by counting tensors.

    A Qwen2 layer keeps on a GPU 11 D + 3 F numbers a token, of which its two norms keep 2 D in float32
    whatever the precision; its attention keeps no weights, FlashMask's for packed rows neither. Our layers on
    the CPU keep 8 D + 2 F. OPT's keep 8 D + F a token, on the CPU H T^2 weights of attention a row besides;
    dropout keeps a byte for each number that it saw, and the weights once more. With recompute a layer keeps
    D, its input, and one exists at a time. All layers together keep D + 2 d: what the last norm gets, and
    angles.
    """
    number, tokens = _number(precision), sum(rows)
    width, hidden, dropped = config.width, config.mlp_width, config.dropout > 0
    if config.kind == "opt":
        layer = tokens * (number * (8 * width + hidden) + 2 * width * dropped)
        if device == "cpu":
            score = (number if number == 4 else 4 + number) + (number + 1) * dropped
            layer += config.heads * sum(row**2 for row in rows) * score
    elif device == "gpu":
        layer = tokens * (number * (11 * width + 3 * hidden) + (4 - number) * 2 * width)
    else:
        layer = tokens * number * (8 * width + 2 * hidden)
    kept = config.layers * (number * tokens * width if recompute else layer)
    ends = number * tokens * (width + 2 * width // config.heads)
    return Activations(kept + ends, round(Activations.times(recompute, device) * layer))


def head_bytes(config: DecoderConfig, precision: Precision = "float32", supervised: int | None = None) -> int:
    """Of the loss while it runs, if the decoder trains: an estimate.

    A chunk of float32 logits (a GOT's has 220 tokens; None: a whole one) and the gradient of the head's
    matrix in float32, of half precision both once more in that, and some rows of the gradient twice.
    """
    row = 4 * config.vocab_size
    chunk = CHUNK_BYTES if supervised is None else min(CHUNK_BYTES, supervised * row)
    gradient = (4 if precision == "float32" else 6) * config.width * config.vocab_size
    chunk = chunk if precision == "float32" else 3 * chunk // 2
    return chunk + gradient + 8 * config.width * min(GRAD_ROWS, config.vocab_size)


def _number(precision: Precision) -> int:
    return 4 if precision == "float32" else 2


@dataclass(frozen=True)
class MicroBatch:
    """What one pass gets: rows of so many tokens, padded or packed, with their views."""

    rows: int
    tokens: int  # of each row
    supervised: int  # of all rows
    views: int


@dataclass(frozen=True)
class Training:
    """What of a run its memory follows from, beside the micro-batch."""

    config: GotConfig
    trained: Mapping[str, Sequence[int]]  # sizes of the parameters, by part
    frozen: Mapping[str, Sequence[int]]
    recompute: Collection[str] = ()  # parts
    accumulates: bool = False  # a step has several micro-batches
    precision: Precision = "float32"
    sharding: Sharding = ""
    processes: int = 1
    device: Device = "cpu"


def estimate(training: Training, batch: MicroBatch) -> int:
    """Bytes at the fullest moment of a step, without Paddle itself: an estimate.

    Weights, masters, AdamW's moments, in accumulation also gradients, and the most of what comes one after
    the other: the encoder, the loss, the backward passes of decoder and encoder, the update. On the CPU
    what comes and goes is taken 1.1 times, for holes in the heap, and 1.9 times until they are given back.
    Left out: what adapters keep, as they are small, and nano's loss of characters.
    """
    sizes = [size for part in training.trained.values() for size in part]
    state = state_bytes(
        sizes,
        [size for part in training.frozen.values() for size in part],
        training.precision,
        training.sharding,
        training.processes,
    )
    kept_bytes = state.total - (0 if training.accumulates else state.gradients)
    most = max(_moments(training, batch, state.gradients // max(1, sum(sizes))))
    if training.device == "cpu":
        kept = max(0, min(most, MIN_TRIM_BYTES - kept_bytes))
        most = round(max(_HOLES * most, _KEPT_HOLES * kept))
    return kept_bytes + most


def _moments(training: Training, batch: MicroBatch, of_a_gradient: int) -> Iterator[int]:
    """What stands beside the state, moment by moment of the step."""
    config, precision, device = training.config, training.precision, training.device
    again = [part in training.recompute for part in ("vision", "decoder")]
    view = view_activations(config.vision, precision, again[0], device)
    rows = decoder_activations(config.decoder, [batch.tokens] * batch.rows, precision, again[1], device)
    moments = {part: of_a_gradient * sum(training.trained.get(part, ())) for part in ("decoder", "vision")}
    moments = dict.fromkeys(moments, 0) if training.accumulates else moments  # they are held already
    learns = bool(training.trained.get("vision"))
    views, embedding = batch.views * view.kept * learns, 0
    if config.decoder.width * config.decoder.vocab_size in training.trained.get("decoder", ()):
        embedding = 4 * config.decoder.width * config.decoder.vocab_size
    loss = head_bytes(config.decoder, precision, batch.supervised)
    yield views + batch.views * view.moment  # a frozen encoder has one block at a time
    yield views + rows.kept + (loss if embedding else CHUNK_BYTES)
    yield views + rows.kept + embedding + rows.moment
    second = 0 if device == "cpu" else embedding  # where the embedding's is not added in the head's place
    yield views + moments["decoder"] + second
    if learns:
        yield views + moments["decoder"] + batch.views * view.moment
    yield sum(moments.values())

"""Floating-point operations of a GOT model, counted from its sizes: forward passes and training steps.

Only products of matrices and convolutions count, two operations for a multiplication with its addition;
norms, softmax, activations and the optimizer do not. Numbers are nominal: what the mathematics needs, even if
a kernel computes it twice, in a wider product or not at all. Knows no weights, no files and no seconds.
"""

# V views  S patches along a side (64), N = S*S  E encoder's width (768)  M its MLP's  w window's side (14)
# C neck's width (256)  O encoder's out width (1024)  P tokens a view (256)
# T tokens of a sample  D decoder's width (1024)  K width of its keys (D, or less with grouping)  F its MLP's

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from got_train.errors import ConfigError
from got_train.modeling.config import PARTS, DecoderConfig, GotConfig, VisionConfig

Attention = Literal["causal", "full"]


@dataclass(frozen=True)
class Products:
    """Operations of a forward pass, by what their backward passes take."""

    weights: int = 0  # of weights and activations: as much again for the gradient of each of the two
    activations: int = 0  # of two activations (attention): as much again for each
    pixels: int = 0  # of weights and pixels, which have no gradient: as much again for the weights

    def __add__(self, other: Products) -> Products:
        return Products(
            self.weights + other.weights,
            self.activations + other.activations,
            self.pixels + other.pixels,
        )

    def __mul__(self, times: int) -> Products:
        return Products(times * self.weights, times * self.activations, times * self.pixels)

    @property
    def forward(self) -> int:
        return self.weights + self.activations + self.pixels

    def backward(self, trains: bool, passes: bool) -> int:
        """Of a part whose weights train or not, through which a gradient passes to its inputs or not.

        weights x ([trains] + [passes]) + activations x 2 if either + pixels x [trains]
        """
        through = 2 * self.activations if trains or passes else 0
        return self.weights * (trains + passes) + through + self.pixels * trains


@dataclass(frozen=True)
class Work:
    """What one pass gets: views, the lengths of its samples with image tokens, and supervised tokens.

    Samples that share a packed row are given one by one, as none sees another.
    """

    views: int
    samples: tuple[int, ...]  # tokens each
    supervised: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", tuple(self.samples))
        numbers = {
            "views": self.views,
            "supervised": self.supervised,
            "samples": min(self.samples, default=0),
        }
        for name, value in numbers.items():
            if value < 0:
                raise ConfigError(f"flops: {name} holds {value}; expected numbers from 0")
        if self.supervised > sum(self.samples):
            raise ConfigError(
                f"flops: {self.supervised} supervised tokens of {sum(self.samples)}; expected at most as many"
            )


@dataclass(frozen=True)
class StepFlops:
    """Operations of a training step without the optimizer's, which has a few for each weight."""

    forward: int
    backward: int
    recomputed: int = 0  # forward passes made a second time to save memory

    @property
    def useful(self) -> int:
        """What the mathematics needs; a share of the peak by these is the MFU."""
        return self.forward + self.backward

    @property
    def total(self) -> int:
        return self.useful + self.recomputed


def patches(config: VisionConfig) -> Products:
    """The first convolution: 2 N (3 patch^2) E."""
    return Products(pixels=2 * config.grid**2 * 3 * config.patch**2 * config.width)


def vision_block(config: VisionConfig, window: int) -> Products:
    """One block over a view; window 0 is global attention.

    Linear layers: 2 N (4 E^2 + 2 E M). The padding of windows has no product there: its q, k and v are the
    bias. Attention over the Q places of all windows, padding included, each seeing w^2: scores and values
    4 Q w^2 E, relative positions 4 Q w E (weights: their tables train).
    """
    width, side = config.width, window or config.grid
    window_patches = (-(-config.grid // side) * side) ** 2
    linear = 2 * config.grid**2 * (4 * width**2 + 2 * width * config.mlp_width)
    return Products(
        weights=linear + 4 * window_patches * side * width, activations=4 * window_patches * side**2 * width
    )


def vision_blocks(config: VisionConfig) -> Products:
    windows = (0 if index in config.global_layers else config.window for index in range(config.layers))
    return _sum(vision_block(config, window) for window in windows)


def neck(config: VisionConfig) -> Products:
    """Neck, net_2 and net_3: 2 N (E C + 9 C^2) + 2 (S/2)^2 9 C 2C + 2 (S/4)^2 9 2C O.

    The zeros around a picture count as any other place.
    """
    side, channels = config.grid, config.neck_width
    half = (side + 1) // 2
    total = side**2 * (config.width * channels + 9 * channels**2)
    total += half**2 * 9 * channels * 2 * channels
    return Products(weights=2 * (total + config.view_tokens * 9 * 2 * channels * config.out_width))


def vision(config: VisionConfig) -> Products:
    """The whole encoder over one view."""
    return patches(config) + vision_blocks(config) + neck(config)


def projector(config: GotConfig) -> Products:
    """Of one view: 2 P O D."""
    return Products(weights=2 * config.vision.view_tokens * config.vision.out_width * config.decoder.width)


def decoder_matrices(config: DecoderConfig) -> int:
    """Weights of one layer's linear layers, biases left out: 2 D^2 + 2 D K, and 3 D F (OPT: 2 D F)."""
    width = config.width
    keys = width // config.heads * config.kv_heads
    return 2 * width * (width + keys) + (3 if config.kind == "qwen2" else 2) * width * config.mlp_width


def seen(tokens: int, attention: Attention = "causal") -> int:
    """Pairs of a token and one that it sees: T (T + 1) / 2, or all T^2 of a program that only hides them."""
    return tokens * (tokens + 1) // 2 if attention == "causal" else tokens**2


def decoder_layers(
    config: DecoderConfig, samples: Sequence[int], attention: Attention = "causal"
) -> Products:
    """All layers: 2 x matrices x T, and 4 D for each pair of a token and one that it sees.

    Heads that share keys save no product. With `full`, give the lengths of rows, padded or packed.
    """
    linear = 2 * decoder_matrices(config) * sum(samples)
    pairs = sum(seen(tokens, attention) for tokens in samples)
    return Products(weights=linear, activations=4 * config.width * pairs) * config.layers


def head(config: DecoderConfig, supervised: int) -> Products:
    """The logits of the supervised tokens alone: 2 D vocabulary each."""
    return Products(weights=2 * config.width * config.vocab_size * supervised)


def forward(config: GotConfig, work: Work, attention: Attention = "causal") -> dict[str, int]:
    """Operations of a forward pass with its loss, by vision, projector, decoder and head."""
    return {
        "vision": work.views * vision(config.vision).forward,
        "projector": work.views * projector(config).forward,
        "decoder": decoder_layers(config.decoder, work.samples, attention).forward,
        "head": head(config.decoder, work.supervised).forward,
    }


def training(
    config: GotConfig,
    work: Work,
    trains: Collection[str] = PARTS,
    recompute: bool = False,
    attention: Attention = "causal",
) -> StepFlops:
    """Operations of a step in which the parts of `trains` train, without LoRA and nano's char_head.

    Backward is twice the forward pass of what trains (once for the pixels), once through linear layers that
    are frozen but have a trained part before them, twice through their attention, nothing where neither is.
    recompute makes the encoder's blocks and the decoder's layers a second time wherever a gradient passes.
    """
    wrong = [name for name in trains if name not in PARTS]
    if wrong or not trains:
        raise ConfigError(
            f"flops: trains holds {', '.join(wrong) or 'nothing'}; expected some of {', '.join(PARTS)}"
        )
    vision_trains, projector_trains, decoder_trains = (part in trains for part in PARTS)
    layers = decoder_layers(config.decoder, work.samples, attention)
    behind = (  # products, whether their weights train, whether a gradient passes to what is before them
        (vision(config.vision) * work.views, vision_trains, vision_trains),
        (projector(config) * work.views, projector_trains, vision_trains),
        (layers + head(config.decoder, work.supervised), decoder_trains, True),  # to embeddings or features
    )
    again = 0
    if recompute:
        again += work.views * vision_blocks(config.vision).forward if vision_trains else 0
        again += layers.forward
    return StepFlops(
        forward=sum(forward(config, work, attention).values()),
        backward=sum(products.backward(trained, passes) for products, trained, passes in behind),
        recomputed=again,
    )


def _sum(several: Iterable[Products]) -> Products:
    total = Products()
    for value in several:
        total = total + value
    return total

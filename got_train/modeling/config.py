"""The sizes of a GOT model; grid, tokens a view and parameter count follow from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from got_train.errors import ConfigError

if TYPE_CHECKING:
    pass

IGNORED = -100  # label of a position that is not supervised
PARTS = ("vision", "projector", "decoder")
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, of RGB in 0..1
STD = (0.26862954, 0.26130258, 0.27577711)
MAX_WIDTH, MAX_LAYERS = 1 << 20, 1000  # no model that fits any machine has more


class ModelConfigError(ConfigError):
    """Sizes that no model can have; the message begins with the section."""


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ModelConfigError(message)


def _check_range(section: str, config: Any, names: tuple[str, ...], highest: int) -> None:
    for name in names:
        value = getattr(config, name)
        _check(1 <= value <= highest, f"{section}.{name} must be 1 to {highest}; got {value}")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """ViTDet-B (SAM's) and two strided convolutions, net_2 and net_3; the released encoder's sizes."""

    image_side: int = 1024  # pixels, views are square
    patch: int = 16  # pixels
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    window: int = 14  # patches
    global_layers: tuple[int, ...] = (2, 5, 8, 11)
    neck_width: int = 256
    out_width: int = 1024
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        object.__setattr__(self, "global_layers", tuple(self.global_layers))
        _check(
            self.patch > 0 and self.image_side % self.patch == 0,
            f"vision.image_side ({self.image_side}) must be a multiple of vision.patch ({self.patch})",
        )
        for name in ("width", "layers", "heads", "mlp_width", "window", "neck_width", "out_width"):
            _check(getattr(self, name) >= 1, f"vision.{name} must be at least 1; got {getattr(self, name)}")
        _check(
            self.width % self.heads == 0,
            f"vision.width ({self.width}) must be a multiple of vision.heads ({self.heads})",
        )
        _check_range("vision", self, ("image_side", "patch"), MAX_WIDTH)
        _check_range("vision", self, ("layers",), MAX_LAYERS)
        _check_range("vision", self, ("width", "mlp_width", "neck_width", "out_width"), MAX_WIDTH)
        _check(0 < self.norm_eps < 1, f"vision.norm_eps must be between 0 and 1; got {self.norm_eps}")
        twice = len(set(self.global_layers)) < len(self.global_layers)
        _check(
            not twice, f"vision.global_layers: {list(self.global_layers)} names a layer twice; expected once"
        )
        outside = [index for index in self.global_layers if not 0 <= index < self.layers]
        _check(
            not outside,
            f"vision.global_layers: {outside} are not layers; expected numbers in 0..{self.layers - 1}",
        )

    @property
    def grid(self) -> int:
        """Patches along one side of a view."""
        return self.image_side // self.patch

    @property
    def view_tokens(self) -> int:
        """Tokens of one view: two 3x3 convolutions of stride 2 and padding 1 halve the grid twice."""
        side = self.grid
        for _ in range(2):
            side = (side + 1) // 2
        return side * side


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A Qwen2 decoder (stages 2 and 3, the released model) or an OPT one (stage 1)."""

    kind: Literal["qwen2", "opt"] = "qwen2"
    vocab_size: int = 151860
    width: int = 1024
    layers: int = 24
    heads: int = 16
    kv_heads: int | None = None  # as many as heads
    mlp_width: int = 2816
    max_positions: int = 32768
    rope_theta: float = 1e6  # qwen2 only
    norm_eps: float = 1e-6  # qwen2 only; OPT has 1e-5 built in
    dropout: float = 0.0  # opt only
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if self.kv_heads is None:
            object.__setattr__(self, "kv_heads", self.heads)
        for name in ("width", "layers", "heads", "kv_heads", "mlp_width", "max_positions"):
            _check(getattr(self, name) >= 1, f"decoder.{name} must be at least 1; got {getattr(self, name)}")
        _check_range("decoder", self, ("layers",), MAX_LAYERS)
        _check_range("decoder", self, ("width", "heads", "mlp_width", "max_positions"), MAX_WIDTH)
        _check(
            0 <= self.vocab_size <= MAX_WIDTH,
            f"decoder.vocab_size ({self.vocab_size}) must be 0 to {MAX_WIDTH}",
        )
        _check(0 < self.norm_eps < 1, f"decoder.norm_eps must be between 0 and 1; got {self.norm_eps}")
        _check(0 <= self.dropout < 1, f"decoder.dropout must be at least 0 and below 1; got {self.dropout}")
        _check(0 < self.rope_theta < 1e12, f"decoder.rope_theta must be above 0; got {self.rope_theta}")
        _check(0 <= self.init_std < 100, f"decoder.init_std must be at least 0; got {self.init_std}")
        _check(self.kind in ("qwen2", "opt"), f"decoder.kind must be qwen2 or opt; got {self.kind!r}")
        _check(
            self.width % self.heads == 0,
            f"decoder.width ({self.width}) must be a multiple of decoder.heads ({self.heads})",
        )
        _check(
            self.heads % self.kv_heads == 0,
            f"decoder.heads ({self.heads}) must be a multiple of decoder.kv_heads ({self.kv_heads})",
        )
        _check(
            self.kind == "qwen2" or self.kv_heads == self.heads,
            f"decoder.kv_heads ({self.kv_heads}) must equal decoder.heads ({self.heads}) in an OPT decoder",
        )


@dataclass(frozen=True, kw_only=True)
class GotConfig:
    """One model: the encoder, the decoder, and the ids that join them."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    image_token: int = 151859  # <imgpad>, the place of one image feature
    pad_token: int = 151643
    # <|im_end|>, the real end, and <|endoftext|>, the one that the released configs name
    stop_tokens: tuple[int, ...] = (151645, 151643)
    prompt_template: str = "repo"  # prompt wording the weights were trained with

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop_tokens", tuple(self.stop_tokens))
        _check(
            0 <= self.image_token < self.decoder.vocab_size,
            f"image_token ({self.image_token}) must be below decoder.vocab_size ({self.decoder.vocab_size})",
        )

    @property
    def least_parameters(self) -> int:
        """What the largest matrices of these sizes hold, all of which every checkpoint has."""
        vision, decoder = self.vision, self.decoder
        block = 4 * vision.width**2 + 2 * vision.width * vision.mlp_width
        encoder = vision.layers * block + (vision.grid**2 + 3 * vision.patch**2) * vision.width
        neck = 9 * vision.neck_width**2 + vision.neck_width * vision.width
        layer = 2 * decoder.width**2 + 2 * decoder.width * decoder.mlp_width
        projector = vision.out_width * decoder.width
        return encoder + neck + projector + decoder.layers * layer + decoder.vocab_size * decoder.width

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GotConfig:
        return cls(
            **{
                **values,
                "vision": VisionConfig(**values["vision"]),
                "decoder": DecoderConfig(**values["decoder"]),
            }
        )

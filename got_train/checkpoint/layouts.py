"""The names of the weights in every layout in the wild, as one table used for reading and for writing.

Ours are the attributes of the model (`vision.blocks.0.attn.qkv.weight`); a layout is a list of prefix pairs,
ours and theirs, of which the first that fits renames. `#` stands for a layer number.
"""

from __future__ import annotations

import re

_VISION = [
    ("patch_embed.", "patch_embed.proj."),
    ("neck.conv1.", "neck.0."),
    ("neck.norm1.", "neck.1."),
    ("neck.conv2.", "neck.2."),
    ("neck.norm2.", "neck.3."),
    ("", ""),
]


def _prefixed(ours: str, theirs: str, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(ours + a, theirs + b) for a, b in pairs]


# the hub's stepfun-ai/GOT-OCR2_0
ORIGINAL = [
    *_prefixed("vision.", "model.vision_tower_high.", _VISION),
    ("projector.", "model.mm_projector_vary."),
    ("decoder.model.", "model."),
]
# PaddleMIX: another root, and every Linear weight transposed (Paddle's own orientation)
PADDLEMIX = [(ours, theirs.replace("model.", "qwen2.", 1)) for ours, theirs in ORIGINAL]
# transformers' GotOcr2, as save_pretrained writes it
TRANSFORMERS = [
    *_prefixed(
        "vision.",
        "vision_tower.",
        [
            ("patch_embed.", "patch_embed.projection."),
            ("blocks.#.norm1.", "layers.#.layer_norm1."),
            ("blocks.#.norm2.", "layers.#.layer_norm2."),
            ("blocks.", "layers."),
            ("neck.norm1.", "neck.layer_norm1."),
            ("neck.norm2.", "neck.layer_norm2."),
        ],
    ),
    ("vision.net_2.", "multi_modal_projector.conv_upsampler1."),
    ("vision.net_3.", "multi_modal_projector.conv_upsampler2."),
    ("vision.", "vision_tower."),
    ("projector.", "multi_modal_projector.multimodal_projector."),
    ("decoder.model.", "language_model.model."),
]
# stage 1: encoder, projector and OPT, named as Vary-tiny's code names them
VARY = [
    *_prefixed("vision.", "visual_encoder.", _VISION),
    ("projector.", "opt_proj."),
    ("decoder.model.embeddings.word_embeddings.", "opt_model.model.decoder.embed_tokens."),
    ("decoder.model.embeddings.position_embeddings.", "opt_model.model.decoder.embed_positions."),
    ("decoder.model.decoder.layers.#.norm1.", "opt_model.model.decoder.layers.#.self_attn_layer_norm."),
    ("decoder.model.decoder.layers.#.norm2.", "opt_model.model.decoder.layers.#.final_layer_norm."),
    ("decoder.model.decoder.layers.#.linear1.", "opt_model.model.decoder.layers.#.fc1."),
    ("decoder.model.decoder.layers.#.linear2.", "opt_model.model.decoder.layers.#.fc2."),
    ("decoder.model.decoder.", "opt_model.model.decoder."),
]
# only encoders: segment-anything's sam_vit_b, and the same as transformers names it
SAM = _prefixed("vision.", "image_encoder.", _VISION)
SAM_HUB = [
    (ours, theirs.replace("vision_tower.", "vision_encoder."))
    for ours, theirs in TRANSFORMERS
    if theirs.startswith("vision_tower.")
]
# only decoders: Qwen1.5-0.5B and OPT-125M as their authors published them
QWEN = [("decoder.model.", "model.")]
OPT = [(ours, theirs.removeprefix("opt_model.")) for ours, theirs in VARY if ours.startswith("decoder.")]

LAYOUTS = {"original": ORIGINAL, "transformers": TRANSFORMERS, "paddlemix": PADDLEMIX, "vary": VARY}
LM_HEAD_KEYS = {
    "original": "lm_head.weight",
    "transformers": "language_model.lm_head.weight",
    "paddlemix": "lm_head.weight",
    "vary": "opt_model.lm_head.weight",
    "qwen": "lm_head.weight",
    "opt": "lm_head.weight",
}
# other spellings that are brought to the table's before anything else
KEY_ALIASES = [
    (r"^model\.(vision_tower|multi_modal_projector)\.", r"\1."),  # transformers 5, in memory
    (r"^model\.language_model\.", "language_model.model."),
    # transformers' first draft
    (r"^visual_adapter\.conv_up([12])\.", r"multi_modal_projector.conv_upsampler\1."),
    (r"^visual_adapter\.", "multi_modal_projector."),
    (r"^visual\.", "vision_tower."),
    # OPT without its head
    (r"^decoder\.(embed_tokens|embed_positions|layers|final_layer_norm)\.", r"model.decoder.\1."),
]
# a name that only this layout has
LAYOUT_SIGNATURES = [
    ("original", "model.vision_tower_high."),
    ("paddlemix", "qwen2.vision_tower_high."),
    ("transformers", "vision_tower."),
    ("vary", "visual_encoder."),
    ("sam", "image_encoder."),
    ("sam_hub", "vision_encoder."),
    ("opt", "model.decoder.embed_tokens."),
    ("qwen", "model.embed_tokens."),
]
ENCODERS = {"sam": SAM, "sam_hub": SAM_HUB}
_ALL = {**LAYOUTS, **ENCODERS, "qwen": QWEN, "opt": OPT}


def canonical(name: str) -> str:
    """A name with the spellings of other versions brought to those of the tables."""
    for pattern, replacement in KEY_ALIASES:
        name, changed = re.subn(pattern, replacement, name)
        if changed:
            break
    return name


def detect(names: list[str]) -> str | None:
    """The layout that these canonical names belong to, or None."""
    for layout, mark in LAYOUT_SIGNATURES:
        if any(name.startswith(mark) for name in names):
            return layout
    return None


def _rename(name: str, pairs: list[tuple[str, str]]) -> str | None:
    for before, after in pairs:
        match = re.match(re.escape(before).replace(r"\#", r"(\d+)"), name)
        if match:
            for number in match.groups():
                after = after.replace("#", number, 1)
            return after + name[match.end() :]
    return None


def to_ours(name: str, layout: str) -> str | None:
    """The model's name of a canonical name of `layout`; None where the layout has no such name."""
    return _rename(name, [(theirs, ours) for ours, theirs in _ALL[layout]])


def to_theirs(name: str, layout: str) -> str:
    """The name in `layout` of one of the model's names."""
    renamed = _rename(name, _ALL[layout])
    if renamed is None:
        raise KeyError(f"{name} has no name in the layout {layout}")
    return renamed

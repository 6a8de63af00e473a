"""config.json of a checkpoint folder: read from any layout, written for each."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from got_train.config.loader import build
from got_train.errors import ConfigError
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.strict_files import read_json, reading

OURS = "got_train"  # the key under which our checkpoints keep the whole GotConfig

VISION_KEYS = {
    "image_side": "image_size",
    "patch": "patch_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_width": "mlp_dim",
    "window": "window_size",
    "global_layers": "global_attn_indexes",
    "neck_width": "output_channels",
    "norm_eps": "layer_norm_eps",
}
DECODER_KEYS = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "mlp_width": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "rope_theta": "rope_theta",
    "norm_eps": "rms_norm_eps",
    "init_std": "initializer_range",
}
REQUIRED_SIZES = (
    "vocab_size",
    "width",
    "layers",
    "heads",
    "mlp_width",
)  # without which no decoder can be built
# what the weights do not show, and all that the model computes
VISION_ARCHITECTURE = {"hidden_act": "gelu", "use_abs_pos": True, "use_rel_pos": True, "qkv_bias": True}
DECODER_ARCHITECTURE = {"hidden_act": "silu", "use_sliding_window": False, "rope_scaling": None}
OPT_ARCHITECTURE = {"activation_function": "relu", "do_layer_norm_before": True}


def read_config(folder: Path, shapes: dict[str, list[int]]) -> GotConfig:
    """The sizes of the checkpoint in `folder`; `shapes`, by our names, tell what config.json leaves out."""
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: no config.json; a checkpoint folder has one beside its weights")
    values = read_json(path, ConfigError)
    with reading(path, ConfigError):
        if OURS in values:
            config = _from_ours(values)
        elif "vision_config" in values:
            config = _from_transformers(values)
        else:
            config = _from_original(values, shapes)
        _check_special_tokens(config)
        return config


def check_decoder(folder: Path, decoder: DecoderConfig) -> None:
    """Refuse a folder whose config.json differs from `decoder` in what the shapes of weights do not tell."""
    path = folder / "config.json"
    if not path.exists():
        return
    values = read_json(path, ConfigError)
    with reading(path, ConfigError):
        if OURS in values:
            theirs = _from_ours(values).decoder
        elif decoder.kind == "opt":
            _check_architecture(values, OPT_ARCHITECTURE)
            theirs = build(
                DecoderConfig, {**asdict(decoder), "heads": values["num_attention_heads"], "kv_heads": None}
            )
        else:
            theirs = _decoder(_section(values, "text_config") or values)
    for name in ("heads", "rope_theta", "norm_eps"):
        needed, ours = getattr(theirs, name), getattr(decoder, name)
        if needed != ours:
            raise ConfigError(f"decoder.{name} ({ours}) must be {needed}, as {path} has it")


def _check_architecture(values: dict[str, Any], form: dict[str, Any]) -> None:
    for key, only in form.items():
        if values.get(key, only) != only:
            raise ConfigError(f"{key} is {values[key]!r}; only {only!r} can be computed")


def _from_ours(values: dict[str, Any]) -> GotConfig:
    """What config_json wrote; `stop_tokens` is absent where the source named none."""
    ours = _section(values, OURS)
    if ours.get("stop_tokens") == []:
        raise ConfigError(f"{OURS}.stop_tokens is empty; no answer would end")
    sizes = {name: ours[name] for name in ("vision", "decoder")}
    return build(GotConfig, {"stop_tokens": [], **ours, **sizes}, OURS)


def _from_transformers(values: dict[str, Any]) -> GotConfig:
    vision, text = _section(values, "vision_config"), _section(values, "text_config")
    _check_architecture(vision, VISION_ARCHITECTURE)
    decoder = _decoder(text) if text else DecoderConfig()
    sizes = {ours: vision[theirs] for ours, theirs in VISION_KEYS.items() if theirs in vision}
    listed, layers = sizes.get("global_layers"), sizes.get("layers", VisionConfig.layers)
    if (
        isinstance(listed, list) and type(layers) is int
    ):  # transformers asks of each layer whether it is named
        sizes["global_layers"] = [index for index in listed if type(index) is not int or 0 <= index < layers]
    image_token = values.get("image_token_index", values.get("image_token_id", GotConfig.image_token))
    return GotConfig(
        vision=build(VisionConfig, {**sizes, "out_width": decoder.width}, "vision_config"),
        decoder=decoder,
        image_token=_token("image_token_index", image_token),
        **_special_tokens(text),
    )


def _from_original(values: dict[str, Any], shapes: dict[str, list[int]]) -> GotConfig:
    return GotConfig(
        vision=vision_from_shapes(shapes),
        decoder=_decoder(values),
        image_token=_token("im_patch_token", values.get("im_patch_token", GotConfig.image_token)),
        **_special_tokens(values),
    )


def _decoder(values: dict[str, Any]) -> DecoderConfig:
    _check_architecture(values, DECODER_ARCHITECTURE)
    settings = {
        ours: values[theirs] for ours, theirs in DECODER_KEYS.items() if values.get(theirs) is not None
    }
    absent = [DECODER_KEYS[name] for name in REQUIRED_SIZES if name not in settings]
    if absent:
        raise ConfigError(f"no {', '.join(absent)}; the decoder's sizes must be there")
    rope = _section(values, "rope_parameters")  # transformers 5
    _check_architecture(rope, {"rope_type": "default"})
    # 10,000 is what Qwen2's own code takes where its config.json is silent
    return build(DecoderConfig, {"rope_theta": rope.get("rope_theta", 1e4), **settings}, "decoder")


def _special_tokens(values: dict[str, Any]) -> dict[str, Any]:
    """Padding and stop tokens; a full-size vocabulary has the released model's whatever its config says."""
    if values.get("vocab_size", GotConfig().decoder.vocab_size) == GotConfig().decoder.vocab_size:
        return {}
    stop = values.get("eos_token_id")
    if stop == []:
        raise ConfigError("eos_token_id is empty; no answer would end")
    stops = stop if isinstance(stop, list) else [] if stop is None else [stop]
    stops = tuple(_token("eos_token_id", token) for token in stops)
    pad = values.get("pad_token_id")
    if pad is None:
        return {"stop_tokens": stops, "pad_token": stops[0] if stops else 0}
    return {"stop_tokens": stops, "pad_token": _token("pad_token_id", pad)}


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """An object below a key; empty where there is none."""
    section = values.get(name)
    if section is not None and not isinstance(section, dict):
        raise ConfigError(f"{name} is {str(section)[:60]!r}; expected an object")
    return section or {}


def _token(key: str, token: Any) -> int:
    if type(token) is not int:
        raise ConfigError(f"{key} is {str(token)[:60]!r}; expected the id of a token")
    return token


def _check_special_tokens(config: GotConfig) -> None:
    """Refuse ids that are none."""
    words = config.decoder.vocab_size
    if not 0 <= config.pad_token < words:
        raise ConfigError(f"pad_token ({config.pad_token}) must be 0 to {words - 1}, as any token")
    outside = [token for token in config.stop_tokens if not 0 <= token < words]
    if outside:
        raise ConfigError(
            f"stop_tokens {outside} must be 0 to {words - 1}; the model would not end an answer"
        )


def vision_from_shapes(shapes: dict[str, list[int]]) -> VisionConfig:
    """The encoder's sizes, all of which its weights tell (the original config.json holds none).

    Takes shapes in either orientation, for it looks at no Linear weight.
    """
    shapes = _Shapes(shapes)
    layers = sum(name.endswith("attn.rel_pos_h") for name in shapes)
    tables = [shapes[f"vision.blocks.{index}.attn.rel_pos_h"] for index in range(max(1, layers))]
    _, grid, _, width = shapes["vision.pos_embed"]
    patch = shapes["vision.patch_embed.weight"][-1]
    everywhere = [index for index, table in enumerate(tables) if table[0] == 2 * grid - 1]
    windows = {(table[0] + 1) // 2 for index, table in enumerate(tables) if index not in everywhere}
    if len(windows) > 1:
        raise ConfigError(f"windows of {sorted(windows)} patches; all windowed layers must share one")
    neck = shapes["vision.neck.conv1.weight"][0]
    return VisionConfig(
        image_side=grid * patch,
        patch=patch,
        width=width,
        layers=len(tables),
        heads=width // tables[0][1],
        mlp_width=shapes["vision.blocks.0.mlp.lin1.bias"][0],
        window=windows.pop() if windows else grid,
        global_layers=tuple(everywhere),
        neck_width=neck,
        out_width=shapes["vision.net_3.weight"][0],
    )


class _Shapes(dict):
    def __missing__(self, name: str) -> None:
        raise ConfigError(f"{name} is not among the weights, which alone tell the encoder's sizes")


def config_json(config: GotConfig, layout: str, dtype: str) -> dict[str, Any]:
    """The config.json of a checkpoint in `layout`: the keys its own code reads, and ours under one key."""
    theirs = {"transformers": _as_transformers, "vary": lambda *_: {}}.get(layout, _as_original)
    ours = config.as_dict()
    if not config.stop_tokens:  # nor had the source any
        del ours["stop_tokens"]
    return {**theirs(config, dtype), OURS: ours}


def _text_config(config: GotConfig) -> dict[str, Any]:
    return {
        **{theirs: getattr(config.decoder, ours) for ours, theirs in DECODER_KEYS.items()},
        "hidden_act": "silu",
        "use_sliding_window": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_cache": True,
        "pad_token_id": config.pad_token,
        "bos_token_id": None,
        "eos_token_id": config.stop_tokens[0] if config.stop_tokens else None,
    }


def _as_original(config: GotConfig, dtype: str) -> dict[str, Any]:
    return {
        **_text_config(config),
        "architectures": ["GOTQwenForCausalLM"],
        "model_type": "GOT",
        "image_token_len": config.vision.view_tokens,
        "im_start_token": config.image_token - 2,
        "im_end_token": config.image_token - 1,
        "im_patch_token": config.image_token,
        "use_im_start_end": True,
        "torch_dtype": dtype,
    }


def _as_transformers(config: GotConfig, dtype: str) -> dict[str, Any]:
    vision, theta = config.vision, config.decoder.rope_theta
    return {
        "architectures": ["GotOcr2ForConditionalGeneration"],
        "model_type": "got_ocr2",
        "dtype": dtype,
        "torch_dtype": dtype,  # the key before transformers 5
        "image_seq_length": vision.view_tokens,
        "image_token_index": config.image_token,
        "pad_token_id": config.pad_token,
        "tie_word_embeddings": True,
        "text_config": {
            **_text_config(config),
            "model_type": "qwen2",
            "rope_parameters": {"rope_theta": theta, "rope_type": "default"},  # since transformers 5
        },
        "vision_config": {
            **{theirs: getattr(vision, ours) for ours, theirs in VISION_KEYS.items()},
            **VISION_ARCHITECTURE,
            "model_type": "got_ocr2_vision",
            "num_channels": 3,
            "attention_dropout": 0.0,
        },
    }

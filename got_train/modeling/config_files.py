"""config.json of a checkpoint folder: read from any layout, written for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .config import DecoderConfig, GotConfig, VisionConfig

OURS = "got_train"  # the key under which our checkpoints keep the whole GotConfig


def read_config(folder: Path, shapes: dict[str, list[int]]) -> GotConfig:
    """The sizes of the checkpoint in `folder`; `shapes` (our names, [out, in]) fill in what config.json leaves out."""
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: no config.json; a checkpoint folder has one beside its weights")
    values = json.loads(path.read_text(encoding="utf-8"))
    if OURS in values:
        return GotConfig.from_dict(values[OURS])
    if "vision_config" in values:
        return _from_transformers(values)
    return _from_original(values, shapes)


def _from_transformers(values: dict[str, Any]) -> GotConfig:
    seen, text = values["vision_config"], values.get("text_config", {})
    decoder = _decoder(text)
    names = {
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
    vision = {ours: seen[theirs] for ours, theirs in names.items() if theirs in seen}
    image = values.get("image_token_index", values.get("image_token_id", GotConfig.image_token))
    return GotConfig(
        vision=VisionConfig(**vision, out_width=decoder.width),
        decoder=decoder,
        image_token=image,
        **_ends(text),
    )


def _from_original(values: dict[str, Any], shapes: dict[str, list[int]]) -> GotConfig:
    return GotConfig(
        vision=vision_from_shapes(shapes),
        decoder=_decoder(values),
        image_token=values.get("im_patch_token", GotConfig.image_token),
        **_ends(values),
    )


def _decoder(values: dict[str, Any]) -> DecoderConfig:
    names = {
        "vocab_size": "vocab_size",
        "width": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "mlp_width": "intermediate_size",
        "max_positions": "max_position_embeddings",
        "rope_theta": "rope_theta",
        "norm_eps": "rms_norm_eps",
    }
    found = {ours: values[theirs] for ours, theirs in names.items() if values.get(theirs) is not None}
    rope = values.get("rope_parameters") or {}  # transformers 5
    if "rope_theta" in rope:
        found["rope_theta"] = rope["rope_theta"]
    return DecoderConfig(**found)


def _ends(values: dict[str, Any]) -> dict[str, Any]:
    """Padding and stop tokens; a full-size vocabulary has the released model's whatever its config says."""
    if values.get("vocab_size", GotConfig().decoder.vocab_size) == GotConfig().decoder.vocab_size:
        return {}
    stop = values.get("eos_token_id")
    stops = tuple(stop) if isinstance(stop, list) else () if stop is None else (stop,)
    pad = values.get("pad_token_id")
    return {"stop_tokens": stops, "pad_token": stops[0] if pad is None and stops else pad or 0}


def vision_from_shapes(shapes: dict[str, list[int]]) -> VisionConfig:
    """The encoder's sizes, all of which its weights tell (the original config.json holds none)."""
    _, grid, _, width = shapes["vision.pos_embed"]
    patch = shapes["vision.patch_embed.weight"][-1]
    tables = {}
    while f"vision.blocks.{len(tables)}.attn.rel_pos_h" in shapes:
        tables[len(tables)] = shapes[f"vision.blocks.{len(tables)}.attn.rel_pos_h"]
    everywhere = [index for index, table in tables.items() if table[0] == 2 * grid - 1]
    windows = {(table[0] + 1) // 2 for index, table in tables.items() if index not in everywhere}
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
        out_width=shapes["vision.net_3.weight"][0] if "vision.net_3.weight" in shapes else 4 * neck,
    )


def config_json(config: GotConfig, layout: str, dtype: str) -> dict[str, Any]:
    """The config.json of a checkpoint in `layout`: the keys its own code reads, and ours under one key."""
    written = {"transformers": _as_transformers, "vary": lambda *_: {}}.get(layout, _as_original)(config, dtype)
    return {**written, OURS: config.as_dict()}


def _text(config: GotConfig) -> dict[str, Any]:
    decoder = config.decoder
    return {
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.width,
        "intermediate_size": decoder.mlp_width,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "max_position_embeddings": decoder.max_positions,
        "rms_norm_eps": decoder.norm_eps,
        "initializer_range": decoder.init_std,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "use_cache": True,
        "pad_token_id": config.pad_token,
        "bos_token_id": None,
        "eos_token_id": config.stop_tokens[0] if config.stop_tokens else None,
    }


def _as_original(config: GotConfig, dtype: str) -> dict[str, Any]:
    return {
        **_text(config),
        "architectures": ["GOTQwenForCausalLM"],
        "model_type": "GOT",
        "rope_theta": config.decoder.rope_theta,
        "image_token_len": config.vision.view_tokens,
        "im_start_token": config.image_token - 2,
        "im_end_token": config.image_token - 1,
        "im_patch_token": config.image_token,
        "use_im_start_end": True,
        "torch_dtype": dtype,
    }


def _as_transformers(config: GotConfig, dtype: str) -> dict[str, Any]:
    vision = config.vision
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
            **_text(config),
            "model_type": "qwen2",
            "rope_theta": config.decoder.rope_theta,
            "rope_parameters": {"rope_theta": config.decoder.rope_theta, "rope_type": "default"},
        },
        "vision_config": {
            "model_type": "got_ocr2_vision",
            "hidden_size": vision.width,
            "output_channels": vision.neck_width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "num_channels": 3,
            "image_size": vision.image_side,
            "patch_size": vision.patch,
            "hidden_act": "gelu",
            "layer_norm_eps": vision.norm_eps,
            "attention_dropout": 0.0,
            "qkv_bias": True,
            "use_abs_pos": True,
            "use_rel_pos": True,
            "window_size": vision.window,
            "global_attn_indexes": list(vision.global_layers),
            "mlp_dim": vision.mlp_width,
        },
    }

"""LoRA: small trained matrices beside frozen linear layers: on a model and off, in folders, swapped.

The layer is paddlenlp's. Knows models and weights; knows no trainer and no data.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from got_train.checkpoint.adapters import (
    base_folder,
    base_hash,
    is_adapter,
    load_adapted,
    load_adapter_weights,
    read_adapter,
)
from got_train.checkpoint.weights import load_model
from got_train.errors import CheckpointError
from got_train.modeling.config import PARTS
from got_train.modeling.lora import MATRICES, Adapter, attach, detach, target_layers

if TYPE_CHECKING:
    from got_train.config.schema import Config
    from got_train.modeling.got import Got


def is_trainable(name: str, config: Config) -> bool:
    """Whether a parameter of the model trains: the one rule that freezing, optimizer and audit follow."""
    part = name.partition(".")[0]
    if config.lora.rank and part in config.lora.parts:
        return name.endswith(MATRICES)
    return getattr(config.parts, part).trainable


# ---- on a model and off


# ---- where a run starts, what it keeps


def load_initial_model(folder: str, lora: bool) -> Got:
    """The model that init_from names. Of an adapter the base where LoRA goes on from it, else both folded."""
    if not is_adapter(folder):
        return load_model(folder)
    return load_model(base_folder(folder)) if lora else detach(load_adapted(folder), fold=True)


def start_lora(model: Got, config: Config) -> Adapter:
    """Put the adapters of a run on its model: new ones, or those of init_from, with which it goes on."""
    lora, start = config.lora, config.model.init_from
    base = base_folder(start) if is_adapter(start) else start
    adapter = Adapter(
        base=str(Path(base).resolve()),
        base_sha256=base_hash(base, model),
        prompt_template=model.config.prompt_template,
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        layers=target_layers(model, lora.parts, lora.targets),
        whole=tuple(
            part for part in PARTS if getattr(config.parts, part).trainable and part not in lora.parts
        ),
    )
    if not is_adapter(start):
        attach(model, adapter)
        return adapter
    _check_continues(start, read_adapter(start), adapter)
    attach(model, adapter)
    load_adapter_weights(model, start)
    return adapter


def _check_continues(folder: str, before: Adapter, now: Adapter) -> None:
    for key in ("base_sha256", "rank", "alpha", "layers", "whole"):
        old, new = getattr(before, key), getattr(now, key)
        if old != new:
            shown = "" if key in ("base_sha256", "layers") else f" ({old}, now {new})"
            raise CheckpointError(
                f"model.init_from {folder}: an adapter with other {key}{shown}; keep lora and parts as they "
                "were, or merge it first (got merge)"
            )


# ---- to read with

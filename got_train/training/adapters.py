"""LoRA: small trained matrices beside frozen linear layers: on a model and off, in folders, swapped.

The layer is paddlenlp's. Knows models and weights; knows no trainer and no data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
from paddle import nn

from got_train.checkpoint.tensor_io import tensors_in
from got_train.checkpoint.weights import WeightFile, linear_names, load_model
from got_train.modeling.config import PARTS
from got_train.modeling.layers import Linear

from .checkpoints import ADAPTER_FILE

if TYPE_CHECKING:
    from got_train.config.schema import Config
    from got_train.modeling.got import Got
    from got_train.tokenizer import Tokenizer

ADAPTER_WEIGHTS = "adapter.safetensors"
MATRICES = (".lora_A", ".lora_B")


class AdapterError(ValueError):
    """An adapter that cannot be read, or a model that it does not belong to."""


@dataclass(frozen=True)
class Adapter:
    """What adapter.json tells; the weights beside it are the matrices, and all of the parts in `whole`."""

    base: str  # the folder of the whole model
    base_sha256: str  # of its weights, in whatever layout
    dialect: str
    rank: int
    alpha: float
    dropout: float
    layers: tuple[str, ...]  # that have matrices
    whole: tuple[str, ...] = ()  # parts that trained as a whole


def is_adapter(folder: str | os.PathLike) -> bool:
    return (Path(folder) / ADAPTER_FILE).is_file()


def trains(name: str, config: Config) -> bool:
    """Whether a parameter of the model trains: the one rule that freezing, optimizer and audit follow."""
    part = name.partition(".")[0]
    if config.lora.rank and part in config.lora.parts:
        return name.endswith(MATRICES)
    return getattr(config.parts, part).train


def target_layers(model: Got, parts: Sequence[str], targets: Sequence[str] = ()) -> tuple[str, ...]:
    """The linear layers of these parts whose names end with one of the targets; without targets all."""
    linears = [name.removesuffix(".weight") for name in sorted(linear_names(model))]
    linears = [name for name in linears if name.partition(".")[0] in parts]
    for target in targets:
        if not any(_fits(name, target) for name in linears):
            ends = ", ".join(sorted({name.rpartition(".")[2] for name in linears}))
            raise AdapterError(
                f"lora.targets: no layer of {', '.join(parts)} is {target!r}; there are {ends}"
            )
    return tuple(name for name in linears if not targets or any(_fits(name, each) for each in targets))


def _fits(name: str, target: str) -> bool:
    return re.search(rf"(?:^|\.)(?:{target})$", name) is not None


# ---- on a model and off


def attach(model: Got, adapter: Adapter) -> None:
    """Put matrices beside the layers: A random, B zero, so that nothing changes yet. Weights are shared."""
    for name in adapter.layers:
        _put(model, name, _beside(_layer(model, name), adapter))


def detach(model: Got, fold: bool = False) -> Got:
    """Take the matrices off again; with `fold` their product stays, added to the weights."""
    from paddlenlp.peft.lora.lora_layers import LoRALinear

    for name, layer in list(model.named_sublayers()):
        if isinstance(layer, LoRALinear):
            if fold:
                layer.weight.set_value(layer.weight + layer.get_delta_weight())
            _put(model, name, _like(Linear, layer))
    return model


def _beside(linear: nn.Linear, adapter: Adapter) -> nn.Linear:
    from paddlenlp.peft.lora.lora_layers import LoRALinear

    settings = {"r": adapter.rank, "lora_alpha": adapter.alpha, "lora_dropout": adapter.dropout}
    return _like(LoRALinear, linear, **settings)


def _like(kind: type, linear: nn.Linear, **settings: object) -> nn.Linear:
    """A layer of another kind with the very weights of this one."""
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(linear.weight.dtype)
    try:
        nothing = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))  # drawing numbers takes longer
        made = kind(*linear.weight.shape, weight_attr=nothing, bias_attr=False, **settings)
    finally:
        paddle.set_default_dtype(before)
    made.weight, made.bias = linear.weight, linear.bias
    made.train() if linear.training else made.eval()
    return made


def _layer(model: nn.Layer, name: str) -> nn.Layer:
    for step in name.split("."):
        if not hasattr(model, step):
            raise AdapterError(f"adapter: this model has no layer {name}; an adapter of the same sizes")
        model = getattr(model, step)
    return model


def _put(model: nn.Layer, name: str, layer: nn.Layer) -> None:
    parent, _, last = name.rpartition(".")
    setattr(_layer(model, parent) if parent else model, last, layer)


# ---- where a run starts, what it keeps


def load_start(folder: str, lora: bool) -> Got:
    """The model that init_from names. Of an adapter the base where LoRA goes on from it, else both folded."""
    if not is_adapter(folder):
        return load_model(folder)
    return load_model(base_of(folder)) if lora else detach(load_adapted(folder), fold=True)


def begin(model: Got, config: Config) -> Adapter:
    """Put the adapters of a run on its model: new ones, or those of init_from, with which it goes on."""
    lora, start = config.lora, config.model.init_from
    base = base_of(start) if is_adapter(start) else start
    adapter = Adapter(
        base=str(Path(base).resolve()),
        base_sha256=weights_hash(base, model),
        dialect=model.config.dialect,
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        layers=target_layers(model, lora.parts, lora.targets),
        whole=tuple(part for part in PARTS if getattr(config.parts, part).train and part not in lora.parts),
    )
    if not is_adapter(start):
        attach(model, adapter)
        return adapter
    _check_continues(start, read_adapter(start), adapter)
    attach(model, adapter)
    fill_adapter(model, start)
    return adapter


def save_adapter(
    model: Got, folder: str | os.PathLike, adapter: Adapter, tokenizer: Tokenizer | None
) -> None:
    """Write what trains, what it belongs to, and the tokenizer, into a folder that does not count yet."""
    from safetensors.paddle import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: value.detach() for name, value in model.named_parameters() if _is_kept(name, adapter)}
    card = folder / ADAPTER_FILE
    card.write_text(json.dumps(dataclasses.asdict(adapter), indent=1) + "\n", encoding="utf-8")
    save_file(kept, str(folder / ADAPTER_WEIGHTS), metadata={"format": "pd"})
    (folder / ADAPTER_WEIGHTS).chmod(card.stat().st_mode)  # safetensors lets nobody else read what it writes
    if tokenizer is not None:
        tokenizer.save(folder)


def read_adapter(folder: str | os.PathLike) -> Adapter:
    path = Path(folder) / ADAPTER_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values |= {key: tuple(values[key]) for key in ("layers", "whole")}
        return Adapter(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{path}: not an adapter ({error}); a folder that a LoRA run wrote") from error


def fill_adapter(model: Got, folder: str | os.PathLike) -> None:
    """Fill a model with adapters on, and the parts that trained as a whole, from a folder."""
    adapter, path = read_adapter(folder), Path(folder) / ADAPTER_WEIGHTS
    stored = tensors_in(path)
    wanted = {name: value for name, value in model.named_parameters() if _is_kept(name, adapter)}
    faults = [f"missing: {name}" for name in sorted(wanted.keys() - stored.keys())]
    faults += [f"not of this adapter: {name}" for name in sorted(stored.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & stored.keys()):
        if (shape := list(wanted[name].shape)) != stored[name].shape:
            faults.append(f"{name}: the file has {stored[name].shape}, the model {shape}")
    if faults:
        raise AdapterError("\n  ".join([f"{path}: {len(faults)} weights do not fit:", *faults]))
    for name, parameter in wanted.items():
        parameter.set_value(paddle.to_tensor(stored[name].read()).astype(parameter.dtype))


def weights_hash(folder: str | os.PathLike, model: Got) -> str:
    """SHA-256 of the weights in a folder, the same in every layout; `model` tells the Linear layers."""
    source, linears, digest = WeightFile(folder), linear_names(model), hashlib.sha256()
    for name in sorted(source.tensors):
        values = source.read(name, name in linears).numpy().astype("float32")
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _is_kept(name: str, adapter: Adapter) -> bool:
    return name.endswith(MATRICES) or name.partition(".")[0] in adapter.whole


def base_of(folder: str | os.PathLike) -> str:
    """Where an adapter says that its base is; refused if it is not there."""
    base = read_adapter(folder).base
    if not Path(base).exists():
        raise AdapterError(
            f"{folder}: its base {base} is not there; put it back, or name both "
            f"(infer.py --model_name_or_path BASE --adapter {folder}, or got_train.cli.merge --base BASE)"
        )
    return base


def _check_continues(folder: str, before: Adapter, now: Adapter) -> None:
    for key in ("base_sha256", "rank", "alpha", "layers", "whole"):
        old, new = getattr(before, key), getattr(now, key)
        if old != new:
            shown = "" if key in ("base_sha256", "layers") else f" ({old}, now {new})"
            raise AdapterError(
                f"model.init_from {folder}: an adapter with other {key}{shown}; keep lora and parts as they "
                "were, or merge it first (python -m got_train.cli.merge)"
            )


# ---- to read with


def load_adapted(
    folder: str | os.PathLike, base: str | os.PathLike | None = None, dtype: str = "float32"
) -> Got:
    """The base of an adapter folder with the adapter on; `base` is where it is now, if it has moved."""
    base = base_of(folder) if base is None else base
    model = load_model(base, dtype)
    Adapters(model, base).use(folder)
    return model


class Adapters:
    """A model that reads with one adapter or another; its own weights stay loaded, and as they are."""

    def __init__(self, model: Got, base: str | os.PathLike) -> None:
        self.model, self.base = model, base
        self._hash = ""
        self._own: dict[str, paddle.Tensor] = {}  # of parts that the adapter on brings as a whole

    def use(self, folder: str | os.PathLike | None) -> None:
        """Put this adapter on in place of the one before; None leaves the model alone."""
        adapter = None if folder is None else self._checked(folder)
        detach(self.model)
        self._restore()
        if adapter is None:
            return
        brought = [(name, each) for name, each in self.model.named_parameters() if _is_kept(name, adapter)]
        self._own = {name: each.clone() for name, each in brought}
        try:
            attach(self.model, adapter)
            fill_adapter(self.model, folder)
        except AdapterError:
            self.use(None)
            raise

    def _checked(self, folder: str | os.PathLike) -> Adapter:
        adapter = read_adapter(folder)
        self._hash = self._hash or weights_hash(self.base, self.model)
        if adapter.base_sha256 != self._hash:
            raise AdapterError(
                f"{folder}: an adapter of {adapter.base}, and {self.base} has other weights; give the model "
                "that it was trained on"
            )
        return adapter

    def _restore(self) -> None:
        weights = dict(self.model.named_parameters())
        for name, value in self._own.items():
            weights[name].set_value(value)
        self._own = {}

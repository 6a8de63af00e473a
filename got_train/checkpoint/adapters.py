"""Adapters on disk: weights, the base that they belong to, several on one model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle

from .tensor_io import tensor_entries
from .weights import WeightFile, linear_names, load_model

if TYPE_CHECKING:
    from got_train.modeling.got import Got
    from got_train.tokenizer import Tokenizer
from got_train.errors import CheckpointError
from got_train.modeling.lora import Adapter, _is_kept, attach, detach

ADAPTER_WEIGHTS = "adapter.safetensors"


def is_adapter(folder: str | os.PathLike) -> bool:
    return (Path(folder) / ADAPTER_FILE).is_file()


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
        raise CheckpointError(f"{path}: not an adapter ({error}); a folder that a LoRA run wrote") from error


def load_adapter_weights(model: Got, folder: str | os.PathLike) -> None:
    """Fill a model with adapters on, and the parts that trained as a whole, from a folder."""
    adapter, path = read_adapter(folder), Path(folder) / ADAPTER_WEIGHTS
    stored = tensor_entries(path)
    wanted = {name: value for name, value in model.named_parameters() if _is_kept(name, adapter)}
    faults = [f"missing: {name}" for name in sorted(wanted.keys() - stored.keys())]
    faults += [f"not of this adapter: {name}" for name in sorted(stored.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & stored.keys()):
        if (shape := list(wanted[name].shape)) != stored[name].shape:
            faults.append(f"{name}: the file has {stored[name].shape}, the model {shape}")
    if faults:
        raise CheckpointError("\n  ".join([f"{path}: {len(faults)} weights do not fit:", *faults]))
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


def base_folder(folder: str | os.PathLike) -> str:
    """Where an adapter says that its base is; refused if it is not there."""
    base = read_adapter(folder).base
    if not Path(base).exists():
        raise CheckpointError(
            f"{folder}: its base {base} is not there; put it back, or name both "
            f"(infer.py --model_name_or_path BASE --adapter {folder}, or got_train.cli.merge --base BASE)"
        )
    return base


def load_adapted(
    folder: str | os.PathLike, base: str | os.PathLike | None = None, dtype: str = "float32"
) -> Got:
    """The base of an adapter folder with the adapter on; `base` is where it is now, if it has moved."""
    base = base_folder(folder) if base is None else base
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
            load_adapter_weights(self.model, folder)
        except CheckpointError:
            self.use(None)
            raise

    def _checked(self, folder: str | os.PathLike) -> Adapter:
        adapter = read_adapter(folder)
        self._hash = self._hash or weights_hash(self.base, self.model)
        if adapter.base_sha256 != self._hash:
            raise CheckpointError(
                f"{folder}: an adapter of {adapter.base}, and {self.base} has other weights; give the model "
                "that it was trained on"
            )
        return adapter

    def _restore(self) -> None:
        weights = dict(self.model.named_parameters())
        for name, value in self._own.items():
            weights[name].set_value(value)
        self._own = {}


ADAPTER_FILE = "adapter.json"  # what makes a folder that of an adapter

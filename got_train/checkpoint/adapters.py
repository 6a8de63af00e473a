"""Adapters on disk: weights, the base that they belong to, several on one model."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import paddle

from got_train.config.loader import build
from got_train.errors import CheckpointError, GotError
from got_train.modeling.config import PARTS
from got_train.modeling.got import Got
from got_train.modeling.layers import linear_names
from got_train.modeling.lora import Adapter, _is_kept, attach, detach
from got_train.strict_files import check_inside, read_json, reading
from got_train.tokenizer import Tokenizer

from .foreign import refuse_foreign
from .tensor_io import TensorEntry, save_tensors, tensor_entries
from .weights import WeightFile, load_model

ADAPTER_FILE = "adapter.json"  # what makes a folder that of an adapter
ADAPTER_WEIGHTS = "adapter.safetensors"
MAX_RANK = 4096


def is_adapter(folder: str | os.PathLike) -> bool:
    return (Path(folder) / ADAPTER_FILE).is_file()


def save_adapter(
    model: Got, folder: str | os.PathLike, adapter: Adapter, tokenizer: Tokenizer | None
) -> None:
    """Write what trains, what it belongs to, and the tokenizer, into a folder that does not count yet."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: value.detach() for name, value in model.named_parameters() if _is_kept(name, adapter)}
    card = folder / ADAPTER_FILE
    card.write_text(json.dumps(dataclasses.asdict(adapter), indent=1) + "\n", encoding="utf-8")
    save_tensors(kept, folder / ADAPTER_WEIGHTS, {"format": "pd"})
    if tokenizer is not None:
        tokenizer.save(folder)


def read_adapter(folder: str | os.PathLike) -> Adapter:
    """adapter.json, with every key, type and range checked."""
    path = Path(folder) / ADAPTER_FILE
    if not path.is_file():
        refuse_foreign(folder)
    with reading(path):
        try:
            adapter = build(Adapter, read_json(path))
        except (GotError, TypeError) as error:
            message = str(error).removeprefix(f"{path}: ")
            raise CheckpointError(
                f"{path}: not an adapter ({message}); expected the file of a LoRA run"
            ) from error
        for name, right, expected in (
            ("base", adapter.base and "\0" not in adapter.base, "the folder of a model"),
            ("rank", 1 <= adapter.rank <= MAX_RANK, f"1 to {MAX_RANK}"),
            ("alpha", adapter.alpha > 0, "above 0"),
            ("dropout", 0 <= adapter.dropout < 1, "at least 0 and below 1"),
            ("layers", len(set(adapter.layers)) == len(adapter.layers), "each layer once"),
            ("whole", set(adapter.whole) <= set(PARTS), f"among {', '.join(PARTS)}"),
        ):
            if not right:
                raise CheckpointError(
                    f"{path}: {name} is {str(getattr(adapter, name))[:80]!r}; expected {expected}"
                )
    return adapter


def check_same_adapter(folder: str | os.PathLike, adapter: Adapter) -> None:
    """Refuse a checkpoint that a resumed run would go on with on another base, or with other matrices."""
    before = read_adapter(folder)
    for name in ("base_sha256", "rank", "alpha", "layers", "whole"):
        if getattr(before, name) != getattr(adapter, name):
            what = (
                "belongs to other weights or sizes than"
                if name == "base_sha256"
                else f"has other {name} than"
            )
            raise CheckpointError(
                f"--resume: {Path(folder) / ADAPTER_FILE} {what} {adapter.base}; use what it had"
            )


def load_adapter_weights(model: Got, folder: str | os.PathLike) -> None:
    """Fill a model with adapters on, and the parts that trained as a whole, from a folder."""
    adapter, path = read_adapter(folder), Path(folder) / ADAPTER_WEIGHTS
    stored = _entries_of(folder)
    parameters = {name: value for name, value in model.named_parameters() if _is_kept(name, adapter)}
    faults = [f"missing: {name}" for name in sorted(parameters.keys() - stored.keys())]
    faults += [f"not of this adapter: {name}" for name in sorted(stored.keys() - parameters.keys())]
    for name in sorted(parameters.keys() & stored.keys()):
        if (shape := list(parameters[name].shape)) != stored[name].shape:
            faults.append(f"{name}: the file has {stored[name].shape}, the model {shape}")
    if faults:
        raise CheckpointError("\n  ".join([f"{path}: {len(faults)} weights do not fit:", *faults]))
    for name, parameter in parameters.items():
        parameter.set_value(paddle.to_tensor(stored[name].read()).astype(parameter.dtype))


def _entries_of(folder: str | os.PathLike, adapter: Adapter | None = None) -> dict[str, TensorEntry]:
    """The tensors beside adapter.json, of which the matrices have its rank."""
    path = Path(folder) / ADAPTER_WEIGHTS
    check_inside(path, Path(folder))
    entries = tensor_entries(path)
    for name, entry in entries.items():
        if adapter is not None and name.endswith(".lora_A") and entry.shape[-1:] != [adapter.rank]:
            raise CheckpointError(
                f"{path}: {name} is {entry.shape}; expected rank {adapter.rank} of {ADAPTER_FILE}"
            )
    return entries


def base_hash(folder: str | os.PathLike, model: Got) -> str:
    """SHA-256 of a base's weights and sizes, the same in every layout; `model` is the one that it holds."""
    source, linears, digest = WeightFile(folder), linear_names(model), hashlib.sha256()
    digest.update(json.dumps(model.config.as_dict(), sort_keys=True).encode())
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
            f"(got infer --model-name-or-path BASE --adapter {folder}, or got merge --base BASE)"
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


class SharedModels:
    """Models that are loaded once, however many adapters of theirs are read with: weights are shared.

    A part that an adapter brings as a whole has its own.
    """

    def __init__(self, dtype: str = "float32") -> None:
        self.dtype = dtype
        self._bases: dict[tuple[Path, bool], Got] = {}  # and whether the decoder stays in int8

    def load(self, folder: str | os.PathLike) -> Got:
        """The model of a checkpoint folder, or of an adapter's with the adapter on."""
        adapter = read_adapter(folder) if is_adapter(folder) else None
        base = Path(folder if adapter is None else base_folder(folder)).resolve()
        keep_int8 = adapter is None and paddle.get_device() == "cpu" and bool(WeightFile(base).int8)
        key = base, keep_int8
        if key not in self._bases:
            self._bases[key] = load_model(base, self.dtype, keep_int8)
        whole = self._bases[key]
        shared = {
            id(value): value
            for name, value in (*whole.named_parameters(), *whole.named_buffers())
            if adapter is None or not _is_kept(name, adapter)
        }
        model = copy.deepcopy(whole, shared)
        if adapter is not None:
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
        brought = [
            (name, parameter) for name, parameter in self.model.named_parameters() if _is_kept(name, adapter)
        ]
        self._own = {name: parameter.clone() for name, parameter in brought}
        try:
            attach(self.model, adapter)
            load_adapter_weights(self.model, folder)
        except CheckpointError:
            self.use(None)
            raise

    def _checked(self, folder: str | os.PathLike) -> Adapter:
        adapter = read_adapter(folder)
        self._hash = self._hash or base_hash(self.base, self.model)
        if adapter.base_sha256 != self._hash:
            raise CheckpointError(
                f"{folder}: an adapter of {adapter.base}, and {self.base} has other weights or sizes; "
                "give the model that it was trained on"
            )
        if adapter.prompt_template != self.model.config.prompt_template:
            raise CheckpointError(
                f"{Path(folder) / ADAPTER_FILE}: prompt_template {adapter.prompt_template!r}, the base's is "
                f"{self.model.config.prompt_template!r}; expected the same"
            )
        _entries_of(folder, adapter)
        return adapter

    def _restore(self) -> None:
        weights = dict(self.model.named_parameters())
        for name, value in self._own.items():
            weights[name].set_value(value)
        self._own = {}

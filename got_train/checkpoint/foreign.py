"""Folders of other programs that hold no whole model: named as what they are, with the way to one.

Adapters come first, because a folder of one may well have a tokenizer, a config and files of weights.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from got_train.errors import CheckpointError
from got_train.strict_files import read_json

PEFT_CONFIG, PADDLENLP_CONFIG = "adapter_config.json", "lora_config.json"
WHOLE = ("model.safetensors", "model.safetensors.index.json", "model_state.pdparams")
_ADAPTER_NAME = re.compile(r"\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)\b")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_POINTER, _POINTER_SIZE = b"version https://git-lfs", 1024
_QUANTIZED = re.compile(r"\.(qweight|qzeros|SCB|weight\.(absmax|quant_map|quant_state.*))$")
# GOT's own names, and what the stages begin with
_KNOWN_KIND = re.compile(r".*(got|vary).*|qwen2?|opt|sam.*", re.IGNORECASE)
_STEP = re.compile(r"(checkpoint|step|global_step)[-_]?\d+")
# files of other runtimes, by suffix
_GRAPHS = {
    ".gguf": "weights of llama.cpp (GGUF), which are rounded and lack the encoder",
    ".onnx": "an exported graph (ONNX)",
    ".pdmodel": "an exported graph of Paddle",
    ".h5": "weights of TensorFlow",
    ".msgpack": "weights of Flax",
}
_MERGE = (
    "merge it into its base first (merge_and_unload of PEFT, or `swift export --merge_lora true`) and give "
    "the merged folder, which `got convert` writes in any layout"
)


def refuse_foreign(folder: str | os.PathLike) -> None:
    """Raises for an adapter of another library, a folder of checkpoints, a file of another runtime, or the
    name of a model on a hub.
    """
    path = Path(folder)
    if _HUB_NAME.fullmatch(str(folder)) and not path.parent.exists():
        raise CheckpointError(
            f"{folder}: no such folder, and nothing is downloaded here; if this is a model on Hugging Face, "
            f"use `hf download {folder} --local-dir GOT_weights` and give GOT_weights"
        )
    if not path.is_dir():
        return
    _refuse_pointers(path)
    if any((path / name).is_file() for name in WHOLE):
        _refuse_other_model(path)
        return
    if (path / PEFT_CONFIG).is_file() or any((path / name).is_file() for name in _PEFT_WEIGHTS):
        raise CheckpointError(f"{path}: {_peft(path)}, not one of got_train; {_MERGE}")
    if (path / PADDLENLP_CONFIG).is_file() or any(path.glob("lora_model_state*.pdparams")):
        raise CheckpointError(
            f"{path}: a LoRA adapter of PaddleNLP, not one of got_train; merge it into its base there "
            "(merge_lora_params) and give the merged folder"
        )
    if (path / "config.json").is_file():
        return
    from got_train.images import natural_order  # here, for it brings numpy, and --help waits for this module

    steps = sorted((entry.name for entry in path.iterdir() if _STEP.fullmatch(entry.name)), key=natural_order)
    if steps:
        raise CheckpointError(f"{path}: a folder of checkpoints; use one of them, such as {path / steps[-1]}")
    if (path / "zero_to_fp32.py").is_file():
        raise CheckpointError(
            f"{path}: a checkpoint of DeepSpeed; run its zero_to_fp32.py and give the folder of the result"
        )
    for file in sorted(path.iterdir()):
        if file.suffix in _GRAPHS:
            raise CheckpointError(
                f"{file}: {_GRAPHS[file.suffix]}; use the folder of safetensors that it was made of"
            )


def _refuse_pointers(path: Path) -> None:
    """Raises for what git left in the place of large files."""
    for file in sorted(path.iterdir()):
        if file.is_file() and file.stat().st_size < _POINTER_SIZE and file.read_bytes().startswith(_POINTER):
            raise CheckpointError(f"{file}: a pointer of Git LFS and no content; use `git lfs pull` there")


def _refuse_other_model(path: Path) -> None:
    """Raises for a whole model of another kind, told by its config or the names of its weights."""
    from .tensor_io import tensor_entries  # numpy, which --help does without

    try:
        config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
        names = list(tensor_entries(path)) if (path / WHOLE[0]).is_file() else []
    except (CheckpointError, OSError):  # who reads them says what is wrong
        return
    refuse_adapter_names(path, names)
    if any(map(_QUANTIZED.search, names)):
        raise CheckpointError(
            f"{path}: quantized weights (GPTQ, AWQ or bitsandbytes); use those that they were made of"
        )
    kind = config.get("model_type")
    if isinstance(kind, str) and kind and not _KNOWN_KIND.fullmatch(kind):
        raise CheckpointError(f"{path}: a model of type {kind[:80]!r}; expected GOT's weights, in any layout")


def refuse_adapter_names(path: Path, names: Iterable[str]) -> None:
    """Raises for a file whose tensors are those of an adapter."""
    if any(map(_ADAPTER_NAME.search, names)):
        raise CheckpointError(f"{path}: {_peft(path)}, not a whole model; {_MERGE}")


def _peft(path: Path) -> str:
    """The kind of an adapter, and its base where it tells."""
    config = (path if path.is_dir() else path.parent) / PEFT_CONFIG
    try:
        values = read_json(config)
    except (CheckpointError, OSError):
        values = {}
    kind, base = values.get("peft_type"), values.get("base_model_name_or_path")
    kind = f" ({kind})" if isinstance(kind, str) and kind else ""
    return f"a PEFT adapter{kind}" + (
        f" of {json.dumps(base)[:80]}" if isinstance(base, str) and base else ""
    )

"""What the answers of a model's folder depend on, as values that a job can compare when it goes on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from got_train.strict_files import read_bytes
from got_train.tokenizer import CONFIG_FILE, MERGES_FILE, RANKS_FILE, TRANSFORMERS_FILE, VOCAB_FILE

from .adapters import ADAPTER_FILE, ADAPTER_WEIGHTS, base_folder, is_adapter
from .tensor_io import weight_files

# small files, told by their content; weights are told by size and time
_DESCRIPTIONS = (
    *(
        "config.json",
        "calibration.json",
        "generation_config.json",
        "model.safetensors.index.json",
        ADAPTER_FILE,
    ),
    *(RANKS_FILE, CONFIG_FILE, TRANSFORMERS_FILE, VOCAB_FILE, MERGES_FILE),
)


def folder_stamp(folder: str | os.PathLike) -> list[list[str | int]]:
    """Name and content, or size and time, of every file that a folder's answers depend on; its base's too."""
    folder = Path(folder)
    stamp: list[list[str | int]] = []
    for name in _DESCRIPTIONS:
        if (folder / name).exists():
            stamp.append([name, hashlib.sha256(read_bytes(folder / name)).hexdigest()])
    adapter = is_adapter(folder)
    for file in [folder / ADAPTER_WEIGHTS] if adapter else weight_files(folder):
        state = file.stat()
        stamp.append([file.name, state.st_size, state.st_mtime_ns])
    return stamp


def model_stamp(folder: str | os.PathLike, adapter: str | os.PathLike | None = None) -> list[list[str | int]]:
    """Of a model as it is read: the folder, the adapter on it, and the base that an adapter alone names."""
    folders = [folder] if adapter is None else [folder, adapter]
    if adapter is None and is_adapter(folder):
        folders.append(base_folder(folder))
    return [entry for path in folders for entry in folder_stamp(path)]

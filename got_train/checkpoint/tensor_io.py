"""Tensors in files of safetensors and PyTorch, read one at a time as numpy arrays. Knows no model, no layout.

Written out here because paddlenlp's reader of PyTorch files takes none but pytorch_model.bin and calls
whatever the pickle names, and safetensors' Paddle tensors abort the process when two of one place are freed.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from got_train.errors import CheckpointError

_NUMPY = {"float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}
_SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_PYTORCH = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
}


@dataclass(frozen=True)
class TensorEntry:
    """A tensor in a file; `read` gives its values, bfloat16 widened to float32."""

    shape: list[int]
    dtype: str
    read: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def tensor_entries(path: Path) -> dict[str, TensorEntry]:
    """The tensors of one file, or of all the files of weights in a folder, by their own names."""
    found: dict[str, TensorEntry] = {}
    for file in _weight_files(path) if path.is_dir() else [path]:
        if not file.exists():
            raise FileNotFoundError(f"{file}: no such file of weights; all that belong to the checkpoint")
        for name, tensor in (_safetensors if file.suffix == ".safetensors" else _pytorch)(file).items():
            if name in found:
                raise CheckpointError(f"{file}: {name} is in another file of {path} already")
            found[name] = tensor
    return found


def _weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or its shards, or the only files of weights that the folder has."""
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            return sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index}: not an index of weights ({error}); copy it again") from error
    for pattern in ("*.safetensors", "*.pth", "pytorch_model*.bin"):
        if files := sorted(folder.glob(pattern)):
            return files
    raise FileNotFoundError(
        f"{folder}: no *.safetensors, *.pth or pytorch_model.bin; one of these beside config.json"
    )


def _as_array(buffer: Any, dtype: str, shape: list[int], where: str, **layout: Any) -> np.ndarray:
    if dtype not in _NUMPY:
        raise CheckpointError(f"{where} holds {dtype}; weights are {', '.join(_NUMPY)}")
    try:
        array = np.ndarray(shape, _NUMPY[dtype], buffer, **layout)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: {shape} of {dtype} do not fit its bytes ({error})") from error
    if dtype == "bfloat16":  # the upper half of a float32
        array = (array.astype("<u4") << 16).view("<f4")
    return array


def _safetensors(file: Path) -> dict[str, TensorEntry]:
    """Eight bytes with the header's length, the header as JSON, the values."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            header = json.loads(opened.read(length)) if 0 < length <= size - 8 else None
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        except (ValueError, AttributeError, TypeError, KeyError):
            raise CheckpointError(f"{file}: not a safetensors file, or cut off; copy it again") from None
    if size < end:
        raise CheckpointError(f"{file}: has {size} bytes of {end}; it was not copied to its end")
    values = np.memmap(file, mode="r", offset=8 + length) if entries else None
    return {name: _safetensor(values, entry, f"{file}: {name}") for name, entry in entries.items()}


def _safetensor(values: np.ndarray, entry: dict[str, Any], where: str) -> TensorEntry:
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    dtype = _SAFETENSORS.get(entry["dtype"], entry["dtype"])
    return TensorEntry(shape, dtype, lambda: _as_array(values[begin:end], dtype, shape, where))


def _pytorch(file: Path) -> dict[str, TensorEntry]:
    """What torch.save wrote: a zip of one pickle and, beside it, the bytes of every storage."""
    try:
        archive = zipfile.ZipFile(file)
        pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(pickled) as opened:
            state = _Unpickler(opened, archive, pickled.removesuffix("data.pkl"), file).load()
    except (zipfile.BadZipFile, StopIteration):
        raise CheckpointError(
            f"{file}: not a file of PyTorch 1.6 or later, or cut off; copy it again"
        ) from None
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: {error}") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # Vary-tiny keeps its weights there, beside the optimizer's
    if not isinstance(state, dict):
        raise CheckpointError(f"{file}: holds a {type(state).__name__}; it must be a dictionary of tensors")
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, TensorEntry)}


class _Unpickler(pickle.Unpickler):
    """Builds tensors and plain containers, and refuses to call anything else."""

    def __init__(self, opened: Any, archive: zipfile.ZipFile, folder: str, file: Path):
        super().__init__(opened)
        self._archive, self._folder, self._file = archive, folder, file

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage"):
            return _PYTORCH.get(name, name)
        known = {
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            "collections.OrderedDict": OrderedDict,
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"holds a {module}.{name}; only tensors are read, nothing is run")
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, dtype, key, *_ = pid
        return dtype, key

    def _tensor(
        self, storage: tuple[str, str], offset: int, size: tuple, stride: tuple, *_: Any
    ) -> TensorEntry:
        dtype, key = storage
        width = int(_NUMPY.get(dtype, "<u1")[-1])
        layout = {"offset": offset * width, "strides": [width * step for step in stride]}
        where = f"{self._file}: storage {key}"

        def read() -> np.ndarray:
            if not math.prod(size):
                return np.zeros(size, "<f4")
            buffer = self._archive.read(f"{self._folder}data/{key}")
            return _as_array(buffer, dtype, list(size), where, **layout)

        return TensorEntry(list(size), dtype, read)

"""Tensors in files of safetensors, PyTorch and Paddle, read one at a time as numpy arrays.

Knows no model, no layout.

Written out here because paddlenlp's reader of PyTorch files takes none but pytorch_model.bin and calls
whatever the pickle names, and safetensors' Paddle tensors abort the process when two of one place are freed.
Sizes in a file are believed only after the bytes that they speak of were seen.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from got_train.errors import CheckpointError
from got_train.strict_files import (
    check_inside,
    explain,
    is_file_name,
    open_regular,
    read_json,
    reading,
    strict_json,
)

if TYPE_CHECKING:
    import paddle

_NUMPY = {"float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "int8": "|i1"}
_SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8"}
# the format's other types, which a file may hold beside the weights
_OTHER_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16"), 2),
    **dict.fromkeys(("U32", "I32"), 4),
    **dict.fromkeys(("U64", "I64", "C64"), 8),
}
_PYTORCH = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
}
# numpy's names of types in files of Paddle, which keeps bfloat16 as uint16
_PADDLE = {"f8": "float64", "f4": "float32", "f2": "float16", "u2": "bfloat16"}
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
MAX_PICKLE_BYTES = 64 << 20  # names and shapes only: the values lie beside it
_NO_WEIGHTS = (
    "no *.safetensors, *.pth or pytorch_model.bin, nor model_state.pdparams; expected one of these beside "
    "config.json"
)


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
    entries: dict[str, TensorEntry] = {}
    for file in weight_files(path) if path.is_dir() else [path]:
        if not file.exists():
            raise FileNotFoundError(f"{file}: no such file of weights; expected all of the checkpoint's")
        with reading(file):
            tensors = _READERS.get(file.suffix, _pytorch)(file)
        for name, tensor in tensors.items():
            if name in entries:
                raise CheckpointError(f"{file}: {name} is in another file of {path} already")
            entries[name] = tensor
    return entries


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or its shards, or the only files of weights that the folder has."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists():
        files = [folder / "model.safetensors"]
    elif index.exists():
        files = _shards(index)
    else:
        patterns = ("*.safetensors", "*.pth", "pytorch_model*.bin", "model_state*.pdparams")
        files = next((files for pattern in patterns if (files := sorted(folder.glob(pattern)))), [])
    if not files:
        raise FileNotFoundError(f"{folder}: {_NO_WEIGHTS}")
    for file in files:
        check_inside(file, folder)
    return files


def _shards(index: Path) -> list[Path]:
    """The files that an index names, which must lie beside it."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: has no weight_map; expected an index of weights, copy it again")
    for name in weight_map.values():
        if not is_file_name(name):
            raise CheckpointError(f"{index}: names {str(name)[:80]!r}; expected the names of files beside it")
    return sorted({index.parent / name for name in weight_map.values()})


def save_tensors(tensors: Mapping[str, paddle.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file that others may read, as safetensors by itself lets nobody but the owner."""
    from safetensors.paddle import save_file

    path.touch()  # with the mode that files have here
    mode = path.stat().st_mode
    save_file(dict(tensors), str(path), metadata=metadata)
    path.chmod(mode)


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
    """Eight bytes with the header's length, the header as JSON, the values, which the tensors tile."""
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length <= min(size - 8, MAX_HEADER_BYTES):
            raise CheckpointError(f"{file}: not a safetensors file, or cut off; copy it again")
        try:
            header = strict_json(opened.read(length).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{file}: not a safetensors file, or cut off ({explain(error)}); copy it again"
            ) from None
        if not isinstance(header, dict):
            raise CheckpointError(f"{file}: its header is a {type(header).__name__}; expected an object")
        header.pop("__metadata__", None)
        spans = {name: _span(entry, f"{file}: {name}") for name, entry in header.items()}
        end = 0
        for name, (begin, stop) in sorted(spans.items(), key=lambda item: item[1]):
            if begin != end:
                what = (
                    "shares bytes with another tensor" if begin < end else f"leaves {begin - end} bytes free"
                )
                raise CheckpointError(f"{file}: {name} {what}; expected tensors one behind the other")
            end = stop
        end += 8 + length
        if size < end:
            raise CheckpointError(f"{file}: has {size} bytes of {end}; it was not copied to its end")
        if size > end:
            raise CheckpointError(f"{file}: has {size - end} bytes behind its last tensor; copy it again")
        values = np.memmap(opened, mode="r", offset=8 + length) if size > 8 + length else b""
    return {name: _safetensor(values, header[name], spans[name], f"{file}: {name}") for name in header}


def _span(entry: Any, where: str) -> tuple[int, int]:
    """Where a tensor's bytes begin and end; refused unless its type and shape need just these."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where}: expected dtype, shape and data_offsets, got {str(entry)[:80]}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    for key, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise CheckpointError(f"{where}: {key} is {str(numbers)[:80]}; expected a list of sizes")
    if len(offsets) != 2 or len(shape) > 32:
        raise CheckpointError(
            f"{where}: {len(offsets)} offsets, {len(shape)} dimensions; expected 2, at most 32"
        )
    if not isinstance(dtype, str) or dtype not in _SAFETENSORS | _OTHER_BYTES:
        raise CheckpointError(f"{where}: has the type {str(dtype)[:40]!r}, which safetensors does not know")
    width = np.dtype(_NUMPY[_SAFETENSORS[dtype]]).itemsize if dtype in _SAFETENSORS else _OTHER_BYTES[dtype]
    if offsets[1] - offsets[0] != math.prod(shape) * width:
        raise CheckpointError(
            f"{where}: {shape} of {dtype} take {math.prod(shape) * width} bytes, and the file gives it "
            f"{offsets[1] - offsets[0]}"
        )
    return offsets[0], offsets[1]


def _safetensor(values: Any, entry: dict[str, Any], span: tuple[int, int], where: str) -> TensorEntry:
    shape, (begin, end) = entry["shape"], span
    dtype = _SAFETENSORS.get(entry["dtype"], entry["dtype"])
    return TensorEntry(shape, dtype, lambda: _as_array(values[begin:end], dtype, shape, where))


def _pytorch(file: Path) -> dict[str, TensorEntry]:
    """What torch.save wrote: a zip of one pickle and, beside it, the bytes of every storage."""
    opened = open_regular(file)
    try:
        archive = zipfile.ZipFile(opened)
        pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
    except (zipfile.BadZipFile, StopIteration):
        opened.close()
        raise CheckpointError(
            f"{file}: not a file of PyTorch 1.6 or later, or cut off; copy it again"
        ) from None
    _check_members(archive, os.fstat(opened.fileno()).st_size, file)
    content = _checked_pickle(archive.read(pickled), file)
    try:
        state = _Unpickler(content, archive, pickled.removesuffix("data.pkl"), file).load()
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{file}: {error}") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # Vary-tiny keeps its weights there, beside the optimizer's
    if not isinstance(state, dict):
        raise CheckpointError(f"{file}: holds a {type(state).__name__}; expected a dictionary of tensors")
    return {
        name: tensor
        for name, tensor in state.items()
        if isinstance(tensor, TensorEntry) and isinstance(name, str)
    }


def _paddle(file: Path) -> dict[str, TensorEntry]:
    """What paddle.save wrote, as PaddleMIX's training does: one pickle of numpy arrays by their names."""
    with open_regular(file) as opened:
        content = opened.read()
    _check_opcodes(content, file, _OPCODES | {"BINBYTES", "BINBYTES8"})
    try:
        state = _PaddleUnpickler(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, EOFError, ValueError) as error:
        raise CheckpointError(f"{file}: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{file}: holds a {type(state).__name__}; expected a dictionary of tensors")
    arrays = {name: array for name, array in state.items() if isinstance(array, _StoredArray)}
    return {name: array.entry(f"{file}: {name}") for name, array in arrays.items() if isinstance(name, str)}


class _StoredType:
    """A dtype of numpy in a pickle: what it is called, and its order of bytes."""

    def __init__(self, name: object = "", *_: object) -> None:
        self.name, self.order = str(name), "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


class _StoredArray:
    """An array of numpy in a pickle, of which nothing is believed before it is read."""

    def __init__(self, *_: object) -> None:
        self.state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def entry(self, where: str) -> TensorEntry:
        known = len(self.state) == 5 and isinstance(self.state[2], _StoredType)
        _, shape, stored, fortran, data = self.state if known else (0, (), _StoredType(), False, b"")
        if not known or not isinstance(data, bytes) or stored.order not in ("<", "|", "="):
            raise CheckpointError(f"{where}: not an array as paddle.save writes it; save it again")
        if not isinstance(shape, tuple) or not all(type(side) is int and 0 <= side < 2**63 for side in shape):
            raise CheckpointError(f"{where}: {str(shape)[:80]} is not the size of a tensor")
        dtype = _PADDLE.get(stored.name, stored.name)
        if dtype in _NUMPY and math.prod(shape) * np.dtype(_NUMPY[dtype]).itemsize != len(data):
            raise CheckpointError(f"{where}: {list(shape)} of {dtype} do not fit its {len(data)} bytes")
        order = "F" if fortran else "C"
        return TensorEntry(
            list(shape), dtype, lambda: _as_array(data, dtype, list(shape), where, order=order)
        )


class _PaddleUnpickler(pickle.Unpickler):
    """Builds arrays and plain containers, and refuses to call anything else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "numpy.core.multiarray._reconstruct": _StoredArray,
            "numpy._core.multiarray._reconstruct": _StoredArray,
            "numpy.ndarray": "ndarray",
            "numpy.dtype": _StoredType,
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"holds a {module}.{name}; only arrays are read, nothing is run")
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("holds a persistent id; only arrays are read")


def _check_members(archive: zipfile.ZipFile, size: int, file: Path) -> None:
    """torch.save packs nothing: a packed member may be a bomb, and one larger than its file a lie."""
    names = archive.namelist()
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CheckpointError(f"{file}: {twice} is there twice; expected a file that PyTorch wrote")
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise CheckpointError(f"{file}: {member.filename} is packed; expected a file that PyTorch wrote")
        if member.header_offset + member.file_size > size:
            raise CheckpointError(f"{file}: {member.filename} has {member.file_size} bytes, the file {size}")


# all that a dictionary of tensors needs; what builds objects of other kinds, or asks for memory, is not here
_OPCODES = frozenset(
    """
    PROTO FRAME STOP MARK POP POP_MARK DUP MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET NONE NEWTRUE NEWFALSE
    BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE SHORT_BINBYTES EMPTY_TUPLE TUPLE TUPLE1
    TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS EMPTY_SET ADDITEMS GLOBAL STACK_GLOBAL
    BINPERSID REDUCE BUILD
    """.split()  # noqa: SIM905
)


def _checked_pickle(content: bytes, file: Path) -> io.BytesIO:
    """The pickle, looked through before any of it is done."""
    if len(content) > MAX_PICKLE_BYTES:
        raise CheckpointError(f"{file}: its data.pkl has {len(content):,} bytes; expected names and shapes")
    _check_opcodes(content, file, _OPCODES)
    return io.BytesIO(content)


def _check_opcodes(content: bytes, file: Path, known: frozenset[str]) -> None:
    """Refuse a pickle that does anything but build containers and tensors."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name not in known:
            raise CheckpointError(f"{file}: its pickle uses {opcode.name}; only tensors are read")
        if opcode.name == "LONG_BINPUT" and argument > len(content):  # would make room for as many
            raise CheckpointError(f"{file}: its pickle counts to {argument} in {len(content)} bytes")


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
        where = f"{self._file}: storage {key}"
        width = np.dtype(_NUMPY.get(dtype, "<u1")).itemsize
        numbers = (offset, *size, *stride)
        if not all(type(number) is int and 0 <= number < 2**63 for number in numbers) or len(size) > 32:
            raise pickle.UnpicklingError(f"storage {key}: {size} at {offset} is not the size of a tensor")
        member = f"{self._folder}data/{key}"
        try:
            there = self._archive.getinfo(member).file_size
        except KeyError:
            raise pickle.UnpicklingError(f"storage {key} is not in the file; copy it again") from None
        if math.prod(size) * width > there and dtype in _NUMPY:
            raise pickle.UnpicklingError(f"storage {key}: {list(size)} do not fit its {there} bytes")
        layout = {"offset": offset * width, "strides": [width * step for step in stride]}

        def read() -> np.ndarray:
            if not math.prod(size):
                return np.zeros(size, "<f4")
            with reading(self._file):
                buffer = self._archive.read(member)
            return _as_array(buffer, dtype, list(size), where, **layout)

        return TensorEntry(list(size), dtype, read)


_READERS = {".safetensors": _safetensors, ".pdparams": _paddle}

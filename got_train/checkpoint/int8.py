"""Matrices of a file that stand in int8 with a scale for each row beside them, under the name and SCALE."""

from __future__ import annotations

from pathlib import Path

from got_train.errors import CheckpointError
from got_train.modeling.int8 import dequantize

from .tensor_io import TensorEntry

SCALE = "_scale"
Int8 = tuple[TensorEntry, TensorEntry]


def split_int8(
    tensors: dict[str, TensorEntry], where: Path
) -> tuple[dict[str, TensorEntry], dict[str, Int8]]:
    """All tensors as float32, without the scales; and those in int8 as they stand."""
    int8 = {name: entry for name, entry in tensors.items() if entry.dtype == "int8"}
    if not int8:
        return tensors, {}
    pairs = {name: (rows, _scale_of(name, rows, tensors, where)) for name, rows in int8.items()}
    scales = {name + SCALE for name in int8}
    whole = {name: entry for name, entry in tensors.items() if name not in scales}
    return whole | {name: _widened(*pair) for name, pair in pairs.items()}, pairs


def _scale_of(name: str, rows: TensorEntry, tensors: dict[str, TensorEntry], where: Path) -> TensorEntry:
    scale = tensors.get(name + SCALE)
    if scale is None or len(rows.shape) != 2 or scale.shape != rows.shape[:1]:
        shape = "nothing" if scale is None else str(scale.shape)
        raise CheckpointError(
            f"{where}: {name} is int8 {rows.shape} with {shape} as {name}{SCALE}; expected a matrix, and one "
            "number for each row"
        )
    return scale


def _widened(rows: TensorEntry, scale: TensorEntry) -> TensorEntry:
    return TensorEntry(rows.shape, "float32", lambda: dequantize(rows.read(), scale.read()))

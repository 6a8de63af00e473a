"""Matrices as int8 with one float32 scale a row. Knows no layer and no file."""

import numpy as np

LARGEST = 127  # -128 is not used, so that a matrix and its negative are rounded alike


def quantize(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (N, D) as int8 (N, D) and float32 scales (N,): the largest number of a row becomes 127.

    What was rounded so before comes out as it was.
    """
    matrix = np.asarray(matrix, "float32")
    scale = np.abs(matrix).max(axis=1) / np.float32(LARGEST)
    divisor = np.where(scale > 0, scale, np.float32(1))
    return np.rint(matrix / divisor[:, None]).astype("int8"), scale.astype("float32")


def dequantize(matrix: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return matrix.astype("float32") * scale[:, None]

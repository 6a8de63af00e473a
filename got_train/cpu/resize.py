"""A picture resized to a view's size: Pillow's bicubic resize to the bit, in a third of its time.

Knows Pillow's numbers and the order of its two passes (Resample.c); knows no files, no tasks and no tiles.
"""

# H, W height and width before  h, w after  T taps: pixels that have a share in one, a multiple of 4

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from PIL import Image

from .jit import jit, jit_inline

_PROBES = ((20, 25), (20, 24), (40, 65), (40, 64), (12, 17))  # by turns just tall, and just not, for 16 x 16
_BITS = 22  # of a weight, behind the point
_ROWS = 32  # that are turned into columns together
_REACH = 2.0  # of the bicubic kernel, in pixels of the coarser side

Taps = tuple[np.ndarray, np.ndarray]  # the first of each place (n,) and their weights (n, T), int32


def resize(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """`image.resize(size, BICUBIC)` of an RGB picture, to the bit, as (h, w, 3) uint8."""
    passes = _passes(image.size, size)
    if passes is None:
        return np.array(image.resize(size, Image.Resampling.BICUBIC))
    pixels = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8).reshape(image.height, image.width, 4)
    for axis in passes:
        resized = (_across, _down)[axis]
        pixels = resized(pixels, *_taps(image.size[axis], size[axis]))
    return _three_of_four(pixels)


def _passes(before: tuple[int, int], after: tuple[int, int]) -> list[int] | None:
    """The axes that Pillow resizes, in its order (0 the width); None if that is not known."""
    axes = [axis for axis in (0, 1) if before[axis] != after[axis]]
    if len(axes) < 2:
        return axes
    across, down = (old - new for old, new in zip(before, after, strict=True))
    turned = _tall_turned()
    if turned is None:
        return None
    tall = down > max(0, 2 * across) if turned else down > 0 and before[1] > 100 * before[0]
    return axes[::-1] if tall else axes


@cache
def _tall_turned() -> bool | None:
    """Whether this Pillow resizes the height of tall pictures first, as 13 does; None: by another rule.

    12 does so where they are over 100 times as high as wide.
    """
    rows_first = []
    for before in _PROBES:
        noise = np.random.default_rng(0).integers(0, 256, before[::-1], np.uint8)
        probe = Image.fromarray(noise)
        by_rows = probe.resize((before[0], 16), Image.Resampling.BICUBIC)
        by_rows = by_rows.resize((16, 16), Image.Resampling.BICUBIC)
        rows_first.append(by_rows.tobytes() == probe.resize((16, 16), Image.Resampling.BICUBIC).tobytes())
    return {(False,) * 5: False, (True, False, True, False, True): True}.get(tuple(rows_first))


@lru_cache(maxsize=64)
def _taps(before: int, after: int) -> Taps:
    """The pixels of the line that have a share in each place of the resized line, and how much of one."""
    scale = before / after
    wide = max(scale, 1.0)
    middle = (np.arange(after) + 0.5) * scale
    first = np.maximum((middle - _REACH * wide + 0.5).astype(np.int32), 0)
    end = np.minimum((middle + _REACH * wide + 0.5).astype(np.int32), before)
    most = int((end - first).max())
    shares, sums = np.zeros((after, -(-most // 4) * 4)), np.zeros(after)
    for tap in range(most):
        share = _bicubic((tap + first - middle + 0.5) * (1.0 / wide))
        shares[:, tap] = np.where(first + tap < end, share, 0.0)
        sums += shares[:, tap]
    fixed = shares / sums[:, None] * (1 << _BITS)
    return first, (fixed + np.copysign(0.5, fixed)).astype(np.int32)


def _bicubic(x: np.ndarray) -> np.ndarray:
    x, a = np.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


# ---- loops over pixels of four bytes, of which the fourth is carried along


@jit_inline
def _blend(
    lines: np.ndarray, first: np.ndarray, weights: np.ndarray, sums: np.ndarray, blended: np.ndarray
) -> None:
    """Every line of `blended` is the weighted sum of lines from its first on, rounded to 8 bits."""
    last = len(lines) - 1  # beyond which weights are zero
    for row in range(len(blended)):
        sums[:] = 1 << (_BITS - 1)
        for tap in range(0, weights.shape[1], 4):
            at = first[row] + tap
            a, b = lines[min(at, last)], lines[min(at + 1, last)]
            c, d = lines[min(at + 2, last)], lines[min(at + 3, last)]
            w0, w1 = weights[row, tap], weights[row, tap + 1]
            w2, w3 = weights[row, tap + 2], weights[row, tap + 3]
            for i in range(len(sums)):
                sums[i] += w0 * np.int32(a[i]) + w1 * np.int32(b[i])
                sums[i] += w2 * np.int32(c[i]) + w3 * np.int32(d[i])
        for i in range(len(sums)):
            blended[row, i] = min(max(sums[i] >> _BITS, 0), 255)


@jit
def _down(pixels: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(H, W, 4) to (h, W, 4)."""
    height, width, _ = pixels.shape
    resized = np.empty((len(first), width, 4), np.uint8)
    sums = np.empty(4 * width, np.int32)
    _blend(pixels.reshape(height, -1), first, weights, sums, resized.reshape(len(first), -1))
    return resized


@jit
def _across(pixels: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(H, W, 4) to (H, w, 4): a few rows at a time are turned into columns, blended and turned back."""
    height, width, _ = pixels.shape
    resized = np.empty((height, len(first), 4), np.uint8)
    before, after = pixels.view(np.uint32), resized.view(np.uint32)
    columns, blended = np.empty((width, _ROWS), np.uint32), np.empty((len(first), _ROWS), np.uint32)
    sums = np.empty(4 * _ROWS, np.int32)
    for top in range(0, height, _ROWS):
        rows = min(_ROWS, height - top)
        for row in range(rows):
            for x in range(width):
                columns[x, row] = before[top + row, x, 0]
        _blend(columns.view(np.uint8), first, weights, sums, blended.view(np.uint8))
        for row in range(rows):
            for x in range(len(first)):
                after[top + row, x, 0] = blended[x, row]
    return resized


@jit
def _three_of_four(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 4) to (h, w, 3)."""
    height, width, _ = pixels.shape
    kept = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            kept[y, x, 0], kept[y, x, 1], kept[y, x, 2] = pixels[y, x, 0], pixels[y, x, 1], pixels[y, x, 2]
    return kept

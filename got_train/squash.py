"""A picture resized to a view's size: Pillow's bicubic resize to the bit, in less time for most pages.

Knows Pillow's kernel and the order of its two passes; knows no files, no tasks and no tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageChops

_PROBES = ((20, 25), (20, 24), (40, 65), (40, 64), (12, 17))  # by turns just tall, and just not, for 16 x 16

Box = tuple[int, int, int, int]  # left, top, right, bottom


def squash(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`image.resize(size, BICUBIC)` of an RGB picture, to the bit, in less time for most pages.

    Where red, green and blue are equal one of them is resized for all; white around the print stays white.
    """
    if image.size == size:
        return image
    squashed = Image.new("RGB", size, "white")
    for part, box in _parts(image, _exact_in_parts(image.size, size)):
        _paste_resized(squashed, part, box)
    return squashed


def _exact_in_parts(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether parts get the pixels that they have in the whole: nothing is rounded in n * before / after.

    Pillow takes the part to read as float32. Which of its two passes comes first must be known as well.
    """
    powers_of_two = all(side & (side - 1) == 0 for side in after)
    small = all(old * new <= 2**24 for old, new in zip(before, after, strict=True))
    return powers_of_two and small and _tall_turned() is not None


def _passes(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    """The axes in the order in which Pillow resizes them."""
    across, down = (old - new for old, new in zip(before, after, strict=True))
    return (1, 0) if _tall_turned() and down > max(0, 2 * across) else (0, 1)


@cache
def _tall_turned() -> bool | None:
    """Whether this Pillow resizes the height of tall pictures first, as 13 does; None: by another rule."""
    found = []
    for before in _PROBES:
        noise = np.random.default_rng(0).integers(0, 256, before[::-1], np.uint8)
        probe = Image.fromarray(noise)
        by_rows = probe.resize((before[0], 16), Image.Resampling.BICUBIC)
        by_rows = by_rows.resize((16, 16), Image.Resampling.BICUBIC)
        found.append(by_rows.tobytes() == probe.resize((16, 16), Image.Resampling.BICUBIC).tobytes())
    return {(False,) * 5: False, (True, False, True, False, True): True}.get(tuple(found))


def _parts(image: Image.Image, exact: bool) -> Iterator[tuple[Image.Image, Box]]:
    """What to resize, one over the other: the ink in one channel, and in three the part that has colours."""
    sample = image.resize((64, 64), Image.Resampling.NEAREST)
    bands = image.split() if 2 * _area(_coloured(sample.split())) < 64 * 64 else ()
    coloured = _coloured(bands) if bands else (0, 0, *image.size)  # most coloured scans need no closer look
    ink = (0, 0, *image.size)
    if exact:
        ink = ImageChops.invert(image if coloured else bands[0]).getbbox()
    mixed = exact and 2 * _area(coloured) < _area(ink)
    if ink and (mixed or not coloured):
        yield bands[0], ink
    if coloured:
        yield image, coloured if mixed else ink


def _coloured(bands: Sequence[Image.Image]) -> Box | None:
    """The box outside which red, green and blue are equal; None if they are equal everywhere."""
    red, green, blue = bands
    boxes = [ImageChops.difference(red, other).getbbox() for other in (green, blue)]
    sides = list(zip(*filter(None, boxes), strict=True))
    return (*map(min, sides[:2]), *map(max, sides[2:])) if sides else None


def _area(box: Box | None) -> int:
    return (box[2] - box[0]) * (box[3] - box[1]) if box else 0


def _paste_resized(squashed: Image.Image, part: Image.Image, box: Box) -> None:
    """All in which the pixels of the box have a share, resized and put at its place."""
    before, after = part.size, squashed.size
    if box == (0, 0, *before):
        squashed.paste(part.resize(after, Image.Resampling.BICUBIC))
        return
    made = [_touched(box[axis], box[axis + 2], before[axis], after[axis]) for axis in (0, 1)]
    read = [_needed(*made[axis], before[axis], after[axis]) for axis in (0, 1)]
    part = part.crop((read[0][0], read[1][0], read[0][1], read[1][1]))
    for axis in _passes(before, after):
        size, window = list(part.size), [0, 0, *part.size]
        size[axis] = made[axis][1] - made[axis][0]
        for end in (0, 1):
            window[axis + 2 * end] = made[axis][end] * before[axis] / after[axis] - read[axis][0]
        part = part.resize(size, Image.Resampling.BICUBIC, box=window)
    squashed.paste(part, (made[0][0], made[1][0]))


def _touched(low: int, high: int, before: int, after: int) -> tuple[int, int]:
    """The places after resizing in which the pixels low..high have a share, and one or two more."""
    scale = before / after
    reach = 2 * max(scale, 1) + 1  # of the bicubic kernel, and one for its rounding
    return max(0, math.floor((low - reach) / scale) - 1), min(after, math.ceil((high + reach) / scale) + 1)


def _needed(first: int, end: int, before: int, after: int) -> tuple[int, int]:
    """The pixels that have a share in the places first..end, and one or two more."""
    scale = before / after
    reach = 2 * max(scale, 1) + 1
    return max(0, math.floor(first * scale - reach)), min(before, math.ceil(end * scale + reach))

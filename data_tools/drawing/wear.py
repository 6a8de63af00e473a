"""What paper has beside clean text: rules, inverted blocks, faint or dotted ink, specks, cut neighbours.

Works on a grey picture before data_tools.drawing.degrade does what light, camera and file do. Nothing moves,
so boxes stay true; text stays legible.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy
    from PIL import Image

    Pixels = numpy.ndarray  # (height, width), float32
Box = tuple[int, int, int, int]
EFFECTS = {  # chance of each on a worn page
    "neighbours": 0.15, "weight": 0.2, "dots": 0.08, "faint": 0.3, "patches": 0.12, "specks": 0.12,
    "coarse": 0.25, "invert": 0.1, "rules": 0.2,
}  # fmt: skip


class _Page(NamedTuple):
    """What the effects know: boxes of the lines, size of the font, grey of paper and ink."""

    boxes: Sequence[Box]
    size: int
    paper: float
    ink: float
    rng: random.Random


def wear(
    image: Image.Image, boxes: Sequence[Box], size: int, rng: random.Random
) -> tuple[Image.Image, list[str]]:
    """The page worn, and the names of what was done; boxes are those of its lines, size that of its font."""
    import numpy
    from PIL import Image

    pixels = numpy.array(image, numpy.float32)
    page = _Page(boxes, size, float(pixels.max()), float(pixels.min()), rng)
    done = [name for name, chance in EFFECTS.items() if rng.random() < chance]
    for name in done:
        pixels = _STEPS[name](pixels, page)
    return Image.fromarray(numpy.clip(pixels + 0.5, 0, 255).astype(numpy.uint8)), done


def _neighbours(pixels: Pixels, page: _Page) -> Pixels:
    """Feet of a line above the picture, heads of one below, where there is room."""
    for x1, y1, x2, y2 in page.rng.sample(list(page.boxes), 1):
        room_above, room_below = (
            min(box[1] for box in page.boxes),
            pixels.shape[0] - max(box[3] for box in page.boxes),
        )
        strip = page.rng.randint(1, max(1, (y2 - y1) // 3))
        shift = page.rng.randint(-x1, pixels.shape[1] - x2)
        if room_above > strip + 1 and page.rng.random() < 0.7:
            pixels[:strip, x1 + shift : x2 + shift] = pixels[y2 - strip : y2, x1:x2].copy()
        if room_below > strip + 1 and page.rng.random() < 0.7:
            pixels[-strip:, x1 + shift : x2 + shift] = pixels[y1 : y1 + strip, x1:x2].copy()
    return pixels


def _weight(pixels: Pixels, page: _Page) -> Pixels:
    """Ink that runs, or is thin."""
    import cv2
    import numpy

    kernel = numpy.ones((2, 2) if page.size < 18 or page.rng.random() < 0.5 else (3, 3), numpy.uint8)
    thicker = page.size < 14 or page.rng.random() < 0.6
    other = cv2.erode(pixels, kernel) if thicker else cv2.dilate(pixels, kernel)
    share = page.rng.uniform(0.2, 0.8 if thicker else 0.6)
    return pixels + share * (other - pixels)


def _dots(pixels: Pixels, page: _Page) -> Pixels:
    """The gaps between the needles of a printer."""
    pitch = 3 if page.size < 22 else page.rng.randint(3, 4)
    depth = page.rng.uniform(0.2, 0.6)
    across, down = page.rng.choice(((True, True), (True, False), (False, True)))
    start = page.rng.randrange(pitch)
    if across:
        pixels[start::pitch] += depth * (page.paper - pixels[start::pitch])
    if down:
        pixels[:, start::pitch] += depth * (page.paper - pixels[:, start::pitch])
    return pixels


def _faint(pixels: Pixels, page: _Page) -> Pixels:
    return pixels + page.rng.uniform(0.15, 0.7) * (page.paper - pixels)


def _patches(pixels: Pixels, page: _Page) -> Pixels:
    """Ink that fades here and there."""
    mask = _clouds(pixels.shape, page.rng) * page.rng.uniform(0.3, 0.8)
    return pixels + mask * (page.paper - pixels)


def _specks(pixels: Pixels, page: _Page) -> Pixels:
    """Dust on paper, and holes in ink."""
    import numpy

    noise = numpy.random.default_rng(page.rng.getrandbits(63))
    share = page.rng.uniform(0.001, 0.02)
    places = noise.random(pixels.shape) < share
    pixels[places] = noise.choice([page.paper, page.ink], size=int(places.sum()), p=[0.8, 0.2])
    return pixels


def _coarse(pixels: Pixels, page: _Page) -> Pixels:
    """Scanned with fewer points, and enlarged."""
    import cv2

    scale = page.rng.uniform(max(0.5, min(0.95, 9 / page.size)), 0.95)
    height, width = pixels.shape
    small = cv2.resize(
        pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(
        small, (width, height), interpolation=page.rng.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC))
    )


def _invert(pixels: Pixels, page: _Page) -> Pixels:
    """Light text on a dark block: the page, or some of its lines."""
    if page.rng.random() < 0.4:
        return page.paper + page.ink - pixels
    for x1, y1, x2, y2 in page.boxes:
        if page.rng.random() < 0.4:
            pad = page.rng.randint(1, 4)
            block = slice(max(0, y1 - 1), y2 + 1), slice(max(0, x1 - pad), x2 + pad)
            pixels[block] = page.paper + page.ink - pixels[block]
    return pixels


def _rules(pixels: Pixels, page: _Page) -> Pixels:
    """Lines, whole, dashed or dotted, between lines of text, under them, or beside them."""
    tone = page.ink + page.rng.uniform(0, 0.6) * (page.paper - page.ink)
    on = page.rng.choice((1, 2, 4, 8))
    dashed = page.rng.random() < 0.4
    thick = page.rng.choice((1, 1, 2))
    height, width = pixels.shape
    edges = sorted({0, height, *(y for box in page.boxes for y in (box[1], box[3]))})
    chance = page.rng.choice((0.3, 1.0))
    for x1, _, x2, y2 in page.boxes:
        room = min((edge for edge in edges if edge > y2), default=height) - y2
        if room >= 2 and page.rng.random() < chance:
            y = y2 + page.rng.randint(1, max(1, room // 2))
            first, last = (0, width) if page.rng.random() < 0.5 else (x1, x2)
            for start in range(first, last, 2 * on if dashed else max(1, last - first)):
                pixels[y : y + thick, start : start + on if dashed else last] = tone
    if page.rng.random() < 0.2:
        left = min(box[0] for box in page.boxes)
        if left > 5:
            x = page.rng.randint(0, left - 3)
            pixels[:, x : x + thick] = tone
    return pixels


def _clouds(shape: tuple[int, ...], rng: random.Random) -> numpy.ndarray:
    """A smooth map of 0..1."""
    import cv2
    import numpy

    noise = numpy.random.default_rng(rng.getrandbits(63)).random(
        (rng.randint(2, 5), rng.randint(2, 6)), numpy.float32
    )
    return cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)


_STEPS = {
    "neighbours": _neighbours, "weight": _weight, "dots": _dots, "faint": _faint, "patches": _patches,
    "specks": _specks, "coarse": _coarse, "invert": _invert, "rules": _rules,
}  # fmt: skip

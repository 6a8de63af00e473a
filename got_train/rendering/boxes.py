"""Boxes drawn into a copy of their picture, each with its number in the order of reading.

Knows Pillow and pixels; not what stands in the boxes and not how an answer is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

COLORS = ("#0b62c4", "#c2410c", "#15803d", "#a21caf", "#b91c1c", "#0e7490")  # each readable under white
SIDE = 720  # pixels; smaller pictures are enlarged to it, or their numbers could not be read
TEXT_SHARE = 1 / 60  # height of the numbers, of the longer side


def draw_boxes(image: Image.Image, boxes: Sequence[Sequence[float]]) -> Image.Image:
    """A copy of the picture with boxes x1, y1, x2, y2 in its pixels, numbered from 1 in their order."""
    scale = max(1, -(-SIDE // max(image.size)))
    drawn = image.convert("RGB")
    if scale > 1:
        drawn = drawn.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    height = max(12, round(max(drawn.size) * TEXT_SHARE))
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(height)
    numbered = [
        (str(number), [side * scale for side in box], COLORS[(number - 1) % len(COLORS)])
        for number, box in enumerate(boxes, 1)
    ]
    for _, (x1, y1, x2, y2), color in numbered:
        # Pillow's rectangle includes its last pixel
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=color, width=max(2, height // 6))
    for number, box, color in numbered:  # over the outlines of all
        _tag(pen, font, number, box, drawn.size, color)
    return drawn


def _tag(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont,
    text: str,
    box: Sequence[float],
    size: tuple[int, int],
    color: str,
) -> None:
    """The number on its colour, left of the box if there is room, else in its corner."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    beside = box[0] >= width
    x = box[0] - width if beside else box[0]
    y = min(max(0, (box[1] + box[3] - height) / 2 if beside else box[1]), size[1] - height)
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    pen.text((x + 3 - left, y + 3 - top), text, font=font, fill="white")

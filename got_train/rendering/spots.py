"""Texts with boxes laid over their image, numbered, with the list of what was read beside.

Knows thousandths and SVG; the grammar is got_train.formats.spots's.
"""

from __future__ import annotations

from PIL import Image

from got_train.formats import spots as spotting

from .html import data_uri, escaped, inline_source

COLOURS = ("#c2255c", "#1864ab", "#2b8a3e", "#d9480f", "#5f3dc4")
LONGEST_SIDE = 1400  # pixels of the image in the page


def overlay(text: str, image: Image.Image | None) -> str:
    """The image with its boxes, and the texts by number; lines that are none are shown as they are."""
    spots, faults = spotting.parse(text)
    width, height = image.size if image else (1000, 1000)
    boxes = "".join(_box(number, spot, width, height) for number, spot in enumerate(spots, 1))
    shown = f'<image href="{thumbnail(image)}" width="{width}" height="{height}"/>' if image else ""
    lines = "".join(f"<li>{escaped(spot.text)}</li>" for spot in spots)
    marked = "".join(
        f"<p>{inline_source(fault.line, fault.cause)} {escaped(fault.cause)}</p>" for fault in faults
    )
    return (
        f'<div class="spots"><svg viewBox="0 0 {width} {height}" role="img">{shown}{boxes}</svg>'
        f"<ol>{lines}</ol>{marked}</div>"
    )


def thumbnail(image: Image.Image, side: int = LONGEST_SIDE) -> str:
    """An image as a data URI, no larger than `side`."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    return data_uri(small, "JPEG", quality=85)


def _box(number: int, spot: spotting.Spot, width: int, height: int) -> str:
    x1, y1, x2, y2 = (value * side / 1000 for value, side in zip(spot.box, (width, height) * 2, strict=True))
    colour = COLOURS[number % len(COLOURS)]
    size = max(width, height) / 60
    return (
        f'<g><title>{escaped(spot.text)}</title><rect x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" '
        f'height="{y2 - y1:.1f}" fill="none" stroke="{colour}" stroke-width="{size / 8:.1f}"/>'
        f'<rect x="{x1:.1f}" y="{y1 - size:.1f}" width="{size * (0.5 + 0.6 * len(str(number))):.1f}" '
        f'height="{size:.1f}" fill="{colour}"/><text x="{x1 + size * 0.25:.1f}" y="{y1 - size * 0.15:.1f}" '
        f'font-size="{size * 0.95:.1f}" font-family="sans-serif" fill="white">{number}</text></g>'
    )

"""Which texts only a shaper can set: letters that join or change, marks on them, lines from right to left.

Knows Unicode alone; what draws such a text is a matter of data_tools.drawing.fonts.
"""

from __future__ import annotations

import functools
import unicodedata

JOINERS = "\u200c\u200d"  # they have no ink and change the letters beside them, as in Persian and Hindi
DIRECTIONS = "\u200e\u200f\u061c"  # marks that nobody sees, and that no reader can know
RIGHT_TO_LEFT = ("R", "AL")
# scripts whose letters change with their neighbours, where the letters alone do not tell it
_COMPLEX = ((0x0900, 0x0DFF), (0x0F00, 0x109F), (0x1780, 0x18AF), (0x1900, 0x1CFF), (0xA800, 0xABFF))


@functools.lru_cache(maxsize=1 << 16)
def _shaped(char: str) -> bool:
    code = ord(char)
    if code < 0x0300:
        return False
    return (
        char in JOINERS
        or unicodedata.bidirectional(char) in RIGHT_TO_LEFT
        or unicodedata.category(char)[0] == "M"
        or any(low <= code <= high for low, high in _COMPLEX)
    )


def needs_shaping(text: str) -> bool:
    """Whether letter by letter from left to right would be drawn wrong."""
    return not text.isascii() and any(map(_shaped, text))


def is_right_to_left(text: str) -> bool:
    """Whether a line begins on the right: its first letter says so (UAX 9, P2)."""
    strong = (unicodedata.bidirectional(char) for char in text)
    return next((kind != "L" for kind in strong if kind in ("L", *RIGHT_TO_LEFT)), False)


def script_name(text: str) -> str:
    """The script of the first letter that needs shaping, as Unicode calls it: Arabic, Hebrew, Devanagari."""
    char = next((char for char in text if _shaped(char) and char not in JOINERS), "")
    return unicodedata.name(char, "such a text").split()[0].capitalize()

"""What lines of boxes look like: ICDAR's and SROIE's, which end in a text, and YOLO's, which have none.

Told by patterns alone: such lines are labels, and never answers that somebody meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ENOUGH = 0.9  # of the lines of a file, from which on it is one of boxes; the others are refused by line
_NUMBER = r"-?\d+(?:\.\d+)?"
_POINTS = re.compile(rf"\s*({_NUMBER}(?:\s*,\s*{_NUMBER}){{7}})\s*(?:,(.*))?", re.DOTALL)
_CORNERS = re.compile(rf"\s*({_NUMBER}(?:\s*[,\s]\s*{_NUMBER}){{3}})\s*[,\s]\s*(.*)", re.DOTALL)
_YOLO = re.compile(r"\s*\d+(?:\s+(?:0|1|0?\.\d+|1\.0*))(?:\s+(?:0|1|0?\.\d+|1\.0*)){3,}\s*")


@dataclass(frozen=True)
class BoxLine:
    """A line of such a file."""

    points: tuple[tuple[float, float], ...]
    text: str


def box_format(lines: Sequence[str]) -> str:
    """What boxes these lines are, as a message says it; empty if they are none."""
    written = [line for line in lines if line.strip()]
    if not written:
        return ""
    for name, matches in (
        ("YOLO class, x, y, width, height", lambda line: bool(_YOLO.fullmatch(line))),
        ("ICDAR x1,y1,x2,y2,x3,y3,x4,y4,text", lambda line: parse_points(line) is not None),
        ("ICDAR x1,y1,x2,y2,text", lambda line: parse_corners(line) is not None),
    ):
        if sum(map(matches, written)) >= ENOUGH * len(written):
            return name
    return ""


def text_lines(path: str | Path) -> list[str]:
    """The lines of a text file that are not blank; none of a file that is no text."""
    try:
        return [line for line in Path(path).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return []


def parse_points(line: str) -> BoxLine | None:
    match = _POINTS.fullmatch(line)
    if match is None:
        return None
    numbers = [float(number) for number in match[1].split(",")]
    return BoxLine(tuple(zip(numbers[::2], numbers[1::2], strict=True)), _unquoted(match[2] or ""))


def parse_corners(line: str) -> BoxLine | None:
    match = _CORNERS.fullmatch(line)
    if match is None:
        return None
    x1, y1, x2, y2 = map(float, re.split(r"\s*,\s*|\s+", match[1].strip()))
    if not (x1 < x2 and y1 < y2):  # numbers of a table, say
        return None
    return BoxLine(((x1, y1), (x2, y1), (x2, y2), (x1, y2)), _unquoted(match[2]))


def _unquoted(text: str) -> str:
    """ICDAR 2013 and 2015 write texts in quotes, which are no part of them."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text

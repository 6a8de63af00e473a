"""What lines of boxes look like: ICDAR's and SROIE's, which end in a text, and YOLO's, which have none.

Told by patterns alone: such lines are labels, and never answers that somebody meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ENOUGH = 0.9  # of the lines of a file, from which on it is one of boxes; the others are refused by line
_NUMBER = r"-?\d+(?:\.\d+)?"
_MARK = r"\s*[,;\t]\s*"
_POINTS = re.compile(rf"\s*({_NUMBER}(?:{_MARK}{_NUMBER}){{7}})\s*(?:[,;\t](.*))?", re.DOTALL)
# of more than four points, as CTW1500 and curved texts have
_POLYGON = re.compile(rf"\s*({_NUMBER}(?:{_MARK}{_NUMBER}){{11,}})\s*(?:[,;\t](.*))?", re.DOTALL)
# parted by spaces, which tables of numbers are too: a text with a letter stands behind
_SPACED = re.compile(rf"\s*({_NUMBER}(?:\s+{_NUMBER}){{7}})\s+(\S*[^\W\d].*)", re.DOTALL)
_CORNERS = re.compile(rf"\s*({_NUMBER}(?:\s*[,;\s]\s*{_NUMBER}){{3}})\s*[,;\s]\s*(.*)", re.DOTALL)
_TOTAL_TEXT = re.compile(
    r"x:\s*\[\[([^]]*)\]\],\s*y:\s*\[\[([^]]*)\]\].*transcriptions:\s*\[u?(['\"])(.*)\3\]", re.DOTALL
)
# of a class by its name, with decimals alone
_YOLO_NAMED = re.compile(r"\s*\S+(?:\s+0?\.\d+){4,}\s*")
# as PaddleOCR and EasyOCR print their answers: [[x, y], ...], ('text', 0.98)
_PRINTED = re.compile(
    rf"[\[(]*\s*((?:[\[(]\s*{_NUMBER}\s*,\s*{_NUMBER}\s*[\])]\s*,?\s*){{4,}})[\])]\s*,?\s*\(?\s*"
    rf"(['\"])(.*)\2\s*(?:,\s*{_NUMBER}\s*)?[\])]*\s*",
    re.DOTALL,
)
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
        (
            "YOLO class, x, y, width, height",
            lambda line: bool(_YOLO.fullmatch(line) or _YOLO_NAMED.fullmatch(line)),
        ),
        ("printed [[x, y], ...], text", lambda line: parse_printed(line) is not None),
        ("Total-Text x: [[...]], y: [[...]], transcriptions", lambda line: parse_total(line) is not None),
        ("polygons x1,y1,...,xn,yn,text", lambda line: parse_polygon(line) is not None),
        ("ICDAR x1,y1,x2,y2,x3,y3,x4,y4,text", lambda line: parse_points(line) is not None),
        ("ICDAR x1,y1,x2,y2,text", lambda line: parse_corners(line) is not None),
    ):
        if sum(map(matches, written)) >= ENOUGH * len(written):
            return name
    return ""


def text_lines(path: str | Path, errors: str = "strict") -> list[str]:
    """The lines of a text file that are not blank; none of a file that is no text."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors=errors)
        return [line for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return []


def parser_of(form: str) -> Callable[[str], BoxLine | None]:
    """What reads the lines that box_format has called so."""
    parsers = {"Total-Text": parse_total, "polygons": parse_polygon, "printed": parse_printed}
    return parsers.get(form.partition(" ")[0], parse_points if "x3" in form else parse_corners)


def parse_points(line: str) -> BoxLine | None:
    """Four points and a text."""
    return _parsed(_POINTS.fullmatch(line) or _SPACED.fullmatch(line))


def parse_polygon(line: str) -> BoxLine | None:
    """Six points or more and a text; fewer may well be four and a text of numbers."""
    return _parsed(_POLYGON.fullmatch(line))


def parse_total(line: str) -> BoxLine | None:
    """Total-Text's lines, in which an illegible text is #."""
    match = _TOTAL_TEXT.match(line.strip())
    if match is None:
        return None
    across, down = (re.findall(_NUMBER, listed) for listed in match.groups()[:2])
    if len(across) != len(down) or not across:
        return None
    points = zip(map(float, across), map(float, down), strict=True)
    return BoxLine(tuple(points), "###" if match[4] == "#" else match[4])


def parse_printed(line: str) -> BoxLine | None:
    """What PaddleOCR or EasyOCR printed of a page."""
    match = _PRINTED.fullmatch(line)
    if match is None:
        return None
    numbers = [float(number) for number in re.findall(_NUMBER, match[1])]
    return BoxLine(tuple(zip(numbers[::2], numbers[1::2], strict=True)), match[3])


def _parsed(match: re.Match | None) -> BoxLine | None:
    if match is None:
        return None
    numbers = [float(number) for number in re.findall(_NUMBER, match[1])]
    if len(numbers) % 2:
        return None
    return BoxLine(tuple(zip(numbers[::2], numbers[1::2], strict=True)), _unquoted(match[2] or ""))


def parse_corners(line: str) -> BoxLine | None:
    match = _CORNERS.fullmatch(line)
    if match is None:
        return None
    x1, y1, x2, y2 = map(float, re.findall(_NUMBER, match[1]))
    if not (x1 < x2 and y1 < y2):  # numbers of a table, say
        return None
    return BoxLine(((x1, y1), (x2, y1), (x2, y2), (x1, y2)), _unquoted(match[2]))


def _unquoted(text: str) -> str:
    """ICDAR 2013 and 2015 write texts in quotes, which are no part of them."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text

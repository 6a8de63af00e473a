"""Text files of boxes: ICDAR and SROIE (`x1,y1,...,x4,y4,TEXT` a line), and YOLO's, which have no texts.

The same patterns tell boxes that stand where an answer should be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from got_train.data.record import RecordError

from .image_search import image_of
from .to_spots import Label, LabelledPage, around, is_rectangle

ENOUGH = 0.9  # of the lines of a file, from which on it is one of boxes; the others are refused by line
_NUMBER = r"-?\d+(?:\.\d+)?"
_POINTS = re.compile(rf"\s*({_NUMBER}(?:\s*,\s*{_NUMBER}){{7}})\s*(?:,(.*))?", re.DOTALL)
_CORNERS = re.compile(rf"\s*({_NUMBER}(?:\s*[,\s]\s*{_NUMBER}){{3}})\s*[,\s]\s*(.*)", re.DOTALL)
_YOLO = re.compile(r"\s*\d+(?:\s+(?:0|1|0?\.\d+|1\.0*))(?:\s+(?:0|1|0?\.\d+|1\.0*)){3,}\s*")
# of the multilingual ICDAR sets, which name the script before the text
_SCRIPTS = {"Arabic", "Bangla", "Chinese", "Hindi", "Japanese", "Korean", "Latin", "Mixed", "None", "Symbols"}


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
        ("ICDAR x1,y1,x2,y2,x3,y3,x4,y4,text", lambda line: _eight(line) is not None),
        ("ICDAR x1,y1,x2,y2,text", lambda line: _four(line) is not None),
    ):
        if sum(map(matches, written)) >= ENOUGH * len(written):
            return name
    return ""


def is_box_file(path: str | Path) -> bool:
    return bool(box_format(text_lines(path)))


def text_lines(path: str | Path) -> list[str]:
    """The lines of a text file that are not blank; none of a file that is no text."""
    try:
        return [line for line in Path(path).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return []


def box_pages(path: str, image_root: str | None) -> Iterator[LabelledPage | RecordError]:
    """The page of a file of boxes; lines that are none are counted as left out."""
    lines = text_lines(path)
    form = box_format(lines)
    if form.startswith("YOLO"):
        yield RecordError(f"{path}: YOLO boxes, which have classes and no texts; give files with texts")
        return
    try:
        image = image_of(path, "", image_root)
    except RecordError as error:
        yield error
        return
    read = _eight if "x3" in form else _four
    parsed = [(number, line, read(line)) for number, line in enumerate(lines, 1)]
    with_script = "x3" in form and all(
        line is None or line.text.partition(",")[0].strip() in _SCRIPTS for _, _, line in parsed
    )
    labels, left_out = [], []
    for number, raw, line in parsed:
        location = f"{path}:{number}"
        if line is None:
            left_out.append(
                ("lines that are no box with a text left out", Label(raw, None, location=location))
            )
            continue
        text = line.text.partition(",")[2] if with_script else line.text
        polygon = not is_rectangle(line.points)
        labels.append(Label(text.strip(), around(line.points), polygon, location=location))
    yield LabelledPage(image, tuple(labels), path, order="page", left_out=tuple(left_out))


def _eight(line: str) -> BoxLine | None:
    match = _POINTS.fullmatch(line)
    if match is None:
        return None
    numbers = [float(number) for number in match[1].split(",")]
    return BoxLine(tuple(zip(numbers[::2], numbers[1::2], strict=True)), _unquoted(match[2] or ""))


def _four(line: str) -> BoxLine | None:
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

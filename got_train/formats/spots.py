"""Text with positions: the grammar that the task `spot` is answered in, both ways, and the order of reading.

A line of text a line, box first: `[x1,y1,x2,y2] text`, in whole thousandths of the image's width and height.
Knows boxes and strings; no file, no model and no label format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from got_train import prompts
from got_train.errors import AnswerError, PromptError

BREAK = "<br>"  # a line end inside a text, for a line of the answer is one text
SAME_LINE = 0.5  # of the lower box's height that two boxes share if they stand beside each other
WORD_GAP = 1.0  # heights between boxes of one line at most; columns stand further apart
_LINE = re.compile(r"\[ *" + r" *, *".join(["([0-9]{1,4})"] * 4) + r" *\](?: (.*))?")
_LINE_ENDS = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")

Box = tuple[float, float, float, float]  # x1, y1, x2, y2


@dataclass(frozen=True)
class Spot:
    """A text and its box, in pixels or in thousandths: whoever hands it on says which."""

    text: str
    box: Box


@dataclass(frozen=True)
class Fault:
    """A line of an answer that is none of the grammar's; its number counts from 1."""

    number: int
    line: str
    cause: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.cause}, {self.line[:60]!r}; [x1,y1,x2,y2] text"


def write(spots: Iterable[Spot], image_size: tuple[int, int] | None = None) -> str:
    """The answer that says these texts and boxes, in their order.

    Boxes are in pixels of `image_size`, or in whole thousandths without it. White space around a text is not
    part of it; a line end inside it is written as BREAK.
    """
    return "\n".join(_written(number, spot, image_size) for number, spot in enumerate(spots, 1))


def parse(text: str) -> tuple[list[Spot], list[Fault]]:
    """The texts with their boxes in thousandths, and the lines that are none, which are not mended."""
    spots, faults = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        spot = _read(line.strip())
        if isinstance(spot, Spot):
            spots.append(spot)
        else:
            faults.append(Fault(number, line.strip(), spot))
    return spots, faults


def plain_text(text: str) -> str:
    """The texts of an answer without their boxes, a line each; lines that are no spots stand as they are."""
    lines = (line.strip() for line in text.split("\n"))
    read = ((line, _read(line)) for line in lines if line)
    return "\n".join(spot.text if isinstance(spot, Spot) else line for line, spot in read)


def pixel_box(box: Sequence[float], image_size: tuple[int, int]) -> list[int]:
    """A box in thousandths as pixels, at least one wide and high.

    A thousandth stands for its middle, for what lies in it was cut down to it. On images of up to 1,000
    pixels a side this gives the pixels back that `write` was given.
    """
    corners = []
    for low, high, side in zip(box[:2], box[2:], image_size, strict=True):
        first, last = (min(side, math.ceil((value + 0.5) * side / 1000 - 0.5)) for value in (low, high))
        first = min(first, side - 1)
        corners.append((first, max(last, first + 1)))
    (x1, x2), (y1, y2) = corners
    return [x1, y1, x2, y2]


def spots_as_json(answer: str, image_size: tuple[int, int]) -> dict:
    """An answer as plain lists: its lines with boxes in pixels, and its faults by line and cause."""
    spots, faults = parse(answer)
    return {
        "lines": [{"text": spot.text, "box": pixel_box(spot.box, image_size)} for spot in spots],
        "faults": [{"line": fault.number, "text": fault.line, "cause": fault.cause} for fault in faults],
    }


def reading_rows(boxes: Sequence[Sequence[float]]) -> list[list[int]]:
    """The places of these boxes, row by row, as a reader of left-to-right lines meets them.

    Words that stand close beside each other are a row. A row comes before those below it that share its
    columns, and before a column on its right, unless a row across both stands between them
    (Breuel, High Performance Document Layout Analysis, 2003).
    """
    rows = _rows(boxes)
    outlines = np.array([_around([boxes[index] for index in row]) for row in rows], float).reshape(-1, 4)
    return [rows[row] for row in _sorted(_before(outlines), outlines)]


def reading_order(boxes: Sequence[Sequence[float]]) -> list[int]:
    """`reading_rows` as one list of places."""
    return [index for row in reading_rows(boxes) for index in row]


def _written(number: int, spot: Spot, image_size: tuple[int, int] | None) -> str:
    text = _LINE_ENDS.sub("\n", spot.text.strip())
    if not text:
        raise AnswerError(f"spot {number}: no text in the box {list(spot.box)}; leave it out")
    if BREAK in text:
        raise AnswerError(f"spot {number}: {text[:60]!r} holds {BREAK}, which stands for a line end")
    if len(spot.box) != 4:
        raise AnswerError(f"spot {number}: box {list(spot.box)}; expected four numbers x1, y1, x2, y2")
    try:
        corners = prompts.thousandths(spot.box, image_size)
    except PromptError as error:
        raise AnswerError(f"spot {number}: {error}") from error
    text = BREAK.join(part.strip() for part in text.split("\n"))
    return f"[{','.join(map(str, corners))}] {text}"


def _read(line: str) -> Spot | str:
    """The spot of a line, or why it is none."""
    match = _LINE.fullmatch(line)
    if match is None:
        return "no box and text"
    box = tuple(map(int, match.groups()[:4]))
    text = (match[5] or "").strip().replace(BREAK, "\n")
    if max(box) > 1000:
        return "a box beyond 1000"
    if box[0] > box[2] or box[1] > box[3]:
        return "a box that is reversed"
    return Spot(text, box) if text.strip() else "a box without a text"


def _rows(boxes: Sequence[Sequence[float]]) -> list[list[int]]:
    """Places of boxes that stand close beside each other, from left to right."""
    rows: list[list[int]] = []
    for index in sorted(range(len(boxes)), key=lambda index: (boxes[index][0], boxes[index][1])):
        near = [row for row in rows if _continues(boxes[row[-1]], boxes[index])]
        if near:
            max(near, key=lambda row: boxes[row[-1]][2]).append(index)
        else:
            rows.append([index])
    return rows


def _continues(left: Sequence[float], right: Sequence[float]) -> bool:
    heights = left[3] - left[1], right[3] - right[1]
    shared = min(left[3], right[3]) - max(left[1], right[1])
    gap = right[0] - left[2]
    return shared >= SAME_LINE * min(heights) and -0.5 * min(heights) <= gap <= WORD_GAP * max(heights)


def _around(boxes: Sequence[Sequence[float]]) -> list[float]:
    return [pick(box[side] for box in boxes) for side, pick in enumerate((min, min, max, max))]


def _before(boxes: np.ndarray) -> np.ndarray:
    """(N, N): whether the row's box has to be read before the column's."""
    left, top, right, bottom = (boxes[:, side] for side in range(4))
    middle = (top + bottom) / 2
    above = middle[:, None] < middle[None, :]
    share = (left[:, None] < right[None, :]) & (left[None, :] < right[:, None])
    beside = right[:, None] <= left[None, :]
    for other in range(len(boxes)) if beside.any() else ():
        near = np.flatnonzero(share[other])
        higher, lower = middle[near] < middle[other], middle[near] > middle[other]
        between = (higher[:, None] & lower[None, :]) | (lower[:, None] & higher[None, :])
        beside[np.ix_(near, near)] &= ~between
    return (share & above) | beside


def _sorted(before: np.ndarray, boxes: np.ndarray) -> list[int]:
    """A topological order; where several are free, or none is, the uppermost, then the leftmost."""
    count = len(boxes)
    rank = np.empty(count, int)
    rank[np.lexsort((boxes[:, 0], boxes[:, 1]))] = np.arange(count)
    waiting = before.sum(axis=0)
    order: list[int] = []
    for _ in range(count):
        index = int(np.argmin(rank + count * (waiting > 0)))
        order.append(index)
        rank[index] = 2 * count  # behind all that are left
        waiting = waiting - before[index]
    return order

"""The text that a PDF page carries, as lines and paragraphs with boxes in pixels of its picture.

Works on pypdfium2 pages; knows nothing of files, records or who made the PDF.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from got_train.errors import DrawingError

if TYPE_CHECKING:
    import pypdfium2
    from PIL import Image

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels
CharBox = tuple[float, float, float, float]  # left, bottom, right, top in units of the page, which point up

LIST_MARK = re.compile(r"([\u2022\u2023\u25e6\u2043\u2219\u25aa\u25cf\u2013-]|\(?(\d{1,3}|[a-zA-Z])[.)]) ")
HYPHEN_MARKS = (0x02, 0xFFFE)  # pdfium's own words for a hyphen at the end of a line
FINE = 16  # parts of a pixel; pdfium gives whole device units only
INVISIBLE = 3  # PDF text render mode: the text layer under a scan
BAD_SHARE = 0.005  # of characters without a meaning; a page with more is refused, below they are left out


class TextLayerError(DrawingError):
    """A text layer that is not what a reader of the page sees; the message is the cause, fit for counting."""


@dataclass(frozen=True)
class Line:
    """One line of text with the box of its ink, the size of its font (an em) and its base line, in pixels."""

    text: str
    box: tuple[float, float, float, float]
    em: float
    base: float


@dataclass(frozen=True)
class Paragraph:
    """Lines that follow each other."""

    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)


def read_lines(page: pypdfium2.PdfPage, width: int, height: int) -> list[Line]:
    """The lines of a page drawn width x height pixels large, in the order of the text layer."""
    from pypdfium2 import raw

    layer = page.get_textpage()
    try:
        codes = [raw.FPDFText_GetUnicode(layer, index) for index in range(raw.FPDFText_CountChars(layer))]
        _check_codes(layer, codes)
        boxes = _char_boxes(layer, len(codes))
        runs = [part for run in _between_breaks(codes) for part in _split_at_gaps(run, boxes)]
        lines = [_line(page, layer, run, codes, boxes, width, height) for run in runs]
    finally:
        layer.close()
    inside = [line for line in lines if line.text and _inside(line.box, width, height)]
    for line in inside:
        x1, y1, x2, y2 = line.box
        if min(x1, y1) < -2 or x2 > width + 2 or y2 > height + 2:
            raise TextLayerError("text cut by the edge of the page")
    return inside


def group_paragraphs(lines: list[Line]) -> list[Paragraph]:
    """Consecutive lines of one size, column and pitch; indents, list marks and short last lines part them."""
    groups: list[list[Line]] = []
    usual = _usual_pitch(lines)
    for line in lines:
        if groups and _continues(groups[-1], line, usual):
            groups[-1].append(line)
        else:
            groups.append([line])
    return [Paragraph(tuple(group)) for group in groups]


def pixel_box(lines: tuple[Line, ...] | list[Line], width: int, height: int, pad: int = 1) -> Box:
    """The whole pixels around the ink of lines, with a pixel for its soft edge."""
    x1, y1 = (min(line.box[axis] for line in lines) for axis in (0, 1))
    x2, y2 = (max(line.box[axis] for line in lines) for axis in (2, 3))
    outside = int(x1) - pad, int(y1) - pad, int(-(-x2 // 1)) + pad, int(-(-y2 // 1)) + pad
    return max(0, outside[0]), max(0, outside[1]), min(width, outside[2]), min(height, outside[3])


def check_ink(image: Image.Image, lines: list[Line]) -> None:
    """Refuse a page on which a line of the text layer is not to be seen (white on white, or covered)."""
    grey = image.convert("L")
    for line in lines:
        darkest, lightest = grey.crop(pixel_box([line], *grey.size)).getextrema()
        if lightest - darkest < 24:
            raise TextLayerError("text that is not to be seen")


def _check_codes(layer: pypdfium2.PdfTextPage, codes: list[int]) -> None:
    from pypdfium2 import raw

    visible = [i for i, code in enumerate(codes) if code > 0x20 and code != 0xA0]
    if not visible:
        raise TextLayerError("no text")
    unmapped = sum(raw.FPDFText_HasUnicodeMapError(layer, i) == 1 for i in visible)
    meaningless = sum(_meaningless(code) for code in codes)
    if max(unmapped, meaningless) > BAD_SHARE * len(visible):
        raise TextLayerError("characters without a meaning (private use, replacement, unmapped)")


def _meaningless(code: int) -> bool:
    control = (code < 0x20 and code not in (*HYPHEN_MARKS, 0x09, 0x0A, 0x0D)) or 0x7F <= code < 0xA0
    return control or code in (0xFFFD, 0xFFFF) or 0xE000 <= code <= 0xF8FF or code >= 0xF0000


def _between_breaks(codes: list[int]) -> list[list[int]]:
    """The characters' places, parted at line breaks."""
    runs: list[list[int]] = [[]]
    for index, code in enumerate(codes):
        if code in (0x0A, 0x0D):
            runs.append([])
        else:
            runs[-1].append(index)
    return [run for run in runs if any(codes[index] > 0x20 for index in run)]


def _char_boxes(layer: pypdfium2.PdfTextPage, count: int) -> list[CharBox]:
    from pypdfium2 import raw

    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    boxes = []
    for index in range(count):
        raw.FPDFText_GetCharBox(layer, index, left, right, bottom, top)
        boxes.append((left.value, bottom.value, right.value, top.value))
    return boxes


def _em_and_base(layer: pypdfium2.PdfTextPage, index: int, ink: float) -> tuple[float, float]:
    """The font's size and base line of a character, in units of the page; ink: the line's."""
    from pypdfium2 import raw

    matrix = raw.FS_MATRIX()
    raw.FPDFText_GetMatrix(layer, index, matrix)
    size = raw.FPDFText_GetFontSize(layer, index) * math.hypot(matrix.c, matrix.d)
    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(layer, index, x, y)
    # a font may call any size 1 (Type 3 fonts do); dashes have little ink, brackets can have more than an em
    return (size if 0.6 * ink < size < 20 * ink else 1.3 * ink), y.value


def _has_ink(box: CharBox) -> bool:
    return box[2] > box[0] and box[3] > box[1]


def _split_at_gaps(run: list[int], boxes: list[CharBox]) -> list[list[int]]:
    """pdfium joins what stands on one row; columns and table cells part where the pen jumps far or back."""
    parts: list[list[int]] = [[]]
    last: CharBox | None = None
    inked = [boxes[index] for index in run if _has_ink(boxes[index])]
    gap = 1.7 * max((box[3] - box[1] for box in inked), default=0)  # about one em and a half
    for index in run:
        box = boxes[index]
        if _has_ink(box):
            if last is not None and (box[0] - last[2] > gap or box[2] < last[0] - gap):
                parts.append([])
            last = box
        parts[-1].append(index)
    return [part for part in parts if part]


def _line(
    page: pypdfium2.PdfPage,
    layer: pypdfium2.PdfTextPage,
    run: list[int],
    codes: list[int],
    boxes: list[CharBox],
    width: int,
    height: int,
) -> Line:
    from pypdfium2 import raw

    inked = [(index, boxes[index]) for index in run if _has_ink(boxes[index])]
    if not inked:
        return Line("", (0, 0, 0, 0), 0, 0)
    first = inked[0][0]
    if abs(raw.FPDFText_GetCharAngle(layer, first)) > 0.02:
        raise TextLayerError("rotated text")
    drawn_by = raw.FPDFText_GetTextObject(layer, first)
    if drawn_by and raw.FPDFTextObj_GetTextRenderMode(drawn_by) == INVISIBLE:
        raise TextLayerError("invisible text (the layer under a scan)")
    corners = [min(box[axis] for _, box in inked) for axis in (0, 1)]
    corners += [max(box[axis] for _, box in inked) for axis in (2, 3)]
    ink = corners[3] - corners[1]
    measures = [_em_and_base(layer, inked[number][0], ink) for number in (0, len(inked) // 2, -1)]
    em, base = (statistics.median(measure[axis] for measure in measures) for axis in (0, 1))
    box = _to_pixels(page, tuple(corners), width, height)
    _, upper, _, lower = _to_pixels(page, (corners[0], base, corners[2], base + em), width, height)
    return Line(_text([codes[index] for index in run]), box, lower - upper, lower)


def _to_pixels(
    page: pypdfium2.PdfPage, box: tuple[float, ...], width: int, height: int
) -> tuple[float, float, float, float]:
    from pypdfium2 import raw

    def point(x: float, y: float) -> tuple[float, float]:
        right, down = ctypes.c_int(), ctypes.c_int()
        raw.FPDF_PageToDevice(page, 0, 0, width * FINE, height * FINE, 0, x, y, right, down)
        return right.value / FINE, down.value / FINE

    one, other = point(box[0], box[1]), point(box[2], box[3])
    return min(one[0], other[0]), min(one[1], other[1]), max(one[0], other[0]), max(one[1], other[1])


def _text(codes: list[int]) -> str:
    text = "".join("-" if code in HYPHEN_MARKS else chr(code) for code in codes if not _meaningless(code))
    # characters beyond the first plane can come as two surrogates
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return " ".join(text.replace("\xad", "-").split())


def _inside(box: tuple[float, float, float, float], width: int, height: int) -> bool:
    return box[2] > 0 and box[3] > 0 and box[0] < width and box[1] < height


def _overlap(one: Line, other: Line) -> float:
    """How far two lines stand above each other, as a share of the narrower one."""
    narrower = min(one.box[2] - one.box[0], other.box[2] - other.box[0])
    return (min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])) / max(narrower, 1e-6)


def _usual_pitch(lines: list[Line]) -> float:
    """Ems from line to line inside the paragraphs of this page: the lower quartile over pairs of lines."""
    pitches = [
        (low.base - up.base) / low.em
        for up, low in itertools.pairwise(lines)
        if 0.9 < low.em / up.em < 1.1
        and _overlap(up, low) > 0.3
        and 0.8 < (low.base - up.base) / low.em < 2.2
    ]
    return sorted(pitches)[len(pitches) // 4] if pitches else 1.2


def _continues(block: list[Line], line: Line, usual_pitch: float) -> bool:
    """Whether a line belongs to the paragraph before it."""
    last = block[-1]
    pitch = (line.base - last.base) / line.em
    usual = (last.base - block[-2].base) / line.em if len(block) > 1 else usual_pitch
    if not 0.9 < line.em / last.em < 1.1 or not 0.5 < pitch < 1.15 * usual or _overlap(last, line) < 0.3:
        return False
    if LIST_MARK.match(line.text) and line.box[0] < block[0].box[0] + 0.5 * line.em:
        return False
    centred = abs((last.box[0] + last.box[2]) - (line.box[0] + line.box[2])) < line.em
    if len(block) > 1 and not centred and line.box[0] > last.box[0] + 0.8 * line.em:
        return False  # a first line, set in
    right = max(item.box[2] for item in [*block, line])
    first_word = (line.box[2] - line.box[0]) * len(line.text.split()[0]) / len(line.text)
    # the next word had room on the last line, so that line ended on purpose
    return not (last.text[-1] in ".!?:;" and right - last.box[2] > 1.3 * first_word + 0.5 * line.em)

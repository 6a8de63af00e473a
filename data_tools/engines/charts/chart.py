"""What a chart is before it is drawn: axes, series, places of texts, colours that can be told apart."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import produce
from data_tools.text import corpora

if TYPE_CHECKING:
    import numpy
    from PIL import Image


NONE = "None"  # OneChart's word for a text that the chart does not have
VIEW = 1024  # pixels of the square that the encoder sees
EM_PIXELS, CHINESE_EM_PIXELS = 11, 15  # of the view; smaller letters are not read
LEAST_DISTANCE = 0.25  # between the colours of two series, in the cube of red, green and blue
PIE_LEAST = 5  # ems: the radius of the smallest
PLOT = 0.7  # of a picture's side: about what titles and the numbers of the axes leave to the plot
WIDEST_EM = 0.0195  # of a picture's longer side: the largest letters
DIGIT, CAPITAL = 0.64, 1.0  # ems: about how wide a digit is, and a Chinese character
LINE = 1.35  # ems: a line of text with what parts it from the next
GAPS = (0.4, 0.9, 1.4)  # ems between a point and its label
SIDES = ("top", "bottom", "left", "right")
CONTRAST = 80  # of 255 greys, between a text and what lies behind it


@dataclass(frozen=True)
class Axis:
    """A scale whose numbers are whole multiples of 10 ** exponent; step is the grid on which values lie."""

    exponent: int
    low: int
    high: int
    tick: int
    step: int

    def text(self, number: int) -> str:
        return format(Decimal(number).scaleb(self.exponent), "f")

    def value(self, number: int) -> float:
        return float(Decimal(number).scaleb(self.exponent))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        numbers = range(self.low, self.high + 1, self.tick)
        short = self.tick % 10 == 0 and self.low % 10 == 0  # tick labels need one digit less than the values
        coarse = Axis(self.exponent + 1, 0, 0, 1, 1) if short and self.exponent < 0 else self
        scale = 10 if coarse is not self else 1
        return [(self.value(number), coarse.text(number // scale)) for number in numbers]

    def thinned(self, room: float) -> Axis:
        """With every second, fourth ... tick, so that the numbers fit beside each other in `room` ems."""
        axis = self
        while sum(ems(text) + 1 for _, text in axis.ticks) > room and axis.tick < axis.high - axis.low:
            axis = replace(axis, tick=2 * axis.tick)
        return axis


@dataclass(frozen=True)
class Series:
    """Numbers by category, or by number on the x axis of a scatter chart; the name is "" when not shown."""

    name: str
    keys: tuple[str, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Chart:
    """What a chart says; empty texts are not drawn. x_title stands under the axis that lies, as drawn."""

    kind: str
    title: str
    source: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    axis: Axis  # of the values
    x_axis: Axis | None = None  # of a scatter chart
    points: tuple[tuple[int, ...], ...] = ()  # the keys of a scatter chart as numbers
    horizontal: bool = False
    stacked: bool = False
    labels: bool = True  # whether every value is written beside its mark
    percent: bool = False
    source_prefix: str = ""

    def value_text(self, number: int) -> str:
        """As its label says it; a number that is read from the axis has no zeros after its last digit."""
        text = self.axis.text(number)
        if not self.labels and "." in text:
            text = text.rstrip("0").rstrip(".")
        return text + ("%" if self.percent else "")

    @property
    def source_line(self) -> str:
        return self.source_prefix + self.source if self.source else ""

    def texts(self) -> Counter[str]:
        """All that must be read in the picture, with how often."""
        words = [self.title, self.source_line, self.x_title, self.y_title]
        words += [series.name for series in self.series]
        words += list(self.series[0].keys) if self.kind != "scatter" else []
        if self.labels:
            words += [self.value_text(number) for series in self.series for number in series.numbers]
        return Counter(word for word in words if word)

    @property
    def least_em(self) -> float:
        """The font size of the smallest text as a share of the picture's longer side."""
        chinese = re.search(f"[{corpora.CHINESE}]", "".join(self.texts()))
        return (CHINESE_EM_PIXELS if chinese else EM_PIXELS) / VIEW

    def prefers(self, row: int, index: int) -> tuple[str, ...]:
        """Sides of a point for its label: above peaks and below valleys, where the line does not pass."""
        numbers = self.series[row].numbers
        near = numbers[max(0, index - 1) : index + 2]
        above = self.kind == "scatter" or numbers[index] * len(near) >= sum(near)
        return SIDES if above else ("bottom", "top", *SIDES[2:])

    def turned(self, width: int, height: int) -> tuple[int, int]:
        """The picture's sides, the longer one where bars with numbers stand beside each other."""
        if not self.labels or self.kind not in ("bar", "grouped"):
            return width, height
        low, high = sorted((width, height))
        return (low, high) if self.horizontal else (high, low)

    def target(self) -> str:
        """The dict of OneChart's form as JSON."""
        columns = [
            dict(zip(series.keys, map(self.value_text, series.numbers), strict=True))
            for series in self.series
        ]
        several = len(self.series) > 1
        values = (
            {s.name: texts for s, texts in zip(self.series, columns, strict=True)} if several else columns[0]
        )
        whole = {
            "title": self.title or NONE,
            "source": self.source or NONE,
            "x_title": self.x_title or NONE,
            "y_title": self.y_title or NONE,
            "values": values,
        }
        return json.dumps(whole, ensure_ascii=False)


class Placed(NamedTuple):
    """A drawn text: its middle, its width and height before it was turned, its angle; pixels and radians."""

    text: str
    middle: tuple[float, float]
    size: tuple[float, float]
    angle: float

    def corners(self) -> numpy.ndarray:
        import numpy

        half = numpy.array(self.size) / 2
        return numpy.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half @ self._turn().T + self.middle

    def crossed(self, segments: numpy.ndarray) -> bool:
        """Whether a segment ((x, y), (x, y)) touches the text, a pixel at its edge not counted."""
        import numpy

        if not len(segments):
            return False
        ends = (segments - self.middle) @ self._turn()  # in the text's own frame, so a box about 0
        half = numpy.maximum(numpy.array(self.size) / 2 - 1, 0.5)
        start, way = ends[:, 0], ends[:, 1] - ends[:, 0]
        way = numpy.where(abs(way) < 1e-9, 1e-9, way)
        enters, leaves = numpy.sort(numpy.stack([(-half - start) / way, (half - start) / way]), axis=0)
        first, last = numpy.maximum(enters.max(axis=1), 0), numpy.minimum(leaves.min(axis=1), 1)
        return bool((first <= last).any())

    def _turn(self) -> numpy.ndarray:
        import numpy

        cos, sin = numpy.cos(self.angle), numpy.sin(self.angle)
        return numpy.array([(cos, -sin), (sin, cos)])


@dataclass(frozen=True)
class Drawing:
    """A picture with all its texts and the outlines of its marks; the plot is x1, y1, x2, y2 in pixels."""

    image: Image.Image
    texts: list[Placed]
    marks: list[numpy.ndarray]  # lines through points (x, y)
    plot: tuple[float, float, float, float]
    em: float  # of the smallest text, in pixels
    look: dict[str, Any]


def ems(text: str) -> float:
    """About how wide a text is."""
    return sum(CAPITAL if ord(char) > 0x2E7F else DIGIT for char in text)


def beside(
    point: tuple[float, float], size: tuple[float, float], side: str, gap: float
) -> tuple[float, float]:
    """The middle of a text that stands so many pixels beside a point."""
    x, y = point
    across, down = gap + size[0] / 2, gap + size[1] / 2
    return {"top": (x, y - down), "bottom": (x, y + down), "left": (x - across, y), "right": (x + across, y)}[
        side
    ]


def free_sides(
    points: list[tuple[float, float]],
    sizes: list[tuple[float, float]],
    sides: list[tuple[str, ...]],
    taken: numpy.ndarray,
    em: float,
) -> list[tuple[str, float]]:
    """For every point the first of its sides, and the pixels away from it, where its text meets nothing."""
    import numpy

    chosen = []
    for point, size, preferred in zip(points, sizes, sides, strict=True):
        places = [(side, share * em) for share in GAPS for side in preferred]
        boxes = {position: Placed("", beside(point, size, *position), size, 0.0) for position in places}
        position = next((candidate for candidate in places if not boxes[candidate].crossed(taken)), places[0])
        taken = numpy.concatenate([taken, outline(boxes[position].corners())])
        chosen.append(position)
    return chosen


def segments(line: numpy.ndarray) -> numpy.ndarray:
    """The pieces (from, to) of a line through points."""
    import numpy

    return numpy.stack([line[:-1], line[1:]], axis=1)


def outline(corners: numpy.ndarray) -> numpy.ndarray:
    """The sides of a box, and its diagonals, which find a text that lies on another of the same size."""
    import numpy

    return numpy.stack([corners[[0, 1, 2, 3, 0, 1]], corners[[1, 2, 3, 0, 2, 3]]], axis=1)


def lightness(color: tuple[float, ...]) -> float:
    """Relative luminance of red, green and blue in 0..1: 0 black to 1 white."""
    red, green, blue = (part**2.2 for part in color[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def rgb(color: str) -> tuple[float, float, float]:
    """Red, green and blue in 0..1 of a colour such as #5470c6."""
    return tuple(int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))


def apart(colors: Iterable[tuple[float, ...]], count: int) -> list[tuple[float, ...]]:
    """The colours in their order, but first up to `count` that a legend can tell apart."""
    first: list[tuple[float, ...]] = []
    rest: list[tuple[float, ...]] = []
    for color in colors:
        far = all(math.dist(color[:3], other[:3]) >= LEAST_DISTANCE for other in first)
        (first if far and len(first) < count else rest).append(color)
    return first + rest


def check_colors(colors: list[tuple[float, ...]]) -> None:
    """Rejects colours (red, green and blue in 0..1) that a legend cannot tell apart."""
    pairs = [(one, other) for index, one in enumerate(colors) for other in colors[:index]]
    if any(math.dist(one[:3], other[:3]) < LEAST_DISTANCE for one, other in pairs):
        raise produce.Rejected("two series in like colours")


def text_color(fill: str) -> str:
    """Black or white, whichever stands out more from a colour such as #5470c6."""
    return "#000000" if lightness(rgb(fill)) > 0.18 else "#ffffff"

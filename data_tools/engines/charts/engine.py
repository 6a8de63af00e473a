"""Charts as records of the task format, told as a dict of OneChart's form: bar, line, pie, scatter, grouped.

What a chart says and what must hold for its picture; how it is drawn is the matter of charts_matplotlib and
charts_echarts.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import produce
from data_tools.drawing import degrade
from data_tools.drawing.fonts import missing
from data_tools.engines import scene
from data_tools.engines.lines import DEFAULT_FONTS
from data_tools.text import corpora, phrases

if TYPE_CHECKING:
    import numpy
    from PIL import Image

KINDS = ("bar", "line", "pie", "scatter", "grouped")
LOOKS = ("matplotlib", "echarts")
NONE = "None"  # OneChart's word for a text that the chart does not have
VIEW = 1024  # pixels of the square that the encoder sees
STEP_PIXELS = 4  # of the view; values on an axis must lie this far apart to be told apart
EM_PIXELS, CHINESE_EM_PIXELS = 11, 15  # of the view; smaller letters are not read
LEAST_DISTANCE = 0.25  # between the colours of two series, in the cube of red, green and blue
LEAST_POINTS = 3  # of a series in a scatter chart
PIE_LEAST = 5  # ems: the radius of the smallest
LEAST_SLICE = 0.06  # of a pie, so that its label has room
PLOT = 0.7  # of a picture's side: about what titles and the numbers of the axes leave to the plot
WIDEST_EM = 0.0195  # of a picture's longer side: the largest letters
DIGIT, CAPITAL = 0.64, 1.0  # ems: about how wide a digit is, and a Chinese character
LINE = 1.35  # ems: a line of text with what parts it from the next
GAPS = (0.4, 0.9, 1.4)  # ems between a point and its label
SIDES = ("top", "bottom", "left", "right")
CONTRAST = 80  # of 255 greys, between a text and what lies behind it
UNITS = ("%", "kg", "m", "km", "tons", "hours", "days", "USD", "thousand", "million", "km/h", "MB")
CHINESE_UNITS = (
    "%", "\u4e07\u5143", "\u4ebf\u5143", "\u4eba", "\u516c\u65a4", "\u5c0f\u65f6", "\u5343\u514b",
    "\u4e07\u4eba", "\u7c73",
)  # fmt: skip
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
CHINESE_MONTHS = tuple(f"{month}\u6708" for month in range(1, 13))


class ChartError(ValueError):
    """A chart that cannot be drawn as asked for."""


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

    def prefers(self, row: int, place: int) -> tuple[str, ...]:
        """Sides of a point for its label: above peaks and below valleys, where the line does not pass."""
        numbers = self.series[row].numbers
        near = numbers[max(0, place - 1) : place + 2]
        above = self.kind == "scatter" or numbers[place] * len(near) >= sum(near)
        return SIDES if above else ("bottom", "top", *SIDES[2:])

    def turned(self, width: int, height: int) -> tuple[int, int]:
        """The picture's sides, the longer one where bars with numbers stand beside each other."""
        if not self.labels or self.kind not in ("bar", "grouped"):
            return width, height
        low, high = sorted((width, height))
        return (low, high) if self.horizontal else (high, low)

    def target(self) -> str:
        """The dict of OneChart's form as JSON."""
        told = [
            dict(zip(series.keys, map(self.value_text, series.numbers), strict=True))
            for series in self.series
        ]
        several = len(self.series) > 1
        values = {s.name: each for s, each in zip(self.series, told, strict=True)} if several else told[0]
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

    found = []
    for point, size, wanted in zip(points, sizes, sides, strict=True):
        places = [(side, share * em) for share in GAPS for side in wanted]
        boxes = {place: Placed("", beside(point, size, *place), size, 0.0) for place in places}
        place = next((each for each in places if not boxes[each].crossed(taken)), places[0])
        taken = numpy.concatenate([taken, outline(boxes[place].corners())])
        found.append(place)
    return found


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
    return tuple(int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))


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
    pairs = [(one, other) for place, one in enumerate(colors) for other in colors[:place]]
    if any(math.dist(one[:3], other[:3]) < LEAST_DISTANCE for one, other in pairs):
        raise produce.Rejected("two series in like colours")


def text_color(fill: str) -> str:
    """Black or white, whichever stands out more from a colour such as #5470c6."""
    return "#000000" if lightness(rgb(fill)) > 0.18 else "#ffffff"


def check(chart: Chart, drawing: Drawing) -> None:
    """Rejects a picture in which not everything of the chart can be read."""
    import numpy

    width, height = drawing.image.size
    if drawing.em < chart.least_em * max(width, height):
        raise produce.Rejected("letters too small")
    if chart.texts() - Counter(piece for placed in drawing.texts for piece in _pieces(chart, placed.text)):
        raise produce.Rejected("a text is not drawn")
    corners = [placed.corners() for placed in drawing.texts]
    everywhere = numpy.concatenate(corners)
    if everywhere.min() < 1 or (everywhere > (width - 1, height - 1)).any():
        raise produce.Rejected("a text leaves the picture")
    _check_ink(drawing)
    marks = numpy.concatenate([segments(line) for line in drawing.marks])
    outlines = [outline(box) for box in corners]
    for place, placed in enumerate(drawing.texts):
        if placed.crossed(marks):
            raise produce.Rejected("a text lies across a mark")
        others = outlines[place + 1 :]
        if others and placed.crossed(numpy.concatenate(others)):
            raise produce.Rejected("two texts overlap")
    _check_axes(chart, drawing)


def _check_ink(drawing: Drawing) -> None:
    """Every text stands out from what lies behind it; fonts may have empty bitmaps for a size."""
    import numpy

    grey = numpy.asarray(drawing.image.convert("L")).astype(int)
    for placed in drawing.texts:
        (x1, y1), (x2, y2) = (end(placed.corners(), axis=0).astype(int) for end in (numpy.min, numpy.max))
        if numpy.ptp(grey[y1 : y2 + 1, x1 : x2 + 1]) < CONTRAST:
            raise produce.Rejected("a text is hardly seen")


def _pieces(chart: Chart, text: str) -> list[str]:
    """What a drawn text tells; some pies write name and number in one."""
    name, found, number = text.rpartition(": ")
    return [name, number] if found and chart.kind == "pie" and name in chart.series[0].keys else [text]


def _check_axes(chart: Chart, drawing: Drawing) -> None:
    """Values without labels lie far enough apart on their axis to be read from it."""
    width, height = drawing.image.size
    across, down = (drawing.plot[2] - drawing.plot[0]) / width, (drawing.plot[3] - drawing.plot[1]) / height
    read = [] if chart.labels else [(chart.axis, across if chart.horizontal else down)]
    read += [(chart.x_axis, across)] if chart.x_axis else []
    for axis, share in read:
        if share * VIEW / ((axis.high - axis.low) / axis.step) < STEP_PIXELS:
            raise produce.Rejected("values finer than the axis shows")


# What a chart says, at random.


def random_chart(
    kinds: tuple[str, ...],
    documents: tuple[corpora.Document, ...],
    rng: numpy.random.Generator,
    *,
    chinese: bool = False,
) -> Chart:
    """A chart of one of the kinds; words of the documents, numbers of a few shapes on a round scale."""
    kind = kinds[int(rng.integers(len(kinds)))]
    name = functools.partial(phrases.name, documents, rng=rng)
    labels = kind == "pie" or bool(rng.random() < {"line": 0.4, "scatter": 0.25}.get(kind, 0.6))
    several = {"grouped": (2, 4), "line": (1, 3), "scatter": (1, 2)}.get(kind, (1, 1))
    count = 1 if rng.random() < 0.4 else int(rng.integers(several[0], several[1] + 1))
    names = phrases.distinct(lambda: name((1, 2)), max(count, several[0])) if several[1] > 1 else [""]
    names = [""] if len(names) == 1 else names
    axis = random_axis(labels, kind, rng)
    horizontal = kind in ("bar", "grouped") and bool(rng.random() < 0.35)
    words = _words(name, kind, horizontal, chinese, rng)
    flags = {"horizontal": horizontal, "labels": labels}
    if kind == "scatter":
        return _scatter(words, names, axis, flags, rng)
    keys = _categories(documents, kind, chinese, rng)
    if kind == "pie":
        return _pie(words, keys, rng)
    flags["stacked"] = kind == "grouped" and labels and axis.low == 0 and bool(rng.random() < 0.3)
    keys = keys[: _most_keys(axis, len(names), horizontal, flags["stacked"])] if labels else keys
    if kind == "line":
        numbers = _lines(axis, len(keys), len(names), rng)
    else:
        most = (axis.high - axis.low) // len(names) + axis.low if flags["stacked"] else axis.high
        least = 0.3 if flags["stacked"] else 0.04  # a number stands in each piece of a stack
        numbers = [_numbers(axis, len(keys), most, rng, least) for _ in names]
    series = tuple(Series(each, keys, row) for each, row in zip(names, numbers, strict=True))
    return Chart(kind, series=series, axis=axis, **words, **flags)


def _most_keys(axis: Axis, series: int, horizontal: bool, stacked: bool) -> int:
    """So many groups of bars have room for their numbers in a picture of equal sides, two at least."""
    widest = max(ems(axis.text(number)) for number in (axis.low, axis.high - axis.tick)) + 0.3
    bars = PLOT / WIDEST_EM / (LINE if horizontal else widest)
    return max(2, int(bars / (1 if stacked or series == 1 else 1.2 * series)))


def _lines(axis: Axis, count: int, lines: int, rng: numpy.random.Generator) -> list[tuple[int, ...]]:
    """Numbers of several lines whose points do not fall together."""
    found: list[tuple[int, ...]] = []
    for _ in range(phrases.TRIES):
        numbers = _numbers(axis, count, axis.high, rng)
        if not any(_near(column, axis) for column in zip(*found, numbers, strict=True)):
            found.append(numbers)
        if len(found) == lines:
            return found
    raise produce.Rejected("points of two lines fall together")


def random_axis(labels: bool, kind: str, rng: numpy.random.Generator) -> Axis:
    """A scale of 4 to 8 ticks, 1, 2 or 5 powers of ten apart; values without labels lie on their tenths."""
    mantissa, power = (1, 2, 5)[int(rng.integers(3))], int(rng.integers(-1, 5))
    ticks = int(rng.integers(4, 9))
    finer = 1 + int(labels and rng.random() < 0.3)  # digits after that of the tick
    tick = mantissa * 10**finer
    below = 0
    if rng.random() < 0.1 and kind in ("bar", "line"):
        below = -int(rng.integers(1, 3))
    elif kind in ("line", "scatter") and rng.random() < 0.4:
        below = int(rng.integers(1, 20))
    return Axis(power - finer, below * tick, (below + ticks) * tick, tick, 1 if labels else mantissa)


def _words(
    name: Callable[[tuple[int, int]], str],
    kind: str,
    horizontal: bool,
    chinese: bool,
    rng: numpy.random.Generator,
) -> dict[str, str]:
    """Titles, some with a unit for the values, and the source."""
    titles = [name((1, 2)) if rng.random() < 0.7 else "" for _ in range(2)]
    units = CHINESE_UNITS if chinese else UNITS
    if rng.random() < 0.5:
        unit = units[int(rng.integers(len(units)))]
        titles[1] = f"{titles[1]} ({unit})" if titles[1] else unit
    prefixes = ("\u6765\u6e90: ", "\u6570\u636e\u6765\u6e90: ") if chinese else ("Source: ", "Data: ")
    return {
        "title": name((3, 8)) if rng.random() < 0.85 else "",
        "source": name((1, 4)) if rng.random() < 0.4 else "",
        "x_title": "" if kind == "pie" else titles[horizontal],
        "y_title": "" if kind == "pie" else titles[not horizontal],
        "source_prefix": prefixes[int(rng.integers(2))],
    }


def _categories(
    documents: tuple[corpora.Document, ...], kind: str, chinese: bool, rng: numpy.random.Generator
) -> tuple[str, ...]:
    """Names, or (not in a pie) years, months or quarters in order."""
    count = int(rng.integers(3, {"pie": 9, "line": 13, "grouped": 8}.get(kind, 13)))
    random = rng.random()
    if kind == "pie" or random < 0.6:
        return tuple(phrases.distinct(lambda: phrases.name(documents, (1, 2), rng), count))
    if random < 0.8:
        first, apart = int(rng.integers(1950, 2012)), int(rng.integers(1, 3))
        return tuple(str(first + apart * place) for place in range(count))
    if random < 0.9:
        months = CHINESE_MONTHS if chinese else MONTHS
        first = int(rng.integers(12 - count + 1))
        return months[first : first + count]
    year = int(rng.integers(1990, 2024))
    return tuple(f"{year + place // 4} Q{place % 4 + 1}" for place in range(count))


def _numbers(
    axis: Axis, count: int, most: int, rng: numpy.random.Generator, least: float = 0.04
) -> tuple[int, ...]:
    """Numbers of one shape (even, rising or falling, wandering, one leader), none at an end of the scale."""
    import numpy

    shape = int(rng.integers(4))
    noise = rng.random(count)
    if shape == 0:
        shares = noise
    elif shape == 1:
        shares = 0.75 * numpy.linspace(0, 1, count) + 0.25 * noise
        shares = shares[:: 1 if rng.random() < 0.6 else -1]
    elif shape == 2:
        walk = numpy.cumsum(noise - 0.5)
        shares = (walk - walk.min()) / max(1e-9, float(numpy.ptp(walk)))
    else:
        shares = 0.45 * noise
        shares[int(rng.integers(count))] = 0.9
    steps = (most - axis.low) / axis.step
    numbers = axis.low + axis.step * numpy.rint(steps * (least + (0.88 - least) * shares)).astype(int)
    # a bar of height 0 is no bar
    return tuple(int(number) if number else axis.step for number in numbers)


def _near(numbers: tuple[int, ...], axis: Axis) -> bool:
    ordered = sorted(numbers)
    return any(
        high - low < 0.025 * (axis.high - axis.low) for low, high in zip(ordered, ordered[1:], strict=False)
    )


def _scatter(
    words: dict[str, str], names: list[str], axis: Axis, flags: dict[str, bool], rng: numpy.random.Generator
) -> Chart:
    x_axis = random_axis(False, "scatter", rng)
    steps = (x_axis.high - x_axis.low) // x_axis.step
    series, points = [], []
    taken: list[tuple[float, float]] = []
    for each in names:
        count = int(rng.integers(4, 9 if flags["labels"] else 13))
        places = sorted(rng.choice(range(2, steps - 1), min(count, steps - 3), replace=False).tolist())
        numbers = _numbers(axis, len(places), axis.high, rng)
        kept = []
        for x, y in zip((x_axis.low + x_axis.step * place for place in places), numbers, strict=True):
            share = (x / (x_axis.high - x_axis.low), y / (axis.high - axis.low))
            if all(abs(share[0] - other[0]) + abs(share[1] - other[1]) >= 0.04 for other in taken):
                kept.append((x, y))  # points that fall together are one
                taken.append(share)
        xs, ys = zip(*kept, strict=True) if kept else ((), ())
        if len(xs) < LEAST_POINTS:
            raise produce.Rejected("too few points apart from each other")
        series.append(Series(each, tuple(map(x_axis.text, xs)), ys))
        points.append(xs)
    return Chart(
        "scatter", series=tuple(series), axis=axis, x_axis=x_axis, points=tuple(points), **words, **flags
    )


def _pie(words: dict[str, str], keys: tuple[str, ...], rng: numpy.random.Generator) -> Chart:
    """Shares of at least 5 %; either written as percents, which add up to 100 exactly, or as amounts."""
    shares = LEAST_SLICE + (1 - LEAST_SLICE * len(keys)) * rng.dirichlet([2.0] * len(keys))
    percent = bool(rng.random() < 0.6)
    exponent = -int(rng.integers(2)) if percent else int(rng.integers(-1, 3))
    whole = 100 * 10**-exponent if percent else int(rng.integers(60, 5000))
    numbers = [max(1, round(share * whole)) for share in shares]
    numbers[numbers.index(max(numbers))] += (whole - sum(numbers)) if percent else 0
    axis = Axis(exponent, 0, whole, 1, 1)
    return Chart("pie", series=(Series("", keys, tuple(numbers)),), axis=axis, percent=percent, **words)


# Records.


@dataclass(frozen=True)
class ChartEngine:
    """Charts as records of the task format, one a picture."""

    languages: tuple[scene.Language, ...]
    kinds: tuple[str, ...] = KINDS
    looks: tuple[str, ...] = ("matplotlib",)
    degraded: float = 0.0  # share of the pictures
    name: str = "charts"
    attempts: int = 100

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        language = self.languages[int(rng.integers(len(self.languages)))]
        chart = random_chart(self.kinds, language.documents, rng, chinese=language.name == "zh")
        written = "".join(chart.texts()) + "-.%0123456789"
        able = [font for font in language.fonts if not missing(font, written)]
        if not able:
            raise produce.Rejected("no font has all characters")
        font = able[int(rng.integers(len(able)))]
        look = self.looks[int(rng.integers(len(self.looks)))]
        drawing = _draw(look, chart, font, rng)
        check(chart, drawing)
        image, damage = degrade.apply(drawing.image, rng, self.degraded, drawing.em)
        damage = {"degrade": damage} if damage else {}
        meta = {"kind": chart.kind, "drawn_by": look, "font": font.stem, "value_labels": chart.labels}
        picture = produce.Picture(f"{index:08d}.png", produce.encode(image, "png"))
        name = f"{self.name}-{index:08d}"
        return [produce.Row(name, (picture,), "format", chart.target(), meta=meta | drawing.look | damage)]


def _draw(look: str, chart: Chart, font: Path, rng: numpy.random.Generator) -> Drawing:
    if look == "echarts":
        from . import echarts_backend

        return echarts_backend.draw(chart, font, rng)
    from . import matplotlib_backend

    return matplotlib_backend.draw(chart, font, rng)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="python -m data_tools.engines.charts.engine",
        description="Draw charts and write them as records of the task format.",
    )
    produce.add_arguments(options, shard_pages=250, counted="charts")
    scene.add_language_arguments(options, DEFAULT_FONTS)
    options.add_argument("--kinds", type=produce.one_of(KINDS), default=KINDS, help="(default: all)")
    options.add_argument(
        "--looks", type=produce.one_of(LOOKS), default=("matplotlib",), help="(default: matplotlib)"
    )
    degrade.add_arguments(options)
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    chosen = scene.languages(args)
    engine = ChartEngine(chosen, args.kinds, args.looks, args.degrade, name=f"charts-{args.split}")
    fonts = {each.name: [font.stem for font in each.fonts] for each in chosen}
    return produce.write(engine, args, args.count, fonts=fonts, drawn_by=_versions(args.looks))


def _versions(looks: tuple[str, ...]) -> dict[str, str]:
    known = {"matplotlib": lambda: metadata.version("matplotlib"), "echarts": _echarts_version}
    return {look: known[look]() for look in looks}


def _echarts_version() -> str:
    from data_tools.drawing import renderers

    return json.loads((renderers.find_package("echarts") / "package.json").read_text())["version"]


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    return produce.run(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())

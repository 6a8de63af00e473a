"""Charts as records of the task format, told as a dict of OneChart's form: bar, line, pie, scatter, grouped.

What a chart says and what must hold for its picture; how it is drawn is the matter of charts_matplotlib and
charts_echarts.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools import arguments, produce
from data_tools.drawing import degrade
from data_tools.drawing.fonts import missing
from data_tools.engines import scene
from data_tools.engines.lines import DEFAULT_FONTS
from data_tools.text import corpora, phrases

from .chart import CONTRAST, LINE, PLOT, VIEW, WIDEST_EM, Axis, Chart, Drawing, Series, ems, outline, segments

if TYPE_CHECKING:
    import numpy

KINDS = ("bar", "line", "pie", "scatter", "grouped")
LOOKS = ("matplotlib", "echarts")
STEP_PIXELS = 4  # of the view; values on an axis must lie this far apart to be told apart
LEAST_POINTS = 3  # of a series in a scatter chart
LEAST_SLICE = 0.06  # of a pie, so that its label has room
UNITS = ("%", "kg", "m", "km", "tons", "hours", "days", "USD", "thousand", "million", "km/h", "MB")
CHINESE_UNITS = (
    "%", "\u4e07\u5143", "\u4ebf\u5143", "\u4eba", "\u516c\u65a4", "\u5c0f\u65f6", "\u5343\u514b",
    "\u4e07\u4eba", "\u7c73",
)  # fmt: skip
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
CHINESE_MONTHS = tuple(f"{month}\u6708" for month in range(1, 13))


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
    for index, placed in enumerate(drawing.texts):
        if placed.crossed(marks):
            raise produce.Rejected("a text lies across a mark")
        others = outlines[index + 1 :]
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
    name, is_pair, number = text.rpartition(": ")
    return [name, number] if is_pair and chart.kind == "pie" and name in chart.series[0].keys else [text]


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
    series = tuple(Series(title, keys, row) for title, row in zip(names, numbers, strict=True))
    return Chart(kind, series=series, axis=axis, **words, **flags)


def _most_keys(axis: Axis, series: int, horizontal: bool, stacked: bool) -> int:
    """So many groups of bars have room for their numbers in a picture of equal sides, two at least."""
    widest = max(ems(axis.text(number)) for number in (axis.low, axis.high - axis.tick)) + 0.3
    bars = PLOT / WIDEST_EM / (LINE if horizontal else widest)
    return max(2, int(bars / (1 if stacked or series == 1 else 1.2 * series)))


def _lines(axis: Axis, count: int, lines: int, rng: numpy.random.Generator) -> list[tuple[int, ...]]:
    """Numbers of several lines whose points do not fall together."""
    result: list[tuple[int, ...]] = []
    for _ in range(phrases.TRIES):
        numbers = _numbers(axis, count, axis.high, rng)
        if not any(_near(column, axis) for column in zip(*result, numbers, strict=True)):
            result.append(numbers)
        if len(result) == lines:
            return result
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
        return tuple(str(first + apart * index) for index in range(count))
    if random < 0.9:
        months = CHINESE_MONTHS if chinese else MONTHS
        first = int(rng.integers(12 - count + 1))
        return months[first : first + count]
    year = int(rng.integers(1990, 2024))
    return tuple(f"{year + index // 4} Q{index % 4 + 1}" for index in range(count))


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
    for name in names:
        count = int(rng.integers(4, 9 if flags["labels"] else 13))
        places = sorted(rng.choice(range(2, steps - 1), min(count, steps - 3), replace=False).tolist())
        numbers = _numbers(axis, len(places), axis.high, rng)
        kept = []
        for x, y in zip((x_axis.low + x_axis.step * index for index in places), numbers, strict=True):
            share = (x / (x_axis.high - x_axis.low), y / (axis.high - axis.low))
            if all(abs(share[0] - other[0]) + abs(share[1] - other[1]) >= 0.04 for other in taken):
                kept.append((x, y))  # points that fall together are one
                taken.append(share)
        xs, ys = zip(*kept, strict=True) if kept else ((), ())
        if len(xs) < LEAST_POINTS:
            raise produce.Rejected("too few points apart from each other")
        series.append(Series(name, tuple(map(x_axis.text, xs)), ys))
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
    degrade: float = 0.0  # share of the pictures
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
        image, damage = degrade.apply(drawing.image, rng, self.degrade, drawing.em)
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
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.charts.engine",
        description="Draw charts and write them as records of the task format.",
    )
    arguments.add_arguments(options, shard_pages=250, counted="charts")
    scene.add_language_arguments(options, DEFAULT_FONTS)
    options.add_argument("--kinds", type=arguments.one_of(KINDS), default=KINDS, help="(default: all)")
    options.add_argument(
        "--looks", type=arguments.one_of(LOOKS), default=("matplotlib",), help="(default: matplotlib)"
    )
    degrade.add_arguments(options)
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    chosen, without = scene.languages(args)
    drawn_by, missing_looks = _versions(args.looks, args.strict)
    engine = ChartEngine(
        languages=chosen,
        kinds=args.kinds,
        looks=tuple(drawn_by),
        degrade=args.degrade,
        name=f"charts-{args.split}",
    )
    fonts = {language.name: [font.stem for font in language.fonts] for language in chosen}
    return produce.write(
        engine, args, args.count, {**without, **missing_looks}, fonts=fonts, drawn_by=drawn_by
    )


def _versions(looks: tuple[str, ...], strict: bool) -> tuple[dict[str, str], dict[str, str]]:
    """The version of each look's program, and the looks left out, as theirs is not installed."""
    from data_tools.drawing.renderers import RendererError

    known = {"matplotlib": lambda: metadata.version("matplotlib"), "echarts": _echarts_version}
    versions, without = {}, {}
    for look in looks:
        try:
            versions[look] = known[look]()
        except RendererError as error:
            if strict or len(looks) == 1:
                raise
            without[f"the look {look}"] = str(error)
    return versions, without


def _echarts_version() -> str:
    from data_tools.drawing import renderers

    return json.loads((renderers.find_package("echarts") / "package.json").read_text())["version"]


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())

"""Charts drawn by echarts as pyecharts asks for them: its palettes, places and defaults.

Knows how a chart looks, not what it says; the drawing itself is done by node/charts.mjs.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.drawing import renderers
from got_train.errors import DrawingError

from .chart import (
    LINE,
    PIE_LEAST,
    PLOT,
    Chart,
    Drawing,
    Placed,
    apart,
    check_colors,
    ems,
    free_sides,
    lightness,
    rgb,
    segments,
    text_color,
)

if TYPE_CHECKING:
    import numpy

SCRIPT, PACKAGES = "charts.mjs", ("echarts", "@napi-rs/canvas")
# the colour series of pyecharts' themes: of version 2, of version 1, light, macarons, vintage, roma
PALETTES = {
    "white": "5470c6 91cc75 fac858 ee6666 73c0de 3ba272 fc8452 9a60b4 ea7ccc",
    "first": "c23531 2f4554 61a0a8 d48265 749f83 ca8622 bda29a 6e7074 546570",
    "light": "37a2da fb7293 ffdb5c 32c5e9 ff9f7f 9fe6b8 e062ae 67e0e3 8378ea",
    "macarons": "2ec7c9 b6a2de 5ab1ef ffb980 d87a80 8d98b3 e5cf0d 97b552 95706d",
    "vintage": "d87c7c 919e8b d7ab82 6e7074 61a0a8 efa18d 787464 cc7e63 724e58",
    "roma": "e01f54 001852 b8d2c7 c6b38e a4d8c2 f3d999 d3758f dcc392 2e4783",
}
DARK, LIGHT = "#100c2a", "#ffffff"
SYMBOLS = ("emptyCircle", "circle", "rect", "triangle", "diamond")


@dataclass(frozen=True)
class Look:
    """How one chart is drawn; sizes in pixels."""

    width: int
    height: int
    em: float
    palette: str
    first: int  # colour of the palette
    dark: bool
    grid: bool
    legend: str
    title_side: str
    names_at_end: bool  # of the axes, as pyecharts does it; else beside their middle
    gap: str  # between bars
    inside: bool
    smooth: bool
    area: bool
    symbol: str
    rotation: int
    many_colors: bool
    start: int


def draw(chart: Chart, font: Path, rng: numpy.random.Generator) -> Drawing:
    """The chart in a look of its own."""
    from PIL import Image

    look = random_look(chart, rng)
    check_colors([rgb(color) for color in _palette(chart, look)[: len(chart.series)]])
    question = {"option": option(chart, look), "width": look.width, "height": look.height, "font": str(font)}
    answer = renderers.node(SCRIPT, *PACKAGES).ask(question)
    if "error" in answer:
        raise DrawingError(f"echarts: {answer['error']}; an option that it can draw")
    import numpy

    image = Image.open(io.BytesIO(base64.b64decode(answer["png"]))).convert("RGB")
    texts = [_placed(text["text"], numpy.array(text["corners"])) for text in answer["texts"]]
    marks = [numpy.array(mark) for mark in answer["marks"]]
    plot = answer["plot"] or (0, 0, look.width, look.height)
    if answer["plot"]:
        x1, y1, x2, y2 = plot
        marks.append(numpy.array([(x1, y1), (x1, y2), (x2, y2)]))  # the two axes
    return Drawing(image, texts, marks, tuple(plot), 0.9 * look.em, asdict(look))


def random_look(chart: Chart, rng: numpy.random.Generator) -> Look:
    """A look that suits the chart."""
    width, height = chart.turned(int(rng.integers(640, 1281)), int(rng.integers(480, 901)))
    random = rng.random(10).tolist()
    names = list(PALETTES)
    return Look(
        width, height,
        em=round((1.12 * chart.least_em + 0.0075 * random[0]) * max(width, height), 1),
        palette=names[int(rng.integers(len(names)))],
        first=int(rng.integers(9)) if random[1] < 0.3 else 0,
        dark=random[2] < 0.1,
        grid=random[3] < 0.75 or not chart.labels,
        legend=("top", "bottom", "right")[int(rng.integers(3))],
        title_side="left" if random[4] < 0.6 else "center",
        names_at_end=random[5] < 0.5,
        gap=f"{int(rng.integers(10, 60))}%",
        inside=chart.stacked or random[6] < 0.3,
        smooth=random[7] < 0.3 and not chart.labels,
        area=random[7] > 0.8 and len(chart.series) == 1,
        symbol=SYMBOLS[int(rng.integers(len(SYMBOLS)))],
        rotation=(30, 45, 90)[int(rng.integers(3))],
        many_colors=len(chart.series) == 1 and random[8] < 0.2,
        start=int(360 * random[9]),
    )  # fmt: skip


def option(chart: Chart, look: Look) -> dict[str, Any]:
    """The whole option, as plain as JSON."""
    ink = _ink(look)
    kinds = {"pie": _pie, "line": _line, "scatter": _scatter}
    result = {
        "color": _palette(chart, look),
        "backgroundColor": DARK if look.dark else LIGHT,
        "textStyle": {"color": ink, "fontSize": look.em},
        "title": _titles(chart, look, ink),
        "series": kinds.get(chart.kind, _bars)(chart, look),
    }
    if len(chart.series) > 1:
        result["legend"] = _legend(chart, look, ink)
    if chart.kind != "pie":
        result |= _axes(chart, look, ink)
    return result


def _placed(text: str, corners: numpy.ndarray) -> Placed:
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    size = (math.hypot(*across), math.hypot(*down))
    return Placed(text, tuple(corners.mean(axis=0)), size, math.atan2(across[1], across[0]))


def _palette(chart: Chart, look: Look) -> list[str]:
    """The theme's colours, those of the series unlike each other."""
    colors = ["#" + color for color in PALETTES[look.palette].split()]
    turned = colors[look.first :] + colors[: look.first]
    names = {rgb(color): color for color in turned if not look.dark or lightness(rgb(color)) > 0.05}
    return [names[color] for color in apart(names, len(chart.series))]


def _titles(chart: Chart, look: Look, ink: str) -> list[dict[str, Any]]:
    side = {"left": look.em if look.title_side == "left" else "center"}
    style = {"color": ink, "fontSize": round(1.25 * look.em, 1), "fontWeight": "normal"}
    small = style | {"fontSize": round(0.9 * look.em, 1)}
    titles = [{"text": chart.title, "top": 0.5 * look.em, **side, "textStyle": style}] if chart.title else []
    if chart.source:
        titles.append({"text": chart.source_line, "bottom": 0, "left": look.em, "textStyle": small})
    return titles


def _legend(chart: Chart, look: Look, ink: str) -> dict[str, Any]:
    places = {
        "top": {"top": 2.6 * look.em if chart.title else 0.5 * look.em, "left": "center"},
        "bottom": {"bottom": 2 * look.em if chart.source else 0.3 * look.em, "left": "center"},
        "right": {"right": 0.5 * look.em, "top": "middle", "orient": "vertical"},
    }
    names = [series.name for series in chart.series]
    return {"data": names, "textStyle": {"color": ink, "fontSize": look.em}, **places[look.legend]}


def _axes(chart: Chart, look: Look, ink: str) -> dict[str, Any]:
    em = look.em
    numbers, names = _scale(chart.axis, look, ink, lies=chart.horizontal), _names(chart, look, ink)
    x, y = (numbers, names) if chart.horizontal else (names, numbers)
    if chart.x_axis:
        x = _scale(chart.x_axis, look, ink, lies=True)
        x["axisLabel"]["margin"] = 8 + 0.4 * em  # so that the corner holds the numbers of both axes
    for axis, title in ((x, chart.x_title), (y, chart.y_title)):
        if title:
            axis |= {"name": title, "nameTextStyle": {"color": ink, "fontSize": em}}
            ends = "start" if axis.get("inverse") else "end"  # the upper end of an axis that counts down
            axis |= {"nameLocation": ends if look.names_at_end else "middle"}
    if chart.y_title and look.names_at_end:
        y["nameTextStyle"] |= {"align": "left"}
    grid = dict(zip(("left", "top", "right", "bottom"), _edges(chart, look), strict=True))
    grid |= {"outerBoundsMode": "same", "outerBoundsContain": "all"}  # so that names and labels lie inside
    return {"grid": grid, "xAxis": x, "yAxis": y}


def _edges(chart: Chart, look: Look) -> tuple[float, float, float, float]:
    """Pixels left of, above, right of and below the plot with the numbers of its axes."""
    em = look.em
    several = len(chart.series) > 1
    top = (2.8 * em if chart.title else em) + (2.2 * em if several and look.legend == "top" else 0)
    bottom = (2.2 * em if chart.source else em) + (2.2 * em if several and look.legend == "bottom" else 0)
    right = em
    if several and look.legend == "right":
        right += 4 * em + max(ems(series.name) for series in chart.series) * em
    return em, top, right, bottom


def _plot(chart: Chart, look: Look) -> tuple[float, float, float, float]:
    """About where the plot will lie: x1, y1, x2, y2 in pixels."""
    left, top, right, bottom = _edges(chart, look)
    names = chart.series[0].keys if chart.horizontal else [text for _, text in chart.axis.ticks]
    left += (max(map(ems, names)) + 1) * look.em
    return left, top, look.width - right, look.height - bottom - (1.5 + LINE * bool(chart.x_title)) * look.em


def _scale(scale: Any, look: Look, ink: str, lies: bool = False) -> dict[str, Any]:
    scale = scale.thinned(PLOT * look.width / look.em) if lies else scale
    aligned = (scale.high - scale.low) % scale.tick == 0  # else the last number stands off the others
    line = {"show": look.grid, "lineStyle": {"color": "#484753" if look.dark else "#e0e6f1"}}
    low, high, tick = (scale.value(number) for number in (scale.low, scale.high, scale.tick))
    return {
        "type": "value", "min": low, "max": high, "interval": tick, "splitLine": line,
        "axisLine": {"show": True, "lineStyle": {"color": ink}},
        "axisLabel": {"color": ink, "fontSize": look.em, "showMaxLabel": aligned},
    }  # fmt: skip


def _names(chart: Chart, look: Look, ink: str) -> dict[str, Any]:
    keys = chart.series[0].keys
    label: dict[str, Any] = {"color": ink, "fontSize": look.em, "interval": 0}
    if not chart.horizontal and max(map(ems, keys)) * look.em > 0.75 * look.width / len(keys):
        label["rotate"] = look.rotation
    line = {"lineStyle": {"color": ink}, "onZero": False}
    return {
        "type": "category",
        "data": list(keys),
        "axisLabel": label,
        "axisLine": line,
        "inverse": chart.horizontal,
    }


def _items(chart: Chart, look: Look, row: int, position: Any) -> list[dict[str, Any]]:
    """Every number as echarts draws it, with its label written out so that no digit is lost."""
    items = []
    for index, number in enumerate(chart.series[row].numbers):
        item: dict[str, Any] = {"value": chart.axis.value(number)}
        if chart.labels:
            text = {"show": True, "formatter": chart.value_text(number), "fontSize": look.em}
            item["label"] = text | position(index, number)
        items.append(item)
    return items


def _bars(chart: Chart, look: Look) -> list[dict[str, Any]]:
    colors = _palette(chart, look)
    room = _bar(chart, look)

    def position(index: int, number: int, row: int) -> dict[str, Any]:
        text = chart.value_text(number)
        size = (ems(text) * look.em + 4, LINE * look.em)
        length, thick = abs(number) / (chart.axis.high - chart.axis.low) * room[0], room[1]
        drawn = (length, thick) if chart.horizontal else (thick, length)
        if chart.stacked or (look.inside and size[0] < drawn[0] and size[1] < drawn[1]):
            fill = colors[(index if look.many_colors else row) % len(colors)]
            return {"position": "inside", "color": text_color(fill)}
        ends = ("left", "right") if chart.horizontal else ("bottom", "top")
        return {"position": ends[number > 0], "color": _ink(look)}

    result = []
    for row, series in enumerate(chart.series):
        items = _items(chart, look, row, lambda column, number, row=row: position(column, number, row))
        item = {"type": "bar", "name": series.name, "data": items, "barCategoryGap": look.gap, "barGap": "5%"}
        item |= {"stack": "all"} if chart.stacked else {}
        result.append(item | ({"colorBy": "data"} if look.many_colors else {}))
    return result


def _bar(chart: Chart, look: Look) -> tuple[float, float]:
    """About how long the axis of the numbers is, and how thick a bar, in pixels."""
    x1, y1, x2, y2 = _plot(chart, look)
    along, across = (x2 - x1, y2 - y1) if chart.horizontal else (y2 - y1, x2 - x1)
    bars = len(chart.series[0].keys) * (1 if chart.stacked else len(chart.series))
    return along, across / bars * (1 - float(look.gap.rstrip("%")) / 100)


def _ink(look: Look) -> str:
    return "#eeeeee" if look.dark else "#333333"


def _pixels(chart: Chart, look: Look) -> list[list[tuple[float, float]]]:
    """About where the points of every series will lie."""
    x1, y1, x2, y2 = _plot(chart, look)
    axis, keys = chart.axis, len(chart.series[0].keys)
    if chart.x_axis:
        low, high = chart.x_axis.low, chart.x_axis.high
        shares = [[(x - low) / (high - low) for x in xs] for xs in chart.points]
    else:
        shares = [[(index + 0.5) / keys for index in range(keys)]] * len(chart.series)
    return [
        [
            (x1 + share * (x2 - x1), y2 - (number - axis.low) / (axis.high - axis.low) * (y2 - y1))
            for share, number in zip(row, series.numbers, strict=True)
        ]
        for row, series in zip(shares, chart.series, strict=True)
    ]


def _positions(chart: Chart, look: Look) -> list[list[dict[str, Any]]]:
    """The side of every point at which its label meets nothing, for each series."""
    import numpy

    if not chart.labels:
        return [[{}] * len(series.numbers) for series in chart.series]
    rows = _pixels(chart, look)
    x1, y1, x2, y2 = _plot(chart, look)
    lines = [numpy.array([(x1, y1), (x1, y2), (x2, y2)]), *map(numpy.array, rows)]
    if chart.kind == "scatter":
        reach = 0.3 * look.em * numpy.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
        lines = [lines[0], *(numpy.array(point) + reach for row in rows for point in row)]
    texts = [chart.value_text(number) for series in chart.series for number in series.numbers]
    sizes = [(ems(text) * look.em, LINE * look.em) for text in texts]
    sides = [chart.prefers(row, index) for row, points in enumerate(rows) for index in range(len(points))]
    taken = numpy.concatenate([segments(line) for line in lines])
    chosen = free_sides([point for row in rows for point in row], sizes, sides, taken, look.em)
    styles = iter([{"position": side, "distance": gap, "color": _ink(look)} for side, gap in chosen])
    return [[next(styles) for _ in row] for row in rows]


def _line(chart: Chart, look: Look) -> list[dict[str, Any]]:
    result = []
    for row, (series, styles) in enumerate(zip(chart.series, _positions(chart, look), strict=True)):
        items = _items(chart, look, row, lambda index, _, styles=styles: styles[index])
        item = {"type": "line", "name": series.name, "data": items, "smooth": look.smooth}
        item |= {"symbol": look.symbol, "symbolSize": 0.4 * look.em, "showAllSymbol": True}
        result.append(item | ({"areaStyle": {"opacity": 0.4}} if look.area else {}))
    return result


def _scatter(chart: Chart, look: Look) -> list[dict[str, Any]]:
    result, positions = [], _positions(chart, look)
    for row, (series, xs) in enumerate(zip(chart.series, chart.points, strict=True)):
        items = _items(chart, look, row, lambda index, _, styles=positions[row]: styles[index])
        for item, x in zip(items, xs, strict=True):
            item["value"] = [chart.x_axis.value(x), item["value"]]
        result.append({"type": "scatter", "name": series.name, "data": items, "symbolSize": 0.6 * look.em})
    return result


def _pie(chart: Chart, look: Look) -> list[dict[str, Any]]:
    """Names and numbers outside the slices, in one line, as pyecharts' "{b}: {c}" writes them."""
    series = chart.series[0]
    style = {"color": _ink(look), "fontSize": look.em}
    items = []
    for key, number in zip(series.keys, series.numbers, strict=True):
        label = {"formatter": f"{key}: {chart.value_text(number)}", **style}
        items.append({"name": key, "value": chart.axis.value(number), "label": label})
    middle = ["50%", "55%" if chart.title else "50%"]
    # echarts cuts a label that does not fit between the pie's lines (15 pixels each) and the edge
    widest = max(ems(item["label"]["formatter"]) for item in items) * look.em
    room = min(look.width / 2 - widest - 45, 0.3 * min(look.width, look.height))
    radius = max(room, PIE_LEAST * look.em)
    return [
        {"type": "pie", "data": items, "radius": round(radius, 1), "center": middle, "startAngle": look.start,
         "labelLine": {"show": True}, "avoidLabelOverlap": True}
    ]  # fmt: skip

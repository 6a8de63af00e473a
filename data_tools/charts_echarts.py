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

from data_tools import renderers
from data_tools.charts import Chart, ChartError, Drawing, Placed, check_colors, rgb, text_color

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
    check_colors([rgb(color) for color in _palette(look)[: len(chart.series)]])
    question = {"option": option(chart, look), "width": look.width, "height": look.height, "font": str(font)}
    answer = renderers.node(SCRIPT, *PACKAGES).ask(question)
    if "error" in answer:
        raise ChartError(f"echarts: {answer['error']}; an option that it can draw")
    import numpy

    image = Image.open(io.BytesIO(base64.b64decode(answer["png"]))).convert("RGB")
    texts = [_placed(each["text"], numpy.array(each["corners"])) for each in answer["texts"]]
    marks = [numpy.array(mark) for mark in answer["marks"]]
    plot = answer["plot"] or (0, 0, look.width, look.height)
    if answer["plot"]:
        x1, y1, x2, y2 = plot
        marks.append(numpy.array([(x1, y1), (x1, y2), (x2, y2)]))  # the two axes
    return Drawing(image, texts, marks, tuple(plot), 0.9 * look.em, asdict(look))


def random_look(chart: Chart, rng: numpy.random.Generator) -> Look:
    """A look that suits the chart."""
    width, height = int(rng.integers(640, 1281)), int(rng.integers(480, 901))
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
    ink = "#eeeeee" if look.dark else "#333333"
    kinds = {"pie": _pie, "line": _line, "scatter": _scatter}
    made = {
        "color": _palette(look),
        "backgroundColor": DARK if look.dark else LIGHT,
        "textStyle": {"color": ink, "fontSize": look.em},
        "title": _titles(chart, look, ink),
        "series": kinds.get(chart.kind, _bars)(chart, look),
    }
    if len(chart.series) > 1:
        made["legend"] = _legend(chart, look, ink)
    if chart.kind != "pie":
        made |= _axes(chart, look, ink)
    return made


def _placed(text: str, corners: numpy.ndarray) -> Placed:
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    size = (math.hypot(*across), math.hypot(*down))
    return Placed(text, tuple(corners.mean(axis=0)), size, math.atan2(across[1], across[0]))


def _palette(look: Look) -> list[str]:
    colors = ["#" + color for color in PALETTES[look.palette].split()]
    return colors[look.first :] + colors[: look.first]


def _titles(chart: Chart, look: Look, ink: str) -> list[dict[str, Any]]:
    side = {"left": look.em if look.title_side == "left" else "center"}
    style = {"color": ink, "fontSize": round(1.25 * look.em, 1), "fontWeight": "normal"}
    small = style | {"fontSize": round(0.9 * look.em, 1)}
    found = [{"text": chart.title, "top": 0.5 * look.em, **side, "textStyle": style}] if chart.title else []
    if chart.source:
        found.append({"text": chart.source_line, "bottom": 0, "left": look.em, "textStyle": small})
    return found


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
    several = len(chart.series) > 1
    top = (2.8 * em if chart.title else em) + (2.2 * em if several and look.legend == "top" else 0)
    bottom = (2.2 * em if chart.source else em) + (2.2 * em if several and look.legend == "bottom" else 0)
    right = em
    if several and look.legend == "right":
        right += 4 * em + max(_ems(series.name) for series in chart.series) * em
    numbers, names = _scale(chart.axis, look, ink), _names(chart, look, ink)
    x, y = (numbers, names) if chart.horizontal else (names, numbers)
    if chart.x_axis:
        x = _scale(chart.x_axis, look, ink)
    for axis, title in ((x, chart.x_title), (y, chart.y_title)):
        if title:
            axis |= {"name": title, "nameTextStyle": {"color": ink, "fontSize": em}}
            ends = "start" if axis.get("inverse") else "end"  # the upper end of an axis that counts down
            axis |= {"nameLocation": ends if look.names_at_end else "middle"}
    if chart.y_title and look.names_at_end:
        y["nameTextStyle"] |= {"align": "left"}
    grid = {"top": top, "bottom": bottom, "left": em, "right": right}
    grid |= {"outerBoundsMode": "same", "outerBoundsContain": "all"}  # so that names and labels lie inside
    return {"grid": grid, "xAxis": x, "yAxis": y}


def _ems(text: str) -> float:
    """About how wide a text is."""
    return sum(1.0 if ord(char) > 0x2E7F else 0.56 for char in text)


def _scale(scale: Any, look: Look, ink: str) -> dict[str, Any]:
    line = {"show": look.grid, "lineStyle": {"color": "#484753" if look.dark else "#e0e6f1"}}
    low, high, tick = (scale.value(number) for number in (scale.low, scale.high, scale.tick))
    return {
        "type": "value", "min": low, "max": high, "interval": tick, "splitLine": line,
        "axisLine": {"show": True, "lineStyle": {"color": ink}},
        "axisLabel": {"color": ink, "fontSize": look.em},
    }  # fmt: skip


def _names(chart: Chart, look: Look, ink: str) -> dict[str, Any]:
    keys = chart.series[0].keys
    label: dict[str, Any] = {"color": ink, "fontSize": look.em, "interval": 0}
    if not chart.horizontal and max(map(_ems, keys)) * look.em > 0.75 * look.width / len(keys):
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
    for place, number in enumerate(chart.series[row].numbers):
        item: dict[str, Any] = {"value": chart.axis.value(number)}
        if chart.labels:
            text = {"show": True, "formatter": chart.value_text(number), "fontSize": look.em}
            item["label"] = text | position(place, number)
        items.append(item)
    return items


def _bars(chart: Chart, look: Look) -> list[dict[str, Any]]:
    colors = _palette(look)

    def position(place: int, number: int, row: int) -> dict[str, Any]:
        if look.inside:
            fill = colors[(place if look.many_colors else row) % len(colors)]
            return {"position": "inside", "color": text_color(fill)}
        ends = ("left", "right") if chart.horizontal else ("bottom", "top")
        return {"position": ends[number > 0], "color": "#eeeeee" if look.dark else "#333333"}

    found = []
    for row, series in enumerate(chart.series):
        items = _items(chart, look, row, lambda place, number, row=row: position(place, number, row))
        each = {"type": "bar", "name": series.name, "data": items, "barCategoryGap": look.gap}
        each |= {"stack": "all"} if chart.stacked else {}
        found.append(each | ({"colorBy": "data"} if look.many_colors else {}))
    return found


def _line(chart: Chart, look: Look) -> list[dict[str, Any]]:
    color = "#eeeeee" if look.dark else "#333333"
    found = []
    for row, series in enumerate(chart.series):
        numbers = series.numbers

        def position(place: int, number: int, numbers: tuple[int, ...] = numbers) -> dict[str, Any]:
            beside = numbers[max(0, place - 1) : place + 2]
            # above peaks and below valleys, where the line does not pass
            return {"position": "top" if number >= sum(beside) / len(beside) else "bottom", "color": color}

        items = _items(chart, look, row, position)
        each = {"type": "line", "name": series.name, "data": items, "smooth": look.smooth}
        each |= {"symbol": look.symbol, "symbolSize": 0.4 * look.em, "showAllSymbol": True}
        found.append(each | ({"areaStyle": {"opacity": 0.4}} if look.area else {}))
    return found


def _scatter(chart: Chart, look: Look) -> list[dict[str, Any]]:
    color = "#eeeeee" if look.dark else "#333333"
    found = []
    for row, (series, xs) in enumerate(zip(chart.series, chart.points, strict=True)):
        items = _items(chart, look, row, lambda _place, _number: {"position": "top", "color": color})
        for item, x in zip(items, xs, strict=True):
            item["value"] = [chart.x_axis.value(x), item["value"]]
        found.append({"type": "scatter", "name": series.name, "data": items, "symbolSize": 0.6 * look.em})
    return found


def _pie(chart: Chart, look: Look) -> list[dict[str, Any]]:
    """Names and numbers outside the slices, in one line, as pyecharts' "{b}: {c}" writes them."""
    series = chart.series[0]
    style = {"color": "#eeeeee" if look.dark else "#333333", "fontSize": look.em}
    items = []
    for key, number in zip(series.keys, series.numbers, strict=True):
        label = {"formatter": f"{key}: {chart.value_text(number)}", **style}
        items.append({"name": key, "value": chart.axis.value(number), "label": label})
    middle = ["50%", "55%" if chart.title else "50%"]
    return [
        {"type": "pie", "data": items, "radius": "60%", "center": middle, "startAngle": look.start,
         "labelLine": {"show": True}, "avoidLabelOverlap": True}
    ]  # fmt: skip

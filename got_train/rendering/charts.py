"""Charts from the dict that was read: drawn beside the table of the same values, which is the truth.

Knows bars, lines and slices in SVG; how a chart's text is read is the matter of evaluation.charts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

from got_train.errors import AnswerError, RenderingError
from got_train.formats import charts

from .html import escaped

COLOURS = ("#3566a8", "#d1782b", "#4b9a5f", "#b04a4a", "#7d64b0", "#8a6d4f", "#c768a5", "#777777")
WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 34, 62
_NUMBER = re.compile(r"[^\d.,+-]*([-+]?(?:\d[\d,]*)?\.?\d+(?:[eE][-+]?\d{1,3})?|[-+]?\d[\d,]*\.)[^\d.,]*")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d*)?")  # 1,234.5 and 1,00,000
Height = Callable[[float], float]
MOST = 400  # cells of a chart that is drawn; the table shows all


@dataclass(frozen=True)
class Chart:
    """A chart as it was read: titles, the names along the axis, and of each series its cells as written."""

    titles: dict[str, str]
    names: tuple[str, ...]
    series: dict[str, dict[str, str]]
    note: str | None = None

    def number(self, series: str, name: str) -> float | None:
        """A cell as a number: its unit and commas between thousands are left out; None if it is none.

        1,5 is none: OneChart leaves out every comma, which makes it 15, and its writer may have meant 1.5.
        """
        match = _NUMBER.fullmatch(self.series[series].get(name, "").strip())
        if match is None or ("," in match[1] and not _THOUSANDS.fullmatch(match[1])):
            return None
        number = float(match[1].replace(",", ""))
        return number if math.isfinite(number) else None

    def is_doubtful(self, series: str, name: str) -> bool:
        """Whether a cell has a comma between digits that need not part thousands."""
        cell = self.series[series].get(name, "")
        return re.search(r"\d,\d", cell) is not None and self.number(series, name) is None

    def notes(self) -> list[str]:
        """What was mended, and what is not drawn though it may be a number."""
        cells = [(series, name) for name in self.names for series in self.series]
        doubtful = [self.series[series][name] for series, name in cells if self.is_doubtful(series, name)]
        note = f"not drawn, for what the comma means is not certain: {'; '.join(doubtful)}"
        return [*([self.note] if self.note else []), *([note] if doubtful else [])]


def read(text: str) -> Chart:
    """The chart of a text; braces that its end lacks are added and told."""
    try:
        content = charts.chart(text)
    except AnswerError as error:
        raise RenderingError(f"this is no chart: {error}") from error
    values = next((content[key] for key in ("values", "data") if key in content), None)
    if values is None:
        values = {key: cell for key, cell in content.items() if key not in charts.TITLES}
    if not values:
        raise RenderingError("this chart has no values")
    titles = {str(name): str(cell) for name, cell in content.items() if cell is not values and cell != "None"}
    nested = {str(key): cell for key, cell in values.items() if isinstance(cell, Mapping)}
    if nested and len(nested) < len(values):
        raise RenderingError("this chart has both series and single values")
    rows = {key: {str(name): str(value) for name, value in cell.items()} for key, cell in nested.items()}
    series = rows or {"": {str(key): str(cell) for key, cell in values.items()}}
    names = tuple(dict.fromkeys(name for cells in series.values() for name in cells))
    missing = text.count("{") - text.count("}")
    note = f"the chart was cut off: {'}' * missing} was added" if missing > 0 else None
    if note and text.rstrip()[-1].isdigit():
        note += ", and its last number may be longer"
    return Chart(
        titles if "values" in content or "data" in content else _own_titles(titles), names, series, note
    )


def table(chart: Chart) -> str:
    """All values as they were read."""
    plain = list(chart.series) == [""]
    heads = "".join(f"<th>{escaped(name)}</th>" for name in (chart.series if not plain else ["value"]))
    rows = "".join(
        f"<tr><th>{escaped(name)}</th>"
        + "".join(_cell(chart, series, name) for series in chart.series)
        + "</tr>"
        for name in chart.names
    )
    return f"<table><tr><th></th>{heads}</tr>{rows}</table>"


def _cell(chart: Chart, series: str, name: str) -> str:
    mark = ' class="doubtful"' if chart.is_doubtful(series, name) else ""
    return f"<td{mark}>{escaped(chart.series[series].get(name, ''))}</td>"


def svg(chart: Chart) -> bytes:
    """The drawing: slices for a pie, lines where the kind says so, else bars."""
    cells = len(chart.names) * len(chart.series)
    if cells > MOST:
        raise RenderingError(f"{cells} values; expected at most {MOST}")
    numbers = [chart.number(name, label) for name in chart.series for label in chart.names]
    if not any(number is not None for number in numbers):
        raise RenderingError("no value of this chart is a number")
    kind = next((text.lower() for name, text in chart.titles.items() if "type" in name), "")
    if "pie" in kind and len(chart.series) == 1 and all(number is None or number >= 0 for number in numbers):
        body = _slices(chart)
    else:
        body = _axes(chart, "line" in kind)
    title = chart.titles.get("title", "")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>'
        f"{_text(WIDTH / 2, 18, title, 'middle', 14)}{body}</svg>"
    ).encode()


def _own_titles(titles: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in titles.items() if name in charts.TITLES}


def _axes(chart: Chart, lines: bool) -> str:
    numbers = {s: [chart.number(s, name) for name in chart.names] for s in chart.series}
    known = [number for row in numbers.values() for number in row if number is not None]
    ticks = _ticks(min(0.0, *known), max(0.0, *known))
    low, high = ticks[0], ticks[-1]

    def height(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    step = (WIDTH - LEFT - RIGHT) / len(chart.names)
    parts = [_tick(tick, height(tick)) for tick in ticks]
    every = math.ceil(len(chart.names) / 12)
    for index in range(0, len(chart.names), every):
        shown, x = _short(chart.names[index], step * every), LEFT + step * (index + 0.5)
        parts.append(_text(x, HEIGHT - BOTTOM + 16, shown, "middle"))
    for order, values in enumerate(numbers.values()):
        colour, count = COLOURS[order % len(COLOURS)], len(numbers)
        if lines:
            parts.append(_line(values, step, height, colour))
        else:
            parts.append(_bars(values, order / count, step, 0.8 * step / count, height, colour))
    x_title = chart.titles.get("x_title", "")
    y_title = chart.titles.get("y_title", "")
    parts.append(_text((LEFT + WIDTH) / 2, HEIGHT - BOTTOM + 34, x_title, "middle"))
    if y_title:
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(f'<g transform="rotate(-90 14 {middle})">{_text(14, middle, y_title, "middle")}</g>')
    return "".join(parts) + _legend(chart)


def _tick(value: float, y: float) -> str:
    colour = "#555" if value == 0 else "#ddd"
    line = f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{colour}"/>'
    return line + _text(LEFT - 6, y + 4, f"{value:g}", "end")


def _bars(
    values: list[float | None], shift: float, step: float, wide: float, height: Height, colour: str
) -> str:
    """A bar a value, `shift` (0 to 1) into its place."""
    parts = []
    for index, value in enumerate(values):
        if value is not None:
            top, bottom = sorted((height(value), height(0.0)))
            x, high = LEFT + step * (index + 0.1 + 0.8 * shift), bottom - top
            size = f'width="{wide:.1f}" height="{high:.1f}"'
            parts.append(f'<rect x="{x:.1f}" y="{top:.1f}" {size} fill="{colour}"/>')
    return "".join(parts)


def _line(values: list[float | None], step: float, height: Height, colour: str) -> str:
    """A gap where a value is no number."""
    path, pen, dots = "", "M", ""
    for index, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        x, y = LEFT + step * (index + 0.5), height(value)
        path, pen = f"{path}{pen}{x:.1f} {y:.1f}", "L"
        dots += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _slices(chart: Chart) -> str:
    series = next(iter(chart.series))
    numbers = {name: chart.number(series, name) or 0.0 for name in chart.names}
    total = sum(numbers.values())
    if not total:
        raise RenderingError("the values of this chart add up to nothing")
    angle, parts = -math.pi / 2, []
    for order, (name, value) in enumerate(numbers.items()):
        colour = COLOURS[order % len(COLOURS)]
        after = angle + 2 * math.pi * min(value / total, 0.99999)
        parts.append(_slice(angle, after, colour))
        if order < 14:
            parts.append(_key(310, 60 + 18 * order, colour, f"{name}: {chart.series[series][name]}", 240))
        angle = after
    return "".join(parts)


def _slice(start: float, end: float, colour: str, x: float = 160, y: float = 170, radius: float = 120) -> str:
    first, last = (
        f"{x + radius * math.cos(angle):.2f} {y + radius * math.sin(angle):.2f}" for angle in (start, end)
    )
    arc = f"A{radius} {radius} 0 {int(end - start > math.pi)} 1 {last}"
    return f'<path d="M{x} {y}L{first}{arc}Z" fill="{colour}" stroke="white"/>'


def _legend(chart: Chart) -> str:
    if list(chart.series) == [""]:
        return ""
    wide = (WIDTH - LEFT) / len(chart.series)
    return "".join(
        _key(LEFT + wide * order, HEIGHT - 12, COLOURS[order % len(COLOURS)], name, wide - 16)
        for order, name in enumerate(chart.series)
    )


def _key(x: float, y: float, colour: str, name: str, width: float) -> str:
    box = f'<rect x="{x:.1f}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
    return box + _text(x + 14, y, _short(name, width), "start")


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around both ends."""
    span = (high - low) or 1.0
    if not 1e-200 < span < 1e200:
        raise RenderingError(f"values from {low:g} to {high:g}")
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= span / 5)
    first, last = math.floor(low / step), math.ceil(high / step) or 1
    return [round(number * step, 12) for number in range(first, last + 1)]


def _short(text: str, width: float) -> str:
    """What fits; the table beside has the whole."""
    most = max(3, int(width / 6))
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def _text(x: float, y: float, text: str, anchor: str, size: int = 11) -> str:
    kept = "".join(sign if sign.isprintable() else " " for sign in text)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(kept)}</text>'

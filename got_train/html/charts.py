"""Drawings of a report as inline SVG: histograms, means by bin, points, curves; the style is the page's."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT = 460, 196
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 28, 30, 42
STYLES = 3  # of curves, in report.css: s0 ...
_POINTS = 400  # of a curve that are drawn
_DOTTED = 40  # points up to which each has a dot that tells its value
_WIDE = 20  # times the lowest value, from which on the scale is logarithmic


def histogram(values: Sequence[float], bins: int = 20, low: float = 0.0, high: float = 1.0) -> str:
    """How many values lie in each of the bins from low to high; what is above counts as the last."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / (high - low) * bins)))] += 1
    step = (high - low) / bins
    titles = [
        f"{low + step * index:.2f} to {low + step * (index + 1):.2f}: {n}" for index, n in enumerate(counts)
    ]
    most = max([*counts, 1])
    bars = [_bar(index, bins, count / most, titles[index]) for index, count in enumerate(counts)]
    labels = [(0.0, f"{low:g}"), (0.5, f"{(low + high) / 2:g}"), (1.0, f"{high:g}")]
    return _svg([*bars, *_axes(labels, [(0.0, "0"), (1.0, f"{most:,}")])], "edit distance", "rows")


def bars(values: Sequence[tuple[str, float, float, float]], across: str, up: str) -> str:
    """A bar for each (name, value, low, high) with the interval as a line; the scale ends at the highest."""
    highest = max([high for _, _, _, high in values] + [1e-9])
    parts = []
    for index, (name, value, low, high) in enumerate(values):
        parts.append(
            _bar(index, len(values), value / highest, f"{name}: {value:.3f} ({low:.3f} to {high:.3f})")
        )
        x = _x((index + 0.5) / len(values))
        ends = f'y1="{_y(low / highest):.1f}" y2="{_y(high / highest):.1f}"'
        parts.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" {ends}/>')
    labels = [((index + 0.5) / len(values), name) for index, (name, *_) in enumerate(values)]
    return _svg([*parts, *_axes(labels, [(0.0, "0"), (1.0, f"{highest:.2f}")])], across, up)


def columns(counts: Sequence[tuple[str, int]], across: str, up: str) -> str:
    """A bar for each (name, count)."""
    most = max([count for _, count in counts] + [1])
    parts = [
        _bar(index, len(counts), count / most, f"{name}: {count:,}")
        for index, (name, count) in enumerate(counts)
    ]
    every = math.ceil(len(counts) / 10)  # names that fit below
    named = list(enumerate(name for name, _ in counts))[::every]
    labels = [((index + 0.5) / len(counts), name) for index, name in named]
    return _svg([*parts, *_axes(labels, [(0.0, "0"), (1.0, f"{most:,}")])], across, up)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str, low: float | None = None
) -> str:
    """A line for each name through its (x, value) pairs; of many pairs the means of neighbours.

    The scale begins at `low`; where none is given at the lowest value, and is logarithmic if it is wide.
    """
    drawn = {name: thinned(points) for name, points in series.items() if points}
    places = [x for points in drawn.values() for x, _ in points]
    values = [value for points in drawn.values() for _, value in points] + ([] if low is None else [low])
    wide = min(values) > 0 and max(values) / min(values) > _WIDE
    there, back = (math.log10, lambda value: 10**value) if wide else (float, float)
    ends = (min(places), max(places)), (there(min(values)), there(max(values)))
    parts = []
    for number, (name, points) in enumerate(drawn.items()):
        spots = [(_x(_share(x, ends[0])), _y(_share(there(value), ends[1]))) for x, value in points]
        parts += _curve(f"s{number % STYLES}", name, points, spots)
    below = [(share, f"{value:,.0f}") for share, value in _ticks(*ends[0])]
    beside = [(share, _short(back(value))) for share, value in _ticks(*ends[1])]
    return _svg([*parts, *_axes(below, beside)], across, up)


def _share(value: float, ends: tuple[float, float]) -> float:
    return (value - ends[0]) / (ends[1] - ends[0] or 1)


def _ticks(low: float, high: float) -> list[tuple[float, float]]:
    """Both ends and the middle, with their place; one of a scale without length."""
    shares = (0.0, 0.5, 1.0) if high > low else (0.0,)
    return [(share, low + share * (high - low)) for share in shares]


def _short(value: float) -> str:
    """In six characters, as there is no room for more."""
    return f"{value:.1e}".replace("e-0", "e-") if 0 < abs(value) < 0.001 else f"{value:.3g}"


def _curve(
    style: str,
    name: str,
    points: Sequence[tuple[float, float]],
    spots: Sequence[tuple[float, float]],
) -> list[str]:
    """A line, and dots that tell their values where they are few."""
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    line = f'<polyline class="curve {style}" points="{way}"/>'
    dots = [
        f'<circle class="spot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
        f"<title>{html.escape(name)}, {at:,.0f}: {value:.4g}</title></circle>"
        for (x, y), (at, value) in zip(spots, points, strict=True)
    ]
    return [line, *(dots if len(dots) <= _DOTTED else ())]


def thinned(points: Sequence[tuple[float, float]], most: int = _POINTS) -> list[tuple[float, float]]:
    """At most so many pairs: of neighbours the last x and the mean value."""
    together = math.ceil(len(points) / most)
    parts = [points[start : start + together] for start in range(0, len(points), together or 1)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def points(pairs: Sequence[tuple[float, float]], across: str, up: str) -> str:
    """A point for each pair, both scales from 0, with the diagonal on which both are equal."""
    most = max([value for pair in pairs for value in pair] + [1.0])
    dots = [
        f'<circle class="dot" cx="{_x(first / most):.1f}" cy="{_y(second / most):.1f}" r="2.5"/>'
        for first, second in pairs
    ]
    line = f'<line class="diagonal" x1="{_x(0):.1f}" y1="{_y(0):.1f}" x2="{_x(1):.1f}" y2="{_y(1):.1f}"/>'
    ends = [(0.0, "0"), (1.0, f"{most:,.0f}")]
    return _svg([line, *dots, *_axes(ends, ends)], across, up)


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _bar(index: int, bars: int, share: float, title: str) -> str:
    left, right = _x((index + 0.08) / bars), _x((index + 0.92) / bars)
    box = f'x="{left:.1f}" y="{_y(share):.1f}" width="{right - left:.1f}" height="{_y(0) - _y(share):.1f}"'
    return f'<rect class="bar" {box}><title>{html.escape(title)}</title></rect>'


def _axes(across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]]) -> list[str]:
    base = f'<line class="axis" x1="{_x(0):.1f}" y1="{_y(0):.1f}" x2="{_x(1):.1f}" y2="{_y(0):.1f}"/>'
    below = [
        f'<text x="{_x(share):.1f}" y="{_y(0) + 15:.1f}" text-anchor="middle">{html.escape(name)}</text>'
        for share, name in across
    ]
    beside = [
        f'<text x="{_LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{html.escape(name)}</text>'
        for share, name in up
    ]
    return [base, *below, *beside]


def _svg(parts: Sequence[str], across: str, up: str) -> str:
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    names = (
        f'<text class="name" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(across)}</text>'
        f'<text class="name" x="{_LEFT}" y="15">{html.escape(up)}</text>'
    )
    label = html.escape(f"{up} by {across}")
    opening = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
    return f"{opening}{''.join(parts)}{names}</svg>"

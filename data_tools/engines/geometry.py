r"""Plane geometry and curves set by TikZ: polygons, circles, conics, axes, labels; target: the tikzpicture.

The labels must stand in the PDF's text layer, clear of lines and of each other; else there is no record.
"""

from __future__ import annotations

import argparse
import functools
import math
import random
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import arguments, produce
from data_tools.drawing import degrade, renderers

from .formulas import compose

if TYPE_CHECKING:
    import numpy
    from PIL import Image

Point = tuple[float, float]

PREAMBLES = {
    "Computer Modern": r"\documentclass[10pt]{article}\usepackage{tikz}",
    "Times": r"\documentclass[10pt]{article}\usepackage{mathptmx}\usepackage{tikz}",
    "Palatino": r"\documentclass[10pt]{article}\usepackage{mathpazo}\usepackage{tikz}",
}
TEX_NEEDS = ("tikz.sty", "mathptmx.sty", "mathpazo.sty")
BATCH = 250  # pictures; TikZ takes LaTeX a fifth of a second to load
EM = 10 * 72 / 72.27  # of a 10 pt font
LEAST_EM = 9.0  # pixels that an em has left when the picture is made 1024 pixels large
NODE_GAP, HIGH, AIR = 0.117, 0.27, 0.04  # centimetres: from a point to its node's text, a line, air around it
STEP = 0.04  # centimetres between the points by which a line is known
DIRECTIONS = ("right", "above right", "above", "above left", "left", "below left", "below", "below right")


class Wanted(NamedTuple):
    """A picture as LaTeX is to set it."""

    source: str
    kind: str
    characters: str
    typeface: str
    dpi: int


def number(value: float) -> str:
    """At most two decimals, none that are zero, no minus before zero."""
    return f"{round(value, 2) + 0:g}"


def at(point: Point) -> str:
    return f"({number(point[0])},{number(point[1])})"


class Box(NamedTuple):
    """Where the text of a label stands."""

    middle: Point
    wide: float
    high: float

    def holds_any(self, points: Iterable[Point]) -> bool:
        (x, y), wide, high = self.middle, self.wide / 2, self.high / 2
        return any(abs(across - x) < wide and abs(up - y) < high for across, up in points)

    def meets(self, other: Box) -> bool:
        grown = Box(self.middle, self.wide + other.wide, self.high + other.high)
        return grown.holds_any([other.middle])


class Wish(NamedTuple):
    """A label and the direction in which it should stand; None: over the point itself."""

    point: Point
    text: str
    direction: int | None


@dataclass
class Scene:
    """Statements of one picture, points of all lines drawn, and the labels, which are placed last."""

    random: random.Random
    statements: list[str] = field(default_factory=list)
    ink: list[Point] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def draw(self, path: str, *options: str) -> None:
        chosen = f"[{','.join(option for option in options if option)}]" if any(options) else ""
        self.statements.append(rf"\draw{chosen} {path};")

    def mark(self, points: list[Point]) -> None:
        """Take note of the ink along the segments between points."""
        for one, other in zip(points, points[1:], strict=False):
            steps = max(1, math.ceil(math.dist(one, other) / STEP))
            run, rise = (other[0] - one[0]) / steps, (other[1] - one[1]) / steps
            self.ink += [(one[0] + step * run, one[1] + step * rise) for step in range(steps + 1)]

    def mark_ellipse(self, centre: Point, wide: float, tall: float) -> None:
        angles = [math.radians(angle) for angle in range(0, 361, 3)]
        self.mark([(centre[0] + wide * math.cos(a), centre[1] + tall * math.sin(a)) for a in angles])

    def line(self, points: list[Point], *options: str, closed: bool = False) -> None:
        self.draw(" -- ".join(map(at, points)) + (" -- cycle" if closed else ""), *options)
        self.mark([*points, points[0]] if closed else points)

    def rectangle(self, one: Point, other: Point, *options: str) -> None:
        self.draw(f"{at(one)} rectangle {at(other)}", *options)
        self.mark([one, (other[0], one[1]), other, (one[0], other[1]), one])

    def circle(self, centre: Point, radius: float, *options: str) -> None:
        self.draw(f"{at(centre)} circle ({number(radius)})", *options)
        self.mark_ellipse(centre, radius, radius)

    def ellipse(self, centre: Point, wide: float, tall: float, *options: str) -> None:
        self.draw(f"{at(centre)} ellipse ({number(wide)} and {number(tall)})", *options)
        self.mark_ellipse(centre, wide, tall)

    def dot(self, point: Point) -> None:
        self.statements.append(rf"\fill {at(point)} circle (1.5pt);")
        self.ink.append(point)

    def name(self, point: Point, text: str, away_from: Point) -> None:
        """A label on the side of the point that looks away from another one, or near that side."""
        angle = math.atan2(point[1] - away_from[1], point[0] - away_from[0])
        self.wishes.append(Wish(point, text, round(angle / (math.pi / 4)) % 8))

    def label(self, point: Point, text: str, direction: int | None) -> None:
        self.wishes.append(Wish(point, text, direction))

    def fixed(self, box: Box, text: str) -> None:
        """A label that a statement of its own sets."""
        self.boxes.append(box)
        self.texts.append(text)

    def place_labels(self) -> None:
        """Each label where it was wished, else in the nearest direction that is free."""
        for wish in self.wishes:
            turns = (0, 1, -1, 2, -2, 3, -3, 4) if wish.direction is not None else (0,)
            for turn in turns:
                direction = None if wish.direction is None else (wish.direction + turn) % 8
                box = text_box(wish.point, wish.text, direction)
                if self.free(box):
                    break
            else:
                raise produce.Rejected("no free place for a label")
            self.fixed(box, wish.text)
            side = "" if direction is None else f"[{DIRECTIONS[direction]}]"
            self.statements.append(rf"\node{side} at {at(wish.point)} {{${wish.text}$}};")

    def free(self, box: Box) -> bool:
        return self.free_of_ink(box) and not any(map(box.meets, self.boxes))

    def free_of_ink(self, box: Box) -> bool:
        return not box.holds_any(self.ink)

    def names(self, count: int) -> list[str]:
        start = self.random.choice([letter for letter in "AAAAPEXD" if ord(letter) + count <= ord("Z") + 1])
        mark = self.random.choices(("", "'", "_{1}"), (18, 1, 1))[0]
        return [chr(ord(start) + index) + mark for index in range(count)]

    def right_angle(self, corner: Point, one: Point, other: Point) -> None:
        size = 0.25
        first, second = towards(corner, one, size), towards(corner, other, size)
        opposite = first[0] + second[0] - corner[0], first[1] + second[1] - corner[1]
        self.line([first, opposite, second])

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def between(self, low: float, high: float, step: float = 0.5) -> float:
        return low + step * self.random.randint(0, round((high - low) / step))


def text_box(point: Point, text: str, direction: int | None) -> Box:
    """The box of a node's text; it errs to the large side."""
    wide = max(0.18, sum(map(character_width, re.sub(r"\\vec|[_{}]", "", text))))
    across, up = 0.0, 0.0
    if direction is not None:
        angle = direction * math.pi / 4
        across, up = round(math.cos(angle)), round(math.sin(angle))
    high = HIGH + 0.1 * (r"\vec" in text)
    middle = point[0] + across * (NODE_GAP + wide / 2), point[1] + up * (NODE_GAP + high / 2)
    return Box(middle, wide + 2 * AIR, high + 2 * AIR)


def character_width(char: str) -> float:
    """Centimetres of a character at 10 points, rather more than less."""
    if char in "MW":
        return 0.38
    return 0.3 if char.isupper() or char in "-+" else 0.1 if char in "'." else 0.2


def towards(start: Point, end: Point, length: float) -> Point:
    share = length / math.dist(start, end)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def middle(*points: Point) -> Point:
    return sum(point[0] for point in points) / len(points), sum(point[1] for point in points) / len(points)


def foot(point: Point, one: Point, other: Point) -> Point:
    """Where the altitude from a point meets the line through two others."""
    run, rise = other[0] - one[0], other[1] - one[1]
    share = ((point[0] - one[0]) * run + (point[1] - one[1]) * rise) / (run * run + rise * rise)
    return one[0] + share * run, one[1] + share * rise


def circumcentre(one: Point, two: Point, three: Point) -> Point:
    (ax, ay), (bx, by), (cx, cy) = one, two, three
    double = 2 * (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by))
    a, b, c = ax * ax + ay * ay, bx * bx + by * by, cx * cx + cy * cy
    x = (a * (by - cy) + b * (cy - ay) + c * (ay - by)) / double
    y = (a * (cx - bx) + b * (ax - cx) + c * (bx - ax)) / double
    return x, y


def incentre(one: Point, two: Point, three: Point) -> tuple[Point, float]:
    a, b, c = math.dist(two, three), math.dist(one, three), math.dist(one, two)
    total = a + b + c
    centre = tuple((a * one[axis] + b * two[axis] + c * three[axis]) / total for axis in (0, 1))
    return (centre[0], centre[1]), math.dist(centre, foot(centre, one, two))


def triangle(scene: Scene) -> None:
    """A triangle from (0,0), named, with one of the lines or circles that belong to it."""
    a, b = (0.0, 0.0), (scene.between(3, 6), 0.0)
    kind = scene.random.choice(("right", "isosceles", "any", "any"))
    height = scene.between(2, 4.5)
    top = {"right": 0.0, "isosceles": b[0] / 2}.get(kind, scene.between(0.5, b[0] + 1))
    c = (top, height)
    scene.line([a, b, c], closed=True)
    centre = middle(a, b, c)
    letters = scene.names(4)
    for point, letter in zip((a, b, c), letters, strict=False):
        scene.name(point, letter, centre)
    if kind == "right":
        scene.right_angle(a, b, c)
    extra = scene.random.choice(("altitude", "median", "midline", "outside", "inside", "lengths", "none"))
    if extra == "altitude" and 0.5 < top < b[0] - 0.5:
        down = (top, 0.0)
        scene.line([c, down], scene.random.choice(("dashed", "")))
        scene.right_angle(down, b, c)
        scene.name(down, letters[3], c)
    elif extra == "median":
        end = middle(a, b)
        scene.line([c, end])
        scene.name(end, letters[3], c)
    elif extra == "midline":
        scene.line([middle(a, c), middle(b, c)], scene.random.choice(("dashed", "")))
    elif extra == "outside":
        around = circumcentre(a, b, c)
        if math.dist(around, a) > 3.5:
            raise produce.Rejected("circle too large")
        scene.circle(around, math.dist(around, a))
    elif extra == "inside":
        within, radius = incentre(a, b, c)
        scene.circle(within, radius)
        scene.dot(within)
        scene.label(within, "I", 2)
    elif extra == "lengths":
        scene.name(middle(a, b), scene.random.choice(("c", number(b[0]))), centre)
        scene.name(middle(b, c), "a", centre)
        scene.name(middle(a, c), "b", centre)


def quadrilateral(scene: Scene) -> None:
    """A rectangle, square, parallelogram, trapezium, rhombus or kite, perhaps with its diagonals."""
    width, height, shift = scene.between(3, 6), scene.between(2, 4), scene.between(0.5, 1.5)
    shapes = {
        "rectangle": [(0, 0), (width, 0), (width, height), (0, height)],
        "square": [(0, 0), (height, 0), (height, height), (0, height)],
        "parallelogram": [(0, 0), (width, 0), (width + shift, height), (shift, height)],
        "trapezium": [(0, 0), (width, 0), (width - shift, height), (shift, height)],
        "rhombus": [(0, height / 2), (width / 2, 0), (width, height / 2), (width / 2, height)],
        "kite": [(0, height / 2), (shift + 1, 0), (width, height / 2), (shift + 1, height)],
    }
    kind = scene.random.choice(list(shapes))
    points: list[Point] = shapes[kind]
    if kind in ("rectangle", "square") and scene.chance(0.4):
        scene.rectangle(points[0], points[2])
    else:
        scene.line(points, closed=True)
    centre = middle(*points)
    for point, letter in zip(points, scene.names(4), strict=False):
        scene.name(point, letter, centre)
    if scene.chance(0.45):
        style = scene.random.choice(("dashed", ""))
        scene.line([points[0], points[2]], style)
        if scene.chance(0.6):
            scene.line([points[1], points[3]], style)
    elif scene.chance(0.3):
        middles = [middle(one, other) for one, other in zip(points, points[1:] + points[:1], strict=True)]
        scene.line(middles, "dashed", closed=True)


def circle(scene: Scene) -> None:
    """A circle about (0,0) with what is drawn in and at circles."""
    radius = scene.between(1.5, 3)
    centre = (0.0, 0.0)
    scene.circle(centre, radius)

    def rim(angle: float) -> Point:
        return radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle))

    kinds = ("inscribed", "quadrangle", "diameter", "chord", "tangent", "radius", "two", "sector")
    kind = scene.random.choice(kinds)
    letters = scene.names(4)
    if kind in ("radius", "tangent", "chord", "sector", "diameter"):
        scene.dot(centre)
        scene.label(centre, "O", scene.random.choice((5, 6, 7)))
    if kind == "inscribed" or kind == "quadrangle":
        count = 3 if kind == "inscribed" else 4
        start = scene.between(0, 80, 10)
        steps = [start + distance * 360 / count + scene.between(-30, 30, 10) for distance in range(count)]
        points = [rim(step) for step in steps]
        scene.line(points, closed=True)
        for point, letter in zip(points, letters, strict=False):
            scene.name(point, letter, centre)
    elif kind == "diameter":
        top = rim(scene.between(40, 140, 10))
        scene.line([(-radius, 0), (radius, 0), top], closed=True)
        for point, letter in zip([(-radius, 0.0), (radius, 0.0), top], letters, strict=False):
            scene.name(point, letter, centre)
    elif kind == "chord":
        first = scene.between(190, 230, 10)
        one, other = rim(first), rim(540 - first)
        scene.line([one, other])
        scene.line([centre, (0, one[1])], "dashed")
        scene.right_angle((0, one[1]), other, centre)
        for point, letter in ((one, letters[0]), (other, letters[1])):
            scene.name(point, letter, centre)
    elif kind == "tangent":
        outside = (radius * scene.random.choice((1.8, 2.0, 2.2)), 0.0)
        angle = math.degrees(math.acos(radius / outside[0]))
        for sign, letter in ((1, letters[0]), (-1, letters[1])):
            touch = rim(sign * angle)
            scene.line([outside, touch])
            scene.line([centre, touch], "dashed")
            scene.name(touch, letter, centre)
        scene.label(outside, "P", 0)
    elif kind == "radius":
        end = rim(scene.between(20, 160, 10))
        scene.line([centre, end])
        scene.name(end, letters[0], centre)
    elif kind == "sector":
        first, last = scene.between(0, 40, 10), scene.between(70, 150, 10)
        scene.line([rim(first), centre, rim(last)])
        scene.draw(f"({number(first)}:0.5) arc ({number(first)}:{number(last)}:0.5)")
        scene.name(rim(first), letters[0], centre)
        scene.name(rim(last), letters[1], centre)
    else:
        other = scene.between(0.5, radius - 0.5)
        distance = scene.random.choice((radius + other, radius - other, radius))
        scene.circle((distance, 0.0), other)
        scene.dot(centre)
        scene.dot((distance, 0.0))
        scene.label(centre, "O_{1}", 6)
        scene.label((distance, 0.0), "O_{2}", 2)


def polygon(scene: Scene) -> None:
    """A regular polygon in polar coordinates, perhaps in its circle."""
    corners, radius = scene.random.randint(5, 8), scene.between(1.5, 3)
    angles = [90 + index * 360 / corners for index in range(corners)]
    path = " -- ".join(f"({number(angle)}:{number(radius)})" for angle in angles)
    scene.draw(f"{path} -- cycle")
    if scene.chance(0.4):
        scene.circle((0, 0), radius, scene.random.choice(("dashed", "dotted", "")))
    if scene.chance(0.7):
        letters = scene.names(corners)
        for angle, letter in zip(angles, letters, strict=False):
            way = math.radians(angle)
            scene.name((radius * math.cos(way), radius * math.sin(way)), letter, (0, 0))


def coordinates(scene: Scene) -> None:
    """Axes, some with ticks, and one curve or two."""
    left, right = -scene.between(2, 4), scene.between(3, 5)
    low, high = -scene.between(1.5, 3), scene.between(2.5, 4)
    curve = scene.random.choice(list(_CURVES))
    names = scene.random.choices((("x", "y"), ("t", "s"), ("u", "v")), (12, 1, 1))[0]
    for end, start, name, side in (((right, 0), (left, 0), names[0], 0), ((0, high), (0, low), names[1], 2)):
        scene.draw(f"{at(start)} -- {at(end)} node[{DIRECTIONS[side]}] {{${name}$}}", "->")
        scene.mark([start, end])
        scene.fixed(text_box(end, name, side), name)
    if scene.chance(0.6):
        scene.label((0, 0), "O", 5)
    if scene.chance(0.5):
        ticks(scene, left, right, low, high)
    paths = _CURVES[curve](scene, (left, right, low, high))
    style = scene.random.choice(("thick", "", "blue", "red", "thick,blue"))
    for path in paths:
        scene.draw(path, style)
    if curve in ("line", "parabola") and scene.chance(0.4):
        for path in _line(scene, (left, right, low, high)):
            scene.draw(path, "dashed")


def ticks(scene: Scene, left: float, right: float, low: float, high: float) -> None:
    named = scene.chance(0.7)
    for axis, (first, last) in enumerate(((left, right), (low, high))):
        for value in range(math.ceil(first + 0.3), math.floor(last - 0.3) + 1):
            if value == 0:
                continue
            ends = [(value, 0.08), (value, -0.08)] if axis == 0 else [(0.08, value), (-0.08, value)]
            node = rf" node[{'below' if axis == 0 else 'left'}] {{${value}$}}" if named else ""
            scene.draw(f"{at(ends[0])} -- {at(ends[1])}{node}")
            if named:
                scene.fixed(text_box(ends[1], str(value), 6 if axis == 0 else 4), str(value))


def term(factor: float, power: str, first: bool = False) -> str:
    """A summand such as +0.5*\\x*\\x; nothing for 0."""
    if round(factor, 2) == 0:
        return ""
    sign = "-" if factor < 0 else "" if first else "+"
    size = number(abs(factor))
    if not power:
        return sign + size
    return sign + (power if size == "1" else f"{size}*{power}")


def plot(function: str, first: float, last: float) -> str:
    return rf"plot[domain={number(first)}:{number(last)},samples=100] (\x,{{{function}}})"


def clipped(
    function: Callable[[float], float], first: float, last: float, low: float, high: float
) -> tuple[float, float]:
    """The ends, in tenths, of the one stretch on which the curve stays on the paper."""
    inside = [
        x / 10 for x in range(round(first * 10), round(last * 10) + 1) if low <= function(x / 10) <= high
    ]
    if len(inside) < 15 or inside[-1] - inside[0] > (len(inside) - 1) / 10 + 0.01:
        raise produce.Rejected("curve leaves the paper")
    return inside[0], inside[-1]


def traced(scene: Scene, function: Callable[[float], float], first: float, last: float) -> None:
    steps = math.ceil((last - first) / STEP)
    places = [first + step * (last - first) / steps for step in range(steps + 1)]
    scene.mark([(x, function(x)) for x in places])


Paper = tuple[float, float, float, float]  # left, right, low, high


def _line(scene: Scene, paper: Paper) -> list[str]:
    slope, rise = scene.random.choice((-2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2)), scene.between(-1, 1.5)
    left, right, low, high = paper
    ends = clipped(lambda x: slope * x + rise, left + 0.3, right - 0.3, low + 0.2, high - 0.2)
    points = [(x, slope * x + rise) for x in ends]
    scene.mark(points)
    return [" -- ".join(map(at, points))]


def _function(scene: Scene, paper: Paper, written: str, function: Callable[[float], float]) -> list[str]:
    left, right, low, high = paper
    ends = clipped(function, left + 0.2, right - 0.2, low, high)
    traced(scene, function, *ends)
    return [plot(written, *ends)]


def _parabola(scene: Scene, paper: Paper) -> list[str]:
    a, b = scene.random.choice((-1, -0.5, 0.25, 0.5, 1, 1.5)), scene.between(-1, 1)
    c = scene.between(-1, 1.5)
    written = term(a, r"\x*\x", first=True) + term(b, r"\x") + term(c, "")
    return _function(scene, paper, written, lambda x: a * x * x + b * x + c)


def _cubic(scene: Scene, paper: Paper) -> list[str]:
    a, b = scene.random.choice((0.25, 0.5, 1, -0.5)), scene.between(-2, 0)
    written = term(a, r"\x*\x*\x", first=True) + term(b, r"\x")
    return _function(scene, paper, written, lambda x: a * x**3 + b * x)


def _sine(scene: Scene, paper: Paper) -> list[str]:
    tall, fast = scene.between(0.5, min(-paper[2], paper[3]) - 0.3, 0.1), scene.random.choice((1, 1, 1.5, 2))
    name, wave = scene.random.choice((("sin", math.sin), ("cos", math.cos)))
    inner = r"\x r" if fast == 1 else rf"{number(fast)}*\x r"
    written = term(tall, f"{name}({inner})", first=True)
    return _function(scene, paper, written, lambda x: tall * wave(fast * x))


def _exponential(scene: Scene, paper: Paper) -> list[str]:
    rate = scene.random.choice((0.5, 1, -0.5, -1))
    written = rf"exp({term(rate, chr(92) + 'x', first=True)})"
    return _function(scene, paper, written, lambda x: math.exp(rate * x))


def _absolute(scene: Scene, paper: Paper) -> list[str]:
    slope, corner = scene.random.choice((0.5, 1, 1.5)), scene.between(-1, 1)
    left, right, low, high = paper
    ends = clipped(lambda x: slope * abs(x - corner) - 0.5, left, right, low, high)
    if not ends[0] < corner < ends[1]:
        raise produce.Rejected("curve leaves the paper")
    points = [(x, slope * abs(x - corner) - 0.5) for x in (ends[0], corner, ends[1])]
    scene.mark(points)
    return [" -- ".join(map(at, points))]


def _ellipse(scene: Scene, paper: Paper) -> list[str]:
    left, right, low, high = paper
    wide = round(min(-left, right) - scene.between(0.3, 0.8, 0.1), 1)
    tall = round(min(-low, high) - scene.between(0.2, 0.6, 0.1), 1)
    if wide - tall > 0.5 and scene.chance(0.5):
        focus = math.sqrt(wide * wide - tall * tall)
        for x, name in ((-focus, "F_{1}"), (focus, "F_{2}")):
            scene.dot((x, 0))
            scene.label((x, 0), name, 2)
    scene.mark_ellipse((0, 0), wide, tall)
    return [f"(0,0) ellipse ({number(wide)} and {number(tall)})"]


def _circle(scene: Scene, paper: Paper) -> list[str]:
    radius = round(min(-paper[0], paper[1], -paper[2], paper[3]) - 0.3, 1)
    scene.mark_ellipse((0, 0), radius, radius)
    return [f"(0,0) circle ({number(radius)})"]


def _hyperbola(scene: Scene, paper: Paper) -> list[str]:
    left, right, low, high = paper
    a, b = scene.between(0.5, 1, 0.1), scene.between(0.5, 1.2, 0.1)
    last = math.floor(10 * min(math.acosh(min(-left, right) / a), math.asinh(min(-low, high) / b))) / 10
    domain = f"domain={number(-last)}:{number(last)},samples=100"
    paths = []
    for sign, side in (("", 1), ("-", -1)):
        paths.append(rf"plot[{domain}] ({{{sign}{number(a)}*cosh(\x)}},{{{number(b)}*sinh(\x)}})")
        places = [last * step / 50 for step in range(-50, 51)]
        scene.mark([(side * a * math.cosh(t), b * math.sinh(t)) for t in places])
    if scene.chance(0.5):
        reach = round(min(-left, right, -low * a / b, high * a / b) - 0.1, 1)
        for rise in (b / a, -b / a):
            scene.line([(-reach, -reach * rise), (reach, reach * rise)], "dashed")
    return paths


_CURVES = {
    "line": _line, "parabola": _parabola, "cubic": _cubic, "ellipse": _ellipse, "circle": _circle,
    "hyperbola": _hyperbola, "sine": _sine, "exponential": _exponential, "absolute": _absolute,
}  # fmt: skip


def parallels(scene: Scene) -> None:
    """Two parallels, a line through both and the numbers of the angles."""
    width, height = scene.between(4, 6), scene.between(1.5, 2.5)
    for y, name in ((0.0, "b"), (height, "a")):
        scene.line([(0, y), (width, y)])
        scene.label((width, y), name, 0)
    first = scene.between(1.5, 2, 0.5)
    lean = scene.between(0.5, 1.5, 0.5)
    over = 0.8 * lean / height
    scene.line([(first - over, -0.8), (first + lean + over, height + 0.8)])
    scene.label((first + lean + over, height + 0.8), "c", 1)
    if scene.chance(0.8):
        scene.label((first + lean + 0.5, height + 0.25), "1", None)
        scene.label((first + 0.5, 0.25), "2", None)
    if scene.chance(0.4):
        scene.label((first - 0.5, -0.25), "3", None)


def cuboid(scene: Scene) -> None:
    """A cuboid in cavalier projection, hidden edges dashed."""
    width, height = scene.between(2, 4), scene.between(1.5, 3)
    depth = (scene.between(0.5, 1.5), scene.between(0.5, 1))
    front: list[Point] = [(0, 0), (width, 0), (width, height), (0, height)]
    back = [(x + depth[0], y + depth[1]) for x, y in front]
    scene.line(front, closed=True)
    scene.line([front[1], back[1], back[2], front[2]])
    scene.line([back[2], back[3], front[3]])
    for corner in (back[1], back[3], front[0]):
        scene.line([back[0], corner], "dashed")
    if scene.chance(0.7):
        for point, letter in zip(front, "ABCD", strict=True):
            scene.name(point, letter, middle(*front))
        for point, letter in zip(back[1:], "FGH", strict=True):
            scene.name(point, letter, middle(*front))


def vectors(scene: Scene) -> None:
    """Arrows from one point, perhaps with their parallelogram."""
    one, other = (scene.between(2, 4), scene.between(0, 1)), (scene.between(0.5, 1.5), scene.between(1.5, 3))
    total = one[0] + other[0], one[1] + other[1]
    ends = [(one, "a", 6), (other, "b", 3)]
    if scene.chance(0.6):
        ends.append((total, scene.random.choice(("c", "a+b")), 1))
        scene.line([one, total, other], "dashed")
    for end, name, direction in ends:
        scene.line([(0, 0), end], scene.random.choice(("->", "->,thick")))
        text = rf"\vec{{{name}}}" if len(name) == 1 else r"\vec{a}+\vec{b}"
        scene.label(middle((0, 0), end) if direction != 1 else end, text, direction)
    scene.label((0, 0), "O", 5)


def combination(scene: Scene) -> None:
    """Two to four simple things, the lower left of all of them at (0,0)."""
    count, seed = scene.random.randint(2, 4), scene.random.random()
    trial = Scene(random.Random(seed))
    _things(trial, count, (0, 0))
    left, low = (min(point[axis] for point in trial.ink) for axis in (0, 1))
    scene.random = random.Random(seed)
    _things(scene, count, (-round(left, 2), -round(low, 2)))


def _things(scene: Scene, count: int, shift: Point) -> None:
    for name in scene.random.sample("PQRMNST", count):
        x, y = scene.between(0, 4) + shift[0], scene.between(0, 3) + shift[1]
        kind = scene.random.choice(("circle", "rectangle", "segment", "triangle", "ellipse", "point"))
        style = scene.random.choice(("", "", "dashed", "thick", "red", "blue"))
        if kind == "circle":
            scene.circle((x, y), scene.between(0.5, 2), style)
        elif kind == "rectangle":
            scene.rectangle((x, y), (x + scene.between(1, 3), y + scene.between(1, 2)), style)
        elif kind == "ellipse":
            scene.ellipse((x, y), scene.between(1, 2.5), scene.between(0.5, 0.9, 0.1), style)
        elif kind == "triangle":
            top = x + scene.between(0, 2), y + scene.between(1, 2)
            scene.line([(x, y), (x + scene.between(1, 3), y), top], style, closed=True)
        elif kind == "segment":
            scene.line([(x, y), (x + scene.between(1, 3), y + scene.between(-1, 2))], style)
        else:
            scene.dot((x, y))
            scene.label((x, y), name, scene.random.randrange(8))


KINDS: dict[str, tuple[float, Callable[[Scene], None]]] = {
    "triangle": (3, triangle), "quadrilateral": (2, quadrilateral), "circle": (3, circle),
    "polygon": (1, polygon), "coordinates": (4, coordinates), "parallels": (1, parallels),
    "cuboid": (1, cuboid), "vectors": (1, vectors), "combination": (2, combination),
}  # fmt: skip


def picture(seed: int, kinds: tuple[str, ...]) -> tuple[str, str, str]:
    """A tikzpicture, its kind, and the characters of its labels."""
    chance = random.Random(seed)
    kind = chance.choices(kinds, [KINDS[candidate][0] for candidate in kinds])[0]
    scene = Scene(chance)
    KINDS[kind][1](scene)
    options = chance.choices(("", "[thick]", "[scale=0.8]", "[line width=1pt]"), (7, 1, 1, 1))[0]
    scene.place_labels()
    if not all(map(scene.free_of_ink, scene.boxes)):
        raise produce.Rejected("line through a label")
    if options == "[scale=0.8]" and scene.texts:
        options = ""  # labels keep their size and would meet
    lines = [rf"\begin{{tikzpicture}}{options}", *scene.statements, r"\end{tikzpicture}"]
    return "\n".join(lines), kind, characters("".join(scene.texts))


def characters(text: str) -> str:
    """The letters and digits, sorted; commands left out."""
    return "".join(sorted(re.findall(r"[A-Za-z0-9]", re.sub(r"\\[a-z]+", "", text))))


@dataclass(frozen=True)
class GeometryEngine:
    """TikZ pictures as records of the task format."""

    kinds: tuple[str, ...]
    dpi: tuple[int, int]
    seed: int
    degrade: float = 0.0
    suffix: str = "png"
    name: str = "geometry"
    attempts: int = 200

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        drawing, rendered = self._ahead.get(index, rng)
        page = renderers.page_that_shows(rendered, drawing.characters, characters)
        em = round(EM * drawing.dpi / 72)
        if em * 1024 / max(page.image.size) < LEAST_EM:
            raise produce.Rejected("picture too large to be read at 1024 pixels")
        image, look = on_paper(page.image, em, rng)
        image, worse = degrade.apply(image, rng, self.degrade, 0.7 * em)
        meta = {"source": "generated", "kind": drawing.kind, "font": drawing.typeface, "dpi": drawing.dpi}
        meta |= look | ({"degrade": worse} if worse else {})
        drawn = produce.Picture(f"{index:08d}.{self.suffix}", produce.encode(image, self.suffix))
        return [produce.Row(f"{self.name}-{index:08d}", (drawn,), "format", drawing.source, meta=meta)]

    def expect(self, pages: range) -> None:
        self._ahead.pages = pages

    def _draw(self, index: int, rng: numpy.random.Generator) -> Wanted:
        source, kind, seen = picture(int(rng.integers(2**62)), self.kinds)
        typeface = list(PREAMBLES)[int(rng.integers(len(PREAMBLES)))]
        return Wanted(source, kind, seen, typeface, int(rng.integers(self.dpi[0], self.dpi[1] + 1)))

    @functools.cached_property
    def _ahead(self) -> renderers.Ahead[Wanted, renderers.LatexPage | renderers.LatexFault]:
        return renderers.Ahead(self.name, self.seed, BATCH, self._draw, self._make)

    def _make(self, drawings: list[Wanted]) -> list[renderers.LatexPage | renderers.LatexFault]:
        return renderers.latex_pictures(
            [
                renderers.Snippet(drawing.source, PREAMBLES[drawing.typeface], dpi=drawing.dpi)
                for drawing in drawings
            ]
        )


def on_paper(image: Image.Image, em: int, rng: numpy.random.Generator) -> tuple[Image.Image, dict[str, Any]]:
    """The picture with margins on light paper; grey ones in any ink, coloured ones as they are."""
    from PIL import Image, ImageChops, ImageOps

    mask = ImageOps.invert(image.convert("L"))
    box = mask.getbbox()
    if image.mode == "L":
        return compose([mask.crop(box)], em, rng)
    paper = 255 - int(26 * rng.random())
    margin = round(em * (0.5 + 1.5 * rng.random()))
    tinted = ImageChops.multiply(image.crop(box), Image.new("RGB", image.crop(box).size, (paper,) * 3))
    return ImageOps.expand(tinted, margin, (paper,) * 3), {"paper": paper, "margins": [margin, margin]}


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.geometry",
        description="Draw geometry by TikZ and write it as records.",
    )
    arguments.add_arguments(options, shard_pages=500, counted="pictures")
    kinds = tuple(KINDS)
    options.add_argument(
        "--kinds", type=arguments.one_of(kinds), default=kinds, help=f"{','.join(kinds)} (default: all)"
    )
    options.add_argument("--dpi", type=arguments.span, default=(110, 200), help="(default: 110-200)")
    options.add_argument("--image", choices=("jpg", "png"), default="png", help="(default: %(default)s)")
    degrade.add_arguments(options)
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    drawn_by = renderers.program_version("pdflatex")
    for file in TEX_NEEDS:
        renderers.find_tex_file(file)
    engine = GeometryEngine(
        kinds=args.kinds, dpi=args.dpi, seed=args.seed, degrade=args.degrade, suffix=args.image
    )
    return produce.write(engine, args, args.count, drawn_by=drawn_by)


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())

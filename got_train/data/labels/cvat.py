"""CVAT's own export, `CVAT for images 1.1`: boxes and polygons whose text is an attribute."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from got_train.data.record import RecordError

from .image_search import image_of
from .labelled_page import TEXT_KEYS, Label, LabelledPage, Points, around, corners, is_coordinate, is_legible

if TYPE_CHECKING:
    from lxml.etree import _Element


def cvat_pages(root: _Element, path: str, image_root: str | None) -> Iterator[LabelledPage | RecordError]:
    """The pages of an export; boxes whose class has no text among its attributes are told once."""
    images = list(root.iter("image"))
    shapes = [shape for image in images for shape in image if shape.tag in ("box", "polygon")]
    if not images or (shapes and not any(_text(shape) for shape in shapes)):
        yield RecordError(
            f"{path}: CVAT XML without texts; give the class an attribute `text` and write the texts there"
        )
        return
    for image in images:
        location = f"{path}:{image.sourceline}"
        try:
            labels = [_label(shape, f"{path}:{shape.sourceline}") for shape in image if shape.tag != "tag"]
            placed = tuple(label for label in labels if label.box is not None)
            lost = tuple(("shapes without a box left out", label) for label in labels if label.box is None)
            named = image_of(path, image.get("name", ""), image_root, location)
            sides = [_coordinate(image.get(side), location) for side in ("width", "height")]
            yield LabelledPage(named, placed, location, tuple(sides), "page", lost)
        except RecordError as error:
            yield error


def _label(shape: _Element, location: str) -> Label:
    notes = {note.get("name", "").lower(): note.text or "" for note in shape.iter("attribute")}
    points = _points(shape, location)
    if not points:
        return Label(_text(shape), None, location=location)
    return Label(_text(shape), around(points), corners(points), is_legible(notes), location)


def _text(shape: _Element) -> str:
    notes = {note.get("name", "").lower(): (note.text or "").strip() for note in shape.iter("attribute")}
    return next((notes[key] for key in TEXT_KEYS if notes.get(key)), "")


def _points(shape: _Element, location: str) -> Points:
    """The corners of a box, turned around its middle by its degrees, or of a polygon; else none."""
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise RecordError(f"{location}: points {shape.get('points')!r}; expected 10,20;30,20;30,40")
        return tuple((_coordinate(x, location), _coordinate(y, location)) for x, y in pairs)
    if shape.tag != "box":
        return ()
    x1, y1, x2, y2 = (_coordinate(shape.get(side), location) for side in ("xtl", "ytl", "xbr", "ybr"))
    ends = (x1, y1), (x2, y1), (x2, y2), (x1, y2)
    turn = math.radians(_coordinate(shape.get("rotation", "0"), location))
    if not turn:
        return ends
    middle, cos, sin = ((x1 + x2) / 2, (y1 + y2) / 2), math.cos(turn), math.sin(turn)
    arms = ((x - middle[0], y - middle[1]) for x, y in ends)
    turned = ((middle[0] + x * cos - y * sin, middle[1] + x * sin + y * cos) for x, y in arms)
    return tuple((round(x, 3), round(y, 3)) for x, y in turned)


def _coordinate(text: str | None, location: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not is_coordinate(number):
        raise RecordError(f"{location}: coordinate {text!r}; expected a number")
    return number

"""Pages of text lines in PAGE XML (2010 to 2019) and ALTO XML (2 to 4), one page a file.

Knows the two schemas; what becomes of a labelled page is a matter of positions.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.data.record import RecordError, shorten
from got_train.images import SUFFIXES

from .to_spots import Label, LabelledPage, around, is_coordinate, is_rectangle

if TYPE_CHECKING:
    from lxml.etree import _Element

ROOTS = ("PcGts", "alto")


def labelled_page(path: str, image_root: str | None = None) -> LabelledPage:
    """The page of a PAGE or ALTO file with a label for every text line."""
    root = _parsed(path)
    if _name(root) not in ROOTS:
        raise RecordError(f"{path}: <{_name(root)}>; the root of PAGE XML is <PcGts>, that of ALTO <alto>")
    pages = list(_all(root, "Page"))
    if len(pages) != 1:
        raise RecordError(f"{path}: {len(pages)} pages; one page a file")
    read = _page if _name(root) == "PcGts" else _alto
    return read(path, root, pages[0], image_root)


def _parsed(path: str) -> _Element:
    """The root. Nothing outside the file is read, and no entity is replaced: it could fill the memory."""
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True,
        remove_pis=True,
    )  # fmt: skip
    try:
        tree = etree.parse(path, parser)
    except (etree.XMLSyntaxError, OSError) as error:
        raise RecordError(f"{path}: not XML: {error}; PAGE XML or ALTO") from error
    if tree.docinfo.internalDTD is not None:
        raise RecordError(f"{path}: declares a document type; PAGE XML and ALTO need none")
    return tree.getroot()


def _page(path: str, root: _Element, page: _Element, image_root: str | None) -> LabelledPage:
    """PAGE: regions in the order of ReadingOrder if there is one, then those it does not name."""
    rank = _ranks(page)
    regions = sorted(_all(page, "TextRegion"), key=lambda region: _rank(region, rank))
    labels = [_page_line(path, line) for region in regions for line in _page_lines(region)]
    size = _number(path, page, "imageWidth"), _number(path, page, "imageHeight")
    image = _image(path, page.get("imageFilename", ""), image_root)
    return LabelledPage(image, tuple(labels), path, size)


def _page_lines(region: _Element) -> list[_Element]:
    """The lines of a region; one that has a text but neither lines nor regions of its own is like a line."""
    lines = list(_children(region, "TextLine"))
    alone = not lines and _unicode(region) and len(list(_all(region, "TextRegion"))) == 1
    return [region] if alone else lines


def _page_line(path: str, line: _Element) -> Label:
    points = [point for coords in _children(line, "Coords") for point in _points(path, coords)]
    if not points:
        raise RecordError(f"{_where(path, line)}: no Coords; the points of the line")
    text = _unicode(line)
    if text is None:  # words alone are labelled
        text = " ".join(filter(None, map(_unicode, _children(line, "Word"))))
    return Label(text, around(points), not is_rectangle(points))


def _unicode(element: _Element) -> str | None:
    """The text of a line or word; of several readings the one with the lowest index."""
    readings = list(_children(element, "TextEquiv"))
    if not readings:
        return None
    first = min(readings, key=_index)
    return next((found.text or "" for found in _children(first, "Unicode")), "").strip()


def _points(path: str, coords: _Element) -> Iterator[tuple[float, float]]:
    """The corners of `points="1,2 3,4"`, or of Point elements as files of 2010 have them."""
    pairs = [pair.split(",") for pair in coords.get("points", "").split()]
    pairs += [(point.get("x"), point.get("y")) for point in _children(coords, "Point")]
    for pair in pairs:
        try:
            x, y = map(_coordinate, pair)
        except (TypeError, ValueError) as error:
            raise RecordError(f"{_where(path, coords)}: point {shorten(pair)}; as in 10,20 30,20") from error
        yield x, y


def _alto(path: str, root: _Element, page: _Element, image_root: str | None) -> LabelledPage:
    """ALTO: lines as they stand in the file, or as ReadingOrder (from 4.3 on) names them or their blocks."""
    rank = _ranks(root)
    lines = sorted(_all(page, "TextLine"), key=lambda line: _rank(line, rank))
    named = next((found.text or "" for found in _all(root, "fileName")), "").strip()
    sides = [page.get(side) for side in ("WIDTH", "HEIGHT")]
    size = None if None in sides else (_number(path, page, "WIDTH"), _number(path, page, "HEIGHT"))
    unit = next((found.text or "" for found in _all(root, "MeasurementUnit")), "pixel").strip()
    if size is None and unit != "pixel":
        raise RecordError(
            f"{path}: boxes in {unit} and no WIDTH and HEIGHT of the page; give the page's size"
        )
    labels = [_alto_line(path, line) for line in lines]
    return LabelledPage(_image(path, named, image_root), tuple(labels), path, size)


def _alto_line(path: str, line: _Element) -> Label:
    text = ""
    for part in line:
        if _name(part) == "String":
            text += part.get("CONTENT", "")
        elif _name(part) == "SP":
            text += " "
        elif _name(part) == "HYP":
            text += part.get("CONTENT", "-")
    polygons = [found for shape in _children(line, "Shape") for found in _children(shape, "Polygon")]
    if polygons:
        points = _alto_points(path, polygons[0])
        return Label(text, around(points), not is_rectangle(points))
    placed = [line] if line.get("HPOS") is not None else list(_children(line, "String"))
    boxes = [_alto_box(path, element) for element in placed]
    if not boxes:
        raise RecordError(f"{_where(path, line)}: no HPOS and no String; the place of the line")
    return Label(text, around([corner for box in boxes for corner in (box[:2], box[2:])]))


def _alto_box(path: str, element: _Element) -> tuple[float, float, float, float]:
    x, y, width, height = (_number(path, element, key) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    return x, y, x + width, y + height


def _alto_points(path: str, polygon: _Element) -> list[tuple[float, float]]:
    """The corners of `1,2 3,4` or `1 2 3 4`, both of which the schema admits."""
    try:
        numbers = [_coordinate(number) for number in polygon.get("POINTS", "").replace(",", " ").split()]
        return list(zip(numbers[::2], numbers[1::2], strict=True)) or [(numbers[0], numbers[1])]
    except (ValueError, IndexError) as error:
        told = shorten(polygon.get("POINTS"))
        raise RecordError(f"{_where(path, polygon)}: POINTS {told}; as in 10,20 30,20") from error


def _ranks(around: _Element) -> dict[str, int]:
    """The place of every id that the reading orders below an element name."""
    named = [name for order in _all(around, "ReadingOrder") for name in _in_group(order)]
    return {name: place for place, name in enumerate(dict.fromkeys(named))}


def _in_group(group: _Element) -> list[str]:
    """The ids that a group of a reading order names, by their index in it, its groups included."""
    found = []
    for member in sorted(group, key=_index):
        own = member.get("regionRef") or member.get("REF")
        found += ([own] if own else []) + _in_group(member)
    return found


def _rank(element: _Element, ranks: dict[str, int]) -> int:
    """That of the element or of the nearest one around it; behind all others if there is none."""
    while element is not None:
        name = element.get("id") or element.get("ID")
        if name in ranks:
            return ranks[name]
        element = element.getparent()
    return len(ranks)


def _index(element: _Element) -> int:
    told = element.get("index", "0")
    return int(told) if told.isdecimal() else 0


def _image(path: str, named: str, image_root: str | None) -> str:
    """The picture that a label file names, looked for in image_root, or beside the file and one folder up."""
    folder = Path(path).parent
    roots = [Path(image_root)] if image_root is not None else [folder, folder.parent]
    plain = named.removeprefix("file://").replace("\\", "/")
    names = [plain, plain.rsplit("/", 1)[-1], *(Path(path).stem + suffix for suffix in SUFFIXES)]
    for name in filter(None, names):
        for root in roots:
            if os.path.isfile(root / name):
                return str(root / name)
    location = " or ".join(map(str, roots))
    raise RecordError(
        f"{path}: no picture {named or Path(path).stem} in {location}; image_root is its folder"
    )


def _name(element: _Element) -> str:
    """The name without its namespace: every version of the schemas has its own."""
    tag = element.tag
    return tag.rsplit("}", 1)[-1] if isinstance(tag, str) else ""


def _all(element: _Element, name: str) -> Iterator[_Element]:
    return (found for found in element.iter() if _name(found) == name)


def _children(element: _Element, name: str) -> Iterator[_Element]:
    return (found for found in element if _name(found) == name)


def _number(path: str, element: _Element, key: str) -> float:
    try:
        return _coordinate(element.get(key, ""))
    except ValueError as error:
        told = f"{key} of {_name(element)} is {shorten(element.get(key))}"
        raise RecordError(f"{_where(path, element)}: {told}; a number") from error


def _coordinate(text: str) -> float:
    if not is_coordinate(number := float(text)):
        raise ValueError(f"{number}; a coordinate")
    return number


def _where(path: str, element: _Element) -> str:
    return f"{path}:{element.sourceline}"

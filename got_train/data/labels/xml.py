"""Pages of text lines in PAGE XML (2010 to 2019) and ALTO XML (2 to 4), one page a file; CVAT's by cvat.py.

Knows the two schemas; what becomes of a labelled page is a matter of to_spots.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from got_train.data.record import RecordError, shorten
from got_train.formats.spots import Spot

from .cvat import cvat_pages
from .image_search import image_of
from .labelled_page import Label, LabelledPage, around, around_boxes, corners, is_coordinate

if TYPE_CHECKING:
    from lxml.etree import _Element

# what other programs' XML is called, by its root: said of files that are neither PAGE nor ALTO
OTHER_ROOTS = {
    "annotation": "Pascal VOC boxes, which have classes and no texts",
    "document": "ABBYY or pdftoxml output; export ALTO instead",
    "mets": "METS, a list of files; give the folder of its PAGE or ALTO files",
    "TEI": "TEI, which has no boxes; export PAGE or ALTO instead",
}
HYPHENS = "-\u00ad\u2010\u2011\u00ac\u2e17"  # which end a line of print; the soft one shows as -
_CUSTOM_INDEX = re.compile(r"readingOrder\s*\{[^}]*index\s*:\s*(\d+)")
_LAST = 10**9  # the place of what no order names

Order = tuple[tuple[float, float, float], ...]


def xml_pages(path: str, image_root: str | None = None) -> Iterator[LabelledPage | RecordError]:
    """The page of a PAGE or ALTO file with a label for every text line, or the pages of a CVAT export."""
    try:
        root = _parsed(path)
        if _name(root) == "annotations":
            yield from cvat_pages(root, path, image_root)
        else:
            yield _one_page(path, root, image_root)
    except RecordError as error:
        yield error


def _one_page(path: str, root: _Element, image_root: str | None) -> LabelledPage:
    if _name(root) not in ("PcGts", "alto"):
        advice = OTHER_ROOTS.get(_name(root), "the root of PAGE XML is <PcGts>, that of ALTO <alto>")
        raise RecordError(f"{path}: <{_name(root)}>; {advice}")
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


# ---- PAGE


def _page(path: str, root: _Element, page: _Element, image_root: str | None) -> LabelledPage:
    """PAGE: the lines of regions and table cells, in the order that ReadingOrder or `custom` names."""
    order_of = _page_order(page)
    labels: list[Label] = []
    for region in sorted(filter(_holds_text, page.iter()), key=order_of):
        lines = sorted(_children(region, "TextLine"), key=lambda line: _custom_index(line, _LAST))
        labels += _region_labels(path, region, lines)
    size = _number(path, page, "imageWidth"), _number(path, page, "imageHeight")
    if labels and all(label.box == (0, 0, *size) for label in labels):  # a text of the page, without a place
        lines = [(label, text) for label in labels for text in label.text.splitlines()]
        labels = [Label(text, None, location=label.location) for label, text in lines]
    image = image_of(path, page.get("imageFilename", ""), image_root)
    return LabelledPage(image, tuple(labels), path, size)


def _holds_text(element: _Element) -> bool:
    """Whether an element has lines of its own (a region, or a cell of a table), or is a region of text."""
    return _name(element) in ("TextRegion", "TableCell") or any(True for _ in _children(element, "TextLine"))


def _region_labels(path: str, region: _Element, lines: list[_Element]) -> list[Label]:
    """A label a line. A region that alone has the text gives it to its lines, or is like a line."""
    labels = [_page_line(path, line) for line in lines]
    text = _unicode(region) or ""
    if not text or any(label.text for label in labels) or _inner_text(region):
        return labels
    written = [line.strip() for line in text.splitlines() if line.strip()]
    if len(written) == len(labels):
        return [replace(label, text=text) for text, label in zip(written, labels, strict=True)]
    return [_page_line(path, region)]


def _inner_text(region: _Element) -> bool:
    """Whether regions or cells inside a region have texts, of which its own is only the sum."""
    return any(inner is not region and (_unicode(inner) or _line_text(inner)) for inner in region.iter())


def _page_line(path: str, line: _Element) -> Label:
    points = _outline(path, line)
    if not points:
        raise RecordError(f"{_location(path, line)}: no Coords; the points of the line")
    text = _unicode(line) or _line_text(line)
    words = [(_word_text(word), _outline(path, word)) for word in _children(line, "Word")]
    placed = tuple(Spot(word, around(outline)) for word, outline in words if word and outline)
    location = _location(path, line)
    return Label(text, around(points), corners(points), location=location, words=placed)


def _outline(path: str, element: _Element) -> list[tuple[float, float]]:
    return [point for coords in _children(element, "Coords") for point in _points(path, coords)]


def _line_text(line: _Element) -> str:
    """The text of a line's words, where the line itself has none."""
    return " ".join(filter(None, map(_word_text, _children(line, "Word"))))


def _word_text(word: _Element) -> str:
    """The text of a word, or of its glyphs, where the word itself has none."""
    return _unicode(word) or "".join(filter(None, map(_unicode, _children(word, "Glyph"))))


def _unicode(element: _Element) -> str | None:
    """The text of a line or word; of several readings the first that has one, by their index."""
    readings = sorted(_children(element, "TextEquiv"), key=_index)
    names = ("Unicode", "PlainText")  # which some programs fill alone
    parts = (part for name in names for reading in readings for part in _children(reading, name))
    texts = [(part.text or "").strip() for part in parts]
    return next(filter(None, texts), "" if readings else None)


def _points(path: str, coords: _Element) -> Iterator[tuple[float, float]]:
    """The corners of `points="1,2 3,4"`, or of Point elements as files of 2010 have them."""
    pairs = [pair.split(",") for pair in coords.get("points", "").split()]
    pairs += [(point.get("x"), point.get("y")) for point in _children(coords, "Point")]
    for pair in pairs:
        try:
            x, y = map(_coordinate, pair)
        except (TypeError, ValueError) as error:
            raise RecordError(
                f"{_location(path, coords)}: point {shorten(pair)}; as in 10,20 30,20"
            ) from error
        yield x, y


def _page_order(page: _Element) -> Callable[[_Element], Order]:
    """Where a region or cell stands: ReadingOrder, else `custom="readingOrder {index:n;}"`, else the file.

    An order that names some regions by their index is merged with the `custom` of the others.
    """
    orders = list(_all(page, "ReadingOrder"))
    ranks = _ranks(page)
    groups = [group for order in orders for group in order]
    if len(groups) == 1 and not any(len(member) for member in groups[0]):  # flat: its own numbers count
        members = [member for member in groups[0] if member.get("index", "").isdecimal()]
        if len(members) == len(groups[0]):
            ranks = {member.get("regionRef"): int(member.get("index")) for member in reversed(members)}
    positions = {element: index for index, element in enumerate(page.iter())}

    def order(element: _Element) -> Order:
        path: list[tuple[float, float, float]] = []
        while element is not page:
            name = element.get("id")
            if name in ranks:
                path.append((ranks[name], 0, 0))
                break
            path.append(_own_order(element, positions[element]))
            element = element.getparent()
        first, *rest = reversed(path)
        return (first, *rest)

    return order


def _own_order(element: _Element, position: int) -> tuple[float, float, float]:
    """Among its neighbours: by row and column of a table, by `custom`, or behind these as it stands."""
    if _name(element) == "TableCell":
        row, column = (element.get(key, "") for key in ("row", "col"))
        if row.isdecimal() and column.isdecimal():
            return int(row), int(column), position
    index = _custom_index(element, _LAST)
    return index, 1, position


def _custom_index(element: _Element, missing: int) -> int:
    match = _CUSTOM_INDEX.search(element.get("custom", ""))
    return int(match[1]) if match else missing


# ---- ALTO


def _alto(path: str, root: _Element, page: _Element, image_root: str | None) -> LabelledPage:
    """ALTO: lines as they stand in the file, or as ReadingOrder (from 4.3 on) names them or their blocks."""
    rank = _ranks(root)
    lines = sorted(_all(page, "TextLine"), key=lambda line: _rank(line, rank))
    named = next((element.text or "" for element in _all(root, "fileName")), "").strip()
    sides = [page.get(side) for side in ("WIDTH", "HEIGHT")]
    size = None if None in sides else (_number(path, page, "WIDTH"), _number(path, page, "HEIGHT"))
    unit = next((element.text or "" for element in _all(root, "MeasurementUnit")), "pixel").strip()
    if size is None and unit != "pixel":
        raise RecordError(
            f"{path}: boxes in {unit} and no WIDTH and HEIGHT of the page; give the page's size"
        )
    labels = [_alto_line(path, line) for line in lines]
    return LabelledPage(image_of(path, named, image_root), tuple(labels), path, size)


def _alto_line(path: str, line: _Element) -> Label:
    text, location = _alto_text(line), _location(path, line)
    strings = list(_children(line, "String"))
    placed = [string for string in strings if string.get("HPOS") is not None]
    words = tuple(Spot(string.get("CONTENT", ""), _alto_box(path, string)) for string in placed)
    words = words if len(placed) == len(strings) > 1 else ()
    polygons = [polygon for shape in _children(line, "Shape") for polygon in _children(shape, "Polygon")]
    if polygons:
        points = _alto_points(path, polygons[0])
        return Label(text, around(points), corners(points), location=location, words=words)
    if line.get("HPOS") is not None:
        return Label(text, _alto_box(path, line), location=location, words=words)
    if not strings:
        raise RecordError(f"{location}: no HPOS and no String; the place of the line")
    box = around_boxes([_alto_box(path, string) for string in placed])
    return Label(text, box, location=location, words=words)


def _alto_text(line: _Element) -> str:
    """The words of a line with a space between them, whether the file writes <SP/> there or not.

    The schema leaves SP to the writer. Between two signs of Chinese or Japanese without SP there is none.
    """
    text, gap = "", False
    for part in line:
        if _name(part) == "String":
            word = part.get("CONTENT", "").strip()
            if gap and word and text and not (_is_ideograph(text[-1]) and _is_ideograph(word[0])):
                text += " " * (not text.endswith(" "))
            text, gap = text + word, True
        elif _name(part) == "SP":
            text, gap = text + " " * (not text.endswith(" ")), False
        elif _name(part) == "HYP":
            sign = part.get("CONTENT", "-").replace("\u00ad", "-")
            text += "" if text.rstrip().endswith(tuple(HYPHENS)) else sign
    text = text.strip()
    return text[:-1] + "-" if text.endswith("\u00ad") else text


def _is_ideograph(sign: str) -> bool:
    return "\u2e80" <= sign <= "\u9fff" or "\uf900" <= sign <= "\ufaff" or sign >= "\U00020000"


def _alto_box(path: str, element: _Element) -> tuple[float, float, float, float]:
    x, y, width, height = (_number(path, element, key) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    return x, y, x + width, y + height


def _alto_points(path: str, polygon: _Element) -> list[tuple[float, float]]:
    """The corners of `1,2 3,4` or `1 2 3 4`, both of which the schema admits."""
    try:
        numbers = [_coordinate(number) for number in polygon.get("POINTS", "").replace(",", " ").split()]
        return list(zip(numbers[::2], numbers[1::2], strict=True)) or [(numbers[0], numbers[1])]
    except (ValueError, IndexError) as error:
        points = shorten(polygon.get("POINTS"))
        raise RecordError(f"{_location(path, polygon)}: POINTS {points}; as in 10,20 30,20") from error


# ---- both


def _ranks(around: _Element) -> dict[str, int]:
    """The place of every id that the reading orders below an element name."""
    named = [name for order in _all(around, "ReadingOrder") for name in _in_group(order)]
    return {name: index for index, name in enumerate(dict.fromkeys(named))}


def _in_group(group: _Element) -> list[str]:
    """The ids that a group of a reading order names, by their index in it, its groups included."""
    names = []
    for member in sorted(group, key=_index):
        own = member.get("regionRef") or member.get("REF")
        names += ([own] if own else []) + _in_group(member)
    return names


def _rank(element: _Element, ranks: dict[str, int]) -> int:
    """That of the element or of the nearest one around it; behind all others if there is none."""
    while element is not None:
        name = element.get("id") or element.get("ID")
        if name in ranks:
            return ranks[name]
        element = element.getparent()
    return len(ranks)


def _index(element: _Element) -> int:
    index = element.get("index", "0")
    return int(index) if index.isdecimal() else 0


def _name(element: _Element) -> str:
    """The name without its namespace: every version of the schemas has its own."""
    tag = element.tag
    return tag.rsplit("}", 1)[-1] if isinstance(tag, str) else ""


def _all(element: _Element, name: str) -> Iterator[_Element]:
    return (inner for inner in element.iter() if _name(inner) == name)


def _children(element: _Element, name: str) -> Iterator[_Element]:
    return (child for child in element if _name(child) == name)


def _number(path: str, element: _Element, key: str) -> float:
    try:
        return _coordinate(element.get(key, ""))
    except ValueError as error:
        value = f"{key} of {_name(element)} is {shorten(element.get(key))}"
        raise RecordError(f"{_location(path, element)}: {value}; a number") from error


def _coordinate(text: str) -> float:
    if not is_coordinate(number := float(text)):
        raise ValueError(f"{number}; a coordinate")
    return number


def _location(path: str, element: _Element) -> str:
    return f"{path}:{element.sourceline}"

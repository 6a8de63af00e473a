"""Labelled pages as PAGE XML, ALTO, hOCR and CVAT XML.

Takes pages in pixels that the format can say, see writers.py; knows no file and counts no loss.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import groupby
from typing import TYPE_CHECKING

from got_train.formats.spots import Box

from .labelled_page import Label, LabelledPage, Points, around_boxes

if TYPE_CHECKING:
    from lxml.etree import _Element

_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_PAGE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
_ALTO = "http://www.loc.gov/standards/alto/ns-v4#"
_XHTML = '"-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd"'
CREATOR = "got_train"


def page_xml(pages: Sequence[LabelledPage]) -> str:
    """PAGE of 2019: lines with a place in one region, texts without one in a region of the whole page."""
    (page,) = pages
    width, height = page.size
    root = _root("PcGts", _PAGE, f"{_PAGE} {_PAGE}/pagecontent.xsd")
    metadata = _add(root, "Metadata")
    _add(metadata, "Creator").text = CREATOR
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    for name in ("Created", "LastChange"):
        _add(metadata, name).text = now
    body = _add(root, "Page", imageFilename=page.image, imageWidth=f"{width}", imageHeight=f"{height}")
    for number, (placed, labels) in enumerate(_regions(page), 1):
        box = around_boxes([label.box for label in labels]) if placed else (0, 0, width, height)
        region = _add(body, "TextRegion", id=f"r{number}")
        _coords(region, _ends(box))
        if not placed:
            _text_equiv(region, "\n".join(label.text for label in labels))
        for line_number, label in enumerate(labels if placed else (), 1):
            line = _add(region, "TextLine", id=f"r{number}l{line_number}")
            _coords(line, label.polygon or _ends(label.box))
            for index, word in enumerate(label.words, 1):
                element = _add(line, "Word", id=f"r{number}l{line_number}w{index}")
                _coords(element, _ends(word.box))
                _text_equiv(element, word.text)
            _text_equiv(line, label.text)
    return _written(root)


def _regions(page: LabelledPage) -> Iterator[tuple[bool, list[Label]]]:
    """Labels that follow one another and have a place, or have none."""
    for placed, labels in groupby(page.labels, lambda label: label.box is not None):
        yield placed, list(labels)


def _coords(element: _Element, points: Points) -> None:
    _add(element, "Coords", points=" ".join(f"{x:g},{y:g}" for x, y in points))


def _text_equiv(element: _Element, text: str) -> None:
    if text:
        _add(_add(element, "TextEquiv"), "Unicode").text = text


def alto(pages: Sequence[LabelledPage]) -> str:
    """ALTO 4: a String a word where words have boxes, else one with the line's text."""
    (page,) = pages
    root = _root("alto", _ALTO, f"{_ALTO} http://www.loc.gov/standards/alto/v4/alto-4-2.xsd")
    description = _add(root, "Description")
    _add(description, "MeasurementUnit").text = "pixel"
    _add(_add(description, "sourceImageInformation"), "fileName").text = page.image
    whole = 0, 0, *page.size
    sides = {"WIDTH": f"{page.size[0]}", "HEIGHT": f"{page.size[1]}"}
    body = _add(_add(root, "Layout"), "Page", ID="page_1", PHYSICAL_IMG_NR="1", **sides)
    space = _add(body, "PrintSpace", **_alto_box(whole))
    for number, (_, labels) in enumerate(_regions(page), 1):
        box = around_boxes([label.box for label in labels if label.box])
        block = _add(space, "TextBlock", ID=f"block_{number}", **_alto_box(box or whole))
        for line_number, label in enumerate(labels, 1):
            line = _add(block, "TextLine", ID=f"line_{number}_{line_number}", **_alto_box(label.box))
            if label.polygon:
                points = " ".join(f"{_number(x)},{_number(y)}" for x, y in label.polygon)
                _add(_add(line, "Shape"), "Polygon", POINTS=points)
            words = [(word.text, word.box) for word in label.words] or [(label.text, label.box)]
            for index, (text, word_box) in enumerate(words):
                if index:
                    _add(line, "SP")
                _add(line, "String", CONTENT=text, **_alto_box(word_box))
    return _written(root)


def _alto_box(box: Box | None) -> dict[str, str]:
    if box is None:
        return {}
    x1, y1, x2, y2 = box
    sides = {"HPOS": x1, "VPOS": y1, "WIDTH": x2 - x1, "HEIGHT": y2 - y1}
    return {name: _number(side) for name, side in sides.items()}


def hocr(pages: Sequence[LabelledPage]) -> str:
    """hOCR 1.2 as XHTML; a line without words has one of its whole text, which tools that make PDFs need."""
    parts = [
        f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html PUBLIC {_XHTML}>\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" lang="en" xml:lang="en">\n<head>\n<title>'
        f"{html.escape(pages[0].image)}</title>\n"
        '<meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>\n'
        f'<meta name="ocr-system" content="{CREATOR}"/>\n'
        '<meta name="ocr-capabilities" content="ocr_page ocr_carea ocr_par ocr_line ocrx_word"/>\n'
        "</head>\n<body>\n"
    ]
    for number, page in enumerate(pages, 1):
        image = f'image "{page.image}"; bbox 0 0 {page.size[0]} {page.size[1]}; ppageno {number - 1}'
        parts.append(f"{_tag('div', 'ocr_page', f'page_{number}', image)}\n")
        for block, (_, labels) in enumerate(_regions(page), 1):
            name = f"{number}_{block}"
            box = around_boxes([label.box for label in labels if label.box])
            outer = _title(box)
            parts.append(_tag("div", "ocr_carea", f"block_{name}", outer))
            parts.append(f"{_tag('p', 'ocr_par', f'par_{name}', outer)}\n")
            parts += [
                _hocr_line(label, f"{name}_{line_number}") for line_number, label in enumerate(labels, 1)
            ]
            parts.append("</p></div>\n")
        parts.append("</div>\n")
    return "".join([*parts, "</body>\n</html>\n"])


def _hocr_line(label: Label, name: str) -> str:
    words = [(word.text, word.box) for word in label.words] or [(label.text, label.box)]
    spans = [
        f"{_tag('span', 'ocrx_word', f'word_{name}_{index}', _title(box))}{html.escape(text)}</span>"
        for index, (text, box) in enumerate(words, 1)
    ]
    line = _tag("span", "ocr_line", f"line_{name}", _title(label.box, label.polygon))
    return f"{line}{' '.join(spans)}</span>\n"


def _tag(name: str, kind: str, identity: str, title: str) -> str:
    titled = f' title="{html.escape(title)}"' if title else ""
    return f'<{name} class="{kind}" id="{identity}"{titled}>'


def _title(box: Box | None, polygon: Points = ()) -> str:
    if box is None:
        return ""
    points = "".join(f" {x:g} {y:g}" for x, y in polygon)
    return "bbox " + " ".join(f"{side:g}" for side in box) + (f"; poly{points}" if points else "")


def cvat(pages: Sequence[LabelledPage]) -> str:
    """CVAT for images 1.1: boxes and polygons of the class text, with the text as an attribute."""
    from lxml import etree

    root = etree.Element("annotations")
    _add(root, "version").text = "1.1"
    for number, page in enumerate(pages):
        sides = {"width": f"{page.size[0]}", "height": f"{page.size[1]}"}
        image = _add(root, "image", id=f"{number}", name=page.image, **sides)
        for label in page.labels:
            plain = {"label": "text", "source": "manual", "occluded": "0", "z_order": "0"}
            if label.polygon:
                points = ";".join(f"{_number(x)},{_number(y)}" for x, y in label.polygon)
                shape = _add(image, "polygon", points=points, **plain)
            else:
                names = zip(("xtl", "ytl", "xbr", "ybr"), label.box, strict=True)
                shape = _add(image, "box", **{name: _number(side) for name, side in names}, **plain)
            _add(shape, "attribute", name="text").text = label.text
            if not label.legible:
                _add(shape, "attribute", name="legible").text = "false"
    return _written(root)


def _root(name: str, namespace: str, schema: str) -> _Element:
    from lxml import etree

    root = etree.Element(f"{{{namespace}}}{name}", nsmap={None: namespace, "xsi": _XSI})
    root.set(f"{{{_XSI}}}schemaLocation", schema)
    return root


def _add(parent: _Element, tag: str, **attributes: str) -> _Element:
    from lxml import etree

    namespace = etree.QName(parent).namespace
    return etree.SubElement(parent, f"{{{namespace}}}{tag}" if namespace else tag, attributes)


def _written(root: _Element) -> str:
    from lxml import etree

    etree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + etree.tostring(root, encoding="unicode") + "\n"


def _ends(box: Box) -> Points:
    x1, y1, x2, y2 = box
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


def _number(value: float) -> str:
    """To a thousandth of a pixel, without zeros at the end."""
    return f"{value:.3f}".rstrip("0").rstrip(".")

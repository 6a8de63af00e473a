"""Pages of hOCR, as Tesseract, OCRopus and Kraken write it: HTML whose titles hold boxes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.data.line_files import has_utf16_mark
from got_train.data.record import RecordError
from got_train.formats.spots import Spot

from .image_search import image_of
from .labelled_page import Label, LabelledPage, Points, around, around_boxes, corners

if TYPE_CHECKING:
    from lxml.html import HtmlElement

LINES = ("ocr_line", "ocr_header", "ocr_footer", "ocr_caption", "ocr_textfloat", "ocrx_line")
_CHARSET = re.compile(rb"(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_BOX = re.compile(r"\bbbox\s+(-?\d+(?:\.\d+)?)\s+(-?\d+(?:\.\d+)?)\s+(-?\d+(?:\.\d+)?)\s+(-?\d+(?:\.\d+)?)")
_POLYGON = re.compile(r"\bpoly((?:\s+-?\d+(?:\.\d+)?){6,})")
_IMAGE = re.compile(r"\bimage\s+(?:\"([^\"]*)\"|'([^']*)'|([^\s;]+))")


def is_hocr(start: bytes) -> bool:
    """Whether the beginning of a file is that of hOCR."""
    return b"ocr_page" in start or b'name="ocr-system"' in start or b"name='ocr-system'" in start


def hocr_pages(path: str, image_root: str | None) -> Iterator[LabelledPage | RecordError]:
    """The pages of a file; words that stand in no line are lines of their own."""
    from lxml import html

    try:
        encoding = _encoding(path)
        # an HTML parser: it knows no entities but HTML's own, and reads nothing outside the file
        parser = html.HTMLParser(no_network=True, encoding=encoding, huge_tree=False)
        root = html.parse(path, parser).getroot()
    except UnicodeDecodeError as error:
        yield RecordError(f"{path}: not {error.encoding.upper()} ({error}); save it as UTF-8")
        return
    except (OSError, ValueError, LookupError) as error:
        yield RecordError(f"{path}: cannot be read ({error}); an hOCR file")
        return
    pages = [] if root is None else list(_of_class(root, ("ocr_page",)))
    if not pages:
        yield RecordError(f"{path}: hOCR without an ocr_page; write it anew")
    for page in pages:
        location = f"{path}:{page.sourceline}"
        try:
            named = _IMAGE.search(page.get("title", ""))
            image = image_of(
                path, next(filter(None, named.groups()), "") if named else "", image_root, location
            )
            box = _box(page)
            size = None if box is None or box[:2] != (0, 0) else box[2:]
            yield LabelledPage(image, tuple(_labels(path, page)), location, size)
        except RecordError as error:
            yield error


def _encoding(path: str) -> str:
    """What the file says of itself, else UTF-8; one that is not that is refused, or signs would be lost."""
    if has_utf16_mark(path):
        return "utf-16"
    content = Path(path).read_bytes()
    said = _CHARSET.search(content[:2048])
    encoding = said[1].decode("ascii") if said else "utf-8"
    content.decode(encoding)
    return encoding


def _labels(path: str, page: HtmlElement) -> Iterator[Label]:
    for line in _of_class(page, (*LINES, "ocrx_word")):
        if any(_has_class(outer, LINES) for outer in line.iterancestors()):
            continue
        elements = list(_of_class(line, ("ocrx_word",))) or [line]
        texts = [" ".join(element.text_content().split()) for element in elements]
        boxes = [_box(element) for element in elements]
        words = tuple(Spot(text, box) for text, box in zip(texts, boxes, strict=True) if text and box)
        words = words if len(words) == len(elements) > 1 else ()
        box = _box(line) or around_boxes([box for box in boxes if box])
        location = f"{path}:{line.sourceline}"
        polygon = _polygon(line)
        text = " ".join(texts).strip()
        yield Label(text, around(polygon) if polygon else box, polygon, location=location, words=words)


def _of_class(element: HtmlElement, names: tuple[str, ...]) -> Iterator[HtmlElement]:
    return (inner for inner in element.iter() if _has_class(inner, names))


def _has_class(element: HtmlElement, names: tuple[str, ...]) -> bool:
    return isinstance(element.tag, str) and not set(element.get("class", "").split()).isdisjoint(names)


def _polygon(element: HtmlElement) -> Points:
    """The corners that `poly x0 y0 x1 y1 ...` names, if they are no upright rectangle."""
    match = _POLYGON.search(element.get("title", ""))
    numbers = [float(number) for number in match[1].split()] if match else []
    points = list(zip(numbers[::2], numbers[1::2], strict=False))
    return corners(points) if len(points) > 2 else ()


def _box(element: HtmlElement) -> tuple[float, float, float, float] | None:
    match = _BOX.search(element.get("title", ""))
    return tuple(map(float, match.groups())) if match else None

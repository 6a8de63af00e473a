"""Formats that labelled pages are written in: what each can say, and what it costs to say it.

A page is first reduced to what the format can say, each loss counted; the written file says that and no less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from got_train.data.record import RecordError
from got_train.formats import spots as spotting
from got_train.formats.spots import Box, Spot

from . import write_lists, write_xml
from .labelled_page import PADDLE_MARKS, UNREADABLE, Label, LabelledPage, Losses, Points


@dataclass(frozen=True)
class Format:
    """A format: how it is written, and what it has room for."""

    write: Callable[[Sequence[LabelledPage]], str]
    suffix: str = ""  # of a file a page
    name: str = ""  # of the one file for all pages
    corners: int | None = None  # of a polygon at most; None: any number
    whole: bool = False  # coordinates are whole pixels
    inside: bool = False  # and lie on the page
    illegible: bool = True  # texts can be marked so
    illegible_text: str = ""  # which stands in the place of such a text
    reserved: tuple[str, ...] = ()  # texts that mean that nobody can read them
    placeless: bool = False  # texts without a box
    words: bool = False  # with boxes
    names_picture: bool = True  # else it is the one of the file's own name
    white_space: str = "kept"  # or lines (a text is one line), collapsed (one space between words)


FORMATS = {
    "page": Format(
        write_xml.page_xml, ".xml", whole=True, inside=True, illegible=False, placeless=True, words=True
    ),
    "alto": Format(write_xml.alto, ".xml", illegible=False, placeless=True, words=True),
    "hocr": Format(
        write_xml.hocr, ".hocr", whole=True, inside=True, illegible=False, placeless=True, words=True,
        white_space="collapsed",
    ),
    "icdar": Format(
        write_lists.icdar, ".txt", corners=4, whole=True, illegible_text=UNREADABLE,
        names_picture=False, white_space="lines"
    ),
    "labelme": Format(write_lists.labelme, ".json"),
    "label-studio": Format(write_lists.label_studio, name="label_studio.json"),
    "label-studio-predictions": Format(write_lists.label_studio_predictions, name="predictions.json"),
    "cvat": Format(write_xml.cvat, name="annotations.xml"),
    "coco-text": Format(write_lists.coco_text, name="coco_text.json"),
    "paddleocr": Format(write_lists.paddleocr, name="Label.txt", reserved=PADDLE_MARKS),
    "via": Format(write_lists.via, name="via.json"),
    "lines": Format(write_lists.lines, name="lines.jsonl"),
}  # fmt: skip


def written(form: str, pages: Sequence[LabelledPage]) -> str:
    """The file of pages that `sayable` gave."""
    try:
        return FORMATS[form].write(pages)
    except ValueError as error:  # control characters, which XML does not have
        raise RecordError(f"{pages[0].location}: {error}; {form} cannot hold this text") from error


def sayable(form: str, page: LabelledPage, losses: Losses) -> LabelledPage:
    """A page in pixels with what the format can say of it; the rest is counted."""
    known, labels = FORMATS[form], []
    for label in page.labels:
        location = label.location or page.location
        if label.box is None and not known.placeless:
            losses.add("texts without a box left out", location, [label.text])
            continue
        labels.append(_said(known, label, page.size, location, losses))
    return replace(page, labels=tuple(labels), left_out=())


def same(page: LabelledPage, other: LabelledPage) -> bool:
    """Whether two pages say the same, places to a hundredth of a pixel."""
    return len(page.labels) == len(other.labels) and all(map(_same_label, page.labels, other.labels))


def in_page_order(page: LabelledPage) -> LabelledPage:
    """The labels as they stand on the page; texts without a box come last."""
    placed = [label for label in page.labels if label.box is not None]
    order = spotting.reading_order([label.box for label in placed])
    unplaced = [label for label in page.labels if label.box is None]
    return replace(page, labels=(*(placed[index] for index in order), *unplaced))


def _said(known: Format, label: Label, size: tuple[int, int], location: str, losses: Losses) -> Label:
    text = label.text.strip()
    legible = label.legible and text != UNREADABLE
    if legible and text in known.reserved:
        losses.add(f"texts {text!r}, which mean an illegible one there, marked so", location, [text])
        legible = False
    if not legible and not known.illegible:
        losses.add("illegible labels written without their text", location, [text])
        text, legible = "", True
    if not legible and known.illegible_text not in ("", text):
        losses.add(f"illegible texts written as {known.illegible_text}", location, [text])
        text = known.illegible_text
    if known.white_space != "kept" and (kept := _one_line(text, known.white_space)) != text:
        losses.add("line ends and double spaces in texts written as one space", location)
        text = kept
    polygon, box = label.polygon, label.box
    if known.corners is not None and polygon and len(polygon) != known.corners:
        losses.add(f"polygons without {known.corners} corners turned into the boxes around them", location)
        polygon = ()
    words = label.words if known.words and text else ()
    if words and " ".join(word.text for word in words) != text:
        losses.add("boxes of words left out, which spell another text than their line", location)
        words = ()
    elif label.words and not known.words:
        losses.add("boxes of words left out", location, count=len(label.words))
    if known.whole and box is not None:
        whole = _whole(box, size, known.inside), tuple(_whole(point, size, known.inside) for point in polygon)
        if (box, polygon) != whole:
            cause = "places rounded to whole pixels" + (" of the page" if known.inside else "")
            losses.add(cause, location)
        box, polygon = whole
        words = tuple(Spot(word.text, _whole(word.box, size, known.inside)) for word in words)
    return Label(text, box, polygon, legible, label.location, words)


def _one_line(text: str, white_space: str) -> str:
    return " ".join(text.split()) if white_space == "collapsed" else " ".join(text.splitlines())


def _whole(numbers: Sequence[float], size: tuple[int, int], inside: bool) -> tuple[int, ...]:
    """A box or a point in whole pixels."""
    rounded = (round(number) for number in numbers)
    if not inside:
        return tuple(rounded)
    return tuple(min(max(0, number), size[index % 2]) for index, number in enumerate(rounded))


def _same_label(first: Label, second: Label) -> bool:
    legible = [label.legible and label.text != UNREADABLE for label in (first, second)]
    plain = first.text == second.text.strip() and legible[0] == legible[1]
    words = len(first.words) == len(second.words) and all(
        mine.text == theirs.text and _near(mine.box, theirs.box)
        for mine, theirs in zip(first.words, second.words, strict=False)
    )
    if first.box is None or second.box is None:
        return plain and words and first.box is second.box
    corners = zip(first.polygon, second.polygon, strict=False)
    polygon = len(first.polygon) == len(second.polygon) and all(_near(*points) for points in corners)
    return plain and words and polygon and _near(first.box, second.box)


def _near(first: Box | Points, second: Box | Points) -> bool:
    return all(abs(mine - theirs) <= 0.01 for mine, theirs in zip(first, second, strict=True))

"""Pages with labelled boxes as records: all lines with their boxes (spot), one by its box, or the plain page.

Knows boxes, images' sizes and records; how a label file says them is a matter of label_files.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, UnidentifiedImageError

from got_train.data.record import Record, RecordError, shorten
from got_train.errors import AnswerError
from got_train.formats import spots as spotting
from got_train.formats.spots import Box, Spot
from got_train.images import FORMATS

TASKS = ("spot", "box", "ocr")
ORDERS = ("file", "page")  # as the labels stand in their file; as they stand on the page
ILLEGIBLE = ("leave_out", "skip_page")
UNREADABLE = "###"  # what ICDAR's labels, and many after them, write for a text that nobody can read
ASPECT = 0.01  # by which the sides of a label's page and its image may be in another proportion
LARGEST = 1e9  # of a coordinate; a larger one, infinity or NaN is a mistake of the file
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF tag; its values that exchange width and height
_WIDTH, _HEIGHT = 0x0100, 0x0101  # TIFF tags


@dataclass(frozen=True)
class Label:
    """A text with its box in the unit of its page; the box is None in files that have no positions."""

    text: str
    box: Box | None
    polygon: bool = False  # the box goes around one that is no upright rectangle
    legible: bool = True


@dataclass(frozen=True)
class LabelledPage:
    """One image with its labels, as a label file tells them."""

    image: str
    labels: tuple[Label, ...]
    location: str
    size: tuple[float, float] | None = None  # of the page in the unit of the boxes; None: the image's pixels
    order: str = "file"  # the one that the format asks for


@dataclass(frozen=True)
class LabelOptions:
    """What becomes of labelled pages."""

    tasks: tuple[str, ...] = ("spot",)
    order: str | None = None  # None: the format's own
    illegible: str = "leave_out"  # these labels, or the whole page
    allow_empty: bool = False  # pages without a text


def page_records(page: LabelledPage, choices: LabelOptions, counts: Counter[str]) -> list[Record]:
    """The records of a page. `counts` counts what labels lost: by cause, in words."""
    unread = sum(not _legible(label) for label in page.labels)
    counts["illegible labels left out"] += unread
    if unread and choices.illegible == "skip_page":
        counts["pages skipped for an illegible label"] += 1
        return []
    labels = [label for label in page.labels if _legible(label) and label.text.strip()]
    counts["labels without text left out"] += len(page.labels) - unread - len(labels)
    if labels and all(label.box is None for label in labels):
        return [_unplaced(page, labels, choices.tasks)]
    size = picture_size(page.image)
    spots = _in_pixels(page, labels, size, counts)
    if not spots and not choices.allow_empty:
        counts["pages without text left out"] += 1
        return []
    return _placed(page, spots, size, choices)


def picture_size(path: str) -> tuple[int, int]:
    """Width and height of a picture file as `images.open_image` turns it, without decoding its pixels."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            turned = image.getexif().get(_ORIENTATION) in _TURNED
            tags = getattr(image, "tag_v2", {})  # of a TIFF: some versions of Pillow turn its size themselves
            width, height = tags.get(_WIDTH, image.width), tags.get(_HEIGHT, image.height)
            return (height, width) if turned else (width, height)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such picture; relative to the label file or image_root") from error
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise RecordError(f"{path}: no picture that can be opened ({error}); PNG, JPEG, TIFF ...") from error


def around(points: Sequence[Sequence[float]]) -> Box:
    """The box around a polygon."""
    across, down = zip(*points, strict=True)
    return min(across), min(down), max(across), max(down)


def is_rectangle(points: Sequence[Sequence[float]]) -> bool:
    """Whether these corners are those of an upright rectangle, so that the box around them loses nothing."""
    x1, y1, x2, y2 = around(points)
    return {(x, y) for x, y in points} == {(x1, y1), (x2, y1), (x2, y2), (x1, y2)}


def is_coordinate(value: object) -> bool:
    """Whether this is a number of a size that pictures have; NaN and infinity are none."""
    return type(value) in (int, float) and abs(value) < LARGEST


def _legible(label: Label) -> bool:
    return label.legible and label.text.strip() != UNREADABLE


def _unplaced(page: LabelledPage, labels: Sequence[Label], tasks: Sequence[str]) -> Record:
    if tuple(tasks) != ("ocr",):
        raise RecordError(f"{page.location}: has no positions; --tasks ocr")
    return Record((page.image,), "ocr", "\n".join(label.text for label in labels), location=page.location)


def _placed(
    page: LabelledPage, spots: Sequence[Spot], size: tuple[int, int], choices: LabelOptions
) -> list[Record]:
    if (choices.order or page.order) == "file":
        rows = [[spot] for spot in spots]
    else:
        places = spotting.reading_rows([spot.box for spot in spots])
        rows = [[spots[place] for place in row] for row in places]
    spots = [spot for row in rows for spot in row]
    whole = Record((page.image,), "ocr", "", location=page.location)
    made = []
    if "spot" in choices.tasks:
        made.append(replace(whole, task="spot", text=_written(page.location, spots, size)))
    if "box" in choices.tasks:
        made += [replace(whole, text=spot.text, box=spot.box) for spot in spots]
    if "ocr" in choices.tasks:
        made.append(replace(whole, text="\n".join(" ".join(spot.text for spot in row) for row in rows)))
    return made


def _written(location: str, spots: Sequence[Spot], size: tuple[int, int]) -> str:
    try:
        return spotting.write(spots, size)
    except AnswerError as error:
        raise RecordError(f"{location}: {error}") from error


def _in_pixels(
    page: LabelledPage, labels: Sequence[Label], size: tuple[int, int], counts: Counter[str]
) -> list[Spot]:
    """The labels in pixels of the image, cut off at its edges."""
    across, down = _scale(page, size)
    spots = []
    for label in labels:
        if label.box is None:
            raise RecordError(
                f"{page.location}: no box for {label.text[:40]!r}; all texts of a page have one"
            )
        if not all(map(is_coordinate, label.box)):
            raise RecordError(
                f"{page.location}: box {shorten(label.box)} of {label.text[:40]!r}; four numbers"
            )
        x1, y1, x2, y2 = label.box
        whole = x1 * across, y1 * down, x2 * across, y2 * down
        box = _clipped(whole, size)
        counts["polygons turned into the boxes around them"] += label.polygon
        if box[0] >= box[2] or box[1] >= box[3]:
            counts["labels outside their image, or without area, left out"] += 1
            continue
        counts["boxes cut at the image's edge"] += box != whole
        spots.append(Spot(label.text.strip(), tuple(map(_plain, box))))
    return spots


def _scale(page: LabelledPage, size: tuple[int, int]) -> tuple[float, float]:
    """Pixels for the page's unit, across and down."""
    if page.size is None or page.size == size:
        return 1, 1
    if not all(map(is_coordinate, page.size)) or min(page.size) <= 0:
        raise RecordError(f"{page.location}: a page of {page.size[0]} x {page.size[1]}; both above 0")
    across, down = size[0] / page.size[0], size[1] / page.size[1]
    if abs(across / down - 1) > ASPECT:
        told, seen = (" x ".join(f"{side:g}" for side in sides) for sides in (page.size, size))
        raise RecordError(
            f"{page.location}: labels for {told}, but {page.image} is {seen}; the picture that was labelled"
        )
    return across, down


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])


def _plain(number: float) -> float:
    """A whole number as an int, others to a thousandth of a pixel."""
    return int(number) if number == int(number) else round(number, 3)
